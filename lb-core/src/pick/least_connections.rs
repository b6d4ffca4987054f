//! Least connections: the fewest requests of our own in flight.

use super::{Pool, RoundRobin, Strategy};
use crate::rng::Rng;

/// The admitted candidate with the fewest of our own requests in flight; ties in rotation. O(candidates), one
/// pass that reads nothing else of the load; [`super::LoadBuckets`] does it in O(1).
///
/// Exact for what this node sends, blind to everyone else: right when it sends most of the traffic, or when
/// nobody reports. Because ties rotate, sequential requests (each finished before the next) are spread
/// evenly instead of all going to the first slot.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LeastConnections {
    ties: RoundRobin,
}

impl Strategy for LeastConnections {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        fewest(pool, &mut self.ties, rng, |slot| pool.own_in_flight(slot))
    }
}

/// As [`least`], for costs that are small numbers.
///
/// Compares one number that holds cost and distance: where few costs differ, a branch on equality is guessed wrong
/// every other time. Whether a candidate is admitted is asked of the winner, and of the others only if it is not.
#[inline]
pub(super) fn fewest<P: Pool + ?Sized, R: Rng + ?Sized>(
    pool: &P,
    ties: &mut RoundRobin,
    rng: &mut R,
    mut cost: impl FnMut(usize) -> u32,
) -> Option<usize> {
    let from = ties.position(pool, rng) as u32;
    let ranks = pool.slots().zip(0_u32..).map(|(slot, index)| {
        let distance = index.wrapping_sub(from);
        u64::from(cost(slot)) << 32 | u64::from(distance)
    });
    let lowest = ranks.fold(u64::MAX, u64::min);
    let index = (lowest as u32).wrapping_add(from) as usize;
    let slot = pool.slot(index);
    if !pool.admits(slot) {
        return least(pool, ties, rng, cost);
    }
    ties.passed(index);
    Some(slot)
}

/// The admitted candidate with the lowest cost; among equals, the next in rotation. One pass; whether a candidate is
/// admitted is asked only of those that would be taken.
#[inline]
pub(super) fn least<P, R, K>(
    pool: &P,
    ties: &mut RoundRobin,
    rng: &mut R,
    mut cost: impl FnMut(usize) -> K,
) -> Option<usize>
where
    P: Pool + ?Sized,
    R: Rng + ?Sized,
    K: Ord,
{
    let from = ties.position(pool, rng);
    let mut best: Option<(K, usize, usize)> = None;
    let mut look = |(index, slot)| {
        let cost = cost(slot);
        if best.as_ref().is_none_or(|(lowest, ..)| cost < *lowest) && pool.admits(slot) {
            best = Some((cost, index, slot));
        }
    };
    // From where the rotation stands, so that the first of equals is the next one.
    pool.slots().enumerate().skip(from).for_each(&mut look);
    pool.slots().enumerate().take(from).for_each(look);
    let (_, index, slot) = best?;
    ties.passed(index);
    Some(slot)
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;

    #[test]
    fn sequential_requests_are_spread_evenly() {
        let table = Table::new(4);
        let (mut strategy, mut rng, mut counts) = (LeastConnections::default(), Sfc32::new(1), [0; 4]);
        for _ in 0..1_000 {
            counts[strategy.pick(&table, None, &mut rng).unwrap()] += 1;
        }
        assert_eq!(counts, [250; 4]);
    }

    #[test]
    fn a_cold_burst_is_spread_evenly() {
        let mut table = Table::new(4);
        let (mut strategy, mut rng) = (LeastConnections::default(), Sfc32::new(1));
        for _ in 0..100 {
            let slot = strategy.pick(&table, None, &mut rng).unwrap();
            table.loads[slot].own_in_flight += 1;
        }
        assert!(table.loads.iter().all(|load| load.own_in_flight == 25));
    }

    #[test]
    fn the_fewest_wins() {
        let mut table = Table::new(3);
        for (slot, own) in [5, 2, 8].into_iter().enumerate() {
            table.loads[slot].own_in_flight = own;
        }
        let (mut strategy, mut rng) = (LeastConnections::default(), Sfc32::new(1));
        assert_eq!(strategy.pick(&table, None, &mut rng), Some(1));
        table.up.remove(1);
        assert_eq!(strategy.pick(&table, None, &mut rng), Some(0));
    }
}
