//! What clients know of servers: the reports that reached them.

use lb_core::load::{LoadFigures, LoadReport};
use lb_core::{Duration, Instant};

use crate::random::mix;

/// Reports of a server that are kept so that a client that missed the last ones still has the one before.
const KEPT: usize = 8;

/// A report as clients got it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Posted {
    pub(crate) figures: LoadFigures,
    pub(crate) received: Instant,
    /// From when on it is no longer used, as `LoadCache::fresh` has it.
    pub(crate) expires: Instant,
    /// Its sequence number; 0: none yet.
    pub(crate) seq: u32,
}

/// The reports of all servers.
///
/// What is sent to everyone is kept once, and a client finds out what it knows when it looks. That is the same as
/// one `LoadCache` for each client (a test compares them), and does not cost a write per client and report.
#[derive(Debug)]
pub(crate) struct Board {
    /// The last heartbeat of each server.
    posted: Vec<Posted>,
    /// The last `KEPT` of each, the newest first; empty if none is lost.
    kept: Vec<[Posted; KEPT]>,
    /// Reports that came with a response, by client and server; empty if responses carry none.
    answered: Vec<Posted>,
    /// A report is lost on its way to a client if a hash of the two is below.
    loss: u64,
    /// A report is used for this long, the last moment included.
    ttl: Duration,
    servers: usize,
}

/// What is known of a server that was never heard.
static NOTHING: Posted = Posted {
    figures: LoadFigures {
        in_flight: 0,
        queued: 0,
        capacity: 0,
        clients: 0,
        rate_milli: 0,
        latency_us: 0,
        errors_milli: 0,
        utilization: 0,
    },
    received: Instant::ZERO,
    expires: Instant::ZERO,
    seq: 0,
};

impl Board {
    pub(crate) fn new(servers: usize, loss: f64, ttl: Duration, clients_with_answers: usize) -> Self {
        Self {
            posted: vec![Posted::default(); servers],
            kept: vec![[Posted::default(); KEPT]; if loss > 0.0 { servers } else { 0 }],
            answered: vec![Posted::default(); servers * clients_with_answers],
            loss: (loss.clamp(0.0, 1.0) * u64::MAX as f64) as u64,
            ttl,
            servers,
        }
    }

    /// A heartbeat of a server reaches the clients.
    pub(crate) fn post(&mut self, server: usize, now: Instant, report: &LoadReport) {
        self.posted[server] = self.posted(now, report);
        if let Some(kept) = self.kept.get_mut(server) {
            kept.rotate_right(1);
            kept[0] = self.posted[server];
        }
    }

    /// A response with a report reaches a client.
    pub(crate) fn answer(&mut self, client: usize, server: usize, now: Instant, report: &LoadReport) {
        let posted = self.posted(now, report);
        if let Some(place) = self.answered.get_mut(client * self.servers + server) {
            *place = posted;
        }
    }

    /// A server begins a new life: nobody knows its load.
    pub(crate) fn forget(&mut self, server: usize) {
        self.posted[server] = Posted::default();
        if let Some(kept) = self.kept.get_mut(server) {
            kept.fill(Posted::default());
        }
        for place in self.answered.iter_mut().skip(server).step_by(self.servers) {
            *place = Posted::default();
        }
    }

    /// The last report that reached a client; its `seq` is 0 if none did.
    #[inline(always)]
    pub(crate) fn latest(&self, client: usize, server: usize) -> &Posted {
        if self.kept.is_empty() && self.answered.is_empty() {
            return self.posted.get(server).unwrap_or(&NOTHING);
        }
        self.latest_of(client, server)
    }

    fn latest_of(&self, client: usize, server: usize) -> &Posted {
        let heard = match self.kept.get(server) {
            None => &self.posted[server],
            Some(kept) => kept
                .iter()
                .find(|posted| !self.lost(client, server, posted.seq))
                .unwrap_or(&NOTHING),
        };
        match self.answered.get(client * self.servers + server) {
            Some(answered) if answered.seq > heard.seq => answered,
            _ => heard,
        }
    }

    fn lost(&self, client: usize, server: usize, seq: u32) -> bool {
        let place = ((client as u64) << 48) ^ ((server as u64) << 32) ^ u64::from(seq);
        mix(place.wrapping_mul(0x9e37_79b9_7f4a_7c15)) < self.loss
    }

    fn posted(&self, now: Instant, report: &LoadReport) -> Posted {
        Posted {
            figures: report.figures(),
            received: now,
            expires: now
                .saturating_add(self.ttl)
                .saturating_add(Duration::from_micros(1)),
            seq: report.version.seq as u32,
        }
    }
}
