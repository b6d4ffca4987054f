//! A filter and a strategy, ready to pick.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lb_core::member::Filter;
use lb_core::pick::StrategyKind;

use super::ask::Ask;
use super::balancer::Inner;
use super::board::Board;
use super::explain::Explained;
use super::lease::{Desk, Lease, Tally};
use super::seat::{self, Place};
use super::table::Table;
use super::view::View;
use crate::error::SelectError;
use crate::transport::lock;

/// Picks by one compiled filter and one strategy, from any number of threads at once: a pick takes no lock,
/// awaits nothing, sends nothing and, once a thread has begun, allocates nothing. Clones are the same picker.
///
/// Each thread has a rotation and random numbers of its own. All see the same counts of requests in flight.
/// What a thread keeps for a picker goes after the picker.
#[derive(Clone)]
pub struct Picker {
    core: Arc<Core>,
}

impl Picker {
    pub(super) fn new(balancer: Arc<Inner>, filter: Filter, kind: StrategyKind, tally: Arc<Tally>) -> Self {
        let number = balancer.next_picker();
        let seed = mixed(balancer.seed() ^ mixed(number));
        let view = View::new(balancer.roster(), &filter, None);
        let table = Table::new(kind, seed, balancer.board(), &view);
        let core = Arc::new(Core {
            place: Place::take(),
            filter,
            kind,
            latest: Mutex::new(Latest {
                view: Arc::new(view),
                table: Arc::new(table),
            }),
            building: Mutex::new(()),
            tables: AtomicU64::new(0),
            used: AtomicBool::new(false),
            seed,
            seats: AtomicU64::new(0),
            tally,
            balancer,
        });
        core.balancer.enlist(&core);
        Self { core }
    }

    /// Picks an endpoint and counts a request as in flight there until the lease is ended or dropped.
    ///
    /// Never more requests than an endpoint says it serves are in flight there, whatever the number of threads.
    ///
    /// # Errors
    /// [`SelectError`] saying what is missing.
    #[inline]
    pub fn pick(&self, ask: &Ask<'_>) -> Result<Lease, SelectError> {
        seat::pick(&self.core, ask)
    }

    /// What would be picked on this thread now, and why. Nothing changes and nothing is counted. Of what is asked, hints
    /// are not looked at.
    #[must_use]
    pub fn explain(&self, ask: &Ask<'_>) -> Explained {
        seat::explain(&self.core, ask)
    }

    /// The filter.
    #[must_use]
    pub fn filter(&self) -> &Filter {
        &self.core.filter
    }

    /// The strategy.
    #[must_use]
    pub fn strategy(&self) -> StrategyKind {
        self.core.kind
    }
}

impl fmt::Debug for Picker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picker")
            .field("filter", &self.core.filter.as_str())
            .field("strategy", &self.core.kind)
            .finish_non_exhaustive()
    }
}

/// What the clones of a picker share, and the threads look up when something has changed.
pub(super) struct Core {
    pub(super) place: Place,
    balancer: Arc<Inner>,
    filter: Filter,
    kind: StrategyKind,
    tally: Arc<Tally>,
    latest: Mutex<Latest>,
    /// Held by who makes a table.
    building: Mutex<()>,
    /// How many were made, after the first.
    tables: AtomicU64,
    /// Somebody picked since the last change of the endpoints.
    used: AtomicBool,
    seed: u64,
    seats: AtomicU64,
}

struct Latest {
    view: Arc<View>,
    table: Arc<Table>,
}

impl Core {
    pub(super) fn board(&self) -> &Arc<Board> {
        self.balancer.board()
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    /// Another number when there is another table.
    #[inline]
    pub(super) fn tables(&self) -> u64 {
        self.tables.load(Ordering::Acquire)
    }

    /// For the leases of one thread.
    pub(super) fn desk(&self, view: &View) -> Arc<Desk> {
        self.tally
            .desk(self.board(), &view.roster, self.kind.learns_from_ends())
    }

    /// The view of the roster in force, made if need be, and a table: of that view, or of a former one while another
    /// thread makes it.
    pub(super) fn current(&self) -> (Arc<View>, Arc<Table>) {
        self.used.store(true, Ordering::Relaxed);
        let view = self.view();
        self.tabulate(&view);
        (view, Arc::clone(&lock(&self.latest).table))
    }

    /// Makes ahead what the next pick needs, if there are picks.
    pub(super) fn prepare(&self) {
        if self.used.swap(false, Ordering::Relaxed) {
            self.tabulate(&self.view());
        }
    }

    fn view(&self) -> Arc<View> {
        let mut latest = lock(&self.latest);
        let mut former = None;
        if latest.view.roster.version != self.board().version() {
            let view = View::new(self.balancer.roster(), &self.filter, Some(&latest.view));
            former = Some(std::mem::replace(&mut latest.view, Arc::new(view)));
        }
        let view = Arc::clone(&latest.view);
        drop(latest);
        // The former one goes without the lock: data of the owner's may go with it.
        drop(former);
        view
    }

    /// Makes the table of this view, unless it is there or another thread makes one. If that is of a former view, all
    /// threads come here again when it is done.
    fn tabulate(&self, view: &View) {
        if lock(&self.latest).table.is_of(view) {
            return;
        }
        let Ok(_building) = self.building.try_lock() else {
            return;
        };
        let table = Table::new(self.kind, self.seed, self.board(), view);
        lock(&self.latest).table = Arc::new(table);
        self.tables.fetch_add(1, Ordering::Release);
    }

    /// Seeds the random numbers of one thread: the same for the n-th thread that uses the m-th picker of a
    /// balancer with the same seed.
    pub(super) fn next_seed(&self) -> u64 {
        let seat = self.seats.fetch_add(1, Ordering::Relaxed);
        mixed(self.seed ^ mixed(seat))
    }
}

/// The finalizer of splitmix64: close numbers become far ones.
const fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
