//! Meeting, telling, coordinating, refusing, forgetting.

use super::*;

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
    let _ = meter.begin(cluster.now);
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
    one.finish(now, ticket, Ended::Abandoned);
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
    // A driver that counts requests itself says that one is still in flight there.
    one.set_own_in_flight(|peer| u32::from(peer == id(leaver)));
    assert_eq!(one.peer(id(leaver)).unwrap().own_in_flight, 1);
    assert_eq!(
        one.handle_message(now, id(10), &buffer[..len]),
        Err(Refusal::TableFull)
    );
    one.set_own_in_flight(|_| 0);
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

#[test]
fn the_largest_table_is_full_at_its_limit_and_leaves_a_slot_for_the_node_itself() {
    const PEERS: usize = crate::member::PEERS_MAX;
    let now = Instant::from_secs(1);
    let config = Config::new(id(0), 1, Role::Worker);
    let mut node: Box<Node<PEERS, 8>> = Box::new(Node::new(now, config).unwrap());
    for n in 1..=PEERS as u32 {
        node.add_peer(now, id(n), Addr::NONE).unwrap();
    }
    assert_eq!(node.add_peer(now, id(5_000), Addr::NONE), Err(TableFull));
    assert_eq!(node.peers().count(), PEERS);
    let everything = Filter::everything();
    let request = Request::new(&everything).include_self(true);
    let ticket = node.pick(now, &request, &mut Corrected::default()).unwrap();
    assert_eq!(
        ticket.id(),
        id(0),
        "nobody else was heard; its slot is the last there is"
    );
    node.finish(now, ticket, Ended::Abandoned);
}
