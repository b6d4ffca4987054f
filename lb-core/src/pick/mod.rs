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
//! | [`Adaptive`] | reports, own requests, failures | the default: near-optimal however old reports are |
//! | [`Corrected`] | reports, own requests | few servers, few clients; a microcontroller |
//! | [`LeastConnections`], [`LoadBuckets`] | own requests | you send most of the traffic, or nobody reports |
//! | [`WeightedLeast`] | own requests, weights | likewise, with shares to keep |
//! | [`Choices`] | a few candidates | to do as tower, Envoy and gRPC do |
//! | [`PeakEwma`] | own latencies | latency tells servers apart, and nobody reports |
//! | [`HotCold`] | reports, latencies | to do as Prequal does |
//! | [`RoundRobin`], [`Random`] | nothing | equal workers, equal requests |
//! | [`SmoothWeighted`], [`StaticStride`], [`WeightedRandom`] | weights | exact shares |
//! | [`Rendezvous`], [`Maglev`], [`Ring`], [`Ketama`] | keys | equal keys to the same worker |
//! | [`Bounded`] | keys, own requests | likewise, and hot keys must not overload it |
//! | [`FirstFit`] | own requests, capacities | few busy, the others free to be switched off |
//! | [`Hybrid`] | reports | placing long-lived work; herds when reports are old |
//!
//! [`AnyStrategy`] is any of them by name. Those with a table keep it in the caller's memory and make it in bounded
//! steps, see [`Tabled`].
//!
//! # Around any strategy
//!
//! | | what it does | where it goes |
//! | --- | --- | --- |
//! | [`Tiers`] | priority levels: overprovisioning, panic | draws the level; a picker with a strategy for each |
//! | [`zone_aware`], [`load_aware`] | the own zone first | [`Shares`] of zones, drawn likewise |
//! | [`SlowStarting`] | eases newcomers in | around the strategy |
//! | [`Without`] | not what was tried, not who is late ([`answer_us`]) | around the pool |
//! | [`sticky`] | to where the request was told to go | in place of `pick` |
//! | [`PickError`], [`PickCounters`] | why not, and how often | in the owner |
//!
//! Shares are computed when the membership changes; a pick draws. `tests/around.rs` in the repository has all of it in one
//! picker.

mod adaptive;
mod affine;
mod alias;
mod any;
mod bounded;
mod buckets;
mod choices;
mod corrected;
mod counters;
mod coverage;
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
mod shares;
mod shed;
mod slow_start;
mod smooth;
mod sticky;
mod stride;
pub mod subset;
mod tiers;
mod weighted_least;
mod weights;
mod without;
mod xxh64;
mod zones;

pub use adaptive::Adaptive;
pub use alias::WeightedRandom;
pub use any::{AnyStrategy, StrategyKind, UnknownStrategy};
pub use bounded::{Bounded, Overflow};
pub use buckets::LoadBuckets;
pub use choices::{By, Choices};
pub use corrected::Corrected;
pub use counters::PickCounters;
pub use coverage::coverage;
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
pub use pool::{CachePool, Glance, Load, Pool, SLOTS_MAX, SlicePool, SlotSet};
pub use random::Random;
pub use rendezvous::Rendezvous;
pub use ring::{Ring, RingSize};
pub use round_robin::RoundRobin;
pub use shares::{SHARES_WHOLE, Shares};
pub use shed::{Found, PickError, answer_us};
pub use slow_start::{Aggression, SlowStart, SlowStarting};
pub use smooth::SmoothWeighted;
pub use sticky::{Fallback, Stuck, find, sticky};
pub use stride::StaticStride;
pub use tiers::{TierGroup, TierHealth, TierRules, Tiers};
pub use weighted_least::{Bias, WeightedLeast};
pub use without::{Tried, Without};
pub use xxh64::key_hash;
pub use zones::{SpillRules, ZoneCounts, ZoneLoad, ZoneRules, load_aware, zone_aware};

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
