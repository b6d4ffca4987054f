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
