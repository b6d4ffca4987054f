//! Uniformly random.

use super::{Pool, Strategy, pool};
use crate::rng::Rng;

/// Draws before the nearest admitted candidate is taken.
const TRIES: usize = 8;

/// Any candidate with equal probability, without bias. O(1).
///
/// Needs no state and no news of load; many clients can use it without ever falling into step. Short-term
/// shares vary: of 1000 picks over 3 slots, expect 333 +- 15.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Random;

impl Strategy for Random {
    #[inline]
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        let slot = pool.slot(rng.below(count) as usize);
        if pool.admits(slot) {
            return Some(slot);
        }
        again(pool, count, rng)
    }
}

/// Drawn again when it is not admitted, so that its neighbour does not get its share.
#[cold]
fn again<P: Pool + ?Sized, R: Rng + ?Sized>(pool: &P, count: u32, rng: &mut R) -> Option<usize> {
    for _ in 1..TRIES {
        let slot = pool.slot(rng.below(count) as usize);
        if pool.admits(slot) {
            return Some(slot);
        }
    }
    pool::scan_from(pool, rng.below(count) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;

    #[test]
    fn is_even_over_a_sparse_pool() {
        let mut table = Table::new(70);
        for slot in (0..70).filter(|slot| ![0, 33, 69].contains(slot)) {
            table.up.remove(slot);
        }
        let (mut counts, mut rng) = ([0_u32; 70], Sfc32::new(5));
        for _ in 0..30_000 {
            counts[Random.pick(&table, None, &mut rng).unwrap()] += 1;
        }
        for slot in [0, 33, 69] {
            assert!((9_600..=10_400).contains(&counts[slot]), "{}", counts[slot]);
        }
        assert_eq!(counts.iter().sum::<u32>(), 30_000);
    }

    #[test]
    fn none_only_when_none_is_eligible() {
        assert_eq!(Random.pick(&Table::new(0), None, &mut Sfc32::new(1)), None);
        assert_eq!(Random.pick(&Table::new(1), None, &mut Sfc32::new(1)), Some(0));
    }
}
