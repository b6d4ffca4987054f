//! The load cache: the last report of every endpoint, with its age, and our own requests there.

use core::fmt;

use heapless::Vec;

use super::ewma::{Ended, OwnLatency};
use super::report::LoadReport;
use crate::id::NodeId;
use crate::time::{Duration, Instant};

/// How old the load of an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Freshness {
    /// Within the time to live: used for picking.
    Fresh,
    /// Past the time to live: kept and shown, not used for picking.
    Aging,
    /// So old that the node itself is in doubt; or there never was a report.
    Stale,
}

/// A report with the moment it arrived: an element of a join-semilattice under [`CachedLoad::merge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CachedLoad {
    report: LoadReport,
    received: Instant,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Recorded {
    /// It is newer than what was known and replaced it.
    Newer,
    /// It was known; it arrived with a smaller age, so the cached one became younger.
    Younger,
    /// It was known, or older than what is known: nothing changed.
    Old,
}

impl CachedLoad {
    /// A report that arrived now.
    #[must_use]
    pub const fn new(now: Instant, report: LoadReport) -> Self {
        Self {
            report,
            received: now,
        }
    }

    /// The report as it arrived.
    #[must_use]
    pub const fn report(&self) -> &LoadReport {
        &self.report
    }

    /// How old the sample is: its age on arrival and the time since, both free of the sender's clock.
    #[must_use]
    pub const fn age(&self, now: Instant) -> Duration {
        now.since(self.received).saturating_add(self.report.age())
    }

    /// Takes over the other report if it is newer, or the same and younger.
    ///
    /// Idempotent, commutative and associative: the order and number of deliveries do not matter.
    pub fn merge(&mut self, other: Self) -> Recorded {
        let newer = other.report.version.cmp(&self.report.version);
        if newer.is_gt() {
            *self = other;
            return Recorded::Newer;
        }
        // taken = received - age; compared without going below the origin.
        let younger = other.received.saturating_add(self.report.age())
            > self.received.saturating_add(other.report.age());
        if newer.is_eq() && younger {
            *self = other;
            return Recorded::Younger;
        }
        Recorded::Old
    }
}

/// What a picker knows of one endpoint.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Endpoint {
    id: NodeId,
    cached: Option<CachedLoad>,
    own_in_flight: u32,
    own_at_report: u32,
    own_latency: OwnLatency,
    full_until: Instant,
}

impl Endpoint {
    const fn new(id: NodeId, own_latency: OwnLatency) -> Self {
        Self {
            id,
            cached: None,
            own_in_flight: 0,
            own_at_report: 0,
            own_latency,
            full_until: Instant::ZERO,
        }
    }

    /// Whose load this is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// The last report, whatever its age.
    #[must_use]
    pub const fn cached(&self) -> Option<&CachedLoad> {
        self.cached.as_ref()
    }

    /// Our own requests there now.
    #[must_use]
    pub const fn own_in_flight(&self) -> u32 {
        self.own_in_flight
    }

    /// Our own requests there when the last report arrived.
    #[must_use]
    pub const fn own_at_report(&self) -> u32 {
        self.own_at_report
    }

    /// Latency and failures of our own requests there.
    #[must_use]
    pub const fn own_latency(&self) -> &OwnLatency {
        &self.own_latency
    }

    /// Until when it said that it has no place.
    #[must_use]
    pub const fn full_until(&self) -> Instant {
        self.full_until
    }

    /// Whether it certainly has no place: our own requests alone fill it, or it said so a moment ago.
    ///
    /// A cached report is not evidence enough: it may be a heartbeat old, and refusing on it would turn one
    /// busy moment into seconds of refused work.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        let capacity = self.cached.map_or(0, |cached| u32::from(cached.report.capacity));
        (capacity > 0 && self.own_in_flight >= capacity) || now < self.full_until
    }
}

/// There was no room and nothing that may be evicted. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CacheFull;

impl fmt::Display for CacheFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("load cache full: every endpoint has requests in flight; use a larger capacity")
    }
}

impl core::error::Error for CacheFull {}

/// The last load report of at most `N` endpoints, usable for `ttl` after the sample was taken.
///
/// **Eviction.** When a new endpoint arrives and the cache is full, the endpoint with the oldest load goes:
/// first one that never reported, else the one whose sample is oldest. One with own requests in flight is
/// never evicted, so counts cannot be lost; if all have, the new one is refused with [`CacheFull`].
///
/// Look-ups by id are O(N); everything else is O(1).
///
/// ```
/// use lb_core::load::{LoadCache, LoadReport};
/// use lb_core::{Duration, Instant, NodeId};
///
/// let mut cache: LoadCache<16> = LoadCache::new(Duration::from_secs(10), Duration::from_secs(15));
/// let report = LoadReport { in_flight: 3, ..LoadReport::default() };
/// cache.record(Instant::from_secs(1), NodeId::new(7), report)?;
/// let slot = cache.slot_of(NodeId::new(7)).unwrap();
/// assert_eq!(cache.fresh(slot, Instant::from_secs(10)).map(|load| load.report().in_flight), Some(3));
/// assert!(cache.fresh(slot, Instant::from_secs(12)).is_none(), "past its time to live");
/// # Ok::<(), lb_core::load::CacheFull>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LoadCache<const N: usize> {
    ttl: Duration,
    stale: Duration,
    unmeasured: OwnLatency,
    endpoints: Vec<Endpoint, N>,
}

impl<const N: usize> LoadCache<N> {
    /// An empty cache whose entries are used for picking up to the age `ttl`, and are stale from `stale` on.
    #[must_use]
    pub const fn new(ttl: Duration, stale: Duration) -> Self {
        Self {
            ttl,
            stale,
            unmeasured: OwnLatency::new(OwnLatency::HALF_LIFE),
            endpoints: Vec::new(),
        }
    }

    /// With another half-life of our own latencies, for endpoints that are inserted from now on; see
    /// [`OwnLatency::new`].
    #[must_use]
    pub const fn latency_half_life(mut self, half_life: Duration) -> Self {
        self.unmeasured = OwnLatency::new(half_life);
        self
    }

    /// The endpoints; the index is the slot.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Where an endpoint is now. Slots move when an endpoint is removed or evicted. O(N).
    #[must_use]
    pub fn slot_of(&self, id: NodeId) -> Option<usize> {
        self.endpoints.iter().position(|endpoint| endpoint.id == id)
    }

    /// The endpoint in a slot.
    #[must_use]
    pub fn get(&self, slot: usize) -> Option<&Endpoint> {
        self.endpoints.get(slot)
    }

    /// The load of a slot if it may be used for picking: it has a report within the time to live.
    #[must_use]
    pub fn fresh(&self, slot: usize, now: Instant) -> Option<&CachedLoad> {
        let cached = self.endpoints.get(slot)?.cached()?;
        (cached.age(now) <= self.ttl).then_some(cached)
    }

    /// How old the load of a slot is.
    #[must_use]
    pub fn freshness(&self, slot: usize, now: Instant) -> Freshness {
        match self
            .endpoints
            .get(slot)
            .and_then(Endpoint::cached)
            .map(|cached| cached.age(now))
        {
            Some(age) if age <= self.ttl => Freshness::Fresh,
            Some(age) if age <= self.stale => Freshness::Aging,
            _ => Freshness::Stale,
        }
    }

    /// Makes room for an endpoint without a report; a no-op when it is there.
    ///
    /// # Errors
    /// [`CacheFull`] when nothing may be evicted; nothing changed.
    pub fn insert(&mut self, now: Instant, id: NodeId) -> Result<usize, CacheFull> {
        if let Some(slot) = self.slot_of(id) {
            return Ok(slot);
        }
        if self.endpoints.is_full() {
            let victim = self.victim(now).ok_or(CacheFull)?;
            self.remove(victim);
        }
        let endpoint = Endpoint::new(id, self.unmeasured);
        self.endpoints.push(endpoint).map_err(|_| CacheFull)?;
        Ok(self.endpoints.len().saturating_sub(1))
    }

    /// Keeps a report that arrived now, unless a newer one is known.
    ///
    /// # Errors
    /// [`CacheFull`] when the endpoint is new and nothing may be evicted; nothing changed.
    pub fn record(&mut self, now: Instant, id: NodeId, report: LoadReport) -> Result<Recorded, CacheFull> {
        let slot = self.insert(now, id)?;
        Ok(self.record_at(slot, now, report))
    }

    /// [`record`](Self::record) for a known slot; [`Recorded::Old`] when there is no such slot.
    pub fn record_at(&mut self, slot: usize, now: Instant, report: LoadReport) -> Recorded {
        let Some(endpoint) = self.endpoints.get_mut(slot) else {
            return Recorded::Old;
        };
        let incoming = CachedLoad::new(now, report);
        let recorded = match &mut endpoint.cached {
            Some(cached) => cached.merge(incoming),
            none => {
                *none = Some(incoming);
                Recorded::Newer
            }
        };
        if recorded == Recorded::Newer {
            endpoint.own_at_report = endpoint.own_in_flight;
            endpoint.full_until = Instant::ZERO;
        }
        recorded
    }

    /// Forgets the report and the measured latency of a slot (its node began a new life); own counts stay.
    pub fn clear_report(&mut self, slot: usize) {
        let unmeasured = self.unmeasured;
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.cached = None;
            endpoint.own_latency = unmeasured;
            endpoint.full_until = Instant::ZERO;
        }
    }

    /// A request of ours to this slot begins.
    pub fn begin(&mut self, slot: usize) {
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.own_in_flight = endpoint.own_in_flight.saturating_add(1);
        }
    }

    /// A request of ours to this slot ended.
    pub fn finish(&mut self, slot: usize, now: Instant, ended: Ended) {
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.own_latency.record(now, ended);
            endpoint.own_in_flight = endpoint.own_in_flight.saturating_sub(1);
        }
    }

    /// How many requests of ours are in flight there, for callers that count them themselves.
    pub fn set_own_in_flight(&mut self, slot: usize, own_in_flight: u32) {
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.own_in_flight = own_in_flight;
        }
    }

    /// The endpoint said that it has no place; it counts as full until then, or until its next report.
    pub fn set_full_until(&mut self, slot: usize, until: Instant) {
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.full_until = endpoint.full_until.max(until);
        }
    }

    /// Removes a slot; the last endpoint moves into it. No-op when there is no such slot.
    pub fn remove(&mut self, slot: usize) {
        if slot < self.endpoints.len() {
            self.endpoints.swap_remove(slot);
        }
    }

    fn victim(&self, now: Instant) -> Option<usize> {
        self.endpoints
            .iter()
            .enumerate()
            .filter(|(_, endpoint)| endpoint.own_in_flight == 0)
            .max_by_key(|(_, endpoint)| {
                endpoint
                    .cached
                    .map_or(Duration::from_micros(u64::MAX), |cached| cached.age(now))
            })
            .map(|(slot, _)| slot)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::ReportVersion;
    use super::*;

    const TTL: Duration = Duration::from_secs(10);
    const STALE: Duration = Duration::from_secs(15);

    fn report(epoch: u32, seq: u64, in_flight: u16) -> LoadReport {
        LoadReport {
            version: ReportVersion { epoch, seq },
            in_flight,
            ..LoadReport::default()
        }
    }

    fn id(n: u32) -> NodeId {
        NodeId::new(n)
    }

    #[test]
    fn the_ttl_is_enforced_and_counts_the_age_on_arrival() {
        let mut cache: LoadCache<2> = LoadCache::new(TTL, STALE);
        let aged = LoadReport {
            age_ms: 4_000,
            ..report(1, 1, 3)
        };
        cache.record(Instant::from_secs(100), id(1), aged).unwrap();
        assert!(cache.fresh(0, Instant::from_secs(106)).is_some());
        assert!(cache.fresh(0, Instant::from_micros(106_000_001)).is_none());
        assert_eq!(cache.freshness(0, Instant::from_secs(106)), Freshness::Fresh);
        assert_eq!(cache.freshness(0, Instant::from_secs(111)), Freshness::Aging);
        assert_eq!(cache.freshness(0, Instant::from_secs(112)), Freshness::Stale);
        assert_eq!(cache.freshness(9, Instant::ZERO), Freshness::Stale);
    }

    #[test]
    fn old_reports_change_nothing() {
        let mut cache: LoadCache<2> = LoadCache::new(TTL, STALE);
        let now = Instant::from_secs(1);
        assert_eq!(cache.record(now, id(1), report(2, 5, 1)), Ok(Recorded::Newer));
        assert_eq!(cache.record(now, id(1), report(2, 4, 9)), Ok(Recorded::Old));
        assert_eq!(cache.record(now, id(1), report(1, 99, 9)), Ok(Recorded::Old));
        assert_eq!(cache.record(now, id(1), report(2, 5, 1)), Ok(Recorded::Old));
        assert_eq!(cache.get(0).unwrap().cached().unwrap().report().in_flight, 1);
        assert_eq!(
            cache.record(Instant::from_secs(2), id(1), report(2, 5, 1)),
            Ok(Recorded::Younger)
        );
    }

    #[test]
    fn the_oldest_load_goes_first_and_nothing_in_use_goes() {
        let mut cache: LoadCache<3> = LoadCache::new(TTL, STALE);
        cache
            .record(Instant::from_secs(3), id(1), report(1, 1, 0))
            .unwrap();
        cache
            .record(Instant::from_secs(2), id(2), report(1, 1, 0))
            .unwrap();
        cache.insert(Instant::from_secs(3), id(3)).unwrap();
        let now = Instant::from_secs(4);
        cache.insert(now, id(4)).unwrap();
        assert_eq!(cache.slot_of(id(3)), None, "never reported: first");
        cache.record(now, id(4), report(1, 1, 0)).unwrap();
        cache.begin(cache.slot_of(id(2)).unwrap());
        cache.insert(now, id(5)).unwrap();
        assert_eq!(cache.slot_of(id(1)), None, "2 is older but in use");
        for endpoint in [2, 4, 5] {
            cache.begin(cache.slot_of(id(endpoint)).unwrap());
        }
        assert_eq!(cache.insert(now, id(6)), Err(CacheFull));
        assert_eq!(cache.endpoints().len(), 3);
    }

    #[test]
    fn a_report_marks_own_requests_and_ends_fullness() {
        let mut cache: LoadCache<1> = LoadCache::new(TTL, STALE);
        let now = Instant::from_secs(1);
        cache.insert(now, id(1)).unwrap();
        cache.begin(0);
        cache.set_full_until(0, Instant::from_secs(2));
        assert!(cache.get(0).unwrap().is_full(now));
        cache.record_at(
            0,
            now,
            LoadReport {
                capacity: 2,
                ..report(1, 1, 1)
            },
        );
        assert!(!cache.get(0).unwrap().is_full(now));
        assert_eq!(cache.get(0).unwrap().own_at_report(), 1);
        cache.begin(0);
        assert!(cache.get(0).unwrap().is_full(now), "our own requests fill it");
        for _ in 0..3 {
            cache.finish(0, now, Ended::Answered(Duration::from_millis(4)));
        }
        assert_eq!(cache.get(0).unwrap().own_in_flight(), 0);
        assert_eq!(cache.get(0).unwrap().own_latency().latency_us(now), 4_000);
        cache.clear_report(0);
        assert_eq!(cache.get(0).unwrap().own_latency().latency_us(now), 0);
    }
}
