//! Logarithm and exponential from additions, multiplications and divisions alone.
//!
//! Those of the system differ in the last bit from one C library to the next, and one bit is enough to make two runs
//! of a simulation part. These are the same wherever arithmetic is IEEE 754. Error: below 4e-15, relative.

use std::f64::consts::{LN_2, LOG2_E, SQRT_2};

const FRACTION_BITS: u32 = 52;
const BIAS: i64 = 1_023;

/// Natural logarithm of a positive, normal number.
pub(crate) fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0, "{x}");
    let bits = x.to_bits();
    let mut exponent = (bits >> FRACTION_BITS) as i64 - BIAS;
    let mut mantissa = f64::from_bits((bits & ((1 << FRACTION_BITS) - 1)) | ((BIAS as u64) << FRACTION_BITS));
    if mantissa > SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), and |f| < 0.172.
    let f = (mantissa - 1.0) / (mantissa + 1.0);
    let s = f * f;
    let mut series = 0.0;
    for odd in [19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        series = series * s + 1.0 / odd;
    }
    2.0 * f * series + exponent as f64 * LN_2
}

/// `e^x` for results that are normal numbers.
pub(crate) fn exp(x: f64) -> f64 {
    debug_assert!(x.abs() < 700.0, "{x}");
    let k = (x * LOG2_E).round();
    let r = x - k * LN_2;
    let mut series = 1.0;
    for n in (1..=14).rev() {
        series = 1.0 + series * r / f64::from(n);
    }
    series * f64::from_bits(((k as i64 + BIAS) as u64) << FRACTION_BITS)
}

/// `x^y` for positive `x`.
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    exp(y * ln(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agree_with_the_system() {
        for i in 1..20_000 {
            let x = f64::from(i) * 0.000_37;
            assert!((ln(x) - x.ln()).abs() <= 4e-15 * x.ln().abs().max(1.0), "{x}");
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-14, "{x}");
            assert!((exp(-x) * x.exp() - 1.0).abs() < 1e-14, "{x}");
        }
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!((ln(1e-300) - 1e-300_f64.ln()).abs() < 1e-12);
        assert!((pow(7.0, -2.0 / 3.0) - 7.0_f64.powf(-2.0 / 3.0)).abs() < 1e-14);
    }
}
