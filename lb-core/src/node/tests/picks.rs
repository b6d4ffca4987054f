//! Who is picked, and what a ticket counts.

use super::*;

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
        one.finish(now, ticket, Ended::Abandoned);
    }
    one.handle_disconnect(now, id(3));
    assert_eq!(one.peer(id(3)).unwrap().status, Status::Stale);
    let ticket = one.pick(now, &request, &mut strategy).unwrap();
    assert_eq!(ticket.id(), id(3), "a suspect is better than nobody");
    one.finish(now, ticket, Ended::Abandoned);
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
    for ticket in tickets {
        one.finish(now, ticket, Ended::Abandoned);
    }
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
    for ticket in tickets {
        one.finish(now, ticket, Ended::Abandoned);
    }
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
    one.finish(now, ticket, Ended::Abandoned);
    assert_eq!(one.peer(id(2)).unwrap().own_in_flight, 0);
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
