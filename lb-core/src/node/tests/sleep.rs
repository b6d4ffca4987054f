//! Silence of peers, and sleep of the node itself.

use super::*;

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

/// Every heartbeat and every answer may be lost; a single one is no reason to wait for the next.
#[test]
fn a_lost_heartbeat_is_repeated_soon_and_not_for_ever() {
    let mut cluster = Cluster::new(&[1]);
    cluster.start(2, 1, Role::Observer);
    cluster.run(secs(60));
    let sent = |cluster: &Cluster| cluster.nodes[&2].counters().sent_heartbeats;
    let heard = |cluster: &Cluster| {
        cluster.nodes[&2]
            .peer(id(1))
            .unwrap()
            .member
            .last_heard()
            .unwrap()
    };
    // Until the second heartbeat in a row is lost.
    cluster.cut.push(1);
    let (before, start) = (sent(&cluster), cluster.now);
    while sent(&cluster) < before + 2 {
        cluster.run(Duration::from_millis(50));
    }
    cluster.cut.clear();
    cluster.run(Duration::from_millis(1_300));
    assert!(
        heard(&cluster) > start,
        "asked again within a quarter of a period"
    );
    assert_eq!(
        cluster.nodes[&2].peer(id(1)).unwrap().axes.liveness,
        Liveness::Alive
    );

    cluster.cut.push(1);
    let before = sent(&cluster);
    cluster.run(secs(200));
    let more = sent(&cluster) - before;
    assert!(
        (8..=20).contains(&more),
        "quickly for 10 s, then every 40 s: {more}"
    );
}
