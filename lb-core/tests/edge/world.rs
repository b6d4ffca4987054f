//! One edge, some servers, and the network between them: lossy, slow, and the same for the same seed.

use std::collections::BTreeMap;

use lb_core::edge::{CallError, CallId, CallPoll, Config, Edge, Event, Outgoing, Received};
use lb_core::member::{Addr, Filter, Tags};
use lb_core::rng::{Rng, Sfc32};
use lb_core::wire::seal::DeviceKey;
use lb_core::{Duration, Instant, NodeId};

use super::server::{DATAGRAM, Server, answer};

pub(crate) const KEY_ID: u32 = 900;

pub(crate) type TestEdge = Edge<4, 3, 4, 32>;

pub(crate) fn key() -> DeviceKey {
    DeviceKey::new(KEY_ID, &[0x42; 32], "orchard")
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Answered(Option<NodeId>),
    Refused(String),
    Failed(CallError),
}

struct Waiting {
    id: CallId,
    body: Vec<u8>,
    method: &'static str,
    deadline: Instant,
    serial: usize,
}

#[derive(Debug)]
struct Flying {
    at: Instant,
    order: u64,
    to_edge: bool,
    server: Addr,
    bytes: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) edge: TestEdge,
    pub(crate) edge_addr: Addr,
    pub(crate) servers: Vec<Server>,
    /// Of 1000, each way.
    pub(crate) loss: u32,
    pub(crate) duplicates: u32,
    pub(crate) delay: Duration,
    pub(crate) link_up: bool,
    pub(crate) paused: bool,
    pub(crate) filter: Filter,
    pub(crate) fail_over: bool,
    pub(crate) ended: BTreeMap<usize, Ended>,
    pub(crate) events: Vec<Event>,
    pub(crate) trace: Vec<String>,
    flying: Vec<Flying>,
    waiting: Vec<Waiting>,
    serial: usize,
    order: u64,
    pub(crate) rng: Sfc32,
}

impl World {
    pub(crate) fn new(seed: u64, servers: usize) -> Self {
        let mut rng = Sfc32::new(seed);
        let now = Instant::from_secs(5);
        let socket = std::net::SocketAddr::from(([10, 0, 1, 1], 4_000));
        let servers = (1..=servers).map(|id| Server::new(id as u32, vec![key()]));
        Self {
            now,
            edge: edge(now, rng.next_u32()),
            edge_addr: socket.into(),
            servers: servers.collect(),
            loss: 0,
            duplicates: 0,
            delay: Duration::from_millis(5),
            link_up: true,
            paused: false,
            filter: Filter::everything(),
            fail_over: true,
            ended: BTreeMap::new(),
            events: Vec::new(),
            trace: Vec::new(),
            flying: Vec::new(),
            waiting: Vec::new(),
            serial: 0,
            order: 0,
            rng,
        }
    }

    /// An edge with a new key that no server has yet.
    pub(crate) fn with_older_key(seed: u64, servers: usize) -> Self {
        let mut world = Self::new(seed, servers);
        let newest = DeviceKey::new(KEY_ID, &[0x43; 32], "orchard");
        let config = Config::new(newest, 1).older_key(key());
        world.edge = TestEdge::new(world.now, config.check().unwrap());
        world
    }

    pub(crate) fn seed(&mut self, servers: &[usize]) {
        for server in servers {
            let addr = self.servers[*server].addr;
            self.edge.add_seed(self.now, addr).unwrap();
        }
    }

    /// The edge loses its memory, as at a reboot.
    pub(crate) fn reboot(&mut self, seeds: &[usize]) {
        self.edge = edge(self.now, self.rng.next_u32());
        self.waiting.clear();
        self.seed(seeds);
    }

    /// Starts a call; its end is in `ended` under the number returned.
    pub(crate) fn call(&mut self, method: &'static str, budget: Duration) -> Option<usize> {
        let id = self.edge.call(self.now, budget, self.fail_over).ok()?;
        self.serial += 1;
        let serial = self.serial;
        self.waiting.push(Waiting {
            id,
            body: serial.to_string().into_bytes(),
            method,
            deadline: self.now.saturating_add(budget),
            serial,
        });
        self.settle();
        Some(serial)
    }

    /// Gives a call up.
    pub(crate) fn drop_call(&mut self, serial: usize) {
        if let Some(at) = self.waiting.iter().position(|call| call.serial == serial) {
            let call = self.waiting.remove(at);
            self.edge.finish(self.now, call.id);
            self.settle();
        }
    }

    /// Has a server say something of its own accord.
    pub(crate) fn tell(&mut self, server: usize, payload: &[u8]) {
        let server = &mut self.servers[server];
        let (addr, datagram) = (server.addr, server.seal(KEY_ID, payload));
        self.send(true, addr, &datagram.expect("a session"));
    }

    pub(crate) fn calls_in_flight(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        self.settle();
        while self.now < end {
            let step = self.now.saturating_add(Duration::from_millis(5)).min(end);
            let next = self.flying.iter().map(|flying| flying.at);
            let next = next.filter(|at| *at > self.now).min();
            self.now = next.map_or(step, |at| at.min(step));
            self.deliver();
            for index in 0..self.servers.len() {
                if self.servers[index].alive {
                    let (now, addr) = (self.now, self.servers[index].addr);
                    for (_, bytes) in self.servers[index].work(now) {
                        self.send(true, addr, &bytes);
                    }
                }
            }
            self.settle();
        }
    }

    fn deliver(&mut self) {
        loop {
            let now = self.now;
            let due = self
                .flying
                .iter()
                .enumerate()
                .filter(|(_, flying)| flying.at <= now);
            // Not into a guest that stands still: its network card keeps what comes.
            let due = due.filter(|(_, flying)| !(self.paused && flying.to_edge));
            let Some((at, _)) = due.min_by_key(|(_, flying)| (flying.at, flying.order)) else {
                return;
            };
            let Flying {
                to_edge,
                server,
                mut bytes,
                ..
            } = self.flying.remove(at);
            if !self.link_up {
                continue;
            }
            if to_edge {
                self.arrive(server, &mut bytes);
            } else if let Some(at) = self.servers.iter().position(|it| it.addr == server && it.alive) {
                let others: Vec<_> = (0..self.servers.len())
                    .filter(|other| *other != at)
                    .filter(|other| self.servers[*other].alive && !self.servers[*other].draining)
                    .collect();
                let others: Vec<_> = others
                    .into_iter()
                    .map(|other| {
                        let other = &mut self.servers[other];
                        (other.id, other.addr, other.report(), other.tags)
                    })
                    .collect();
                let random = random(&mut self.rng);
                let (now, from) = (self.now, self.edge_addr);
                for reply in self.servers[at].handle(now, from, &mut bytes, random, &others) {
                    self.send(true, server, &reply);
                }
            }
        }
    }

    fn arrive(&mut self, from: Addr, bytes: &mut [u8]) {
        let now = self.now;
        if let Ok(Received::Answer(answered)) = self.edge.handle_datagram(now, from, bytes) {
            let at = self.waiting.iter().position(|call| call.id == answered.call);
            let call = self
                .waiting
                .remove(at.expect("an answer is to a call that waits"));
            let ended = match answered.result {
                Ok(body) => {
                    assert_eq!(body, answer(call.method, &call.body), "the wrong answer");
                    Ended::Answered((answered.server.get() != 0).then_some(answered.server))
                }
                Err(refusal) => Ended::Refused(refusal.to_string()),
            };
            assert!(self.now <= call.deadline.saturating_add(Duration::from_secs(4)));
            self.edge.finish(now, call.id);
            self.end(call.serial, ended);
        }
        self.settle();
    }

    fn end(&mut self, serial: usize, ended: Ended) {
        self.trace
            .push(format!("{} call {serial} {ended:?}", self.now.as_micros()));
        assert!(self.ended.insert(serial, ended).is_none(), "a call ends once");
    }

    fn send(&mut self, to_edge: bool, server: Addr, bytes: &[u8]) {
        self.trace.push(format!(
            "{} {} {}",
            self.now.as_micros(),
            if to_edge { "down" } else { "up" },
            bytes.len()
        ));
        let copies = 1 + u32::from(self.rng.below(1_000) < self.duplicates);
        for _ in 0..copies {
            if self.rng.below(1_000) < self.loss {
                continue;
            }
            self.order += 1;
            let spread = u64::from(self.rng.below(1_000));
            let delay = self.delay.as_micros() * (500 + spread) / 1_000;
            self.flying.push(Flying {
                at: self.now.saturating_add(Duration::from_micros(delay)),
                order: self.order,
                to_edge,
                server,
                bytes: bytes.to_vec(),
            });
        }
    }

    /// What a driver does after each input.
    fn settle(&mut self) {
        if self.paused {
            return;
        }
        let now = self.now;
        for _ in 0..100 {
            let mut quiet = true;
            if self.edge.next_deadline().is_some_and(|at| at <= now) {
                let rng = &mut self.rng;
                self.edge.handle_timeout(now, &mut || random(rng));
            }
            let mut buffer = [0; DATAGRAM];
            while let Some(out) = self.edge.poll_transmit(now, &mut buffer) {
                quiet = false;
                self.send(false, out.addr, &buffer[..out.len]);
            }
            let mut index = 0;
            while index < self.waiting.len() {
                let call = &self.waiting[index];
                let outgoing = Outgoing {
                    method: call.method,
                    body: &call.body,
                    response_max: 512,
                    filter: &self.filter,
                };
                let serial = call.serial;
                match self.edge.poll_call(now, call.id, &outgoing, &mut buffer) {
                    CallPoll::Transmit(out) => {
                        quiet = false;
                        self.send(false, out.addr, &buffer[..out.len]);
                    }
                    CallPoll::Wait(until) => {
                        assert!(until > now, "waits for what is past");
                        index += 1;
                    }
                    CallPoll::Failed(error) => {
                        self.waiting.remove(index);
                        self.end(serial, Ended::Failed(error));
                    }
                }
            }
            while let Some(event) = self.edge.poll_event() {
                self.trace.push(format!("{} {event:?}", now.as_micros()));
                self.events.push(event);
            }
            if quiet && self.edge.next_deadline().is_none_or(|at| at > now) {
                return;
            }
        }
        panic!(
            "the edge does not come to rest at {now:?}: {:?}",
            self.edge.next_deadline()
        );
    }
}

fn edge(now: Instant, life: u32) -> TestEdge {
    let tags = Tags::parse("zone=eu-1").unwrap();
    TestEdge::new(now, Config::new(key(), life).tags(tags).check().unwrap())
}

fn random(rng: &mut Sfc32) -> [u8; 16] {
    let mut bytes = [0; 16];
    for chunk in bytes.chunks_mut(4) {
        chunk.copy_from_slice(&rng.next_u32().to_le_bytes());
    }
    bytes
}
