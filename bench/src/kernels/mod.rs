//! The kernels: for each strategy the least code that does what the rule needs, over arrays of the right shape.
//!
//! A kernel has no trait, no eligibility, no version, no error: it says what the rule costs on this machine, today,
//! next to what ours costs. It is not a strawman either: it does all of the rule (ties take turns, the two of a
//! choice differ, a draw is unbiased where the rule's is), keeps its state as a program would, and is vectorised
//! wherever the compiler sees how.
//!
//! Random numbers come from the same generator as ours, and what changes from pick to pick (requests in flight)
//! changes in the same way.

pub mod adaptive;
pub mod affinity;
pub mod chance;
pub mod latency;
pub mod load;
pub mod report;
pub mod rotation;

use lb_core::rng::{Rng, Sfc32};

use crate::measure::Contender;

fn kernel(pick: impl FnMut(u64) -> usize + 'static) -> Contender {
    Contender::new("kernel", pick)
}

/// A number in `0..bound`, with a bias that nobody could measure: the multiply and the shift of Lemire's method.
fn below(rng: &mut Sfc32, bound: usize) -> usize {
    ((u64::from(rng.next_u32()) * bound as u64) >> 32) as usize
}

/// Two different numbers in `0..bound`, every pair with the same chance; the same twice when there is one only.
fn two_below(rng: &mut Sfc32, bound: usize) -> (usize, usize) {
    let first = below(rng, bound);
    let other = below(rng, bound - 1);
    (
        first,
        if other >= first && bound > 1 {
            other + 1
        } else {
            other
        },
    )
}
