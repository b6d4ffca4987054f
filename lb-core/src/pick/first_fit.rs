//! Packing: one endpoint after the other.

use super::estimate::Neutral;
use super::least_connections::least;
use super::{Pool, RoundRobin, Strategy};
use crate::rng::Rng;

/// The lowest slot that is not at its limit, so that as few endpoints as possible work and the others can sleep or be
/// taken away. O(candidates).
///
/// With a limit of ours it is one for our own requests in flight. Without, an endpoint is at its limit when the
/// estimate of [`super::Corrected`] has reached the capacity it reports; who reports none is taken for the mean.
/// When all are at their limits, the one that is least above it for its capacity is taken, ties in rotation.
///
/// *Source*: HAProxy's `balance first`.
///
/// ```
/// use lb_core::pick::{FirstFit, SlicePool, Strategy};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     own_in_flight: &[8, 7, 0],
///     ..SlicePool::default()
/// };
/// assert_eq!(FirstFit::with_limit(8).pick(&pool, None, &mut Sfc32::new(1)), Some(1));
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct FirstFit {
    limit: Option<u32>,
    ties: RoundRobin,
}

impl FirstFit {
    /// Up to the capacity that endpoints report.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            limit: None,
            ties: RoundRobin::new(),
        }
    }

    /// Up to that many of our own requests in flight at each.
    #[must_use]
    pub const fn with_limit(limit: u32) -> Self {
        Self {
            limit: Some(limit),
            ties: RoundRobin::new(),
        }
    }
}

impl Strategy for FirstFit {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        if let Some(limit) = self.limit {
            let fits = |&slot: &usize| pool.own_in_flight(slot) < limit && pool.admits(slot);
            return pool
                .slots()
                .find(fits)
                .or_else(|| least(pool, &mut self.ties, rng, |slot| pool.own_in_flight(slot)));
        }
        let neutral = Neutral::of(pool.slots().filter_map(|slot| pool.load(slot).report));
        let estimate = |slot| neutral.estimate(&pool.load(slot));
        let fits = |&slot: &usize| {
            let estimate = estimate(slot);
            i64::from(estimate.in_flight) < i64::from(estimate.capacity) && pool.admits(slot)
        };
        pool.slots()
            .find(fits)
            .or_else(|| least(pool, &mut self.ties, rng, estimate))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;

    fn fill(strategy: &mut FirstFit, table: &mut Table, picks: u32) -> std::vec::Vec<u32> {
        let mut rng = Sfc32::new(1);
        for _ in 0..picks {
            let slot = strategy.pick(table, None, &mut rng).unwrap();
            table.loads[slot].own_in_flight += 1;
        }
        table.loads.iter().map(|load| load.own_in_flight).collect()
    }

    #[test]
    fn fills_one_after_the_other_and_then_levels() {
        let mut strategy = FirstFit::with_limit(4);
        let mut table = Table::new(3);
        assert_eq!(fill(&mut strategy, &mut table, 6), [4, 2, 0]);
        table.loads[0].own_in_flight = 1;
        assert_eq!(fill(&mut strategy, &mut table, 3), [4, 2, 0]);
        assert_eq!(fill(&mut strategy, &mut table, 9), [5, 5, 5]);
    }

    #[test]
    fn reported_capacities_are_limits_and_others_requests_count() {
        let mut table = Table::new(3);
        table.report(0, 3, 4, 1);
        table.report(1, 0, 2, 1);
        assert_eq!(fill(&mut FirstFit::new(), &mut table, 4), [1, 2, 1]);
        table.up.remove(0);
        table.loads[1].own_in_flight = 0;
        assert_eq!(fill(&mut FirstFit::new(), &mut table, 1), [1, 1, 1]);
    }
}
