//! Futures that are dropped, wherever they stand, and futures that nobody polls.
#![allow(missing_docs)]

mod support;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use embassy_time::{Duration, Timer};
use lb_embassy::CallError;

use support::gone::drop_after;
use support::hub::Faults;
use support::orchard::{CALLS, Orchard, check};

#[test]
fn a_call_may_be_dropped_at_each_poll() {
    for method in ["who", "slow"] {
        let (mut orchard, site) = Orchard::attached(1);
        let mut finished = false;
        for polls in 0.. {
            let handle = site.handle;
            let ended = orchard.world.wait(5_000, async move {
                let mut out = [0; 8];
                drop_after(
                    handle.call(method, &[0, 100], &mut out, Duration::from_secs(3)),
                    polls,
                )
                .await
            });
            let ended = ended.expect("neither dropped nor ended");
            check(
                &mut orchard,
                &site,
                &format!("{method} dropped after {polls} polls"),
            );
            if let Some(answer) = ended {
                answer.unwrap();
                assert!(polls > 2, "it is polled more than once");
                finished = true;
                break;
            }
        }
        assert!(finished);
    }
}

#[test]
fn a_call_may_be_dropped_at_each_moment() {
    let (mut orchard, site) = Orchard::attached(2);
    orchard.world.hub.set_faults(Faults {
        delay: (900, 1_100),
        ..Faults::NONE
    });
    for micros in (0..4_000).step_by(100) {
        let handle = site.handle;
        orchard.world.wait(5_000, async move {
            let mut out = [0; 8];
            let mut call = pin!(handle.call("who", b"", &mut out, Duration::from_secs(3)));
            let mut timer = pin!(Timer::after_micros(micros));
            poll_fn(|cx| {
                if call.as_mut().poll(cx).is_ready() || timer.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                Poll::Pending
            })
            .await;
        });
        check(&mut orchard, &site, &format!("dropped after {micros} us"));
    }
}

#[test]
fn a_server_is_told_of_a_dropped_call() {
    let (mut orchard, site) = Orchard::attached(3);
    let handle = site.handle;
    let task = orchard.world.spawn(async move {
        let mut out = [0; 8];
        let asked = handle.call("slow", &[20, 0], &mut out, Duration::from_secs(10));
        let _ = asked.await;
    });
    orchard.world.run_for(100);
    assert_eq!(orchard.log.borrow().executed.len(), 1);
    assert_eq!(orchard.log.borrow().cancelled, 0);
    orchard.world.kill(task);
    orchard.world.run_for(100);
    assert_eq!(orchard.log.borrow().cancelled, 1);
}

#[test]
fn the_task_may_be_dropped_at_each_poll() {
    let (mut orchard, mut site) = Orchard::attached(4);
    for polls in 0..30 {
        orchard.world.kill(site.task);
        let edge = Rc::clone(&site.edge);
        #[expect(
            clippy::await_holding_refcell_ref,
            reason = "the task is its only user while it runs"
        )]
        let task = orchard.world.spawn(async move {
            drop_after(async { edge.borrow_mut().run().await }, polls).await;
        });
        let result = Rc::new(Cell::new(None));
        let (handle, slot) = (site.handle, Rc::clone(&result));
        orchard.world.spawn(async move {
            let mut out = [0; 8];
            let asked = handle.call("who", b"", &mut out, Duration::from_secs(3));
            slot.set(Some(asked.await));
        });
        orchard.world.run_for(20);
        // Whatever it had come to, the next run takes over.
        orchard.world.kill(task);
        site.task = orchard.run(&site.edge);
        assert!(orchard.world.run_until(3_100, || result.get().is_some()));
        assert!(
            matches!(result.get(), Some(Ok(_))),
            "dropped after {polls} polls: {result:?}"
        );
        check(&mut orchard, &site, &format!("run dropped after {polls} polls"));
    }
}

#[test]
fn without_its_task_an_edge_keeps_deadlines() {
    let (mut orchard, mut site) = Orchard::attached(5);
    orchard.world.kill(site.task);
    for _ in 0..3 {
        let refused = orchard.call(&site, "who", b"", 500).unwrap_err();
        assert!(
            matches!(refused, CallError::Deadline | CallError::NoServer(_)),
            "{refused}"
        );
    }
    orchard.world.run_for(60_000);
    site.task = orchard.run(&site.edge);
    orchard.call(&site, "who", b"", 3_000).unwrap();
    orchard.world.run_for(5_000);
    check(&mut orchard, &site, "a minute without a task");
}

#[test]
fn a_call_that_nobody_polls_holds_up_nobody_for_long() {
    let (mut orchard, site) = Orchard::attached(6);
    let handle = site.handle;
    let result = Rc::new(Cell::new(None));
    let slot = Rc::clone(&result);
    orchard.world.spawn(async move {
        let mut out = [0; 8];
        let mut call = handle.call("who", b"", &mut out, Duration::from_secs(5));
        // Polled once, so that the request is sent, and not again for two seconds.
        poll_fn(|cx| {
            assert!(Pin::new(&mut call).poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        Timer::after_secs(2).await;
        slot.set(Some(call.await));
    });
    orchard.world.run_for(10);
    orchard.call(&site, "who", b"", 500).unwrap();
    check(&mut orchard, &site, "while it is not polled");
    orchard.world.run_for(2_000);
    assert_eq!(result.get(), Some(Err(CallError::NotPolled)));
    check(&mut orchard, &site, "after it was not polled");
}

/// A core that is busy elsewhere, such as erasing flash, is not the fault of whoever it did not poll meanwhile.
#[test]
fn an_answer_survives_a_pause_of_everything() {
    let (mut orchard, site) = Orchard::attached(7);
    let handle = site.handle;
    let result = Rc::new(Cell::new(None));
    let slot = Rc::clone(&result);
    // Spawned after the edge's task, and so polled after it.
    orchard.world.spawn(async move {
        let mut out = [0; 8];
        slot.set(Some(
            handle
                .call("slow", &[0, 10], &mut out, Duration::from_secs(5))
                .await,
        ));
    });
    orchard.world.run_for(5);
    // The answer arrives in the middle of a second in which nobody is polled.
    support::clock::advance(support::clock::now() + 1_000_000);
    assert!(orchard.world.run_until(100, || result.get().is_some()));
    assert!(matches!(result.get(), Some(Ok(_))), "{result:?}");
}

/// A server's `HELLO` is due while the stack keeps back what was sent before it, and time passes by.
#[test]
fn what_is_due_behind_a_stuck_datagram_is_no_busy_loop() {
    let mut orchard = Orchard::new(7, 2, &[]);
    let site = orchard.edge(0, &[1]);
    assert!(orchard.attach(&site, 10_000));
    let handle = site.handle;
    orchard.world.spawn(async move {
        let mut out = [0; 8];
        let asked = handle.call("slow", &[0, 10], &mut out, Duration::from_secs(5));
        asked.await.unwrap();
    });
    orchard.world.run_for(5);
    support::clock::advance(support::clock::now() + 1_000_000);
    // The world panics when tasks wake each other without end.
    orchard.world.run_for(5_000);
    check(&mut orchard, &site, "a pause behind a stuck datagram");
}

/// A future that is gone must not be woken in place of one that is there.
#[test]
fn dropped_calls_leave_their_places_to_be_woken() {
    let (mut orchard, site) = Orchard::attached(8);
    for _ in 0..CALLS {
        let handle = site.handle;
        orchard.world.spawn(async move {
            let mut out = [0; 8];
            drop_after(handle.call("who", b"", &mut out, Duration::from_secs(3)), 1).await;
        });
    }
    let done = Rc::new(Cell::new(0));
    for _ in 0..CALLS {
        let (handle, done) = (site.handle, Rc::clone(&done));
        orchard.world.spawn(async move {
            let mut out = [0; 8];
            let asked = handle.call("who", b"", &mut out, Duration::from_secs(3));
            asked.await.unwrap();
            done.set(done.get() + 1);
        });
    }
    // Long before a request would be repeated.
    orchard.world.run_for(20);
    assert_eq!(done.get(), CALLS);
}
