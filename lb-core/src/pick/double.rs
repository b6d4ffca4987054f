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

    pub(super) const fn from_u32(value: u32) -> Self {
        if value == 0 {
            return Self::ZERO;
        }
        let shift = (value as u64)
            .leading_zeros()
            .wrapping_sub(u64::BITS.wrapping_sub(WIDTH));
        Self {
            significand: (value as u64) << shift,
            exponent: (shift as i16).wrapping_neg(),
        }
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
        // 59 or 60 bits.
        let drop = 7_u32.wrapping_sub(u32::from(quotient >> 59 == 0));
        let exponent = self.exponent.wrapping_sub(divisor.exponent).wrapping_sub(59);
        Self::rounded(quotient >> drop, quotient, drop, rest != 0, exponent)
    }

    pub(super) fn multiply(self, by: Self) -> Self {
        let product = u128::from(self.significand).wrapping_mul(u128::from(by.significand));
        let drop = WIDTH.wrapping_sub(u32::from(product >> 105 == 0));
        let exponent = self.exponent.wrapping_add(by.exponent);
        let whole = (product >> drop) as u64;
        Self::rounded(whole, product as u64, drop, false, exponent)
    }

    /// With ten bits more than are kept, and whether anything is below those.
    pub(super) fn add(self, other: Self) -> Self {
        const MORE: u32 = 10;
        let (low, high) = if self < other {
            (self, other)
        } else {
            (other, self)
        };
        let distance = u32::from(high.exponent.wrapping_sub(low.exponent).unsigned_abs());
        if low.significand == 0 || distance > WIDTH.wrapping_add(1) {
            return high;
        }
        let lower = low.significand << MORE;
        let shifted = lower >> distance;
        let below = shifted << distance != lower;
        let sum = (high.significand << MORE).wrapping_add(shifted);
        let drop = MORE.wrapping_add(u32::from(sum >> 63 != 0));
        let exponent = high.exponent.wrapping_sub(MORE as i16);
        Self::rounded(sum >> drop, sum, drop, below, exponent)
    }

    /// `significand`, 53 bits or 0, after as many bits of `bits` as `drop` says and whatever is below were cut off.
    fn rounded(significand: u64, bits: u64, drop: u32, below: bool, exponent: i16) -> Self {
        let one = 1_u64 << drop;
        let (cut, half) = (bits & one.wrapping_sub(1), one >> 1);
        let up = cut > half || (cut == half && (below || significand & 1 == 1));
        let significand = significand.wrapping_add(u64::from(up));
        let over = significand >> WIDTH != 0;
        Self {
            significand: significand >> u32::from(over),
            exponent: exponent.wrapping_add(drop as i16).wrapping_add(i16::from(over)),
        }
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
