//! The state behind every clone of a [`super::Cluster`], and the task that keeps its time.
//!
//! One lock guards the core's node. Whoever has an input (a task that received a message, a call that
//! ended) takes the lock, hands it in and sends what comes out; a single timer task does the same when a
//! deadline comes. The lock is never held across an await.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use lb_core::health::Timers;
use lb_core::load::{Arrival, Finished, LoadMeter, LoadReport};
use lb_core::member::{Admission, Liveness, RESERVED_KEY_PREFIX, Role, TAG_BYTES_MAX, Tags};
use lb_core::node::{Event, Refusal};
use lb_core::wire::{self, MESSAGE_BYTES_MAX};
use lb_core::{Instant as CoreInstant, NodeId};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, broadcast};
use tokio::time::Instant;

use super::feed::Feed;
use super::{CoreNode, PEERS_MAX, status};
use crate::edge::{self, Candidate, Gate, Listener};
use crate::pick::{Balancer, BalancerConfig};
use crate::server::{self, Host, Server};
use crate::transport::{DialError, Inbox, Link, Transport, lock};

/// Places for workers on the board: one for every peer, and as many again for those that the node has forgotten
/// and whose requests have not ended.
const SLOTS: usize = 2 * PEERS_MAX;

/// Events kept for a receiver that is behind.
const EVENTS: usize = 1_024;

/// How often at most the number of active clients is counted anew.
const CLIENTS_PERIOD: lb_core::Duration = lb_core::Duration::from_millis(250);

/// A shed request is told to come back after this long at least and at most.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// The first pause before a seed is dialled again; it doubles up to a heartbeat.
const SEED_PAUSE_MIN: Duration = Duration::from_millis(25);

/// What the lock guards.
pub(crate) struct State {
    pub(crate) node: Box<CoreNode>,
    meter: LoadMeter,
    clients_counted: CoreInstant,
    feed: Feed,
}

/// What a node is put together from.
pub(super) struct Parts {
    pub(super) cluster: String,
    pub(super) origin: Instant,
    pub(super) local_addr: SocketAddr,
    pub(super) server: Server,
    pub(super) transport: Arc<Transport>,
    pub(super) node: Box<CoreNode>,
    pub(super) seeds: Vec<SocketAddr>,
    pub(super) edges: Option<Arc<Listener>>,
    pub(super) seed: u64,
}

pub(crate) struct Shared {
    id: NodeId,
    cluster: String,
    origin: Instant,
    local_addr: SocketAddr,
    server: Server,
    timers: Timers,
    transport: Arc<Transport>,
    state: Mutex<State>,
    balancer: Balancer,
    /// The next deadline moved forward, or the node stops.
    wake: Notify,
    /// The node took an input in; tags change without an event.
    news: Notify,
    stopped: AtomicBool,
    events: broadcast::Sender<Event>,
    seed_error: Mutex<Option<(SocketAddr, String)>>,
    responses: std::sync::atomic::AtomicU64,
    edges: Option<Arc<Listener>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn start(parts: Parts) -> Arc<Self> {
        let Parts {
            cluster,
            origin,
            local_addr,
            server,
            transport,
            node,
            seeds,
            edges,
            seed,
        } = parts;
        let mut meter = LoadMeter::new(node.epoch(), server.concurrency);
        if node.role() == Role::Observer {
            meter.set_capacity(0);
        }
        let balancing = BalancerConfig::default()
            .endpoints(SLOTS)
            .ttl(node.timers().ttl().into())
            .seed(seed);
        let shared = Arc::new(Self {
            id: node.id(),
            cluster,
            origin,
            local_addr,
            server,
            timers: *node.timers(),
            transport,
            state: Mutex::new(State {
                node,
                meter,
                clients_counted: CoreInstant::ZERO,
                feed: Feed::default(),
            }),
            balancer: Balancer::starting(origin, balancing),
            wake: Notify::new(),
            news: Notify::new(),
            stopped: AtomicBool::new(false),
            events: broadcast::channel(EVENTS).0,
            seed_error: Mutex::new(None),
            responses: std::sync::atomic::AtomicU64::new(0),
            edges,
        });
        let inbox: Arc<dyn Inbox> = Arc::<Self>::clone(&shared);
        shared.transport.start(Arc::downgrade(&inbox));
        tokio::spawn(Arc::clone(&shared).keep_time());
        if let Some(edges) = &shared.edges {
            tokio::spawn(Arc::clone(edges).run(Arc::clone(&shared)));
        }
        for seed in seeds {
            tokio::spawn(keep_seed(Arc::downgrade(&shared), seed));
        }
        shared
    }

    pub(crate) fn id(&self) -> NodeId {
        self.id
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub(super) fn edge_addr(&self) -> Option<SocketAddr> {
        self.edges.as_ref().map(|edges| edges.addr())
    }

    pub(super) fn leave_edges(&self) {
        if let Some(edges) = &self.edges {
            edges.leave(self);
        }
    }

    pub(crate) fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    pub(crate) fn transport(&self) -> &Arc<Transport> {
        &self.transport
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Completes when the node takes its next input in.
    pub(super) fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    pub(super) fn seed_error(&self) -> Option<(SocketAddr, String)> {
        lock(&self.seed_error).clone()
    }

    pub(crate) fn now(&self) -> CoreInstant {
        CoreInstant::from_micros(u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Hands an input to the node, then sends and tells what comes out of it.
    pub(crate) fn input<T>(&self, handle: impl FnOnce(&mut State, CoreInstant) -> T) -> T {
        self.take_in(None, handle)
    }

    /// An input that changes what is known of this peer and of no other, and makes the node forget nobody: a
    /// call's answer, or what became of it.
    pub(crate) fn input_of<T>(&self, id: NodeId, handle: impl FnOnce(&mut State, CoreInstant) -> T) -> T {
        self.take_in(Some(id), handle)
    }

    fn take_in<T>(&self, of: Option<NodeId>, handle: impl FnOnce(&mut State, CoreInstant) -> T) -> T {
        let mut outgoing = Vec::new();
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let mut guard = self.lock();
        let state = &mut *guard;
        let now = self.now();
        if of.is_none() {
            state.feed.count(&mut state.node, &self.balancer);
        }
        let before = state.node.next_deadline();
        let result = handle(state, now);
        let report = self.report_locked(state, now);
        state.node.set_load(report);
        while let Some(out) = state.node.poll_transmit(now, &mut buffer) {
            let message = Bytes::copy_from_slice(buffer.get(..out.len).unwrap_or_default());
            outgoing.push((out, message));
        }
        while let Some(event) = state.node.poll_event() {
            if let Event::EpochTaken { epoch } = event {
                state.meter.set_epoch(epoch);
            }
            self.tell(event);
        }
        let after = state.node.next_deadline();
        let others = match of {
            Some(id) => state.feed.tell_of(id, &state.node, &self.balancer),
            None => state.feed.tell(&state.node, &self.balancer),
        };
        drop(guard);
        if others {
            self.balancer.prepare();
        }
        if after != before {
            self.wake.notify_one();
        }
        self.news.notify_waiters();
        for (out, message) in outgoing {
            self.transport
                .send(out.to, out.addr.socket(), message, out.reliable);
        }
        result
    }

    fn tell(&self, event: Event) {
        match event {
            Event::Peer { id, epoch, from, to } => {
                let before = from.map_or("new", |status| status.as_str());
                tracing::info!(node = %self.id, peer = %id, epoch, from = before, to = %to, "peer");
            }
            Event::Coordinator(claim) => {
                tracing::info!(node = %self.id, holder = %claim.holder, term = claim.term, "coordinator");
            }
            // Messages that cross a goodbye or a restart are nobody's fault and answered by the core.
            Event::Refused {
                from,
                reason: reason @ (Refusal::NotRunning | Refusal::HasLeft | Refusal::OldEpoch { .. }),
            } => tracing::debug!(node = %self.id, %from, %reason, "message refused"),
            Event::Refused { from, reason } => {
                tracing::warn!(node = %self.id, %from, %reason, "message refused");
            }
            Event::EpochTaken { epoch } => tracing::info!(node = %self.id, epoch, "took a higher epoch"),
            Event::Superseded { epoch } => {
                tracing::error!(node = %self.id, epoch, "another process has this node's id: this one is silent");
            }
            _ => {}
        }
        let _ = self.events.send(event);
    }

    async fn keep_time(self: Arc<Self>) {
        while !self.stopped.load(Ordering::Acquire) {
            let deadline = self.lock().node.next_deadline();
            let sleep = async {
                match deadline {
                    Some(at) => {
                        tokio::time::sleep_until(self.origin + Duration::from_micros(at.as_micros())).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = sleep => self.input(|state, now| state.node.handle_timeout(now)),
            }
        }
    }

    fn report_locked(&self, state: &mut State, now: CoreInstant) -> LoadReport {
        if now.since(state.clients_counted) >= CLIENTS_PERIOD || state.clients_counted == CoreInstant::ZERO {
            state.clients_counted = now;
            let window = Duration::from(state.node.timers().ttl());
            let clients = self.transport.active_clients(window);
            state
                .meter
                .set_clients(u16::try_from(clients).unwrap_or(u16::MAX));
        }
        state.meter.report(now)
    }

    /// Requests being served here.
    pub(super) fn in_flight(&self) -> u16 {
        self.lock().meter.in_flight()
    }

    pub(super) fn status(&self) -> status::ClusterStatus {
        let traffic = self.transport.traffic();
        let responses = self.responses.load(Ordering::Relaxed);
        let edges = self
            .edges
            .as_ref()
            .map(|edges| edges.status(self.now(), &self.timers));
        let mut guard = self.lock();
        let state = &mut *guard;
        state.feed.count(&mut state.node, &self.balancer);
        let now = self.now();
        let report = self.report_locked(state, now);
        state.node.set_load(report);
        status::read(
            &self.cluster,
            &state.node,
            self.local_addr,
            now,
            &traffic,
            responses,
            edges,
        )
    }

    /// Stops and closes once what is on its way has arrived, at most `within`.
    pub(super) async fn close(&self, within: Duration) {
        self.stop();
        self.transport.close(within).await;
    }

    pub(super) fn abort(&self) {
        self.stop();
        self.transport.abort();
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake.notify_one();
        if let Some(edges) = &self.edges {
            edges.stop();
        }
    }
}

/// Finds out who listens at a seed's address, and again when that node is not heard any more: another one
/// may have taken the address over. Does not keep the node alive while it waits.
async fn keep_seed(node: Weak<Shared>, addr: SocketAddr) {
    let mut known = None;
    let mut pause = SEED_PAUSE_MIN;
    loop {
        {
            let Some(shared) = node.upgrade() else { return };
            if shared.stopped.load(Ordering::Acquire) {
                return;
            }
            let (heartbeat, heard) = {
                let state = shared.lock();
                let alive = |id| {
                    state
                        .node
                        .peer(id)
                        .is_some_and(|it| it.axes.liveness == Liveness::Alive)
                };
                let heartbeat = Duration::from(state.node.timers().heartbeat());
                (heartbeat, known.is_some_and(alive))
            };
            pause = (pause * 2).min(heartbeat);
            if !heard {
                match shared.transport.connect_seed(addr).await {
                    Ok(id) => {
                        known = Some(id);
                        pause = heartbeat;
                        *lock(&shared.seed_error) = None;
                    }
                    // A node may list itself among its seeds.
                    Err(DialError::Itself) => return,
                    Err(error) => {
                        tracing::debug!(seed = %addr, %error, "seed not reached");
                        *lock(&shared.seed_error) = Some((addr, error.to_string()));
                    }
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

impl Inbox for Shared {
    fn message(&self, link: &Link, bytes: &[u8]) {
        // A refusal is counted and told by the node itself.
        let taken = self.input(|state, now| state.node.handle_message(now, link.peer(), bytes));
        if taken.is_ok()
            && let Ok(header) = wire::peek(bytes)
        {
            link.set_epoch(header.epoch);
        }
    }

    fn connected(&self, peer: NodeId, dialled: Option<SocketAddr>) {
        self.input(|state, now| {
            if let Some(addr) = dialled
                && state.node.peer(peer).is_none()
                && let Err(error) = state.node.add_peer(now, peer, addr.into())
            {
                tracing::warn!(%peer, %error, "cannot remember a peer");
            }
            state.node.handle_connect(now, peer);
        });
    }

    fn disconnected(&self, peer: NodeId) {
        self.input_of(peer, |state, now| state.node.handle_disconnect(now, peer));
    }

    fn call(self: Arc<Self>, link: Arc<Link>, send: quinn::SendStream, recv: quinn::RecvStream) {
        let served = link.asked();
        let from = link.peer();
        {
            let mut guard = self.lock();
            let state = &mut *guard;
            state.node.handle_request(self.now(), from, link.epoch());
            // Views are made by whoever picks next.
            if state.feed.doubts(from) {
                state.feed.tell_of(from, &state.node, &self.balancer);
            }
        }
        tokio::spawn(async move {
            server::serve(self, from, send, recv).await;
            drop(served);
        });
    }
}

/// A request being served; dropped without [`Host::done`] it was given up.
pub(crate) struct Place {
    shared: Arc<Shared>,
    began: Instant,
    arrival: Arrival,
    served: Option<Duration>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let finished = match self.served {
            Some(took) => Finished::Answered(took.into()),
            None => Finished::GivenUp,
        };
        state.meter.finish(now, self.arrival, finished);
    }
}

impl Host for Shared {
    type Place = Place;

    fn server(&self) -> &Server {
        &self.server
    }

    fn is_leaving(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn enter(self: &Arc<Self>) -> Result<Place, Duration> {
        let mut state = self.lock();
        if state.meter.in_flight() >= self.server.concurrency {
            let now = self.now();
            let latency = Duration::from_micros(u64::from(state.meter.report(now).latency_us));
            return Err(latency.clamp(RETRY_AFTER.0, RETRY_AFTER.1));
        }
        let arrival = state.meter.begin(self.now());
        drop(state);
        Ok(Place {
            shared: Arc::clone(self),
            began: Instant::now(),
            arrival,
            served: None,
        })
    }

    fn done(&self, mut place: Place) {
        place.served = Some(place.began.elapsed());
    }

    fn builtin(&self, method: &str) -> Option<Bytes> {
        (method == status::METHOD).then(|| serde_json::to_vec(&self.status()).unwrap_or_default().into())
    }

    fn report(&self) -> LoadReport {
        self.responses.fetch_add(1, Ordering::Relaxed);
        let now = self.now();
        let mut state = self.lock();
        self.report_locked(&mut state, now)
    }
}

impl Gate for Shared {
    fn now(&self) -> CoreInstant {
        Self::now(self)
    }

    fn timers(&self) -> Timers {
        self.timers
    }

    fn face(&self, known_epoch: u32) -> (wire::Header, LoadReport) {
        let now = self.now();
        let mut state = self.lock();
        (
            state.node.header_to(known_epoch),
            self.report_locked(&mut state, now),
        )
    }

    fn load(&self) -> LoadReport {
        let now = self.now();
        let mut state = self.lock();
        self.report_locked(&mut state, now)
    }

    fn candidates(&self) -> Vec<Candidate> {
        let now = self.now();
        let state = self.lock();
        let node = &state.node;
        let serves = node.role() == Role::Worker && !node.is_draining();
        let own = serves.then(|| candidate(node.id(), node.tags(), *node.load(), 0));
        let open = node.peers().filter(|peer| {
            peer.member.role() == Role::Worker
                && peer.member.is_known()
                && peer.axes.liveness == Liveness::Alive
                && peer.axes.admission == Admission::Open
        });
        let others = open.map(|peer| {
            let load = peer.load.map(|cached| *cached.report()).unwrap_or_default();
            let age = peer.load.map_or(0, |cached| cached.age(now).as_millis());
            candidate(peer.member.id(), peer.member.tags(), load, age)
        });
        own.into_iter().chain(others).flatten().collect()
    }
}

/// A server for edges, if its tags say that it is one.
fn candidate(id: NodeId, tags: &Tags<TAG_BYTES_MAX>, load: LoadReport, age_ms: u64) -> Option<Candidate> {
    let addr = edge::from_tag(tags.get(edge::TAG)?)?;
    let mut told = tags.clone();
    for (key, _) in tags
        .iter()
        .filter(|(key, _)| key.starts_with(RESERVED_KEY_PREFIX))
    {
        told.remove(key);
    }
    Some(Candidate {
        id,
        addr,
        load: LoadReport {
            age_ms: u32::try_from(age_ms).unwrap_or(u32::MAX),
            ..load
        },
        tags: told.as_str().to_owned(),
        zone: tags.get("zone").map(str::to_owned),
    })
}
