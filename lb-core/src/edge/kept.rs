//! The load of one server, as small as an edge needs it.

use crate::load::{CachedLoad, LoadReport, Recorded, ReportVersion};
use crate::pick::Load;
use crate::time::{Duration, Instant};

/// The last report of a server and our own calls there: 40 bytes, where a [`crate::load::Endpoint`] takes 88. What only
/// the hybrid score needs is left out; the order of reports is that of [`CachedLoad::merge`].
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

    /// The last report, whatever its age.
    pub(super) fn cached(&self) -> Option<CachedLoad> {
        let report = LoadReport {
            version: ReportVersion {
                epoch: self.epoch,
                seq: self.seq,
            },
            age_ms: self.age_ms,
            in_flight: self.in_flight,
            queued: self.queued,
            capacity: self.capacity,
            clients: self.clients,
            latency_us: self.latency_us,
            ..LoadReport::default()
        };
        (self.epoch > 0).then(|| CachedLoad::new(self.received, report))
    }

    /// The last report, if it is within this time to live.
    pub(super) fn fresh(&self, now: Instant, ttl: Duration) -> Option<CachedLoad> {
        self.cached().filter(|cached| cached.age(now) <= ttl)
    }

    /// Keeps a report, unless a newer one is known. One of no life says nothing.
    pub(super) fn record(&mut self, incoming: CachedLoad) {
        let report = *incoming.report();
        if report.version.epoch == 0 {
            return;
        }
        let recorded = match self.cached() {
            Some(mut known) => known.merge(incoming),
            None => Recorded::Newer,
        };
        if recorded == Recorded::Old {
            return;
        }
        *self = Self {
            received: incoming.received(),
            seq: report.version.seq,
            epoch: report.version.epoch,
            age_ms: report.age_ms,
            latency_us: report.latency_us,
            in_flight: report.in_flight,
            queued: report.queued,
            capacity: report.capacity,
            clients: report.clients,
            own_in_flight: self.own_in_flight,
            own_at_report: if recorded == Recorded::Newer {
                self.own_in_flight
            } else {
                self.own_at_report
            },
        };
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

    pub(super) fn load(&self, now: Instant, ttl: Duration) -> Load {
        Load {
            report: self.fresh(now, ttl).map(|cached| *cached.report()),
            own_in_flight: self.own_in_flight.into(),
            own_at_report: self.own_at_report.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::Endpoint;
    use crate::{NodeId, load::LoadCache};

    #[test]
    fn it_is_small() {
        assert_eq!(size_of::<Kept>(), 40);
    }

    fn model(cache: &LoadCache<1>) -> Option<(Instant, LoadReport)> {
        let cached = cache.get(0).and_then(Endpoint::cached)?;
        Some((cached.received(), *cached.report()))
    }

    proptest! {
        /// It keeps what the cache of a node keeps.
        #[test]
        fn as_the_load_cache_does(steps in prop::collection::vec((0_u64..50, 1_u32..3, 0_u64..4, 0_u32..40, any::<bool>()), 0..40)) {
            let mut kept = Kept::NOTHING;
            let mut cache: LoadCache<1> = LoadCache::new(Duration::from_millis(20), Duration::from_millis(40));
            let slot = cache.insert(Instant::ZERO, NodeId::new(1)).unwrap();
            let mut now = Instant::from_millis(100);
            for (pause, epoch, seq, age_ms, begin) in steps {
                now = now.saturating_add(Duration::from_millis(pause));
                let version = ReportVersion { epoch, seq };
                let in_flight = age_ms as u16;
                let report = LoadReport { version, age_ms, in_flight, ..LoadReport::default() };
                if begin {
                    kept.begin();
                    cache.begin(slot);
                } else {
                    kept.finish();
                    cache.finish(slot);
                }
                kept.record(CachedLoad::new(now, report));
                cache.record_at(slot, now, report);
                let ours = kept.cached().map(|cached| (cached.received(), *cached.report()));
                prop_assert_eq!(ours, model(&cache));
                let ttl = Duration::from_millis(20);
                prop_assert_eq!(kept.fresh(now, ttl), cache.fresh(slot, now).copied());
                let load = kept.load(now, ttl);
                let endpoint = cache.get(slot).unwrap();
                prop_assert_eq!(load.own_in_flight, endpoint.own_in_flight());
                prop_assert_eq!(load.own_at_report, endpoint.own_at_report());
            }
        }
    }
}
