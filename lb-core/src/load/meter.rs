//! Measures a node's own load and makes its reports.

use super::report::{LoadReport, ReportVersion};
use crate::time::{Duration, Instant};

/// Time constant of [`LoadReport::rate_milli`]: an exponentially weighted mean over 2^24 us, 16.8 s.
///
/// A power of two, so that it decays by shifts: work done long ago is forgotten, and a node that restarted
/// is not flooded until its lifetime count has caught up.
pub const RATE_WINDOW: Duration = Duration::from_micros(1 << 24);

/// The window is 32 steps; each takes away 1/32.
const STEP_SHIFT: u32 = 19;
const DECAY_SHIFT: u32 = 5;
/// After this many steps less than a thousandth of any count is left.
const STEPS_TO_ZERO: u64 = 512;
/// Fixed-point position of the decayed count.
const COUNT_SHIFT: u32 = 8;

/// Counts a node's requests and turns them into [`LoadReport`]s, each with a higher sequence number.
///
/// ```
/// use lb_core::{Duration, Instant, load::LoadMeter};
/// let mut meter = LoadMeter::new(1, 64);
/// let now = Instant::from_secs(10);
/// meter.begin();
/// assert_eq!(meter.report(now).in_flight, 1);
/// meter.finish(now, Some(Duration::from_millis(3)));
/// let report = meter.report(now);
/// assert_eq!((report.in_flight, report.completed, report.latency_us), (0, 1, 3_000));
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LoadMeter {
    version: ReportVersion,
    capacity: u16,
    in_flight: u16,
    queued: u16,
    clients: u16,
    completed: u64,
    latency_us: u32,
    /// Decayed number of answers, with `COUNT_SHIFT` fraction bits.
    recent: u64,
    step: u64,
}

impl LoadMeter {
    /// A meter for one life of a node that serves `capacity` requests at once (0: does not say).
    #[must_use]
    pub const fn new(epoch: u32, capacity: u16) -> Self {
        Self {
            version: ReportVersion { epoch, seq: 0 },
            capacity,
            in_flight: 0,
            queued: 0,
            clients: 0,
            completed: 0,
            latency_us: 0,
            recent: 0,
            step: 0,
        }
    }

    /// A request was accepted.
    pub const fn begin(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// A request ended. `service_time` when it was answered, `None` when it was given up: then it counts
    /// neither as work done nor as a latency.
    pub fn finish(&mut self, now: Instant, service_time: Option<Duration>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(service_time) = service_time else { return };
        self.decay(now);
        self.completed = self.completed.saturating_add(1);
        self.recent = self.recent.saturating_add(1 << COUNT_SHIFT);
        let sample = u32::try_from(service_time.as_micros()).unwrap_or(u32::MAX);
        // Jacobson's gain of 1/8; the first sample counts whole.
        self.latency_us = if self.completed == 1 {
            sample
        } else {
            let (old, new) = (u64::from(self.latency_us), u64::from(sample));
            let mixed = old.saturating_mul(7).saturating_add(new).saturating_add(4) >> 3;
            u32::try_from(mixed).unwrap_or(u32::MAX)
        };
    }

    /// How many accepted requests wait for a place.
    pub const fn set_queued(&mut self, queued: u16) {
        self.queued = queued;
    }

    /// How many clients sent requests lately.
    pub const fn set_clients(&mut self, clients: u16) {
        self.clients = clients;
    }

    /// How many requests are served at once.
    pub const fn set_capacity(&mut self, capacity: u16) {
        self.capacity = capacity;
    }

    /// Begins a new life: sequence numbers start again below a higher epoch. Counts are kept.
    pub const fn set_epoch(&mut self, epoch: u32) {
        self.version = ReportVersion { epoch, seq: 0 };
    }

    /// Requests accepted and not yet ended.
    #[must_use]
    pub const fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// The next report. O(1); no division.
    pub fn report(&mut self, now: Instant) -> LoadReport {
        self.decay(now);
        self.version.seq = self.version.seq.saturating_add(1);
        LoadReport {
            version: self.version,
            age_ms: 0,
            in_flight: self.in_flight,
            queued: self.queued,
            capacity: self.capacity,
            clients: self.clients,
            completed: self.completed,
            rate_milli: self.rate_milli(),
            latency_us: self.latency_us,
        }
    }

    /// `recent / RATE_WINDOW` in thousandths per second: the window is 2^24 us, so times 10^9 and a shift.
    fn rate_milli(&self) -> u32 {
        let rate = self.recent.saturating_mul(1_000_000_000) >> (24 + COUNT_SHIFT);
        u32::try_from(rate).unwrap_or(u32::MAX)
    }

    fn decay(&mut self, now: Instant) {
        let step = now.as_micros() >> STEP_SHIFT;
        let steps = step.saturating_sub(self.step);
        if steps == 0 {
            return;
        }
        self.step = step;
        if steps > STEPS_TO_ZERO {
            self.recent = 0;
            return;
        }
        for _ in 0..steps {
            // Rounds up, so that what is left reaches zero.
            let lost = self.recent.saturating_add((1 << DECAY_SHIFT) - 1) >> DECAY_SHIFT;
            self.recent = self.recent.saturating_sub(lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(meter: &mut LoadMeter, from_ms: u64, secs: u64, per_sec: u64) {
        for i in 0..secs * per_sec {
            meter.begin();
            let at = Instant::from_millis(from_ms + i * 1_000 / per_sec);
            meter.finish(at, Some(Duration::from_millis(2)));
        }
    }

    #[test]
    fn the_rate_follows_the_work_and_forgets_it() {
        let mut meter = LoadMeter::new(1, 8);
        run(&mut meter, 0, 120, 50);
        let rate = meter.report(Instant::from_secs(120)).rate_milli;
        assert!((47_000..=53_000).contains(&rate), "{rate}");
        let rate = meter.report(Instant::from_secs(120 + 17)).rate_milli;
        assert!(
            (15_000..=21_000).contains(&rate),
            "one window later about 1/e is left: {rate}"
        );
        assert_eq!(meter.report(Instant::from_secs(900)).rate_milli, 0);
    }

    #[test]
    fn a_slow_worker_has_a_rate_too() {
        let mut meter = LoadMeter::new(1, 1);
        for i in 0..60 {
            meter.begin();
            meter.finish(Instant::from_secs(i * 10), Some(Duration::from_secs(1)));
        }
        let rate = meter.report(Instant::from_secs(590)).rate_milli;
        assert!((70..=160).contains(&rate), "0.1 a second: {rate}");
    }

    #[test]
    fn given_up_requests_are_no_work() {
        let mut meter = LoadMeter::new(1, 8);
        meter.begin();
        meter.finish(Instant::ZERO, None);
        meter.finish(Instant::ZERO, None);
        let report = meter.report(Instant::ZERO);
        assert_eq!((report.in_flight, report.completed, report.latency_us), (0, 0, 0));
    }

    #[test]
    fn sequence_rises_and_a_new_epoch_outranks_it() {
        let mut meter = LoadMeter::new(3, 8);
        let first = meter.report(Instant::ZERO).version;
        let second = meter.report(Instant::ZERO).version;
        assert!(second > first);
        meter.set_epoch(4);
        assert!(meter.report(Instant::ZERO).version > second);
    }

    #[test]
    fn counters_saturate() {
        let mut meter = LoadMeter::new(1, 8);
        for _ in 0..70_000 {
            meter.begin();
        }
        assert_eq!(meter.report(Instant::ZERO).in_flight, u16::MAX);
        meter.finish(
            Instant::from_micros(u64::MAX),
            Some(Duration::from_micros(u64::MAX)),
        );
        assert_eq!(meter.report(Instant::from_micros(u64::MAX)).latency_us, u32::MAX);
    }
}
