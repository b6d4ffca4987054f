//! The curves of policies that pick by old reports: 100 FIFO servers, exponential work, load 0.9, 10 clients, reports
//! at random phases. Figures of an independent simulator (one seed, 400 000 to 600 000 requests), to 10 %.

use lb_sim::experiment::Speeds;
use lb_sim::{Policy, Reports, Scenario, run};

fn mean(policy: &str, clients: usize, period: f64, synchronised: bool) -> f64 {
    let scenario = Scenario {
        clients,
        requests: 300_000,
        reports: Reports {
            period,
            synchronised,
            ..Reports::default()
        },
        ..Scenario::default()
    };
    let policy = Policy::find(&[policy]).unwrap().remove(0);
    run(&scenario, &policy, 1).latency.mean()
}

fn assert_curve(policy: &str, clients: usize, curve: &[(f64, f64)], tolerance: f64) {
    for &(period, expected) in curve {
        let measured = mean(policy, clients, period, false);
        assert!(
            (measured / expected - 1.0).abs() < tolerance,
            "{policy}, {clients} clients, age {period}: {measured:.3} for {expected}"
        );
    }
}

#[test]
fn without_reports() {
    assert_curve("random", 10, &[(1.0, 9.8)], 0.1);
    assert_curve("round-robin", 10, &[(1.0, 5.9)], 0.1);
    assert_curve("least-own", 10, &[(1.0, 3.6)], 0.1);
    assert_curve("weighted-rotation", 100, &[(1.0, 6.8)], 0.1);
    assert_curve("least-own", 100, &[(1.0, 7.1)], 0.1);
}

#[test]
fn the_least_reported_herds() {
    let curve = [
        (0.1, 1.6),
        (1.0, 3.9),
        (5.0, 11.7),
        (10.0, 21.7),
        (50.0, 102.0),
        (100.0, 189.0),
    ];
    assert_curve("least-reported", 10, &curve, 0.1);
}

#[test]
fn two_and_three_choices_stand_more() {
    let two = [
        (0.1, 2.7),
        (1.0, 3.0),
        (5.0, 4.0),
        (10.0, 5.1),
        (50.0, 12.4),
        (100.0, 21.0),
    ];
    assert_curve("two-reported", 10, &two, 0.1);
    let three = [
        (0.1, 2.2),
        (1.0, 2.6),
        (5.0, 4.3),
        (10.0, 6.2),
        (50.0, 20.7),
        (100.0, 38.9),
    ];
    assert_curve("three-reported", 10, &three, 0.1);
}

#[test]
fn the_correction_stands_every_age() {
    let ten = [
        (0.1, 1.4),
        (1.0, 1.8),
        (5.0, 1.8),
        (10.0, 1.8),
        (50.0, 1.9),
        (100.0, 1.9),
    ];
    assert_curve("delta", 10, &ten, 0.1);
    let hundred = [
        (0.1, 1.6),
        (1.0, 3.4),
        (5.0, 6.8),
        (10.0, 8.3),
        (50.0, 14.0),
        (100.0, 19.0),
    ];
    assert_curve("delta", 100, &hundred, 0.15);
    // One client knows everything: the shortest of 100 queues.
    assert_curve("delta", 1, &[(1.0, 1.07), (100.0, 1.07)], 0.02);
}

/// The reference's figures for it are those of the corrected estimate, which has its bounds in production.
#[test]
fn the_production_estimate_and_the_default_are_as_good() {
    assert_curve("corrected", 10, &[(1.0, 1.8), (10.0, 1.8), (100.0, 1.9)], 0.15);
    for (clients, age, at_most) in [
        (10, 1.0, 1.8),
        (10, 100.0, 1.9),
        (100, 1.0, 3.4),
        (100, 100.0, 6.8),
    ] {
        let mean = mean("adaptive", clients, age, false);
        assert!(mean < at_most, "{clients} clients, age {age}: {mean}");
    }
}

#[test]
fn reports_of_all_at_once_are_worse() {
    // How much worse depends on how ties are broken and how long one looks: no queue is in balance.
    let [apart, together] = [false, true].map(|together| mean("least-reported", 10, 50.0, together));
    assert!(together > 2.0 * apart, "{together} {apart}");
}

#[test]
fn own_requests_tell_nothing_if_clients_are_many_and_speeds_differ() {
    let scenario = Scenario {
        speeds: Speeds::mixed().of(100),
        load: 0.7,
        clients: 100,
        requests: 300_000,
        ..Scenario::default()
    };
    let mean = |name: &str| {
        let policy = Policy::find(&[name]).unwrap().remove(0);
        run(&scenario, &policy, 1).latency.mean()
    };
    assert!((mean("least-own") / 33.0 - 1.0).abs() < 0.1);
    assert!(mean("weighted-rotation") < 4.3, "known speeds are worth more");
    assert!(mean("two-reported") < 3.0);
}
