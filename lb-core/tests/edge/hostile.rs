//! What an edge does when a server or a driver does not behave. Found by fuzzing.

use lb_core::Duration;
use lb_core::wire::{Outcome, Response};

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
