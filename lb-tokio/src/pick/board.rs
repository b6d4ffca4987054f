//! What is known of every endpoint's load, where all threads can read it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use lb_core::Instant as Moment;
use lb_core::load::{CachedLoad, Ended, LoadFigures, OwnLatency};
use lb_core::pick::{Glance, Load};
use tokio::time::Instant;

/// One slot. A cache line of its own, so that requests to different endpoints do not slow each other down.
///
/// Its words are read and written one by one. Whoever reads while a report is written may see half of the old
/// one and half of the new one, which makes one estimate a little wrong; no pick depends on more. What must be
/// exact, the number of requests in flight, is one word.
#[repr(align(64))]
struct Cell {
    own_in_flight: AtomicU32,
    own_at_report: AtomicU32,
    /// In flight, queued, capacity and clients, from the low end.
    counts: AtomicU64,
    /// Rate and latency.
    rates: AtomicU64,
    /// Errors and utilization.
    more: AtomicU64,
    /// When the report was made, in microseconds since the origin, or before it; or [`NEVER`].
    taken: AtomicU64,
    /// Microseconds since the origin; 0 when nothing was said.
    full_until: AtomicU64,
    /// [`OwnLatency::to_words`].
    latency: [AtomicU64; 2],
}

/// One line, not two.
const _: () = assert!(size_of::<Cell>() == 64);

/// No report.
const NEVER: u64 = i64::MIN.cast_unsigned();

impl Cell {
    const fn new() -> Self {
        let [at, rest] = OwnLatency::new(OwnLatency::HALF_LIFE).to_words();
        Self {
            own_in_flight: AtomicU32::new(0),
            own_at_report: AtomicU32::new(0),
            counts: AtomicU64::new(0),
            rates: AtomicU64::new(0),
            more: AtomicU64::new(0),
            taken: AtomicU64::new(NEVER),
            full_until: AtomicU64::new(0),
            latency: [AtomicU64::new(at), AtomicU64::new(rest)],
        }
    }

    #[inline]
    fn latency(&self) -> OwnLatency {
        OwnLatency::from_words(self.latency.each_ref().map(|word| word.load(Ordering::Relaxed)))
    }

    fn set_latency(&self, latency: OwnLatency) {
        for (word, value) in self.latency.iter().zip(latency.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// How many requests it serves at once; 0 when it did not say.
    #[inline]
    fn capacity(&self) -> u32 {
        (self.counts.load(Ordering::Relaxed) >> 32) as u32 & 0xffff
    }

    #[inline(always)]
    fn figures(&self) -> LoadFigures {
        let counts = self.counts.load(Ordering::Relaxed);
        let rates = self.rates.load(Ordering::Relaxed);
        let more = self.more.load(Ordering::Relaxed);
        LoadFigures {
            in_flight: counts as u16,
            queued: (counts >> 16) as u16,
            capacity: (counts >> 32) as u16,
            clients: (counts >> 48) as u16,
            rate_milli: rates as u32,
            latency_us: (rates >> 32) as u32,
            errors_milli: more as u32,
            utilization: (more >> 32) as u16,
        }
    }
}

/// The loads of all endpoints by slot, the version of who they are, and the time.
///
/// Nothing here takes a lock. Relaxed accesses suffice for the loads, which are independent estimates; the
/// version is released after what it stands for.
pub(super) struct Board {
    cells: Box<[Cell]>,
    version: AtomicU64,
    origin: Instant,
    /// A moment that has passed, in microseconds: what somebody who read the clock wrote last.
    passed: AtomicU64,
    ttl_us: u64,
}

impl Board {
    pub(super) fn new(slots: usize, origin: Instant, ttl: Duration) -> Self {
        Self {
            cells: (0..slots).map(|_| Cell::new()).collect(),
            version: AtomicU64::new(0),
            origin,
            passed: AtomicU64::new(0),
            ttl_us: micros(ttl).min(u64::MAX - 1),
        }
    }

    pub(super) fn slots(&self) -> usize {
        self.cells.len()
    }

    /// Which roster is in force.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn set_version(&self, version: u64) {
        self.version.store(version, Ordering::Release);
    }

    /// Reads the clock: microseconds since the origin.
    pub(super) fn now(&self) -> u64 {
        micros(self.origin.elapsed())
    }

    /// It is this late at least.
    #[inline]
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    pub(super) fn pass(&self, now: Moment) {
        self.passed.fetch_max(now.as_micros(), Ordering::Relaxed);
    }

    /// A request begins, unless as many as the endpoint serves are in flight.
    #[inline]
    pub(super) fn try_begin(&self, slot: usize) -> bool {
        let Some(cell) = self.cells.get(slot) else {
            return false;
        };
        let capacity = cell.capacity();
        let before = cell.own_in_flight.fetch_add(1, Ordering::Relaxed);
        let room = capacity == 0 || before < capacity;
        if !room {
            cell.own_in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        room
    }

    /// A request begins, full or not.
    pub(super) fn begin(&self, slot: usize) {
        if let Some(cell) = self.cells.get(slot) {
            cell.own_in_flight.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request ended. Once for every one that began.
    #[inline]
    pub(super) fn end(&self, slot: usize) {
        if let Some(cell) = self.cells.get(slot) {
            cell.own_in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(super) fn own_in_flight(&self, slot: usize) -> u32 {
        let cell = self.cells.get(slot);
        cell.map_or(0, |cell| cell.own_in_flight.load(Ordering::Relaxed))
    }

    /// Whether it certainly has no place: our own requests alone fill it, or it said so a moment ago. What a
    /// report says is not evidence enough, see [`lb_core::load::Endpoint::is_full`].
    #[inline]
    pub(super) fn is_full(&self, slot: usize, now: impl FnOnce() -> u64) -> bool {
        let Some(cell) = self.cells.get(slot) else {
            return true;
        };
        let capacity = cell.capacity();
        if capacity > 0 && cell.own_in_flight.load(Ordering::Relaxed) >= capacity {
            return true;
        }
        let until = cell.full_until.load(Ordering::Relaxed);
        until > 0 && now() < until
    }

    #[inline(always)]
    pub(super) fn load(&self, slot: usize, now: impl Fn() -> u64) -> Load {
        let Some(cell) = self.cells.get(slot) else {
            return Load::default();
        };
        let taken = cell.taken.load(Ordering::Relaxed);
        // Far beyond any time to live when there was none.
        let age = if taken == NEVER {
            u64::MAX
        } else {
            let age = now().cast_signed().wrapping_sub(taken.cast_signed());
            age.max(0).cast_unsigned()
        };
        let fresh = age <= self.ttl_us;
        let latency = cell.latency();
        let (own_latency_us, failing) = if latency.is_measured() {
            let now = Moment::from_micros(now());
            (latency.latency_us(now), latency.failing(now))
        } else {
            (0, 0)
        };
        Load {
            report: fresh.then(|| cell.figures()),
            age_ms: if fresh {
                u32::try_from(age / 1_000).unwrap_or(u32::MAX)
            } else {
                0
            },
            own_in_flight: cell.own_in_flight.load(Ordering::Relaxed),
            own_at_report: cell.own_at_report.load(Ordering::Relaxed),
            own_latency_us,
            failing,
        }
    }

    /// The part of a load that a corrected estimate is made of: what is atomic is read even if nobody uses it.
    #[inline(always)]
    pub(super) fn glance(&self, slot: usize, now: impl Fn() -> u64) -> Glance {
        let Some(cell) = self.cells.get(slot) else {
            return Glance::default();
        };
        let taken = cell.taken.load(Ordering::Relaxed);
        let latency = cell.latency();
        let measured = latency.is_measured();
        let (mut reported, mut failing) = (None, 0);
        if taken != NEVER || measured {
            let now = now();
            let age = now.cast_signed().wrapping_sub(taken.cast_signed()).max(0);
            if taken != NEVER && age.cast_unsigned() <= self.ttl_us {
                let counts = cell.counts.load(Ordering::Relaxed);
                reported = Some((counts as u16, (counts >> 48) as u16));
            }
            if measured {
                failing = latency.failing(Moment::from_micros(now));
            }
        }
        Glance {
            reported,
            own_in_flight: cell.own_in_flight.load(Ordering::Relaxed),
            own_at_report: cell.own_at_report.load(Ordering::Relaxed),
            failing,
        }
    }

    /// What it said last, however long ago.
    pub(super) fn last_figures(&self, slot: usize) -> Option<LoadFigures> {
        let cell = self.cells.get(slot)?;
        (cell.taken.load(Ordering::Relaxed) != NEVER).then(|| cell.figures())
    }

    /// Writes a report, or that there is none. `newer`: it is another one than before, not a fresher copy.
    pub(super) fn write(&self, slot: usize, now: Moment, cached: Option<&CachedLoad>, newer: bool) {
        let Some(cell) = self.cells.get(slot) else {
            return;
        };
        if newer {
            let own = cell.own_in_flight.load(Ordering::Relaxed);
            cell.own_at_report.store(own, Ordering::Relaxed);
        }
        let figures = cached.map_or_else(LoadFigures::default, |cached| cached.report().figures());
        let counts = u64::from(figures.in_flight)
            | u64::from(figures.queued) << 16
            | u64::from(figures.capacity) << 32
            | u64::from(figures.clients) << 48;
        let rates = u64::from(figures.rate_milli) | u64::from(figures.latency_us) << 32;
        let more = u64::from(figures.errors_milli) | u64::from(figures.utilization) << 32;
        let age = |cached: &CachedLoad| cached.age(now).as_micros().min(i64::MAX as u64);
        let taken = cached.map_or(NEVER, |cached| now.as_micros().wrapping_sub(age(cached)));
        cell.counts.store(counts, Ordering::Relaxed);
        cell.rates.store(rates, Ordering::Relaxed);
        cell.more.store(more, Ordering::Relaxed);
        cell.taken.store(taken, Ordering::Relaxed);
    }

    /// A request there ended like this. Of two that end at the same moment one may be left out of the mean.
    pub(super) fn record(&self, slot: usize, ended: Ended) {
        if let Some(cell) = self.cells.get(slot)
            && ended != Ended::Abandoned
        {
            let mut latency = cell.latency();
            latency.record(Moment::from_micros(self.now()), ended);
            cell.set_latency(latency);
        }
    }

    /// Nothing was measured there: it begins a new life, or is somebody else.
    pub(super) fn forget_latency(&self, slot: usize) {
        if let Some(cell) = self.cells.get(slot) {
            cell.set_latency(OwnLatency::new(OwnLatency::HALF_LIFE));
        }
    }

    /// It has no place until then.
    pub(super) fn set_full_until(&self, slot: usize, until: Moment) {
        if let Some(cell) = self.cells.get(slot) {
            cell.full_until.store(until.as_micros(), Ordering::Relaxed);
        }
    }
}

/// Microseconds, without the 128-bit division of `as_micros`.
fn micros(span: Duration) -> u64 {
    span.as_secs()
        .saturating_mul(1_000_000)
        .saturating_add(u64::from(span.subsec_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::load::LoadReport;

    const NOW: Moment = Moment::from_secs(100);

    fn board() -> Board {
        Board::new(4, Instant::now(), Duration::from_secs(10))
    }

    fn after(millis: u64) -> u64 {
        NOW.as_micros() + millis * 1_000
    }

    #[test]
    fn a_report_comes_back_as_it_was_with_its_age() {
        let board = board();
        let report = LoadReport {
            age_ms: 400,
            in_flight: 1,
            queued: 2,
            capacity: u16::MAX,
            clients: 4,
            rate_milli: u32::MAX,
            latency_us: 6,
            errors_milli: 7,
            utilization: 8,
            ..LoadReport::default()
        };
        board.begin(2);
        board.write(2, NOW, Some(&CachedLoad::new(NOW, report)), true);
        board.begin(2);
        let load = board.load(2, || after(100));
        assert_eq!(load.report, Some(report.figures()));
        assert_eq!((load.age_ms, load.own_in_flight, load.own_at_report), (500, 2, 1));
        assert!(board.load(2, || after(9_600)).report.is_some());
        assert!(
            board.load(2, || after(9_601)).report.is_none(),
            "past its time to live"
        );
        assert!(board.load(1, || after(0)).report.is_none());
        assert_eq!(board.last_figures(2), Some(report.figures()));
        board.write(2, NOW, None, false);
        assert_eq!(board.last_figures(2), None);
    }

    #[test]
    fn a_glance_is_a_part_of_the_load() {
        let board = board();
        let report = LoadReport {
            in_flight: 9,
            clients: 4,
            ..LoadReport::default()
        };
        board.begin(1);
        board.write(1, NOW, Some(&CachedLoad::new(NOW, report)), true);
        board.begin(1);
        board.record(2, Ended::Failed { retry_after: None });
        for slot in 0..5 {
            for millis in [0, 9_600, 10_001] {
                let now = || after(millis);
                assert_eq!(
                    board.glance(slot, now),
                    board.load(slot, now).into(),
                    "{slot} {millis}"
                );
            }
        }
        assert_eq!(board.glance(1, || after(0)).reported, Some((9, 4)));
        assert!(board.glance(2, || board.now()).failing > 0);
    }

    #[test]
    fn a_sample_from_before_the_origin_has_its_age() {
        let board = board();
        let report = LoadReport {
            age_ms: 5_000,
            ..LoadReport::default()
        };
        let start = Moment::from_secs(1);
        board.write(0, start, Some(&CachedLoad::new(start, report)), true);
        assert_eq!(board.load(0, || 2_000_000).age_ms, 6_000);
        assert_eq!(board.load(0, || 0).age_ms, 4_000, "a clock that lags is no panic");
    }

    #[test]
    fn full_is_by_own_requests_or_by_its_word() {
        let board = board();
        let report = LoadReport {
            capacity: 2,
            in_flight: 900,
            ..LoadReport::default()
        };
        board.write(0, NOW, Some(&CachedLoad::new(NOW, report)), true);
        assert!(!board.is_full(0, || after(0)), "a report is no evidence");
        assert!(board.try_begin(0) && board.try_begin(0));
        assert!(board.is_full(0, || after(0)));
        assert!(!board.try_begin(0));
        assert_eq!(board.own_in_flight(0), 2);
        board.begin(0);
        assert_eq!(board.own_in_flight(0), 3, "whoever insists is counted");
        board.set_full_until(1, Moment::from_micros(after(50)));
        assert!(board.is_full(1, || after(49)));
        assert!(!board.is_full(1, || after(50)));
        assert!(board.is_full(9, || after(0)), "no such slot");
    }
}
