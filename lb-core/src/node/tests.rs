//! Two or three nodes talking over a perfect wire; trouble is for the property tests.

use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;
use crate::load::LoadMeter;
use crate::member::Filter;
use crate::pick::{Corrected, LeastConnections};
use crate::wire::Contact;

type TestNode = Node<8, 64>;

const MS: u64 = 1_000;

fn id(n: u32) -> NodeId {
    NodeId::new(n)
}

fn addr(n: u32) -> Addr {
    Addr::from(core::net::SocketAddr::from(([127, 0, 0, 1], 4_000 + n as u16)))
}

/// Nodes that get each other's messages at once.
struct Cluster {
    now: Instant,
    nodes: BTreeMap<u32, TestNode>,
    cut: Vec<u32>,
    /// Pairs, the lower id first.
    blocked: Vec<(u32, u32)>,
    sent: u64,
}

impl Cluster {
    fn new(ids: &[u32]) -> Self {
        let mut cluster = Self {
            now: Instant::from_secs(1_000),
            nodes: BTreeMap::new(),
            cut: Vec::new(),
            blocked: Vec::new(),
            sent: 0,
        };
        for &n in ids {
            cluster.start(n, 1, Role::Worker);
        }
        cluster
    }

    fn start(&mut self, n: u32, epoch: u32, role: Role) {
        let tags = Tags::parse(if role == Role::Worker { "role=worker" } else { "" }).unwrap();
        let config = Config::new(id(n), epoch, role)
            .addr(addr(n))
            .tags(tags)
            .seed(u64::from(n));
        let mut node = Node::new(self.now, config).unwrap();
        node.set_load(LoadMeter::new(epoch, 10).report(self.now));
        for &other in self.nodes.keys().filter(|&&other| other != n) {
            node.add_peer(self.now, id(other), addr(other)).unwrap();
        }
        self.nodes.insert(n, node);
    }

    fn deliver(&mut self) {
        let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
        loop {
            let mut wires = Vec::new();
            for (&from, node) in &mut self.nodes {
                while let Some(out) = node.poll_transmit(self.now, &mut buffer) {
                    wires.push((from, out.to.get(), buffer[..out.len].to_vec()));
                }
            }
            if wires.is_empty() {
                return;
            }
            self.sent += wires.len() as u64;
            for (from, to, bytes) in wires {
                let blocked = self.blocked.contains(&(from.min(to), from.max(to)));
                if blocked || self.cut.contains(&from) || self.cut.contains(&to) {
                    continue;
                }
                if let Some(node) = self.nodes.get_mut(&to) {
                    let _ = node.handle_message(self.now, id(from), &bytes);
                }
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now.saturating_add(span);
        self.deliver();
        loop {
            let due = self.nodes.values().filter_map(TestNode::next_deadline).min();
            let Some(next) = due.filter(|&due| due <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for node in self.nodes.values_mut() {
                if node.next_deadline().is_some_and(|due| due <= self.now) {
                    node.handle_timeout(self.now);
                }
            }
            self.deliver();
        }
        self.now = end;
        for node in self.nodes.values_mut() {
            node.handle_timeout(self.now);
        }
        self.deliver();
    }

    fn status(&self, at: u32, of: u32) -> Status {
        self.nodes[&at].peer(id(of)).unwrap().status
    }

    fn events(&mut self, at: u32) -> Vec<Event> {
        core::iter::from_fn(|| self.nodes.get_mut(&at).unwrap().poll_event()).collect()
    }
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}

#[test]
fn three_nodes_know_each_other_through_one_seed() {
    let mut cluster = Cluster::new(&[1]);
    cluster.start(2, 1, Role::Worker);
    cluster.run(secs(1));
    // 3 knows only 1.
    let mut three = Node::new(cluster.now, Config::new(id(3), 1, Role::Worker).addr(addr(3))).unwrap();
    three.add_peer(cluster.now, id(1), addr(1)).unwrap();
    cluster.nodes.insert(3, three);
    cluster.run(secs(1));
    for (at, of) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
        assert_eq!(cluster.status(at, of), Status::Worker, "{of} as seen by {at}");
        assert_eq!(cluster.nodes[&at].peer(id(of)).unwrap().member.addr(), addr(of));
    }
    assert_eq!(cluster.nodes[&3].peers().count(), 2, "no ghosts");
}

#[test]
fn a_quiet_mesh_of_three_costs_0_8_messages_per_node_and_second() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.run(secs(60));
    let before = cluster.sent;
    cluster.run(secs(1_000));
    let rate = (cluster.sent - before) as f64 / 3.0 / 1_000.0;
    assert!((0.79..=0.81).contains(&rate), "{rate}");
}

#[test]
fn a_node_alone_coordinates_itself() {
    let mut cluster = Cluster::new(&[1]);
    cluster.run(secs(6));
    assert_eq!(cluster.nodes[&1].own_status(), Status::Coordinator);
}

/// 4 reaches 2 and 3 but not 1, so the views never become the same.
#[test]
fn a_partial_partition_does_not_multiply_messages() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4]);
    cluster.run(secs(60));
    cluster.blocked.push((1, 4));
    cluster.run(secs(120));
    assert_eq!(cluster.status(1, 4), Status::Failed);
    let before = cluster.sent;
    cluster.run(secs(1_000));
    let rate = (cluster.sent - before) as f64 / 4.0 / 1_000.0;
    assert!(rate <= 2.0 * 1.2, "{rate}");
}

#[test]
fn both_legs_of_a_heartbeat_carry_load() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    let mut meter = LoadMeter::new(1, 10);
    meter.report(cluster.now);
    meter.begin();
    let report = meter.report(cluster.now);
    for n in [1, 2] {
        cluster.nodes.get_mut(&n).unwrap().set_load(report);
    }
    // One heartbeat of 1, by hand; 2 answers; nobody else speaks.
    let now = cluster.now;
    let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
    for slot in 0..1 {
        cluster
            .nodes
            .get_mut(&1)
            .unwrap()
            .table
            .get_mut(slot)
            .unwrap()
            .pending = pending::HEARTBEAT;
    }
    let out = cluster
        .nodes
        .get_mut(&1)
        .unwrap()
        .poll_transmit(now, &mut buffer)
        .unwrap();
    cluster
        .nodes
        .get_mut(&2)
        .unwrap()
        .handle_message(now, id(1), &buffer[..out.len])
        .unwrap();
    let out = cluster
        .nodes
        .get_mut(&2)
        .unwrap()
        .poll_transmit(now, &mut buffer)
        .unwrap();
    cluster
        .nodes
        .get_mut(&1)
        .unwrap()
        .handle_message(now, id(2), &buffer[..out.len])
        .unwrap();
    for (at, of) in [(1, 2), (2, 1)] {
        let load = cluster.nodes[&at].peer(id(of)).unwrap().load.unwrap();
        assert_eq!(load.report().in_flight, 1, "{at} knows the load of {of}");
    }
}

#[test]
fn silence_is_stale_after_15_s_and_failed_after_20_s() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.run(secs(10));
    cluster.cut.push(3);
    let heard = cluster.nodes[&1]
        .peer(id(3))
        .unwrap()
        .member
        .last_heard()
        .unwrap();
    let silence = cluster.now.since(heard);
    cluster.run(secs(15).saturating_sub(silence));
    assert_ne!(cluster.status(1, 3), Status::Stale);
    cluster.run(Duration::from_micros(MS));
    assert_eq!(cluster.status(1, 3), Status::Stale);
    cluster.run(secs(5));
    assert_eq!(cluster.status(1, 3), Status::Failed);
    assert_eq!(cluster.status(1, 2) as u8, cluster.status(1, 2) as u8);
    cluster.cut.clear();
    cluster.run(secs(41));
    assert_eq!(
        cluster.nodes[&1].peer(id(3)).unwrap().axes.liveness,
        Liveness::Alive,
        "found again"
    );
}

#[test]
fn a_restart_with_a_higher_epoch_counts_at_once() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    cluster.events(1);
    cluster.start(2, 2, Role::Worker);
    cluster.run(secs(1));
    assert_eq!(cluster.nodes[&1].peer(id(2)).unwrap().member.epoch(), 2);
    let told = cluster.events(1);
    assert!(
        told.iter()
            .any(|event| matches!(event, Event::Peer { epoch: 2, .. })),
        "{told:?}"
    );
}

#[test]
fn a_restart_with_a_used_epoch_takes_a_higher_one() {
    for epoch in [3, 5] {
        let mut cluster = Cluster::new(&[1]);
        cluster.start(2, 5, Role::Worker);
        cluster.run(secs(6));
        cluster.start(2, epoch, Role::Worker);
        cluster.run(secs(6));
        assert_eq!(cluster.nodes[&2].epoch(), 6, "from {epoch}");
        assert_eq!(cluster.nodes[&1].peer(id(2)).unwrap().member.epoch(), 6);
        assert!(cluster.events(2).contains(&Event::EpochTaken { epoch: 6 }));
        assert!(cluster.nodes[&1].counters().refused_epoch > 0);
        assert_eq!(
            cluster.nodes[&1].peer(id(2)).unwrap().axes.liveness,
            Liveness::Alive
        );
    }
}

/// What 1 says to the former life of 2 is no confirmation of the new one.
#[test]
fn a_heartbeat_to_the_former_life_does_not_confirm_the_epoch() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    let now = cluster.now.saturating_add(secs(5));
    let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
    let one = cluster.nodes.get_mut(&1).unwrap();
    one.handle_timeout(now);
    let len = one.poll_transmit(now, &mut buffer).unwrap().len;
    cluster.now = now;
    cluster.start(2, 1, Role::Worker);
    let two = cluster.nodes.get_mut(&2).unwrap();
    two.handle_message(now, id(1), &buffer[..len]).unwrap();
    cluster.run(secs(6));
    assert_eq!(cluster.nodes[&2].epoch(), 2, "the epoch was taken");
    assert_eq!(cluster.nodes[&1].peer(id(2)).unwrap().member.epoch(), 2);
}

/// 3 does not know that 2 had a higher epoch, and confirms the lower one before 1 can object.
#[test]
fn an_epoch_confirmed_by_a_stranger_is_given_up_when_a_higher_one_was_used() {
    for lived in [10, 300] {
        let mut cluster = Cluster::new(&[1]);
        cluster.start(2, 5, Role::Worker);
        cluster.run(secs(lived));
        cluster.blocked.push((1, 2));
        cluster.start(3, 1, Role::Worker);
        cluster.start(2, 3, Role::Worker);
        cluster.run(secs(lived));
        assert_eq!(cluster.nodes[&2].epoch(), 3);
        cluster.blocked.clear();
        cluster.run(secs(60));
        assert_eq!(cluster.nodes[&2].epoch(), 6, "no rival, it was itself");
        for at in [1, 3] {
            assert_eq!(cluster.nodes[&at].peer(id(2)).unwrap().member.epoch(), 6);
        }
    }
}

/// 1 heard the goodbye of 2, 3 did not know 2 at all and confirms the same epoch again.
#[test]
fn a_new_life_in_an_epoch_that_left_takes_a_higher_one() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(100));
    let now = cluster.now;
    cluster.nodes.get_mut(&2).unwrap().leave(now);
    cluster.deliver();
    cluster.blocked.push((1, 2));
    cluster.start(3, 1, Role::Worker);
    cluster.start(2, 1, Role::Worker);
    cluster.run(secs(100));
    assert_eq!(
        (cluster.nodes[&2].epoch(), cluster.status(1, 2)),
        (1, Status::Left)
    );
    cluster.blocked.clear();
    cluster.run(secs(60));
    assert_eq!(cluster.nodes[&2].epoch(), 2);
    assert_eq!(
        cluster.nodes[&1].peer(id(2)).unwrap().axes.liveness,
        Liveness::Alive
    );
}

#[test]
fn the_former_of_two_processes_with_one_id_falls_silent() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(61));
    let mut former = cluster.nodes[&2].clone();
    cluster.start(2, 9, Role::Worker);
    cluster.run(secs(1));
    former.handle_timeout(cluster.now.saturating_add(secs(6)));
    let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
    let out = former.poll_transmit(cluster.now, &mut buffer).unwrap();
    let one = cluster.nodes.get_mut(&1).unwrap();
    let refused = one.handle_message(cluster.now, id(2), &buffer[..out.len]);
    assert_eq!(refused, Err(Refusal::OldEpoch { epoch: 1, known: 9 }));
    let out = one.poll_transmit(cluster.now, &mut buffer).unwrap();
    assert_eq!(
        former.handle_message(cluster.now, id(1), &buffer[..out.len]),
        Err(Refusal::NotRunning)
    );
    let told: Vec<Event> = core::iter::from_fn(|| former.poll_event()).collect();
    assert!(told.contains(&Event::Superseded { epoch: 9 }), "{told:?}");
    assert_eq!(
        (
            former.poll_transmit(cluster.now, &mut buffer),
            former.next_deadline()
        ),
        (None, None)
    );
}

#[test]
fn a_goodbye_is_final_for_its_epoch() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
    let late = {
        let two = cluster.nodes.get_mut(&2).unwrap();
        two.handle_timeout(cluster.now.saturating_add(secs(5)));
        let out = two.poll_transmit(cluster.now, &mut buffer).unwrap();
        buffer[..out.len].to_vec()
    };
    let now = cluster.now;
    cluster.nodes.get_mut(&2).unwrap().leave(now);
    cluster.deliver();
    assert!(cluster.nodes[&2].has_left());
    assert_eq!(cluster.status(1, 2), Status::Left);
    let one = cluster.nodes.get_mut(&1).unwrap();
    assert_eq!(one.handle_message(now, id(2), &late), Err(Refusal::HasLeft));
    one.handle_request(now, id(2), 1);
    one.handle_response(now, id(2), LoadMeter::new(1, 1).report(now));
    assert_eq!(cluster.status(1, 2), Status::Left);
    cluster.start(2, 2, Role::Worker);
    cluster.run(secs(1));
    assert_eq!(
        cluster.nodes[&1].peer(id(2)).unwrap().axes.liveness,
        Liveness::Alive
    );
}

#[test]
fn a_goodbye_is_the_last_word() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(61));
    let mut superseded = cluster.nodes[&2].clone();
    cluster.start(2, 9, Role::Worker);
    cluster.run(secs(1));
    let now = cluster.now;
    superseded.handle_timeout(now.saturating_add(secs(6)));
    let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
    let one = cluster.nodes.get_mut(&1).unwrap();
    let len = superseded.poll_transmit(now, &mut buffer).unwrap().len;
    one.handle_message(now, id(2), &buffer[..len]).unwrap_err();
    let len = one.poll_transmit(now, &mut buffer).unwrap().len;
    superseded.handle_message(now, id(1), &buffer[..len]).unwrap_err();
    one.leave(now);
    while one.poll_transmit(now, &mut buffer).is_some() {}
    for node in [one, &mut superseded] {
        node.set_draining(now, true);
        node.set_tags(now, Tags::parse("zone=eu-9").unwrap());
        node.add_peer(now, id(7), addr(7)).unwrap();
        assert_eq!(node.poll_transmit(now, &mut buffer), None);
        assert!(node.has_left());
    }
}

#[test]
fn a_configured_peer_that_left_is_found_when_it_comes_back_knowing_nobody() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    let now = cluster.now;
    cluster.nodes.get_mut(&1).unwrap().leave(now);
    cluster.deliver();
    let config = Config::new(id(1), 2, Role::Worker).addr(addr(1));
    cluster.nodes.insert(1, Node::new(now, config).unwrap());
    cluster.run(secs(41));
    assert_eq!(
        cluster.nodes[&2].peer(id(1)).unwrap().axes.liveness,
        Liveness::Alive
    );
}

#[test]
fn refuses_other_versions_other_ids_and_garbage_with_counter_and_event() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(1));
    let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
    let now = cluster.now.saturating_add(secs(6));
    let two = cluster.nodes.get_mut(&2).unwrap();
    two.handle_timeout(now);
    let len = two.poll_transmit(now, &mut buffer).unwrap().len;
    cluster.events(1);
    let one = cluster.nodes.get_mut(&1).unwrap();
    let mut refuse = |from: u32, bytes: &[u8], reason: Refusal| {
        assert_eq!(one.handle_message(cluster.now, id(from), bytes), Err(reason));
        let told: Vec<Event> = core::iter::from_fn(|| one.poll_event()).collect();
        assert!(
            told.contains(&Event::Refused {
                from: id(from),
                reason
            }),
            "{told:?}"
        );
    };
    refuse(3, &buffer[..len], Refusal::Identity { claimed: id(2) });
    refuse(2, &buffer[..len - 1], Refusal::Malformed);
    refuse(2, &[], Refusal::Malformed);
    buffer[0] = 9;
    refuse(2, &buffer[..len], Refusal::Version(9));
    let counters = cluster.nodes[&1].counters();
    assert_eq!(
        (
            counters.refused_identity,
            counters.refused_malformed,
            counters.refused_version
        ),
        (1, 2, 1)
    );
    assert_eq!(cluster.nodes[&1].peers().count(), 1, "no ghost of node 3");
}

#[test]
fn a_node_that_slept_accuses_nobody_and_is_accused_by_none_that_slept() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    // Both processes are stopped for a minute; no message is lost, none is sent.
    cluster.now = cluster.now.saturating_add(secs(60));
    for n in [1, 2] {
        cluster.events(n);
        let now = cluster.now;
        let node = cluster.nodes.get_mut(&n).unwrap();
        node.handle_timeout(now);
        assert_eq!(node.counters().late, 1);
        let told: Vec<Event> = core::iter::from_fn(|| node.poll_event()).collect();
        let bad = told.iter().any(|event| {
            matches!(
                event,
                Event::Peer {
                    to: Status::Failed | Status::Left | Status::NoHeartbeat,
                    ..
                }
            )
        });
        assert!(!bad, "{told:?}");
    }
    cluster.run(secs(6));
    assert_eq!(
        cluster.nodes[&1].peer(id(2)).unwrap().axes.liveness,
        Liveness::Alive
    );
}

/// A sleep that begins just before a peer's time is up does not accuse it either.
#[test]
fn nobody_is_accused_in_a_late_turn_even_at_the_deadline() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    cluster.nodes.remove(&2);
    let one = cluster.nodes.get_mut(&1).unwrap();
    let failed_at = one
        .peer(id(2))
        .and_then(|two| two.member.last_heard())
        .unwrap()
        .saturating_add(Duration::from_micros(20_000_001));
    while one.next_deadline() != Some(failed_at) {
        let due = one.next_deadline().unwrap();
        one.handle_timeout(due);
    }
    one.handle_timeout(failed_at.saturating_add(secs(60)));
    assert_eq!(one.counters().late, 1);
    assert_eq!(one.peer(id(2)).unwrap().axes.liveness, Liveness::Suspect);
}

#[test]
fn a_pick_after_a_sleep_finds_the_peers_as_they_were() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    let now = cluster.now.saturating_add(secs(60));
    let one = cluster.nodes.get_mut(&1).unwrap();
    let everything = Filter::everything();
    let ticket = one.pick(now, &Request::new(&everything), &mut Corrected::default());
    assert_eq!(ticket.as_ref().map(Ticket::id), Ok(id(2)));
    one.handle_timeout(now);
    assert_eq!(one.counters().late, 1, "one sleep, counted once");
    assert_ne!(one.peer(id(2)).unwrap().axes.liveness, Liveness::Failed);
}

#[test]
fn a_driver_that_is_always_late_still_detects_failures() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    cluster.nodes.remove(&2);
    let mut now = cluster.now;
    let one = cluster.nodes.get_mut(&1).unwrap();
    let mut turns = 0;
    while one.peer(id(2)).unwrap().axes.liveness != Liveness::Failed {
        now = one.next_deadline().unwrap().saturating_add(secs(2));
        one.handle_timeout(now);
        // What waited behind the timer is handled at the same moment, and is on time.
        one.handle_request(now, id(7), 1);
        turns += 1;
        assert!(turns < 40);
    }
    assert!(turns > u32::from(LATE_TURNS_MAX) / 4);
    assert!(now.since(cluster.now) < secs(120));
}

#[test]
fn time_going_back_changes_nothing() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(6));
    let one = cluster.nodes.get_mut(&1).unwrap();
    one.handle_timeout(Instant::ZERO);
    assert_eq!(one.peer(id(2)).unwrap().axes.liveness, Liveness::Alive);
    assert!(one.next_deadline().unwrap() >= cluster.now);
}

#[test]
fn tags_travel_and_changes_are_told() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(1));
    let filter = Filter::parse("zone=eu-1").unwrap();
    let now = cluster.now;
    let mut strategy = LeastConnections::default();
    let one = cluster.nodes.get_mut(&1).unwrap();
    assert_eq!(
        one.pick(now, &Request::new(&filter), &mut strategy),
        Err(PickError::NoMatch)
    );
    cluster
        .nodes
        .get_mut(&2)
        .unwrap()
        .set_tags(now, Tags::parse("role=worker,zone=eu-1").unwrap());
    cluster.deliver();
    let one = cluster.nodes.get_mut(&1).unwrap();
    let ticket = one.pick(now, &Request::new(&filter), &mut strategy).unwrap();
    assert_eq!(ticket.id(), id(2));
    one.finish(ticket);
}

#[test]
fn a_lost_change_of_tags_is_asked_for() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(1));
    cluster.cut.push(1);
    let now = cluster.now;
    cluster
        .nodes
        .get_mut(&2)
        .unwrap()
        .set_tags(now, Tags::parse("zone=eu-1").unwrap());
    cluster.deliver();
    cluster.cut.clear();
    cluster.run(secs(6));
    assert_eq!(
        cluster.nodes[&1].peer(id(2)).unwrap().member.tags().as_str(),
        "zone=eu-1"
    );
}

#[test]
fn an_overtaken_message_does_not_open_a_draining_worker() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(1));
    let (now, mut meter) = (cluster.now, LoadMeter::new(1, 10));
    let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
    let mut say = |cluster: &mut Cluster, draining| {
        let two = cluster.nodes.get_mut(&2).unwrap();
        two.set_draining(now, draining);
        two.set_load(meter.report(now));
        let len = two.poll_transmit(now, &mut buffer).unwrap().len;
        buffer[..len].to_vec()
    };
    say(&mut cluster, true);
    let (open, drains) = (say(&mut cluster, false), say(&mut cluster, true));
    let one = cluster.nodes.get_mut(&1).unwrap();
    one.handle_message(now, id(2), &drains).unwrap();
    one.handle_message(now, id(2), &open).unwrap();
    assert_eq!(one.peer(id(2)).unwrap().status, Status::Draining);
}

#[test]
fn calls_of_another_life_are_no_evidence() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(1));
    let now = cluster.now.saturating_add(secs(10));
    let one = cluster.nodes.get_mut(&1).unwrap();
    let heard = |node: &TestNode| node.peer(id(2)).unwrap().member.last_heard();
    let before = heard(one);
    for epoch in [0, 2] {
        one.handle_request(now, id(2), epoch);
        one.handle_response(now, id(2), LoadMeter::new(epoch, 1).report(now));
    }
    assert_eq!(heard(one), before);
    one.handle_request(now, id(2), 1);
    assert_eq!(heard(one), Some(now));
}

#[test]
fn draining_workers_and_broken_connections_are_not_picked() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.run(secs(1));
    let everything = Filter::everything();
    let request = Request::new(&everything);
    let now = cluster.now;
    cluster.nodes.get_mut(&2).unwrap().set_draining(now, true);
    cluster.deliver();
    assert_eq!(cluster.status(1, 2), Status::Draining);
    let mut strategy = Corrected::default();
    let one = cluster.nodes.get_mut(&1).unwrap();
    for _ in 0..4 {
        let ticket = one.pick(now, &request, &mut strategy).unwrap();
        assert_eq!(ticket.id(), id(3));
        one.finish(ticket);
    }
    one.handle_disconnect(now, id(3));
    assert_eq!(one.peer(id(3)).unwrap().status, Status::Stale);
    let ticket = one.pick(now, &request, &mut strategy).unwrap();
    assert_eq!(ticket.id(), id(3), "a suspect is better than nobody");
    one.finish(ticket);
    one.handle_timeout(now);
    cluster.deliver();
    assert_eq!(
        cluster.nodes[&1].peer(id(3)).unwrap().axes.liveness,
        Liveness::Alive
    );
}

#[test]
fn picks_name_what_is_missing() {
    let mut cluster = Cluster::new(&[1]);
    let (everything, zone) = (Filter::everything(), Filter::parse("zone=eu-1").unwrap());
    let now = cluster.now;
    let mut strategy = Corrected::default();
    let mut pick = |node: &mut TestNode, request: &Request<'_>| node.pick(now, request, &mut strategy);
    let one = cluster.nodes.get_mut(&1).unwrap();
    assert_eq!(pick(one, &Request::new(&everything)), Err(PickError::NoWorkers));
    cluster.start(2, 1, Role::Worker);
    cluster.deliver();
    let one = cluster.nodes.get_mut(&1).unwrap();
    assert_eq!(pick(one, &Request::new(&zone)), Err(PickError::NoMatch));
    let tried = [id(2)];
    assert_eq!(
        pick(one, &Request::new(&everything).exclude(&tried)),
        Err(PickError::AllTried)
    );
    let tickets: Vec<Ticket> = (0..10)
        .map(|_| pick(one, &Request::new(&everything)).unwrap())
        .collect();
    assert_eq!(
        pick(one, &Request::new(&everything)),
        Err(PickError::AllAtCapacity),
        "capacity 10"
    );
    tickets.into_iter().for_each(|ticket| one.finish(ticket));
    assert_eq!(one.peer(id(2)).unwrap().own_in_flight, 0);
    one.handle_overloaded(now, id(2), secs(1));
    assert_eq!(
        pick(one, &Request::new(&everything)),
        Err(PickError::AllAtCapacity),
        "it said so"
    );
}

#[test]
fn the_node_itself_can_be_a_candidate() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(1));
    let everything = Filter::everything();
    let request = Request::new(&everything).include_self(true);
    let now = cluster.now;
    let mut strategy = LeastConnections::default();
    let one = cluster.nodes.get_mut(&1).unwrap();
    let tickets: Vec<Ticket> = (0..6)
        .map(|_| one.pick(now, &request, &mut strategy).unwrap())
        .collect();
    assert_eq!(tickets.iter().filter(|ticket| ticket.id() == id(1)).count(), 3);
    tickets.into_iter().for_each(|ticket| one.finish(ticket));
    assert_eq!(one.own_in_flight, 0);
}

#[test]
fn a_restarted_peer_keeps_the_counts_of_requests_in_flight() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.run(secs(1));
    let now = cluster.now;
    let ticket = cluster.nodes.get_mut(&1).unwrap().begin(id(2)).unwrap();
    cluster.start(2, 2, Role::Worker);
    cluster.run(secs(1));
    let one = cluster.nodes.get_mut(&1).unwrap();
    assert_eq!(one.peer(id(2)).unwrap().own_in_flight, 1);
    one.finish(ticket);
    assert_eq!(one.peer(id(2)).unwrap().own_in_flight, 0);
    let _ = now;
}

#[test]
fn one_coordinator_survives_noise_and_is_replaced_when_it_fails() {
    let mut cluster = Cluster::new(&[1, 2, 3]);
    cluster.run(secs(30));
    let claim = cluster.nodes[&1].coordinator().unwrap();
    for n in [2, 3] {
        assert_eq!(cluster.nodes[&n].coordinator(), Some(claim));
    }
    let holder = claim.holder.get();
    let another = [1, 2, 3].into_iter().find(|&n| n != holder).unwrap();
    assert_eq!(cluster.status(another, holder), Status::Coordinator);
    cluster.cut.push(holder);
    cluster.run(secs(45));
    let after = cluster.nodes[&another].coordinator().unwrap();
    assert_ne!(after.holder.get(), holder);
    assert!(after.term > claim.term);
    cluster.cut.clear();
    cluster.run(secs(90));
    assert_eq!(
        cluster.nodes[&holder].coordinator(),
        Some(after),
        "a rejoiner does not depose"
    );
}

#[test]
fn observers_are_answered_but_not_heartbeated_and_not_picked() {
    let mut cluster = Cluster::new(&[1]);
    cluster.start(2, 1, Role::Observer);
    cluster.run(secs(30));
    assert_eq!(cluster.status(1, 2), Status::Observer);
    assert_eq!(cluster.nodes[&1].counters().sent_heartbeats, 0);
    assert!(cluster.nodes[&1].counters().sent_acks >= 5);
    let now = cluster.now;
    let everything = Filter::everything();
    let one = cluster.nodes.get_mut(&1).unwrap();
    let error = one.pick(now, &Request::new(&everything), &mut Corrected::default());
    assert_eq!(error, Err(PickError::NoWorkers));
    assert_eq!(cluster.nodes[&2].own_status(), Status::Observer);
}

#[test]
fn responses_stand_in_for_heartbeats_up_to_the_time_to_live() {
    let mut cluster = Cluster::new(&[1]);
    cluster.start(2, 1, Role::Observer);
    cluster.run(secs(6));
    let before = cluster.nodes[&2].counters().sent_heartbeats;
    let mut meter = LoadMeter::new(1, 10);
    meter.report(cluster.now);
    for _ in 0..60 {
        cluster.run(secs(1));
        let (now, report) = (cluster.now, meter.report(cluster.now));
        cluster.nodes.get_mut(&1).unwrap().handle_request(now, id(2), 1);
        cluster
            .nodes
            .get_mut(&2)
            .unwrap()
            .handle_response(now, id(1), report);
    }
    // One in ten seconds instead of two: what only messages tell is no older than that.
    let sent = cluster.nodes[&2].counters().sent_heartbeats - before;
    assert!((5..=7).contains(&sent), "{sent} heartbeats in a minute");
    assert_eq!(cluster.status(1, 2), Status::Observer);
    assert_eq!(
        cluster.nodes[&2].peer(id(1)).unwrap().axes.liveness,
        Liveness::Alive
    );
}

#[test]
fn hearsay_brings_a_failed_peer_back_before_its_slow_turn() {
    let mut cluster = Cluster::new(&[1, 2]);
    cluster.start(3, 1, Role::Observer);
    cluster.run(secs(6));
    cluster.nodes.remove(&2);
    cluster.run(secs(26));
    assert_eq!(cluster.status(3, 2), Status::Failed);
    // It returns, but does not know the observer, which would try it every 40 s by itself.
    let config = Config::new(id(2), 2, Role::Worker).addr(addr(2)).seed(2);
    let mut two = TestNode::new(cluster.now, config).unwrap();
    two.add_peer(cluster.now, id(1), addr(1)).unwrap();
    cluster.nodes.insert(2, two);
    cluster.run(secs(6));
    assert_eq!(
        cluster.nodes[&3].peer(id(2)).unwrap().axes.liveness,
        Liveness::Alive
    );
}

#[test]
fn hearsay_about_a_dead_peer_costs_no_more_than_heartbeats() {
    let mut cluster = Cluster::new(&[1, 2, 4]);
    cluster.start(3, 1, Role::Observer);
    cluster.run(secs(6));
    cluster.nodes.remove(&4);
    cluster.run(secs(26));
    let now = cluster.now;
    let three = cluster.nodes.get_mut(&3).unwrap();
    let mut tries = 0;
    let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
    let contact = Contact {
        id: id(4),
        addr: addr(4),
    };
    for tenths in 1..=300 {
        let now = now.saturating_add(Duration::from_millis(100 * tenths));
        let message = wire::Message {
            header: wire::Header {
                from: id(1),
                epoch: 1,
                known_epoch: 1,
                meta: 1,
                flags: wire::Flags::default(),
                view: 0,
                claim: None,
            },
            load: LoadReport::default(),
            body: wire::Body::Introduce([contact].into_iter().collect()),
        };
        let len = wire::encode(&message, &mut buffer).unwrap();
        let _ = three.handle_message(now, id(1), &buffer[..len]);
        three.handle_timeout(now);
        while let Some(out) = three.poll_transmit(now, &mut buffer) {
            tries += u32::from(out.to == id(4));
        }
    }
    assert!((5..=7).contains(&tries), "{tries} in 30 s");
}

#[test]
fn a_full_table_displaces_the_gone_and_refuses_the_rest() {
    let mut cluster = Cluster::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    cluster.run(secs(6));
    assert_eq!(cluster.nodes[&1].peers().count(), 8, "exactly full");
    let coordinator = cluster.nodes[&1].coordinator().unwrap().holder.get();
    let mut stranger: TestNode = Node::new(cluster.now, Config::new(id(10), 1, Role::Worker)).unwrap();
    stranger.add_peer(cluster.now, id(1), addr(1)).unwrap();
    let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
    let len = stranger.poll_transmit(cluster.now, &mut buffer).unwrap().len;
    let now = cluster.now;
    let one = cluster.nodes.get_mut(&1).unwrap();
    assert_eq!(
        one.handle_message(now, id(10), &buffer[..len]),
        Err(Refusal::TableFull)
    );
    assert_eq!(one.counters().refused_capacity, 1);
    let leaver = (2..=9).find(|&n| n != coordinator).unwrap();
    cluster.nodes.get_mut(&leaver).unwrap().leave(now);
    cluster.deliver();
    let one = cluster.nodes.get_mut(&1).unwrap();
    // Configured peers are never displaced: make it an acquaintance.
    one.table
        .slot_of(id(leaver))
        .and_then(|slot| one.table.get_mut(slot))
        .unwrap()
        .pinned = false;
    assert_eq!(one.handle_message(now, id(10), &buffer[..len]), Ok(()));
    assert!(one.peer(id(leaver)).is_none() && one.peer(id(10)).is_some());
    assert_eq!(one.counters().evicted, 1);
}

#[test]
fn the_gone_are_forgotten_in_the_end() {
    let mut cluster = Cluster::new(&[1]);
    let now = cluster.now;
    let mut two: TestNode = Node::new(now, Config::new(id(2), 1, Role::Worker)).unwrap();
    two.add_peer(now, id(1), addr(1)).unwrap();
    cluster.nodes.insert(2, two);
    cluster.run(secs(6));
    cluster.nodes.remove(&2);
    cluster.run(secs(500));
    assert_eq!(cluster.status(1, 2), Status::Failed);
    cluster.run(secs(200));
    assert!(cluster.nodes[&1].peer(id(2)).is_none());
}

#[test]
fn configuration_names_the_field() {
    let config: Config<64> = Config::new(id(1), 0, Role::Worker);
    assert_eq!(
        TestNode::new(Instant::ZERO, config.clone()).err(),
        Some(ConfigError::EpochZero)
    );
    let config = Config { epoch: 1, ..config }.forget(secs(19));
    assert_eq!(
        TestNode::new(Instant::ZERO, config).err(),
        Some(ConfigError::ForgetBelowFailed)
    );
}
