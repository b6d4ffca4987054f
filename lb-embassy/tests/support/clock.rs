//! embassy-time's driver for the tests: virtual time, one clock for each thread.
//!
//! embassy-time has a mock driver, but one for the whole process, and it does not say when the next timer is due.

use std::cell::RefCell;
use std::task::Waker;

use embassy_time_driver::{Driver, time_driver_impl};

#[derive(Default)]
struct Clock {
    now: u64,
    timers: Vec<(u64, Waker)>,
}

thread_local! {
    static CLOCK: RefCell<Clock> = RefCell::default();
}

struct Virtual;

time_driver_impl!(static DRIVER: Virtual = Virtual);

impl Driver for Virtual {
    fn now(&self) -> u64 {
        now()
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        CLOCK.with_borrow_mut(|clock| {
            // As the queues of embassy-time do it: one timer for each task, the earliest it asked for.
            match clock.timers.iter_mut().find(|(_, known)| known.will_wake(waker)) {
                Some((due, _)) => *due = at.min(*due),
                None => clock.timers.push((at, waker.clone())),
            }
        });
    }
}

/// Starts again at time 0, without timers.
pub(crate) fn reset() {
    CLOCK.take();
}

/// Microseconds since the start.
pub(crate) fn now() -> u64 {
    CLOCK.with_borrow(|clock| clock.now)
}

/// When the next timer is due.
pub(crate) fn next() -> Option<u64> {
    CLOCK.with_borrow(|clock| clock.timers.iter().map(|(at, _)| *at).min())
}

/// Moves on to `to` and wakes whose timer is due.
pub(crate) fn advance(to: u64) {
    let due = CLOCK.with_borrow_mut(|clock| {
        clock.now = clock.now.max(to);
        let now = clock.now;
        clock
            .timers
            .extract_if(.., |(at, _)| *at <= now)
            .collect::<Vec<_>>()
    });
    for (_, waker) in due {
        waker.wake();
    }
}
