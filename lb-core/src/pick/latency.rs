//! The lower expected wait of two.

use super::choices::Sampler;
use super::{Load, Pool, Strategy};
use crate::rng::Rng;

/// Of `d` candidates drawn at random the one with the lowest `latency * (own requests in flight + 1)`, where the latency is
/// what [`Load::own_latency_us`](super::Load::own_latency_us) says: peak-sensitive, fading, failures included as high
/// latencies. O(d).
///
/// Choose it when endpoints differ in speed or slow down by themselves and do not report: it needs nothing but what a
/// client sees. One client measures well only what it calls often, so with many clients and few requests each,
/// reports tell more.
///
/// An endpoint of which nothing was measured is taken for the mean of the measured ones in the sample, so that our own
/// requests in flight decide: it is given work at once and not more than the others have. The mean is capped at 1 s
/// (linkerd's first guess), so that the new one does not inherit the penalty of one that fails.
///
/// *Source*: Finagle's and tower's PeakEwma over two choices; linkerd's load-biaser for failures.
///
/// ```
/// use lb_core::pick::{Load, PeakEwma, SlicePool, Strategy};
/// use lb_core::rng::Sfc32;
///
/// let loads = [2_000, 500, 9_000].map(|own_latency_us| Load { own_latency_us, ..Load::default() });
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     own_in_flight: &[0, 2, 0],
///     loads: &loads,
///     ..SlicePool::default()
/// };
/// let mut strategy = PeakEwma::new(3);
/// assert_eq!(strategy.pick(&pool, None, &mut Sfc32::new(1)), Some(1), "3 times 500 us");
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PeakEwma {
    sampler: Sampler,
}

/// What an unmeasured endpoint is taken for at most.
const GUESS_MAX_US: u32 = 1_000_000;

impl Default for PeakEwma {
    fn default() -> Self {
        Self::new(2)
    }
}

impl PeakEwma {
    /// The best of that many, 2 to 10.
    #[must_use]
    pub const fn new(choices: u8) -> Self {
        Self {
            sampler: Sampler::new(choices),
        }
    }
}

impl Strategy for PeakEwma {
    #[inline]
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        self.sampler.best(pool, rng, |all, slot| {
            let load = pool.load(slot);
            let latency = match load.own_latency_us {
                0 => guess(all.iter().map(|&slot| pool.load(slot))),
                measured => measured,
            };
            u64::from(latency).wrapping_mul(u64::from(load.own_in_flight).wrapping_add(1))
        })
    }
}

#[cold]
fn guess(others: impl Iterator<Item = Load>) -> u32 {
    let (mut sum, mut count) = (0_u32, 0_u32);
    for other in others.filter(|other| other.own_latency_us > 0) {
        sum = sum.saturating_add(other.own_latency_us);
        count = count.saturating_add(1);
    }
    sum.checked_div(count).unwrap_or(GUESS_MAX_US).min(GUESS_MAX_US)
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;

    fn table(measured: &[(u32, u32)]) -> Table {
        let mut table = Table::new(measured.len());
        for (load, &(latency, own)) in table.loads.iter_mut().zip(measured) {
            load.own_latency_us = latency;
            load.own_in_flight = own;
        }
        table
    }

    fn pick(table: &Table) -> Option<usize> {
        PeakEwma::default().pick(table, None, &mut Sfc32::new(1))
    }

    #[test]
    fn the_lower_expected_wait_wins() {
        assert_eq!(pick(&table(&[(1_000, 0), (400, 2)])), Some(0));
        assert_eq!(pick(&table(&[(1_000, 0), (400, 1)])), Some(1));
        let most = (u32::MAX, u32::MAX);
        assert!(pick(&table(&[most, most])).is_some());
        assert_eq!(pick(&table(&[most, (u32::MAX, 7)])), Some(1));
    }

    #[test]
    fn the_unmeasured_gets_as_much_as_the_others_have() {
        assert_eq!(pick(&table(&[(700, 3), (0, 2)])), Some(1));
        assert_eq!(pick(&table(&[(700, 3), (0, 4)])), Some(0));
        assert_eq!(pick(&table(&[(0, 3), (0, 2)])), Some(1));
        assert_eq!(
            pick(&table(&[(5_000_000, 0), (0, 3)])),
            Some(1),
            "one that fails is no measure"
        );
    }
}
