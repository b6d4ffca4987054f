//! Devices, servers and sessions between them.

use lb_core::Instant;
use lb_core::wire::seal::{
    Cipher, DeviceKey, HELLO_BYTES, Initiator, OVERHEAD_BYTES, OpenError, Seat, Session, Suites,
    WELCOME_BYTES, accept_hello, verify_hello,
};
use std::slice::from_ref;

pub(crate) const CLUSTER: &str = "orchard";

pub(crate) fn key(byte: u8) -> DeviceKey {
    DeviceKey::new(7, &[byte; 32], CLUSTER)
}

/// An initiator with the key, and the first `HELLO` of an attempt.
pub(crate) fn hello<C: Cipher>(key: DeviceKey, random: u8) -> (Initiator<C>, [u8; HELLO_BYTES]) {
    let mut edge = Initiator::new(key, None);
    edge.start(Instant::ZERO, [random; 16]);
    let hello = edge
        .poll_transmit(Instant::ZERO)
        .expect("the first is due at once");
    (edge, hello)
}

/// Both ends of a session with this tag, of an edge with this key.
pub(crate) fn session_with<C: Cipher>(
    key: &DeviceKey,
    tag: u32,
    randoms: [u8; 2],
) -> (Session<C>, Session<C>) {
    let (mut edge, hello) = hello::<C>(key.clone(), randoms[0]);
    let (welcome, pending) =
        accept_hello::<C>(from_ref(key), &hello, tag, &[randoms[1]; 16]).expect("the key is known");
    (
        edge.handle_welcome(&welcome).expect("the answer is right"),
        pending.into_session(),
    )
}

pub(crate) fn session<C: Cipher>() -> (Session<C>, Session<C>) {
    session_with(&key(1), 9, [2, 3])
}

pub(crate) fn seal<C: Suites>(session: &mut Session<C>, payload: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0; payload.len() + OVERHEAD_BYTES];
    let length = session.seal(payload, &mut datagram).expect("there is room");
    assert_eq!(length, datagram.len());
    datagram
}

pub(crate) fn open<C: Cipher>(session: &mut Session<C>, datagram: &[u8]) -> Result<Vec<u8>, OpenError> {
    session.open(&mut datagram.to_vec()).map(<[u8]>::to_vec)
}

/// Everything a session shows of its state.
pub(crate) fn state<C: Cipher>(session: &Session<C>) -> String {
    format!("{session:?}")
}

/// A device and its seat, with an established session; the randoms used so far.
pub(crate) struct Pair {
    pub(crate) seat: Seat,
    pub(crate) edge: Session,
    next: u8,
    pub(crate) recorded: Vec<[u8; HELLO_BYTES]>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let mut seat = Seat::new();
        let (edge, first) = Self::handshake(&mut seat, 1);
        let mut pair = Self {
            seat,
            edge,
            next: 2,
            recorded: vec![first],
        };
        assert_eq!(pair.send(), Ok(true));
        pair
    }

    fn handshake(seat: &mut Seat, random: u8) -> (Session, [u8; HELLO_BYTES]) {
        let (mut edge, sent) = hello(key(1), random);
        let welcome = answer(seat, &sent, random).expect("a new HELLO");
        (edge.handle_welcome(&welcome).expect("the answer is right"), sent)
    }

    /// A new life of the edge.
    pub(crate) fn reboot(&mut self) {
        let (edge, sent) = Self::handshake(&mut self.seat, self.next);
        self.next += 1;
        self.edge = edge;
        self.recorded.push(sent);
    }

    /// A datagram from the edge arrives; whether it established a session.
    pub(crate) fn send(&mut self) -> Result<bool, OpenError> {
        let mut datagram = seal(&mut self.edge, b"up");
        self.seat.open(&mut datagram).map(|opened| opened.established)
    }

    /// A datagram from the server arrives.
    pub(crate) fn receive(&mut self) -> Result<Vec<u8>, OpenError> {
        let datagram = seal(self.seat.session().expect("established"), b"down");
        open(&mut self.edge, &datagram)
    }
}

/// What the seat answers a `HELLO`; tag and random follow from the number.
pub(crate) fn answer(seat: &mut Seat, hello: &[u8], number: u8) -> Option<[u8; WELCOME_BYTES]> {
    let store = [key(1)];
    let hello = verify_hello(&store, hello).expect("made with the key");
    seat.hello(&hello, u32::from(number), &[number; 16])
        .map(|answer| answer.welcome)
}
