//! Two nodes that dial each other in the same instant.

use std::time::Duration;

use lb_tokio::{Bytes, Cluster, ClusterClientConfig};
use tokio::time::sleep;

use crate::{
    lab::{Lab, Log, client},
    sim,
};

/// Both start at once; each makes a long call as soon as it sees the other.
async fn open(seed: u64) {
    let lab = Lab::new(seed);
    let log = Log::new();
    let nodes = [lab.worker(1, &[2]).await, lab.worker(2, &[1]).await];
    for node in &nodes {
        log.follow(node);
    }
    let config = ClusterClientConfig::default().retries(0);
    // Long enough to be under way on a connection that is given up.
    let long = Bytes::from_static(&[250]);
    let calls = nodes.each_ref().map(|node| {
        let (client, node, long) = (client(node, config), node.clone(), long.clone());
        tokio::spawn(async move {
            node.wait_for_workers(2, None, Duration::from_secs(5))
                .await
                .expect("they meet");
            client.call_worker("slow", long, None).await
        })
    });
    for call in calls {
        let answer = call.await.expect("it does not panic");
        assert_eq!(answer.as_deref(), Ok(&*long), "seed {seed}");
    }
    sleep(Duration::from_secs(40)).await;
    let made = nodes
        .each_ref()
        .map(|node| node.status().control.connections_made);
    let open = nodes.each_ref().map(Cluster::connections);
    assert_eq!(open, [1, 1], "seed {seed}: {made:?} made");
    assert_eq!(made[0], made[1], "seed {seed}");
    assert!(made[0] <= 2, "seed {seed}: {made:?} made");
    for node in &nodes {
        let answer = client(node, config).call_worker("echo", long.clone(), None).await;
        assert_eq!(answer.as_ref(), Ok(&long), "seed {seed}");
    }
    assert_eq!(log.alarms_since(Duration::ZERO), [], "seed {seed}");
    let coordinators = nodes
        .each_ref()
        .map(Cluster::status)
        .map(|status| status.coordinator);
    assert_eq!(coordinators[0], coordinators[1], "seed {seed}");
}

#[test]
fn two_that_dial_each_other_keep_one_connection() {
    for seed in 0..50 {
        sim::run(open(seed));
    }
}
