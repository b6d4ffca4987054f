//! Weighted least request: shares that shrink as requests pile up.

use super::{MemoryTooSmall, Pool, Strategy, pool};
use crate::rng::Rng;

/// How much requests in flight take from a weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Bias {
    /// Nothing: shares are those of the weights.
    None,
    /// In proportion.
    #[default]
    One,
    /// In proportion to their square.
    Two,
}

/// Each candidate in smooth rotation with a share in proportion to `weight / (own requests in flight + 1) ^ bias` at
/// every pick. O(candidates), two passes.
///
/// Between weighted rotation (bias none) and least connections: weights tell where requests belong, and requests that
/// are slow to end move the share elsewhere. Choose it for unequal workers when this client sends much of their load;
/// [`super::LoadBuckets`] with weights levels harder and is faster.
///
/// A weight of 0 gets nothing unless all have 0. Requests in flight count up to 4095. The rotation starts
/// anywhere. *Memory*: one word for each slot; candidates beyond it are picked only when no other is admitted.
///
/// *Source*: Envoy's weighted least request with its active request bias, whose weights Envoy also takes at the moment
/// of a pick; the order is nginx's smooth one, not that of a heap.
///
/// ```
/// use lb_core::pick::{Bias, SlicePool, Strategy, WeightedLeast};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1],
///     admitted: &[0b11],
///     own_in_flight: &[3, 0],
///     weights: &[4, 3],
///     ..SlicePool::default()
/// };
/// let (mut strategy, mut rng) = (WeightedLeast::new([0; 2], Bias::One)?, Sfc32::new(1));
/// let mut counts = [0_i32; 2];
/// for _ in 0..400 {
///     counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
/// }
/// assert!((counts[0] - 100).abs() < 3, "1 of 1 + 3");
/// # Ok::<(), lb_core::pick::MemoryTooSmall>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WeightedLeast<S> {
    /// What a slot is owed, signed.
    owed: S,
    bias: Bias,
    started: bool,
}

/// Requests in flight that count.
const ACTIVE_MAX: u32 = 1 << 12;

/// What shares add up to at most, so that debts of a whole round fit into a word.
const SUM_BITS: u32 = 29;

impl<S> WeightedLeast<S> {
    /// The memory needed for that many slots.
    #[must_use]
    pub const fn words(slots: usize) -> usize {
        slots
    }

    /// A rotation over as many slots as there are words.
    ///
    /// # Errors
    /// [`MemoryTooSmall`] when there is none.
    pub fn new(mut memory: S, bias: Bias) -> Result<Self, MemoryTooSmall>
    where
        S: AsMut<[u32]>,
    {
        if memory.as_mut().is_empty() {
            return Err(MemoryTooSmall { needed: 1 });
        }
        memory.as_mut().fill(0);
        Ok(Self {
            owed: memory,
            bias,
            started: false,
        })
    }

    /// The same strategy in another kind of memory, which must hold the same words.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> WeightedLeast<T> {
        WeightedLeast {
            owed: change(self.owed),
            bias: self.bias,
            started: self.started,
        }
    }

    /// The weight in fixed point less what requests in flight take from it; at least 1.
    fn share(&self, weight: u32, shift: u32, active: u32) -> u32 {
        let active = active.saturating_add(1).min(ACTIVE_MAX);
        let by = match self.bias {
            Bias::None => 1,
            Bias::One => active,
            Bias::Two => active.saturating_mul(active),
        };
        weight.wrapping_shl(shift).checked_div(by).unwrap_or(0).max(1)
    }
}

impl<S: AsMut<[u32]>> Strategy for WeightedLeast<S> {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        let mut sum = 0_u32;
        for slot in pool.slots().filter(|&slot| pool.admits(slot)) {
            sum = sum.saturating_add(u32::from(pool.weight(slot)));
        }
        // All have 0: all have 1.
        let equal = sum == 0;
        if equal {
            sum = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        }
        let bits = 32_u32.saturating_sub(sum.leading_zeros());
        let (up, down) = (SUM_BITS.saturating_sub(bits), bits.saturating_sub(SUM_BITS));
        let mut best: Option<(i32, usize)> = None;
        let mut paid = 0_u32;
        for slot in pool.slots() {
            let weight = if equal { 1 } else { u32::from(pool.weight(slot)) };
            if weight == 0 || !pool.admits(slot) {
                continue;
            }
            let share = self.share(weight.wrapping_shr(down), up, pool.own_in_flight(slot));
            let Some(owed) = self.owed.as_mut().get_mut(slot) else {
                break;
            };
            if !self.started {
                *owed = rng.below(share);
            }
            let now = owed.cast_signed().saturating_add(share.cast_signed());
            *owed = now.cast_unsigned();
            paid = paid.saturating_add(share);
            if best.is_none_or(|(most, _)| now > most) {
                best = Some((now, slot));
            }
        }
        let Some((now, slot)) = best else {
            let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
            return pool::scan_from(pool, rng.below(count) as usize);
        };
        self.started = true;
        if let Some(owed) = self.owed.as_mut().get_mut(slot) {
            *owed = now.saturating_sub(paid.cast_signed()).cast_unsigned();
        }
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::super::SlicePool;
    use super::*;
    use crate::rng::Sfc32;
    use std::vec::Vec;

    fn counts(bias: Bias, weights: &[u16], active: &[u32], picks: u32) -> Vec<u32> {
        let candidates: Vec<u16> = (0..weights.len() as u16).collect();
        let pool = SlicePool {
            candidates: &candidates,
            admitted: &[u32::MAX],
            own_in_flight: active,
            weights,
            ..SlicePool::default()
        };
        let mut strategy = WeightedLeast::new(std::vec![7; weights.len()], bias).unwrap();
        let (mut rng, mut counts) = (Sfc32::new(1), std::vec![0; weights.len()]);
        for _ in 0..picks {
            counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
        }
        counts
    }

    fn near(counts: &[u32], expected: &[u32]) {
        assert!(
            counts.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 2),
            "{counts:?} for {expected:?}"
        );
    }

    #[test]
    fn shares_are_weights_less_what_is_in_flight() {
        near(&counts(Bias::None, &[5, 1, 2], &[9, 0, 0], 800), &[500, 100, 200]);
        near(&counts(Bias::One, &[5, 1, 2], &[4, 0, 1], 300), &[100, 100, 100]);
        near(&counts(Bias::Two, &[9, 1, 4], &[2, 0, 1], 300), &[100, 100, 100]);
        near(&counts(Bias::One, &[0, 0], &[0, 1], 300), &[200, 100]);
        near(&counts(Bias::One, &[0, 7], &[0, 100], 300), &[0, 300]);
    }

    #[test]
    fn extremes_are_even() {
        near(&counts(Bias::Two, &[65_535; 8], &[u32::MAX; 8], 800), &[100; 8]);
        near(&counts(Bias::None, &[65_535; 8], &[0; 8], 800), &[100; 8]);
    }

    #[test]
    fn clients_start_anywhere_and_go_on_through_changes() {
        let mut first = [0; 4];
        for seed in 0..400 {
            let pool = SlicePool {
                candidates: &[0, 1, 2, 3],
                admitted: &[0b1111],
                ..SlicePool::default()
            };
            let mut strategy = WeightedLeast::new([0; 4], Bias::One).unwrap();
            first[strategy.pick(&pool, None, &mut Sfc32::new(seed)).unwrap()] += 1;
        }
        assert!(first.iter().all(|&count| count > 60), "{first:?}");
        let mut strategy = WeightedLeast::new([0; 1], Bias::One).unwrap();
        let beyond = SlicePool {
            candidates: &[1, 3],
            admitted: &[0b1000],
            ..SlicePool::default()
        };
        assert_eq!(strategy.pick(&beyond, None, &mut Sfc32::new(1)), Some(3));
        assert_eq!(
            WeightedLeast::new([0; 0], Bias::One).unwrap_err(),
            MemoryTooSmall { needed: 1 }
        );
    }
}
