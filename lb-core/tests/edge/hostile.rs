//! What an edge does when a server or a driver does not behave. Found by fuzzing.

use lb_core::edge::{CallError, CallPoll, Outgoing};
use lb_core::load::LoadReport;
use lb_core::wire::{self, Body, Flags, Header, Message, Outcome, Response};
use lb_core::{Duration, NodeId};

use super::server::Mood;
use super::world::{Ended, World};

const BUDGET: Duration = Duration::from_secs(2);

/// An edge with sessions with two servers that take long to answer.
fn two() -> World {
    let mut world = World::new(1, 2);
    world.seed(&[0, 1]);
    world.run(Duration::from_secs(2));
    for server in &mut world.servers {
        server.mood = Mood::Slow(Duration::from_secs(1));
    }
    world
}

#[test]
fn a_server_that_was_not_asked_cannot_answer() {
    let mut world = two();
    let serial = world.call("echo", BUDGET).unwrap();
    world.run(Duration::from_millis(50));
    let other = world.servers.iter().position(|server| server.executed.is_empty());
    let other = other.expect("one server was asked");
    let load = world.servers[other].report();
    let response = Response {
        call: 1,
        outcome: Outcome::UnknownMethod,
        load,
        body: b"",
    };
    let mut payload = [0; 100];
    let used = response.encode(&mut payload).unwrap();
    world.tell(other, &payload[..used]);
    world.run(Duration::from_millis(50));
    assert_eq!(world.ended.get(&serial), None, "it waits for the one it asked");
    world.run(BUDGET);
    assert!(matches!(world.ended[&serial], Ended::Answered(_)));
}

#[test]
fn no_request_is_sent_while_the_link_is_down() {
    let mut world = two();
    world.call("echo", BUDGET).unwrap();
    world.run(Duration::from_millis(50));
    world.edge.handle_link(world.now, false);
    let before = world.edge.counters().requests;
    world.call("echo", BUDGET).unwrap();
    world.run(BUDGET);
    assert_eq!(world.edge.counters().requests, before);
    assert_eq!(world.calls_in_flight(), 0, "calls end all the same");
}

/// A call that must not go elsewhere waits for a server that said goodbye, and a handshake with another one is under way.
#[test]
fn a_handshake_does_not_make_way_for_one_that_must_wait() {
    let mut world = World::new(1, 2);
    world.servers[1].alive = false;
    world.servers[0].mood = Mood::Slow(Duration::from_secs(5));
    world.seed(&[0, 1]);
    world.run(Duration::from_secs(1));
    world.fail_over = false;
    world.call("echo", BUDGET).unwrap();
    world.run(Duration::from_millis(50));
    let header = Header {
        from: NodeId::new(1),
        epoch: 1,
        known_epoch: 1,
        meta: 1,
        flags: Flags::default(),
        view: 0,
        claim: None,
    };
    let (load, body) = (LoadReport::default(), Body::Leave);
    let mut payload = [0; 100];
    let used = wire::encode(&Message { header, load, body }, &mut payload).unwrap();
    world.tell(0, &payload[..used]);
    let before = world.edge.counters().handshakes;
    world.run(BUDGET);
    assert!(world.edge.counters().handshakes - before < 10);
    assert_eq!(world.calls_in_flight(), 0);
}

#[test]
fn a_buffer_without_room_ends_the_call_and_not_the_session() {
    let mut world = two();
    let everything = lb_core::member::Filter::everything();
    let id = world.edge.call(world.now, BUDGET, true).unwrap();
    let outgoing = Outgoing {
        method: "echo",
        body: b"",
        response_max: 0,
        filter: &everything,
    };
    let sessions = world.edge.status().sessions;
    let polled = world.edge.poll_call(world.now, id, &outgoing, &mut [0; 40]);
    assert_eq!(polled, CallPoll::Failed(CallError::TooLong { limit: 0 }));
    assert_eq!(world.edge.status().sessions, sessions);
}
