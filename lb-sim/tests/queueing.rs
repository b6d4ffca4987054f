//! The simulator against what queueing theory knows exactly.

use lb_sim::{Discipline, Outcome, Policy, Reports, Scenario, Work, run};

fn policy(name: &str) -> Policy {
    Policy::find(&[name]).unwrap().remove(0)
}

/// Random picks split a Poisson stream into Poisson streams: every server is an M/G/1 queue of its own.
fn independent_queues(work: Work, discipline: Discipline, load: f64, requests: u64) -> Outcome {
    let scenario = Scenario {
        work,
        discipline,
        load,
        requests,
        ..Scenario::default()
    };
    run(&scenario, &policy("random"), 11)
}

fn assert_near(what: &str, measured: f64, expected: f64, tolerance: f64) {
    let error = measured / expected - 1.0;
    assert!(
        error.abs() < tolerance,
        "{what}: {measured:.4} for {expected:.4}, off by {:.1} %",
        error * 100.0
    );
}

#[test]
fn mm1_has_the_mean_and_the_tail_of_the_textbook() {
    for load in [0.3, 0.5, 0.8] {
        let latency = independent_queues(Work::Exponential, Discipline::Fifo, load, 2_000_000).latency;
        let mean = 1.0 / (1.0 - load);
        assert_near("mean", latency.mean(), mean, 0.02);
        // Time in an M/M/1 queue is itself exponential.
        assert_near("median", latency.quantile(0.5), mean * 2.0_f64.ln(), 0.02);
        assert_near("p99", latency.quantile(0.99), mean * 100.0_f64.ln(), 0.03);
        assert_near("p99.9", latency.quantile(0.999), mean * 1_000.0_f64.ln(), 0.05);
    }
}

#[test]
fn mg1_follows_pollaczek_and_khinchine() {
    for work in [
        Work::Constant,
        Work::Bimodal,
        Work::Hyperexponential,
        Work::Normal,
        Work::HeavyTailed,
    ] {
        let load = 0.7;
        let requests = if work == Work::HeavyTailed {
            8_000_000
        } else {
            2_000_000
        };
        let latency = independent_queues(work, Discipline::Fifo, load, requests).latency;
        let waiting = load * work.second_moment() / (2.0 * (1.0 - load));
        assert_near(work.as_str(), latency.mean(), 1.0 + waiting, 0.05);
    }
}

#[test]
fn processor_sharing_does_not_care_for_the_distribution() {
    for work in Work::ALL {
        let latency = independent_queues(work, Discipline::Sharing, 0.7, 1_000_000).latency;
        assert_near(work.as_str(), latency.mean(), 1.0 / 0.3, 0.05);
    }
}

#[test]
fn speed_scales_time() {
    let scenario = |speed: f64| Scenario {
        speeds: vec![speed; 20],
        load: 0.6,
        requests: 400_000,
        ..Scenario::default()
    };
    let [slow, fast] = [0.5, 4.0].map(|speed| run(&scenario(speed), &policy("random"), 3));
    assert_near(
        "slow by fast",
        slow.latency.mean() / fast.latency.mean(),
        8.0,
        1e-6,
    );
}

/// Time in the supermarket model of infinitely many queues, when each request joins the shortest of `d`.
fn supermarket(load: f64, d: i32) -> f64 {
    (1..40)
        .map(|i| {
            let exponent = (f64::from(d).powi(i) - f64::from(d)) / f64::from(d - 1);
            load.powf(exponent)
        })
        .sum()
}

#[test]
fn the_shortest_of_d_is_the_supermarket_model() {
    assert!(
        (supermarket(0.9, 2) - 2.614).abs() < 0.001,
        "the reference's figure"
    );
    for (d, name) in [(2, "two-reported"), (3, "three-reported")] {
        for load in [0.5, 0.7, 0.9, 0.95] {
            let scenario = Scenario {
                load,
                requests: 1_000_000,
                reports: Reports {
                    period: 0.0,
                    ..Reports::default()
                },
                ..Scenario::default()
            };
            let mean = run(&scenario, &policy(name), 5).latency.mean();
            // A hundred queues are not infinitely many: 4 % at load 0.95.
            assert_near(&format!("d {d} load {load}"), mean, supermarket(load, d), 0.05);
        }
    }
}

#[test]
fn one_queue_that_sees_all_is_join_the_shortest_queue() {
    // With one client, counting one's own requests is knowing everything; two servers, exact mean by the
    // literature's matrix-geometric solution at load 0.9: between M/M/2 (5.263) and 6 % above it.
    let scenario = Scenario {
        speeds: vec![1.0; 2],
        clients: 1,
        requests: 2_000_000,
        ..Scenario::default()
    };
    let mean = run(&scenario, &policy("least-own"), 2).latency.mean();
    assert!((5.263..5.263 * 1.06).contains(&mean), "{mean}");
}
