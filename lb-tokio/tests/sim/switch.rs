//! The switch every datagram passes: fates are drawn on arrival, delivery follows (time, sequence).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Waker},
    time::Duration,
};

use quinn::udp::EcnCodepoint;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    prng::Prng,
    trace::{Event, Fate, Trace},
};

#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    pub(super) ecn: Option<EcnCodepoint>,
    pub(super) payload: Vec<u8>,
}

/// What the network does to datagrams.
#[derive(Debug)]
pub(super) struct Faults {
    /// Bounds of the one-way delay in microseconds.
    pub(super) latency: RangeInclusive<u64>,
    pub(super) loss: u16,
    pub(super) duplication: u16,
    /// Longest UDP payload carried: that of Ethernet under IPv4.
    pub(super) mtu: usize,
    /// Datagrams a socket holds for its reader.
    pub(super) queue: usize,
    /// Directed pairs that hear nothing.
    pub(super) cuts: BTreeSet<(SocketAddr, SocketAddr)>,
}

/// A bound address. The id tells a socket from its successor on the same address.
#[derive(Debug)]
struct Port {
    id: u64,
    inbox: VecDeque<Datagram>,
    reader: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct State {
    start: Instant,
    prng: Prng,
    pub(super) faults: Faults,
    pub(super) trace: Trace,
    ports: BTreeMap<SocketAddr, Port>,
    last_port: u64,
    flying: BTreeMap<(Instant, u64), Datagram>,
    last_flight: u64,
}

impl State {
    fn new(seed: u64) -> Self {
        Self {
            start: Instant::now(),
            prng: Prng::new(seed),
            faults: Faults {
                latency: 1_000..=10_000,
                loss: 0,
                duplication: 0,
                mtu: 1_472,
                queue: 1_024,
                cuts: BTreeSet::new(),
            },
            trace: Trace::new(),
            ports: BTreeMap::new(),
            last_port: 0,
            flying: BTreeMap::new(),
            last_flight: 0,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        Instant::now() - self.start
    }

    fn is_bound(&self, addr: SocketAddr, id: u64) -> bool {
        self.ports.get(&addr).is_some_and(|port| port.id == id)
    }

    fn record(&mut self, datagram: &Datagram, fate: Fate) {
        self.trace.record(Event {
            at: self.elapsed(),
            src: datagram.src,
            dst: datagram.dst,
            len: datagram.payload.len(),
            fate,
        });
    }

    /// Decides the fate of one datagram. Draws the same number of times whatever the faults are, so that
    /// changing one of them does not shift the dice of the others.
    fn send(&mut self, datagram: Datagram) {
        let lost = self.prng.chance(self.faults.loss);
        let delay = self.prng.within(&self.faults.latency);
        let duplicated = self.prng.chance(self.faults.duplication);
        let second_delay = self.prng.within(&self.faults.latency);

        let fate = if self.faults.cuts.contains(&(datagram.src, datagram.dst)) {
            Fate::Cut
        } else if datagram.payload.len() > self.faults.mtu {
            Fate::TooLong
        } else if lost {
            Fate::Lost
        } else {
            Fate::Forwarded
        };
        self.record(&datagram, fate);
        if fate != Fate::Forwarded {
            return;
        }
        if duplicated {
            self.record(&datagram, Fate::Duplicated);
            let copy = Datagram {
                payload: datagram.payload.clone(),
                ..datagram
            };
            self.fly(copy, second_delay);
        }
        self.fly(datagram, delay);
    }

    fn fly(&mut self, datagram: Datagram, delay: u64) {
        self.last_flight += 1;
        let at = Instant::now() + Duration::from_micros(delay);
        self.flying.insert((at, self.last_flight), datagram);
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.flying.first_key_value().map(|((at, _), _)| *at)
    }

    /// Hands out what has arrived and returns the readers to wake.
    fn deliver(&mut self) -> Vec<Waker> {
        let now = Instant::now();
        let mut readers = Vec::new();
        while let Some(first) = self.flying.first_entry() {
            if first.key().0 > now {
                break;
            }
            let datagram = first.remove();
            let fate = match self.ports.get(&datagram.dst) {
                None => Fate::Unbound,
                Some(port) if port.inbox.len() >= self.faults.queue => Fate::Overflowed,
                Some(_) => Fate::Delivered,
            };
            self.record(&datagram, fate);
            if let Some(port) = self.ports.get_mut(&datagram.dst)
                && fate == Fate::Delivered
            {
                port.inbox.push_back(datagram);
                readers.extend(port.reader.take());
            }
        }
        readers
    }
}

/// Shared by the net, its sockets and the task that carries datagrams.
///
/// Wakers are woken and dropped outside the lock: either may drop a task, and with it a socket.
#[derive(Debug)]
pub(super) struct Switch {
    state: Mutex<State>,
    /// Tells the carrier that an earlier arrival is due, or that the switch is gone.
    changed: Arc<Notify>,
}

impl Switch {
    pub(super) fn start(seed: u64) -> Arc<Self> {
        let changed = Arc::new(Notify::new());
        let switch = Arc::new(Self {
            state: Mutex::new(State::new(seed)),
            changed: changed.clone(),
        });
        tokio::spawn(carry(Arc::downgrade(&switch), changed));
        switch
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panicking test still drops its sockets; its first panic is the one to show.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims an address, or returns `None` when a living socket has it.
    pub(super) fn open(&self, addr: SocketAddr) -> Option<u64> {
        let mut state = self.lock();
        if state.ports.contains_key(&addr) {
            return None;
        }
        state.last_port += 1;
        let id = state.last_port;
        let port = Port {
            id,
            inbox: VecDeque::new(),
            reader: None,
        };
        state.ports.insert(addr, port);
        Some(id)
    }

    /// Gives an address up; with an id, only if that socket still has it.
    pub(super) fn close(&self, addr: SocketAddr, id: Option<u64>) {
        let mut state = self.lock();
        let ours = id.is_none_or(|id| state.is_bound(addr, id));
        let port = if ours { state.ports.remove(&addr) } else { None };
        drop(state);
        drop(port);
    }

    /// Takes a datagram from a socket; those of an unplugged socket vanish without a trace.
    pub(super) fn send(&self, id: u64, datagram: Datagram) {
        let mut state = self.lock();
        if !state.is_bound(datagram.src, id) {
            return;
        }
        let before = state.next_arrival();
        state.send(datagram);
        let changed = state.next_arrival() != before;
        drop(state);
        if changed {
            self.changed.notify_one();
        }
    }

    /// Takes up to `most` queued datagrams, or registers the reader and returns nothing.
    pub(super) fn receive(&self, addr: SocketAddr, id: u64, most: usize, cx: &Context<'_>) -> Vec<Datagram> {
        let mut state = self.lock();
        let Some(port) = state.ports.get_mut(&addr).filter(|port| port.id == id) else {
            return Vec::new();
        };
        let count = port.inbox.len().min(most);
        let taken = port.inbox.drain(..count).collect();
        let old = if count == 0 {
            port.reader.replace(cx.waker().clone())
        } else {
            None
        };
        drop(state);
        drop(old);
        taken
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

/// Sleeps from arrival to arrival until the switch is gone.
async fn carry(switch: Weak<Switch>, changed: Arc<Notify>) {
    loop {
        let next = {
            let Some(switch) = switch.upgrade() else { return };
            let mut state = switch.lock();
            let readers = state.deliver();
            let next = state.next_arrival();
            drop(state);
            readers.into_iter().for_each(Waker::wake);
            next
        };
        match next {
            None => changed.notified().await,
            Some(at) => tokio::select! {
                biased;
                () = changed.notified() => {}
                () = sleep_until(at) => {}
            },
        }
    }
}
