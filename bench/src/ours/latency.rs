//! Strategies that look at latencies.

use lb_core::pick::{HotCold, PeakEwma};

use super::{Fleet, loaded};
use crate::measure::Contender;

/// The better of two by latency and requests in flight.
#[must_use]
pub fn peak_ewma(n: usize) -> Contender {
    loaded(Fleet::new(n), PeakEwma::default())
}

/// The fastest that is not hot.
#[must_use]
pub fn hot_cold(n: usize) -> Contender {
    loaded(Fleet::new(n), HotCold::default())
}
