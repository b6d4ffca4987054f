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
    /// Our own requests there now.
    pub own_in_flight: u32,
    /// Our own requests there when the report was made.
    pub own_at_report: u32,
}

/// The endpoints a strategy picks from, numbered `0..slots()`.
pub trait Pool {
    /// How many slots there are, eligible or not.
    fn slots(&self) -> usize;

    /// The eligible slots of `32 * index ..`, lowest slot in the lowest bit. Bits past `slots()` are 0, and
    /// so is every word past the last.
    fn word(&self, index: usize) -> u32;

    /// What is known of a slot; the default when nothing is.
    fn load(&self, slot: usize) -> Load;
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

    /// 32 slots as bits, as [`Pool::word`].
    #[must_use]
    pub fn word(&self, index: usize) -> u32 {
        self.words.get(index).copied().unwrap_or(0)
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

/// The eligible slots, ascending. O(slots / 32 + eligible).
pub fn eligible<P: Pool + ?Sized>(pool: &P) -> impl Iterator<Item = usize> {
    let words = pool.slots().div_ceil(WORD);
    (0..words).flat_map(|index| {
        let mut bits = pool.word(index);
        core::iter::from_fn(move || {
            let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
            bits &= bits.wrapping_sub(1);
            Some(index.saturating_mul(WORD).saturating_add(bit))
        })
    })
}

/// How many slots are eligible. O(slots / 32).
pub(super) fn count<P: Pool + ?Sized>(pool: &P) -> u32 {
    (0..pool.slots().div_ceil(WORD)).fold(0, |sum, index| sum.saturating_add(pool.word(index).count_ones()))
}

/// The `n`-th eligible slot, from 0. O(slots / 32).
pub(super) fn nth<P: Pool + ?Sized>(pool: &P, mut n: u32) -> Option<usize> {
    for index in 0..pool.slots().div_ceil(WORD) {
        let mut bits = pool.word(index);
        let here = bits.count_ones();
        if n >= here {
            n = n.saturating_sub(here);
            continue;
        }
        for _ in 0..n {
            bits &= bits.wrapping_sub(1);
        }
        return Some(
            index
                .saturating_mul(WORD)
                .saturating_add(bits.trailing_zeros() as usize),
        );
    }
    None
}

/// The first eligible slot at or after `from`, then from the beginning. O(slots / 32).
pub(super) fn next<P: Pool + ?Sized>(pool: &P, from: usize) -> Option<usize> {
    let words = pool.slots().div_ceil(WORD);
    let first = from / WORD;
    let at_or_after = pool.word(first) & (u32::MAX << (from % WORD));
    let slot = |index: usize, bits: u32| {
        (bits != 0).then(|| {
            index
                .saturating_mul(WORD)
                .saturating_add(bits.trailing_zeros() as usize)
        })
    };
    slot(first, at_or_after)
        .or_else(|| (first.saturating_add(1)..words).find_map(|index| slot(index, pool.word(index))))
        .or_else(|| (0..=first.min(words)).find_map(|index| slot(index, pool.word(index))))
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
/// let slot = strategy.pick(&CachePool::new(&cache, &eligible, now), &mut Sfc32::new(1)).unwrap();
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
    fn slots(&self) -> usize {
        self.cache.endpoints().len()
    }

    fn word(&self, index: usize) -> u32 {
        let past = self.slots().saturating_sub(index.saturating_mul(WORD));
        let within = if past >= WORD {
            u32::MAX
        } else {
            (1_u32 << past).wrapping_sub(1)
        };
        self.eligible.word(index) & within
    }

    fn load(&self, slot: usize) -> Load {
        self.cache.get(slot).map_or_else(Load::default, |endpoint| Load {
            report: self
                .cache
                .fresh(slot, self.now)
                .map(|cached| cached.report().figures()),
            own_in_flight: endpoint.own_in_flight(),
            own_at_report: endpoint.own_at_report(),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pool for the tests of the strategies.
    pub(crate) struct Table {
        pub(crate) up: SlotSet,
        pub(crate) loads: std::vec::Vec<Load>,
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
            }
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
        fn slots(&self) -> usize {
            self.loads.len()
        }
        fn word(&self, index: usize) -> u32 {
            self.up.word(index)
        }
        fn load(&self, slot: usize) -> Load {
            self.loads.get(slot).copied().unwrap_or_default()
        }
    }

    fn only(slots: usize, up: &[usize]) -> Table {
        let mut table = Table::new(slots);
        table.up = SlotSet::new();
        for &slot in up {
            table.up.insert(slot);
        }
        table
    }

    #[test]
    fn navigates_sparse_sets() {
        let table = only(100, &[3, 31, 32, 99]);
        assert_eq!(eligible(&table).collect::<std::vec::Vec<_>>(), [3, 31, 32, 99]);
        assert_eq!(count(&table), 4);
        assert_eq!(
            [0, 1, 2, 3, 4].map(|n| nth(&table, n)),
            [Some(3), Some(31), Some(32), Some(99), None]
        );
        assert_eq!(
            [0, 3, 4, 32, 33, 99, 100, 5_000].map(|from| next(&table, from)),
            [
                Some(3),
                Some(3),
                Some(31),
                Some(32),
                Some(99),
                Some(99),
                Some(3),
                Some(3)
            ]
        );
        assert_eq!(next(&only(64, &[]), 7), None);
        assert_eq!(next(&only(64, &[2]), 7), Some(2));
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
