//! A server for edges, made of the public parts: a seat, a memory of calls, the wire.

use std::collections::BTreeMap;

use lb_core::edge::{Admit, Served};
use lb_core::load::{LoadReport, ReportVersion};
use lb_core::member::Addr;
use lb_core::wire::seal::{ChaCha20Poly1305, DeviceKey, HEADER_BYTES, Seat, verify_hello};
use lb_core::wire::{self, Body, Flags, FromEdge, Header, Message, Outcome, Response, ServerEntry};
use lb_core::{Duration, Instant, NodeId};

pub(crate) const DATAGRAM: usize = 1_200;

/// What a server does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Quick,
    /// Takes that long.
    Slow(Duration),
    Full,
    Leaving,
    /// Says that it cannot tell whether it did it before.
    Forgetful,
}

struct Device {
    seat: Seat,
    served: Served<Vec<u8>, 8>,
    addr: Option<Addr>,
    /// What is being worked on: life, call, body, when it is done.
    running: Vec<(u32, u32, Vec<u8>, Instant)>,
}

pub(crate) struct Server {
    pub(crate) id: NodeId,
    pub(crate) addr: Addr,
    pub(crate) epoch: u32,
    pub(crate) alive: bool,
    pub(crate) draining: bool,
    pub(crate) mood: Mood,
    pub(crate) tags: &'static str,
    pub(crate) in_flight: u16,
    pub(crate) capacity: u16,
    pub(crate) keys: Vec<DeviceKey>,
    devices: BTreeMap<u32, Device>,
    seq: u64,
    tag: u32,
    /// Every execution: key id, life, call.
    pub(crate) executed: Vec<(u32, u32, u32)>,
    pub(crate) cancelled: usize,
    pub(crate) heartbeats: usize,
}

impl Server {
    pub(crate) fn new(id: u32, keys: Vec<DeviceKey>) -> Self {
        let socket = std::net::SocketAddr::from(([10, 0, 0, id as u8], 7_500));
        Self {
            id: NodeId::new(id),
            addr: socket.into(),
            epoch: 1,
            alive: true,
            draining: false,
            mood: Mood::Quick,
            tags: "",
            in_flight: 0,
            capacity: 64,
            keys,
            devices: BTreeMap::new(),
            seq: 0,
            tag: 1_000 * id,
            executed: Vec::new(),
            cancelled: 0,
            heartbeats: 0,
        }
    }

    /// Forgets everything but its keys, as a new process does.
    pub(crate) fn restart(&mut self) {
        self.devices.clear();
        self.executed.clear();
        self.epoch += 1;
        self.seq = 0;
        self.alive = true;
        self.draining = false;
    }

    pub(crate) fn report(&mut self) -> LoadReport {
        self.seq += 1;
        LoadReport {
            version: ReportVersion {
                epoch: self.epoch,
                seq: self.seq,
            },
            in_flight: self.in_flight,
            capacity: self.capacity,
            clients: 1,
            ..LoadReport::default()
        }
    }

    /// What it sends for a datagram; `others` is what it recommends.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        from: Addr,
        datagram: &mut [u8],
        random: [u8; 16],
        others: &[(NodeId, Addr, LoadReport, &'static str)],
    ) -> Vec<Vec<u8>> {
        if let Ok(hello) = verify_hello::<ChaCha20Poly1305>(self.keys.as_slice(), datagram) {
            self.tag += 1;
            let device = self.devices.entry(hello.key_id()).or_insert_with(|| Device {
                seat: Seat::new(),
                served: Served::new(),
                addr: None,
                running: Vec::new(),
            });
            let answer = device.seat.hello(&hello, self.tag, &random);
            return answer.map(|answer| answer.welcome.to_vec()).into_iter().collect();
        }
        let ids: Vec<u32> = self.devices.keys().copied().collect();
        for id in ids {
            let mut copy = datagram.to_vec();
            let Some(device) = self.devices.get_mut(&id) else {
                continue;
            };
            let Ok(opened) = device.seat.open(&mut copy) else {
                continue;
            };
            device.addr = Some(from);
            let payload = opened.payload.to_vec();
            let reply = self.payload(now, id, &payload, others);
            return reply
                .into_iter()
                .filter_map(|payload| self.seal(id, &payload))
                .collect();
        }
        Vec::new()
    }

    /// Seals a payload for a device that has a session.
    pub(crate) fn seal(&mut self, id: u32, payload: &[u8]) -> Option<Vec<u8>> {
        let mut out = [0; DATAGRAM];
        let session = self.devices.get_mut(&id)?.seat.session()?;
        let length = session.seal(payload, &mut out).ok()?;
        Some(out[..length].to_vec())
    }

    fn payload(
        &mut self,
        now: Instant,
        id: u32,
        payload: &[u8],
        others: &[(NodeId, Addr, LoadReport, &'static str)],
    ) -> Vec<Vec<u8>> {
        let mut out = [0; DATAGRAM - HEADER_BYTES - 16];
        match wire::from_edge(payload).unwrap() {
            FromEdge::Message(bytes) => {
                let message = wire::decode(bytes).unwrap();
                assert_eq!(message.header.from, NodeId::new(id));
                self.heartbeats += 1;
                if message.body == Body::Leave {
                    self.devices.remove(&id);
                    return Vec::new();
                }
                let load = self.report();
                let ack = Message {
                    header: self.header(message.header.epoch),
                    load,
                    body: Body::HeartbeatAck,
                };
                let used = wire::encode(&ack, &mut out).unwrap();
                let own = (self.id, self.addr, load, self.tags);
                let entries = others.iter().copied().chain((!self.draining).then_some(own));
                let entries = entries.map(|(id, addr, load, tags)| ServerEntry { id, addr, load, tags });
                let used = wire::append_servers(entries, &mut out, used).unwrap();
                vec![out[..used].to_vec()]
            }
            FromEdge::Request(request) => {
                let (mood, load) = (self.mood, self.report());
                let device = self.devices.get_mut(&id).unwrap();
                let respond = |outcome, body: &[u8]| {
                    let mut out = [0; DATAGRAM - HEADER_BYTES - 16];
                    let response = Response {
                        call: request.call,
                        outcome,
                        load,
                        body,
                    };
                    let used = response.encode(&mut out).unwrap();
                    vec![out[..used].to_vec()]
                };
                match mood {
                    Mood::Full => return respond(Outcome::Overloaded { retry_after_ms: 100 }, b""),
                    Mood::Leaving => return respond(Outcome::Leaving, b""),
                    Mood::Forgetful => return respond(Outcome::Forgotten, b""),
                    Mood::Quick | Mood::Slow(_) => {}
                }
                match device.served.request(request.life, request.call) {
                    Admit::New => {
                        self.executed.push((id, request.life, request.call));
                        let answer = answer(request.method, request.body);
                        if let Mood::Slow(time) = mood {
                            let done = now.saturating_add(time);
                            device.running.push((request.life, request.call, answer, done));
                            return Vec::new();
                        }
                        let response = respond(Outcome::Ok, &answer);
                        device
                            .served
                            .answer(request.life, request.call, response[0].clone());
                        response
                    }
                    Admit::Running => {
                        let used = wire::encode_working(request.call, &mut out).unwrap();
                        vec![out[..used].to_vec()]
                    }
                    Admit::Replay(response) => vec![response.clone()],
                    Admit::Forgotten => respond(Outcome::Forgotten, b""),
                    Admit::Busy => respond(Outcome::Overloaded { retry_after_ms: 10 }, b""),
                }
            }
            FromEdge::Cancel { life, call } => {
                self.cancelled += 1;
                let device = self.devices.get_mut(&id).unwrap();
                device.served.abandon(life, call);
                device.running.retain(|running| running.1 != call);
                Vec::new()
            }
        }
    }

    fn header(&self, known_epoch: u32) -> Header {
        Header {
            from: self.id,
            epoch: self.epoch,
            known_epoch,
            meta: 1,
            flags: Flags::default().with(Flags::DRAINING, self.draining),
            view: 0,
            claim: None,
        }
    }

    /// Work that is done by now, as datagrams to send.
    pub(crate) fn work(&mut self, now: Instant) -> Vec<(Addr, Vec<u8>)> {
        let load = self.report();
        let mut out = Vec::new();
        let ids: Vec<u32> = self.devices.keys().copied().collect();
        for id in ids {
            let mut done = Vec::new();
            let device = self.devices.get_mut(&id).unwrap();
            device.running.retain(|running| {
                if running.3 <= now {
                    done.push(running.clone());
                }
                running.3 > now
            });
            let addr = device.addr;
            for (life, call, body, _) in done {
                let mut payload = [0; DATAGRAM];
                let response = Response {
                    call,
                    outcome: Outcome::Ok,
                    load,
                    body: &body,
                };
                let used = response.encode(&mut payload).unwrap();
                let kept = payload[..used].to_vec();
                if self
                    .devices
                    .get_mut(&id)
                    .unwrap()
                    .served
                    .answer(life, call, kept.clone())
                    && let (Some(addr), Some(datagram)) = (addr, self.seal(id, &kept))
                {
                    out.push((addr, datagram));
                }
            }
        }
        out
    }
}

/// The method is put before the body.
pub(crate) fn answer(method: &str, body: &[u8]) -> Vec<u8> {
    [method.as_bytes(), b":", body].concat()
}
