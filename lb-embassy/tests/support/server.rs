//! A server for edges, made of the core's parts: sessions, memory of calls, acknowledgements, a few methods.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use embassy_net::udp::{PacketMetadata, UdpMetadata, UdpSocket};
use embassy_net::{Ipv4Address, Stack};
use embassy_time::{Instant, with_deadline};
use lb_core::NodeId;
use lb_core::edge::{Admit, Served};
use lb_core::load::{LoadReport, ReportVersion};
use lb_core::member::Addr;
use lb_core::wire::seal::{ChaCha20Poly1305, DeviceKey, HEADER_BYTES, Peek, Seat, peek, verify_hello};
use lb_core::wire::{
    self, Body, Flags, FromEdge, Header, Kind, Message, Outcome, Request, Response, ServerEntry,
};

use super::clock;

/// Where servers listen.
pub(crate) const PORT: u16 = 7500;

/// The address of the server on this host.
pub(crate) fn addr(host: u8) -> std::net::SocketAddr {
    (Ipv4Address::new(10, 0, 0, host), PORT).into()
}

/// The key of a device.
pub(crate) fn key(id: u32) -> DeviceKey {
    DeviceKey::new(id, &[id as u8; 32], "orchard")
}

/// What servers did, all of them.
#[derive(Default)]
pub(crate) struct Log {
    /// Server, life and call of each execution.
    pub(crate) executed: Vec<(u8, u32, u32)>,
    pub(crate) cancelled: u32,
    pub(crate) joins: u32,
    pub(crate) leaves: u32,
}

/// What a server is told.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Its id and the last byte of its address.
    pub(crate) host: u8,
    /// Others it recommends, with their tags.
    pub(crate) recommends: Vec<(u8, &'static str)>,
    pub(crate) in_flight: u16,
    pub(crate) log: Rc<RefCell<Log>>,
}

#[derive(Default)]
struct Device {
    seat: Seat,
    served: Served<Vec<u8>, 8>,
    from: Option<UdpMetadata>,
}

struct Later {
    due: Instant,
    device: u32,
    life: u32,
    call: u32,
    body: Vec<u8>,
}

struct Server {
    settings: Settings,
    keys: [DeviceKey; 3],
    devices: BTreeMap<u32, Device>,
    sessions: u32,
    later: Vec<Later>,
    seq: u64,
}

type Replies = Vec<(Vec<u8>, UdpMetadata)>;

/// Serves for ever.
pub(crate) async fn serve(stack: Stack<'static>, settings: Settings) {
    let meta = || Box::leak(Box::new([PacketMetadata::EMPTY; 8]));
    let buffer = || Box::leak(Box::new([0; 8192]));
    let mut socket = UdpSocket::new(stack, meta(), buffer(), meta(), buffer());
    socket.bind(PORT).unwrap();
    let mut server = Server {
        keys: [key(101), key(102), key(103)],
        devices: BTreeMap::new(),
        sessions: u32::from(settings.host) << 24,
        settings,
        later: Vec::new(),
        seq: 0,
    };
    let mut datagram = [0; 1500];
    loop {
        let due = server.later.iter().map(|later| later.due).min();
        let received = with_deadline(due.unwrap_or(Instant::MAX), socket.recv_from(&mut datagram)).await;
        let replies = match received {
            Ok(received) => {
                let (len, from) = received.unwrap();
                server.receive(&mut datagram[..len], from)
            }
            Err(_) => server.finish_later(),
        };
        for (reply, to) in replies {
            socket.send_to(&reply, to).await.unwrap();
        }
    }
}

impl Server {
    fn load(&mut self) -> LoadReport {
        self.seq += 1;
        LoadReport {
            version: ReportVersion {
                epoch: 1,
                seq: self.seq,
            },
            in_flight: self.settings.in_flight,
            capacity: 8,
            ..LoadReport::default()
        }
    }

    fn receive(&mut self, datagram: &mut [u8], from: UdpMetadata) -> Replies {
        match peek(datagram) {
            Some(Peek::Hello { .. }) => self.hello(datagram, from),
            Some(Peek::ToServer { session }) => {
                let known = self
                    .devices
                    .iter()
                    .find(|(_, device)| device.seat.tags().any(|tag| tag == session))
                    .map(|(id, _)| *id);
                known.map_or_else(Vec::new, |id| self.open(id, datagram, from))
            }
            _ => Vec::new(),
        }
    }

    fn hello(&mut self, datagram: &[u8], from: UdpMetadata) -> Replies {
        let Ok(hello) = verify_hello::<ChaCha20Poly1305>(&self.keys, datagram) else {
            return Vec::new();
        };
        self.sessions += 1;
        let mut random = [self.settings.host; 16];
        random[..8].copy_from_slice(&(u64::from(self.sessions) ^ clock::now()).to_be_bytes());
        let device = self.devices.entry(hello.key_id()).or_default();
        let answer = device.seat.hello(&hello, self.sessions, &random);
        answer.map_or_else(Vec::new, |answer| vec![(answer.welcome.to_vec(), from)])
    }

    fn open(&mut self, id: u32, datagram: &mut [u8], from: UdpMetadata) -> Replies {
        let Some(device) = self.devices.get_mut(&id) else {
            return Vec::new();
        };
        let Ok(opened) = device.seat.open(datagram) else {
            return Vec::new();
        };
        device.from = Some(from);
        let payload = opened.payload.to_vec();
        let reply = match wire::from_edge(&payload).unwrap() {
            FromEdge::Message(bytes) => self.message(bytes),
            FromEdge::Request(request) => self.request(id, &request),
            FromEdge::Cancel { .. } => {
                self.settings.log.borrow_mut().cancelled += 1;
                None
            }
        };
        reply.map_or_else(Vec::new, |payload| self.seal(id, &payload))
    }

    fn seal(&mut self, id: u32, payload: &[u8]) -> Replies {
        let Some(device) = self.devices.get_mut(&id) else {
            return Vec::new();
        };
        let (Some(session), Some(to)) = (device.seat.session(), device.from) else {
            return Vec::new();
        };
        let mut datagram = vec![0; payload.len() + 64];
        datagram[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(payload);
        let len = session.seal_in_place(payload.len(), &mut datagram).unwrap();
        datagram.truncate(len);
        vec![(datagram, to)]
    }

    fn message(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let message = wire::decode(bytes).unwrap();
        match message.body.kind() {
            Kind::Join => self.settings.log.borrow_mut().joins += 1,
            Kind::Leave => {
                self.settings.log.borrow_mut().leaves += 1;
                return None;
            }
            _ => {}
        }
        let answer = Message {
            header: Header {
                from: NodeId::new(u32::from(self.settings.host)),
                epoch: 1,
                known_epoch: message.header.epoch,
                meta: 1,
                flags: Flags::default(),
                view: 0,
                claim: None,
            },
            load: self.load(),
            body: Body::HeartbeatAck,
        };
        let mut payload = vec![0; 1200];
        let used = wire::encode(&answer, &mut payload).unwrap();
        let entries = self.settings.recommends.iter().map(|(host, tags)| ServerEntry {
            id: NodeId::new(u32::from(*host)),
            addr: Addr::from(addr(*host)),
            load: LoadReport::default(),
            tags,
        });
        let used = wire::append_servers(entries, &mut payload, used).unwrap();
        payload.truncate(used);
        Some(payload)
    }

    fn request(&mut self, id: u32, request: &Request<'_>) -> Option<Vec<u8>> {
        let (life, call) = (request.life, request.call);
        let served = &mut self.devices.get_mut(&id)?.served;
        let mut short = vec![0; 16];
        match served.request(life, call) {
            Admit::New => {}
            Admit::Running => {
                let len = wire::encode_working(call, &mut short).unwrap();
                short.truncate(len);
                return Some(short);
            }
            Admit::Replay(response) => return Some(response.clone()),
            Admit::Forgotten => return Some(self.respond(call, Outcome::Forgotten, b"")),
            Admit::Busy => {
                let outcome = Outcome::Overloaded { retry_after_ms: 100 };
                return Some(self.respond(call, outcome, b""));
            }
        }
        let host = self.settings.host;
        self.settings.log.borrow_mut().executed.push((host, life, call));
        let number = request
            .body
            .first_chunk()
            .map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)));
        let response = match request.method {
            "upper" if request.body.len() > usize::from(request.response_max) => {
                let size = request.body.len() as u32;
                self.respond(call, Outcome::ResponseTooLarge { size }, b"")
            }
            "upper" => self.respond(call, Outcome::Ok, &request.body.to_ascii_uppercase()),
            "who" => self.respond(call, Outcome::Ok, &[host]),
            "refuse" => self.respond(call, Outcome::Handler, "no, thank you".as_bytes()),
            "big" if number > usize::from(request.response_max) => {
                let size = number as u32;
                self.respond(call, Outcome::ResponseTooLarge { size }, b"")
            }
            "big" => self.respond(call, Outcome::Ok, &vec![7; number]),
            "rude" => self.respond(call, Outcome::Ok, &vec![7; number]),
            "slow" => {
                self.later.push(Later {
                    due: Instant::now() + embassy_time::Duration::from_millis(number as u64),
                    device: id,
                    life,
                    call,
                    body: vec![host],
                });
                return None;
            }
            _ => self.respond(call, Outcome::UnknownMethod, b""),
        };
        let served = &mut self.devices.get_mut(&id)?.served;
        served.answer(life, call, response.clone());
        Some(response)
    }

    fn respond(&mut self, call: u32, outcome: Outcome, body: &[u8]) -> Vec<u8> {
        let response = Response {
            call,
            outcome,
            load: self.load(),
            body,
        };
        let mut bytes = vec![0; body.len() + 200];
        let len = response.encode(&mut bytes).unwrap();
        bytes.truncate(len);
        bytes
    }

    fn finish_later(&mut self) -> Replies {
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.later)
            .into_iter()
            .partition::<Vec<_>, _>(|later| later.due <= now);
        self.later = later;
        let mut replies = Vec::new();
        for done in due {
            let response = self.respond(done.call, Outcome::Ok, &done.body);
            if let Some(device) = self.devices.get_mut(&done.device) {
                device.served.answer(done.life, done.call, response.clone());
            }
            replies.extend(self.seal(done.device, &response));
        }
        replies
    }
}
