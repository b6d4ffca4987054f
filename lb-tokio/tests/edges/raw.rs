//! An edge made by hand: it says what it wants, when it wants, from where it wants.

use std::net::SocketAddr;
use std::time::Duration;

use lb_tokio::NodeId;
use lb_tokio::core::Instant;
use lb_tokio::core::load::LoadReport;
use lb_tokio::core::member::Addr;
use lb_tokio::core::wire::seal::{
    ChaCha20Poly1305, Cipher, DeviceKey, HELLO_BYTES, Initiator, OVERHEAD_BYTES, Session,
};
use lb_tokio::core::wire::{
    self, Body, Flags, Header, Interest, MESSAGE_BYTES_MAX, Message, Request, ToEdge,
};
use tokio::net::UdpSocket;

use super::driver::random;
use crate::support::PATIENCE;

/// Long enough for an answer on loopback to have come.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

pub(crate) type Raw = RawWith<ChaCha20Poly1305>;

pub(crate) struct RawWith<C: Cipher> {
    pub(crate) socket: UdpSocket,
    pub(crate) server: SocketAddr,
    pub(crate) id: u32,
    pub(crate) session: Session<C>,
}

pub(crate) async fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").await.unwrap()
}

pub(crate) fn hello<C: Cipher>(key: &DeviceKey) -> (Initiator<C>, [u8; HELLO_BYTES]) {
    let mut initiator = Initiator::new(key.clone(), None);
    initiator.start(Instant::ZERO, random());
    let hello = initiator.poll_transmit(Instant::ZERO).unwrap();
    (initiator, hello)
}

/// What comes next, if anything comes.
pub(crate) async fn heard(socket: &UdpSocket, within: Duration) -> Option<Vec<u8>> {
    let mut buffer = [0; 2_048];
    let received = tokio::time::timeout(within, socket.recv_from(&mut buffer))
        .await
        .ok()?;
    let (length, _) = received.unwrap();
    Some(buffer[..length].to_vec())
}

impl<C: Cipher> RawWith<C> {
    /// Has a session, of which the server knows nothing for sure yet.
    pub(crate) async fn shake_hands(key: &DeviceKey, server: SocketAddr) -> Option<Self> {
        let socket = socket().await;
        let (mut initiator, hello) = hello(key);
        for _ in 0..5 {
            socket.send_to(&hello, server).await.unwrap();
            if let Some(welcome) = heard(&socket, SILENCE * 2).await {
                let session = initiator.handle_welcome(&welcome).unwrap();
                let id = key.id();
                return Some(Self {
                    socket,
                    server,
                    id,
                    session,
                });
            }
        }
        None
    }

    /// Has joined.
    pub(crate) async fn join(key: &DeviceKey, server: SocketAddr) -> Self {
        let mut raw = Self::shake_hands(key, server).await.expect("welcome");
        let join = raw.message(Body::Join {
            addr: Addr::NONE,
            tags: "zone=here",
        });
        raw.send(&join).await;
        let ack = raw.payload().await.expect("acknowledged");
        assert!(matches!(wire::decode(&ack).unwrap().body, Body::HeartbeatAck));
        raw
    }

    pub(crate) fn message(&self, body: Body<'_>) -> Vec<u8> {
        message(self.id, body)
    }

    pub(crate) fn request(&self, life: u32, call: u32, method: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = [0; 1_472];
        let request = Request {
            life,
            call,
            budget_ms: 20_000,
            response_max: 1_000,
            method,
            body,
        };
        let used = request.encode(&mut bytes).unwrap();
        bytes[..used].to_vec()
    }

    pub(crate) fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; payload.len() + OVERHEAD_BYTES];
        self.session.seal(payload, &mut datagram).unwrap();
        datagram
    }

    pub(crate) async fn send(&mut self, payload: &[u8]) {
        let datagram = self.seal(payload);
        self.socket.send_to(&datagram, self.server).await.unwrap();
    }

    /// The next payload of the server.
    pub(crate) async fn payload(&mut self) -> Option<Vec<u8>> {
        let mut datagram = heard(&self.socket, PATIENCE).await?;
        Some(self.session.open(&mut datagram).expect("authentic").to_vec())
    }

    pub(crate) async fn is_silent(&self) -> bool {
        heard(&self.socket, SILENCE).await.is_none()
    }

    /// Whether the session is alive: a heartbeat is acknowledged.
    pub(crate) async fn beats(&mut self) -> bool {
        let heartbeat = self.message(Body::Heartbeat);
        for _ in 0..3 {
            self.send(&heartbeat).await;
            if let Some(mut datagram) = heard(&self.socket, SILENCE * 2).await {
                return self.session.open(&mut datagram).is_ok();
            }
        }
        false
    }
}

pub(crate) fn message(from: u32, body: Body<'_>) -> Vec<u8> {
    let joins = matches!(body, Body::Join { .. });
    let header = Header {
        from: NodeId::new(from),
        epoch: 1,
        known_epoch: 0,
        meta: 1,
        flags: Flags::OBSERVER,
        view: 0,
        claim: None,
    };
    let load = LoadReport::default();
    let mut bytes = [0; MESSAGE_BYTES_MAX];
    let mut used = wire::encode(&Message { header, load, body }, &mut bytes).unwrap();
    if joins {
        let interest = Interest {
            places: 4,
            tag_bytes: 64,
            datagram: 1_200,
        };
        used = wire::append_interest(&interest, &mut bytes, used).unwrap();
    }
    bytes[..used].to_vec()
}

/// The response in a payload.
pub(crate) fn response(payload: &[u8]) -> wire::Response<'_> {
    match wire::to_edge(payload).unwrap() {
        ToEdge::Response(response) => response,
        other => panic!("{other:?}"),
    }
}
