//! The UDP socket that edges talk to: where datagrams come in, and what is done with them.
//!
//! One task receives. What is refused is counted and nothing else. The lock around the table is held for the
//! handling of one datagram at most, never together with the lock around the node, and never across an await.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lb_core::Instant;
use lb_core::health::Timers;
use lb_core::load::LoadReport;
use lb_core::wire::seal::{
    AnyCipher, DeviceKey, HEADER_BYTES, HelloError, KeyStore, OVERHEAD_BYTES, OpenError, Peek, peek,
    verify_hello,
};
use lb_core::wire::{self, Body, Flags, FromEdge, Header, Kind, Message};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::config::EdgeListenerConfig;
use super::device::{DATAGRAM_MAX, Device};
use super::keys::EdgeKeys;
use super::limit::Limiter;
use super::serve;
use super::servers::{Candidate, Servers};
use super::status::{EDGES_LISTED_MAX, EdgeCounters, EdgesStatus};
use super::table::{Greeted, Refused, Table};
use crate::server::Host;
use crate::transport::lock;

/// Bytes of the largest datagram received; what is longer is cut off and so not authentic.
const RECEIVE: usize = 2_048;

/// Datagrams taken in a row before other tasks have their turn.
const BATCH: usize = 64;

/// How often what is past is let go of.
const SWEEP: Duration = Duration::from_secs(5);

/// Bytes the system is asked to hold back while this program is busy; it may give less.
const SOCKET_BUFFER: usize = 4 << 20;

/// After the socket failed, the wait before the next attempt.
const PAUSE: Duration = Duration::from_millis(10);

/// What the listener needs of its node, beside serving calls.
pub(crate) trait Gate: Host {
    fn now(&self) -> Instant;
    fn timers(&self) -> Timers;
    /// The header of a message to an edge of this life, and the load to report now.
    fn face(&self, known_epoch: u32) -> (Header, LoadReport);
    /// The load to report now.
    fn load(&self) -> LoadReport;
    /// The servers that edges may use, this one among them if it is one.
    fn candidates(&self) -> Vec<Candidate>;
}

/// What the lock guards.
pub(super) struct State {
    pub(super) table: Table,
    pub(super) counters: EdgeCounters,
    limiter: Limiter,
    keys_version: u64,
}

/// A socket for edges, bound.
pub(crate) struct Listener {
    socket: UdpSocket,
    addr: SocketAddr,
    keys: Arc<dyn EdgeKeys>,
    capacity: usize,
    random: SystemRandom,
    state: Mutex<State>,
    servers: Mutex<Servers>,
    stop: Notify,
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// The keys of the id that was asked for.
struct Found([Option<DeviceKey>; 2]);

impl KeyStore for Found {
    fn keys(&self, _: u32) -> [Option<&DeviceKey>; 2] {
        self.0.each_ref().map(Option::as_ref)
    }
}

impl Listener {
    /// Binds the socket.
    pub(crate) fn bind(config: EdgeListenerConfig) -> io::Result<Arc<Self>> {
        let domain = socket2::Domain::for_address(config.listen);
        let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // More is better, and what is given is enough.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&config.listen.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let addr = socket.local_addr()?;
        let keys_version = config.keys.version();
        Ok(Arc::new(Self {
            socket,
            addr,
            keys: config.keys,
            capacity: config.capacity,
            random: SystemRandom::new(),
            state: Mutex::new(State {
                table: Table::new(config.capacity),
                counters: EdgeCounters::default(),
                limiter: Limiter::new(),
                keys_version,
            }),
            servers: Mutex::default(),
            stop: Notify::new(),
        }))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Receives until it is stopped.
    pub(crate) async fn run<G: Gate>(self: Arc<Self>, gate: Arc<G>) {
        let mut buffer = vec![0; RECEIVE];
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            tokio::select! {
                biased;
                () = self.stop.notified() => return,
                _ = sweep.tick() => self.lock().table.sweep(gate.now()),
                ready = self.socket.readable() => {
                    if ready.is_err() || !self.receive(&gate, &mut buffer) {
                        tokio::time::sleep(PAUSE).await;
                    }
                    // A flood must not keep the other tasks of this thread from running.
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Takes what has arrived, some of it; `false` when the socket fails.
    fn receive<G: Gate>(self: &Arc<Self>, gate: &Arc<G>, buffer: &mut [u8]) -> bool {
        for _ in 0..BATCH {
            match self.socket.try_recv_from(buffer) {
                Ok((length, from)) => {
                    if let Some(datagram) = buffer.get_mut(..length) {
                        self.datagram(gate, from, datagram);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) => {
                    tracing::debug!(%error, "the edge socket failed");
                    return false;
                }
            }
        }
        true
    }

    fn datagram<G: Gate>(self: &Arc<Self>, gate: &Arc<G>, from: SocketAddr, datagram: &mut [u8]) {
        let now = gate.now();
        let mut state = self.lock();
        state.counters.datagrams += 1;
        let version = self.keys.version();
        if version != state.keys_version {
            state.keys_version = version;
            state.counters.withdrawn += state.table.withdraw(&*self.keys);
        }
        match peek(datagram) {
            Some(Peek::Hello { .. }) => {
                if !state.limiter.admit(now, from.ip()) {
                    state.counters.hellos_limited += 1;
                    return;
                }
                drop(state);
                self.hello(now, &gate.timers(), from, datagram);
            }
            Some(Peek::ToServer { .. }) => {
                let State {
                    table,
                    counters,
                    limiter,
                    ..
                } = &mut *state;
                let opened = table.open(now, from, datagram, || limiter.admit(now, from.ip()));
                match opened {
                    Ok(opened) => {
                        // What its HELLO took, and this datagram itself.
                        let tokens = u32::from(opened.established) + u32::from(opened.moved);
                        if tokens > 0 {
                            limiter.proven(now, from.ip(), tokens);
                        }
                        counters.sessions += u64::from(opened.established);
                        let (id, payload) = (opened.id, opened.payload);
                        drop(state);
                        self.payload(gate, now, id, payload);
                    }
                    Err(refused) => *refusal(counters, refused) += 1,
                }
            }
            Some(Peek::Welcome { .. } | Peek::ToEdge { .. }) => state.counters.wrong_direction += 1,
            None => state.counters.malformed += 1,
        }
    }

    fn hello(&self, now: Instant, timers: &Timers, from: SocketAddr, datagram: &[u8]) {
        let Some(Peek::Hello { key_id, .. }) = peek(datagram) else {
            return;
        };
        let found = Found(self.keys.keys(key_id));
        let hello = match verify_hello::<AnyCipher>(&found, datagram) {
            Ok(hello) => hello,
            Err(error) => {
                let counters = &mut self.lock().counters;
                *match error {
                    HelloError::UnknownKey(_) => &mut counters.hellos_unknown,
                    HelloError::Forged => &mut counters.hellos_forged,
                    HelloError::Suite(_) => &mut counters.hellos_suite,
                    HelloError::Malformed | HelloError::Version(_) => &mut counters.malformed,
                } += 1;
                return;
            }
        };
        let [newest, former] = &found.0;
        let key = if hello.is_newest_key() { newest } else { former };
        let fingerprint = key.as_ref().map_or(0, DeviceKey::fingerprint);
        let mut state = self.lock();
        let State { table, counters, .. } = &mut *state;
        let draw = |bytes: &mut [u8]| self.random.fill(bytes).is_ok();
        let greeted = table.hello(now, timers, &hello, fingerprint, || self.keys.name(key_id), draw);
        counters.evicted = table.evicted;
        match greeted {
            Greeted::Welcome(welcome) => {
                counters.welcomes += 1;
                drop(state);
                self.send(&welcome, from);
            }
            Greeted::Replayed => counters.hellos_replayed += 1,
            Greeted::Full => counters.refused += 1,
            Greeted::NoRandom => tracing::error!("the system has no randomness: an edge was turned away"),
        }
    }

    /// What an edge said.
    fn payload<G: Gate>(self: &Arc<Self>, gate: &Arc<G>, now: Instant, id: u32, payload: &[u8]) {
        match wire::from_edge(payload) {
            Ok(FromEdge::Message(bytes)) => self.message(&**gate, now, id, bytes),
            Ok(FromEdge::Request(request)) => serve::request(self, gate, now, id, &request),
            Ok(FromEdge::Cancel { life, call }) => {
                let mut state = self.lock();
                let device = state.table.get_mut(id);
                let running = device.is_some_and(|device| device.cancel(life, call));
                state.counters.cancelled += u64::from(running);
            }
            Err(_) => {
                self.lock().counters.refused_payloads += 1;
            }
        }
    }

    fn message<G: Gate>(&self, gate: &G, now: Instant, id: u32, bytes: &[u8]) {
        let decoded = wire::decode(bytes).ok();
        let (known_epoch, zone, interest, wants_join) = {
            let mut state = self.lock();
            let Some(device) = state.table.get_mut(id) else {
                return;
            };
            let taken = decoded.filter(|message| device.message(now, message, bytes));
            match taken.map(|message| message.body.kind()) {
                Some(Kind::Heartbeat | Kind::Join) => {
                    let interest = device.interest();
                    (device.epoch(), device.zone(), interest, device.wants_join())
                }
                Some(Kind::Leave) => return,
                Some(Kind::HeartbeatAck | Kind::Introduce) | None => {
                    state.counters.refused_payloads += 1;
                    return;
                }
            }
        };
        let (mut header, load) = gate.face(known_epoch);
        let sender = header.from;
        let zone = zone.as_deref().unwrap_or_default();
        let list = lock(&self.servers).list(now, zone, sender, || gate.candidates());
        header.flags = header.flags.with(Flags::WANT_META, wants_join);
        let message = Message {
            header,
            load,
            body: Body::HeartbeatAck,
        };
        let sent = self.send_to_edge(id, |out| {
            let used = wire::encode(&message, out).ok()?;
            // Without room for a list it is still an acknowledgement.
            let entries = list.entries(now, id, interest, sender);
            Some(wire::append_servers(entries, out, used).unwrap_or(used))
        });
        self.lock().counters.acks += u64::from(sent);
    }

    /// Tells the edges that are alive that this node stops.
    pub(crate) fn leave<G: Gate>(&self, gate: &G) {
        let (now, timers) = (gate.now(), gate.timers());
        let alive: Vec<u32> = {
            let state = self.lock();
            let alive = state
                .table
                .iter()
                .filter(|(_, device)| device.is_alive(now, &timers));
            alive.map(|(id, _)| id).collect()
        };
        for id in alive {
            let epoch = self.lock().table.get(id).map_or(0, Device::epoch);
            let (header, load) = gate.face(epoch);
            let message = Message {
                header,
                load,
                body: Body::Leave,
            };
            self.send_to_edge(id, |out| wire::encode(&message, out).ok());
        }
    }

    /// Ends the receiving task and gives up all calls.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
        self.lock().table.stop_calls();
    }

    /// Seals what `write` writes (and tells the length of) and sends it, if the edge is there, has a session, and
    /// takes datagrams of that size.
    pub(super) fn send_to_edge(&self, id: u32, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let mut buffer = [0; DATAGRAM_MAX];
        let device = |state: &mut State| {
            let device = state.table.get_mut(id)?;
            Some((seal(device, &mut buffer, write)?, device.addr()?))
        };
        let sealed = device(&mut self.lock());
        let Some((length, to)) = sealed else { return false };
        buffer
            .get(..length)
            .is_some_and(|datagram| self.send(datagram, to))
    }

    /// Sends it if the system takes it now. If not it is lost, as datagrams may be; the edge asks again.
    fn send(&self, datagram: &[u8], to: SocketAddr) -> bool {
        let sent = self.socket.try_send_to(datagram, to).is_ok();
        if !sent {
            self.lock().counters.unsent += 1;
        }
        sent
    }

    pub(crate) fn status(&self, now: Instant, timers: &Timers) -> EdgesStatus {
        let state = self.lock();
        let mut ids: Vec<u32> = state.table.iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids.truncate(EDGES_LISTED_MAX);
        let edges = ids.iter().filter_map(|id| state.table.get(*id));
        EdgesStatus {
            addr: Some(self.addr),
            total: state.table.len(),
            capacity: self.capacity,
            edges: edges.map(|device| device.status(now, timers)).collect(),
            counters: state.counters,
        }
    }
}

/// Writes and seals a payload; the length of the datagram in the buffer.
fn seal(
    device: &mut Device,
    buffer: &mut [u8; DATAGRAM_MAX],
    write: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<usize> {
    let room = device.datagram().checked_sub(OVERHEAD_BYTES)?;
    let used = write(buffer.get_mut(HEADER_BYTES..)?.get_mut(..room)?)?;
    device.seat.session()?.seal_in_place(used, buffer).ok()
}

fn refusal(counters: &mut EdgeCounters, refused: Refused) -> &mut u64 {
    match refused {
        Refused::UnknownSession => &mut counters.unknown_session,
        Refused::Limited => &mut counters.limited,
        Refused::Open(error) => match error {
            OpenError::Replayed | OpenError::TooOld => &mut counters.replayed,
            OpenError::WrongDirection => &mut counters.wrong_direction,
            OpenError::Forged | OpenError::Exhausted => &mut counters.forged,
            _ => &mut counters.malformed,
        },
    }
}
