//! Calls in bulk, calls given up, and what a busy caller still hears.

use std::time::Duration;

use lb_tokio::{Bytes, Cluster, ClusterClientConfig, LoadBalancingStrategy};
use tokio::time::sleep;

use crate::{
    lab::{Calls, Lab, client, client_by, is_well, until},
    sim::{self, Prng},
};

const WORKERS: [u32; 3] = [1, 2, 3];

async fn three_workers(lab: &Lab) -> Vec<Cluster> {
    let mut workers = Vec::new();
    for id in WORKERS {
        workers.push(lab.worker(id, &[1]).await);
    }
    for worker in &workers {
        worker
            .wait_for_workers(3, None, Duration::from_secs(5))
            .await
            .expect("they meet");
    }
    workers
}

async fn burst(seed: u64, strategy: LoadBalancingStrategy) -> f64 {
    let lab = Lab::new(seed);
    let _workers = three_workers(&lab).await;
    let caller = lab.observer(9, &[1]).await;
    caller
        .wait_for_workers(3, None, Duration::from_secs(5))
        .await
        .expect("they meet");
    let client = client_by(&caller, strategy, ClusterClientConfig::default());
    let calls = Calls::new();
    let tasks: Vec<_> = (0..512).map(|_| calls.make(&client)).collect();
    for task in tasks {
        task.await.expect("it does not panic");
    }
    let lost: Vec<_> = calls
        .done()
        .into_iter()
        .filter(|call| call.error.is_some())
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");
    assert_eq!(caller.status().control.connections_made, 3);
    assert_eq!(caller.status().control.calls_sent, 512);
    let picks = client.registry().picks();
    assert_eq!(picks.len(), 3);
    let most = picks.values().max().copied().unwrap_or_default();
    let least = picks.values().min().copied().unwrap_or_default();
    most as f64 / least as f64
}

#[test]
fn a_cold_burst_is_spread_evenly_over_one_connection_each() {
    for strategy in [
        LoadBalancingStrategy::default(),
        LoadBalancingStrategy::LeastConnections,
    ] {
        let spread = sim::run(burst(5, strategy));
        assert!(spread <= 1.2, "{strategy:?}: {spread}");
    }
}

/// Calls given up at any point of their way: before the dial, while the request flies, while it is served,
/// while the answer flies.
async fn cancel(seed: u64) -> usize {
    let lab = Lab::new(seed);
    lab.net.set_loss(20);
    let workers = three_workers(&lab).await;
    let caller = lab.observer(9, &[1]).await;
    caller
        .wait_for_workers(3, None, Duration::from_secs(5))
        .await
        .expect("they meet");
    let client = client(&caller, ClusterClientConfig::default());
    let mut dice = Prng::new(seed);
    let mut ended = 0;
    for _ in 0..60 {
        let time = Bytes::from(vec![dice.within(&(0..=4)) as u8; 4_000]);
        let patience = Duration::from_millis(dice.within(&(0..=50)));
        let client = client.clone();
        let call = async move { client.call_worker("slow", time, None).await };
        let call = tokio::spawn(async move { tokio::time::timeout(patience, call).await.is_ok() });
        sleep(Duration::from_millis(dice.within(&(0..=10)))).await;
        if dice.chance(300) {
            call.abort();
        } else if dice.chance(300) {
            ended += usize::from(call.await.is_ok_and(|answered| answered));
        }
    }
    sleep(Duration::from_secs(2)).await;
    for node in workers.iter().chain([&caller]) {
        for member in node.status().members {
            let own = if member.is_self { member.in_flight } else { 0 };
            assert_eq!((member.own_in_flight, own), (0, 0), "seed {seed}: {member:?}");
        }
    }
    ended
}

#[test]
fn calls_given_up_leave_no_count_behind() {
    let ended: usize = (0..20).map(|seed| sim::run(cancel(seed))).sum();
    assert!(ended > 20, "nearly every call was given up");
}

/// Answers stand in for heartbeats; what only messages tell must arrive all the same.
#[test]
fn a_busy_caller_hears_of_new_workers() {
    sim::run(async {
        let lab = Lab::new(3);
        let _workers = [lab.worker(1, &[1]).await, lab.worker(2, &[1]).await];
        let caller = lab.observer(9, &[1]).await;
        caller
            .wait_for_workers(2, None, Duration::from_secs(5))
            .await
            .expect("they meet");
        let client = client(&caller, ClusterClientConfig::default());
        let pace = Duration::from_millis(50);
        tokio::spawn(Calls::new().keep_making(client, pace, Duration::from_secs(60)));
        sleep(Duration::from_secs(20)).await;
        let _third = lab.worker(3, &[1]).await;
        let known = || is_well(&caller, 3);
        until(Duration::from_secs(15), "the new worker is known", known).await;
    });
}
