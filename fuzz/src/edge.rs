//! An edge among servers that have its key and no manners: they send whatever a script says, sealed as it must be,
//! while calls come and go, time leaps and the network link flaps.
//!
//! Whatever happens: the edge comes to rest after each input, every call ends by its deadline, what is counted is
//! given back, nothing is sent while the link is down, and only who was asked answers. When the servers behave again,
//! the edge is attached again.

use lb_core::edge::{CallId, CallPoll, Config, Edge, Outgoing, Received, Transmit};
use lb_core::elect::Claim;
use lb_core::load::{LoadReport, ReportVersion};
use lb_core::member::{Addr, Filter, Tags};
use lb_core::time::Duration;
use lb_core::wire::seal::{ChaCha20Poly1305, DeviceKey, Seat, verify_hello};
use lb_core::wire::{self, Body, Flags, FromEdge, Header, Message, Outcome, Response, ServerEntry};
use lb_core::{Instant, NodeId};

use crate::script::{Fresh, Script, psk};

const DATAGRAM: usize = 600;
const SERVERS: usize = 5;
/// These are configured; the others are heard of.
const SEEDS: usize = 2;
/// More turns than that without an input, and it would never rest.
const TURNS: usize = 300;

type Client = Edge<4, 3, 4, 32>;

struct Server {
    addr: Addr,
    seat: Seat,
    /// Answers as it should, beside what the script makes it send.
    honest: bool,
    alive: bool,
    seq: u64,
}

struct Waiting {
    id: CallId,
    number: u32,
    deadline: Instant,
    method: &'static str,
    body: Vec<u8>,
    asked: [bool; SERVERS],
}

struct World {
    now: Instant,
    fresh: Fresh,
    edge: Client,
    key: DeviceKey,
    servers: Vec<Server>,
    tag: u32,
    waiting: Vec<Waiting>,
    begun: u32,
    link_up: bool,
    left: bool,
    filter: Filter,
    /// Bytes of the driver's buffer.
    buffer: usize,
}

fn addr(last: usize) -> Addr {
    std::net::SocketAddr::from(([10, 0, 0, last as u8], 7_500)).into()
}

/// Runs one input.
///
/// # Panics
/// When a law is broken.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new(data, &mut script);
    while let Some(step) = script.step() {
        world.step(step, &mut script);
        world.settle();
        world.check();
    }
    world.end();
}

impl World {
    fn new(data: &[u8], script: &mut Script<'_>) -> Self {
        let now = Instant::from_secs(5);
        let key = DeviceKey::new(7, &psk(data, 0), "orchard");
        let config = Config::new(key.clone(), 99)
            .datagram(DATAGRAM as u16)
            .seed(script.byte().into())
            .tags(Tags::parse("zone=here").expect("tags"));
        let server = |index| Server {
            addr: addr(index + 1),
            seat: Seat::new(),
            honest: true,
            alive: true,
            seq: 0,
        };
        let mut world = Self {
            now,
            fresh: Fresh::default(),
            edge: Client::new(now, config.check().expect("sound")),
            key,
            servers: (0..SERVERS).map(server).collect(),
            tag: 0,
            waiting: Vec::new(),
            begun: 0,
            link_up: true,
            left: false,
            filter: Filter::everything(),
            buffer: DATAGRAM,
        };
        for seed in 0..SEEDS {
            world.edge.add_seed(now, addr(seed + 1)).expect("room");
        }
        world.settle();
        world
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let at = usize::from(step >> 4) % SERVERS;
        match step & 15 {
            0 => self.pass(Duration::from_millis(script.byte().into())),
            1 => self.pass(Duration::from_millis(u64::from(script.u16()))),
            // Asleep: as if the processor had stood still.
            2 => {
                self.now = self
                    .now
                    .saturating_add(Duration::from_millis(u64::from(script.u16()) * 4))
            }
            3 => self.call(script),
            4 => {
                if !self.waiting.is_empty() {
                    let call = self.waiting.remove(at % self.waiting.len());
                    self.edge.finish(self.now, call.id);
                }
            }
            5 => {
                self.link_up = script.flag();
                self.edge.handle_link(self.now, self.link_up);
            }
            6 => self.servers[at].alive = script.flag(),
            7 => self.servers[at].honest = script.flag(),
            8 => {
                let mut payload = [0; DATAGRAM];
                if let Some(used) = self.message(at, script, &mut payload) {
                    self.tell(at, &payload[..used]);
                }
            }
            9 | 10 => {
                let mut payload = [0; DATAGRAM];
                if let Some(used) = self.frame(script, &mut payload) {
                    self.tell(at, &payload[..used]);
                }
            }
            11 => self.tell(at, script.bytes()),
            12 => {
                let from = self.servers[at].addr;
                self.deliver(from, &mut script.bytes().to_vec());
            }
            13 => match script.below(6) {
                0 => {
                    let _ = self.edge.add_seed(self.now, addr(script.below(8)));
                }
                1 => self
                    .edge
                    .set_tags(self.now, Tags::parse("zone=there").expect("tags")),
                2 => self.edge.set_load(load(script)),
                3 => self.filter = Filter::parse(["zone=here", "role=x"][at % 2]).expect("a filter"),
                4 => self.filter = Filter::everything(),
                _ => self.buffer = [DATAGRAM, 0, 13, 40, 64, 200, 1_400][script.below(7)],
            },
            // A new process: it has forgotten everybody.
            14 => self.servers[at].seat = Seat::new(),
            _ if script.byte() == 0 => {
                self.left = true;
                self.edge.leave(self.now);
            }
            _ => {
                let _ = self.edge.pick(self.now, &self.filter);
            }
        }
    }

    fn call(&mut self, script: &mut Script<'_>) {
        let budget = Duration::from_millis(u64::from(script.u16() >> script.below(16)));
        let Ok(id) = self.edge.call(self.now, budget, script.flag()) else {
            assert!(!self.waiting.is_empty() || self.edge.counters().calls > 0);
            return;
        };
        self.begun += 1;
        self.waiting.push(Waiting {
            id,
            number: self.begun,
            deadline: self.now.saturating_add(budget),
            method: ["echo", "", "m"][script.below(3)],
            body: vec![7; usize::from(script.u16() >> script.below(16)) % 700],
            asked: [false; SERVERS],
        });
    }

    /// Time goes by, and the driver does what it must in time.
    fn pass(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        for _ in 0..TURNS {
            let calls = self.waiting.iter().map(|call| call.deadline);
            let next = self.edge.next_deadline().into_iter().chain(calls).min();
            match next.filter(|next| *next < end) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
            self.settle();
        }
        self.now = end;
    }

    /// What a driver does after each input.
    fn settle(&mut self) {
        for _ in 0..TURNS {
            let mut quiet = true;
            if self.edge.next_deadline().is_some_and(|at| at <= self.now) {
                let fresh = &mut self.fresh;
                self.edge.handle_timeout(self.now, &mut || fresh.draw());
                assert!(
                    self.edge.next_deadline().is_none_or(|at| at >= self.now),
                    "due in the past"
                );
            }
            let mut buffer = vec![0; self.buffer];
            while let Some(out) = self.edge.poll_transmit(self.now, &mut buffer) {
                quiet = false;
                self.send(out, &buffer, None);
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
                let id = call.id;
                match self.edge.poll_call(self.now, id, &outgoing, &mut buffer) {
                    CallPoll::Transmit(out) => {
                        quiet = false;
                        self.send(out, &buffer, Some(id));
                    }
                    CallPoll::Wait(until) => {
                        assert!(until > self.now, "waits for what is past");
                        assert!(until <= call.deadline, "waits beyond its deadline");
                        index += 1;
                    }
                    CallPoll::Failed(_) => {
                        self.waiting.remove(index);
                    }
                }
            }
            while self.edge.poll_event().is_some() {}
            if quiet && self.edge.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
        }
        panic!(
            "the edge does not come to rest: {:?} at {:?}",
            self.edge.next_deadline(),
            self.now
        );
    }

    fn check(&self) {
        let counted: u32 = self.edge.servers().map(|server| server.own_in_flight).sum();
        assert!(
            counted as usize <= self.waiting.len(),
            "calls are counted that are over"
        );
        assert!(
            self.waiting.iter().all(|call| call.deadline > self.now),
            "a call outlives its deadline"
        );
        let status = self.edge.status();
        assert!(status.servers <= 4 && status.sessions <= 3);
    }

    fn send(&mut self, out: Transmit, buffer: &[u8], call: Option<CallId>) {
        assert!(self.link_up, "sent while the link is down");
        let datagram = &buffer[..out.len];
        assert!(datagram.len() <= DATAGRAM, "longer than configured");
        let Some(at) = self.servers.iter().position(|server| server.addr == out.addr) else {
            return;
        };
        if let Some(call) = call.and_then(|id| self.waiting.iter_mut().find(|call| call.id == id)) {
            call.asked[at] = true;
        }
        if self.servers[at].alive {
            self.arrive(at, &mut datagram.to_vec());
        }
    }

    /// A datagram reaches a server.
    fn arrive(&mut self, at: usize, datagram: &mut [u8]) {
        let server = &mut self.servers[at];
        let keys = [self.key.clone()];
        if let Ok(hello) = verify_hello::<ChaCha20Poly1305>(&keys, datagram) {
            self.tag += 1;
            let answer = server.seat.hello(&hello, self.tag, &self.fresh.draw());
            if let Some(answer) = answer {
                let from = server.addr;
                self.deliver(from, &mut answer.welcome.to_vec());
            }
            return;
        }
        let Ok(opened) = server.seat.open(datagram) else {
            return;
        };
        let payload = opened.payload.to_vec();
        let frame = wire::from_edge(&payload).expect("an edge speaks well");
        if let FromEdge::Message(bytes) = frame {
            wire::decode(bytes).expect("an edge speaks well");
        }
        if !server.honest {
            return;
        }
        server.seq += 1;
        let load = LoadReport {
            version: ReportVersion {
                epoch: 1,
                seq: server.seq,
            },
            capacity: 4,
            ..LoadReport::default()
        };
        let mut out = [0; DATAGRAM];
        let used = match frame {
            FromEdge::Message(_) => wire::encode(&ack(at, load), &mut out),
            FromEdge::Request(request) => {
                let (call, outcome, body) = (request.call, Outcome::Ok, &b"honest"[..]);
                Response {
                    call,
                    outcome,
                    load,
                    body,
                }
                .encode(&mut out)
            }
            FromEdge::Cancel { .. } => return,
        };
        let used = used.expect("room");
        self.tell(at, &out[..used]);
    }

    /// A server says something, in its session if it has one.
    fn tell(&mut self, at: usize, payload: &[u8]) {
        let server = &mut self.servers[at];
        let (from, mut datagram) = (server.addr, vec![0; payload.len() + 64]);
        let Some(session) = server.seat.session() else {
            return;
        };
        let length = session.seal(payload, &mut datagram).expect("room");
        self.deliver(from, &mut datagram[..length]);
    }

    fn deliver(&mut self, from: Addr, datagram: &mut [u8]) {
        if !self.link_up {
            return;
        }
        let Ok(Received::Answer(answer)) = self.edge.handle_datagram(self.now, from, datagram) else {
            return;
        };
        let at = self.waiting.iter().position(|call| call.id == answer.call);
        let call = self.waiting.remove(at.expect("an answer to a call that waits"));
        let server = self.servers.iter().position(|server| server.addr == from);
        assert!(
            call.asked[server.expect("a server")],
            "answered by one that was not asked"
        );
        let _ = self.edge.choice(call.id);
        self.edge.finish(self.now, call.id);
    }

    /// Calls first, so that a script rarely misses.
    fn number(&self, script: &mut Script<'_>) -> u32 {
        let which = script.byte();
        match self.waiting.get(usize::from(which)) {
            Some(call) => call.number,
            None => script.u32(),
        }
    }

    fn frame(&self, script: &mut Script<'_>, out: &mut [u8]) -> Option<usize> {
        let call = self.number(script);
        let detail = script.u32();
        let outcome = match script.below(11) {
            0 => Outcome::Ok,
            1 => Outcome::Handler,
            2 => Outcome::UnknownMethod,
            3 => Outcome::Overloaded {
                retry_after_ms: detail,
            },
            4 => Outcome::Deadline,
            5 => Outcome::RequestTooLarge { limit: detail },
            6 => Outcome::ResponseTooLarge { size: detail },
            7 => Outcome::Leaving,
            8 => Outcome::Forgotten,
            9 => return wire::encode_working(call, out).ok(),
            _ => return wire::encode_cancel(detail, call, out).ok(),
        };
        let (load, body) = (load(script), script.bytes());
        Response {
            call,
            outcome,
            load,
            body,
        }
        .encode(out)
        .ok()
    }

    fn message(&self, at: usize, script: &mut Script<'_>, out: &mut [u8]) -> Option<usize> {
        let body = match script.below(8) {
            0 => Body::Leave,
            1 => Body::Heartbeat,
            2 => Body::Join {
                addr: addr(at),
                tags: "zone=x",
            },
            _ => Body::HeartbeatAck,
        };
        let mut message = ack(at, load(script));
        message.body = body;
        message.header.from = NodeId::new(script.u32());
        message.header.epoch = script.u32();
        message.header.known_epoch = script.u32();
        message.header.flags = Flags(script.byte());
        message.header.claim = script.flag().then_some(Claim {
            term: 1,
            holder: NodeId::new(1),
        });
        let used = wire::encode(&message, out).ok()?;
        let mut entries = Vec::new();
        for _ in 0..script.below(9) {
            let id = NodeId::new(script.u32());
            let at = script.below(12);
            let addr = if at == 11 { Addr::NONE } else { addr(at) };
            let tags = [
                "",
                "zone=here",
                "role=x,zone=there",
                "lb.edge=1@1",
                "=,=,,",
                "zone=0123456789012345678901234567890123456789",
            ];
            entries.push(ServerEntry {
                id,
                addr,
                load: load(script),
                tags: tags[script.below(tags.len())],
            });
        }
        Some(wire::append_servers(entries.into_iter(), out, used).unwrap_or(used))
    }

    /// The trouble is over.
    fn end(&mut self) {
        self.pass(Duration::from_secs(70));
        self.settle();
        assert!(self.waiting.is_empty(), "every call ends");
        assert!(
            self.edge.servers().all(|server| server.own_in_flight == 0),
            "nothing is left counted"
        );
        if self.left {
            return;
        }
        self.buffer = DATAGRAM;
        if !self.link_up {
            self.link_up = true;
            self.edge.handle_link(self.now, true);
        }
        for server in &mut self.servers {
            (server.honest, server.alive) = (true, true);
        }
        self.pass(Duration::from_secs(60));
        self.settle();
        assert!(self.edge.status().attached, "it is well again");
    }
}

fn ack(at: usize, load: LoadReport) -> Message<'static> {
    let header = Header {
        from: NodeId::new(at as u32 + 1),
        epoch: 1,
        known_epoch: 1,
        meta: 1,
        flags: Flags::default(),
        view: 0,
        claim: None,
    };
    Message {
        header,
        load,
        body: Body::HeartbeatAck,
    }
}

fn load(script: &mut Script<'_>) -> LoadReport {
    LoadReport {
        version: ReportVersion {
            epoch: script.u32(),
            seq: script.u32().into(),
        },
        age_ms: script.u32(),
        in_flight: script.byte().into(),
        capacity: script.byte().into(),
        clients: script.byte().into(),
        ..LoadReport::default()
    }
}
