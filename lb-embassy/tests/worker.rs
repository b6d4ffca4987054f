//! A cluster of nothing but microcontrollers.
#![allow(missing_docs)]

mod support;

use std::rc::Rc;

use lb_embassy::CallError;

use support::hub::Faults;
use support::orchard::{EdgeSite, Orchard, WorkerSite};

/// Two workers, two edges that know both, everybody attached.
fn orchard(seed: u64) -> (Orchard, [WorkerSite; 2], [EdgeSite; 2]) {
    let mut orchard = Orchard::new(seed, 0, &[]);
    let workers = [orchard.worker(1), orchard.worker(2)];
    let edges = [orchard.edge(0, &[1, 2]), orchard.edge(1, &[2, 1])];
    for edge in &edges {
        assert!(orchard.attach(edge, 10_000));
    }
    orchard.world.run_for(10_000);
    (orchard, workers, edges)
}

#[test]
fn microcontrollers_serve_microcontrollers() {
    let (mut orchard, _, edges) = orchard(1);
    for edge in &edges {
        assert_eq!(edge.handle.status().sessions, 2);
        let who = orchard.call(edge, "who", b"", 1_000).unwrap();
        assert_eq!(u32::from(who.0[0]), who.1.server.get());
        let mut refused = |method, body: &[u8]| orchard.call(edge, method, body, 1_000).unwrap_err();
        assert_eq!(refused("fly", b""), CallError::UnknownMethod);
        assert_eq!(refused("refuse", b""), CallError::Handler { len: 13 });
        let size = 5_000_u32;
        assert_eq!(
            refused("big", &size.to_be_bytes()),
            CallError::ResponseTooLarge { size }
        );
        let size = 400_u32;
        assert_eq!(
            orchard
                .call(edge, "big", &size.to_be_bytes(), 1_000)
                .unwrap()
                .0
                .len(),
            400
        );
    }
    let executed = &orchard.log.borrow().executed;
    assert!(executed.iter().any(|(_, from, _)| *from == 101));
    assert!(executed.iter().any(|(_, from, _)| *from == 102));
}

#[test]
fn a_worker_that_dies_is_left_and_one_that_returns_is_used() {
    let (mut orchard, workers, edges) = orchard(2);
    orchard.pull(workers[0].port, false);
    for _ in 0..20 {
        for edge in &edges {
            assert_eq!(orchard.call(edge, "who", b"", 3_000).unwrap().0, [2]);
        }
    }
    orchard.world.run_for(90_000);
    for edge in &edges {
        assert_eq!(orchard.call(edge, "who", b"", 3_000).unwrap().0, [2]);
    }
    orchard.pull(workers[0].port, true);
    orchard.pull(workers[1].port, false);
    orchard.world.run_for(30_000);
    for edge in &edges {
        assert_eq!(orchard.call(edge, "who", b"", 3_000).unwrap().0, [1]);
    }
}

#[test]
fn a_worker_executes_a_call_once_whatever_is_lost() {
    let (mut orchard, _, edges) = orchard(3);
    orchard.world.hub.set_faults(Faults {
        loss: 200,
        duplication: 50,
        delay: (200, 3_000),
    });
    for number in 1..=100_u32 {
        let answer = orchard.call(&edges[0], "who", &number.to_be_bytes(), 5_000);
        answer.unwrap_or_else(|error| panic!("call {number}: {error}"));
    }
    let executed = orchard.log.borrow().executed.clone();
    let mut once = executed.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), executed.len());
}

#[test]
fn a_worker_may_be_stopped_and_run_again() {
    let (mut orchard, mut workers, edges) = orchard(4);
    for _ in 0..5 {
        for (host, site) in [1, 2].into_iter().zip(&mut workers) {
            orchard.world.kill(site.task);
            orchard.world.run_for(50);
            let worker = Rc::clone(&site.worker);
            site.task = orchard.serve(host, &worker);
            for edge in &edges {
                orchard.call(edge, "who", b"", 3_000).unwrap();
            }
        }
    }
    let handshakes = edges[0].handle.counters().handshakes;
    assert_eq!(handshakes, 2, "the sessions are still good");
}

/// A worker answers whoever asks, and an edge that is gone must not keep all others waiting.
#[test]
fn an_edge_that_vanishes_does_not_stop_a_worker() {
    let (mut orchard, workers, edges) = orchard(5);
    orchard.pull(workers[1].port, false);
    orchard.pull(edges[1].port, false);
    orchard.world.run_for(90_000);
    for _ in 0..50 {
        assert_eq!(orchard.call(&edges[0], "who", b"", 1_000).unwrap().0, [1]);
        orchard.world.run_for(500);
    }
}

#[test]
fn a_guest_too_many_gets_the_place_of_one_that_is_gone() {
    let (mut orchard, _, edges) = orchard(6);
    let third = orchard.edge(2, &[1, 2]);
    assert!(!orchard.attach(&third, 10_000), "there is room for two");
    orchard.pull(edges[1].port, false);
    assert!(orchard.attach(&third, 60_000));
    orchard.call(&third, "who", b"", 1_000).unwrap();
}
