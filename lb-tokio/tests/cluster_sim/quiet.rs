//! What a cluster says when it has nothing to do.

use std::time::Duration;

use lb_tokio::{Cluster, ClusterStatus};
use tokio::time::{Instant, sleep};

use crate::{lab::Lab, sim};

const NODES: [u32; 3] = [1, 2, 3];

#[derive(Debug)]
struct Rates {
    /// Control messages per node and second, as nodes count them.
    counted: f64,
    /// Datagrams and streams per node and second, as QUIC counts them.
    transport: f64,
    /// UDP packets per node and second, as the network counts them.
    packets: f64,
    balance: u64,
}

async fn rates(seed: u64, loss: u16, time: Duration) -> Rates {
    let lab = Lab::new(seed);
    lab.net.set_loss(loss);
    let mut nodes = Vec::new();
    for id in NODES {
        nodes.push(lab.worker(id, &[1]).await);
    }
    for node in &nodes {
        node.wait_for_workers(3, None, Duration::from_secs(5))
            .await
            .expect("they meet");
    }
    // The last retransmissions of the join, and path MTU discovery.
    sleep(Duration::from_secs(3)).await;
    let statuses = || nodes.iter().map(Cluster::status).collect::<Vec<ClusterStatus>>();
    let (before, packets, start) = (statuses(), lab.net.trace().1, Instant::now());
    sleep(time).await;
    let (after, packets) = (statuses(), lab.net.trace().1 - packets);
    assert_eq!(start.elapsed(), time);
    let per_node = |count: u64| count as f64 / 3.0 / time.as_secs_f64();
    let sum = |of: fn(&ClusterStatus) -> u64| {
        after.iter().map(of).sum::<u64>() - before.iter().map(of).sum::<u64>()
    };
    Rates {
        counted: per_node(sum(|status| status.control.messages_sent)),
        transport: per_node(sum(|status| status.control.transport_messages)),
        packets: per_node(packets),
        balance: after.iter().map(|status| status.control.balance_messages).sum(),
    }
}

#[test]
fn a_quiet_node_sends_less_than_one_message_a_second() {
    for seconds in [30, 300] {
        let rates = sim::run(rates(7, 0, Duration::from_secs(seconds)));
        assert!(rates.counted <= 0.9, "{rates:?}");
        // Two counts of the same thing.
        assert!((rates.counted - rates.transport).abs() < 1e-9, "{rates:?}");
        assert!(rates.packets <= 2.0, "{rates:?}");
        assert_eq!(rates.balance, 0, "{rates:?}");
    }
}

#[test]
fn loss_does_not_make_it_talkative() {
    let rates = sim::run(rates(7, 100, Duration::from_secs(300)));
    assert!(rates.counted <= 1.6, "{rates:?}");
    assert_eq!(rates.balance, 0, "{rates:?}");
}
