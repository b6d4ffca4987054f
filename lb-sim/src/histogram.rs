//! Latencies counted in log-linear buckets.

/// Bits of the fraction that tell buckets apart: 128 for each factor of two.
const FRACTION_BITS: u32 = 7;
const SHIFT: u32 = 52 - FRACTION_BITS;
/// Everything at or below 2^-14 is counted there; what is above 2^34 is counted as 2^34.
const LOWEST: u64 = (1_023 - 14) << FRACTION_BITS;
const BUCKETS: usize = 48 << FRACTION_BITS;

/// Counts positive numbers between 2^-14 and 2^34; a quantile read from it is within 0.4 % of the true one.
///
/// The bucket of a number is the upper bits of its floating-point form, so that counting is one shift.
///
/// ```
/// let mut histogram = lb_sim::Histogram::new();
/// for i in 1..=1_000 {
///     histogram.add(f64::from(i));
/// }
/// assert!((histogram.quantile(0.99) - 990.0).abs() < 4.0);
/// assert_eq!(histogram.mean(), 500.5, "the mean is exact");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    counts: Vec<u32>,
    count: u64,
    sum: f64,
    max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Without any number.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            count: 0,
            sum: 0.0,
            max: 0.0,
        }
    }

    /// Counts a number.
    pub fn add(&mut self, value: f64) {
        let bucket = (value.max(0.0).to_bits() >> SHIFT).saturating_sub(LOWEST) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    /// How many numbers were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Their mean, exact but for rounding; 0 without any.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum / self.count as f64
        }
    }

    /// The largest; 0 without any.
    #[must_use]
    pub const fn max(&self) -> f64 {
        self.max
    }

    /// The number that a share `q` of all is at or below, within 0.4 %; 0 without any.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut passed = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            passed += u64::from(count);
            if passed >= rank {
                let edge = |bucket: usize| f64::from_bits((LOWEST + bucket as u64) << SHIFT);
                return ((edge(bucket) + edge(bucket + 1)) / 2.0).min(self.max);
            }
        }
        0.0
    }

    /// Adds what the other one counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Source;

    #[test]
    fn quantiles_are_within_the_stated_error() {
        for scale in [0.001, 1.0, 1_000.0] {
            let mut source = Source::new(9, 0);
            let mut values: Vec<f64> = (0..20_000).map(|_| source.exponential() * scale).collect();
            let mut histogram = Histogram::new();
            values.iter().for_each(|&value| histogram.add(value));
            values.sort_by(f64::total_cmp);
            for q in [0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
                let exact = values[((q * 20_000.0) as usize).max(1) - 1];
                let read = histogram.quantile(q);
                assert!((read / exact - 1.0).abs() < 0.004, "{q}: {read} for {exact}");
            }
        }
    }

    #[test]
    fn extremes_are_kept_and_nothing_is_nothing() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.quantile(0.5), histogram.mean()), (0.0, 0.0));
        for value in [0.0, 1e-30, 1e30] {
            histogram.add(value);
        }
        assert_eq!(histogram.count(), 3);
        assert_eq!(histogram.max(), 1e30);
        assert!(histogram.quantile(0.1) < 1e-4);
    }

    #[test]
    fn halves_make_the_whole() {
        let (mut whole, mut low, mut high) = (Histogram::new(), Histogram::new(), Histogram::new());
        for i in 1..100 {
            let value = f64::from(i);
            whole.add(value);
            if i < 50 { low.add(value) } else { high.add(value) }
        }
        low.merge(&high);
        assert_eq!(low, whole);
    }
}
