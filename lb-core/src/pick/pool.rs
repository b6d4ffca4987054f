//! What a strategy may look at: eligible slots as bits, and their load.

use crate::load::{LoadCache, LoadFigures};
use crate::time::Instant;

/// Most slots a [`SlotSet`] can name.
pub const SLOTS_MAX: usize = 1_024;

const WORD: usize = u32::BITS as usize;

/// What is known of the load of one slot.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Load {
    /// What its last report says, if that may still be used.
    pub report: Option<LoadFigures>,
    /// How old that report is, in milliseconds; 0 without one.
    pub age_ms: u32,
    /// Our own requests there now.
    pub own_in_flight: u32,
    /// Our own requests there when the report was made.
    pub own_at_report: u32,
    /// Latency of our own requests there, in microseconds: a peak-sensitive mean with penalties for failures,
    /// projected to now; 0 when nothing was measured.
    pub own_latency_us: u32,
    /// How many of our own requests there failed lately, in 255ths.
    pub failing: u8,
}

impl Load {
    /// What a cache knows of a slot now.
    pub(crate) fn cached<const N: usize>(cache: &LoadCache<N>, slot: usize, now: Instant) -> Self {
        let Some(endpoint) = cache.get(slot) else {
            return Self::default();
        };
        let fresh = cache.fresh(slot, now);
        Self {
            report: fresh.map(|cached| cached.report().figures()),
            age_ms: fresh.map_or(0, |cached| cached.age(now).as_millis_u32()),
            own_in_flight: endpoint.own_in_flight(),
            own_at_report: endpoint.own_at_report(),
            own_latency_us: endpoint.own_latency().latency_us(now),
            failing: endpoint.own_latency().failing(now),
        }
    }
}

/// What a corrected estimate is made of: the part of a [`Load`] that most picks need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Glance {
    /// Requests in flight and clients as reported, if the report may still be used.
    pub reported: Option<(u16, u16)>,
    /// [`Load::own_in_flight`].
    pub own_in_flight: u32,
    /// [`Load::own_at_report`].
    pub own_at_report: u32,
    /// [`Load::failing`].
    pub failing: u8,
}

impl From<Load> for Glance {
    #[inline]
    fn from(load: Load) -> Self {
        Self {
            reported: load.report.map(|report| (report.in_flight, report.clients)),
            own_in_flight: load.own_in_flight,
            own_at_report: load.own_at_report,
            failing: load.failing,
        }
    }
}

/// The endpoints a strategy picks from.
///
/// A *slot* is where an endpoint is, at most [`u16::MAX`]. A *candidate* is a slot of the picker's set: alive,
/// open, matching its filter. Tables are made of candidates. [`admits`](Self::admits) narrows that for one pick
/// (not full, not tried already), and no table is made anew for it.
pub trait Pool {
    /// How many candidates there are.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slot of a candidate, counted from 0 in ascending order; [`usize::MAX`] past the last.
    fn slot(&self, index: usize) -> usize;

    /// The slots of all candidates, ascending.
    fn slots(&self) -> impl Iterator<Item = usize>;

    /// Whether this slot is a candidate and may be picked now.
    fn admits(&self, slot: usize) -> bool;

    /// What is known of a slot; the default when nothing is.
    fn load(&self, slot: usize) -> Load;

    /// What a corrected estimate of a slot is made of, for pools that have it cheaper than all of the load.
    #[inline]
    fn glance(&self, slot: usize) -> Glance {
        self.load(slot).into()
    }

    /// [`Load::own_in_flight`] of a slot, for scans that need nothing else.
    fn own_in_flight(&self, slot: usize) -> u32 {
        self.load(slot).own_in_flight
    }

    /// The sum of [`own_in_flight`](Self::own_in_flight) over all candidates, for bounded loads. O(candidates) unless
    /// the pool keeps it.
    fn total_in_flight(&self) -> u32 {
        self.slots()
            .map(|slot| self.own_in_flight(slot))
            .fold(0, u32::saturating_add)
    }

    /// How much a candidate should get compared with the others. 0: nothing, unless all have 0.
    fn weight(&self, slot: usize) -> u16 {
        let _ = slot;
        1
    }

    /// What a candidate is called wherever it is: affine strategies hash it.
    fn name(&self, slot: usize) -> impl AsRef<[u8]>;

    /// Changes whenever candidates come or go, move to other slots, or change names or weights.
    fn version(&self) -> u32 {
        0
    }
}

/// A set of slots below [`SLOTS_MAX`], 128 bytes.
///
/// ```
/// use lb_core::pick::SlotSet;
/// let mut set = SlotSet::new();
/// assert!(set.insert(33));
/// assert!(!set.insert(5_000), "above SLOTS_MAX: refused");
/// assert_eq!((set.word(1), set.len()), (2, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SlotSet {
    words: [u32; SLOTS_MAX / WORD],
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::new()
    }
}

impl SlotSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            words: [0; SLOTS_MAX / WORD],
        }
    }

    /// Adds a slot; `false` when it is not below [`SLOTS_MAX`], and nothing changed.
    pub fn insert(&mut self, slot: usize) -> bool {
        match self.words.get_mut(slot / WORD) {
            Some(word) => {
                *word |= 1 << (slot % WORD);
                true
            }
            None => false,
        }
    }

    /// Removes a slot.
    pub fn remove(&mut self, slot: usize) {
        if let Some(word) = self.words.get_mut(slot / WORD) {
            *word &= !(1 << (slot % WORD));
        }
    }

    /// 32 slots as bits, the lowest slot in the lowest bit.
    #[must_use]
    #[inline]
    pub fn word(&self, index: usize) -> u32 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// Whether a slot is in it.
    #[must_use]
    #[inline]
    pub fn contains(&self, slot: usize) -> bool {
        self.word(slot / WORD) >> (slot % WORD) & 1 == 1
    }

    /// The slots, ascending. O([`SLOTS_MAX`] / 32 + slots).
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.words
            .iter()
            .enumerate()
            .flat_map(|(index, &word)| bits(index, word))
    }

    /// The `n`-th slot, from 0, or [`usize::MAX`]. O([`SLOTS_MAX`] / 32).
    #[must_use]
    pub fn nth(&self, mut n: usize) -> usize {
        for (index, &word) in self.words.iter().enumerate() {
            let here = word.count_ones() as usize;
            if n < here {
                return bits(index, word).nth(n).unwrap_or(usize::MAX);
            }
            n = n.saturating_sub(here);
        }
        usize::MAX
    }

    /// How many slots are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words
            .iter()
            .fold(0, |sum, word| sum.saturating_add(word.count_ones() as usize))
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }
}

/// The slots that the bits of a word stand for.
fn bits(index: usize, mut word: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word.wrapping_sub(1);
        Some(index.saturating_mul(WORD).saturating_add(bit))
    })
}

/// The first admitted candidate from this one on, by index, then from the beginning: what every pick ends with
/// that found the slot of its choice closed. O(candidates).
pub(super) fn scan_from<P: Pool + ?Sized>(pool: &P, index: usize) -> Option<usize> {
    let admitted = |&slot: &usize| pool.admits(slot);
    let all = 0..pool.len();
    let later = all.clone().skip(index).map(|index| pool.slot(index));
    let earlier = all.take(index).map(|index| pool.slot(index));
    later.chain(earlier).find(admitted)
}

/// The slots of a [`LoadCache`] that are in a set, as they look now: for users of the balancer without a
/// [`crate::Node`].
///
/// ```
/// use lb_core::load::{LoadCache, LoadReport};
/// use lb_core::pick::{CachePool, Corrected, SlotSet, Strategy};
/// use lb_core::rng::Sfc32;
/// use lb_core::{Duration, Instant, NodeId};
///
/// let now = Instant::from_secs(1);
/// let mut cache: LoadCache<8> = LoadCache::new(Duration::from_secs(10), Duration::from_secs(15));
/// let mut eligible = SlotSet::new();
/// for (id, in_flight) in [(1, 9), (2, 4)] {
///     cache.record(now, NodeId::new(id), LoadReport { in_flight, ..LoadReport::default() })?;
///     eligible.insert(cache.slot_of(NodeId::new(id)).unwrap());
/// }
/// let mut strategy = Corrected::default();
/// let slot = strategy.pick(&CachePool::new(&cache, &eligible, now), None, &mut Sfc32::new(1)).unwrap();
/// assert_eq!(cache.get(slot).unwrap().id(), NodeId::new(2));
/// # Ok::<(), lb_core::load::CacheFull>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CachePool<'a, const N: usize> {
    cache: &'a LoadCache<N>,
    eligible: &'a SlotSet,
    now: Instant,
}

impl<'a, const N: usize> CachePool<'a, N> {
    /// The cache at this moment. Slots that the cache does not have are not eligible.
    #[must_use]
    pub const fn new(cache: &'a LoadCache<N>, eligible: &'a SlotSet, now: Instant) -> Self {
        Self { cache, eligible, now }
    }
}

impl<const N: usize> Pool for CachePool<'_, N> {
    #[inline]
    fn len(&self) -> usize {
        self.slots().count()
    }

    #[inline]
    fn slot(&self, index: usize) -> usize {
        self.slots().nth(index).unwrap_or(usize::MAX)
    }

    #[inline]
    fn slots(&self) -> impl Iterator<Item = usize> {
        let known = self.cache.endpoints().len();
        self.eligible.iter().take_while(move |&slot| slot < known)
    }

    #[inline]
    fn admits(&self, slot: usize) -> bool {
        slot < self.cache.endpoints().len() && self.eligible.contains(slot)
    }

    #[inline]
    fn load(&self, slot: usize) -> Load {
        Load::cached(self.cache, slot, self.now)
    }

    #[inline]
    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        let id = self.cache.get(slot).map_or(0, |endpoint| endpoint.id().get());
        id.to_be_bytes()
    }
}

/// A pool of the caller's own tables, for balancers without a [`crate::Node`]. All but `candidates` and `admitted`
/// are by slot; what is missing in a table is 0, and 1 for a weight.
///
/// ```
/// use lb_core::pick::{LeastConnections, SlicePool, Strategy};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     own_in_flight: &[4, 2, 9],
///     ..SlicePool::default()
/// };
/// assert_eq!(LeastConnections::default().pick(&pool, None, &mut Sfc32::new(1)), Some(1));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SlicePool<'a> {
    /// The candidates' slots, ascending.
    pub candidates: &'a [u16],
    /// Which of them may be picked now, as bits: slot 0 is the lowest bit of the first word.
    pub admitted: &'a [u32],
    /// Our own requests in flight.
    pub own_in_flight: &'a [u32],
    /// Their sum over all candidates; if it is not known, whoever needs it adds them up.
    pub total_in_flight: Option<u32>,
    /// All else that is known of the load; its own requests in flight are not read.
    pub loads: &'a [Load],
    /// The weights.
    pub weights: &'a [u16],
    /// The names.
    pub names: &'a [&'a [u8]],
    /// See [`Pool::version`].
    pub version: u32,
}

impl Pool for SlicePool<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.candidates.len()
    }

    #[inline]
    fn slot(&self, index: usize) -> usize {
        self.candidates
            .get(index)
            .map_or(usize::MAX, |&slot| usize::from(slot))
    }

    #[inline]
    fn slots(&self) -> impl Iterator<Item = usize> {
        self.candidates.iter().map(|&slot| usize::from(slot))
    }

    #[inline]
    fn admits(&self, slot: usize) -> bool {
        self.admitted
            .get(slot / WORD)
            .is_some_and(|word| word >> (slot % WORD) & 1 == 1)
    }

    #[inline]
    fn load(&self, slot: usize) -> Load {
        Load {
            own_in_flight: self.own_in_flight(slot),
            ..self.loads.get(slot).copied().unwrap_or_default()
        }
    }

    #[inline]
    fn glance(&self, slot: usize) -> Glance {
        let own_in_flight = self.own_in_flight(slot);
        self.loads.get(slot).map_or(
            Glance {
                own_in_flight,
                ..Glance::default()
            },
            |load| Glance {
                reported: load
                    .report
                    .as_ref()
                    .map(|report| (report.in_flight, report.clients)),
                own_in_flight,
                own_at_report: load.own_at_report,
                failing: load.failing,
            },
        )
    }

    #[inline]
    fn own_in_flight(&self, slot: usize) -> u32 {
        self.own_in_flight.get(slot).copied().unwrap_or(0)
    }

    #[inline]
    fn total_in_flight(&self) -> u32 {
        let summed = || {
            self.slots()
                .fold(0_u32, |sum, slot| sum.saturating_add(self.own_in_flight(slot)))
        };
        self.total_in_flight.unwrap_or_else(summed)
    }

    #[inline]
    fn weight(&self, slot: usize) -> u16 {
        self.weights.get(slot).copied().unwrap_or(1)
    }

    #[inline]
    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        self.names.get(slot).copied().unwrap_or_default()
    }

    #[inline]
    fn version(&self) -> u32 {
        self.version
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{AnyStrategy, StrategyKind, Tabled};
    use super::*;

    /// A pool for the tests of the strategies.
    pub(crate) struct Table {
        pub(crate) up: SlotSet,
        pub(crate) loads: std::vec::Vec<Load>,
        /// Empty: all weigh 1.
        pub(crate) weights: std::vec::Vec<u16>,
    }

    impl Table {
        pub(crate) fn new(slots: usize) -> Self {
            let mut up = SlotSet::new();
            (0..slots).for_each(|slot| {
                up.insert(slot);
            });
            Self {
                up,
                loads: std::vec![Load::default(); slots],
                weights: std::vec::Vec::new(),
            }
        }

        /// A strategy of this kind, its table made.
        pub(crate) fn strategy(&self, kind: StrategyKind) -> AnyStrategy<std::vec::Vec<u32>> {
            let slots = self.loads.len();
            let mut strategy = AnyStrategy::new(kind, std::vec![0; kind.words(slots)], slots, 1).unwrap();
            while !strategy.update(self, u32::MAX) {}
            strategy
        }

        pub(crate) fn report(&mut self, slot: usize, in_flight: u16, capacity: u16, clients: u16) {
            self.loads[slot].report = Some(LoadFigures {
                in_flight,
                capacity,
                clients,
                ..LoadFigures::default()
            });
        }
    }

    impl Pool for Table {
        fn len(&self) -> usize {
            self.slots().count()
        }
        fn slot(&self, index: usize) -> usize {
            self.slots().nth(index).unwrap_or(usize::MAX)
        }
        fn slots(&self) -> impl Iterator<Item = usize> {
            self.up.iter().filter(|&slot| slot < self.loads.len())
        }
        fn admits(&self, slot: usize) -> bool {
            slot < self.loads.len() && self.up.contains(slot)
        }
        fn load(&self, slot: usize) -> Load {
            self.loads.get(slot).copied().unwrap_or_default()
        }
        fn weight(&self, slot: usize) -> u16 {
            self.weights.get(slot).copied().unwrap_or(1)
        }
        fn name(&self, slot: usize) -> impl AsRef<[u8]> {
            slot.to_string()
        }
    }

    #[test]
    fn navigates_sparse_sets() {
        let mut set = SlotSet::new();
        for slot in [3, 31, 32, 99] {
            set.insert(slot);
        }
        assert_eq!(set.iter().collect::<std::vec::Vec<_>>(), [3, 31, 32, 99]);
        assert_eq!([0, 1, 2, 3, 4].map(|n| set.nth(n)), [3, 31, 32, 99, usize::MAX]);
        assert!(set.contains(99) && !set.contains(98) && !set.contains(5_000));
    }

    #[test]
    fn a_scan_finds_the_only_admitted_candidate_from_everywhere() {
        let pool = SlicePool {
            candidates: &[1, 4, 40],
            admitted: &[0, 1 << 8],
            ..SlicePool::default()
        };
        for from in [0, 1, 2, 3, 900] {
            assert_eq!(scan_from(&pool, from), Some(40));
        }
        assert_eq!(scan_from(&SlicePool::default(), 3), None);
    }

    #[test]
    fn slots_end_at_their_limit() {
        let mut set = SlotSet::new();
        assert!(set.insert(SLOTS_MAX - 1));
        assert!(!set.insert(SLOTS_MAX));
        assert_eq!(set.len(), 1);
        set.remove(SLOTS_MAX - 1);
        set.remove(SLOTS_MAX);
        assert!(set.is_empty());
    }
}
