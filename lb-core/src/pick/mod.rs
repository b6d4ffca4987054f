//! Strategies: rules that pick one endpoint of a pool.
//!
//! A [`Strategy`] reads a [`Pool`]: which slots are candidates, and what is known of their load. It never learns
//! where that comes from, so the same strategies run over a [`crate::Node`], a plain
//! [`crate::load::LoadCache`] ([`CachePool`]), slices ([`SlicePool`]), atomics, or a simulator. A strategy's state
//! (a rotation's position, a table) belongs to one filter: keep one picker per filter, or alternating filters
//! disturb each other.
//!
//! | strategy | reads | choose it when |
//! | --- | --- | --- |
//! | [`Corrected`] | reports, own requests | the default: load differs and reports are up to a heartbeat old |
//! | [`LeastConnections`] | own requests | one client sends most of the traffic, or nobody reports |
//! | [`RoundRobin`] | nothing | equal workers, equal requests |
//! | [`Random`] | nothing | many clients that must not fall into step |
//! | [`Hybrid`] | reports | compatibility; placing long-lived work; herds when reports are old |

mod adaptive;
mod affine;
mod alias;
mod any;
mod bounded;
mod buckets;
mod choices;
mod corrected;
mod crc32;
mod double;
mod estimate;
mod explain;
mod first_fit;
mod halves;
mod heapsort;
mod hot_cold;
mod hybrid;
mod ketama;
mod latency;
mod least_connections;
mod logarithm;
mod maglev;
mod order;
mod points;
mod pool;
mod random;
mod reach;
mod rendezvous;
mod ring;
mod round_robin;
mod smooth;
mod stride;
pub mod subset;
mod weighted_least;
mod weights;
mod xxh64;

pub use adaptive::Adaptive;
pub use alias::WeightedRandom;
pub use any::{AnyStrategy, StrategyKind, UnknownStrategy};
pub use bounded::{Bounded, Overflow};
pub use buckets::LoadBuckets;
pub use choices::{By, Choices};
pub use corrected::Corrected;
pub use crc32::crc32;
pub use explain::{CONSIDERED_MAX, Considered, Explanation, Reason, Rung};
pub use first_fit::FirstFit;
pub use halves::MemoryTooSmall;
pub use hot_cold::HotCold;
pub use hybrid::Hybrid;
pub use ketama::Ketama;
pub use latency::PeakEwma;
pub use least_connections::LeastConnections;
pub use maglev::{Maglev, MaglevError};
pub use pool::{CachePool, Load, Pool, SLOTS_MAX, SlicePool, SlotSet};
pub use random::Random;
pub use rendezvous::Rendezvous;
pub use ring::{Ring, RingSize};
pub use round_robin::RoundRobin;
pub use smooth::SmoothWeighted;
pub use stride::StaticStride;
pub use weighted_least::{Bias, WeightedLeast};
pub use xxh64::key_hash;

use crate::rng::Rng;

/// A rule that picks one endpoint, with its state.
///
/// Laws, tested for every strategy: only an admitted slot is picked; `None` only when none is admitted; the same
/// state, pool, key and random words give the same pick; no allocation, no panic.
pub trait Strategy {
    /// A slot of the pool, or `None` when no slot is admitted.
    ///
    /// `key` is the hash of what requests that belong together share (a user, a session). Affine strategies send
    /// equal keys to the same slot and draw one for a request without; all others ignore it.
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize>;

    /// A request of ours ended at this slot. Strategies that do not count themselves need not be told, but some
    /// choose better if they are.
    fn ended(&mut self, slot: usize) {
        let _ = slot;
    }
}

/// What a strategy keeps of the pool's candidates besides its state: a table, or nothing.
pub trait Tabled {
    /// Brings the table to the pool's [version](Pool::version) with at most `budget` units of work, each about one
    /// entry of the table; whether it is there. Until then picks use the former table.
    ///
    /// To be called by the picker's owner until it returns `true`, whenever the version has changed.
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let _ = (pool, budget);
        true
    }
}

impl Tabled for RoundRobin {}
impl Tabled for Random {}
impl Tabled for LeastConnections {}
impl<S> Tabled for WeightedLeast<S> {}
impl Tabled for Choices {}
impl Tabled for PeakEwma {}
impl Tabled for HotCold {}
impl Tabled for Corrected {}
impl Tabled for Hybrid {}
impl Tabled for FirstFit {}
