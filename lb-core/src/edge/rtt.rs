//! How long a server takes to answer, and how long to wait for it.

use crate::time::Duration;

/// The time-out before anything was measured, and after it was forgotten.
pub(super) const RTO_FIRST: Duration = Duration::from_millis(250);
const RTO_MIN: Duration = Duration::from_millis(40);
const RTO_MAX: Duration = Duration::from_secs(2);

/// The estimator of RFC 6298 in integers: smoothed round trip and its mean deviation, in microseconds.
///
/// What is measured includes the time the server works, so that a slow handler is not asked again and again.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Rtt {
    /// Eight times the smoothed round trip; 0 before the first sample.
    srtt8: u32,
    /// Four times the deviation.
    var4: u32,
}

impl Rtt {
    pub(super) const UNKNOWN: Self = Self { srtt8: 0, var4: 0 };

    /// A round trip that was not ambiguous (Karn): its request was sent once.
    pub(super) fn sample(&mut self, took: Duration) {
        // Up to a minute, so that eight times it fits.
        let took = u32::try_from(took.as_micros())
            .unwrap_or(u32::MAX)
            .clamp(1, 60_000_000);
        if self.srtt8 == 0 {
            self.srtt8 = took.saturating_mul(8);
            self.var4 = took.saturating_mul(2);
            return;
        }
        let srtt = self.srtt8 >> 3;
        self.var4 = self
            .var4
            .saturating_sub(self.var4 >> 2)
            .saturating_add(took.abs_diff(srtt));
        self.srtt8 = self.srtt8.saturating_sub(srtt).saturating_add(took);
    }

    /// How long to wait for an answer that was asked for `tries` times already, the last one included.
    pub(super) fn timeout(&self, tries: u8) -> Duration {
        let base = if self.srtt8 == 0 {
            RTO_FIRST
        } else {
            Duration::from_micros(u64::from((self.srtt8 >> 3).saturating_add(self.var4)))
        };
        let doublings = tries.saturating_sub(1).min(5);
        base.max(RTO_MIN).saturating_mul(1 << doublings).min(RTO_MAX)
    }

    /// The smoothed round trip in microseconds; 0 when unknown.
    pub(super) const fn smoothed_us(&self) -> u32 {
        self.srtt8 >> 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_settles_on_what_is_measured() {
        let mut rtt = Rtt::UNKNOWN;
        assert_eq!(rtt.timeout(1), RTO_FIRST);
        for _ in 0..50 {
            rtt.sample(Duration::from_millis(100));
        }
        assert!((99_000..=101_000).contains(&rtt.smoothed_us()));
        assert!((100..=110).contains(&rtt.timeout(1).as_millis()));
        assert!((200..=220).contains(&rtt.timeout(2).as_millis()));
        rtt.sample(Duration::from_secs(1));
        assert!(
            rtt.timeout(1).as_millis() > 500,
            "one late answer makes it careful"
        );
    }

    #[test]
    fn it_has_bounds() {
        let mut rtt = Rtt::UNKNOWN;
        rtt.sample(Duration::ZERO);
        assert_eq!(rtt.timeout(1), RTO_MIN);
        rtt.sample(Duration::from_secs(1_000_000));
        assert_eq!(rtt.timeout(1), RTO_MAX);
        assert_eq!(rtt.timeout(u8::MAX), RTO_MAX);
    }
}
