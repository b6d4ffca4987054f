//! Weights of candidates, and the long division they need.

use super::Pool;

/// The slot of a candidate as tables keep it.
#[inline]
pub(super) fn slot_of<P: Pool + ?Sized>(pool: &P, index: usize) -> u16 {
    u16::try_from(pool.slot(index)).unwrap_or(u16::MAX)
}

/// Quotient and remainder by long division, since 64-bit ones are not to be had; 0 for a division by 0. The quotient
/// must be below 2^`bits`, and `bits` at most 32.
pub(super) fn divide(value: u64, by: u32, bits: u32) -> (u64, u64) {
    let (mut rest, mut quotient, by) = (value, 0_u64, u64::from(by));
    if by == 0 {
        return (0, 0);
    }
    for bit in (0..bits).rev() {
        let step = by.wrapping_shl(bit);
        quotient = quotient.wrapping_shl(1);
        if rest >= step {
            rest = rest.wrapping_sub(step);
            quotient |= 1;
        }
    }
    (quotient, rest)
}

/// The weights of a pool's candidates, summed up step by step.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Weights {
    pub(super) candidates: u32,
    /// How many are not 0.
    pub(super) positive: u32,
    pub(super) sum: u32,
    pub(super) largest: u16,
    /// Divides all of them.
    pub(super) divisor: u32,
}

impl Weights {
    pub(super) fn add(&mut self, weight: u16) {
        self.candidates = self.candidates.saturating_add(1);
        if weight > 0 {
            self.positive = self.positive.saturating_add(1);
            self.sum = self.sum.saturating_add(u32::from(weight));
            self.largest = self.largest.max(weight);
            let (mut a, mut b) = (u32::from(weight), self.divisor);
            while b != 0 {
                (a, b) = (b, a.checked_rem(b).unwrap_or(0));
            }
            self.divisor = a;
        }
    }

    /// All are there. If all are 0, they are as good as each other.
    pub(super) fn finish(&mut self) {
        if self.positive == 0 {
            *self = Self {
                candidates: self.candidates,
                positive: self.candidates,
                sum: self.candidates,
                largest: 1,
                divisor: 1,
            };
        }
    }

    /// A candidate's weight, with what [`finish`](Self::finish) decided.
    pub(super) fn of<P: Pool + ?Sized>(&self, pool: &P, slot: usize) -> u16 {
        if self.largest == 1 && self.sum == self.candidates {
            return 1;
        }
        pool.weight(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Sfc32};

    #[test]
    fn divides_as_the_hardware_does() {
        let mut rng = Sfc32::new(3);
        for _ in 0..10_000 {
            let shift = rng.below(32);
            let by = (rng.next_u32() >> shift).max(1);
            let value = u64::from(rng.next_u32()) << rng.below(17);
            let bits = (value / u64::from(by)).checked_ilog2().map_or(0, |log| log + 1);
            assert_eq!(
                divide(value, by, bits),
                (value / u64::from(by), value % u64::from(by))
            );
        }
        assert_eq!(divide(7, 0, 16), (0, 0));
    }
}
