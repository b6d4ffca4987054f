//! A node: the core's state machines driven over the transport.

mod builder;
mod feed;
mod shared;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_core::NodeId;
use lb_core::member::{Filter, Liveness, RESERVED_KEY_PREFIX, Role, TAG_BYTES_MAX, TagsError};
use lb_core::node::Event;
use tokio::sync::broadcast;
use tokio::time::Instant;

pub use builder::{ClusterBuilder, Simulated, StartError};
pub(crate) use shared::Shared;
pub use status::{ClusterStatus, Control, MemberStatus};

use crate::call::Call;
use crate::error::{CallError, JoinError};
use crate::identity::NodeIdentity;
use crate::pick::Balancer;

/// Most other nodes one node can know.
pub const PEERS_MAX: usize = 512;

/// The core's node with this crate's capacities.
pub(crate) type CoreNode = lb_core::Node<PEERS_MAX, TAG_BYTES_MAX>;

/// How long a leaving worker lets its calls finish.
const DRAIN: Duration = Duration::from_secs(10);

/// How long goodbyes may take to arrive.
const FAREWELL: Duration = Duration::from_secs(1);

/// A running node. Clones share it; when the last one is dropped the node stops without a goodbye, which its
/// peers will take for a failure: call [`Cluster::leave`] first.
#[derive(Clone, Debug)]
pub struct Cluster {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.abort();
    }
}

impl Cluster {
    /// Settings for a node with this identity.
    pub fn builder(identity: NodeIdentity) -> ClusterBuilder {
        ClusterBuilder::new(identity)
    }

    fn new(shared: Arc<Shared>) -> Self {
        Self {
            handle: Arc::new(Handle { shared }),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Who this node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.shared().id()
    }

    /// Its life. It may rise soon after the start, when the cluster knows a former life with this epoch.
    #[must_use]
    pub fn epoch(&self) -> u32 {
        self.shared().lock().node.epoch()
    }

    /// What picks its workers: for pickers, see [`WorkerRegistry`](crate::WorkerRegistry).
    pub(crate) fn balancer(&self) -> &Balancer {
        self.shared().balancer()
    }

    /// Where it is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared().local_addr()
    }

    /// Where it listens for edges, if it does.
    #[must_use]
    pub fn edge_addr(&self) -> Option<SocketAddr> {
        self.shared().edge_addr()
    }

    /// Sets a tag and tells the cluster.
    ///
    /// # Errors
    /// [`TagsError`] when the tag is malformed, its key begins with `lb.`, or the tags together are too long;
    /// nothing changed.
    pub fn set_tag(&self, key: &str, value: &str) -> Result<(), TagsError> {
        if key.starts_with(RESERVED_KEY_PREFIX) {
            return Err(TagsError::Reserved);
        }
        self.shared().input(|state, now| {
            let mut tags = state.node.tags().clone();
            tags.set(key, value)?;
            state.node.set_tags(now, tags);
            Ok(())
        })
    }

    /// Takes a tag off and tells the cluster; whether it was there. Tags that begin with `lb.` stay.
    pub fn remove_tag(&self, key: &str) -> bool {
        if key.starts_with(RESERVED_KEY_PREFIX) {
            return false;
        }
        self.shared().input(|state, now| {
            let mut tags = state.node.tags().clone();
            let there = tags.remove(key);
            state.node.set_tags(now, tags);
            there
        })
    }

    /// Asks the cluster to send no new requests here, or to send them again.
    pub fn set_draining(&self, draining: bool) {
        self.shared()
            .input(|state, now| state.node.set_draining(now, draining));
    }

    /// The cluster as this node sees it, itself included. Read from memory: it costs no message.
    #[must_use]
    pub fn status(&self) -> ClusterStatus {
        self.shared().status()
    }

    /// How many connections to other nodes are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared().transport().open_connections()
    }

    /// Asks another node for its view of the cluster.
    ///
    /// # Errors
    /// [`CallError`] as for any call.
    pub async fn status_of(&self, id: NodeId) -> Result<ClusterStatus, CallError> {
        let peer = |state: &shared::State| state.node.peer(id).and_then(|peer| peer.member.addr().socket());
        let call = Call {
            id,
            addr: peer(&self.shared().lock()),
            method: status::METHOD,
            request: &bytes::Bytes::new(),
            deadline: Instant::now() + STATUS_TIMEOUT,
            max_response: crate::server::BODY_BYTES_DEFAULT,
        };
        let exchange = call.exchange(self.shared().transport());
        let body = match tokio::time::timeout_at(call.deadline, exchange).await {
            Ok(answer) => answer.result.map_err(|failure| failure.error)?,
            Err(_) => {
                return Err(CallError::Deadline {
                    timeout: STATUS_TIMEOUT,
                });
            }
        };
        serde_json::from_slice(&body).map_err(|_| CallError::Protocol {
            id,
            reason: "status does not decode",
        })
    }

    /// Changes of peers' status, of the coordinator, and refusals. A receiver that falls more than 1024
    /// events behind misses the oldest and is told so; the status never lies.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared().events()
    }

    /// Waits until at least `n` workers that match the filter are alive.
    ///
    /// # Errors
    /// [`JoinError`] when they do not appear in time, with the reason a seed could not be reached.
    pub async fn wait_for_workers(
        &self,
        n: usize,
        filter: Option<&str>,
        within: Duration,
    ) -> Result<(), JoinError> {
        let filter = Filter::parse(filter.unwrap_or(""))?;
        let deadline = Instant::now() + within;
        loop {
            // Listens before it looks, so that nothing falls between.
            let mut news = std::pin::pin!(self.shared().news());
            news.as_mut().enable();
            let found = self.count(&filter);
            if found >= n {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, news).await.is_err() {
                return Err(match self.shared().seed_error() {
                    Some((seed, reason)) if found == 0 => JoinError::Seed { seed, reason, within },
                    _ => JoinError::TooFew {
                        found,
                        wanted: n,
                        within,
                    },
                });
            }
        }
    }

    fn count(&self, filter: &Filter) -> usize {
        let state = self.shared().lock();
        let own = state.node.role() == Role::Worker && filter.matches(state.node.tags());
        let peers = state.node.peers().filter(|peer| {
            peer.member.role() == Role::Worker
                && peer.axes.liveness == Liveness::Alive
                && peer.member.is_known()
                && filter.matches(peer.member.tags())
        });
        peers.count() + usize::from(own)
    }

    /// Leaves the cluster: asks for no new requests, lets those under way finish (at most 10 s), says
    /// goodbye to every peer and edge, and closes. Calls of this node after that fail.
    pub async fn leave(&self) {
        let shared = self.shared();
        self.set_draining(true);
        let deadline = Instant::now() + DRAIN;
        while shared.in_flight() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        shared.input(|state, now| state.node.leave(now));
        shared.leave_edges();
        shared.close(FAREWELL).await;
    }
}

/// How long a node may take to tell its status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
