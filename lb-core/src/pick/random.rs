//! Uniformly random.

use super::{Pool, Strategy, pool};
use crate::rng::Rng;

/// Any eligible slot with equal probability, without bias. O(slots / 32).
///
/// Needs no state and no news of load; many clients can use it without ever falling into step. Short-term
/// shares vary: of 1000 picks over 3 slots, expect 333 +- 15.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Random;

impl Strategy for Random {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(&mut self, pool: &P, rng: &mut R) -> Option<usize> {
        pool::nth(pool, rng.below(pool::count(pool)))
    }
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
            counts[Random.pick(&table, &mut rng).unwrap()] += 1;
        }
        for slot in [0, 33, 69] {
            assert!((9_600..=10_400).contains(&counts[slot]), "{}", counts[slot]);
        }
        assert_eq!(counts.iter().sum::<u32>(), 30_000);
    }

    #[test]
    fn none_only_when_none_is_eligible() {
        assert_eq!(Random.pick(&Table::new(0), &mut Sfc32::new(1)), None);
        assert_eq!(Random.pick(&Table::new(1), &mut Sfc32::new(1)), Some(0));
    }
}
