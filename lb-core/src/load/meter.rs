//! Measures a node's own load and makes its reports.

use super::latency::Latencies;
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

/// Utilization is averaged over steps of 2^16 us, each of which weighs a sixteenth: about a second.
const USE_STEP_SHIFT: u32 = 16;
const USE_DECAY_SHIFT: u32 = 4;
/// Fixed-point position of the mean number of requests.
const USE_SHIFT: u32 = 12;
/// After this many steps without a change less than two hundredths of what was before are left.
const USE_STEPS_MAX: u64 = 64;

/// What a request found when it came: to be given back when it ends, so that its latency is counted for that many
/// requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "give it to `LoadMeter::finish`"]
pub struct Arrival {
    /// Requests in flight with this one.
    in_flight: u16,
}

/// How a request ended on its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Finished {
    /// It was answered, after this time.
    Answered(Duration),
    /// It was answered with an error. That is work done, but no latency: failing fast must not look like being fast.
    Failed,
    /// It was given up: neither work done nor a latency.
    GivenUp,
}

/// Counts a node's requests and turns them into [`LoadReport`]s, each with a higher sequence number.
///
/// The utilization is the time-weighted mean of requests in flight over about a second, as a share of the capacity; the
/// latency is a running median of those that met about as many requests as there are now. All integers, no
/// division, a fixed amount of work; 240 bytes.
///
/// ```
/// use lb_core::load::{Finished, LoadMeter};
/// use lb_core::{Duration, Instant};
/// let mut meter = LoadMeter::new(1, 64);
/// let now = Instant::from_secs(10);
/// let arrival = meter.begin(now);
/// assert_eq!(meter.report(now).in_flight, 1);
/// meter.finish(now, arrival, Finished::Answered(Duration::from_millis(3)));
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
    /// What the application says of itself; 0: nothing.
    stated: u16,
    cpu: u16,
    memory: u16,
    completed: u64,
    /// Smoothed over all, for when no bucket is fresh.
    latency_us: u32,
    latencies: Latencies,
    /// Decayed number of answers, with `COUNT_SHIFT` fraction bits.
    recent: u64,
    /// Likewise of those that were errors.
    failed: u64,
    step: u64,
    /// Mean number of requests in flight, with `USE_SHIFT` fraction bits.
    used: u32,
    /// Request-microseconds of the current step, and up to when they are counted.
    area: u32,
    counted: Instant,
    /// 1000 / capacity, with 16 fraction bits; 0 without a capacity.
    per_place: u32,
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
            stated: 0,
            cpu: 0,
            memory: 0,
            completed: 0,
            latency_us: 0,
            latencies: Latencies::new(),
            recent: 0,
            failed: 0,
            step: 0,
            used: 0,
            area: 0,
            counted: Instant::ZERO,
            per_place: per_place(capacity),
        }
    }

    /// A request was accepted.
    pub fn begin(&mut self, now: Instant) -> Arrival {
        self.count_use(now);
        self.in_flight = self.in_flight.saturating_add(1);
        Arrival {
            in_flight: self.in_flight,
        }
    }

    /// What a request found that came last: for a server that does not keep what each of them did.
    pub const fn present(&self) -> Arrival {
        Arrival {
            in_flight: self.in_flight,
        }
    }

    /// A request ended.
    pub fn finish(&mut self, now: Instant, arrival: Arrival, finished: Finished) {
        self.count_use(now);
        self.in_flight = self.in_flight.saturating_sub(1);
        if finished == Finished::GivenUp {
            return;
        }
        self.decay(now);
        self.completed = self.completed.saturating_add(1);
        self.recent = self.recent.saturating_add(1 << COUNT_SHIFT);
        let Finished::Answered(service_time) = finished else {
            self.failed = self.failed.saturating_add(1 << COUNT_SHIFT);
            return;
        };
        let sample = u32::try_from(service_time.as_micros()).unwrap_or(u32::MAX);
        self.latencies.record(self.step as u32, arrival.in_flight, sample);
        // Jacobson's gain of 1/8; the first sample counts whole.
        self.latency_us = if self.latency_us == 0 {
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
        self.per_place = per_place(capacity);
    }

    /// What the application says its utilization is, in thousandths, in place of what is measured: it knows what it is
    /// bound by. 0 to have it measured again.
    pub const fn set_utilization(&mut self, thousandths: u16) {
        self.stated = thousandths;
    }

    /// How much of the processor and of the memory is in use, in thousandths; 0 when not known.
    pub const fn set_machine(&mut self, cpu: u16, memory: u16) {
        self.cpu = cpu;
        self.memory = memory;
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
        self.count_use(now);
        self.version.seq = self.version.seq.saturating_add(1);
        let next = self.in_flight.saturating_add(1);
        LoadReport {
            version: self.version,
            age_ms: 0,
            in_flight: self.in_flight,
            queued: self.queued,
            capacity: self.capacity,
            clients: self.clients,
            completed: self.completed,
            rate_milli: per_second(self.recent),
            latency_us: self
                .latencies
                .typical_us(self.step as u32, next)
                .unwrap_or(self.latency_us),
            utilization: if self.stated > 0 {
                self.stated
            } else {
                self.utilization()
            },
            cpu: self.cpu,
            memory: self.memory,
            errors_milli: per_second(self.failed),
        }
    }

    /// The mean number in flight times 1000 / capacity.
    fn utilization(&self) -> u16 {
        let scaled = u64::from(self.used).saturating_mul(u64::from(self.per_place));
        let rounded = scaled.saturating_add(1 << (USE_SHIFT + 15)) >> (USE_SHIFT + 16);
        u16::try_from(rounded).unwrap_or(u16::MAX)
    }

    fn decay(&mut self, now: Instant) {
        let step = now.as_micros() >> STEP_SHIFT;
        let steps = step.saturating_sub(self.step);
        if steps == 0 {
            return;
        }
        self.step = step;
        if steps > STEPS_TO_ZERO {
            (self.recent, self.failed) = (0, 0);
            return;
        }
        for _ in 0..steps {
            for count in [&mut self.recent, &mut self.failed] {
                // Rounds up, so that what is left reaches zero.
                let lost = count.saturating_add((1 << DECAY_SHIFT) - 1) >> DECAY_SHIFT;
                *count = count.saturating_sub(lost);
            }
        }
    }

    /// Counts the requests in flight up to now; called before their number changes.
    fn count_use(&mut self, now: Instant) {
        const STEP: u64 = 1 << USE_STEP_SHIFT;
        let (from, to) = (self.counted.as_micros(), now.as_micros());
        if to <= from {
            return;
        }
        self.counted = now;
        let area = |micros: u64| (micros as u32).saturating_mul(u32::from(self.in_flight));
        let steps = (to >> USE_STEP_SHIFT).saturating_sub(from >> USE_STEP_SHIFT);
        let (within, rest) = (from & (STEP - 1), to & (STEP - 1));
        if steps == 0 {
            self.area = self.area.saturating_add(area(to.saturating_sub(from)));
            return;
        }
        // What the step in progress comes to, the whole steps since, and the beginning of the next.
        let whole = u32::from(self.in_flight) << USE_SHIFT;
        let mean =
            self.area.saturating_add(area(STEP.saturating_sub(within))) >> (USE_STEP_SHIFT - USE_SHIFT);
        self.area = area(rest);
        self.used = approached(self.used, mean);
        for _ in 1..steps.min(USE_STEPS_MAX) {
            self.used = approached(self.used, whole);
        }
        if steps > USE_STEPS_MAX {
            self.used = whole;
        }
    }
}

/// A sixteenth nearer, and at least one.
const fn approached(from: u32, to: u32) -> u32 {
    let far = from.abs_diff(to);
    let step = far.saturating_add((1 << USE_DECAY_SHIFT) - 1) >> USE_DECAY_SHIFT;
    if from < to {
        from.saturating_add(step)
    } else {
        from.saturating_sub(step)
    }
}

const fn per_place(capacity: u16) -> u32 {
    match (1_000_u32 << 16).checked_div(capacity as u32) {
        Some(share) => share,
        None => 0,
    }
}

/// `count / RATE_WINDOW` in thousandths per second: the window is 2^24 us, so times 10^9 and a shift.
fn per_second(count: u64) -> u32 {
    let rate = count.saturating_mul(1_000_000_000) >> (24 + COUNT_SHIFT);
    u32::try_from(rate).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERED: Finished = Finished::Answered(Duration::from_millis(2));

    fn run(meter: &mut LoadMeter, from_ms: u64, secs: u64, per_sec: u64) {
        for i in 0..secs * per_sec {
            let at = Instant::from_millis(from_ms + i * 1_000 / per_sec);
            let arrival = meter.begin(at);
            meter.finish(at, arrival, ANSWERED);
        }
    }

    #[test]
    fn it_is_as_small_as_it_says() {
        assert!(size_of::<LoadMeter>() <= 240, "{}", size_of::<LoadMeter>());
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
            let arrival = meter.begin(Instant::from_secs(i * 10));
            meter.finish(Instant::from_secs(i * 10), arrival, ANSWERED);
        }
        let rate = meter.report(Instant::from_secs(590)).rate_milli;
        assert!((70..=160).contains(&rate), "0.1 a second: {rate}");
    }

    #[test]
    fn given_up_requests_are_no_work() {
        let mut meter = LoadMeter::new(1, 8);
        let arrival = meter.begin(Instant::ZERO);
        meter.finish(Instant::ZERO, arrival, Finished::GivenUp);
        meter.finish(Instant::ZERO, arrival, Finished::GivenUp);
        let report = meter.report(Instant::ZERO);
        assert_eq!((report.in_flight, report.completed, report.latency_us), (0, 0, 0));
    }

    #[test]
    fn failing_is_work_and_error_but_not_fast() {
        let mut meter = LoadMeter::new(1, 8);
        for at in 0..60_000 {
            let now = Instant::from_millis(at);
            let arrival = meter.begin(now);
            let finished = if at % 10 == 0 { Finished::Failed } else { ANSWERED };
            meter.finish(now, arrival, finished);
        }
        let report = meter.report(Instant::from_secs(60));
        assert!((950_000..1_050_000).contains(&report.rate_milli), "{report:?}");
        assert!((95_000..105_000).contains(&report.errors_milli), "{report:?}");
        assert_eq!((report.latency_us, report.completed), (2_000, 60_000));
        assert_eq!(meter.report(Instant::from_secs(900)).errors_milli, 0);
    }

    #[test]
    fn utilization_is_the_share_of_time_and_places_in_use() {
        let mut meter = LoadMeter::new(1, 4);
        let mut now = Instant::from_secs(5);
        // One of four places for 30 ms of every 40, two for the other 10: 5/16.
        for _ in 0..500 {
            let long = meter.begin(now);
            now = now.saturating_add(Duration::from_millis(30));
            let short = meter.begin(now);
            now = now.saturating_add(Duration::from_millis(10));
            meter.finish(now, short, ANSWERED);
            meter.finish(now, long, ANSWERED);
        }
        let share = meter.report(now).utilization;
        assert!((305..=320).contains(&share), "{share}");

        let arrivals = [(); 6].map(|()| meter.begin(now));
        now = now.saturating_add(Duration::from_millis(700));
        let half = meter.report(now).utilization;
        assert!((800..1_000).contains(&half), "half way from 312 to 1500: {half}");
        now = now.saturating_add(Duration::from_secs(20));
        assert_eq!(meter.report(now).utilization, 1_500, "requests wait");
        for arrival in arrivals {
            meter.finish(now, arrival, ANSWERED);
        }
        now = now.saturating_add(Duration::from_secs(3));
        let left = meter.report(now).utilization;
        assert!((40..120).contains(&left), "{left}");
        assert_eq!(meter.report(Instant::from_secs(90)).utilization, 0);

        meter.set_utilization(777);
        meter.set_machine(400, 500);
        let report = meter.report(now);
        assert_eq!((report.utilization, report.cpu, report.memory), (777, 400, 500));
        meter.set_capacity(0);
        meter.set_utilization(0);
        assert_eq!(meter.report(now).utilization, 0, "not stated");
    }

    #[test]
    fn latency_is_that_of_the_present_concurrency() {
        let mut meter = LoadMeter::new(1, 8);
        let now = Instant::from_secs(1);
        for _ in 0..50 {
            let alone = meter.begin(now);
            meter.finish(now, alone, Finished::Answered(Duration::from_millis(1)));
            let crowd = [(); 8].map(|()| meter.begin(now));
            for arrival in crowd {
                let latency = Duration::from_millis(u64::from(arrival.in_flight));
                meter.finish(now, arrival, Finished::Answered(latency));
            }
        }
        let typical = |meter: &mut LoadMeter| meter.report(now).latency_us;
        assert_eq!(typical(&mut meter), 1_000, "the next one would be alone");
        let _crowd = [(); 7].map(|()| meter.begin(now));
        assert_eq!(typical(&mut meter), 8_000, "and would now be the eighth");
        let later = Instant::from_secs(600);
        assert!(meter.report(later).latency_us > 0, "better old than nothing");
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
        let arrivals = [(); 70_000].map(|()| meter.begin(Instant::ZERO));
        assert_eq!(meter.report(Instant::ZERO).in_flight, u16::MAX);
        let end = Instant::from_micros(u64::MAX);
        let latency = Finished::Answered(Duration::from_micros(u64::MAX));
        meter.finish(end, arrivals[0], latency);
        let report = meter.report(end);
        assert_eq!((report.latency_us, report.utilization), (u32::MAX, u16::MAX));
    }
}
