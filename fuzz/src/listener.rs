//! The edge listener of a whole node, through the socket that it has in production: what is private of it stays so.
//!
//! Devices with keys and no manners, and strangers without. Whatever they send: a datagram that no device made, or that
//! came before, is counted as dropped, changes nothing else and is not answered; no call is executed without a
//! request of its own; and afterwards an honest device is served.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use lb_core::load::LoadReport;
use lb_core::member::Addr;
use lb_core::wire::seal::{DeviceKey, Initiator, Session};
use lb_core::wire::{self, Body, Flags, FromEdge, Header, Interest, Message, Outcome, Request, ToEdge};
use lb_tokio::edge::{EdgeCounters, EdgeKeys, EdgeListenerConfig};
use lb_tokio::identity::{ClusterCa, ClusterName};
use lb_tokio::{Cluster, NodeId, Server};
use tokio::runtime::{Builder, Runtime};

use crate::script::{Fresh, Script, bend, psk};

const DEVICES: usize = 3;
/// Datagrams kept for replays.
const KEPT: usize = 32;
const PATIENCE: Duration = Duration::from_secs(10);

fn key(index: usize, psk: [u8; 32]) -> DeviceKey {
    DeviceKey::new(index as u32 + 1, &psk, "fuzz")
}

#[derive(Debug)]
struct Keys([DeviceKey; DEVICES + 1]);

impl EdgeKeys for Keys {
    fn version(&self) -> u64 {
        0
    }

    fn keys(&self, id: u32) -> [Option<DeviceKey>; 2] {
        let key = self.0.iter().find(|key| key.id() == id);
        [key.cloned(), None]
    }
}

struct Device {
    initiator: Initiator,
    session: Option<Session>,
    /// It may speak from either.
    sockets: [UdpSocket; 2],
}

struct Made {
    bytes: Vec<u8>,
    from: usize,
    hello: bool,
    sent: bool,
}

struct World {
    runtime: Runtime,
    node: Cluster,
    at: SocketAddr,
    executed: Arc<AtomicU64>,
    fresh: Fresh,
    devices: Vec<Device>,
    made: Vec<Made>,
    requests: u64,
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

/// Runs one input.
///
/// # Panics
/// When a law is broken.
pub fn run(data: &[u8]) {
    let mut world = World::new(data);
    let mut script = Script::new(data);
    while let Some(step) = script.step() {
        world.step(step, &mut script);
        assert!(
            world.executed.load(Ordering::SeqCst) <= world.requests,
            "executed without a request"
        );
    }
    world.honest();
    let World { runtime, node, .. } = world;
    runtime.block_on(async move { drop(node) });
}

impl World {
    fn new(data: &[u8]) -> Self {
        // Once for all inputs: making certificates takes longest.
        static CA: OnceLock<ClusterCa> = OnceLock::new();
        let ca = CA.get_or_init(|| {
            let name = ClusterName::new("fuzz").expect("a name");
            ClusterCa::generate(&name).expect("an authority")
        });
        let identity = ca
            .issue(NodeId::new(1), Duration::from_secs(86_400))
            .expect("a certificate");
        let executed = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&executed);
        let server = Server::new().handler("echo", move |request| {
            count.fetch_add(1, Ordering::SeqCst);
            async move { Ok(request.body) }
        });
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = EdgeListenerConfig::new(
            loopback,
            Arc::new(Keys(std::array::from_fn(|index| key(index, psk(data, index))))),
        );
        let builder = Cluster::builder(identity)
            .listen(loopback)
            .server(server)
            .edges(config);
        let node = runtime.block_on(builder.start()).expect("a node");
        let device = |index| Device {
            initiator: Initiator::new(key(index, psk(data, index)), None),
            session: None,
            sockets: [socket(), socket()],
        };
        Self {
            at: node.edge_addr().expect("it listens"),
            runtime,
            node,
            executed,
            fresh: Fresh::default(),
            // The last one is honest.
            devices: (0..=DEVICES).map(device).collect(),
            made: Vec::new(),
            requests: 0,
        }
    }

    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let who = usize::from(step >> 4) % DEVICES;
        let mut out = [0; 1_400];
        match step & 15 {
            0 | 1 => self.greet(who),
            2..=4 => {
                let request = Request {
                    life: u32::from(script.byte()) % 3,
                    call: script.u32(),
                    budget_ms: script.u32(),
                    response_max: script.u16(),
                    method: ["echo", "none"][script.below(2)],
                    body: script.bytes(),
                };
                let used = request.encode(&mut out).expect("room");
                self.say(who, &out[..used]);
            }
            5 | 6 => {
                let used = message(who, script, &mut out);
                self.say(who, &out[..used]);
            }
            7 => {
                let used = wire::encode_cancel(script.u32(), script.u32(), &mut out).expect("room");
                self.say(who, &out[..used]);
            }
            8 => self.say(who, script.bytes()),
            9 => {
                // A stranger with an id of ours.
                let mut stranger =
                    Initiator::<lb_core::wire::seal::ChaCha20Poly1305>::new(key(who, [9; 32]), None);
                stranger.start(lb_core::Instant::ZERO, self.fresh.draw());
                let hello = stranger
                    .poll_transmit(lb_core::Instant::ZERO)
                    .expect("due at once");
                self.send(who, 1, &hello);
            }
            10 => self.send(who, 0, script.bytes()),
            11 => {
                let at = script.below(KEPT);
                if let Some(made) = self.made.get(at) {
                    let (from, bytes) = (made.from, made.bytes.clone());
                    self.send(from, script.below(2), &bytes);
                }
            }
            _ => {
                let (first, second) = (script.below(KEPT), script.below(KEPT));
                let Some(one) = self.made.get(first) else { return };
                let other = self.made.get(second).map_or(&[][..], |made| &made.bytes);
                let (from, bytes) = (one.from, bend(script, &one.bytes, other));
                self.send(from, script.below(2), &bytes);
            }
        }
    }

    fn greet(&mut self, who: usize) {
        let random = self.fresh.draw();
        let device = &mut self.devices[who];
        device.initiator.start(lb_core::Instant::ZERO, random);
        let hello = device
            .initiator
            .poll_transmit(lb_core::Instant::ZERO)
            .expect("due at once");
        self.make(who, hello.to_vec(), true);
    }

    /// A device says something, in its session if it has one.
    fn say(&mut self, who: usize, payload: &[u8]) {
        let Some(session) = &mut self.devices[who].session else {
            return;
        };
        let mut datagram = vec![0; payload.len() + 64];
        let length = session.seal(payload, &mut datagram).expect("room");
        datagram.truncate(length);
        self.requests += u64::from(matches!(wire::from_edge(payload), Ok(FromEdge::Request(_))));
        self.make(who, datagram, false);
    }

    fn make(&mut self, who: usize, bytes: Vec<u8>, hello: bool) {
        if self.made.len() == KEPT {
            self.made.remove(0);
        }
        self.made.push(Made {
            bytes: bytes.clone(),
            from: who,
            hello,
            sent: false,
        });
        self.send(who, 0, &bytes);
    }

    fn counters(&self) -> EdgeCounters {
        self.node.status().edges.expect("it listens").counters
    }

    fn send(&mut self, who: usize, socket: usize, bytes: &[u8]) {
        let before = self.counters();
        let total = self.node.status().edges.map(|edges| edges.total);
        self.devices[who].sockets[socket]
            .send_to(bytes, self.at)
            .expect("sent");
        let until = Instant::now() + PATIENCE;
        self.runtime.block_on(async {
            while self
                .node
                .status()
                .edges
                .is_none_or(|edges| edges.counters.datagrams == before.datagrams)
            {
                assert!(Instant::now() < until, "the listener is dead");
                tokio::task::yield_now().await;
            }
            // For the handlers.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        });
        let after = self.counters();
        let heard = self.listen();
        assert_eq!(after.datagrams, before.datagrams + 1);
        let made = self.made.iter_mut().find(|made| made.bytes == bytes);
        let good = made.is_some_and(|made| made.hello || !std::mem::replace(&mut made.sent, true));
        if !good {
            let mut expected = before;
            expected.datagrams += 1;
            let drops = |c: &mut EdgeCounters| {
                let drops = [
                    &mut c.malformed,
                    &mut c.wrong_direction,
                    &mut c.unknown_session,
                    &mut c.replayed,
                    &mut c.forged,
                    &mut c.limited,
                    &mut c.hellos_limited,
                    &mut c.hellos_suite,
                    &mut c.hellos_unknown,
                    &mut c.hellos_forged,
                ];
                drops.into_iter().map(std::mem::take).sum::<u64>()
            };
            let mut seen = after;
            assert_eq!(
                drops(&mut seen),
                drops(&mut expected) + 1,
                "not dropped: {bytes:?}"
            );
            assert_eq!(seen, expected, "it changed something");
            assert_eq!(heard, 0, "it was answered");
            assert_eq!(total, self.node.status().edges.map(|edges| edges.total));
        }
    }

    /// Takes in what was answered; how many datagrams.
    fn listen(&mut self) -> usize {
        let (mut heard, mut buffer) = (0, [0; 2_048]);
        for device in &mut self.devices {
            for socket in &device.sockets {
                loop {
                    let length = match socket.recv_from(&mut buffer) {
                        Ok((length, from)) => {
                            assert_eq!(from, self.at);
                            length
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    };
                    heard += 1;
                    let datagram = &mut buffer[..length];
                    if let Ok(session) = device.initiator.handle_welcome(datagram) {
                        device.session = Some(session);
                    } else if let Some(Ok(payload)) =
                        device.session.as_mut().map(|session| session.open(datagram))
                    {
                        match wire::to_edge(payload).expect("a listener speaks well") {
                            ToEdge::Message(bytes) => {
                                drop(wire::decode(bytes).expect("a listener speaks well"))
                            }
                            ToEdge::Response(_) | ToEdge::Working { .. } => {}
                        }
                    }
                }
            }
        }
        heard
    }

    /// Who did nothing wrong is served.
    fn honest(&mut self) {
        self.greet(DEVICES);
        let mut out = [0; 128];
        let request = Request {
            life: 1,
            call: 1,
            budget_ms: 5_000,
            response_max: 100,
            method: "echo",
            body: b"21.5 C",
        };
        let used = request.encode(&mut out).expect("room");
        let before = self.executed.load(Ordering::SeqCst);
        let session = self.devices[DEVICES].session.as_mut().expect("welcome");
        let mut datagram = [0; 192];
        let length = session.seal(&out[..used], &mut datagram).expect("room");
        self.devices[DEVICES].sockets[0]
            .send_to(&datagram[..length], self.at)
            .expect("sent");
        let until = Instant::now() + PATIENCE;
        loop {
            self.runtime.block_on(tokio::task::yield_now());
            let device = &mut self.devices[DEVICES];
            if let Ok((length, _)) = device.sockets[0].recv_from(&mut datagram) {
                let session = device.session.as_mut().expect("as before");
                let payload = session.open(&mut datagram[..length]).expect("authentic");
                let Ok(ToEdge::Response(response)) = wire::to_edge(payload) else {
                    panic!("not an answer");
                };
                assert_eq!((response.outcome, response.body), (Outcome::Ok, &b"21.5 C"[..]));
                break;
            }
            assert!(Instant::now() < until, "the listener is dead");
        }
        assert_eq!(self.executed.load(Ordering::SeqCst), before + 1);
    }
}

fn message(who: usize, script: &mut Script<'_>, out: &mut [u8]) -> usize {
    let lies = script.byte() == 255;
    let body = match script.below(6) {
        0 => Body::Leave,
        1 => Body::HeartbeatAck,
        2 | 3 => Body::Join {
            addr: Addr::NONE,
            tags: ["zone=x", "", ",,=,zone="][script.below(3)],
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
    let used = wire::encode(
        &Message {
            header,
            load: LoadReport::default(),
            body,
        },
        out,
    )
    .expect("room");
    let interest = Interest {
        places: script.byte(),
        tag_bytes: script.byte(),
        datagram: script.u16(),
    };
    wire::append_interest(&interest, out, used).expect("room")
}
