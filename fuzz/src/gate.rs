//! A gate and guests that have keys and no manners: they send whatever a script says, sealed as it must be.
//!
//! Whatever happens: a call is handed out once, no more than the gate's capacity at a time, replies go where the
//! datagram came from and only its guest can open them, and a stranger takes nobody's place.

use std::collections::BTreeSet;

use lb_core::edge::{Gate, Heard, WorkId};
use lb_core::health::Timers;
use lb_core::load::LoadReport;
use lb_core::member::Addr;
use lb_core::time::Duration;
use lb_core::wire::seal::{DeviceKey, HELLO_BYTES, Initiator, Session};
use lb_core::wire::{self, Body, Flags, FromEdge, Header, Message, Outcome, Request, ToEdge};
use lb_core::{Instant, NodeId};

use crate::script::{Fresh, Script, bend, psk};

const GUESTS: usize = 3;
const DEVICES: usize = 5;
const CAPACITY: u16 = 3;
const DATAGRAM: usize = 600;
/// Datagrams kept for replays.
const KEPT: usize = 32;

type Server = Gate<GUESTS, 4, 64>;

struct Device {
    initiator: Initiator,
    session: Option<Session>,
    addr: Addr,
    heard: Instant,
    life: u32,
    /// Handed out in this life, since the gate knows it.
    executed: BTreeSet<u32>,
}

/// A datagram that a device made; a `HELLO` has no payload.
#[derive(Clone)]
struct Sent {
    who: usize,
    bytes: Vec<u8>,
    payload: Vec<u8>,
}

struct World {
    now: Instant,
    fresh: Fresh,
    timers: Timers,
    gate: Server,
    keys: [DeviceKey; DEVICES],
    devices: Vec<Device>,
    open: Vec<WorkId>,
    sent: Vec<Sent>,
    out: usize,
}

/// Runs one input.
///
/// # Panics
/// When a law is broken.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let key = |index: usize| DeviceKey::new(index as u32 + 1, &psk(data, index), "orchard");
    let keys: [DeviceKey; DEVICES] = std::array::from_fn(key);
    let now = Instant::from_secs(1);
    let device = |index: usize| Device {
        initiator: Initiator::new(key(index), None),
        session: None,
        addr: addr(index),
        heard: now,
        life: 0,
        executed: BTreeSet::new(),
    };
    let timers = Timers::default();
    let mut world = World {
        now,
        fresh: Fresh::default(),
        timers,
        gate: Server::new(NodeId::new(1), 1, CAPACITY, timers),
        keys,
        devices: (0..DEVICES).map(device).collect(),
        open: Vec::new(),
        sent: Vec::new(),
        out: DATAGRAM,
    };
    while let Some(step) = script.step() {
        world.step(step, &mut script);
    }
    while let Some(work) = world.open.pop() {
        world.respond(work, Outcome::Ok, b"late");
    }
}

fn addr(last: usize) -> Addr {
    std::net::SocketAddr::from(([10, 0, 0, last as u8], 7_500)).into()
}

impl World {
    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let who = usize::from(step >> 4) % DEVICES;
        match step & 15 {
            0 => {
                self.now = self
                    .now
                    .saturating_add(Duration::from_millis(script.u16().into()))
            }
            1 | 2 => {
                let random = self.fresh.draw();
                self.devices[who].initiator.start(self.now, random);
                let hello = self.devices[who]
                    .initiator
                    .poll_transmit(self.now)
                    .expect("due at once");
                self.send(Sent {
                    who,
                    bytes: hello.to_vec(),
                    payload: Vec::new(),
                });
            }
            3..=6 => {
                let mut payload = [0; DATAGRAM];
                let request = Request {
                    life: u32::from(script.byte()) % 3,
                    call: script.u32(),
                    budget_ms: script.u32(),
                    response_max: script.u16(),
                    method: ["m", "echo"][script.below(2)],
                    body: script.bytes(),
                };
                let used = request.encode(&mut payload).expect("room");
                self.say(who, &payload[..used]);
            }
            7 => {
                let mut payload = [0; DATAGRAM];
                let used = wire::encode_cancel(u32::from(script.byte()) % 3, script.u32(), &mut payload)
                    .expect("room");
                self.say(who, &payload[..used]);
            }
            8 => {
                let mut payload = [0; DATAGRAM];
                let used = wire::encode(&message(who, script), &mut payload).expect("room");
                self.say(who, &payload[..used]);
            }
            9 => self.say(who, script.bytes()),
            10 => {
                let at = script.below(KEPT);
                if let Some(sent) = self.sent.get(at).cloned() {
                    self.hand(sent, true);
                }
            }
            11 => {
                let (first, second) = (script.below(KEPT), script.below(KEPT));
                let Some(one) = self.sent.get(first) else { return };
                let other = self.sent.get(second).map_or(&[][..], |sent| &sent.bytes);
                let mut bytes = bend(script, &one.bytes, other);
                if !self.sent.iter().any(|sent| sent.bytes == bytes) {
                    let before = (self.gate.guests(), self.gate.counters().dropped);
                    assert!(self.ask(who, &mut bytes, &[]).is_none(), "a forgery was answered");
                    assert_eq!(
                        (self.gate.guests(), self.gate.counters().dropped),
                        (before.0, before.1 + 1)
                    );
                }
            }
            12 | 13 => {
                if self.open.is_empty() {
                    return;
                }
                let work = self.open.remove(who % self.open.len());
                let outcome = [Outcome::Ok, Outcome::Handler, Outcome::Deadline][script.below(3)];
                let body = vec![1; usize::from(script.u16() >> script.below(16)) % 700];
                self.respond(work, outcome, &body);
            }
            14 => self.gate.set_draining(script.flag()),
            _ => self.out = [DATAGRAM, 0, 13, 40, 64, 1_400][script.below(6)],
        }
        assert!(self.gate.guests() <= GUESTS);
        assert!(self.open.len() <= CAPACITY.into(), "more than it can serve");
    }

    /// A device says something, in its session if it has one.
    fn say(&mut self, who: usize, payload: &[u8]) {
        let Some(session) = &mut self.devices[who].session else {
            return;
        };
        let mut datagram = vec![0; payload.len() + 64];
        let length = session.seal(payload, &mut datagram).expect("room");
        datagram.truncate(length);
        let said = Sent {
            who,
            bytes: datagram,
            payload: payload.to_vec(),
        };
        self.send(said);
    }

    fn send(&mut self, sent: Sent) {
        if self.sent.len() == KEPT {
            self.sent.remove(0);
        }
        self.sent.push(sent.clone());
        self.hand(sent, false);
    }

    /// The gate gets what a device made, for the first time or again, and the device what it answers.
    fn hand(&mut self, sent: Sent, again: bool) {
        let Sent {
            who,
            mut bytes,
            payload,
        } = sent;
        let hello = payload.is_empty() && bytes.len() == HELLO_BYTES;
        self.forget(who, hello, &payload);
        let Some(mut reply) = self.ask(who, &mut bytes, &payload) else {
            return;
        };
        assert!(hello || !again, "a replay was answered");
        let device = &mut self.devices[who];
        if hello {
            assert!(reply.len() <= bytes.len(), "an amplifier");
            if let Ok(session) = device.initiator.handle_welcome(&reply) {
                device.session = Some(session);
            }
            return;
        }
        let session = device.session.as_mut().expect("it said something");
        let Ok(payload) = session.open(&mut reply) else {
            // What it said was said in a session that it has left since.
            assert!(again);
            return;
        };
        match wire::to_edge(payload).expect("a gate speaks well") {
            ToEdge::Message(bytes) => {
                let load = wire::decode(bytes).expect("a gate speaks well").load;
                assert_eq!(usize::from(load.in_flight), self.open.len());
            }
            ToEdge::Response(_) | ToEdge::Working { .. } => {}
        }
    }

    /// What may make the gate forget calls makes us forget them.
    fn forget(&mut self, who: usize, hello: bool, payload: &[u8]) {
        if hello && self.gate.guests() == GUESTS {
            let (now, failed) = (self.now, self.timers.failed());
            let gone = |device: &&mut Device| now.since(device.heard) > failed;
            self.devices
                .iter_mut()
                .filter(gone)
                .for_each(|device| device.executed.clear());
        }
        let device = &mut self.devices[who];
        match wire::from_edge(payload) {
            Ok(FromEdge::Request(request)) if request.life != device.life => {
                device.life = request.life;
                device.executed.clear();
            }
            Ok(FromEdge::Message([_, 4, ..])) => device.executed.clear(),
            _ => {}
        }
    }

    /// The gate gets a datagram; what it replies.
    fn ask(&mut self, who: usize, bytes: &mut [u8], payload: &[u8]) -> Option<Vec<u8>> {
        let (now, from) = (self.now, self.devices[who].addr);
        let mut out = vec![0; self.out];
        let (fresh, before) = (&mut self.fresh, self.gate.guests());
        let heard = self
            .gate
            .handle_datagram(now, from, bytes, &self.keys, &mut || fresh.draw(), &mut out);
        let Ok(heard) = heard else {
            let whole = self.out == DATAGRAM;
            assert!(
                !whole || before == self.gate.guests(),
                "what was refused changed something"
            );
            return None;
        };
        let device = &mut self.devices[who];
        if !payload.is_empty() {
            device.heard = now;
        }
        match heard {
            Heard::Nothing => None,
            Heard::Reply(reply) => {
                assert_eq!(reply.addr, from);
                Some(out[..reply.len].to_vec())
            }
            Heard::Request(work) => {
                let Ok(FromEdge::Request(request)) = wire::from_edge(payload) else {
                    panic!("a request that nobody made");
                };
                assert_eq!(work.from, NodeId::new(who as u32 + 1));
                assert_eq!((work.method, work.body), (request.method, request.body));
                assert!(device.executed.insert(request.call), "handed out twice");
                self.open.push(work.id);
                None
            }
            Heard::Cancelled(_) => {
                assert!(!self.open.is_empty(), "nothing is worked on");
                None
            }
        }
    }

    fn respond(&mut self, work: WorkId, outcome: Outcome, body: &[u8]) {
        let mut out = vec![0; self.out];
        let sent = self
            .gate
            .respond(self.now, work, outcome, body, Duration::from_millis(1), &mut out);
        if let Some(sent) = sent {
            assert!(sent.len <= out.len());
            let device = self
                .devices
                .iter_mut()
                .find(|device| device.addr == sent.addr)
                .expect("a device");
            let _ = device
                .session
                .as_mut()
                .map(|session| session.open(&mut out[..sent.len]).is_ok());
        }
    }
}

fn message(who: usize, script: &mut Script<'_>) -> Message<'static> {
    let lies = script.byte() == 255;
    let body = match script.below(5) {
        0 => Body::Leave,
        1 => Body::HeartbeatAck,
        2 => Body::Join {
            addr: Addr::NONE,
            tags: "zone=x",
        },
        _ => Body::Heartbeat,
    };
    let header = Header {
        from: NodeId::new(who as u32 + 1 + u32::from(lies)),
        epoch: script.u32(),
        known_epoch: script.u32(),
        meta: script.u32(),
        flags: Flags(script.byte()),
        view: 0,
        claim: None,
    };
    Message {
        header,
        load: LoadReport::default(),
        body,
    }
}
