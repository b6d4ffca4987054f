//! embassy-time, in one place.

use core::future::Future;
use core::pin::Pin;
use core::task::Context;

use embassy_time::Timer;
use lb_core::{Duration, Instant};

/// Nobody sleeps longer: it keeps the conversion to ticks far from its limits, and costs a wake-up a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// Now, as the core has it: since embassy-time's start.
#[must_use]
pub fn now() -> Instant {
    Instant::from_micros(embassy_time::Instant::now().as_micros())
}

/// Longer spans are as good as this one, and it can be converted at every tick rate.
const FOR_EVER: embassy_time::Duration = embassy_time::Duration::from_secs(1 << 28);

/// A span of time as the core has it.
pub(crate) fn span(of: embassy_time::Duration) -> Duration {
    Duration::from_micros(of.min(FOR_EVER).as_micros())
}

/// Wakes the task at `at`, or up to a tick later; before that if it is far away.
///
/// Whoever waits calls this on each poll. Nothing has to be kept for it, and a forgotten one costs a poll.
pub(crate) fn wake_at(cx: &mut Context<'_>, at: Instant) {
    let micros = at.since(now()).min(LONGEST).as_micros();
    // Conversions cut off, and a timer that is early by less than a tick would be set again and again.
    let span = embassy_time::Duration::from_micros(micros) + embassy_time::Duration::from_ticks(1);
    // The first poll of a timer enters it in the queue and is always pending.
    let _ = Pin::new(&mut Timer::after(span)).poll(cx);
}
