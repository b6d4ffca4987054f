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
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct RoundRobin {
    next: Option<usize>,
}

impl RoundRobin {
    /// A rotation that starts anywhere.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: None }
    }

    /// Where the rotation stands, without moving it: anywhere until the first slot was picked, so that a pick
    /// from an empty pool does not fix the start.
    pub(super) fn position<P: Pool + ?Sized, R: Rng + ?Sized>(&self, pool: &P, rng: &mut R) -> usize {
        self.next.unwrap_or_else(|| {
            let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
            rng.below(count) as usize
        })
    }

    /// The rotation goes on behind this candidate.
    pub(super) const fn passed(&mut self, index: usize) {
        self.next = Some(index.saturating_add(1));
    }
}

impl Strategy for RoundRobin {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
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
            index = index.saturating_add(1);
        }
        None
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
        let mut strategy = RoundRobin { next: Some(900) };
        assert_eq!(strategy.pick(&Table::new(2), None, &mut Sfc32::new(1)), Some(0));
        assert_eq!(strategy.pick(&Table::new(0), None, &mut Sfc32::new(1)), None);
    }
}
