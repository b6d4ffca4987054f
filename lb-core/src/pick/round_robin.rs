//! Round robin over the eligible slots, from a random start.

use super::{Pool, Strategy};
use crate::rng::Rng;

/// Each candidate in turn. O(1); a candidate that is not admitted is passed over.
///
/// The first pick starts at a random slot, so that many clients that start together do not walk in step
/// (nginx randomises its rotation for the same reason).
///
/// ```
/// # use lb_core::load::LoadCache;
/// # use lb_core::pick::{CachePool, RoundRobin, SlotSet, Strategy};
/// # use lb_core::{Duration, Instant, NodeId, rng::Sfc32};
/// # let mut cache: LoadCache<4> = LoadCache::new(Duration::from_secs(10), Duration::from_secs(15));
/// # let mut up = SlotSet::new();
/// # for id in 0..3 { up.insert(cache.insert(Instant::ZERO, NodeId::new(id)).unwrap()); }
/// let pool = CachePool::new(&cache, &up, Instant::ZERO);
/// let (mut strategy, mut rng) = (RoundRobin::default(), Sfc32::new(1));
/// let mut picks = [0; 3];
/// for _ in 0..300 {
///     picks[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
/// }
/// assert_eq!(picks, [100, 100, 100]);
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RoundRobin {
    /// The index of the next candidate, or [`ANYWHERE`].
    next: usize,
}

/// No candidate's index: the rotation has not begun.
const ANYWHERE: usize = usize::MAX;

impl Default for RoundRobin {
    fn default() -> Self {
        Self::new()
    }
}

impl RoundRobin {
    /// A rotation that starts anywhere.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: ANYWHERE }
    }

    /// Where the rotation stands, without moving it: anywhere until the first slot was picked, so that a pick
    /// from an empty pool does not fix the start.
    #[inline]
    pub(super) fn position<P: Pool + ?Sized, R: Rng + ?Sized>(&self, pool: &P, rng: &mut R) -> usize {
        if self.next == ANYWHERE {
            return anywhere(pool, rng);
        }
        self.next
    }

    /// The rotation goes on behind this candidate.
    #[inline]
    pub(super) const fn passed(&mut self, index: usize) {
        self.next = index.wrapping_add(1);
    }

    /// The next admitted candidate, when that is not simply the next one: at the start, in a pool that has shrunk,
    /// or past candidates that are not admitted.
    #[cold]
    fn search<P: Pool + ?Sized, R: Rng + ?Sized>(&mut self, pool: &P, rng: &mut R) -> Option<usize> {
        let mut index = self.position(pool, rng);
        for _ in 0..pool.len() {
            if index >= pool.len() {
                index = 0;
            }
            let slot = pool.slot(index);
            if pool.admits(slot) {
                self.passed(index);
                return Some(slot);
            }
            index = index.wrapping_add(1);
        }
        None
    }
}

#[cold]
fn anywhere<P: Pool + ?Sized, R: Rng + ?Sized>(pool: &P, rng: &mut R) -> usize {
    let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
    rng.below(count) as usize
}

impl Strategy for RoundRobin {
    #[inline]
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        let slot = pool.slot(self.next);
        if !pool.admits(slot) {
            return self.search(pool, rng);
        }
        let next = self.next.wrapping_add(1);
        self.next = if next < pool.len() { next } else { 0 };
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;

    #[test]
    fn passes_over_what_is_not_eligible() {
        let mut table = Table::new(5);
        table.up.remove(1);
        table.up.remove(4);
        let (mut strategy, mut rng) = (RoundRobin::new(), Sfc32::new(3));
        let picks: std::vec::Vec<_> = (0..6)
            .filter_map(|_| strategy.pick(&table, None, &mut rng))
            .collect();
        assert_eq!(picks[..3], picks[3..]);
        assert_eq!(picks.iter().sum::<usize>(), 2 * (2 + 3));
    }

    #[test]
    fn starts_at_a_random_slot() {
        let table = Table::new(4);
        let mut first = [0_u32; 4];
        for seed in 0..400 {
            first[RoundRobin::new()
                .pick(&table, None, &mut Sfc32::new(seed))
                .unwrap()] += 1;
        }
        assert!(first.iter().all(|&count| count > 60), "{first:?}");
    }

    #[test]
    fn survives_a_shrinking_pool() {
        let mut strategy = RoundRobin { next: 900 };
        assert_eq!(strategy.pick(&Table::new(2), None, &mut Sfc32::new(1)), Some(0));
        assert_eq!(strategy.pick(&Table::new(0), None, &mut Sfc32::new(1)), None);
    }
}
