//! Nodes that die, return, or are not heard for a while, while others call them.

use std::time::Duration;

use lb_tokio::{ClusterClientConfig, NodeId};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    lab::{Calls, FAILED, Lab, Log, addr, client, echo, is_well, until, word},
    sim,
};

const VICTIM: u32 = 3;

#[derive(Debug)]
struct Return {
    /// From the crash until the last of the others has it as failed.
    failed: Option<Duration>,
    /// From the restart until the last of the others has it as a worker.
    well: Duration,
    /// From the restart until it is called again.
    called: Duration,
    epoch: u32,
}

/// Three workers and a caller; one crashes and comes back after `pause` with another epoch than 5.
async fn crash(seed: u64, pause: Duration, epoch: u32) -> Return {
    let lab = Lab::new(seed);
    let mut others = Vec::new();
    for id in [1, 2] {
        others.push(lab.worker(id, &[1]).await);
    }
    let victim = lab.node(VICTIM, &[1]).epoch(5).server(echo());
    let victim = victim.start().await.expect("it starts");
    others.push(lab.observer(9, &[1]).await);
    let client = client(&others[2], ClusterClientConfig::default());
    let calls = Calls::new();
    sleep(Duration::from_secs(3)).await;
    let end = Duration::from_secs(3_600);
    let pace = Duration::from_millis(100);
    let caller = tokio::spawn(calls.clone().keep_making(client.clone(), pace, end));
    sleep(Duration::from_secs(7)).await;
    let words = || others.iter().map(|node| word(node, VICTIM)).collect::<Vec<_>>();
    assert!(others.iter().all(|node| is_well(node, VICTIM)), "{:?}", words());

    let crashed = Instant::now();
    lab.crash(victim);
    let mut failed = None;
    if pause > Duration::from_secs(21) {
        let all = || words().iter().all(|word| word == FAILED);
        failed = Some(until(Duration::from_secs(21), "failed everywhere", all).await);
    }
    sleep_until(crashed + pause).await;

    let restarted = Instant::now();
    let picks = || {
        client
            .registry()
            .picks()
            .get(&NodeId::new(VICTIM))
            .copied()
            .unwrap_or(0)
    };
    let victim = lab.node(VICTIM, &[1]).epoch(epoch).server(echo());
    let victim = victim.start().await.expect("it starts");
    let served = || victim.status().control.responses_sent > 0;
    let called = until(Duration::from_secs(20), "called again", served).await;
    let all = || {
        words()
            .iter()
            .all(|word| ["Worker", "COORDINATOR"].contains(&&**word))
    };
    until(Duration::from_secs(20), "well everywhere", all).await;
    let well = restarted.elapsed();
    let log = Log::new();
    for node in &others {
        log.follow(node);
    }
    let before = picks();
    sleep(Duration::from_secs(30)).await;
    assert!(picks() > before + 50, "{} picks", picks() - before);
    assert_eq!(log.alarms_since(Duration::ZERO), []);
    caller.abort();
    sleep(Duration::from_secs(31)).await;
    let lost: Vec<_> = calls
        .done()
        .into_iter()
        .filter(|call| call.error.is_some())
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");
    for node in &others {
        for member in node.status().members {
            assert_eq!((member.own_in_flight, member.in_flight), (0, 0), "{member:?}");
        }
    }
    Return {
        failed,
        well,
        called,
        epoch: victim.epoch(),
    }
}

#[test]
fn a_crashed_node_fails_and_returns_whatever_its_epoch() {
    for pause in [1, 30] {
        // A life that has the epoch of the former one, or a lower one, learns so and takes the next.
        for epoch in [4, 5, 6] {
            let back = sim::run(crash(11, Duration::from_secs(pause), epoch));
            let seconds = |time: Duration| time.as_secs_f64();
            assert_eq!(back.epoch, 6, "restarted with {epoch}: {back:?}");
            assert!(
                back.failed
                    .is_none_or(|time| (14.5..20.1).contains(&seconds(time))),
                "{back:?}"
            );
            // While its former life is still taken for alive, a heartbeat may have to come first: so it is with
            // two of five seeds.
            let within = if pause == 1 { 6.0 } else { 1.0 };
            assert!(
                seconds(back.well) < within && seconds(back.called) < within,
                "{back:?}"
            );
        }
    }
}

/// Ten seconds without a word from one node: shorter than the failure time-out.
async fn silence(seed: u64) {
    let lab = Lab::new(seed);
    let mut nodes = Vec::new();
    for id in [1, 2, 3] {
        nodes.push(lab.worker(id, &[1]).await);
    }
    nodes.push(lab.observer(9, &[1]).await);
    let log = Log::new();
    for node in &nodes {
        log.follow(node);
    }
    let client = client(&nodes[3], ClusterClientConfig::default());
    let calls = Calls::new();
    sleep(Duration::from_secs(3)).await;
    let pace = Duration::from_millis(100);
    tokio::spawn(calls.clone().keep_making(client, pace, Duration::from_secs(60)));
    sleep(Duration::from_secs(20)).await;
    lab.net.partition(&[&[addr(VICTIM)], &[1, 2, 9].map(addr)]);
    sleep(Duration::from_secs(10)).await;
    lab.net.heal();
    let well = || nodes.iter().all(|node| is_well(node, VICTIM));
    // The next heartbeat, or the retransmission of a handshake begun before.
    until(Duration::from_secs(6), "well again", well).await;
    sleep(Duration::from_secs(60)).await;
    assert!(
        log.changes().iter().all(|change| change.to != FAILED),
        "{:#?}",
        log.changes()
    );
    let lost: Vec<_> = calls
        .done()
        .into_iter()
        .filter(|call| call.error.is_some())
        .collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

#[test]
fn ten_seconds_of_silence_are_forgiven() {
    for seed in 0..3 {
        sim::run(silence(seed));
    }
}
