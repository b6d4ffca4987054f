//! Requests in flight, and who was picked how often.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use lb_core::NodeId;
use lb_core::load::{Ended, LoadFigures};
use lb_core::pick::Load;

use super::board::Board;
use super::endpoint::Endpoint;
use super::view::Roster;
use crate::transport::lock;

/// Counts picks by endpoint. Each thread counts on its own [`Desk`]; they are added up when somebody asks.
#[derive(Default)]
pub(crate) struct Tally {
    sums: Mutex<Sums>,
    /// For leases without a pick, whatever their thread.
    shared: Mutex<Option<Arc<Desk>>>,
}

#[derive(Default)]
struct Sums {
    /// Of the desks that are gone.
    past: BTreeMap<NodeId, u64>,
    desks: Vec<Weak<Desk>>,
}

impl Tally {
    pub(super) fn desk(
        self: &Arc<Self>,
        board: &Arc<Board>,
        roster: &Arc<Roster>,
        listens: bool,
    ) -> Arc<Desk> {
        let desk = Arc::new(Desk {
            board: Arc::clone(board),
            roster: Arc::clone(roster),
            picks: roster.endpoints.iter().map(|_| AtomicU64::new(0)).collect(),
            listens,
            ended: AtomicU64::new(0),
            tally: Arc::clone(self),
        });
        let mut sums = lock(&self.sums);
        if sums.desks.len() == sums.desks.capacity() {
            sums.desks.retain(|desk| desk.strong_count() > 0);
        }
        sums.desks.push(Arc::downgrade(&desk));
        desk
    }

    /// A lease without a pick. The request was counted in this slot of the board.
    pub(super) fn lease(self: &Arc<Self>, board: &Arc<Board>, roster: &Arc<Roster>, slot: usize) -> Lease {
        let mut shared = lock(&self.shared);
        let former = shared.take();
        let desk = match &former {
            Some(desk) if Arc::ptr_eq(&desk.roster, roster) => Arc::clone(desk),
            _ => self.desk(board, roster, false),
        };
        let lease = desk.lease(slot);
        *shared = Some(desk);
        // The former one goes without the lock: data of the owner's may go with it.
        drop(shared);
        lease
    }

    /// How often each endpoint was picked that was.
    pub(crate) fn picks(&self) -> BTreeMap<NodeId, u64> {
        let (mut picks, desks) = {
            let sums = lock(&self.sums);
            let desks: Vec<_> = sums.desks.iter().filter_map(Weak::upgrade).collect();
            (sums.past.clone(), desks)
        };
        // After the lock, which a desk takes that goes with the last hold on it, and that may be this one.
        for desk in desks {
            desk.add_to(&mut picks);
        }
        picks
    }
}

/// What a lease needs in order to be given back. One for each picker of a thread, so that threads do not
/// compete for its reference count.
pub(super) struct Desk {
    pub(super) board: Arc<Board>,
    pub(super) roster: Arc<Roster>,
    /// By slot. Only the thread of this desk writes, or whoever has the lock of the shared one.
    picks: Box<[AtomicU64]>,
    /// The picker wants to know where requests end.
    listens: bool,
    /// Where the last ones did since it asked: slots plus one in 16 bits each, the last at the low end. Of two that end
    /// at the same moment one may be missing; it is a hint.
    ended: AtomicU64,
    tally: Arc<Tally>,
}

impl Desk {
    /// Slots where requests ended since the last call, at most four.
    #[inline]
    pub(super) fn ended(&self) -> impl Iterator<Item = usize> {
        let mut ended = self.ended.load(Ordering::Relaxed);
        if ended > 0 {
            self.ended.store(0, Ordering::Relaxed);
        }
        std::iter::from_fn(move || {
            let slot = usize::from(ended as u16).checked_sub(1)?;
            ended >>= 16;
            Some(slot)
        })
    }

    #[inline]
    fn end(&self, slot: usize) {
        self.board.end(slot);
        if self.listens {
            let before = self.ended.load(Ordering::Relaxed);
            // Slots are below `ENDPOINTS_MAX`.
            self.ended
                .store(before << 16 | (slot as u64 + 1), Ordering::Relaxed);
        }
    }

    /// A request was counted in this slot of the board.
    #[inline]
    pub(super) fn lease(self: &Arc<Self>, slot: usize) -> Lease {
        if let Some(picks) = self.picks.get(slot) {
            picks.store(picks.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
        Lease {
            desk: Arc::clone(self),
            slot,
        }
    }

    fn add_to(&self, sums: &mut BTreeMap<NodeId, u64>) {
        for (slot, endpoint) in self.roster.iter() {
            let picks = self
                .picks
                .get(slot)
                .map_or(0, |picks| picks.load(Ordering::Relaxed));
            if picks > 0 {
                *sums.entry(endpoint.id()).or_default() += picks;
            }
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.add_to(&mut lock(&self.tally.sums).past);
    }
}

/// A request in flight at the endpoint that was picked for it. Counts there until it is ended or dropped, in
/// whatever thread; keep it for as long as the request takes.
#[must_use = "a lease that is dropped at once counts no load"]
pub struct Lease {
    desk: Arc<Desk>,
    slot: usize,
}

impl Lease {
    /// Who was picked.
    ///
    /// # Panics
    /// Never: whoever is picked has an endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        let endpoint = self.desk.roster.get(self.slot);
        endpoint.expect("a lease is made for a slot of its desk's roster")
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.endpoint().id()
    }

    /// Where it listens, as far as its owner has said.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.endpoint().get_addr()
    }

    /// Our own requests there now, this one included.
    #[must_use]
    pub fn own_in_flight(&self) -> u32 {
        self.desk.board.own_in_flight(self.slot)
    }

    /// The load there now, and what it reported last, however long ago.
    #[must_use]
    pub fn load(&self) -> (Load, Option<LoadFigures>) {
        let board = &self.desk.board;
        let now = board.now();
        (board.load(self.slot, || now), board.last_figures(self.slot))
    }

    /// Ends it, and tells how the request ended: strategies that look at latency and failures learn from it. A
    /// lease that is merely dropped teaches nothing, because the request may have been given up.
    ///
    /// Reads the clock, which takes about as long as a pick.
    pub fn end(self, ended: Ended) {
        self.desk.board.record(self.slot, ended);
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        self.desk.end(self.slot);
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lease").field(&self.endpoint()).finish()
    }
}
