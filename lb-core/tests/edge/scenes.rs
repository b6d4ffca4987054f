//! What an edge does in each situation.

use lb_core::edge::{CallError, Event, PickError, ServerState};
use lb_core::member::Filter;
use lb_core::{Duration, NodeId};

use super::server::Mood;
use super::world::{Ended, World};

const BUDGET: Duration = Duration::from_secs(2);

/// An edge that knows three servers, having been told of one.
fn three() -> World {
    let mut world = World::new(1, 3);
    world.seed(&[0]);
    world.run(Duration::from_secs(2));
    assert!(world.edge.status().attached);
    world
}

fn calls(world: &mut World, count: usize) -> Vec<Ended> {
    (0..count)
        .map(|_| {
            let serial = world.call("echo", BUDGET).unwrap();
            while !world.ended.contains_key(&serial) {
                world.run(Duration::from_millis(10));
            }
            world.ended[&serial].clone()
        })
        .collect()
}

fn answered_by(ended: &[Ended], id: u32) -> usize {
    let by = Ended::Answered(Some(NodeId::new(id)));
    ended.iter().filter(|ended| **ended == by).count()
}

#[test]
fn one_seed_is_enough_to_know_all() {
    let world = three();
    assert_eq!(world.edge.status().servers, 3);
    assert!(world.events.contains(&Event::Attached));
}

#[test]
fn calls_are_answered_and_spread() {
    let mut world = three();
    let ended = calls(&mut world, 30);
    for id in 1..=3 {
        assert_eq!(answered_by(&ended, id), 10, "{ended:?}");
    }
    assert_eq!(world.edge.counters().requests, 30, "each was sent once");
}

#[test]
fn a_call_may_begin_before_there_is_a_session() {
    let mut world = World::new(2, 1);
    world.seed(&[0]);
    let ended = calls(&mut world, 1);
    assert!(matches!(ended[0], Ended::Answered(_)), "{ended:?}");
}

#[test]
fn a_busy_server_gets_fewer() {
    let mut world = three();
    world.servers[0].in_flight = 50;
    world.run(Duration::from_secs(10));
    let ended = calls(&mut world, 30);
    assert_eq!(answered_by(&ended, 1), 0, "{ended:?}");
}

#[test]
fn a_dead_server_costs_no_call() {
    let mut world = three();
    calls(&mut world, 6);
    world.servers[1].alive = false;
    let ended = calls(&mut world, 20);
    assert!(
        ended.iter().all(|ended| matches!(ended, Ended::Answered(_))),
        "{ended:?}"
    );
    assert_eq!(answered_by(&ended, 2), 0);
    assert!(
        world.edge.counters().moved <= 2,
        "it is avoided once it was noticed"
    );
    world.run(Duration::from_secs(60));
    let failed = |event: &Event| matches!(event, Event::Server { id: Some(id), to: ServerState::Failed | ServerState::Suspect, .. } if id.get() == 2);
    assert!(world.events.iter().any(failed));
}

#[test]
fn a_restarted_server_is_used_again() {
    let mut world = three();
    calls(&mut world, 6);
    world.servers[1].restart();
    let ended = calls(&mut world, 20);
    assert!(
        ended.iter().all(|ended| matches!(ended, Ended::Answered(_))),
        "{ended:?}"
    );
    world.run(Duration::from_secs(30));
    let ended = calls(&mut world, 15);
    assert!(answered_by(&ended, 2) >= 4, "{ended:?}");
}

#[test]
fn a_configured_server_that_was_given_up_is_used_again_when_others_recommend_it() {
    let mut world = World::new(1, 3);
    world.seed(&[0, 1, 2]);
    world.run(Duration::from_secs(2));
    calls(&mut world, 6);
    world.servers[1].alive = false;
    calls(&mut world, 6);
    world.run(Duration::from_secs(60));
    world.servers[1].restart();
    // Two others are homes all the time, so that nothing else would make the edge look for a third.
    world.run(Duration::from_secs(10));
    let ended = calls(&mut world, 15);
    assert!(answered_by(&ended, 2) >= 4, "{ended:?}");
}

#[test]
fn all_servers_gone_and_back() {
    let mut world = three();
    for server in &mut world.servers {
        server.alive = false;
    }
    world.run(Duration::from_secs(60));
    assert!(!world.edge.status().attached);
    let ended = calls(&mut world, 1);
    assert!(matches!(ended[0], Ended::Failed(_)), "{ended:?}");
    for server in &mut world.servers {
        server.restart();
    }
    world.run(Duration::from_secs(10));
    assert!(world.edge.status().attached);
    let ended = calls(&mut world, 9);
    assert!(
        ended.iter().all(|ended| matches!(ended, Ended::Answered(_))),
        "{ended:?}"
    );
}

#[test]
fn the_link_goes_and_comes() {
    let mut world = three();
    world.link_up = false;
    world.edge.handle_link(world.now, false);
    world.run(Duration::from_secs(60));
    world.link_up = true;
    world.edge.handle_link(world.now, true);
    let events = world.events.len();
    let ended = calls(&mut world, 5);
    assert!(
        ended.iter().all(|ended| matches!(ended, Ended::Answered(_))),
        "{ended:?}"
    );
    let accused = |event: &Event| {
        matches!(
            event,
            Event::Server {
                to: ServerState::Suspect | ServerState::Failed,
                ..
            }
        )
    };
    assert!(
        !world.events[events..].iter().any(accused),
        "{:?}",
        &world.events[events..]
    );
}

#[test]
fn whoever_slept_accuses_nobody() {
    let mut world = three();
    calls(&mut world, 3);
    world.run(Duration::from_secs(3));
    let events = world.events.len();
    world.paused = true;
    world.run(Duration::from_secs(60));
    world.paused = false;
    world.run(Duration::from_secs(10));
    let accused = |event: &Event| {
        matches!(
            event,
            Event::Server {
                to: ServerState::Suspect | ServerState::Failed,
                ..
            }
        )
    };
    assert!(
        !world.events[events..].iter().any(accused),
        "{:?}",
        &world.events[events..]
    );
    assert!(world.edge.status().attached);
}

#[test]
fn a_reboot_makes_a_new_session() {
    let mut world = three();
    calls(&mut world, 3);
    world.reboot(&[0]);
    let ended = calls(&mut world, 9);
    assert!(
        ended.iter().all(|ended| matches!(ended, Ended::Answered(_))),
        "{ended:?}"
    );
}

#[test]
fn slow_work_is_waited_for_and_done_once() {
    let mut world = World::new(3, 2);
    world.seed(&[0]);
    world.run(Duration::from_secs(2));
    for server in &mut world.servers {
        server.mood = Mood::Slow(Duration::from_millis(1_500));
    }
    let ended = calls(&mut world, 4);
    assert!(
        ended.iter().all(|ended| matches!(ended, Ended::Answered(_))),
        "{ended:?}"
    );
    let executed: usize = world.servers.iter().map(|server| server.executed.len()).sum();
    assert_eq!(executed, 4, "nobody gave up on a server that said it was working");
}

#[test]
fn full_and_leaving_servers_are_passed_over() {
    let mut world = three();
    world.servers[0].mood = Mood::Full;
    world.servers[1].mood = Mood::Leaving;
    let ended = calls(&mut world, 12);
    assert_eq!(answered_by(&ended, 3), 12, "{ended:?}");
}

#[test]
fn when_all_are_full_the_call_waits_for_a_place() {
    let mut world = three();
    for server in &mut world.servers {
        server.mood = Mood::Full;
    }
    let serial = world.call("echo", BUDGET).unwrap();
    world.run(Duration::from_millis(700));
    for server in &mut world.servers {
        server.mood = Mood::Quick;
    }
    world.run(Duration::from_millis(700));
    assert!(
        matches!(world.ended[&serial], Ended::Answered(_)),
        "{:?}",
        world.ended
    );
}

#[test]
fn a_draining_server_gets_no_new_calls() {
    let mut world = three();
    calls(&mut world, 6);
    world.servers[0].draining = true;
    world.run(Duration::from_secs(12));
    let ended = calls(&mut world, 10);
    assert_eq!(answered_by(&ended, 1), 0, "{ended:?}");
}

#[test]
fn filters_choose_by_tags() {
    let mut world = World::new(4, 3);
    world.servers[0].tags = "zone=eu-1";
    world.servers[1].tags = "zone=eu-2";
    world.servers[2].tags = "zone=eu-2,gpu=1";
    world.seed(&[0]);
    world.run(Duration::from_secs(2));
    world.filter = Filter::parse("zone=eu-2,gpu=1").unwrap();
    let ended = calls(&mut world, 5);
    assert_eq!(answered_by(&ended, 3), 5, "{ended:?}");
    world.filter = Filter::parse("zone=eu-1").unwrap();
    let ended = calls(&mut world, 5);
    assert_eq!(answered_by(&ended, 1), 5, "{ended:?}");
    world.filter = Filter::parse("zone=mars").unwrap();
    let ended = calls(&mut world, 1);
    assert_eq!(ended[0], Ended::Failed(CallError::NoServer(PickError::NoMatch)));
}

#[test]
fn giving_up_tells_the_server() {
    let mut world = three();
    for server in &mut world.servers {
        server.mood = Mood::Slow(Duration::from_secs(1));
    }
    let serial = world.call("echo", BUDGET).unwrap();
    world.run(Duration::from_millis(50));
    world.drop_call(serial);
    world.run(Duration::from_millis(50));
    let cancelled: usize = world.servers.iter().map(|server| server.cancelled).sum();
    assert_eq!(cancelled, 1);
    assert!(world.edge.servers().all(|server| server.own_in_flight == 0));
}

#[test]
fn without_fail_over_no_second_server_is_asked() {
    let mut world = three();
    calls(&mut world, 6);
    for server in &mut world.servers {
        server.alive = false;
    }
    world.fail_over = false;
    let before = world.edge.counters().moved;
    let ended = calls(&mut world, 1);
    assert_eq!(ended[0], Ended::Failed(CallError::Deadline));
    assert_eq!(world.edge.counters().moved, before);
}

#[test]
fn more_calls_than_places_are_refused() {
    let mut world = three();
    for _ in 0..4 {
        assert!(world.call("echo", BUDGET).is_some());
    }
    world.loss = 1_000;
    assert!(world.call("echo", BUDGET).is_none());
    world.run(Duration::from_secs(3));
    assert_eq!(world.ended.len(), 4);
    world.loss = 0;
    assert!(world.call("echo", BUDGET).is_some());
}

#[test]
fn an_idle_edge_is_quiet() {
    let mut world = three();
    world.run(Duration::from_secs(60));
    let before = world.edge.counters().sent;
    world.run(Duration::from_secs(100));
    let sent = world.edge.counters().sent - before;
    assert!(
        (36..=44).contains(&sent),
        "two homes, a heartbeat every 5 s: {sent}"
    );
}

#[test]
fn lost_datagrams_cost_no_call() {
    let mut world = three();
    world.loss = 200;
    world.duplicates = 100;
    let ended = calls(&mut world, 300);
    let answered = ended
        .iter()
        .filter(|ended| matches!(ended, Ended::Answered(_)))
        .count();
    assert!(answered >= 297, "{answered} of 300 at 20 % loss each way");
}

#[test]
fn a_server_that_forgot_is_not_asked_for_ever() {
    let mut world = World::new(5, 1);
    world.seed(&[0]);
    world.run(Duration::from_secs(2));
    world.servers[0].mood = Mood::Forgetful;
    let before = world.edge.counters().requests;
    let ended = calls(&mut world, 1);
    assert_eq!(ended[0], Ended::Failed(CallError::Forgotten));
    assert_eq!(world.edge.counters().requests, before + 1);
}

#[test]
fn a_server_with_only_the_older_key_is_found() {
    let mut world = World::with_older_key(6, 1);
    world.seed(&[0]);
    world.run(Duration::from_secs(20));
    assert!(world.edge.status().attached);
}
