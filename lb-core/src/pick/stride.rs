//! Weighted round robin by strides, without a schedule.

use super::halves::Halves;
use super::weights::{Weights, divide, slot_of};
use super::{MemoryTooSmall, Pool, RoundRobin, Strategy, Tabled, pool};
use crate::rng::Rng;

/// Weights are scaled so that the largest is this.
const WEIGHT_MAX: u32 = u16::MAX as u32;

/// Largest and smallest weight, as multiples of the mean: 10 and 1/100.
const CAP: u64 = 10;
const FLOOR: u64 = 100;

/// Each candidate in turn, but passed over in all rounds except its share of them. O(1) expected: largest weight
/// divided by the mean weight tries, 10 at most; O(candidates) at worst.
///
/// Less smooth than [`super::SmoothWeighted`], but it takes one word for each candidate and O(candidates) to
/// [`update`](Tabled::update), whatever the weights: for weights that change every second. Shares are exact over
/// 65 535 rounds. As in gRPC, weights above ten times the mean and below a hundredth of it are taken as
/// that; 0 means nothing, unless all have 0.
///
/// The start is anywhere in those rounds, so that clients that start together do not walk in step; an update goes on in
/// the same round. *Memory*: two words for each candidate. With more candidates than that, and before the first
/// update, it is a plain [`RoundRobin`].
///
/// *Source*: gRPC's `static_stride_scheduler.cc` and its proposal A58.
///
/// ```
/// use lb_core::pick::{SlicePool, StaticStride, Strategy, Tabled};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     weights: &[4, 2, 2],
///     ..SlicePool::default()
/// };
/// let mut strategy = StaticStride::new([0; StaticStride::<[u32; 0]>::words(3)])?;
/// while !strategy.update(&pool, 16) {}
/// let (mut rng, mut counts) = (Sfc32::new(1), [0_i32; 3]);
/// for _ in 0..400 {
///     counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
/// }
/// assert!((counts[0] - 200).abs() <= 2 && (counts[1] - 100).abs() <= 2);
/// # Ok::<(), lb_core::pick::MemoryTooSmall>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct StaticStride<S> {
    /// Scaled weights and slots.
    tables: Halves<S>,
    slots: usize,
    /// How many are in use; 0: none.
    count: u32,
    next: u32,
    /// Below [`WEIGHT_MAX`] once it is drawn.
    round: u32,
    version: Option<u32>,
    rotation: RoundRobin,
    build: Build,
}

const UNSTARTED: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Build {
    version: u32,
    weights: Weights,
    at: u32,
    /// The weights are summed up; what they are scaled by is known.
    summed: bool,
    running: bool,
    floor: u32,
    largest: u32,
}

impl<S> StaticStride<S> {
    /// The memory needed for that many candidates.
    #[must_use]
    pub const fn words(slots: usize) -> usize {
        slots.saturating_mul(2)
    }

    /// A strategy for as many candidates as fit.
    ///
    /// # Errors
    /// [`MemoryTooSmall`] when there is no room for a single one.
    pub fn new(memory: S) -> Result<Self, MemoryTooSmall>
    where
        S: AsRef<[u32]>,
    {
        let slots = (memory.as_ref().len() >> 1).clamp(1, usize::from(u16::MAX));
        Ok(Self {
            tables: Halves::new(memory, slots, 0)?,
            slots,
            count: 0,
            next: 0,
            round: UNSTARTED,
            version: None,
            rotation: RoundRobin::new(),
            build: Build::default(),
        })
    }

    /// The same strategy in another kind of memory, which must hold the same words.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> StaticStride<T> {
        StaticStride {
            tables: self.tables.map(change),
            slots: self.slots,
            count: self.count,
            next: self.next,
            round: self.round,
            version: self.version,
            rotation: self.rotation,
            build: self.build,
        }
    }
}

impl<S: AsRef<[u32]>> Strategy for StaticStride<S> {
    #[inline]
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        if self.count == 0 {
            return self.rotation.pick(pool, key, rng);
        }
        if self.round == UNSTARTED {
            self.round = rng.below(WEIGHT_MAX);
            self.next = rng.below(self.count);
        }
        let table = self.tables.used();
        // Whoever has the largest weight is taken in every round.
        for _ in 0..=self.count {
            if self.next >= self.count {
                self.next = 0;
                self.round = self.round.wrapping_add(1);
                if self.round >= WEIGHT_MAX {
                    self.round = 0;
                }
            }
            let index = self.next;
            self.next = index.wrapping_add(1);
            let entry = *table.get(index as usize)?;
            let (slot, weight) = (entry as u16, entry >> 16);
            // Half a weight between neighbours, so that not all are passed over in the same rounds.
            let phase = remainder(index.wrapping_mul(WEIGHT_MAX >> 1));
            // Below 2^32: both factors are below 2^16 - 1, or the weight is that and the round is not.
            let place = remainder(weight.wrapping_mul(self.round).wrapping_add(phase));
            if place >= WEIGHT_MAX.wrapping_sub(weight) && pool.admits(usize::from(slot)) {
                return Some(usize::from(slot));
            }
        }
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        pool::scan_from(pool, rng.below(count) as usize)
    }
}

/// Modulo 2^16 - 1, where 2^16 is 1.
#[inline]
const fn remainder(value: u32) -> u32 {
    let folded = (value >> 16).wrapping_add(value & 0xffff);
    let folded = (folded >> 16).wrapping_add(folded & 0xffff);
    if folded == WEIGHT_MAX { 0 } else { folded }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for StaticStride<S> {
    /// A unit is a candidate in one of two passes.
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let version = pool.version();
        if self.version == Some(version) {
            return true;
        }
        if pool.len() > self.slots {
            self.count = 0;
            self.version = Some(version);
            self.build = Build::default();
            return true;
        }
        let build = &mut self.build;
        if !build.running || build.version != version {
            *build = Build {
                version,
                running: true,
                ..Build::default()
            };
        }
        let (table, _) = self.tables.spare();
        for _ in 0..budget {
            let index = build.at as usize;
            build.at = build.at.wrapping_add(1);
            if index < pool.len() {
                let slot = slot_of(pool, index);
                if !build.summed {
                    build.weights.add(pool.weight(usize::from(slot)));
                } else if let Some(entry) = table.get_mut(index) {
                    let weight = build.weights.of(pool, usize::from(slot));
                    *entry = build.scaled(weight) << 16 | u32::from(slot);
                }
            } else if !build.summed {
                build.bound();
                build.summed = true;
                build.at = 0;
            } else {
                build.running = false;
                self.count = build.weights.candidates;
                self.tables.flip();
                self.version = Some(version);
                return true;
            }
        }
        false
    }
}

impl Build {
    /// What weights are cut to, in whole units.
    fn bound(&mut self) {
        self.weights.finish();
        let (sum, positive) = (u64::from(self.weights.sum), self.weights.positive);
        let (cap, _) = divide(sum.saturating_mul(CAP), positive, 20);
        let hundredths = u64::from(positive).saturating_mul(FLOOR);
        let (floor, _) = divide(sum, u32::try_from(hundredths).unwrap_or(u32::MAX), 16);
        self.largest = u32::from(self.weights.largest).min(cap as u32).max(1);
        self.floor = floor as u32;
    }

    fn scaled(&self, weight: u16) -> u32 {
        if weight == 0 {
            return 0;
        }
        let weight = u32::from(weight).clamp(self.floor.min(self.largest), self.largest);
        let rounded = weight.wrapping_mul(WEIGHT_MAX).saturating_add(self.largest >> 1);
        rounded
            .checked_div(self.largest)
            .unwrap_or(0)
            .clamp(1, WEIGHT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SlicePool;
    use super::*;
    use crate::rng::Sfc32;
    use std::vec::Vec;

    fn built(pool: &SlicePool<'_>) -> StaticStride<Vec<u32>> {
        let memory = std::vec![0; StaticStride::<Vec<u32>>::words(pool.candidates.len())];
        let mut strategy = StaticStride::new(memory).unwrap();
        while !strategy.update(pool, 3) {}
        strategy
    }

    fn weights(strategy: &StaticStride<Vec<u32>>) -> Vec<u32> {
        let used = &strategy.tables.used()[..strategy.count as usize];
        used.iter().map(|entry| entry >> 16).collect()
    }

    /// Picks that lead through that many rounds.
    fn counts(pool: &SlicePool<'_>, seed: u64) -> Vec<u32> {
        let mut strategy = built(pool);
        let picks: u32 = weights(&strategy).iter().sum();
        let (mut rng, mut counts) = (Sfc32::new(seed), std::vec![0; pool.candidates.len()]);
        for _ in 0..picks {
            counts[strategy.pick(pool, None, &mut rng).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn shares_are_exact_over_a_period_from_any_start() {
        for (seed, given) in [[1, 2, 3, 4], [0, 9, 0, 1], [0; 4], [65_535; 4], [7, 7, 1, 65_535]]
            .iter()
            .enumerate()
        {
            let pool = SlicePool {
                candidates: &[0, 1, 2, 3],
                admitted: &[0b1111],
                weights: given,
                ..SlicePool::default()
            };
            assert_eq!(counts(&pool, seed as u64), weights(&built(&pool)), "{given:?}");
        }
    }

    #[test]
    fn weights_are_cut_to_ten_times_the_mean_and_a_hundredth() {
        let (mut given, candidates) = (std::vec![100; 40], (0..40).collect::<Vec<u16>>());
        given[0] = 40_000;
        given[1] = 1;
        let pool = SlicePool {
            candidates: &candidates,
            weights: &given,
            ..SlicePool::default()
        };
        // The mean is 1095.
        let weights = weights(&built(&pool));
        assert_eq!((weights[0], weights[2]), (65_535, 598));
        assert_eq!(weights[1], (65_535 * 10 + 10_950 / 2) / 10_950);
    }

    #[test]
    fn folds_like_a_division() {
        for value in (0..u32::MAX)
            .step_by(65_521)
            .chain([u32::MAX, 65_535, 65_536, 131_070])
        {
            assert_eq!(remainder(value), value % 65_535);
        }
    }

    #[test]
    fn what_is_not_admitted_is_passed_over() {
        let pool = SlicePool {
            candidates: &[0, 1, 2],
            admitted: &[0b010],
            weights: &[9, 0, 9],
            ..SlicePool::default()
        };
        let mut strategy = built(&pool);
        assert_eq!(strategy.pick(&pool, None, &mut Sfc32::new(1)), Some(1));
        let nobody = SlicePool {
            admitted: &[],
            ..pool
        };
        assert_eq!(strategy.pick(&nobody, None, &mut Sfc32::new(1)), None);
        let more = SlicePool {
            candidates: &[0, 1, 2, 3],
            version: 1,
            ..pool
        };
        assert!(strategy.update(&more, 1));
        assert_eq!(strategy.pick(&more, None, &mut Sfc32::new(1)), Some(1));
    }
}
