//! One QUIC endpoint, and at most one connection in use per peer.
//!
//! Peers are keyed by the id their certificate proves, never by address. Dialling is single-flight: however
//! many callers want a connection, one is made. Heartbeats are datagrams, everything that should not be lost
//! goes over a control stream, calls get streams of their own, all on the same connection. The transport
//! does not know what messages mean; it hands them to an [`Inbox`].

mod config;
mod dial;
mod link;
mod watchdog;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use lb_core::NodeId;
use lb_core::rng::Sfc32;
use quinn::ConnectionError;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

pub(crate) use config::{BindError, Settings, bind};
pub(crate) use dial::DialError;
pub(crate) use link::Link;

use crate::frame::code;
use crate::identity::ClusterName;

/// Two connections between the same nodes count as opened at once when they are this close; then the one
/// dialled by the lower id stays, on both sides. Later, a new one means that its dialler lost the old one.
const SIMULTANEOUS: Duration = Duration::from_secs(5);

/// How long a connection that was replaced may finish the calls it carries.
const RETIREMENT: Duration = Duration::from_secs(30);

/// Handshakes under way at once. Beyond it, an address must prove itself first (stateless retry); one that
/// has is refused, and may try again.
const HANDSHAKES_MAX: usize = 256;

/// Who takes in what arrives.
pub(crate) trait Inbox: Send + Sync + 'static {
    /// A control message from the link's peer.
    fn message(&self, link: &Link, bytes: &[u8]);
    /// A connection is in use; `dialled` says where, if we made it.
    fn connected(&self, peer: NodeId, dialled: Option<SocketAddr>);
    /// The connection in use broke, and not because somebody left; or it seems broken.
    fn disconnected(&self, peer: NodeId);
    /// A call arrived.
    fn call(self: Arc<Self>, link: Arc<Link>, send: quinn::SendStream, recv: quinn::RecvStream);
}

/// What the transport sent, by purpose; and, as a check, what QUIC itself counted.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    control_datagrams: AtomicU64,
    control_framed: AtomicU64,
    probes: AtomicU64,
    calls: AtomicU64,
    control_streams: AtomicU64,
    /// Streams opened, whatever for.
    streams: AtomicU64,
    /// Datagrams QUIC sent on connections that are closed.
    closed_datagrams: AtomicU64,
}

/// A reading of [`Traffic`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct TrafficReading {
    pub(crate) control: u64,
    pub(crate) probes: u64,
    pub(crate) calls: u64,
    /// Streams opened and datagrams sent, as QUIC counted them.
    pub(crate) transport: u64,
    /// Of those, the ones sent for none of the purposes above.
    pub(crate) other: u64,
    pub(crate) connections_made: u64,
}

#[derive(Debug, Default)]
struct Peer {
    current: Option<Arc<Link>>,
    dialling: Option<watch::Receiver<Option<Result<(), DialError>>>>,
    failures: u32,
    next_dial: Option<(Instant, DialError)>,
}

#[derive(Debug, Default)]
struct Links {
    peers: BTreeMap<NodeId, Peer>,
    /// Every open connection, in use or retired.
    open: BTreeMap<u64, Arc<Link>>,
    opened: u64,
}

/// The endpoint and its connections.
pub(crate) struct Transport {
    me: NodeId,
    cluster: ClusterName,
    endpoint: quinn::Endpoint,
    client: quinn::ClientConfig,
    settings: Settings,
    links: Mutex<Links>,
    traffic: Traffic,
    jitter: Mutex<Sfc32>,
    inbox: OnceLock<Weak<dyn Inbox>>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("me", &self.me)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// A poisoned lock is still a lock: no invariant of ours spans a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Transport {
    pub(crate) fn new(
        me: NodeId,
        cluster: ClusterName,
        endpoint: quinn::Endpoint,
        client: quinn::ClientConfig,
        settings: Settings,
        seed: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            me,
            cluster,
            endpoint,
            client,
            settings,
            links: Mutex::default(),
            traffic: Traffic::default(),
            jitter: Mutex::new(Sfc32::new(seed)),
            inbox: OnceLock::new(),
        })
    }

    /// Starts accepting. Called once.
    pub(crate) fn start(self: &Arc<Self>, inbox: Weak<dyn Inbox>) {
        if self.inbox.set(inbox).is_ok() {
            tokio::spawn(Arc::clone(self).accept());
        }
    }

    fn inbox(&self) -> Option<Arc<dyn Inbox>> {
        self.inbox.get().and_then(Weak::upgrade)
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        lock(&self.links)
    }

    /// The connection in use, if there is one.
    pub(crate) fn current(&self, peer: NodeId) -> Option<Arc<Link>> {
        self.links()
            .peers
            .get(&peer)
            .and_then(|peer| peer.current.clone())
    }

    /// Sends a control message, or, without a connection, starts making one and drops the message: whoever
    /// connects introduces itself anyway.
    pub(crate) fn send(
        self: &Arc<Self>,
        to: NodeId,
        addr: Option<SocketAddr>,
        message: Bytes,
        reliable: bool,
    ) {
        match self.current(to) {
            Some(link) => link.send(&self.traffic, message, reliable),
            None => {
                if let Some(addr) = addr {
                    let _ = self.start_dialling(to, addr);
                }
            }
        }
    }

    /// How many peers sent a request within `window`.
    pub(crate) fn active_clients(&self, window: Duration) -> usize {
        let links = self.links();
        links
            .peers
            .values()
            .filter_map(|peer| peer.current.as_ref())
            .filter(|link| link.asked_within(window))
            .count()
    }

    /// How many connections are open, in use or about to be closed.
    pub(crate) fn open_connections(&self) -> usize {
        self.links().open.len()
    }

    pub(crate) fn traffic(&self) -> TrafficReading {
        let links = self.links();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let traffic = &self.traffic;
        let open: u64 = links.open.values().map(|link| link.datagrams_sent()).sum();
        let datagrams = open + read(&traffic.closed_datagrams);
        let streams = read(&traffic.streams);
        let (control_datagrams, probes) = (read(&traffic.control_datagrams), read(&traffic.probes));
        let (calls, control_streams) = (read(&traffic.calls), read(&traffic.control_streams));
        TrafficReading {
            control: control_datagrams + read(&traffic.control_framed),
            probes,
            calls,
            transport: datagrams + streams,
            other: datagrams.saturating_sub(control_datagrams + probes)
                + streams.saturating_sub(calls + control_streams),
            connections_made: links.opened,
        }
    }

    /// Counts a stream for a call; [`Link::open_call`] opens it.
    pub(crate) fn traffic_counters(&self) -> &Traffic {
        &self.traffic
    }

    /// Waits until everything on the control streams is delivered, at most `within`; then closes.
    pub(crate) async fn close(&self, within: Duration) {
        let open: Vec<Arc<Link>> = self.links().open.values().cloned().collect();
        let flush = async {
            for link in &open {
                link.flush().await;
            }
        };
        let _ = tokio::time::timeout(within, flush).await;
        self.endpoint.close(code::LEAVING, b"leaving");
        let _ = tokio::time::timeout(within, self.endpoint.wait_idle()).await;
    }

    /// Closes at once, without a word.
    pub(crate) fn abort(&self) {
        self.endpoint.close(code::ABORTED, b"stopped");
    }

    async fn accept(self: Arc<Self>) {
        let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        while let Some(incoming) = self.endpoint.accept().await {
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                // Costs no state: whoever lives at that address comes back with a token.
                if incoming.may_retry() {
                    let _ = incoming.retry();
                } else {
                    incoming.refuse();
                }
                continue;
            };
            let transport = Arc::clone(&self);
            tokio::spawn(async move {
                let remote = incoming.remote_address();
                let timeout = transport.settings.dial_timeout;
                match tokio::time::timeout(timeout, async { incoming.await }).await {
                    Ok(Ok(connection)) => transport.accepted(connection),
                    Ok(Err(error)) => tracing::warn!(%remote, %error, "refused a connection"),
                    Err(_) => tracing::debug!(%remote, "handshake timed out"),
                }
                drop(place);
            });
        }
    }

    fn accepted(self: &Arc<Self>, connection: quinn::Connection) {
        match crate::identity::peer_id(&connection, &self.cluster) {
            Ok(peer) if peer == self.me => connection.close(code::SELF, b"dialled itself"),
            Ok(peer) => {
                let _ = self.establish(connection, peer, false);
            }
            Err(error) => {
                tracing::warn!(%error, "refused a connection");
                connection.close(code::MALFORMED, b"no node certificate");
            }
        }
    }

    /// Registers a connection and starts its tasks.
    fn establish(self: &Arc<Self>, connection: quinn::Connection, peer: NodeId, dialled: bool) -> Arc<Link> {
        let addr = connection.remote_address();
        let mut links = self.links();
        links.opened += 1;
        let number = links.opened;
        let (link, outbox) = Link::new(number, peer, connection, dialled);
        links.open.insert(number, Arc::clone(&link));
        let entry = links.peers.entry(peer).or_default();
        entry.failures = 0;
        entry.next_dial = None;
        let keeps_old = entry
            .current
            .as_ref()
            .is_some_and(|old| !old.is_closed() && !self.replaces(&link, old));
        let retired = if keeps_old {
            Some(Arc::clone(&link))
        } else {
            entry.current.replace(Arc::clone(&link))
        };
        drop(links);
        if let Some(retired) = retired {
            tokio::spawn(async move { retired.retire(RETIREMENT).await });
        }
        tokio::spawn(Arc::clone(&link).write_control(Arc::clone(self), outbox));
        tokio::spawn(Arc::clone(self).run(Arc::clone(&link)));
        tokio::spawn(watchdog::watch(Arc::clone(self), Arc::clone(&link)));
        if !keeps_old && let Some(inbox) = self.inbox() {
            inbox.connected(peer, dialled.then_some(addr));
        }
        link
    }

    /// Whether a new connection takes over from one in use.
    fn replaces(&self, new: &Link, old: &Link) -> bool {
        if new.dialled() == old.dialled() || old.age() > SIMULTANEOUS {
            return true;
        }
        new.dialled() == (self.me < new.peer())
    }

    async fn run(self: Arc<Self>, link: Arc<Link>) {
        let error = match self.inbox() {
            Some(inbox) => link.receive(&inbox).await,
            None => ConnectionError::LocallyClosed,
        };
        let was_current = {
            let mut links = self.links();
            links.open.remove(&link.number());
            self.traffic
                .closed_datagrams
                .fetch_add(link.datagrams_sent(), Ordering::Relaxed);
            let current = links.peers.get_mut(&link.peer()).map(|peer| &mut peer.current);
            current.is_some_and(|current| current.take_if(|now| now.number() == link.number()).is_some())
        };
        let left = match &error {
            ConnectionError::ApplicationClosed(close) => close.error_code == code::LEAVING,
            ConnectionError::LocallyClosed => link.closed_by_us() == Some(code::LEAVING),
            _ => false,
        };
        tracing::debug!(peer = %link.peer(), %error, was_current, "connection closed");
        if was_current
            && !left
            && let Some(inbox) = self.inbox()
        {
            inbox.disconnected(link.peer());
        }
    }
}
