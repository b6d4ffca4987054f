//! How long requests take, by how many there are.

/// 1, 2-3, 4-7, ... requests in flight; the last takes all above.
const BUCKETS: usize = 10;

/// What was measured longer ago than this counts only when there is nothing else: 128 steps of the meter, 67 s.
const FRESH_STEPS: u32 = 128;

/// From this many samples in a row on the same side the typical latency has moved, and is followed in large steps.
const RUN: u8 = 6;

/// The first samples move the typical latency in large steps.
const YOUNG: u8 = 16;

const LARGE_STEP_SHIFT: u32 = 3;
const SMALL_STEP_SHIFT: u32 = 6;

/// Typical latencies by the number of requests in flight at arrival: what a server answers to "how long would a request
/// take that comes now" (Prequal, NSDI'24: the median of recent latencies at the current requests in flight).
///
/// A bucket keeps a running median: each sample moves it by a 64th towards itself (Ma, Muthukrishnan and Sandler,
/// "Frugal Streaming for Estimating Quantiles", 2013), or by an eighth when six in a row were on the same side. So
/// a few very slow requests change nothing, and a lasting change is followed within a dozen. O(1), 12 bytes a bucket.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Latencies {
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Bucket {
    /// 0: no sample yet.
    typical_us: u32,
    step: u32,
    samples: u8,
    /// Samples in a row above, or not above.
    run: u8,
    above: bool,
}

impl Bucket {
    const EMPTY: Self = Self {
        typical_us: 0,
        step: 0,
        samples: 0,
        run: 0,
        above: false,
    };

    fn record(&mut self, sample: u32) {
        self.samples = self.samples.saturating_add(1);
        if self.typical_us == 0 {
            self.typical_us = sample.max(1);
            return;
        }
        let above = sample > self.typical_us;
        self.run = if above == self.above {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.above = above;
        let large = self.samples < YOUNG || self.run >= RUN;
        let shift = if large { LARGE_STEP_SHIFT } else { SMALL_STEP_SHIFT };
        let step = (self.typical_us >> shift)
            .max(1)
            .min(sample.abs_diff(self.typical_us));
        self.typical_us = if above {
            self.typical_us.saturating_add(step)
        } else {
            self.typical_us.saturating_sub(step).max(1)
        };
    }

    const fn is_fresh(&self, step: u32) -> bool {
        self.typical_us > 0 && step.wrapping_sub(self.step) <= FRESH_STEPS
    }
}

fn bucket_of(in_flight: u16) -> usize {
    let log2 = 15_u32.saturating_sub(in_flight.max(1).leading_zeros());
    (log2 as usize).min(BUCKETS.saturating_sub(1))
}

impl Latencies {
    pub(super) const fn new() -> Self {
        Self {
            buckets: [Bucket::EMPTY; BUCKETS],
        }
    }

    /// A request took so long that had found, with itself, `in_flight` requests.
    pub(super) fn record(&mut self, step: u32, in_flight: u16, sample_us: u32) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(in_flight)) {
            if !bucket.is_fresh(step) {
                *bucket = Bucket::EMPTY;
            }
            bucket.step = step;
            bucket.record(sample_us);
        }
    }

    /// The typical latency with so many in flight, or with the nearest number that was there lately; of two as near, the
    /// higher.
    pub(super) fn typical_us(&self, step: u32, in_flight: u16) -> Option<u32> {
        let at = bucket_of(in_flight);
        let fresh = |index: usize| {
            let bucket = self.buckets.get(index)?;
            bucket.is_fresh(step).then_some(bucket.typical_us)
        };
        (0..BUCKETS).find_map(|far| {
            let below = at.checked_sub(far).and_then(fresh);
            fresh(at.saturating_add(far)).or(below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng as _, Sfc32};

    /// Exponential with this mean, by inversion.
    fn exponential(rng: &mut Sfc32, mean: f64) -> u32 {
        let uniform = (f64::from(rng.next_u32()) + 1.0) / 4_294_967_296.0;
        (-uniform.ln() * mean) as u32
    }

    #[test]
    fn buckets_are_logarithmic() {
        let expected = [
            (0, 0),
            (1, 0),
            (2, 1),
            (3, 1),
            (4, 2),
            (511, 8),
            (512, 9),
            (u16::MAX, 9),
        ];
        for (in_flight, bucket) in expected {
            assert_eq!(bucket_of(in_flight), bucket, "{in_flight}");
        }
    }

    #[test]
    fn each_concurrency_has_its_own() {
        let mut latencies = Latencies::new();
        for _ in 0..200 {
            latencies.record(1, 1, 1_000);
            latencies.record(1, 8, 9_000);
        }
        assert_eq!(latencies.typical_us(1, 1), Some(1_000));
        assert_eq!(latencies.typical_us(1, 15), Some(9_000));
        assert_eq!(latencies.typical_us(1, 2), Some(1_000), "the nearer neighbour");
        assert_eq!(latencies.typical_us(1, 4), Some(9_000));
        assert_eq!(latencies.typical_us(1, u16::MAX), Some(9_000));
        assert_eq!(latencies.typical_us(500, 1), None, "all of that is long ago");
        latencies.record(500, 1, 50);
        assert_eq!(latencies.typical_us(500, 8), Some(50), "and begins anew");
    }

    #[test]
    fn it_is_the_median_whatever_the_outliers() {
        let (mut rng, mut sum, mut worst) = (Sfc32::new(7), 0.0, 0.0_f64);
        for _ in 0..100 {
            let mut latencies = Latencies::new();
            for at in 0..2_000 {
                let sample = exponential(&mut rng, 10_000.0);
                let stuck = if at % 50 == 0 { 5_000_000 } else { sample };
                latencies.record(1, 4, stuck);
            }
            let ratio = f64::from(latencies.typical_us(1, 4).unwrap()) / (10_000.0 * 2.0_f64.ln());
            sum += ratio;
            worst = worst.max((ratio - 1.0).abs());
        }
        let mean = sum / 100.0;
        assert!((0.95..1.12).contains(&mean), "{mean}");
        assert!(worst < 0.6, "{worst}");
    }

    #[test]
    fn a_lasting_change_is_followed() {
        let (mut rng, mut latencies) = (Sfc32::new(3), Latencies::new());
        for _ in 0..1_000 {
            latencies.record(1, 1, exponential(&mut rng, 1_000.0));
        }
        for _ in 0..60 {
            latencies.record(1, 1, exponential(&mut rng, 10_000.0));
        }
        let typical = latencies.typical_us(1, 1).unwrap();
        assert!((4_000..12_000).contains(&typical), "{typical}");
    }
}
