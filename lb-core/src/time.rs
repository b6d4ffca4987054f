//! Time as the caller gives it: integer microseconds from an arbitrary origin.
//!
//! All arithmetic saturates: a deadline beyond the end of time never fires, a moment before the origin is
//! the origin. 2^64 microseconds are 584 000 years.

/// A moment, in microseconds since an origin the caller chose (boot, process start, simulation start).
///
/// Moments of different nodes are never compared: ages travel, clocks do not.
///
/// ```
/// use lb_core::{Duration, Instant};
/// let start = Instant::from_millis(5);
/// let later = start.saturating_add(Duration::from_secs(1));
/// assert_eq!(later.since(start), Duration::from_millis(1_000));
/// assert_eq!(start.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant(u64);

impl Instant {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// The moment `micros` microseconds after the origin.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The moment `millis` milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// The moment `secs` seconds after the origin.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the origin.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    // A 64-bit operation takes a small core ten instructions, and there are a hundred of them.
    #[cfg_attr(target_os = "none", inline(never))]
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }

    /// This moment moved forward.
    #[cfg_attr(target_os = "none", inline(never))]
    #[must_use]
    pub const fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by.0))
    }

    /// Now, as the time since `origin`. Feature `std`.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn from_std(origin: std::time::Instant, now: std::time::Instant) -> Self {
        Self(Duration::from(now.saturating_duration_since(origin)).0)
    }
}

/// A span of time in whole microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Duration(u64);

impl Duration {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// A span of `micros` microseconds.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// A span of `millis` milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// A span of `secs` seconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// The span in microseconds.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The span in whole milliseconds. Divides; not for the pick and message paths.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// The span in milliseconds as a pick needs it: without a division, and a ten-millionth more at most.
    pub(crate) const fn as_millis_u32(self) -> u32 {
        // 17179870 / 2^31 is 1 / 125.
        const EIGHTHS_MAX: u64 = (u32::MAX as u64) * 125;
        let eighths = self.0 >> 3;
        if eighths > EIGHTHS_MAX {
            return u32::MAX;
        }
        let millis = eighths.saturating_mul(17_179_870) >> 31;
        if millis > u32::MAX as u64 {
            u32::MAX
        } else {
            millis as u32
        }
    }

    /// The sum.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, zero when `other` is longer.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The span `times` times over.
    #[must_use]
    pub const fn saturating_mul(self, times: u32) -> Self {
        Self(self.0.saturating_mul(times as u64))
    }
}

impl From<core::time::Duration> for Duration {
    fn from(span: core::time::Duration) -> Self {
        Self(
            span.as_secs()
                .saturating_mul(1_000_000)
                .saturating_add(u64::from(span.subsec_micros())),
        )
    }
}

impl From<Duration> for core::time::Duration {
    fn from(span: Duration) -> Self {
        Self::from_micros(span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let end = Instant::from_micros(u64::MAX);
        assert_eq!(end.saturating_add(Duration::from_secs(1)), end);
        assert_eq!(Instant::from_secs(u64::MAX), end);
        assert_eq!(Duration::from_secs(2).saturating_mul(3), Duration::from_secs(6));
        assert_eq!(
            Duration::from_secs(1).saturating_sub(Duration::from_secs(2)),
            Duration::ZERO
        );
    }

    #[test]
    fn milliseconds_without_division() {
        for micros in (0..40_000_000)
            .step_by(333)
            .chain([3_600_000_000, 20_000_000_000])
        {
            let span = Duration::from_micros(micros);
            assert_eq!(u64::from(span.as_millis_u32()), span.as_millis(), "{micros}");
        }
        let weeks = Duration::from_secs(49 * 86_400);
        assert!(u64::from(weeks.as_millis_u32()) - weeks.as_millis() < 250);
        for micros in [u64::MAX, u64::from(u32::MAX) * 1_000] {
            assert_eq!(Duration::from_micros(micros).as_millis_u32(), u32::MAX);
        }
    }

    #[test]
    fn converts_to_and_from_core() {
        let span = core::time::Duration::from_micros(1_234_567);
        assert_eq!(Duration::from(span), Duration::from_micros(1_234_567));
        assert_eq!(core::time::Duration::from(Duration::from(span)), span);
        assert_eq!(
            Duration::from(core::time::Duration::MAX),
            Duration::from_micros(u64::MAX)
        );
    }
}
