//! The experiments, small: that they say what they should, and that it is plausible.

use lb_sim::experiment::{Findings, Fleet, Speeds, bins, mixed, ramp, sinkhole, stale, supermarket};
use lb_sim::{Cell, Discipline, Policy, Reports, Seeds, Work};

fn fleet(policies: &[&str], requests: u64) -> Fleet {
    Fleet {
        policies: Policy::find(policies).unwrap(),
        requests,
        seeds: Seeds { first: 1, count: 2 },
        ..Fleet::default()
    }
}

/// The numbers in a column, by row.
fn column(findings: &Findings, name: &str) -> Vec<f64> {
    let at = findings.table.columns().iter().position(|column| *column == name);
    let at = at.unwrap_or_else(|| panic!("no column {name}"));
    let number = |row: &Vec<Cell>| match row[at] {
        Cell::Number(number) => number,
        Cell::Count(count) => count as f64,
        _ => f64::NAN,
    };
    findings.table.rows().iter().map(number).collect()
}

fn quiet(_: usize, _: usize) {}

#[test]
fn stale_has_the_agreed_fields() {
    let grid = stale::Grid {
        fleet: fleet(&["random"], 2_000),
        ages: vec![1.0],
        clients: vec![10],
        speeds: vec![Speeds::equal()],
        ..stale::Grid::default()
    };
    let found = stale::findings(&grid, &quiet);
    let json = found.table.json();
    let first = json.lines().next().unwrap();
    let beginning = r#"{"policy":"random","clients":10,"age":1,"speeds":"equal","discipline":"fifo","work":"exponential","load":0.9,"seeds":2,"mean":"#;
    assert!(
        first.starts_with(beginning) && first.contains(r#","p99":"#),
        "{first}"
    );
    assert!(found.heading.contains("2 seeds from 1"), "{}", found.heading);
    assert!(found.chart.svg().contains("10 clients, equal, fifo, exponential"));
}

#[test]
fn lost_reports_are_told_of_and_felt() {
    let grid = |reports| stale::Grid {
        fleet: fleet(&["two-reported"], 60_000),
        ages: vec![10.0],
        clients: vec![10],
        speeds: vec![Speeds::equal()],
        disciplines: vec![Discipline::Fifo],
        works: vec![Work::Exponential],
        reports,
        ..stale::Grid::default()
    };
    let usual = stale::findings(&grid(Reports::default()), &quiet);
    let poor = Reports {
        loss: 0.5,
        delay: 3.0,
        synchronised: true,
        ..Reports::default()
    };
    let poor = stale::findings(&grid(poor), &quiet);
    let answers = Reports {
        on_responses: true,
        ..Reports::default()
    };
    let answers = stale::findings(&grid(answers), &quiet);
    let [usual_mean, poor_mean, answers_mean] =
        [&usual, &poor, &answers].map(|found| column(found, "mean")[0]);
    assert!(poor_mean > 1.2 * usual_mean, "{poor_mean} {usual_mean}");
    assert!(answers_mean < 0.95 * usual_mean, "{answers_mean} {usual_mean}");
    assert!(!usual.heading.contains("reports on"), "{}", usual.heading);
    for told in ["0.5 lost", "on their way for 3", "at once"] {
        assert!(poor.heading.contains(told), "{}", poor.heading);
    }
    assert!(answers.chart.subtitle.contains("on responses too"));
}

#[test]
fn rotation_without_weights_overloads_the_slow() {
    let grid = mixed::Mixed {
        fleet: fleet(&["round-robin", "static-stride", "adaptive"], 100_000),
        loads: vec![0.7],
        clients: vec![10],
        ..mixed::Mixed::default()
    };
    let found = mixed::findings(&grid, &quiet);
    let (mean, slow) = (column(&found, "mean"), column(&found, "slow_share"));
    // With capacity and weight stated: the first three; all stated equal: the others.
    assert!(mean[0] > 30.0 && mean[1] < 3.0 && mean[2] < 2.0, "{mean:?}");
    assert!(
        (slow[0] - 2.0).abs() < 0.01 && (slow[1] - 1.0).abs() < 0.01,
        "{slow:?}"
    );
    assert!(mean[4] > 30.0 && mean[5] < 3.0, "{mean:?}");
}

#[test]
fn who_takes_failing_fast_for_being_fast_feeds_the_sinkhole() {
    let grid = sinkhole::Sinkhole {
        fleet: Fleet {
            servers: 20,
            ..fleet(&["random", "fastest-own", "adaptive", "peak-ewma"], 100_000)
        },
        loads: vec![0.5],
        ..sinkhole::Sinkhole::default()
    };
    let avoided = column(&sinkhole::findings(&grid, &quiet), "avoided");
    assert!(avoided[0].abs() < 0.05, "{avoided:?}");
    assert!(avoided[1] < -5.0, "nearly everything fails: {avoided:?}");
    assert!(avoided[2] > 0.85 && avoided[3] > 0.85, "{avoided:?}");
}

#[test]
fn rotation_breaks_down_above_what_is_owned_and_least_load_does_not() {
    let grid = ramp::Ramp {
        fleet: fleet(&["weighted-rotation", "two-reported"], 150_000),
        loads: vec![0.83, 1.27],
        ..ramp::Ramp::default()
    };
    let errors = column(&ramp::findings(&grid, &quiet), "errors");
    assert!(errors[0] < 0.001 && errors[1] > 0.1, "{errors:?}");
    assert!(errors[2] == 0.0 && errors[3] == 0.0, "{errors:?}");
}

#[test]
fn the_simulator_agrees_with_the_supermarket() {
    let grid = supermarket::Supermarket {
        fleet: fleet(&[], 300_000),
        loads: vec![0.5, 0.8],
    };
    let off = column(&supermarket::findings(&grid, &quiet), "off_percent");
    assert_eq!(off.len(), 6);
    assert!(off.iter().all(|percent| percent.abs() < 5.0), "{off:?}");
}

#[test]
fn bins_fill_evenly_with_choices() {
    let grid = bins::Bins {
        sizes: vec![4_096],
        seeds: Seeds { first: 1, count: 10 },
    };
    let fullest = column(&bins::findings(&grid, &quiet), "fullest");
    assert!((5.5..7.5).contains(&fullest[0]), "{fullest:?}");
    assert!((2.9..3.6).contains(&fullest[1]), "{fullest:?}");
    assert!((2.0..3.1).contains(&fullest[2]), "{fullest:?}");
}
