//! Loss, duplicates, reordering and a partition of 2 | 3 under constant calls.

use std::{
    process::{Command, Stdio},
    sync::LazyLock,
    time::Duration,
};

use lb_tokio::{Cluster, ClusterClientConfig, ClusterStatus, MemberStatus};
use tokio::time::{Instant, sleep_until};

use crate::{
    lab::{Call, Calls, Change, FAILED, Lab, Log, addr, client},
    sim,
};

const SEED: u64 = 2026;
const CUT: Duration = Duration::from_secs(60);
const HEALED: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(180);

/// Set for the child process that only prints its trace.
const CHILD: &str = "LB_CLUSTER_SIM_CHILD_SEED";
const MARK: &str = "trace=";

const WORKERS: [u32; 4] = [1, 2, 3, 4];
const OBSERVER: u32 = 9;
const NODES: [u32; 5] = [1, 2, 3, 4, OBSERVER];

struct Run {
    trace: (u64, u64),
    changes: Vec<Change>,
    calls: Vec<Call>,
    before: Vec<ClusterStatus>,
    during: Vec<ClusterStatus>,
    after: Vec<ClusterStatus>,
    connections: Vec<usize>,
}

fn apart(a: u32, b: u32) -> bool {
    (a <= 2) != (b <= 2)
}

async fn run(seed: u64) -> Run {
    let start = Instant::now();
    let lab = Lab::new(seed);
    lab.net.set_loss(20);
    lab.net.set_duplication(20);
    let log = Log::new();
    let calls = Calls::new();
    let mut nodes: Vec<Cluster> = Vec::new();
    for id in WORKERS {
        nodes.push(lab.worker(id, &[1]).await);
    }
    nodes.push(lab.observer(OBSERVER, &[1]).await);
    for node in &nodes {
        log.follow(node);
    }
    // One retry is enough although half the workers vanish at once: the silent are suspected before the calls
    // that wait for them are given up.
    let config = ClusterClientConfig::default();
    sleep_until(start + Duration::from_secs(5)).await;
    for (node, pace) in [(&nodes[4], 100), (&nodes[0], 150)] {
        let pace = Duration::from_millis(pace);
        tokio::spawn(calls.clone().keep_making(client(node, config), pace, END));
    }

    let statuses = || nodes.iter().map(Cluster::status).collect::<Vec<_>>();
    sleep_until(start + CUT).await;
    let before = statuses();
    let addrs = NODES.map(addr);
    lab.net.partition(&[&addrs[..2], &addrs[2..]]);
    sleep_until(start + HEALED).await;
    let during = statuses();
    lab.net.heal();
    // Calls have 30 s.
    sleep_until(start + END + Duration::from_secs(31)).await;
    Run {
        trace: lab.net.trace(),
        changes: log.changes(),
        calls: calls.done(),
        before,
        during,
        after: statuses(),
        connections: nodes.iter().map(Cluster::connections).collect(),
    }
}

/// The run the others are compared with.
fn first() -> &'static Run {
    static FIRST: LazyLock<Run> = LazyLock::new(|| sim::run(run(SEED)));
    &FIRST
}

/// How the nodes see each other: (who, whom) and the view.
fn views(statuses: &[ClusterStatus]) -> impl Iterator<Item = ((u32, u32), &MemberStatus)> {
    statuses.iter().flat_map(|status| {
        let members = status.members.iter();
        members.map(|member| ((status.node, member.id), member))
    })
}

/// Everybody sees the same five nodes, all well, and the same coordinator.
#[track_caller]
fn assert_well(statuses: &[ClusterStatus]) {
    let coordinator = statuses[0].coordinator.expect("there is one");
    for status in statuses {
        let ids: Vec<u32> = status.members.iter().map(|member| member.id).collect();
        assert_eq!(ids, NODES, "node {}", status.node);
        assert_eq!(status.coordinator, Some(coordinator), "node {}", status.node);
    }
    for (pair, member) in views(statuses) {
        let word = match member.id {
            OBSERVER => "Observer",
            id if id == coordinator.0 => "COORDINATOR",
            _ => "Worker",
        };
        assert_eq!(member.status, word, "{pair:?}");
    }
}

#[test]
fn same_seed_same_packets_and_another_seed_others() {
    let again = sim::run(run(SEED));
    assert_eq!(first().trace, again.trace);
    assert_eq!(first().calls, again.calls);
    assert_eq!(first().changes, again.changes);
    let other = sim::run(run(SEED + 1));
    assert_ne!(first().trace.0, other.trace.0);
    check(&other);
}

#[test]
fn another_process_sends_the_same_packets() {
    let child = Command::new(std::env::current_exe().expect("this test has a path"))
        .args(["--exact", "partition::child_trace", "--nocapture"])
        .env(CHILD, SEED.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test runs");
    let expected = format!("{:?}", first().trace);
    let output = child.wait_with_output().expect("the child ends");
    let output = String::from_utf8(output.stdout).expect("the harness prints text");
    let (_, line) = output.split_once(MARK).expect("the child prints its trace");
    assert_eq!(line.lines().next(), Some(&*expected));
}

/// Prints its trace for [`another_process_sends_the_same_packets`]; nothing when run with the others.
#[test]
fn child_trace() {
    if let Ok(seed) = std::env::var(CHILD) {
        let seed = seed.parse().expect("the parent passes a number");
        println!("{MARK}{:?}", sim::run(run(seed)).trace);
    }
}

#[test]
fn the_other_side_fails_and_returns_and_no_call_is_lost() {
    check(first());
}

fn check(run: &Run) {
    assert_well(&run.before);
    assert_well(&run.after);
    for (pair, member) in views(&run.during) {
        assert_eq!(member.status == FAILED, apart(pair.0, pair.1), "{pair:?}");
    }

    // Failed on the dot, only those beyond the cut, and once.
    let failed: Vec<&Change> = run.changes.iter().filter(|change| change.to == FAILED).collect();
    assert_eq!(failed.len(), 12, "{failed:#?}");
    let [time_out, tick] = [20_000, 50].map(Duration::from_millis);
    for change in failed {
        assert!(apart(change.node, change.peer), "{change:?}");
        assert!((CUT..CUT + time_out + tick).contains(&change.at), "{change:?}");
        let silence = change.silence.expect("it was heard before");
        assert!((time_out..time_out + tick).contains(&silence), "{change:?}");
    }
    // Nothing but the cut broke a connection, and what 2 % loss takes is repeated in time.
    let stale = run.changes.iter().filter(|change| change.to == "STALE");
    let beyond = |change: &&Change| !apart(change.node, change.peer) || !(CUT..HEALED).contains(&change.at);
    let beyond: Vec<&Change> = stale.filter(beyond).collect();
    assert!(beyond.is_empty(), "{beyond:#?}");

    let lost: Vec<&Call> = run.calls.iter().filter(|call| call.error.is_some()).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    assert!(run.calls.len() > 2_500, "{} calls", run.calls.len());
    // A worker beyond the cut costs two seconds of silence as long as it is not known for failed; nothing
    // else takes a second.
    for call in &run.calls {
        let at_the_cut = (CUT..CUT + time_out + tick).contains(&(call.began + Duration::from_millis(100)));
        let bound = if at_the_cut { 5_500 } else { 1_000 };
        assert!(call.took < Duration::from_millis(bound), "{call:?}");
    }

    for (pair, member) in views(&run.after) {
        assert_eq!((member.own_in_flight, member.in_flight), (0, 0), "{pair:?}");
    }
    assert_eq!(run.connections, [4; 5]);
    for status in &run.after {
        assert_eq!(status.control.balance_messages, 0, "node {}", status.node);
        assert_eq!(status.epoch, 1, "node {} was taken for another life", status.node);
    }
}
