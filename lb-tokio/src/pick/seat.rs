//! What each thread keeps for each picker it uses: its place in the rotation, its random numbers, its view.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use lb_core::pick::{AnyStrategy, Pool, Strategy};
use lb_core::rng::Sfc32;

use super::ask::Ask;
use super::board::Board;
use super::explain::Explained;
use super::lease::{Desk, Lease};
use super::picker::Core;
use super::pool::{Candidates, Clock};
use super::table::{Table, Words};
use super::view::{Set, View};
use crate::error::SelectError;
use crate::transport::lock;

thread_local! {
    static SEATS: RefCell<Seats> = const { RefCell::new(Seats { seats: Vec::new(), made: 0 }) };
}

/// Which entry of every thread's table belongs to which picker: small numbers, used again.
static INDICES: Mutex<Indices> = Mutex::new(Indices {
    free: Vec::new(),
    next: 0,
});

/// Tells a picker from a former one with the same index.
static TOKENS: AtomicU64 = AtomicU64::new(0);

struct Indices {
    free: Vec<usize>,
    next: usize,
}

/// A picker's place in the tables of all threads, for as long as it lives.
pub(super) struct Place {
    index: usize,
    token: u64,
}

impl Place {
    pub(super) fn take() -> Self {
        let mut indices = lock(&INDICES);
        let index = indices.free.pop().unwrap_or_else(|| {
            indices.next += 1;
            indices.next - 1
        });
        Self {
            index,
            token: TOKENS.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&INDICES).free.push(self.index);
    }
}

/// The seats of one thread, by index.
///
/// That of a dropped picker goes when its index is used again, or in the next sweep, which comes when as many were
/// made as there is room for. So they are about as many as there are pickers, never as many as there were.
struct Seats {
    seats: Vec<Option<Seat>>,
    /// Since the last sweep.
    made: usize,
}

impl Seats {
    #[inline]
    fn with<T>(&mut self, core: &Arc<Core>, work: impl FnOnce(&mut Seat) -> T) -> T {
        if let Some(Some(seat)) = self.seats.get_mut(core.place.index)
            && seat.token == core.place.token
        {
            return work(seat);
        }
        let mut seat = Seat::new(core);
        let result = work(&mut seat);
        self.put(core.place.index, seat);
        result
    }

    #[cold]
    fn put(&mut self, index: usize, seat: Seat) {
        self.made += 1;
        if self.made > self.seats.len() {
            self.made = 0;
            for seat in &mut self.seats {
                if seat.as_ref().is_some_and(|seat| seat.picker.strong_count() == 0) {
                    *seat = None;
                }
            }
        }
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, || None);
        }
        if let Some(place) = self.seats.get_mut(index) {
            *place = Some(seat);
        }
    }
}

/// Picks with this thread's seat.
#[inline]
pub(super) fn pick(core: &Arc<Core>, ask: &Ask<'_>) -> Result<Lease, SelectError> {
    let lease = with_seat(core, |seat| seat.pick(core, ask)).flatten();
    lease.map_or_else(|| insist(core, ask), Ok)
}

/// Nobody, by a clock that may lag: looks again, and tells why.
#[cold]
fn insist(core: &Arc<Core>, ask: &Ask<'_>) -> Result<Lease, SelectError> {
    let insisted = with_seat(core, |seat| seat.insist(core, ask));
    // The thread is ending, or this is called by the destructor of an endpoint's data.
    insisted.unwrap_or_else(|| Seat::new(core).insist(core, ask))
}

/// What this thread's seat would pick.
pub(super) fn explain(core: &Arc<Core>, ask: &Ask<'_>) -> Explained {
    let explained = with_seat(core, |seat| seat.explained(core, ask));
    explained.unwrap_or_else(|| Seat::new(core).explained(core, ask))
}

/// `None` when this thread has no seats now.
#[inline]
fn with_seat<T>(core: &Arc<Core>, work: impl FnOnce(&mut Seat) -> T) -> Option<T> {
    SEATS
        .try_with(|seats| {
            let mut seats = seats.try_borrow_mut().ok()?;
            Some(seats.with(core, work))
        })
        .ok()
        .flatten()
}

/// How many thread-local states of pickers this thread keeps.
#[cfg(test)]
pub(super) fn seats() -> usize {
    SEATS.with(|seats| seats.borrow().seats.iter().flatten().count())
}

struct Seat {
    token: u64,
    picker: Weak<Core>,
    board: Arc<Board>,
    view: Arc<View>,
    desk: Arc<Desk>,
    table: Arc<Table>,
    tables: u64,
    strategy: AnyStrategy<Words>,
    rng: Sfc32,
    clock: Clock,
}

/// How often a pick begins anew because another thread took the last place of the chosen endpoint meanwhile.
const RACES: usize = 8;

impl Seat {
    #[cold]
    fn new(core: &Arc<Core>) -> Self {
        let tables = core.tables();
        let ((view, table), board) = (core.current(), core.board());
        Self {
            token: core.place.token,
            picker: Arc::downgrade(core),
            desk: core.desk(&view),
            board: Arc::clone(board),
            view,
            strategy: table.strategy(),
            table,
            tables,
            rng: Sfc32::new(core.next_seed()),
            clock: Clock::default(),
        }
    }

    #[cold]
    fn refresh(&mut self, core: &Core) {
        // Asked before the table is taken: should there be another one meanwhile, the next pick comes here again.
        self.tables = core.tables();
        let (view, table) = core.current();
        if !Arc::ptr_eq(&self.view, &view) {
            self.desk = core.desk(&view);
            self.view = view;
        }
        if !Arc::ptr_eq(&self.table, &table) {
            self.strategy = table.strategy();
            self.table = table;
        }
    }

    #[inline]
    fn pick(&mut self, core: &Core, ask: &Ask<'_>) -> Option<Lease> {
        if self.view.roster.version != self.board.version() || self.tables != core.tables() {
            self.refresh(core);
        }
        for slot in self.desk.ended() {
            self.strategy.ended(slot);
        }
        self.clock.forget();
        let slot = self.choose(ask)?;
        Some(self.desk.lease(slot))
    }

    #[cold]
    fn insist(&mut self, core: &Core, ask: &Ask<'_>) -> Result<Lease, SelectError> {
        self.clock.doubt();
        self.pick(core, ask).ok_or_else(|| self.explain(core, ask))
    }

    /// A slot in which the request is counted already.
    #[inline]
    fn choose(&mut self, ask: &Ask<'_>) -> Option<usize> {
        for _ in 0..RACES {
            let slot = self.propose(ask)?;
            if self.board.try_begin(slot) {
                return Some(slot);
            }
        }
        None
    }

    fn explained(&mut self, core: &Core, ask: &Ask<'_>) -> Explained {
        if self.view.roster.version != self.board.version() || self.tables != core.tables() {
            self.refresh(core);
        }
        self.clock.doubt();
        self.clock.forget();
        let candidates = Candidates {
            board: &self.board,
            view: &self.view,
            set: &self.view.candidates,
            exclude: ask.exclude,
            clock: &self.clock,
        };
        let (mut strategy, mut rng) = (self.strategy.clone(), self.rng.clone());
        let explanation = strategy.explain(&candidates, ask.key, &mut rng);
        Explained::new(&self.view, strategy.kind(), &explanation)
    }

    #[inline]
    fn propose(&mut self, ask: &Ask<'_>) -> Option<usize> {
        let candidates = Candidates {
            board: &self.board,
            view: &self.view,
            set: &self.view.candidates,
            exclude: ask.exclude,
            clock: &self.clock,
        };
        if let Some(hint) = ask.hint {
            let hinted = self.view.roster.slot_of(hint.id);
            let hinted = hinted.filter(|&slot| candidates.admits(slot));
            if hinted.is_some() || hint.only {
                return hinted;
            }
        }
        let slot = self.strategy.pick(&candidates, ask.key, &mut self.rng);
        if slot.is_some() || self.view.spare.is_empty() {
            return slot;
        }
        let spare = Candidates {
            set: &self.view.spare,
            ..candidates
        };
        self.strategy.pick(&spare, ask.key, &mut self.rng)
    }

    fn explain(&self, core: &Core, ask: &Ask<'_>) -> SelectError {
        let view = &self.view;
        let tried = |slot: &u16| {
            let endpoint = view.endpoint(usize::from(*slot));
            endpoint.is_some_and(|endpoint| ask.exclude.contains(&endpoint.id()))
        };
        let all_tried = |set: &Set| set.slots().iter().all(tried);
        if let Some(hint) = ask.hint
            && hint.only
        {
            SelectError::Unavailable { id: hint.id }
        } else if !view.roster.has_open() {
            SelectError::NoWorkers
        } else if view.candidates.is_empty() {
            let filter = core.filter().as_str().to_owned();
            SelectError::NoMatch { filter }
        } else if all_tried(&view.candidates) && all_tried(&view.spare) {
            SelectError::AllTried
        } else {
            SelectError::AllAtCapacity
        }
    }
}
