//! What holds for every run: nothing is lost, nothing depends on chance or on the machine.

use lb_sim::experiment::{Fleet, Speeds, stale};
use lb_sim::{Count, Discipline, Event, Placing, Policy, Reports, Scenario, Seeds, Split, What, Work, run};

fn policy(name: &str) -> Policy {
    Policy::find(&[name]).unwrap().remove(0)
}

/// A world with everything in it.
fn busy() -> Scenario {
    let at = |at: f64, what: What| Event { at, what };
    Scenario {
        speeds: Speeds::mixed().of(12),
        work: Work::HeavyTailed,
        load: 0.6,
        clients: 7,
        split: Split::Skewed(1.0),
        keyed: true,
        placing: Placing {
            clients: vec![0, 1, 2, 0, 1, 2, 0],
            servers: [0, 1, 2].repeat(4),
            crossing: 0.7,
        },
        requests: 30_000,
        reports: Reports {
            period: 3.0,
            loss: 0.2,
            delay: 0.5,
            on_responses: true,
            count: Count::Asked,
            ..Reports::default()
        },
        deadline: 20.0,
        events: vec![
            at(200.0, What::Broken(3)),
            at(300.0, What::Load(0.9)),
            at(400.0, What::Mended(3)),
            at(500.0, What::Dead(4)),
            at(520.0, What::Leave(4)),
            at(600.0, What::Pace(5, 0.0)),
            at(650.0, What::Leave(6)),
            at(660.0, What::Others(7, 0.5)),
            at(700.0, What::Pace(5, 0.3)),
            at(800.0, What::Join(4)),
            at(900.0, What::Join(6)),
            at(1_500.0, What::Pace(7, 0.0)),
        ],
        ..Scenario::default()
    }
}

#[test]
fn every_request_ends_once_or_is_still_there() {
    for discipline in Discipline::ALL {
        let scenario = Scenario { discipline, ..busy() };
        for policy in Policy::all() {
            let outcome = run(&scenario, &policy, 1);
            let name = policy.name();
            assert_eq!(outcome.arrived, 30_000, "{name}");
            assert_eq!(
                outcome.arrived,
                outcome.completed + outcome.failed + outcome.left,
                "{name}"
            );
            assert!(outcome.failed > 0 && outcome.left > 0, "{name}: {outcome:?}");
            let counted: u64 = outcome.sent.iter().sum();
            assert_eq!(counted, 24_000, "{name}: what is counted was sent somewhere");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_does_not() {
    for policy in Policy::all() {
        let [a, b, c] = [1, 1, 2].map(|seed| run(&busy(), &policy, seed));
        assert_eq!(a, b, "{}", policy.name());
        assert_ne!(a, c, "{}", policy.name());
    }
}

#[test]
fn findings_are_the_same_however_threads_are_scheduled() {
    let grid = stale::Grid {
        fleet: Fleet {
            policies: ["random", "delta"].map(policy).to_vec(),
            requests: 5_000,
            seeds: Seeds { first: 3, count: 5 },
            ..Fleet::default()
        },
        ages: vec![1.0, 10.0],
        clients: vec![10],
        ..stale::Grid::default()
    };
    let texts: Vec<String> = (0..3)
        .map(|_| stale::findings(&grid, &|_, _| ()).table.json())
        .collect();
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
    assert_eq!(texts[0].lines().count(), 2 * 2 * 2 * 2 * 2);
}

#[test]
fn arrivals_are_the_same_for_every_policy() {
    let [a, b] = ["random", "least-reported"].map(|name| run(&busy(), &policy(name), 9));
    assert_eq!(a.last_arrival, b.last_arrival);
}

#[test]
fn a_server_that_left_gets_nothing() {
    let scenario = Scenario {
        speeds: vec![1.0; 4],
        load: 0.3,
        requests: 20_000,
        events: vec![Event {
            at: 0.0,
            what: What::Leave(2),
        }],
        ..Scenario::default()
    };
    for policy in Policy::all() {
        let outcome = run(&scenario, &policy, 1);
        assert_eq!((outcome.sent[2], outcome.failed), (0, 0), "{}", policy.name());
    }
}

#[test]
fn nobody_to_pick_is_a_failure() {
    let scenario = Scenario {
        speeds: vec![1.0],
        load: 0.3,
        requests: 1_000,
        events: vec![Event {
            at: 0.0,
            what: What::Leave(0),
        }],
        ..Scenario::default()
    };
    for policy in Policy::all() {
        assert_eq!(run(&scenario, &policy, 1).failed, 1_000, "{}", policy.name());
    }
}

/// Who picks at random picks the same whatever requests take, so that only crossing makes a difference.
#[test]
fn what_crosses_takes_longer_by_just_that() {
    let world = |crossing| Scenario {
        speeds: vec![1.0; 4],
        load: 0.5,
        clients: 3,
        split: Split::Weighted(vec![1.0, 0.0, 3.0]),
        placing: Placing {
            clients: vec![0, 0, 1],
            servers: vec![0, 1, 1, 1],
            crossing,
        },
        requests: 50_000,
        ..Scenario::default()
    };
    let [near, far] = [0.0, 2.0].map(|crossing| run(&world(crossing), &policy("random"), 1));
    assert_eq!((&near.flows, &near.sent), (&far.flows, &far.sent));
    let total: u64 = far.flows.iter().flatten().sum();
    let share = |count: u64| count as f64 / total as f64;
    let crossed = share(far.flows[0][1] + far.flows[1][0]);
    assert!((far.latency.mean() - near.latency.mean() - 2.0 * crossed).abs() < 1e-9);
    // A quarter of the requests come from the first zone, and three quarters of those leave it; of the others a quarter.
    let expected = [[1.0, 3.0], [3.0, 9.0]];
    for (got, expected) in far.flows.iter().flatten().zip(expected.iter().flatten()) {
        assert!((share(*got) - expected / 16.0).abs() < 0.01, "{:?}", far.flows);
    }
}
