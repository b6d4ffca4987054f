//! A driver of the core's edge over a tokio socket.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lb_tokio::core::edge::{Answer, CallError, CallId, CallPoll, Config, Edge, Outgoing, Received, Refusal};
use lb_tokio::core::health::Timers;
use lb_tokio::core::member::{Addr, Filter, Tags};
use lb_tokio::core::wire::seal::{ChaCha20Poly1305, Cipher, DeviceKey};
use lb_tokio::core::{Instant, NodeId};
use tokio::net::UdpSocket;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use crate::support::PATIENCE;

const BUFFER: usize = 1_472;

pub(crate) type CoreEdge<C = ChaCha20Poly1305> = Edge<6, 4, 4, 64, C>;

/// A call's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Answer { server: NodeId, body: Vec<u8> },
    Handler(String),
    Refused(&'static str),
    Failed(CallError),
}

impl End {
    pub(crate) fn body(self) -> Vec<u8> {
        match self {
            Self::Answer { body, .. } => body,
            other => panic!("{other:?}"),
        }
    }
}

struct Pending {
    id: CallId,
    method: String,
    body: Vec<u8>,
    response_max: u16,
    filter: Filter,
    end: Option<oneshot::Sender<End>>,
}

struct Inner<C: Cipher> {
    edge: CoreEdge<C>,
    calls: Vec<Pending>,
    /// How many times each datagram is sent.
    copies: usize,
}

pub(crate) type Device = DeviceWith<ChaCha20Poly1305>;

/// An edge that runs until it is dropped.
pub(crate) struct DeviceWith<C: Cipher> {
    inner: Arc<Mutex<Inner<C>>>,
    kick: Arc<Notify>,
    origin: tokio::time::Instant,
    socket: Arc<UdpSocket>,
    task: JoinHandle<()>,
}

impl<C: Cipher> Drop for DeviceWith<C> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How to start a [`DeviceWith`] some cipher.
pub(crate) struct Options {
    pub(crate) key: DeviceKey,
    pub(crate) older: Option<DeviceKey>,
    pub(crate) tags: &'static str,
    pub(crate) heartbeat: Duration,
    pub(crate) datagram: u16,
    pub(crate) copies: usize,
}

impl Options {
    pub(crate) fn new(key: DeviceKey) -> Self {
        Self {
            key,
            older: None,
            tags: "",
            heartbeat: Duration::from_millis(200),
            datagram: 1_200,
            copies: 1,
        }
    }
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).unwrap();
    bytes
}

impl<C: Cipher + Send + 'static> DeviceWith<C> {
    pub(crate) async fn start(options: Options, seeds: &[SocketAddr]) -> Self {
        let mut config = Config::new(options.key, u32::from_be_bytes(random()))
            .tags(Tags::parse(options.tags).unwrap())
            .timers(Timers::scaled(options.heartbeat.into()).unwrap())
            .datagram(options.datagram);
        if let Some(older) = options.older {
            config = config.older_key(older);
        }
        let mut edge = CoreEdge::<C>::new(Instant::ZERO, config).unwrap();
        for seed in seeds {
            edge.add_seed(Instant::ZERO, Addr::from(*seed)).unwrap();
        }
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let socket = Arc::new(UdpSocket::bind((ip, 0)).await.unwrap());
        let inner = Inner {
            edge,
            calls: Vec::new(),
            copies: options.copies,
        };
        let inner = Arc::new(Mutex::new(inner));
        let kick = Arc::new(Notify::new());
        let origin = tokio::time::Instant::now();
        let task = tokio::spawn(drive(inner.clone(), kick.clone(), socket.clone(), origin));
        Self {
            inner,
            kick,
            origin,
            socket,
            task,
        }
    }

    pub(crate) async fn attached(&self) {
        let all = async {
            while !self.is_attached() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("not attached");
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.with(|edge, _| edge.status().attached)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut CoreEdge<C>, Instant) -> T) -> T {
        let now = now(self.origin);
        let result = look(&mut self.inner.lock().unwrap().edge, now);
        self.kick.notify_one();
        result
    }

    pub(crate) async fn call(&self, method: &str, body: &[u8]) -> End {
        self.call_with(method, body, "", 1_000, PATIENCE).await
    }

    /// Dropped before its end, the call is given up.
    pub(crate) async fn call_with(
        &self,
        method: &str,
        body: &[u8],
        filter: &str,
        response_max: u16,
        budget: Duration,
    ) -> End {
        let (end, ended) = oneshot::channel();
        {
            let mut inner = self.inner.lock().unwrap();
            let id = inner.edge.call(now(self.origin), budget.into(), true).unwrap();
            inner.calls.push(Pending {
                id,
                method: method.to_owned(),
                body: body.to_owned(),
                response_max,
                filter: Filter::parse(filter).unwrap(),
                end: Some(end),
            });
        }
        self.kick.notify_one();
        let kick = OnDrop(self.kick.clone());
        let end = ended.await.expect("the driver runs");
        drop(kick);
        end
    }
}

struct OnDrop(Arc<Notify>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn now(origin: tokio::time::Instant) -> Instant {
    Instant::from_micros(u64::try_from(origin.elapsed().as_micros()).unwrap())
}

async fn drive<C: Cipher>(
    inner: Arc<Mutex<Inner<C>>>,
    kick: Arc<Notify>,
    socket: Arc<UdpSocket>,
    origin: tokio::time::Instant,
) {
    let mut buffer = [0; 2_048];
    loop {
        let (outgoing, until) = inner.lock().unwrap().turn(now(origin));
        for (addr, datagram) in outgoing {
            let _ = socket.send_to(&datagram, addr).await;
        }
        let sleep = async {
            match until {
                Some(at) => {
                    tokio::time::sleep_until(origin + Duration::from_micros(at.as_micros())).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                if let Ok((length, from)) = received {
                    inner.lock().unwrap().received(now(origin), from, &mut buffer[..length]);
                }
            }
            () = sleep => {
                let mut inner = inner.lock().unwrap();
                let now = now(origin);
                if inner.edge.next_deadline().is_some_and(|at| at <= now) {
                    inner.edge.handle_timeout(now, &mut random);
                }
            }
            () = kick.notified() => {}
        }
    }
}

impl<C: Cipher> Inner<C> {
    fn received(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8]) {
        let received = self.edge.handle_datagram(now, Addr::from(from), datagram);
        let Ok(Received::Answer(Answer { call, server, result })) = received else {
            return;
        };
        let end = match result {
            Ok(body) => End::Answer {
                server,
                body: body.to_owned(),
            },
            Err(Refusal::Handler(text)) => End::Handler(String::from_utf8_lossy(text).into_owned()),
            Err(Refusal::UnknownMethod) => End::Refused("unknown method"),
            Err(Refusal::Deadline) => End::Refused("deadline"),
            Err(Refusal::RequestTooLarge { .. }) => End::Refused("request too large"),
            Err(Refusal::ResponseTooLarge { .. }) => End::Refused("response too large"),
            Err(Refusal::Forgotten) => End::Refused("forgotten"),
        };
        self.edge.finish(now, call);
        if let Some(at) = self.calls.iter().position(|pending| pending.id == call) {
            let _ = self.calls.swap_remove(at).end.unwrap().send(end);
        }
    }

    /// What to send, and until when to wait.
    fn turn(&mut self, now: Instant) -> (Vec<(SocketAddr, Vec<u8>)>, Option<Instant>) {
        let mut outgoing = Vec::new();
        let mut buffer = [0; BUFFER];
        let mut send = |addr: Addr, datagram: &[u8]| {
            for _ in 0..self.copies {
                outgoing.push((addr.socket().unwrap(), datagram.to_owned()));
            }
        };
        while let Some(out) = self.edge.poll_transmit(now, &mut buffer) {
            send(out.addr, &buffer[..out.len]);
        }
        let mut until = None;
        let mut kept = Vec::new();
        for mut pending in self.calls.drain(..) {
            if pending.end.as_ref().is_some_and(oneshot::Sender::is_closed) {
                self.edge.finish(now, pending.id);
                continue;
            }
            loop {
                let asked = Outgoing {
                    method: &pending.method,
                    body: &pending.body,
                    response_max: pending.response_max,
                    filter: &pending.filter,
                };
                match self.edge.poll_call(now, pending.id, &asked, &mut buffer) {
                    CallPoll::Transmit(out) => send(out.addr, &buffer[..out.len]),
                    CallPoll::Wait(at) => {
                        until = Some(until.map_or(at, |until: Instant| until.min(at)));
                        kept.push(pending);
                        break;
                    }
                    CallPoll::Failed(error) => {
                        let _ = pending.end.take().unwrap().send(End::Failed(error));
                        break;
                    }
                }
            }
        }
        self.calls = kept;
        // A call given up is to be told.
        while let Some(out) = self.edge.poll_transmit(now, &mut buffer) {
            send(out.addr, &buffer[..out.len]);
        }
        while self.edge.poll_event().is_some() {}
        let deadline = self.edge.next_deadline();
        let until = match (until, deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        (outgoing, until)
    }
}
