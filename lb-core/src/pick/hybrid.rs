//! The hybrid score as a picking rule.

use super::least_connections::least;
use super::{Pool, RoundRobin, Strategy};
use crate::load::{HybridWeights, LoadFigures, SCORE_MAX};
use crate::rng::Rng;

/// The eligible slot with the lowest hybrid score (70 % load, 30 % work done; formula in
/// [`HybridWeights`]); ties in rotation. O(slots).
///
/// A slot without a usable report gets half of the highest score: neutral, neither best nor worst.
///
/// It takes the reported load at its word, so with many requests per heartbeat all of them go to the same
/// slot until the next report. It is here for compatibility; [`super::Corrected`] is the default.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hybrid {
    weights: HybridWeights,
    ties: RoundRobin,
}

impl Hybrid {
    /// With other weights than 70 and 30.
    #[must_use]
    pub const fn new(weights: HybridWeights) -> Self {
        Self {
            weights,
            ties: RoundRobin::new(),
        }
    }
}

impl Strategy for Hybrid {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        let rate = |slot| {
            pool.load(slot)
                .report
                .map_or(0, |report: LoadFigures| report.rate_milli)
        };
        let max_rate = pool.slots().map(rate).max()?;
        let weights = self.weights;
        least(pool, &mut self.ties, rng, |slot| {
            pool.load(slot)
                .report
                .map_or(SCORE_MAX / 2, |report| weights.score(&report, max_rate))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;

    #[test]
    fn the_lowest_score_wins_and_the_unknown_is_neutral() {
        let mut table = Table::new(3);
        table.report(0, 2, 10, 1);
        table.report(1, 9, 10, 1);
        let (mut strategy, mut rng) = (Hybrid::default(), Sfc32::new(1));
        assert_eq!(strategy.pick(&table, None, &mut rng), Some(0));
        table.up.remove(0);
        assert_eq!(
            strategy.pick(&table, None, &mut rng),
            Some(2),
            "500 is better than 630"
        );
        table.report(1, 1, 10, 1);
        assert_eq!(
            strategy.pick(&table, None, &mut rng),
            Some(1),
            "70 is better than 500"
        );
    }

    #[test]
    fn work_done_counts() {
        let mut table = Table::new(2);
        table.report(0, 5, 10, 1);
        table.report(1, 5, 10, 1);
        for (slot, rate) in [(0, 9_000), (1, 3_000)] {
            table.loads[slot].report.as_mut().unwrap().rate_milli = rate;
        }
        assert_eq!(Hybrid::default().pick(&table, None, &mut Sfc32::new(1)), Some(1));
    }
}
