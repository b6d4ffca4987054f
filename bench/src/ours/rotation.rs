//! Rotations and draws.

use lb_core::pick::{Random, RoundRobin, SmoothWeighted, StaticStride, WeightedRandom};

use super::{Fleet, blind, tabled};
use crate::measure::Contender;

/// Each in turn.
#[must_use]
pub fn round_robin(n: usize) -> Contender {
    blind(Fleet::new(n), RoundRobin::new())
}

/// Any of them.
#[must_use]
pub fn random(n: usize) -> Contender {
    blind(Fleet::new(n), Random)
}

/// By weight, in nginx's order.
#[must_use]
pub fn smooth(n: usize) -> Contender {
    let turns = 8 * n;
    let memory = vec![0; SmoothWeighted::<()>::words(n, turns)];
    tabled(
        Fleet::weighted(n),
        SmoothWeighted::new(memory, n).expect("enough memory"),
    )
}

/// By weight, by strides.
#[must_use]
pub fn stride(n: usize) -> Contender {
    let memory = vec![0; StaticStride::<()>::words(n)];
    tabled(
        Fleet::weighted(n),
        StaticStride::new(memory).expect("enough memory"),
    )
}

/// By weight, at random.
#[must_use]
pub fn alias(n: usize) -> Contender {
    let memory = vec![0; WeightedRandom::<()>::words(n)];
    tabled(
        Fleet::weighted(n),
        WeightedRandom::new(memory).expect("enough memory"),
    )
}
