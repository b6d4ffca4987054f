//! What one client sees when it picks: the pool of `lb-core`'s strategies.

use lb_core::Instant;
use lb_core::load::OwnLatency;
use lb_core::pick::{Load, Pool};

use crate::board::Board;

/// What a client counts for each server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seat {
    own: u32,
    at_report: u32,
    /// The report that `at_report` belongs to.
    seen: u32,
}

impl Seat {
    /// A request begins; `latest` is the last report that came before.
    pub(crate) fn begin(&mut self, latest: u32) {
        self.catch_up(latest);
        self.own += 1;
    }

    /// A request ends.
    pub(crate) fn finish(&mut self, latest: u32) {
        self.catch_up(latest);
        self.own = self.own.saturating_sub(1);
    }

    /// The count did not change since it was last looked at, so it is what it was when the report came.
    fn catch_up(&mut self, latest: u32) {
        if self.seen != latest {
            self.seen = latest;
            self.at_report = self.own;
        }
    }

    #[inline(always)]
    fn at_report(&self, latest: u32) -> u32 {
        if self.seen == latest {
            self.at_report
        } else {
            self.own
        }
    }

    pub(crate) const fn own(&self) -> u32 {
        self.own
    }
}

/// The servers that clients know, in the form strategies want them.
#[derive(Debug)]
pub(crate) struct Candidates {
    pub(crate) slots: Vec<u16>,
    pub(crate) admitted: Vec<bool>,
    pub(crate) weights: Vec<u16>,
    pub(crate) version: u32,
}

impl Candidates {
    /// As many as there are weights.
    pub(crate) fn all(weights: Vec<u16>) -> Self {
        Self {
            slots: (0..weights.len()).map(|slot| slot as u16).collect(),
            admitted: vec![true; weights.len()],
            weights,
            version: 0,
        }
    }
}

/// The servers as one client sees them at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(crate) now: Instant,
    pub(crate) client: usize,
    pub(crate) candidates: &'a Candidates,
    pub(crate) seats: &'a [Seat],
    /// Empty if nobody reads it.
    pub(crate) measured: &'a [OwnLatency],
    pub(crate) board: &'a Board,
}

impl View<'_> {
    /// The moment of the pick.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Who picks.
    #[must_use]
    pub const fn client(&self) -> usize {
        self.client
    }
}

impl Pool for View<'_> {
    fn len(&self) -> usize {
        self.candidates.slots.len()
    }

    fn slot(&self, index: usize) -> usize {
        let slot = self.candidates.slots.get(index);
        slot.map_or(usize::MAX, |&slot| usize::from(slot))
    }

    fn slots(&self) -> impl Iterator<Item = usize> {
        self.candidates.slots.iter().map(|&slot| usize::from(slot))
    }

    #[inline(always)]
    fn admits(&self, slot: usize) -> bool {
        self.candidates.admitted.get(slot).copied().unwrap_or(false)
    }

    // Strategies scan it, and use a part of it each.
    #[inline(always)]
    fn load(&self, slot: usize) -> Load {
        let Some(seat) = self.seats.get(slot) else {
            return Load::default();
        };
        let latest = self.board.latest(self.client, slot);
        let fresh = self.now < latest.expires;
        Load {
            report: fresh.then_some(latest.figures),
            age_ms: if fresh {
                self.now.since(latest.received).as_millis() as u32
            } else {
                0
            },
            own_in_flight: seat.own,
            own_at_report: seat.at_report(latest.seq),
            own_latency_us: self.measured.get(slot).map_or(0, |own| own.latency_us(self.now)),
            failing: self.measured.get(slot).map_or(0, |own| own.failing(self.now)),
        }
    }

    #[inline(always)]
    fn own_in_flight(&self, slot: usize) -> u32 {
        self.seats.get(slot).map_or(0, Seat::own)
    }

    fn weight(&self, slot: usize) -> u16 {
        self.candidates.weights.get(slot).copied().unwrap_or(1)
    }

    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        (slot as u32).to_be_bytes()
    }

    fn version(&self) -> u32 {
        self.candidates.version
    }
}

#[cfg(test)]
mod tests {
    use lb_core::load::{Ended, LoadCache, LoadReport, ReportVersion};
    use lb_core::pick::{CachePool, SlotSet};
    use lb_core::rng::Rng;
    use lb_core::{Duration, NodeId};

    use super::*;
    use crate::random::Source;

    const SERVERS: usize = 5;
    const TTL: Duration = Duration::from_millis(40);

    fn report(seq: u64, source: &mut Source) -> LoadReport {
        LoadReport {
            version: ReportVersion { epoch: 1, seq },
            in_flight: source.below(50) as u16,
            clients: 3,
            capacity: 100,
            ..LoadReport::default()
        }
    }

    /// Everything a strategy can ask.
    fn asked<P: Pool>(pool: &P) -> Vec<String> {
        let loads = (0..SERVERS).map(|slot| {
            let (load, own, admits) = (pool.load(slot), pool.own_in_flight(slot), pool.admits(slot));
            format!("{slot} {load:?} {own} {admits} {:?}", pool.name(slot).as_ref())
        });
        loads
            .chain([format!("{:?}", pool.slots().collect::<Vec<_>>())])
            .collect()
    }

    /// Clients that share a board know what they would know with a `LoadCache` each.
    #[test]
    fn it_shows_what_a_load_cache_would() {
        let clients = 3;
        let mut source = Source::new(4, 0);
        let mut eligible = SlotSet::new();
        let mut caches = vec![LoadCache::<SERVERS>::new(TTL, TTL); clients];
        for server in 0..SERVERS {
            eligible.insert(server);
            for cache in &mut caches {
                cache.insert(Instant::ZERO, NodeId::new(server as u32)).unwrap();
            }
        }
        let candidates = Candidates::all(vec![1; SERVERS]);
        let mut board = Board::new(SERVERS, 0.0, TTL, clients);
        let mut seats = vec![Seat::default(); SERVERS * clients];
        let mut measured = vec![OwnLatency::new(OwnLatency::HALF_LIFE); SERVERS * clients];
        let mut now = Instant::from_millis(1);
        for step in 1..20_000 {
            now = now.saturating_add(Duration::from_micros(u64::from(source.below(9_000))));
            let (client, server) = (
                source.below(clients as u32) as usize,
                source.below(SERVERS as u32) as usize,
            );
            let place = client * SERVERS + server;
            let latest = board.latest(client, server).seq;
            match source.below(5) {
                0 => {
                    let report = report(step, &mut source);
                    board.post(server, now, &report);
                    for cache in &mut caches {
                        cache.record_at(server, now, report);
                    }
                }
                1 => {
                    let report = report(step, &mut source);
                    board.answer(client, server, now, &report);
                    caches[client].record_at(server, now, report);
                }
                2 | 3 => {
                    seats[place].begin(latest);
                    caches[client].begin(server);
                }
                _ => {
                    let ended = match source.below(3) {
                        0 => Ended::Failed { retry_after: None },
                        _ => Ended::Answered(Duration::from_micros(u64::from(source.below(90_000)))),
                    };
                    seats[place].finish(latest);
                    measured[place].record(now, ended);
                    caches[client].finish(server, now, ended);
                }
            }
            let view = View {
                now,
                client,
                candidates: &candidates,
                seats: &seats[client * SERVERS..][..SERVERS],
                measured: &measured[client * SERVERS..],
                board: &board,
            };
            assert_eq!(
                asked(&view),
                asked(&CachePool::new(&caches[client], &eligible, now)),
                "step {step}"
            );
        }
    }

    #[test]
    fn reports_are_lost_for_each_client_on_its_own() {
        let (clients, rounds) = (40, 50);
        let mut board = Board::new(1, 0.3, Duration::from_secs(1_000), 0);
        let mut source = Source::new(1, 0);
        let mut missed = 0;
        for round in 1..=rounds {
            board.post(0, Instant::from_millis(round), &report(round, &mut source));
            for client in 0..clients {
                let seq = u64::from(board.latest(client, 0).seq);
                missed += u32::from(seq != round);
                assert!(seq <= round);
            }
        }
        let share = f64::from(missed) / (clients as f64 * rounds as f64);
        assert!((0.26..0.34).contains(&share), "{share}");
    }
}
