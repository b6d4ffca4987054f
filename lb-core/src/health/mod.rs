//! Failure detection: silence measured against deadlines.

mod detector;
mod timers;

pub use detector::{Detector, Verdict};
pub use timers::{HEARTBEAT_MIN, TIMEOUT_MAX, Timers, TimersError};
