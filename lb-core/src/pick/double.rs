//! Envoy's weights are doubles, and its tables depend on how they round. Here is just enough of IEEE 754 binary64 to
//! round alike, in integers: positive numbers, to nearest, ties to even.

use core::cmp::Ordering;

/// Bits of the significand, the leading one included.
const WIDTH: u32 = 53;

/// A positive double, `significand * 2^exponent` with the leading one at bit 52; or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Double {
    significand: u64,
    exponent: i16,
}

impl Double {
    pub(super) const ZERO: Self = Self {
        significand: 0,
        exponent: 0,
    };

    /// The double nearest to `value * 2^exponent`; `rest` says that the true value is a little above that.
    fn nearest(value: u128, exponent: i16, rest: bool) -> Self {
        if value == 0 {
            return Self::ZERO;
        }
        let above = 128_u32.wrapping_sub(WIDTH);
        let shift = value.leading_zeros();
        // The leading one at bit 127, so that what is cut off is the low 75 bits.
        let top = value.wrapping_shl(shift);
        let mut significand = (top >> above) as u64;
        let cut = (top << WIDTH) >> WIDTH;
        let half = 1_u128 << above.wrapping_sub(1);
        let up = match cut.cmp(&half) {
            Ordering::Greater => true,
            Ordering::Equal => rest || significand & 1 == 1,
            Ordering::Less => false,
        };
        let mut exponent = exponent.wrapping_add((above as i16).wrapping_sub(shift as i16));
        significand = significand.wrapping_add(u64::from(up));
        if significand >> WIDTH != 0 {
            significand >>= 1;
            exponent = exponent.wrapping_add(1);
        }
        Self {
            significand,
            exponent,
        }
    }

    pub(super) fn from_u32(value: u32) -> Self {
        Self::nearest(u128::from(value), 0, false)
    }

    /// `self / divisor`; 0 for a divisor of 0. By long division: 60 steps, none of them a division.
    pub(super) fn divide(self, divisor: Self) -> Self {
        if divisor.significand == 0 || self.significand == 0 {
            return Self::ZERO;
        }
        let mut quotient = 0_u64;
        let mut rest = self.significand;
        for _ in 0..60 {
            quotient <<= 1;
            if rest >= divisor.significand {
                rest = rest.wrapping_sub(divisor.significand);
                quotient |= 1;
            }
            rest <<= 1;
        }
        let exponent = self.exponent.wrapping_sub(divisor.exponent).wrapping_sub(59);
        Self::nearest(u128::from(quotient), exponent, rest != 0)
    }

    pub(super) fn multiply(self, by: Self) -> Self {
        Self::nearest(
            u128::from(self.significand).wrapping_mul(u128::from(by.significand)),
            self.exponent.wrapping_add(by.exponent),
            false,
        )
    }

    pub(super) fn add(self, other: Self) -> Self {
        let (low, high) = if self < other {
            (self, other)
        } else {
            (other, self)
        };
        let distance = high.exponent.wrapping_sub(low.exponent).unsigned_abs();
        if low.significand == 0 || distance > 70 {
            return high;
        }
        let sum = (u128::from(high.significand) << distance).wrapping_add(u128::from(low.significand));
        Self::nearest(sum, low.exponent, false)
    }

    /// Rounded up to a whole number, `u32::MAX` at most.
    pub(super) fn ceil(self) -> u32 {
        let shift = self.exponent.unsigned_abs();
        if self.significand == 0 {
            return 0;
        }
        if self.exponent >= 0 {
            return u32::MAX;
        }
        if shift >= 64 {
            return 1;
        }
        let whole = self.significand >> shift;
        let cut = whole << shift != self.significand;
        u32::try_from(whole.wrapping_add(u64::from(cut))).unwrap_or(u32::MAX)
    }

    /// As two words, to be kept in a table's memory.
    pub(super) fn to_words(self) -> [u32; 2] {
        let exponent = u64::from(self.exponent.cast_unsigned()) << WIDTH;
        let bits = exponent | self.significand;
        [bits as u32, (bits >> 32) as u32]
    }

    pub(super) fn from_words([low, high]: [u32; 2]) -> Self {
        let bits = u64::from(low) | (u64::from(high) << 32);
        Self {
            significand: bits & ((1 << WIDTH) - 1),
            // 11 bits are kept; the sign is brought back.
            exponent: ((((bits >> WIDTH) as u16) << 5).cast_signed()) >> 5,
        }
    }
}

impl PartialOrd for Double {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Double {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |double: &Self| (double.significand != 0, double.exponent, double.significand);
        key(self).cmp(&key(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Sfc32};

    fn real(double: Double) -> f64 {
        double.significand as f64 * f64::from(double.exponent).exp2()
    }

    #[test]
    fn rounds_as_the_hardware_does() {
        let mut rng = Sfc32::new(1);
        for _ in 0..200_000 {
            let mut draw = || {
                let bits = rng.below(32);
                (rng.next_u32() >> bits).max(1)
            };
            let (a, b, c, d) = (draw(), draw(), draw(), draw());
            let (x, y) = (f64::from(a) / f64::from(b), f64::from(c) / f64::from(d));
            let ratio = |a, b| Double::from_u32(a).divide(Double::from_u32(b));
            let (p, q) = (ratio(a, b), ratio(c, d));
            assert_eq!(real(p).to_bits(), x.to_bits());
            assert_eq!(real(p.multiply(q)).to_bits(), (x * y).to_bits());
            assert_eq!(real(p.divide(q)).to_bits(), (x / y).to_bits());
            assert_eq!(real(p.add(q)).to_bits(), (x + y).to_bits());
            assert_eq!(p.cmp(&q), x.partial_cmp(&y).unwrap());
            assert_eq!(p.ceil(), x.ceil() as u32);
            assert_eq!(Double::from_words(p.to_words()), p);
        }
        assert_eq!(Double::ZERO.add(Double::from_u32(3)), Double::from_u32(3));
        assert!(Double::ZERO < Double::from_u32(1).divide(Double::from_u32(u32::MAX)));
    }
}
