//! The one source of chance in a run.

use std::ops::RangeInclusive;

/// SplitMix64: tiny, fast, and good enough to roll dice for datagrams.
#[derive(Debug, Clone)]
pub struct Prng(u64);

impl Prng {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform over the range, both ends included.
    pub const fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let (low, high) = (*range.start(), *range.end());
        assert!(low <= high, "empty range");
        let span = (high - low) as u128 + 1;
        low + ((self.next() as u128 * span) >> 64) as u64
    }

    /// True with a chance of `per_mille` in a thousand.
    pub const fn chance(&mut self, per_mille: u16) -> bool {
        self.within(&(0..=999)) < per_mille as u64
    }
}
