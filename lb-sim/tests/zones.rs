//! What clients send to which zone, beside the figures of Envoy's examples.

use lb_sim::Seeds;
use lb_sim::experiment::zones::{self, Routing, Row};

fn row(layout: &str, routing: Routing) -> Row {
    let grid = zones::Grid {
        routings: vec![routing],
        layouts: vec![layout.parse().unwrap()],
        requests: 100_000,
        seeds: Seeds { first: 1, count: 2 },
        ..zones::Grid::default()
    };
    zones::run(&grid, &|_, _| {}).remove(0)
}

/// To one percent, which is five deviations of chance at least.
fn assert_shares(row: &Row, zone: usize, expected: [f64; 3]) {
    for (got, expected) in row.shares_of(zone).into_iter().zip(expected) {
        assert!((got - expected).abs() < 0.01, "{expected}, not {got}: {row:?}");
    }
}

#[test]
fn two_thirds_stay_in_the_example_of_envoy_38758() {
    let row = row("envoy-38758", Routing::Aware);
    assert_shares(&row, 0, [0.6667, 0.0, 0.3333]);
    assert_shares(&row, 1, [0.0, 0.6667, 0.3333]);
    assert!(row.received().iter().all(|got| (got - 1.0 / 3.0).abs() < 0.01));
    assert!(
        row.shares_of(2).iter().all(|share| share.is_nan()),
        "nobody is there"
    );
}

#[test]
fn by_load_it_is_19_44_and_37_percent_in_the_example_of_envoy() {
    let by_load = row("neighbours", Routing::ByLoad);
    assert_shares(&by_load, 0, [0.19, 0.44, 0.37]);
    let unaware = row("neighbours", Routing::Unaware);
    assert!(
        by_load.mean.mean < 0.95 * unaware.mean.mean,
        "where there is room it is faster"
    );
}

#[test]
fn by_numbers_every_server_gets_as_much_wherever_it_is() {
    let uneven = row("uneven", Routing::Aware);
    assert_shares(&uneven, 0, [0.625, 0.25, 0.125]);
    let failed = row("half-failed", Routing::Aware);
    assert_shares(&failed, 0, [0.6, 0.2, 0.2]);
    assert_shares(&failed, 1, [0.0, 1.0, 0.0]);
    for (row, expected) in [(&uneven, [0.25, 0.5, 0.25]), (&failed, [0.2, 0.4, 0.4])] {
        for (got, expected) in row.received().into_iter().zip(expected) {
            assert!((got - expected).abs() < 0.01, "{expected}, not {got}: {row:?}");
        }
    }
}

#[test]
fn what_stays_is_not_late() {
    let [unaware, aware] = [Routing::Unaware, Routing::Aware].map(|routing| row("uneven", routing));
    assert!((unaware.local() - 0.35).abs() < 0.01 && aware.local() > 0.84);
    // Half a service time for each request that does not cross any more.
    let saved = unaware.mean.mean - aware.mean.mean;
    let crossings = aware.local() - unaware.local();
    assert!((saved - 0.5 * crossings).abs() < 0.4, "{saved} for {crossings}");
    assert!(saved > 0.2, "{saved}");
}

#[test]
fn numbers_do_not_see_an_overloaded_zone_and_load_does() {
    let [aware, by_load] = [Routing::Aware, Routing::ByLoad].map(|routing| row("overloaded", routing));
    assert!(aware.local() == 1.0 && aware.mean.mean > 50.0, "{aware:?}");
    assert!(by_load.mean.mean < 10.0, "{by_load:?}");
    let [first, ..] = by_load.received()[..] else {
        panic!("no zones");
    };
    assert!((1.0 / 3.0..0.45).contains(&first), "{by_load:?}");
}

#[test]
fn the_table_tells_of_every_zone() {
    let grid = zones::Grid {
        layouts: vec!["envoy-38758".parse().unwrap()],
        requests: 5_000,
        seeds: Seeds { first: 1, count: 1 },
        ..zones::Grid::default()
    };
    let found = zones::findings(&grid, &|_, _| {});
    assert_eq!(
        found.table.rows().len(),
        3 * 4,
        "each policy: all, and three zones"
    );
    let json = found.table.json();
    let first = r#"{"scenario":"envoy-38758","policy":"unaware","load":0.7,"seeds":1,"zone":"all","clients":20,"servers":30,"local":0.3"#;
    assert!(json.starts_with(first), "{json}");
    assert!(found.heading.contains("66/0/33") && found.heading.contains("1 seed from 1"));
    assert!(found.chart.svg().contains("load-aware"));
}
