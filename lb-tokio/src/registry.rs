//! Picking workers from memory.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

use lb_core::NodeId;
use lb_core::load::Ended;
use lb_core::member::{Admission, Filter, Liveness, Role, Status};
use lb_core::node::{PeerView, Request, Ticket};
use lb_core::pick::AnyStrategy;

use crate::LoadBalancingStrategy;
use crate::cluster::{Cluster, CoreNode, Shared};
use crate::error::SelectError;
use crate::transport::lock;

/// Compiled filters kept, each with the state of its strategy. Beyond that, a new filter displaces an
/// arbitrary one, whose rotation then starts anew.
pub const FILTERS_MAX: usize = 256;

/// The cluster's workers, and a strategy to pick among them.
///
/// Clones share everything. Picking reads memory only: no message is sent and nothing is awaited.
///
/// Each filter has a rotation of its own, so alternating filters do not disturb each other.
#[derive(Clone)]
pub struct WorkerRegistry {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    strategy: LoadBalancingStrategy,
    pickers: Mutex<Pickers>,
}

#[derive(Default)]
struct Pickers {
    by_filter: BTreeMap<String, Picker>,
    picks: BTreeMap<NodeId, u64>,
}

struct Picker {
    filter: Filter,
    strategy: AnyStrategy<Vec<u32>>,
}

impl fmt::Debug for WorkerRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerRegistry")
            .field("strategy", &self.inner.strategy)
            .finish_non_exhaustive()
    }
}

impl WorkerRegistry {
    /// The workers of this cluster, picked by this strategy.
    #[must_use]
    pub fn new(cluster: Cluster, strategy: LoadBalancingStrategy) -> Self {
        Self {
            inner: Arc::new(Inner {
                cluster,
                strategy,
                pickers: Mutex::default(),
            }),
        }
    }

    /// The strategy.
    #[must_use]
    pub fn strategy(&self) -> LoadBalancingStrategy {
        self.inner.strategy
    }

    /// The cluster behind it.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    /// Picks a worker whose tags match (`None`: any) and counts a request as in flight there until the
    /// lease is dropped. See [`Filter`] for the language of filters.
    ///
    /// For requests over a transport of your own; [`ClusterClient`](crate::ClusterClient) does it itself.
    ///
    /// # Errors
    /// [`SelectError`] saying what is missing.
    pub fn select_worker(&self, filter: Option<&str>) -> Result<Lease, SelectError> {
        Lease::of(self.select(filter, &[])?)
    }

    /// The workers that [`select_worker`](Self::select_worker) chooses among, by id, for a rule of your own.
    /// Full ones are among them.
    ///
    /// Count the request at the one you choose with [`lease`](Self::lease), or call it with
    /// [`ClusterClient::call_node`](crate::ClusterClient::call_node).
    ///
    /// # Errors
    /// [`SelectError`] when there is none; the list is never empty.
    pub fn candidates(&self, filter: Option<&str>) -> Result<Vec<Worker>, SelectError> {
        let text = filter.unwrap_or("");
        let filter = Filter::parse(text)?;
        let state = self.inner.cluster.shared().lock();
        let open: Vec<_> = state.node.peers().filter(takes_requests).collect();
        let matching = |liveness| {
            let peers = open.iter().filter(move |peer| peer.axes.liveness == liveness);
            let peers = peers.filter(|peer| filter.matches(peer.member.tags()));
            peers.map(Worker::from_view).collect::<Vec<_>>()
        };
        // As in a pick: suspected ones only when there is no other.
        let mut workers = matching(Liveness::Alive);
        if workers.is_empty() {
            workers = matching(Liveness::Suspect);
        }
        if workers.is_empty() {
            let filter = text.to_owned();
            return Err(if open.is_empty() {
                SelectError::NoWorkers
            } else {
                SelectError::NoMatch { filter }
            });
        }
        workers.sort_by_key(|worker| worker.id);
        Ok(workers)
    }

    /// Counts a request as in flight at this worker until the lease is dropped, without picking and whether
    /// or not it is full.
    ///
    /// # Errors
    /// [`SelectError::NotThere`] when it is unknown, gone or draining.
    pub fn lease(&self, id: NodeId) -> Result<Lease, SelectError> {
        Lease::of(self.hold(id)?)
    }

    /// Every worker known, in whatever state, by id.
    #[must_use]
    pub fn workers(&self) -> Vec<Worker> {
        let state = self.inner.cluster.shared().lock();
        let mut workers: Vec<Worker> = workers_of(&state.node).collect();
        workers.sort_by_key(|worker| worker.id);
        workers
    }

    /// How many times each worker was picked.
    #[must_use]
    pub fn picks(&self) -> BTreeMap<NodeId, u64> {
        lock(&self.inner.pickers).picks.clone()
    }

    pub(crate) fn select(&self, filter: Option<&str>, tried: &[NodeId]) -> Result<Held, SelectError> {
        let text = filter.unwrap_or("");
        let shared = self.inner.cluster.shared();
        let mut pickers = lock(&self.inner.pickers);
        let Pickers { by_filter, picks } = &mut *pickers;
        if !by_filter.contains_key(text) {
            let filter = Filter::parse(text)?;
            if by_filter.len() >= FILTERS_MAX
                && let Some(victim) = by_filter.keys().next().cloned()
            {
                by_filter.remove(&victim);
            }
            let kind = self.inner.strategy;
            let seed = u64::from(shared.id().get());
            let slots = lb_core::pick::SLOTS_MAX;
            let strategy = AnyStrategy::new(kind, vec![0; kind.words(slots)], slots, seed);
            let Ok(strategy) = strategy else {
                return Err(SelectError::NoWorkers);
            };
            by_filter.insert(text.to_owned(), Picker { filter, strategy });
        }
        let Some(Picker { filter, strategy }) = by_filter.get_mut(text) else {
            return Err(SelectError::NoWorkers);
        };
        let now = shared.now();
        let request = Request::new(filter).exclude(tried);
        let mut state = shared.lock();
        let ticket = state
            .node
            .pick(now, &request, strategy)
            .map_err(|error| SelectError::from_pick(error, text))?;
        let addr = addr_of(&state.node, ticket.id());
        drop(state);
        *picks.entry(ticket.id()).or_default() += 1;
        Ok(Held::new(shared, addr, ticket))
    }

    pub(crate) fn hold(&self, id: NodeId) -> Result<Held, SelectError> {
        let shared = self.inner.cluster.shared();
        let mut pickers = lock(&self.inner.pickers);
        let mut state = shared.lock();
        let there = state.node.peer(id).is_some_and(|peer| takes_requests(&peer));
        let ticket = there.then(|| state.node.begin(id)).flatten();
        let ticket = ticket.ok_or(SelectError::NotThere { id })?;
        let addr = addr_of(&state.node, id);
        drop(state);
        *pickers.picks.entry(id).or_default() += 1;
        Ok(Held::new(shared, addr, ticket))
    }
}

/// Whether it may be picked, as far as the peer table tells.
fn takes_requests<const TAGS: usize>(peer: &PeerView<'_, TAGS>) -> bool {
    peer.member.role() == Role::Worker
        && peer.member.is_known()
        && peer.axes.admission == Admission::Open
        && matches!(peer.axes.liveness, Liveness::Alive | Liveness::Suspect)
}

fn addr_of(node: &CoreNode, id: NodeId) -> Option<SocketAddr> {
    node.peer(id).and_then(|peer| peer.member.addr().socket())
}

fn workers_of(node: &CoreNode) -> impl Iterator<Item = Worker> {
    node.peers()
        .filter(|peer| peer.member.role() == Role::Worker)
        .map(|peer| Worker::from_view(&peer))
}

/// A request in flight at a worker: released on drop, so completion, error, time-out and cancellation all do.
pub(crate) struct Held {
    shared: Arc<Shared>,
    pub(crate) id: NodeId,
    pub(crate) addr: Option<SocketAddr>,
    ticket: Option<Ticket>,
    ended: Ended,
}

impl Held {
    fn new(shared: &Arc<Shared>, addr: Option<SocketAddr>, ticket: Ticket) -> Self {
        Self {
            shared: Arc::clone(shared),
            id: ticket.id(),
            addr,
            ticket: Some(ticket),
            ended: Ended::Abandoned,
        }
    }

    /// Released now, because the request ended like this. Otherwise it counts as abandoned.
    pub(crate) fn end(mut self, ended: Ended) {
        self.ended = ended;
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.shared.finish(ticket, self.ended);
        }
    }
}

/// A worker that was picked. Counts as a request in flight there until dropped; keep it for as long as the
/// request takes.
#[must_use = "a lease that is dropped at once counts no load"]
pub struct Lease {
    worker: Worker,
    held: Held,
}

impl Lease {
    fn of(held: Held) -> Result<Self, SelectError> {
        let id = held.id;
        let worker = {
            let state = held.shared.lock();
            state.node.peer(id).map(|peer| Worker::from_view(&peer))
        };
        let worker = worker.ok_or(SelectError::NotThere { id })?;
        Ok(Self { worker, held })
    }
}

impl Deref for Lease {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        &self.worker
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.held.id)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.worker.fmt(f)
    }
}

/// A worker as it was known at some moment. Displays as its label and address.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Worker {
    /// Who it is.
    pub id: NodeId,
    /// Its `label` tag, or `node-<id>`.
    pub label: String,
    /// Where it listens.
    pub addr: Option<SocketAddr>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Requests in flight there: what it reported, but not fewer than our own.
    pub active_connections: u32,
    /// Our own requests there.
    pub own_in_flight: u32,
    /// How many it serves at once; 0 when it does not say.
    pub capacity: u32,
    /// Its state in one word.
    pub status: Status,
}

impl Worker {
    /// Requests in flight as a share of the capacity; `None` when it does not state one.
    #[must_use]
    pub fn utilization(&self) -> Option<f64> {
        (self.capacity > 0).then(|| f64::from(self.active_connections) / f64::from(self.capacity))
    }

    fn from_view<const TAGS: usize>(peer: &PeerView<'_, TAGS>) -> Self {
        let tags: BTreeMap<String, String> = peer
            .member
            .tags()
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let id = peer.member.id();
        let reported = peer.load.map_or(0, |cached| u32::from(cached.report().in_flight));
        Self {
            id,
            label: tags.get("label").cloned().unwrap_or_else(|| format!("node-{id}")),
            addr: peer.member.addr().socket(),
            active_connections: reported.max(peer.own_in_flight),
            own_in_flight: peer.own_in_flight,
            capacity: peer.load.map_or(0, |cached| cached.report().capacity.into()),
            status: peer.status,
            tags,
        }
    }
}

impl fmt::Display for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)?;
        match self.addr {
            Some(addr) => write!(f, " at {addr}"),
            None => Ok(()),
        }
    }
}
