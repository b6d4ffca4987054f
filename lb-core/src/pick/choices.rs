//! The best of a few random candidates.

use super::estimate::{Estimate, Neutral};
use super::least_connections::least;
use super::{Load, Pool, RoundRobin, Strategy, pool};
use crate::rng::Rng;

/// Samples before the nearest admitted candidate is taken.
const TRIES: usize = 4;

/// What [`Choices`] compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum By {
    /// Our own requests in flight: always known, blind to other clients.
    #[default]
    OwnRequests,
    /// Reported requests in flight for each unit of capacity. Others' work counts, what we sent since does not; who
    /// does not report is taken for the mean of the others in the sample.
    Reported,
    /// The estimate of [`super::Corrected`], where the mean is that of the sample.
    Corrected,
}

/// The best of `d` different candidates drawn at random, 2 to 10; with no more candidates than that, of all, ties in
/// rotation. O(d), whatever the number of candidates.
///
/// Two choices come exponentially closer to the best than one and, unlike looking at all, do not make clients with the
/// same old reports herd. More choices are better on fresh loads and worse on old ones; two are right when in doubt.
/// Every order of every sample is equally likely, so ties favour nobody. Candidates that are not admitted are left out
/// of a sample; when all of it are, another is drawn, at last the nearest admitted one is taken.
///
/// *Source*: Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (TPDS 12(10), 2001) and "How Useful
/// Is Old Information?" (TPDS 11(1), 2000); gRPC's proposal A48 and Envoy's least request for the range of `d`.
///
/// ```
/// use lb_core::pick::{By, Choices, SlicePool, Strategy};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     own_in_flight: &[4, 2, 9],
///     ..SlicePool::default()
/// };
/// let mut rng = Sfc32::new(1);
/// let mut two = Choices::new(2, By::OwnRequests);
/// assert!((0..100).all(|_| two.pick(&pool, None, &mut rng) != Some(2)), "9 is never the better of two");
/// assert_eq!(Choices::new(3, By::OwnRequests).pick(&pool, None, &mut rng), Some(1));
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Choices {
    by: By,
    sampler: Sampler,
}

impl Default for Choices {
    fn default() -> Self {
        Self::new(2, By::OwnRequests)
    }
}

impl Choices {
    /// Fewest and most choices.
    pub const RANGE: core::ops::RangeInclusive<u8> = 2..=10;

    /// The best of that many; numbers outside of [`RANGE`](Self::RANGE) are taken as its nearest end.
    #[must_use]
    pub const fn new(choices: u8, by: By) -> Self {
        Self {
            by,
            sampler: Sampler::new(choices),
        }
    }
}

impl Strategy for Choices {
    #[inline]
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        match self.by {
            By::OwnRequests => self.sampler.best(pool, rng, |_, slot| pool.own_in_flight(slot)),
            By::Reported => self.sampler.best(pool, rng, |all, slot| {
                estimate(
                    pool,
                    all,
                    &Load {
                        own_in_flight: 0,
                        own_at_report: 0,
                        ..pool.load(slot)
                    },
                )
            }),
            By::Corrected => self
                .sampler
                .best(pool, rng, |all, slot| estimate(pool, all, &pool.load(slot))),
        }
    }
}

fn estimate<P: Pool + ?Sized>(pool: &P, all: &[usize], load: &Load) -> Estimate {
    // The means are needed only where something is missing.
    let whole = load.report.is_some_and(|report| report.capacity > 0);
    let others = all.iter().take(if whole { 0 } else { all.len() });
    Neutral::of(others.filter_map(|&slot| pool.load(slot).report)).estimate(load)
}

/// Draws candidates and takes the cheapest.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Sampler {
    choices: u8,
    ties: RoundRobin,
}

/// Room for the largest sample.
const MOST: usize = *Choices::RANGE.end() as usize;

impl Sampler {
    pub(super) const fn new(choices: u8) -> Self {
        let choices = match choices {
            0..=1 => *Choices::RANGE.start(),
            2..=10 => choices,
            _ => *Choices::RANGE.end(),
        };
        Self {
            choices,
            ties: RoundRobin::new(),
        }
    }

    /// The cheapest of a sample's admitted candidates; `cost` is told all of them, and one.
    #[inline]
    pub(super) fn best<P: Pool + ?Sized, R: Rng + ?Sized, K: Ord>(
        &mut self,
        pool: &P,
        rng: &mut R,
        mut cost: impl FnMut(&[usize], usize) -> K,
    ) -> Option<usize> {
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        if self.choices == 2 && count > 2 {
            let (one, two) = (rng.below(count), rng.below(count.wrapping_sub(1)));
            let two = two.wrapping_add(u32::from(two >= one));
            let pair = [one, two].map(|index| pool.slot(index as usize));
            let [one, two] = pair;
            if pool.admits(one) && pool.admits(two) {
                let first = cost(&pair, one);
                return Some(if cost(&pair, two) < first { two } else { one });
            }
        }
        self.best_of_any(pool, rng, cost)
    }

    /// The same for any number of choices, and when not all of a sample are admitted.
    #[inline(never)]
    fn best_of_any<P: Pool + ?Sized, R: Rng + ?Sized, K: Ord>(
        &mut self,
        pool: &P,
        rng: &mut R,
        mut cost: impl FnMut(&[usize], usize) -> K,
    ) -> Option<usize> {
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        if count <= u32::from(self.choices) {
            let mut all = [0; MOST];
            let mut known = 0_usize;
            for (place, slot) in all.iter_mut().zip(pool.slots().filter(|&slot| pool.admits(slot))) {
                *place = slot;
                known = known.wrapping_add(1);
            }
            let all = all.get(..known).unwrap_or_default();
            return least(pool, &mut self.ties, rng, |slot| cost(all, slot));
        }
        for _ in 0..TRIES {
            let (mut slots, mut known) = ([0; MOST], 0_usize);
            let mut sample = Sample::default();
            for _ in 0..self.choices {
                let slot = pool.slot(sample.draw(count, rng) as usize);
                if pool.admits(slot)
                    && let Some(place) = slots.get_mut(known)
                {
                    *place = slot;
                    known = known.wrapping_add(1);
                }
            }
            let slots = slots.get(..known).unwrap_or_default();
            let best = slots.iter().copied().min_by_key(|&slot| cost(slots, slot));
            if best.is_some() {
                return best;
            }
        }
        pool::scan_from(pool, rng.below(count) as usize)
    }
}

/// Different numbers, any order as likely as any other.
#[derive(Default)]
struct Sample {
    /// Ascending.
    drawn: [u32; MOST],
    len: usize,
}

impl Sample {
    /// A number below `count` that was not drawn yet; there must be one.
    fn draw<R: Rng + ?Sized>(&mut self, count: u32, rng: &mut R) -> u32 {
        let mut number = rng.below(count.saturating_sub(self.len as u32));
        let mut place = self.len;
        for (index, &drawn) in self.drawn.iter().take(self.len).enumerate() {
            if number < drawn {
                place = index;
                break;
            }
            number = number.wrapping_add(1);
        }
        let mut moved = number;
        for later in self.drawn.iter_mut().skip(place) {
            moved = core::mem::replace(later, moved);
        }
        self.len = self.len.wrapping_add(1);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::super::SlicePool;
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;
    use std::collections::BTreeMap;

    #[test]
    fn samples_are_distinct_and_every_order_is_as_likely() {
        let mut rng = Sfc32::new(1);
        let mut counts = BTreeMap::new();
        for _ in 0..60_000 {
            let mut sample = Sample::default();
            let drawn = [(); 3].map(|()| sample.draw(5, &mut rng));
            *counts.entry(drawn).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 60);
        assert!(
            counts.values().all(|count| (count - 1_000).abs() < 160),
            "{counts:?}"
        );
    }

    #[test]
    fn ties_favour_nobody() {
        for (choices, slots) in [(2, 2), (2, 7), (3, 7), (10, 11)] {
            let (table, mut rng) = (Table::new(slots), Sfc32::new(1));
            let mut strategy = Choices::new(choices, By::OwnRequests);
            let mut counts = std::vec![0_i32; slots];
            for _ in 0..slots * 1_000 {
                counts[strategy.pick(&table, None, &mut rng).unwrap()] += 1;
            }
            assert!(
                counts.iter().all(|count| (count - 1_000).abs() < 160),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn two_choices_keep_the_highest_low() {
        let mut table = Table::new(1_000);
        let (mut strategy, mut rng) = (Choices::default(), Sfc32::new(1));
        for _ in 0..1_000 {
            let slot = strategy.pick(&table, None, &mut rng).unwrap();
            table.loads[slot].own_in_flight += 1;
        }
        let most = table.loads.iter().map(|load| load.own_in_flight).max();
        assert!(most <= Some(4), "{most:?}: ln ln 1000 / ln 2 and a little");
    }

    #[test]
    fn costs_are_what_they_say() {
        let mut table = Table::new(2);
        table.report(0, 10, 100, 2);
        table.report(1, 8, 40, 1);
        table.loads[0].own_in_flight = 9;
        table.loads[0].own_at_report = 9;
        let pick = |by, table: &Table| Choices::new(2, by).pick(table, None, &mut Sfc32::new(1));
        assert_eq!(pick(By::OwnRequests, &table), Some(1));
        assert_eq!(pick(By::Reported, &table), Some(0));
        assert_eq!(pick(By::Corrected, &table), Some(0));
        table.loads[0].own_in_flight = 19;
        assert_eq!(
            pick(By::Reported, &table),
            Some(0),
            "what was sent since does not count"
        );
        assert_eq!(
            pick(By::Corrected, &table),
            Some(1),
            "31 of 100 are more than 9 of 40"
        );
        table.loads[1].report = None;
        table.loads[1].own_in_flight = 1;
        assert_eq!(pick(By::Corrected, &table), Some(1), "taken for 10 and 2 of 100");
    }

    #[test]
    fn what_is_not_admitted_is_not_picked_from_a_sample() {
        let pool = SlicePool {
            candidates: &[0, 1, 2, 3, 4, 5, 6, 7],
            admitted: &[0b0100_0010],
            own_in_flight: &[0, 1, 0, 0, 0, 0, 2, 0],
            ..SlicePool::default()
        };
        let mut rng = Sfc32::new(1);
        for by in [By::OwnRequests, By::Reported, By::Corrected] {
            let mut counts = [0; 8];
            for _ in 0..1_000 {
                counts[Choices::new(2, by).pick(&pool, None, &mut rng).unwrap()] += 1;
            }
            assert!(counts[1] + counts[6] == 1_000 && counts[6] > 100, "{counts:?}");
        }
        assert_eq!(
            Choices::default().pick(&SlicePool::default(), None, &mut rng),
            None
        );
    }
}
