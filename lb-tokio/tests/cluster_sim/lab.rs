//! Nodes on a simulated network, and what is seen of them from outside.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use lb_tokio::{
    Bytes, CallError, Cluster, ClusterBuilder, ClusterClient, ClusterClientConfig, Event,
    LoadBalancingStrategy, MemberStatus, NodeId, Server, Simulated, WorkerRegistry,
    identity::{ClusterCa, ClusterName, NodeIdentity},
};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep},
};

use crate::sim::{self, Net};

/// Names of states, as statuses print them.
pub(crate) const FAILED: &str = "FAILED";

/// One network, one authority, and the identities it issued: a node that restarts keeps its own.
pub(crate) struct Lab {
    pub(crate) net: Net,
    seed: u64,
    ca: ClusterCa,
    identities: RefCell<BTreeMap<u32, NodeIdentity>>,
    lives: RefCell<u64>,
}

impl Lab {
    pub(crate) fn new(seed: u64) -> Self {
        let name = ClusterName::new("sim").expect("a good name");
        Self {
            net: Net::new(seed),
            seed,
            ca: ClusterCa::generate(&name).expect("keys can be made"),
            identities: RefCell::default(),
            lives: RefCell::default(),
        }
    }

    /// Settings of a node that is bound at its address on the net; `seeds` are ids.
    pub(crate) fn node(&self, id: u32, seeds: &[u32]) -> ClusterBuilder {
        let identity = self
            .identities
            .borrow_mut()
            .entry(id)
            .or_insert_with(|| {
                let year = Duration::from_secs(365 * 86_400);
                self.ca.issue(NodeId::new(id), year).expect("it can be issued")
            })
            .clone();
        let mut lives = self.lives.borrow_mut();
        *lives += 1;
        Cluster::builder(identity)
            .seeds(seeds.iter().map(|id| addr(*id)))
            .epoch(1)
            .simulated(Simulated {
                socket: self.net.bind(addr(id)),
                runtime: sim::runtime(),
                seed: self.seed.wrapping_mul(1_000).wrapping_add(*lives),
            })
    }

    pub(crate) async fn worker(&self, id: u32, seeds: &[u32]) -> Cluster {
        let builder = self.node(id, seeds).server(echo()).tag("role", "worker");
        builder.start().await.expect("a worker starts")
    }

    pub(crate) async fn observer(&self, id: u32, seeds: &[u32]) -> Cluster {
        self.node(id, seeds).start().await.expect("an observer starts")
    }

    /// A node's sudden death.
    pub(crate) fn crash(&self, cluster: Cluster) {
        self.net.unplug(addr(cluster.id().get()));
        drop(cluster);
    }
}

pub(crate) fn addr(id: u32) -> SocketAddr {
    let host = u8::try_from(id).expect("ids below 256 here");
    SocketAddr::from(([10, 0, 0, host], 4433))
}

/// `echo` takes 2 ms, `slow` as many hundredths of a second as the request's first byte says.
pub(crate) fn echo() -> Server {
    Server::new()
        .handler("echo", |request| async move {
            sleep(Duration::from_millis(2)).await;
            Ok(request.body)
        })
        .handler("slow", |request| async move {
            let hundredths = request.body.first().copied().unwrap_or(0);
            sleep(Duration::from_millis(10) * hundredths.into()).await;
            Ok(request.body)
        })
}

pub(crate) fn client(cluster: &Cluster, config: ClusterClientConfig) -> ClusterClient {
    client_by(cluster, LoadBalancingStrategy::default(), config)
}

pub(crate) fn client_by(
    cluster: &Cluster,
    strategy: LoadBalancingStrategy,
    config: ClusterClientConfig,
) -> ClusterClient {
    ClusterClient::new(WorkerRegistry::new(cluster.clone(), strategy), config)
}

/// How one node sees another.
pub(crate) fn view(cluster: &Cluster, id: u32) -> Option<MemberStatus> {
    cluster
        .status()
        .members
        .into_iter()
        .find(|member| member.id == id)
}

/// The one word for a node in another's table; empty when it is not there.
pub(crate) fn word(cluster: &Cluster, id: u32) -> String {
    view(cluster, id).map(|member| member.status).unwrap_or_default()
}

/// Whether a node takes another for a worker in good health.
pub(crate) fn is_well(cluster: &Cluster, id: u32) -> bool {
    ["Worker", "COORDINATOR"].contains(&&*word(cluster, id))
}

/// How long it takes until `done`, in steps of 10 ms; panics after `within`.
#[track_caller]
pub(crate) fn until(
    within: Duration,
    what: &'static str,
    mut done: impl FnMut() -> bool,
) -> impl Future<Output = Duration> {
    let from = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < within, "{from}: not within {within:?}: {what}");
            sleep(Duration::from_millis(10)).await;
        }
        start.elapsed()
    }
}

/// A change of a peer's state as one node told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) at: Duration,
    pub(crate) node: u32,
    pub(crate) peer: u32,
    pub(crate) to: String,
    /// How long the peer had been silent, by the node's own table.
    pub(crate) silence: Option<Duration>,
}

/// Collects what nodes tell of their peers.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    start: Instant,
    changes: Arc<Mutex<Vec<Change>>>,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            changes: Arc::default(),
        }
    }

    /// Follows a node until it is gone. A clone of it lives in the task, so drop it by `crash` only after
    /// aborting this.
    pub(crate) fn follow(&self, cluster: &Cluster) -> tokio::task::JoinHandle<()> {
        let (log, cluster, mut events) = (self.clone(), cluster.clone(), cluster.events());
        tokio::spawn(async move {
            loop {
                match events.recv().await {
                    Ok(Event::Peer { id, to, .. }) => log.note(&cluster, id.get(), to.to_string()),
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(missed)) => panic!("{missed} events missed"),
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        })
    }

    fn note(&self, cluster: &Cluster, peer: u32, to: String) {
        let silence = view(cluster, peer).and_then(|member| member.heard_ms);
        let change = Change {
            at: self.start.elapsed(),
            node: cluster.id().get(),
            peer,
            to,
            silence: silence.map(Duration::from_millis),
        };
        self.changes.lock().expect("nobody panics with it").push(change);
    }

    pub(crate) fn changes(&self) -> Vec<Change> {
        self.changes.lock().expect("nobody panics with it").clone()
    }

    /// The bad news since this moment.
    pub(crate) fn alarms_since(&self, since: Duration) -> Vec<Change> {
        let bad = |change: &Change| change.at >= since && ["FAILED", "STALE"].contains(&&*change.to);
        self.changes().into_iter().filter(bad).collect()
    }
}

/// One call and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) caller: u32,
    pub(crate) began: Duration,
    pub(crate) took: Duration,
    pub(crate) error: Option<CallError>,
}

/// Calls made one after the other or all at once, each in a task of its own.
#[derive(Debug, Clone)]
pub(crate) struct Calls {
    start: Instant,
    done: Arc<Mutex<Vec<Call>>>,
}

impl Calls {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            done: Arc::default(),
        }
    }

    pub(crate) fn make(&self, client: &ClusterClient) -> tokio::task::JoinHandle<()> {
        let (calls, client) = (self.clone(), client.clone());
        tokio::spawn(async move {
            let began = calls.start.elapsed();
            let body = Bytes::from_static(&[7; 64]);
            let result = client.call_worker("echo", body.clone(), None).await;
            let error = result.map(|answer| assert_eq!(answer, body)).err();
            let call = Call {
                caller: client.registry().cluster().id().get(),
                began,
                took: calls.start.elapsed() - began,
                error,
            };
            calls.done.lock().expect("nobody panics with it").push(call);
        })
    }

    /// Calls at this pace until the given time since the start.
    pub(crate) async fn keep_making(self, client: ClusterClient, pace: Duration, end: Duration) {
        while self.start.elapsed() < end {
            self.make(&client);
            sleep(pace).await;
        }
    }

    pub(crate) fn done(&self) -> Vec<Call> {
        self.done.lock().expect("nobody panics with it").clone()
    }
}
