//! What is known of 16 endpoints, as small as a microcontroller would keep it.

use lb_core::load::LoadFigures;
use lb_core::pick::{Load, Pool};

/// How many endpoints there are.
pub(crate) const SLOTS: usize = 16;

/// 28 bytes, where [`lb_core::load::LoadCache`] keeps five times as much: without reports in full, their order, penalties
/// for failures and decay.
#[derive(Clone, Copy)]
struct Endpoint {
    rate_milli: u32,
    latency_us: u32,
    /// A mean of our own requests.
    own_latency_us: u32,
    id: u16,
    weight: u16,
    in_flight: u16,
    capacity: u16,
    clients: u16,
    own: u16,
    own_at_report: u16,
    /// When the report came, in milliseconds; wraps.
    reported: u16,
}

/// The pool, held by one task.
pub(crate) struct Endpoints {
    all: [Endpoint; SLOTS],
    admitted: u16,
    total: u16,
    /// Milliseconds; wraps.
    now: u16,
}

impl Endpoints {
    /// Different speeds; weights of 1, 2 and 4, or all 1.
    pub(crate) fn new(equal: bool) -> Self {
        let all = core::array::from_fn(|slot| Endpoint {
            rate_milli: 50_000,
            latency_us: 1_000 + slot as u32 * 150,
            own_latency_us: 1_000 + slot as u32 * 150,
            id: 100 + slot as u16,
            weight: if equal { 1 } else { 1 << (slot % 3) },
            in_flight: 4,
            capacity: 32,
            clients: 8,
            own: 0,
            own_at_report: 0,
            reported: 0,
        });
        Self {
            all,
            admitted: u16::MAX,
            total: 0,
            now: 0,
        }
    }

    pub(crate) fn begin(&mut self, slot: usize) {
        if let Some(endpoint) = self.all.get_mut(slot) {
            endpoint.own = endpoint.own.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
    }

    pub(crate) fn finish(&mut self, slot: usize, latency_us: u32) {
        if let Some(endpoint) = self.all.get_mut(slot) {
            endpoint.own = endpoint.own.saturating_sub(1);
            endpoint.own_latency_us = endpoint.own_latency_us - endpoint.own_latency_us / 8 + latency_us / 8;
            self.total = self.total.saturating_sub(1);
        }
    }

    /// A report came, of an endpoint with so many requests of others.
    pub(crate) fn report(&mut self, slot: usize, others: u16) {
        let now = self.now;
        if let Some(endpoint) = self.all.get_mut(slot) {
            endpoint.in_flight = endpoint.own.saturating_add(others);
            endpoint.own_at_report = endpoint.own;
            endpoint.reported = now;
        }
    }

    /// A millisecond passes.
    pub(crate) fn pass(&mut self) {
        self.now = self.now.wrapping_add(1);
    }
}

impl Pool for Endpoints {
    fn len(&self) -> usize {
        SLOTS
    }

    fn slot(&self, index: usize) -> usize {
        if index < SLOTS { index } else { usize::MAX }
    }

    fn slots(&self) -> impl Iterator<Item = usize> {
        0..SLOTS
    }

    fn admits(&self, slot: usize) -> bool {
        slot < SLOTS && self.admitted >> slot & 1 == 1
    }

    fn load(&self, slot: usize) -> Load {
        let Some(endpoint) = self.all.get(slot) else {
            return Load::default();
        };
        Load {
            report: Some(LoadFigures {
                in_flight: endpoint.in_flight,
                capacity: endpoint.capacity,
                clients: endpoint.clients,
                rate_milli: endpoint.rate_milli,
                latency_us: endpoint.latency_us,
                ..LoadFigures::default()
            }),
            age_ms: u32::from(self.now.wrapping_sub(endpoint.reported)),
            own_in_flight: endpoint.own.into(),
            own_at_report: endpoint.own_at_report.into(),
            own_latency_us: endpoint.own_latency_us,
            failing: 0,
        }
    }

    fn own_in_flight(&self, slot: usize) -> u32 {
        self.all.get(slot).map_or(0, |endpoint| endpoint.own.into())
    }

    fn total_in_flight(&self) -> u32 {
        self.total.into()
    }

    fn weight(&self, slot: usize) -> u16 {
        self.all.get(slot).map_or(0, |endpoint| endpoint.weight)
    }

    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        let id = self.all.get(slot).map_or(0, |endpoint| endpoint.id);
        u32::from(id).to_be_bytes()
    }

    fn version(&self) -> u32 {
        1
    }
}
