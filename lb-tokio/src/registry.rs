//! Picking workers from memory.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use lb_core::NodeId;
use lb_core::load::{Ended, LoadFigures};
use lb_core::member::{Filter, Status};

use crate::LoadBalancingStrategy;
use crate::cluster::Cluster;
use crate::error::SelectError;
use crate::pick::{self, Ask, Endpoint, Picker, Standing, Tally};

/// Compiled filters kept, each with a strategy. Beyond that, a new one displaces an arbitrary one, whose
/// rotation then starts anew.
pub const FILTERS_MAX: usize = 256;

/// The cluster's workers, and a strategy to pick among them.
///
/// Clones share everything. Picking reads memory only: no message is sent and nothing is awaited.
///
/// A worker's weight, for strategies that weigh, is its tag `weight` or else the capacity it states; who says neither
/// gets the mean of the others.
///
/// Each filter has a rotation of its own, so alternating filters do not disturb each other. Threads rotate each
/// on its own, too, and share the counts of requests in flight.
#[derive(Clone)]
pub struct WorkerRegistry {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    strategy: LoadBalancingStrategy,
    pickers: RwLock<Pickers>,
    tally: Arc<Tally>,
}

/// By the text of the filter, for each strategy in use.
#[derive(Default)]
struct Pickers {
    by_strategy: Vec<(LoadBalancingStrategy, BTreeMap<String, Picker>)>,
}

impl Pickers {
    fn get(&self, strategy: LoadBalancingStrategy, filter: &str) -> Option<&Picker> {
        let (_, by_filter) = self.by_strategy.iter().find(|(kind, _)| *kind == strategy)?;
        by_filter.get(filter)
    }

    fn insert(&mut self, filter: String, picker: Picker) {
        let kept = |(_, by_filter): &(_, BTreeMap<_, _>)| by_filter.len();
        let fullest = self.by_strategy.iter().map(kept).sum::<usize>() >= FILTERS_MAX;
        if fullest && let Some((_, by_filter)) = self.by_strategy.iter_mut().max_by_key(|kind| kept(kind)) {
            by_filter.pop_first();
        }
        let strategy = picker.strategy();
        match self.by_strategy.iter_mut().find(|(kind, _)| *kind == strategy) {
            Some((_, by_filter)) => {
                by_filter.insert(filter, picker);
            }
            None => self
                .by_strategy
                .push((strategy, BTreeMap::from([(filter, picker)]))),
        }
    }
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
                pickers: RwLock::default(),
                tally: Arc::default(),
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

    /// Picks a worker whose tags match (`None`: any) and counts a request as in flight there until the lease is
    /// dropped. See [`Filter`] for the language of filters.
    ///
    /// For requests over a transport of your own; [`ClusterClient`](crate::ClusterClient) does it itself. Where
    /// nanoseconds count, keep a [`picker`](Self::picker) instead of looking its filter up each time.
    ///
    /// # Errors
    /// [`SelectError`] saying what is missing.
    pub fn select_worker(&self, filter: Option<&str>) -> Result<Lease, SelectError> {
        self.picker(filter)?.pick(&Ask::new()).map(Lease::new)
    }

    /// A picker of workers whose tags match (`None`: any), with the registry's strategy: the one that
    /// [`select_worker`](Self::select_worker) uses for this filter.
    ///
    /// ```no_run
    /// # fn example(registry: &lb_tokio::WorkerRegistry) -> Result<(), lb_tokio::SelectError> {
    /// use lb_tokio::pick::Ask;
    /// let picker = registry.picker(Some("role=worker"))?;
    /// // In any thread, as often as you like:
    /// let lease = picker.pick(&Ask::new().key("user-7"))?;
    /// println!("{} at {:?}", lease.id(), lease.addr());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SelectError::Filter`] when the filter does not compile.
    pub fn picker(&self, filter: Option<&str>) -> Result<Picker, SelectError> {
        self.picker_with(self.inner.strategy, filter)
    }

    /// [`picker`](Self::picker) with another strategy.
    ///
    /// # Errors
    /// [`SelectError::Filter`] when the filter does not compile.
    pub fn picker_with(
        &self,
        strategy: LoadBalancingStrategy,
        filter: Option<&str>,
    ) -> Result<Picker, SelectError> {
        let text = filter.unwrap_or("");
        let pickers = &self.inner.pickers;
        let known = {
            let pickers = pickers.read().unwrap_or_else(PoisonError::into_inner);
            pickers.get(strategy, text).cloned()
        };
        if let Some(picker) = known {
            return Ok(picker);
        }
        let filter = Filter::parse(text)?;
        let mut pickers = pickers.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster, and a filter has one rotation.
        if let Some(picker) = pickers.get(strategy, text) {
            return Ok(picker.clone());
        }
        let balancer = self.inner.cluster.balancer();
        let picker = balancer.picker_for(filter, strategy, &self.inner.tally);
        pickers.insert(text.to_owned(), picker.clone());
        Ok(picker)
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
        let mut known = self.inner.cluster.balancer().endpoints();
        known.retain(|known| known.endpoint.get_standing() != Standing::Closed);
        let is_empty = known.is_empty();
        known.retain(|known| filter.matches(known.endpoint.get_tags()));
        // As in a pick: suspected ones only when there is no other.
        let is_open = |known: &pick::Known| known.endpoint.get_standing() == Standing::Open;
        if known.iter().any(is_open) {
            known.retain(is_open);
        }
        if known.is_empty() {
            let filter = text.to_owned();
            return Err(if is_empty {
                SelectError::NoWorkers
            } else {
                SelectError::NoMatch { filter }
            });
        }
        Ok(known.iter().map(Worker::known).collect())
    }

    /// Counts a request as in flight at this worker until the lease is dropped, without picking and whether
    /// or not it is full.
    ///
    /// # Errors
    /// [`SelectError::NotThere`] when it is unknown, gone or draining.
    pub fn lease(&self, id: NodeId) -> Result<Lease, SelectError> {
        self.hold(id).map(Lease::new)
    }

    /// Every worker known, in whatever state, by id.
    #[must_use]
    pub fn workers(&self) -> Vec<Worker> {
        let known = self.inner.cluster.balancer().endpoints();
        known.iter().map(Worker::known).collect()
    }

    /// How many times each worker was picked.
    #[must_use]
    pub fn picks(&self) -> BTreeMap<NodeId, u64> {
        self.inner.tally.picks()
    }

    pub(crate) fn hold(&self, id: NodeId) -> Result<pick::Lease, SelectError> {
        self.inner.cluster.balancer().lease_for(id, &self.inner.tally)
    }
}

/// A worker that was picked. Counts as a request in flight there until dropped; keep it for as long as the
/// request takes.
#[must_use = "a lease that is dropped at once counts no load"]
pub struct Lease {
    held: pick::Lease,
    worker: OnceLock<Worker>,
}

impl Lease {
    fn new(held: pick::Lease) -> Self {
        Self {
            held,
            worker: OnceLock::new(),
        }
    }

    /// Ends it, and tells how the request ended: strategies that look at latency and failures learn from it.
    pub fn end(self, ended: Ended) {
        self.held.end(ended);
    }
}

impl Deref for Lease {
    type Target = Worker;

    /// The worker as it was known at the first look.
    fn deref(&self) -> &Worker {
        self.worker.get_or_init(|| {
            let (load, reported) = self.held.load();
            Worker::new(self.held.endpoint(), load.own_in_flight, reported)
        })
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &self.held.id())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Worker::fmt(self, f)
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

    fn known(known: &pick::Known) -> Self {
        Self::new(&known.endpoint, known.load.own_in_flight, known.reported)
    }

    fn new(endpoint: &Endpoint, own_in_flight: u32, reported: Option<LoadFigures>) -> Self {
        let tags: BTreeMap<String, String> = endpoint
            .get_tags()
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let id = endpoint.id();
        let reported = reported.unwrap_or_default();
        Self {
            id,
            label: tags.get("label").cloned().unwrap_or_else(|| format!("node-{id}")),
            addr: endpoint.get_addr(),
            active_connections: u32::from(reported.in_flight).max(own_in_flight),
            own_in_flight,
            capacity: reported.capacity.into(),
            status: endpoint.get().copied().unwrap_or(Status::NoHeartbeat),
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
