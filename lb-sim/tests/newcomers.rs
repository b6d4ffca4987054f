//! What a newcomer gets under slow start, beside the formula `max(0.1, passed ^ (1 / aggression))`.

use lb_sim::Seeds;
use lb_sim::StrategyKind;
use lb_sim::experiment::slowstart::{self, Easing, Row};

fn rows(kinds: &[StrategyKind], easings: &[Easing], load: f64, window: f64) -> Vec<Row> {
    let grid = slowstart::Grid {
        kinds: kinds.to_vec(),
        easings: easings.to_vec(),
        load,
        window,
        seeds: Seeds { first: 1, count: 4 },
        ..slowstart::Grid::default()
    };
    slowstart::run(&grid, &|_, _| {})
}

fn eased() -> Vec<Easing> {
    let all = Easing::ALL.into_iter();
    all.filter(|easing| *easing != Easing::Off).collect()
}

/// A quarter of a million requests in each span, so that chance does little: 0.6 % of a full share is its deviation
/// where nobody evens it out.
#[test]
fn who_spreads_evenly_follows_the_formula() {
    let even = [
        StrategyKind::RoundRobin,
        StrategyKind::Random,
        StrategyKind::TwoChoices,
    ];
    for row in rows(&even, &eased(), 0.2, 300_000.0) {
        let deviation = row.deviation();
        assert!(deviation.abs() < 0.02, "{deviation}: {row:?}");
    }
}

/// Keys are not evened out at all; the table itself is uneven by as much.
#[test]
fn keys_come_to_a_newcomer_by_the_formula() {
    for row in rows(&[StrategyKind::Maglev], &eased(), 0.2, 300_000.0) {
        let deviation = row.deviation();
        assert!(deviation.abs() < 0.03, "{deviation}: {row:?}");
    }
}

/// They would send nearly everything to a newcomer that is idle, and less than its part to one that is behind.
#[test]
fn for_who_levels_the_formula_is_a_bound() {
    let level = [StrategyKind::LeastConnections, StrategyKind::Adaptive];
    for load in [0.2, 0.7] {
        for row in rows(&level, &eased(), load, 60_000.0) {
            let deviation = row.deviation();
            assert!(row.passed > 1.0 || deviation < 0.02, "{deviation}: {row:?}");
        }
    }
}

#[test]
fn without_slow_start_a_newcomer_gets_a_whole_share_at_once() {
    for row in rows(&[StrategyKind::RoundRobin], &[Easing::Off], 0.5, 3_000.0) {
        assert!((row.share - 1.0).abs() < 0.02 && row.formula == 1.0, "{row:?}");
    }
}

#[test]
fn the_table_tells_of_every_span() {
    let grid = slowstart::Grid {
        kinds: vec![StrategyKind::Random],
        window: 100.0,
        seeds: Seeds { first: 1, count: 1 },
        ..slowstart::Grid::default()
    };
    let found = slowstart::findings(&grid, &|_, _| {});
    assert_eq!(
        found.table.rows().len(),
        4 * 12,
        "off and three aggressions, a tenth of the window each"
    );
    let json = found.table.json();
    let first = r#"{"policy":"random","aggression":"off","passed":0.05,"seeds":1,"share":"#;
    assert!(
        json.starts_with(first) && json.contains(r#","window_latency":"#),
        "{json}"
    );
    assert!(found.heading.contains("server 10 of 10") && found.heading.contains("1 seed from 1"));
    assert!(found.chart.svg().contains("aggression 4"));
}
