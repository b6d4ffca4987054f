//! The latency and the failures of our own requests to one endpoint.

use crate::time::{Duration, Instant};

/// How a request of ours ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ended {
    /// It was answered; from start to answer it took this long.
    Answered(Duration),
    /// It failed: refused, cut off, out of time, or answered with an error that says the endpoint is not well.
    Failed {
        /// When the endpoint asked to be tried again, if it did.
        retry_after: Option<Duration>,
    },
    /// We gave it up for reasons of our own: it says nothing of the endpoint.
    Abandoned,
}

/// Peak-sensitive mean latency and recent failures of our own requests to one endpoint: 16 bytes, integers only.
///
/// The latency rises to a higher sample at once and goes to lower ones gradually: what was believed halves its
/// weight in every half-life. A look projects it to that moment: without new samples it fades towards 0, so that
/// an endpoint that was slow once is tried again. Looking writes nothing.
///
/// A failure counts as a latency of [`PENALTY`](Self::PENALTY), or of the time after which the endpoint wants to be
/// tried again, up to [`PENALTY_MAX`](Self::PENALTY_MAX): an endpoint that fails fast must not look fast. Failures also move
/// [`failing`](Self::failing), by an eighth of the way each; it fades like the latency.
///
/// Of samples that come closer than a 32nd of the half-life only the peaks and the first are counted; rounding in
/// integers would otherwise keep a busy endpoint's latency from falling.
///
/// *Source*: Finagle's PeakEwma for the mean, linkerd's load-biaser for reading without writing and for the
/// penalties.
///
/// ```
/// use lb_core::load::{Ended, OwnLatency};
/// use lb_core::{Duration, Instant};
///
/// let mut latency = OwnLatency::new(Duration::from_secs(8));
/// let now = Instant::from_secs(1);
/// latency.record(now, Ended::Answered(Duration::from_millis(3)));
/// assert_eq!(latency.latency_us(now), 3_000);
/// latency.record(now, Ended::Failed { retry_after: None });
/// assert_eq!((latency.latency_us(now), latency.failing(now)), (5_000_000, 31));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct OwnLatency {
    /// Both figures are as of then.
    at: Instant,
    /// In eighths of a microsecond, so up to 536 s; 0: nothing was measured.
    peak: u32,
    /// In 256ths of 255ths.
    failing: u16,
    /// The half-life is two to the power of this, in microseconds.
    shift: u8,
}

/// Eighths.
const FRACTION: u32 = 3;
const FAILING_MAX: u16 = 255 << 8;
/// Every request moves `failing` by an eighth of the way.
const FAILING_SHIFT: u32 = 3;
/// Samples of less than a 32nd of the half-life after the last are not averaged.
const QUANTUM_SHIFT: u32 = 5;

impl OwnLatency {
    /// The default half-life, 2^23 us: with it the latency follows as in linkerd, whose time constant is 10 s.
    pub const HALF_LIFE: Duration = Duration::from_micros(1 << 23);

    /// What a failure counts as, at least.
    pub const PENALTY: Duration = Duration::from_secs(5);

    /// What a failure counts as, at most.
    pub const PENALTY_MAX: Duration = Duration::from_secs(300);

    /// Nothing is measured. The half-life is rounded to a power of two of microseconds, from 2^16 (66 ms) to 2^40.
    #[must_use]
    pub const fn new(half_life: Duration) -> Self {
        // The nearest power of two: up from 1.5 times the lower one.
        let doubled = half_life.as_micros().saturating_add(half_life.as_micros() >> 1);
        let shift = match doubled.checked_ilog2() {
            Some(shift) if shift > 40 => 40,
            Some(shift) if shift >= 16 => shift,
            _ => 16,
        };
        Self {
            at: Instant::ZERO,
            peak: 0,
            failing: 0,
            shift: shift as u8,
        }
    }

    /// All of it in two words, for a driver that keeps it in atomics.
    #[must_use]
    pub const fn to_words(self) -> [u64; 2] {
        let [peak, failing, shift] = [self.peak as u64, self.failing as u64, self.shift as u64];
        [self.at.as_micros(), peak | failing << 32 | shift << 48]
    }

    /// What [`to_words`](Self::to_words) made words of. Words of two different moments, as somebody may see them who reads
    /// while another writes, give a figure between or beyond the two, and no panic.
    #[must_use]
    pub const fn from_words([at, rest]: [u64; 2]) -> Self {
        Self {
            at: Instant::from_micros(at),
            peak: rest as u32,
            failing: (rest >> 32) as u16,
            // No more than `new` allows, whatever the words are.
            shift: if rest >> 48 > 40 { 40 } else { (rest >> 48) as u8 },
        }
    }

    /// Whether anything was ever measured.
    #[must_use]
    pub const fn is_measured(&self) -> bool {
        self.peak > 0 || self.failing > 0
    }

    /// A request of ours ended.
    pub fn record(&mut self, now: Instant, ended: Ended) {
        let sample = match ended {
            Ended::Answered(took) => took,
            Ended::Failed { retry_after } => retry_after
                .unwrap_or(Self::PENALTY)
                .clamp(Self::PENALTY, Self::PENALTY_MAX),
            Ended::Abandoned => return,
        };
        // At least one unit: 0 means that nothing was measured.
        let sample = u32::try_from(sample.as_micros())
            .unwrap_or(u32::MAX)
            .saturating_mul(1 << FRACTION)
            .max(1);
        let left = self.left(now);
        let quantum = u32::from(self.shift).saturating_sub(QUANTUM_SHIFT);
        let settled = now.since(self.at).as_micros().wrapping_shr(quantum) > 0;
        if sample >= self.peak || settled {
            let above = self.peak.saturating_sub(sample);
            self.peak = sample.saturating_add(scaled(above, left));
            self.failing = faded(self.failing, left);
            self.at = now;
        }
        let failed = matches!(ended, Ended::Failed { .. });
        let gone = self.failing >> FAILING_SHIFT;
        let come = if failed { FAILING_MAX >> FAILING_SHIFT } else { 0 };
        self.failing = self
            .failing
            .saturating_sub(gone)
            .saturating_add(come)
            .min(FAILING_MAX);
    }

    /// The latency in microseconds, projected to now; 0 when nothing was measured or all of it has faded.
    #[must_use]
    pub fn latency_us(&self, now: Instant) -> u32 {
        scaled(self.peak, self.left(now)) >> FRACTION
    }

    /// The share of recent requests that failed, in 255ths, projected to now.
    #[must_use]
    #[inline]
    pub fn failing(&self, now: Instant) -> u8 {
        if self.failing == 0 {
            return 0;
        }
        u8::try_from(faded(self.failing, self.left(now)) >> 8).unwrap_or(u8::MAX)
    }

    /// What is left now of a weight of 2^16. 2^-x is halved by shifts for whole half-lives, and is within 1 % of
    /// `1 - 0.693 x + 0.193 x^2` between them.
    fn left(&self, now: Instant) -> u32 {
        const SLOPE: u32 = 45_426;
        const CURVE: u32 = 12_658;
        let passed = now.since(self.at).as_micros();
        let shift = u32::from(self.shift);
        let halvings = u32::try_from(passed.wrapping_shr(shift)).unwrap_or(u32::MAX);
        let part = passed.wrapping_shr(shift.saturating_sub(16)) & 0xffff;
        let part = u32::try_from(part).unwrap_or(0);
        let slope = SLOPE.saturating_sub(CURVE.saturating_mul(part) >> 16);
        let whole = (1_u32 << 16).saturating_sub(slope.saturating_mul(part) >> 16);
        whole.checked_shr(halvings).unwrap_or(0)
    }
}

fn scaled(value: u32, left: u32) -> u32 {
    let product = u64::from(value).saturating_mul(u64::from(left));
    u32::try_from(product >> 16).unwrap_or(u32::MAX)
}

fn faded(failing: u16, left: u32) -> u16 {
    u16::try_from(scaled(u32::from(failing), left)).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn words_and_back() {
        let mut latency = OwnLatency::new(OwnLatency::HALF_LIFE);
        assert!(!latency.is_measured());
        assert_eq!(OwnLatency::from_words(latency.to_words()), latency);
        latency.record(Instant::from_secs(7), answered(3));
        latency.record(Instant::from_secs(8), Ended::Failed { retry_after: None });
        assert!(latency.is_measured());
        assert_eq!(OwnLatency::from_words(latency.to_words()), latency);
        let _ = OwnLatency::from_words([u64::MAX; 2]).latency_us(Instant::ZERO);
    }

    fn answered(ms: u64) -> Ended {
        Ended::Answered(Duration::from_millis(ms))
    }

    fn after(start: Instant, ms: u64) -> Instant {
        start.saturating_add(Duration::from_millis(ms))
    }

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<OwnLatency>(), 16);
        assert_eq!(size_of::<crate::load::Endpoint>(), 112);
    }

    #[test]
    fn rises_at_once_and_falls_by_half_in_a_half_life() {
        let mut latency = OwnLatency::new(OwnLatency::HALF_LIFE);
        let start = Instant::from_secs(100);
        latency.record(start, answered(10));
        latency.record(start, answered(1_000));
        assert_eq!(latency.latency_us(start), 1_000_000);
        let half = start.saturating_add(OwnLatency::HALF_LIFE);
        let mut sampled = latency;
        for ms in (10..8_389).step_by(10) {
            sampled.record(after(start, ms), answered(10));
        }
        let (looked, sampled) = (latency.latency_us(half), sampled.latency_us(half));
        assert!((495_000..=505_000).contains(&looked), "{looked}");
        assert!((485_000..=530_000).contains(&sampled), "{sampled}");
    }

    /// A million samples a second do not keep it up, nor does rounding keep it from what is measured.
    #[test]
    fn a_busy_endpoint_forgets_a_peak() {
        let mut latency = OwnLatency::new(SECOND);
        let start = Instant::from_secs(100);
        latency.record(start, answered(2));
        for us in 0..8_000_000_u64 {
            let now = start.saturating_add(Duration::from_micros(us));
            latency.record(now, Ended::Answered(Duration::from_micros(40)));
        }
        let now = start.saturating_add(Duration::from_secs(8));
        let seen = latency.latency_us(now);
        assert!((38..=52).contains(&seen), "{seen}");
    }

    #[test]
    fn a_failure_is_slow_and_is_forgiven() {
        let mut latency = OwnLatency::new(SECOND);
        let start = Instant::from_secs(100);
        for _ in 0..60 {
            latency.record(start, Ended::Failed { retry_after: None });
        }
        assert_eq!(latency.latency_us(start), 5_000_000);
        assert!(latency.failing(start) >= 250, "{}", latency.failing(start));
        let mut reads = std::vec::Vec::new();
        for ms in (0..40_000).step_by(7) {
            reads.push((
                latency.latency_us(after(start, ms)),
                latency.failing(after(start, ms)),
            ));
        }
        assert!(
            reads.is_sorted_by(|a, b| a.0 >= b.0 && a.1 >= b.1),
            "never rises by itself"
        );
        assert_eq!(reads.last(), Some(&(0, 0)));
        let asked = Some(Duration::from_secs(60));
        latency.record(start, Ended::Failed { retry_after: asked });
        assert_eq!(latency.latency_us(start), 60_000_000);
        let asked = Some(Duration::from_secs(9_000));
        latency.record(start, Ended::Failed { retry_after: asked });
        assert_eq!(latency.latency_us(start), 300_000_000);
    }

    #[test]
    fn successes_end_failing_and_the_abandoned_says_nothing() {
        let mut latency = OwnLatency::new(SECOND);
        let now = Instant::from_secs(100);
        latency.record(now, Ended::Abandoned);
        assert_eq!(latency, OwnLatency::new(SECOND));
        for _ in 0..20 {
            latency.record(now, Ended::Failed { retry_after: None });
        }
        let failing = latency.failing(now);
        for _ in 0..40 {
            latency.record(now, answered(1));
        }
        assert!(failing > 230 && latency.failing(now) < 5);
    }

    #[test]
    fn extremes_saturate() {
        for half_life in [0, 1, 1 << 16, u64::MAX].map(Duration::from_micros) {
            let mut latency = OwnLatency::new(half_life);
            let end = Instant::from_micros(u64::MAX);
            latency.record(end, Ended::Answered(Duration::from_micros(u64::MAX)));
            assert_eq!(latency.latency_us(end), u32::MAX >> FRACTION);
            assert_eq!(
                latency.latency_us(Instant::ZERO),
                u32::MAX >> FRACTION,
                "time does not run back"
            );
            latency.record(Instant::ZERO, Ended::Answered(Duration::ZERO));
            let mut quick = OwnLatency::new(half_life);
            quick.record(Instant::ZERO, Ended::Answered(Duration::from_micros(1)));
            assert_eq!(quick.latency_us(Instant::ZERO), 1);
            assert_eq!(quick.latency_us(end), 0);
        }
    }
}
