//! Endpoints that come and go, what they report, and pickers over them.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use lb_core::load::{CachedLoad, LoadReport, Recorded};
use lb_core::member::Filter;
use lb_core::pick::{Load, StrategyKind};
use lb_core::{Instant as Moment, NodeId};
use tokio::time::Instant;

use super::board::Board;
use super::endpoint::{Endpoint, Standing};
use super::lease::{Lease, Tally};
use super::picker::{Core, Picker};
use super::view::Roster;
use crate::error::SelectError;
use crate::transport::lock;

/// Most endpoints a [`Balancer`] can be made for.
pub const ENDPOINTS_MAX: usize = u16::MAX as usize;

/// Settings of a [`Balancer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct BalancerConfig {
    endpoints: usize,
    ttl: Duration,
    seed: Option<u64>,
}

impl Default for BalancerConfig {
    fn default() -> Self {
        Self {
            endpoints: lb_core::pick::SLOTS_MAX,
            ttl: Duration::from_secs(10),
            seed: None,
        }
    }
}

impl BalancerConfig {
    /// How many endpoints it can know at once, up to [`ENDPOINTS_MAX`]; those removed that still have requests in
    /// flight count. 1024 by default, of 64 bytes each.
    pub const fn endpoints(mut self, endpoints: usize) -> Self {
        self.endpoints = if endpoints < ENDPOINTS_MAX {
            endpoints
        } else {
            ENDPOINTS_MAX
        };
        self
    }

    /// How long a report is used. 10 s by default.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Seeds what is random in picks, for tests and simulations. By default it is random itself.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

/// Balances requests over endpoints that its owner describes, over whatever transport the owner has. A
/// [`Cluster`](crate::Cluster) feeds one from what its peers say; this is the same machinery to be fed by hand.
///
/// Clones share everything. Picking is done by [`Picker`]s, without a lock; all else here takes one.
///
/// ```
/// use std::time::Duration;
/// use lb_tokio::NodeId;
/// use lb_tokio::core::load::{Ended, LoadReport};
/// use lb_tokio::core::member::Tags;
/// use lb_tokio::core::pick::StrategyKind;
/// use lb_tokio::pick::{Ask, Balancer, BalancerConfig, Endpoint};
///
/// let balancer = Balancer::new(BalancerConfig::default());
/// for id in 1..=3 {
///     let zone = Tags::parse(if id < 3 { "zone=a" } else { "zone=b" })?;
///     let endpoint = Endpoint::new(NodeId::new(id)).tags(zone);
///     balancer.put(endpoint.data(format!("http://10.0.0.{id}:8080")))?;
/// }
/// // What the endpoints say of their load, however you come by it. It is optional.
/// for (id, in_flight) in [(1, 9), (2, 1)] {
///     balancer.report(NodeId::new(id), LoadReport { in_flight, ..LoadReport::default() });
/// }
///
/// let picker = balancer.picker(Some("zone=a"), StrategyKind::Corrected)?;
/// let lease = picker.pick(&Ask::new())?;
/// assert_eq!(lease.endpoint().get::<String>().unwrap(), "http://10.0.0.2:8080");
/// // ... the request ...
/// lease.end(Ended::Answered(lb_tokio::core::Duration::from_millis(3)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Balancer {
    inner: Arc<Inner>,
}

/// There is no room for another endpoint. It was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the balancer has no room for another endpoint: make it for more")]
pub struct BalancerFull;

/// What a [`Balancer`] knows of an endpoint.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Known {
    /// As it was described last.
    pub endpoint: Arc<Endpoint>,
    /// Its load as a strategy sees it.
    pub load: Load,
    /// What it reported last, however long ago.
    pub reported: Option<lb_core::load::LoadFigures>,
}

impl Balancer {
    /// One that knows no endpoint yet.
    #[must_use]
    pub fn new(config: BalancerConfig) -> Self {
        Self::starting(Instant::now(), config)
    }

    /// One that counts time from this origin.
    pub(crate) fn starting(origin: Instant, config: BalancerConfig) -> Self {
        let seed = config
            .seed
            .unwrap_or_else(|| RandomState::new().build_hasher().finish());
        Self {
            inner: Arc::new(Inner {
                board: Arc::new(Board::new(config.endpoints, origin, config.ttl)),
                seed,
                book: Mutex::default(),
                tally: Arc::default(),
                pickers: Mutex::default(),
                pickers_made: AtomicU64::new(0),
            }),
        }
    }

    /// Adds an endpoint, or changes how the one of this id is described. Requests in flight there, its report
    /// and what was measured of it stay, even if it was removed while requests were in flight.
    ///
    /// # Errors
    /// [`BalancerFull`].
    pub fn put(&self, endpoint: Endpoint) -> Result<(), BalancerFull> {
        self.put_all([endpoint])
    }

    /// [`put`](Self::put) for many at once, which takes hardly longer than for one.
    ///
    /// # Errors
    /// [`BalancerFull`] at the first for whom there is no room; those before it are there.
    pub fn put_all(&self, endpoints: impl IntoIterator<Item = Endpoint>) -> Result<(), BalancerFull> {
        // Not while the lock is held: they may come from anywhere.
        let mut endpoints = endpoints.into_iter().collect::<Vec<_>>().into_iter();
        let put = self.edit(|edit| endpoints.try_for_each(|endpoint| edit.put(endpoint).map(|_| ())));
        self.prepare();
        put
    }

    /// Takes an endpoint away; whether it was there. Requests in flight there go on and are counted until they
    /// end.
    pub fn remove(&self, id: NodeId) -> bool {
        let removed = self.edit(|edit| edit.remove(id));
        self.prepare();
        removed
    }

    /// Takes in what an endpoint says of its load, unless a later report is known; whether the endpoint is.
    pub fn report(&self, id: NodeId, report: LoadReport) -> bool {
        self.edit(|edit| {
            let Some(slot) = edit.slot_of(id) else {
                return false;
            };
            let incoming = CachedLoad::new(edit.now, report);
            let known = edit.book.places.get(slot).and_then(|place| place.cached);
            let merged = match known {
                Some(mut known) => (known.merge(incoming) != Recorded::Old).then_some(known),
                None => Some(incoming),
            };
            if let Some(merged) = merged {
                let newer = edit.observe(slot, Some(&merged));
                if newer {
                    edit.set_full_until(slot, Moment::ZERO);
                }
            }
            true
        })
    }

    /// It said that it has no place: it is not picked for this long, or until its next report.
    pub fn set_full(&self, id: NodeId, span: Duration) {
        self.edit(|edit| {
            if let Some(slot) = edit.slot_of(id) {
                let until = edit.now.saturating_add(span.into());
                edit.set_full_until(slot, until);
            }
        });
    }

    /// A picker of open endpoints whose tags match (`None`: all).
    ///
    /// # Errors
    /// [`SelectError::Filter`] when the filter does not compile.
    pub fn picker(&self, filter: Option<&str>, strategy: StrategyKind) -> Result<Picker, SelectError> {
        let filter = Filter::parse(filter.unwrap_or(""))?;
        Ok(self.picker_for(filter, strategy, &self.inner.tally))
    }

    pub(crate) fn picker_for(&self, filter: Filter, strategy: StrategyKind, tally: &Arc<Tally>) -> Picker {
        Picker::new(Arc::clone(&self.inner), filter, strategy, Arc::clone(tally))
    }

    /// Counts a request as in flight at this endpoint, without picking and whether or not it is full.
    ///
    /// # Errors
    /// [`SelectError::NotThere`] when it is unknown or closed.
    pub fn lease(&self, id: NodeId) -> Result<Lease, SelectError> {
        self.lease_for(id, &self.inner.tally)
    }

    pub(crate) fn lease_for(&self, id: NodeId, tally: &Arc<Tally>) -> Result<Lease, SelectError> {
        let book = self.inner.book();
        let open = |slot: &usize| {
            let endpoint = book.roster.get(*slot);
            endpoint.is_some_and(|endpoint| endpoint.get_standing() != Standing::Closed)
        };
        let slot = book.slots.get(&id).copied().filter(open);
        let slot = slot.ok_or(SelectError::NotThere { id })?;
        self.inner.board.begin(slot);
        let roster = Arc::clone(&book.roster);
        drop(book);
        Ok(tally.lease(&self.inner.board, &roster, slot))
    }

    /// Every endpoint that was put and not removed, by id.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Known> {
        let book = self.inner.book();
        let board = &self.inner.board;
        let now = board.now();
        let known = book.slots.values().filter_map(|&slot| {
            Some(Known {
                endpoint: Arc::clone(book.roster.get(slot)?),
                load: board.load(slot, || now),
                reported: board.last_figures(slot),
            })
        });
        known.collect()
    }

    /// How often each endpoint was picked or leased, by id. Those never picked are left out.
    #[must_use]
    pub fn picks(&self) -> BTreeMap<NodeId, u64> {
        self.inner.tally.picks()
    }

    /// Changes several things at once. Pickers see all of it or nothing.
    pub(crate) fn edit<T>(&self, work: impl FnOnce(&mut Edit<'_>) -> T) -> T {
        let mut edit = Edit {
            book: self.inner.book(),
            board: &self.inner.board,
            now: Moment::from_micros(self.inner.board.now()),
            changed: false,
        };
        self.inner.board.pass(edit.now);
        let result = work(&mut edit);
        let former = edit.publish();
        drop(former);
        result
    }

    /// Makes the views that picks will need, so that no pick has to.
    pub(crate) fn prepare(&self) {
        let pickers: Vec<_> = lock(&self.inner.pickers)
            .iter()
            .filter_map(Weak::upgrade)
            .collect();
        for picker in pickers {
            picker.prepare();
        }
    }

    /// Our own requests in a slot now.
    pub(crate) fn own_in_flight(&self, slot: usize) -> u32 {
        self.inner.board.own_in_flight(slot)
    }
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.inner.book().slots.len();
        f.debug_struct("Balancer")
            .field("endpoints", &endpoints)
            .finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    board: Arc<Board>,
    seed: u64,
    book: Mutex<Book>,
    tally: Arc<Tally>,
    pickers: Mutex<Vec<Weak<Core>>>,
    pickers_made: AtomicU64,
}

impl Inner {
    pub(super) fn board(&self) -> &Arc<Board> {
        &self.board
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.book().roster)
    }

    pub(super) fn next_picker(&self) -> u64 {
        self.pickers_made.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn enlist(&self, picker: &Arc<Core>) {
        let mut pickers = lock(&self.pickers);
        if pickers.len() == pickers.capacity() {
            pickers.retain(|picker| picker.strong_count() > 0);
        }
        pickers.push(Arc::downgrade(picker));
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

/// How many slots are kept free rather than given away again at once.
const APART: usize = 16;

/// Who has which slot.
///
/// A slot is given to another endpoint only when the one that had it is gone and no request is in flight there.
/// A pick in another thread that still goes by a former roster may count its request in a slot that was just
/// given away; it is counted at the wrong endpoint then, until it ends. Of several free slots the one that is
/// free for longest is given, and none while there are fewer than [`APART`] and never used ones, which makes
/// that very rare.
#[derive(Default)]
struct Book {
    slots: BTreeMap<NodeId, usize>,
    /// By slot.
    places: Vec<Entry>,
    free: VecDeque<usize>,
    /// Removed, with requests in flight when last seen.
    leaving: Vec<NodeId>,
    roster: Arc<Roster>,
}

#[derive(Default)]
struct Entry {
    endpoint: Option<Arc<Endpoint>>,
    cached: Option<CachedLoad>,
    full_until: Moment,
}

/// Changes that are published together.
pub(crate) struct Edit<'a> {
    book: MutexGuard<'a, Book>,
    board: &'a Board,
    now: Moment,
    changed: bool,
}

impl Edit<'_> {
    /// Whether pickers will have to look anew.
    pub(crate) fn changed(&self) -> bool {
        self.changed
    }

    pub(crate) fn put(&mut self, endpoint: Endpoint) -> Result<usize, BalancerFull> {
        let id = endpoint.id();
        let slot = match self.slot_of(id) {
            Some(slot) => slot,
            None => self.take(id)?,
        };
        if let Some(place) = self.book.places.get_mut(slot) {
            place.endpoint = Some(Arc::new(endpoint));
        }
        self.book.leaving.retain(|&leaving| leaving != id);
        self.changed = true;
        Ok(slot)
    }

    pub(crate) fn remove(&mut self, id: NodeId) -> bool {
        let Some(slot) = self.slot_of(id) else {
            return false;
        };
        let place = self.book.places.get_mut(slot);
        let there = place.is_some_and(|place| place.endpoint.take().is_some());
        if there {
            self.book.leaving.push(id);
            self.changed = true;
        }
        there
    }

    fn slot_of(&self, id: NodeId) -> Option<usize> {
        self.book.slots.get(&id).copied()
    }

    /// A slot for a new endpoint.
    fn take(&mut self, id: NodeId) -> Result<usize, BalancerFull> {
        self.reclaim();
        let book = &mut *self.book;
        let fresh = book.places.len() < self.board.slots();
        let slot = if fresh && book.free.len() < APART {
            book.places.push(Entry::default());
            book.places.len() - 1
        } else {
            book.free.pop_front().ok_or(BalancerFull)?
        };
        book.slots.insert(id, slot);
        self.renew(slot);
        self.observe(slot, None);
        self.set_full_until(slot, Moment::ZERO);
        Ok(slot)
    }

    /// Frees the slots of those that are gone and whose requests have ended.
    fn reclaim(&mut self) {
        let Book {
            slots, free, leaving, ..
        } = &mut *self.book;
        leaving.retain(|id| {
            let Some(&slot) = slots.get(id) else { return false };
            let busy = self.board.own_in_flight(slot) > 0;
            if !busy {
                slots.remove(id);
                free.push_back(slot);
            }
            busy
        });
    }

    /// What it reported last, as far as anything is known; whether that is another report than before.
    pub(crate) fn observe(&mut self, slot: usize, cached: Option<&CachedLoad>) -> bool {
        let Some(place) = self.book.places.get_mut(slot) else {
            return false;
        };
        if place.cached.as_ref() == cached {
            return false;
        }
        let version = |cached: &CachedLoad| cached.report().version;
        let newer = place.cached.as_ref().map(version) != cached.map(version);
        self.board.write(slot, self.now, cached, newer);
        place.cached = cached.copied();
        newer
    }

    /// It has no place until then.
    pub(crate) fn set_full_until(&mut self, slot: usize, until: Moment) {
        if let Some(place) = self.book.places.get_mut(slot)
            && place.full_until != until
        {
            place.full_until = until;
            self.board.set_full_until(slot, until);
        }
    }

    /// It begins a new life: what was measured of the former one says nothing of it.
    pub(crate) fn renew(&mut self, slot: usize) {
        self.board.forget_latency(slot);
    }

    /// The former roster, to be dropped without the lock: data of the owner's may go with it.
    fn publish(mut self) -> Option<Arc<Roster>> {
        if !self.changed {
            return None;
        }
        let book = &mut *self.book;
        let version = book.roster.version + 1;
        let endpoints: Vec<_> = book.places.iter().map(|place| place.endpoint.clone()).collect();
        let there = |slot: usize| endpoints.get(slot).is_some_and(Option::is_some);
        let by_id = book.slots.iter().filter(|&(_, &slot)| there(slot));
        let roster = Roster {
            version,
            by_id: by_id.map(|(&id, &slot)| (id, slot)).collect(),
            endpoints,
        };
        let former = std::mem::replace(&mut book.roster, Arc::new(roster));
        // After the roster, and before the lock is released: whoever sees the version finds the roster.
        self.board.set_version(version);
        Some(former)
    }
}
