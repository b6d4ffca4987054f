//! Strategies: rules that pick one endpoint of a pool.
//!
//! A [`Strategy`] reads a [`Pool`]: which slots are eligible, as words of bits, and what is known of their
//! load. It never learns where that comes from, so the same strategies run over a [`crate::Node`], a plain
//! [`crate::load::LoadCache`] ([`CachePool`]), atomics, or a simulator. A strategy's state (a rotation's
//! position) belongs to one filter: keep one picker per filter, or alternating filters disturb each other.
//!
//! | strategy | reads | choose it when |
//! | --- | --- | --- |
//! | [`Corrected`] | reports, own requests | the default: load differs and reports are up to a heartbeat old |
//! | [`LeastConnections`] | own requests | one client sends most of the traffic, or nobody reports |
//! | [`RoundRobin`] | nothing | equal workers, equal requests |
//! | [`Random`] | nothing | many clients that must not fall into step |
//! | [`Hybrid`] | reports | compatibility; placing long-lived work; herds when reports are old |

mod any;
mod corrected;
mod crc32;
mod double;
mod hybrid;
mod least_connections;
mod pool;
mod random;
mod round_robin;
mod xxh64;

pub use any::{AnyStrategy, StrategyKind, UnknownStrategy};
pub use corrected::Corrected;
pub use crc32::crc32;
pub use hybrid::Hybrid;
pub use least_connections::LeastConnections;
pub use pool::{CachePool, Load, Pool, SLOTS_MAX, SlotSet, eligible};
pub use random::Random;
pub use round_robin::RoundRobin;
pub use xxh64::key_hash;

use crate::rng::Rng;

/// A rule that picks one endpoint, with its state.
///
/// Laws, tested for every strategy: only an eligible slot is picked; `None` only when none is eligible; the
/// same state, pool and random words give the same pick; no allocation, no panic.
pub trait Strategy {
    /// A slot of the pool, or `None` when no slot is eligible.
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(&mut self, pool: &P, rng: &mut R) -> Option<usize>;
}
