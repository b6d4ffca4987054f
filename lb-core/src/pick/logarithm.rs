//! A logarithm in integers, for weighted rendezvous.

/// Bits after the point of the results.
const POINT: u32 = 40;

/// Intervals of the table.
const INTERVALS: u32 = 32;

/// `ln(1 + i / 32)` to 40 bits after the point, and `32 / (32 + i)` to 32 (the first one a little less than 1).
const TABLE: [(u64, u32); INTERVALS as usize] = {
    let mut table = [(0_u64, 0_u32); INTERVALS as usize];
    let mut rest: &mut [(u64, u32)] = &mut table;
    let mut index = 0_u64;
    while let Some((entry, after)) = rest.split_first_mut() {
        let scale = INTERVALS as u64;
        let inverse = match (scale << 32).checked_div(scale.wrapping_add(index)) {
            Some(inverse) if inverse <= u32::MAX as u64 => inverse as u32,
            _ => u32::MAX,
        };
        *entry = (ln(scale.wrapping_add(index), scale), inverse);
        index = index.wrapping_add(1);
        rest = after;
    }
    table
};

const LN_2: u64 = ln(2, 1);

/// `ln(above / below)` by `2 atanh((above - below) / (above + below))`; at compile time only.
const fn ln(above: u64, below: u64) -> u64 {
    let (over, under) = (above.wrapping_sub(below), above.wrapping_add(below));
    let mut power = match ((over as u128) << 60).checked_div(under as u128) {
        Some(power) => power,
        None => 0,
    };
    let square = power.wrapping_mul(power) >> 60;
    let (mut sum, mut odd) = (0_u128, 1_u128);
    while power > 0 {
        sum = match power.checked_div(odd) {
            Some(term) => sum.wrapping_add(term),
            None => sum,
        };
        power = power.wrapping_mul(square) >> 60;
        odd = odd.wrapping_add(2);
    }
    (sum >> (59 - POINT)) as u64
}

/// `-ln(1 - x)` with 40 bits after the point, for `x = (score + 1/2) / 2^32`: an exponential variate of a uniform
/// score, right to 1 part in 10^7 everywhere. At most 22.9, so 45 bits.
pub(super) fn minus_ln(score: u32) -> u64 {
    // x in units of 2^-33, which is odd.
    let x = u64::from(score).wrapping_mul(2).wrapping_add(1);
    if score < 1 << 27 {
        // Below 1/32, where the table's error would show: the series, all terms positive.
        let fraction = x >> 1;
        let sum = SERIES.iter().fold(0, |sum, &term| {
            u64::from(term).wrapping_add(fraction.wrapping_mul(sum) >> 32)
        });
        return ((1_u64 << 32).wrapping_add(fraction.wrapping_mul(sum) >> 32)).wrapping_mul(x)
            >> (65 - POINT);
    }
    let rest = (1_u64 << 33).wrapping_sub(x);
    let shift = rest.leading_zeros();
    // The mantissa in [1, 2), without its one: 5 bits for the table, then what is left of it.
    let mantissa = rest.wrapping_shl(shift).wrapping_shl(1);
    let (ln, inverse) = TABLE.get((mantissa >> 59) as usize).copied().unwrap_or((0, 0));
    let left = mantissa.wrapping_shl(5) >> 37;
    let fraction = left.wrapping_mul(u64::from(inverse)) >> 32;
    let sum = SERIES.iter().fold(0_u64, |sum, &term| {
        u64::from(term).wrapping_sub(fraction.wrapping_mul(sum) >> 32)
    });
    let one = (1_u64 << 32).wrapping_sub(fraction.wrapping_mul(sum) >> 32);
    let ln = ln.wrapping_add(fraction.wrapping_mul(one) >> (64 - POINT));
    let doublings = u64::from(shift.saturating_sub(30));
    doublings.wrapping_mul(LN_2).saturating_sub(ln)
}

/// 1/7, 1/6, … 1/2 with 32 bits after the point.
const SERIES: [u32; 6] = [
    0x2492_4925,
    0x2AAA_AAAB,
    0x3333_3333,
    0x4000_0000,
    0x5555_5555,
    0x8000_0000,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Sfc32};

    #[test]
    fn is_the_logarithm() {
        let mut rng = Sfc32::new(4);
        let edges = [
            0,
            1,
            2,
            (1 << 27) - 1,
            1 << 27,
            (1 << 31) - 1,
            1 << 31,
            u32::MAX - 1,
            u32::MAX,
        ];
        let random = (0..200_000)
            .map(|i| rng.next_u32() >> (i % 32))
            .map(|score| score ^ (score & 1).wrapping_neg());
        for score in edges.into_iter().chain(random) {
            let x = (f64::from(score) + 0.5) / 4_294_967_296.0;
            let expected = -(-x).ln_1p() * (1_u64 << POINT) as f64;
            let error = (minus_ln(score) as f64 - expected).abs();
            assert!(
                error <= expected * 1e-7 + 1.0,
                "{score}: {} {expected}",
                minus_ln(score)
            );
            assert!(minus_ln(score) >= u64::from(score) << (POINT - 32));
            assert!(minus_ln(score) < 23 << POINT);
        }
    }
}
