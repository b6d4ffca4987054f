//! The load of one server, as small as an edge needs it.

use crate::load::{LoadFigures, LoadReport, ReportVersion};
use crate::pick::Load;
use crate::time::{Duration, Instant};

/// The last report of a server and our own calls there: 40 bytes, where a [`crate::load::Endpoint`] takes 112. What only
/// the hybrid score needs is left out; the order of reports is that of [`crate::load::CachedLoad::merge`].
#[derive(Clone, Debug)]
pub(super) struct Kept {
    received: Instant,
    seq: u64,
    /// 0: there is no report.
    epoch: u32,
    age_ms: u32,
    latency_us: u32,
    in_flight: u16,
    queued: u16,
    capacity: u16,
    clients: u16,
    own_in_flight: u16,
    own_at_report: u16,
}

impl Kept {
    pub(super) const NOTHING: Self = Self {
        received: Instant::ZERO,
        seq: 0,
        epoch: 0,
        age_ms: 0,
        latency_us: 0,
        in_flight: 0,
        queued: 0,
        capacity: 0,
        clients: 0,
        own_in_flight: 0,
        own_at_report: 0,
    };

    /// How old the last report is, if there is one.
    pub(super) fn age(&self, now: Instant) -> Option<Duration> {
        let age = now
            .since(self.received)
            .saturating_add(Duration::from_millis(self.age_ms.into()));
        (self.epoch > 0).then_some(age)
    }

    /// What the last report says, whatever its age.
    pub(super) fn figures(&self) -> Option<LoadFigures> {
        let figures = LoadFigures {
            in_flight: self.in_flight,
            queued: self.queued,
            capacity: self.capacity,
            clients: self.clients,
            rate_milli: 0,
            latency_us: self.latency_us,
            errors_milli: 0,
            utilization: 0,
        };
        (self.epoch > 0).then_some(figures)
    }

    fn is_fresh(&self, now: Instant, ttl: Duration) -> bool {
        self.age(now).is_some_and(|age| age <= ttl)
    }

    /// Keeps a report that arrived now, unless a newer one is known; whether it is newer itself. One of no life says
    /// nothing.
    pub(super) fn record(&mut self, now: Instant, report: &LoadReport) -> bool {
        let ReportVersion { epoch, seq } = report.version;
        let known = ReportVersion {
            epoch: self.epoch,
            seq: self.seq,
        };
        let newer = report.version > known;
        if report.version == known {
            // The same one, and younger: taken = received - age, compared without going below the origin.
            let incoming = now.saturating_add(Duration::from_millis(self.age_ms.into()));
            if incoming <= self.received.saturating_add(report.age()) {
                return false;
            }
        } else if !newer {
            return false;
        }
        self.received = now;
        self.age_ms = report.age_ms;
        if !newer {
            return false;
        }
        self.seq = seq;
        self.epoch = epoch;
        self.latency_us = report.latency_us;
        self.in_flight = report.in_flight;
        self.queued = report.queued;
        self.capacity = report.capacity;
        self.clients = report.clients;
        self.own_at_report = self.own_in_flight;
        true
    }

    /// The life of the server that reported; 0 when none did.
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Forgets the report; own counts stay.
    pub(super) const fn clear(&mut self) {
        self.epoch = 0;
    }

    pub(super) const fn begin(&mut self) {
        self.own_in_flight = self.own_in_flight.saturating_add(1);
    }

    pub(super) const fn finish(&mut self) {
        self.own_in_flight = self.own_in_flight.saturating_sub(1);
    }

    pub(super) const fn own_in_flight(&self) -> u32 {
        self.own_in_flight as u32
    }

    /// Whether our own calls alone fill it.
    pub(super) const fn is_full(&self) -> bool {
        self.epoch > 0 && self.capacity > 0 && self.own_in_flight >= self.capacity
    }

    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn load(&self, now: Instant, ttl: Duration) -> Load {
        // No age, latency or failures: the strategy of an edge does not read them.
        Load {
            report: self.figures().filter(|_| self.is_fresh(now, ttl)),
            own_in_flight: self.own_in_flight.into(),
            own_at_report: self.own_at_report.into(),
            ..Load::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::NodeId;
    use crate::load::{Ended, Endpoint, LoadCache};
    use crate::pick::{CachePool, Pool, SlotSet};

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Kept>(), 40);
    }

    proptest! {
        /// It keeps what the cache of a node keeps, and a pick sees the same.
        #[test]
        fn as_the_load_cache_does(
            steps in prop::collection::vec((0_u64..50, 1_u32..3, 0_u64..4, 0_u32..40, any::<bool>()), 0..40)
        ) {
            let (ttl, stale) = (Duration::from_millis(20), Duration::from_millis(40));
            let mut kept = Kept::NOTHING;
            let mut cache: LoadCache<1> = LoadCache::new(ttl, stale);
            let slot = cache.insert(Instant::ZERO, NodeId::new(1)).unwrap();
            let mut eligible = SlotSet::new();
            eligible.insert(slot);
            let mut now = Instant::from_millis(100);
            for (pause, epoch, seq, age_ms, begin) in steps {
                now = now.saturating_add(Duration::from_millis(pause));
                let version = ReportVersion { epoch, seq };
                // The same version says the same.
                let in_flight = (epoch * 10 + seq as u32) as u16;
                let report = LoadReport { version, age_ms, in_flight, ..LoadReport::default() };
                if begin {
                    kept.begin();
                    cache.begin(slot);
                } else {
                    kept.finish();
                    cache.finish(slot, now, Ended::Abandoned);
                }
                kept.record(now, &report);
                cache.record_at(slot, now, report);
                let cached = cache.get(slot).and_then(Endpoint::cached).unwrap();
                prop_assert_eq!(kept.age(now), Some(cached.age(now)));
                prop_assert_eq!(kept.figures(), Some(cached.report().figures()));
                let theirs = CachePool::new(&cache, &eligible, now).load(slot);
                let ours = kept.load(now, ttl);
                prop_assert_eq!(ours.report, theirs.report);
                prop_assert_eq!(ours.own_in_flight, theirs.own_in_flight);
                prop_assert_eq!(ours.own_at_report, theirs.own_at_report);
            }
        }
    }
}
