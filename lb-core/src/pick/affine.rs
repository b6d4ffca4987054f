//! What the affine strategies share: keys that are at home somewhere, and what happens when they cannot go there.

use super::heapsort::{Heapsort, Items};
use super::xxh64::{avalanche, xxh64};
use super::{Pool, Strategy};
use crate::rng::Rng;

/// A strategy whose keys are at home at a slot, and have an order of further slots.
///
/// Public for the bound of [`Bounded`](super::Bounded); it cannot be implemented elsewhere.
pub trait Affine: Strategy {
    /// Where a key is at home; `None` without a table.
    fn home<P: Pool + ?Sized>(&self, pool: &P, key: u64) -> Option<usize>;

    /// The first slot of a key's order that is accepted, the home included, after a bounded number of tries.
    fn walk<P: Pool + ?Sized>(&self, pool: &P, key: u64, accepts: impl FnMut(usize) -> bool)
    -> Option<usize>;

    /// The sum of the weights that the table was made with, and whether they are 1 each because nobody has any;
    /// `None` without a table.
    fn total_weight(&self) -> Option<(u32, bool)>;
}

/// The pick of every affine strategy: the home, then the key's order, then [`elsewhere`].
#[inline]
pub(super) fn pick<A: Affine, P: Pool + ?Sized, R: Rng + ?Sized>(
    affine: &A,
    pool: &P,
    key: Option<u64>,
    rng: &mut R,
) -> Option<usize> {
    let key = key.unwrap_or_else(|| draw(rng));
    match affine.home(pool, key) {
        Some(slot) if pool.admits(slot) => Some(slot),
        home => refused(affine, pool, key, home),
    }
}

/// The pick when the home is refused. Not inlined: it would cost every other pick its registers.
#[inline(never)]
fn refused<A: Affine, P: Pool + ?Sized>(
    affine: &A,
    pool: &P,
    key: u64,
    home: Option<usize>,
) -> Option<usize> {
    let admitted = |slot| pool.admits(slot);
    home.and_then(|_| affine.walk(pool, key, admitted))
        .or_else(|| elsewhere(pool, key, admitted))
}

/// A key for a request that has none.
pub(super) fn draw<R: Rng + ?Sized>(rng: &mut R) -> u64 {
    u64::from(rng.next_u32()) << 32 | u64::from(rng.next_u32())
}

/// The accepted candidate that comes first in the key's order by rendezvous over the names' hashes; those of
/// weight 0 come last. What every affine pick ends with: it depends on names alone and finds whoever is accepted.
/// O(candidates), each hashed.
pub(super) fn elsewhere<P: Pool + ?Sized>(
    pool: &P,
    key: u64,
    mut accepts: impl FnMut(usize) -> bool,
) -> Option<usize> {
    pool.slots()
        .filter(|&slot| accepts(slot))
        .max_by_key(|&slot| (pool.weight(slot) > 0, rank(pool, slot, key)))
}

/// A candidate's place in a key's order, by its name alone.
pub(super) fn rank<P: Pool + ?Sized>(pool: &P, slot: usize, key: u64) -> u64 {
    avalanche(avalanche(key) ^ xxh64(pool.name(slot).as_ref(), 0))
}

/// The sum of a pool's weights, as [`Affine::total_weight`]. O(candidates).
pub(super) fn total_weight<P: Pool + ?Sized>(pool: &P) -> (u32, bool) {
    let weights = pool.slots().map(|slot| u32::from(pool.weight(slot)));
    match weights.fold(0, u32::saturating_add) {
        0 => (u32::try_from(pool.len()).unwrap_or(u32::MAX), true),
        total => (total, false),
    }
}

/// Work to hash a name.
pub(super) const HASHING: u32 = 4;

/// The candidates that belong into a table, with their weights, in the order of their names; made in steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Census {
    stage: Stage,
    next: usize,
    /// How many there are.
    pub(super) len: usize,
    /// The sum of their weights.
    pub(super) total: u32,
    pub(super) least: u16,
    pub(super) most: u16,
    /// Whether they all fit.
    pub(super) complete: bool,
    /// Whether nobody has weight, so that all have 1.
    pub(super) even: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Weigh,
    List,
    Sort(Heapsort),
    Done,
}

/// Whether a stage needs more steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Working,
    Done,
}

impl Census {
    pub(super) const fn new() -> Self {
        Self {
            stage: Stage::Weigh,
            next: 0,
            len: 0,
            total: 0,
            least: u16::MAX,
            most: 0,
            complete: true,
            even: false,
        }
    }

    /// How much work the next step is.
    pub(super) fn work(&self) -> u32 {
        match self.stage {
            // Names are compared, twice for each level of the heap.
            Stage::Sort(_) => usize::BITS.wrapping_sub(self.len.leading_zeros()).max(1),
            _ => 1,
        }
    }

    /// One step. `list` gets one word a candidate: its slot, and its weight in the upper half.
    pub(super) fn step<P: Pool + ?Sized>(&mut self, pool: &P, list: &mut [u32], sorted: bool) -> Progress {
        match &mut self.stage {
            Stage::Weigh => match u16::try_from(pool.slot(self.next)) {
                Ok(slot) => {
                    let weight = pool.weight(usize::from(slot));
                    self.total = self.total.saturating_add(u32::from(weight));
                    self.next = self.next.saturating_add(1);
                }
                Err(_) => {
                    self.even = self.total == 0;
                    self.stage = Stage::List;
                    self.next = 0;
                }
            },
            Stage::List => match u16::try_from(pool.slot(self.next)) {
                Ok(slot) => {
                    let weight = if self.even {
                        1
                    } else {
                        pool.weight(usize::from(slot))
                    };
                    self.next = self.next.saturating_add(1);
                    if weight > 0 {
                        self.add(slot, weight, list);
                    }
                }
                Err(_) => {
                    if self.even {
                        self.total = u32::try_from(self.len).unwrap_or(u32::MAX);
                    }
                    self.stage = if sorted && self.complete {
                        Stage::Sort(Heapsort::new(self.len))
                    } else {
                        Stage::Done
                    };
                }
            },
            Stage::Sort(sort) => {
                let mut items = ByName { pool, list };
                if sort.step(&mut items, self.len) {
                    self.stage = Stage::Done;
                }
            }
            Stage::Done => return Progress::Done,
        }
        Progress::Working
    }

    fn add(&mut self, slot: u16, weight: u16, list: &mut [u32]) {
        self.least = self.least.min(weight);
        self.most = self.most.max(weight);
        match list.get_mut(self.len) {
            Some(entry) => *entry = u32::from(weight) << 16 | u32::from(slot),
            None => self.complete = false,
        }
        self.len = self.len.saturating_add(1);
    }
}

/// The slot and the weight of an entry of the list.
pub(super) const fn listed(entry: u32) -> (u16, u16) {
    (entry as u16, (entry >> 16) as u16)
}

struct ByName<'a, P: ?Sized> {
    pool: &'a P,
    list: &'a mut [u32],
}

impl<P: Pool + ?Sized> Items for ByName<'_, P> {
    fn less(&self, left: usize, right: usize) -> bool {
        let slot = |at: usize| usize::from(listed(self.list.get(at).copied().unwrap_or(0)).0);
        let (left, right) = (slot(left), slot(right));
        let (name, other) = (self.pool.name(left), self.pool.name(right));
        (name.as_ref(), left) < (other.as_ref(), right)
    }

    fn swap(&mut self, left: usize, right: usize) {
        swap(self.list, left, right);
    }
}

/// Puts a number first and moves the others on; the last one is lost.
pub(super) fn push_in(list: &mut [u16], mut number: u16) {
    for entry in list {
        core::mem::swap(entry, &mut number);
    }
}

/// Swaps two words; nothing when one is not there.
pub(super) fn swap(words: &mut [u32], left: usize, right: usize) {
    let both = (words.get(left).copied(), words.get(right).copied());
    if let (Some(former), Some(latter)) = both {
        for (at, value) in [(left, latter), (right, former)] {
            if let Some(word) = words.get_mut(at) {
                *word = value;
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::SlicePool;
    use super::*;
    use std::vec::Vec;

    /// Names of equal kind, as tests and benchmarks use them.
    pub(crate) fn names(count: usize) -> Vec<std::string::String> {
        (0..count)
            .map(|i| std::format!("10.0.{}.{}:80", i / 256, i % 256))
            .collect()
    }

    #[test]
    fn lists_by_name_whoever_has_weight() {
        let pool = SlicePool {
            candidates: &[0, 1, 2, 5],
            names: &[b"d", b"a", b"c", b"", b"", b"b"],
            weights: &[3, 2, 0, 1, 1, 65_535],
            ..SlicePool::default()
        };
        let mut list = [0; 4];
        let mut census = Census::new();
        while census.step(&pool, &mut list, true) == Progress::Working {}
        assert_eq!(list.map(listed), [(1, 2), (5, 65_535), (0, 3), (0, 0)]);
        assert_eq!(
            (census.len, census.total, census.least, census.most),
            (3, 65_540, 2, 65_535)
        );
        let mut small = Census::new();
        while small.step(&pool, &mut [0; 2], true) == Progress::Working {}
        assert!(census.complete && !small.complete);
        let weightless = SlicePool {
            weights: &[0; 6],
            ..pool
        };
        let mut census = Census::new();
        while census.step(&weightless, &mut list, true) == Progress::Working {}
        assert_eq!(
            (list.map(listed), census.total),
            ([(1, 1), (5, 1), (2, 1), (0, 1)], 4)
        );
    }

    #[test]
    fn somebody_is_found_elsewhere() {
        let pool = SlicePool {
            candidates: &[0, 1, 2],
            names: &[b"a", b"b", b"c"],
            weights: &[1, 0, 1],
            ..SlicePool::default()
        };
        assert_eq!(elsewhere(&pool, 1, |slot| slot == 1), Some(1));
        assert_eq!(elsewhere(&pool, 1, |_| false), None);
        let found: std::collections::HashSet<_> =
            (0..64).map(|key| elsewhere(&pool, key, |_| true)).collect();
        assert_eq!(found, [Some(0), Some(2)].into());
    }
}
