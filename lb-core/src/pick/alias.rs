//! Weighted random by an alias table.

use super::halves::{Halves, half_word, set_half_word};
use super::weights::{Weights, divide, slot_of};
use super::{MemoryTooSmall, Pool, Random, Strategy, Tabled, pool};
use crate::rng::Rng;

/// Draws before the nearest admitted candidate is taken.
const TRIES: usize = 8;

/// Any candidate with a probability in proportion to its weight. O(1): one draw, one look-up.
///
/// Like [`Random`], it needs no news of load and no two clients fall into step; unlike it, workers may be unequal.
/// Short-term shares vary; [`super::SmoothWeighted`] gives exact ones.
///
/// A probability is right within 2^-16 divided by the number of candidates for its own column of the table and for each
/// column it fills up, so within 2^-16 in all; a candidate with a weight always has one, and one without (unless all
/// have 0) never.
///
/// *Work*: [`update`](Tabled::update) takes O(candidates). *Memory*: 48 bits for each candidate, twice. With more
/// candidates than there is memory for, and before the first update, it is plain [`Random`].
///
/// *Source*: Walker's tables as Vose fills them (IEEE TSE 17(9), 1991), swept without work lists as by
/// Hübschle-Schneider and Sanders (arXiv 1903.00227).
///
/// ```
/// use lb_core::pick::{SlicePool, Strategy, Tabled, WeightedRandom};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     weights: &[6, 1, 1],
///     ..SlicePool::default()
/// };
/// let mut strategy = WeightedRandom::new([0; WeightedRandom::<[u32; 0]>::words(3)])?;
/// while !strategy.update(&pool, 16) {}
/// let (mut rng, mut counts) = (Sfc32::new(1), [0; 3]);
/// for _ in 0..8_000 {
///     counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
/// }
/// assert!((5_800..6_200).contains(&counts[0]));
/// # Ok::<(), lb_core::pick::MemoryTooSmall>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WeightedRandom<S> {
    /// A word for each column: how much of it is its own, and the other slot; then their own slots.
    tables: Halves<S>,
    slots: usize,
    /// How many are in use; 0: there is no table.
    columns: u32,
    version: Option<u32>,
    build: Option<Build>,
}

/// A sweep over the light columns, which are filled up, and one over the heavy ones, which fill them.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Build {
    version: u32,
    stage: Stage,
    weights: Weights,
    light: u32,
    heavy: u32,
    /// What the heavy one still has.
    left: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Stage {
    Sum,
    /// Looks for the first heavy column.
    Start,
    /// Fills up the light columns from the heavy one, while that is heavy itself.
    Light,
    /// It is light now: looks for the next one to fill it up.
    Heavy {
        next: u32,
    },
}

impl<S> WeightedRandom<S> {
    /// The memory needed for that many slots.
    #[must_use]
    pub const fn words(slots: usize) -> usize {
        slots.saturating_add(slots.div_ceil(2)).saturating_mul(2)
    }

    /// A strategy for as many candidates as fit.
    ///
    /// # Errors
    /// [`MemoryTooSmall`] when there is no room for a single one.
    pub fn new(memory: S) -> Result<Self, MemoryTooSmall>
    where
        S: AsRef<[u32]>,
    {
        // A half holds a word and a half for each.
        let slots = (memory.as_ref().len() >> 1).saturating_mul(2) / 3;
        let slots = slots.clamp(1, usize::from(u16::MAX));
        Ok(Self {
            tables: Halves::new(memory, slots.saturating_add(slots.div_ceil(2)), 0)?,
            slots,
            columns: 0,
            version: None,
            build: None,
        })
    }

    /// The same strategy in another kind of memory, which must hold the same words.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> WeightedRandom<T> {
        WeightedRandom {
            tables: self.tables.map(change),
            slots: self.slots,
            columns: self.columns,
            version: self.version,
            build: self.build,
        }
    }
}

impl<S: AsRef<[u32]>> WeightedRandom<S> {
    fn draw<R: Rng + ?Sized>(&self, rng: &mut R) -> Option<usize> {
        let table = self.tables.used();
        // The column and the place in it from one draw: columns differ by 2^-32 of all at most.
        let drawn = u64::from(rng.next_u32()).wrapping_mul(u64::from(self.columns));
        let (column, place) = ((drawn >> 32) as usize, drawn as u32 >> 16);
        let entry = *table.get(column)?;
        let own = half_word(table.get(self.slots..)?, column)?;
        Some(usize::from(if place < entry >> 16 { own } else { entry as u16 }))
    }
}

impl<S: AsRef<[u32]>> Strategy for WeightedRandom<S> {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        if self.columns == 0 {
            return Random.pick(pool, key, rng);
        }
        // Drawn again when it is not admitted, so that its neighbour does not get its share.
        for _ in 0..TRIES {
            if let Some(slot) = self.draw(rng).filter(|&slot| pool.admits(slot)) {
                return Some(slot);
            }
        }
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        pool::scan_from(pool, rng.below(count) as usize)
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for WeightedRandom<S> {
    /// A unit is a candidate in one of three passes.
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let version = pool.version();
        if self.version == Some(version) {
            return true;
        }
        if pool.len() > self.slots || pool.is_empty() {
            self.columns = 0;
            self.version = Some(version);
            self.build = None;
            return true;
        }
        let mut build = self.build.take().filter(|build| build.version == version);
        let build = build.get_or_insert(Build {
            version,
            stage: Stage::Sum,
            weights: Weights::default(),
            light: 0,
            heavy: 0,
            left: 0,
        });
        let (table, _) = self.tables.spare();
        let (entries, own) = table.split_at_mut_checked(self.slots).unwrap_or_default();
        for _ in 0..budget {
            if build.step(pool, entries, own) {
                self.columns = build.weights.candidates;
                self.tables.flip();
                self.version = Some(version);
                return true;
            }
        }
        self.build = Some(build.clone());
        false
    }
}

impl Build {
    /// One unit of work; whether it was the last.
    fn step<P: Pool + ?Sized>(&mut self, pool: &P, entries: &mut [u32], own: &mut [u32]) -> bool {
        // Weight times columns, where a full column is the sum of the weights.
        let mass = |weights: &Weights, index: u32| {
            let weight = weights.of(pool, pool.slot(index as usize));
            u32::from(weight).saturating_mul(weights.candidates)
        };
        let (count, full) = (self.weights.candidates, self.weights.sum);
        match self.stage {
            Stage::Sum => {
                let index = self.light as usize;
                if index < pool.len() {
                    self.weights.add(pool.weight(pool.slot(index)));
                    set_half_word(own, index, slot_of(pool, index));
                    self.light = self.light.wrapping_add(1);
                } else {
                    self.weights.finish();
                    self.light = 0;
                    self.stage = Stage::Start;
                }
            }
            Stage::Start => {
                let mass = mass(&self.weights, self.heavy);
                if mass >= full {
                    self.left = mass;
                    self.stage = Stage::Light;
                } else {
                    self.heavy = self.heavy.wrapping_add(1);
                    // There is always one that is as heavy as the mean.
                    return self.heavy >= count;
                }
            }
            Stage::Light if self.left < full => {
                let next = self.heavy.wrapping_add(1);
                self.stage = Stage::Heavy { next };
            }
            Stage::Light if self.light < count => {
                let mass = mass(&self.weights, self.light);
                if mass < full {
                    fill(
                        entries,
                        self.light,
                        mass,
                        full,
                        slot_of(pool, self.heavy as usize),
                    );
                    self.left = self.left.saturating_sub(full.saturating_sub(mass));
                }
                self.light = self.light.wrapping_add(1);
            }
            Stage::Light => {
                // Only full columns are left.
                let index = self.heavy;
                if mass(&self.weights, index) >= full {
                    fill(entries, index, full, full, slot_of(pool, index as usize));
                }
                self.heavy = index.wrapping_add(1);
                return self.heavy >= count;
            }
            Stage::Heavy { next } if next < count => {
                let mass = mass(&self.weights, next);
                if mass >= full {
                    fill(entries, self.heavy, self.left, full, slot_of(pool, next as usize));
                    self.left = mass.saturating_sub(full.saturating_sub(self.left));
                    self.heavy = next;
                    self.stage = Stage::Light;
                } else {
                    self.stage = Stage::Heavy {
                        next: next.wrapping_add(1),
                    };
                }
            }
            // Not with weights that stay what they were: what is left is a full column.
            Stage::Heavy { .. } => return true,
        }
        false
    }
}

/// A column that holds `mass` of its own, and of another slot what is missing to `full`.
fn fill(entries: &mut [u32], index: u32, mass: u32, full: u32, other: u16) {
    // To the nearest 2^-16; a candidate with a weight is not lost to rounding.
    let (doubled, _) = divide(u64::from(mass) << 17, full, 18);
    let nearest = (doubled as u32).wrapping_add(1) >> 1;
    let threshold = if mass < full {
        nearest.clamp(u32::from(mass > 0), 0xffff)
    } else {
        0
    };
    if let Some(entry) = entries.get_mut(index as usize) {
        *entry = threshold << 16 | u32::from(other);
    }
}

#[cfg(test)]
mod tests {
    use super::super::SlicePool;
    use super::*;
    use crate::rng::Sfc32;
    use std::vec::Vec;

    fn built(weights: &[u16], budget: u32) -> WeightedRandom<Vec<u32>> {
        let candidates: Vec<u16> = (0..weights.len() as u16).collect();
        let pool = SlicePool {
            candidates: &candidates,
            weights,
            ..SlicePool::default()
        };
        let memory = std::vec![0xdead_beef; WeightedRandom::<Vec<u32>>::words(weights.len())];
        let mut strategy = WeightedRandom::new(memory).unwrap();
        while !strategy.update(&pool, budget) {}
        strategy
    }

    /// Shares in 2^-16 of a column.
    fn shares(strategy: &WeightedRandom<Vec<u32>>) -> Vec<u64> {
        let mut shares = std::vec![0; strategy.columns as usize];
        for column in 0..strategy.columns as usize {
            let entry = strategy.tables.used()[column];
            let own = half_word(&strategy.tables.used()[strategy.slots..], column).unwrap();
            shares[usize::from(own)] += u64::from(entry >> 16);
            shares[usize::from(entry as u16)] += 0x1_0000 - u64::from(entry >> 16);
        }
        shares
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        let mut rng = Sfc32::new(1);
        for round in 0..500 {
            let count = 1 + rng.below(50);
            let spread = rng.below(17);
            let weights: Vec<u16> = (0..count)
                .map(|_| ((rng.next_u32() & 0xffff) >> rng.below(spread + 1)) as u16)
                .collect();
            let strategy = built(&weights, 1 + round % 9);
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            for (share, &weight) in shares(&strategy).into_iter().zip(&weights) {
                if sum == 0 {
                    assert_eq!(share, 0x1_0000);
                    continue;
                }
                let exact = (u64::from(weight) * u64::from(count)) << 16;
                assert!(
                    (share * sum).abs_diff(exact) <= sum * u64::from(count),
                    "{share} of {weights:?}"
                );
                assert_eq!(share > 0, weight > 0, "{weights:?}");
            }
        }
    }

    #[test]
    fn equal_weights_are_exact() {
        for weights in [[7; 12].as_slice(), &[0; 5], &[65_535; 3]] {
            assert!(
                shares(&built(weights, u32::MAX))
                    .iter()
                    .all(|&share| share == 0x1_0000)
            );
        }
    }

    #[test]
    fn draws_follow_the_shares_and_pass_over_what_is_not_admitted() {
        let mut strategy = built(&[1, 2, 3, 4, 10], 3);
        let pool = SlicePool {
            candidates: &[0, 1, 2, 3, 4],
            admitted: &[0b01111],
            ..SlicePool::default()
        };
        let (mut rng, mut counts) = (Sfc32::new(1), [0_u32; 5]);
        for _ in 0..100_000 {
            counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
        }
        for (count, expected) in counts.into_iter().zip([10_000, 20_000, 30_000, 40_000, 0_u32]) {
            assert!(count.abs_diff(expected) < 700, "{counts:?}");
        }
    }

    #[test]
    fn more_candidates_than_memory_are_drawn_evenly() {
        let mut strategy = WeightedRandom::new([0; 6]).unwrap();
        let pool = SlicePool {
            candidates: &[0, 1, 2],
            admitted: &[0b111],
            weights: &[9, 1, 1],
            ..SlicePool::default()
        };
        assert!(strategy.update(&pool, 1));
        let (mut rng, mut counts) = (Sfc32::new(1), [0_u32; 3]);
        for _ in 0..3_000 {
            counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| count.abs_diff(1_000) < 120),
            "{counts:?}"
        );
        assert_eq!(
            WeightedRandom::new([0; 3]).unwrap_err(),
            MemoryTooSmall { needed: 4 }
        );
        let small = WeightedRandom::new([0; 4]).unwrap();
        assert_eq!((small.slots, WeightedRandom::<[u32; 0]>::words(1)), (1, 4));
    }
}
