//! Epochs, restarts, rivals, goodbyes.

use super::*;

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
