//! What happened to every datagram, folded into one number.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// What became of a datagram at one point of its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Fate {
    /// Accepted from a sender and put on its way.
    Forwarded,
    /// Lost by chance.
    Lost,
    /// Stopped by a partition or a cut.
    Cut,
    /// Longer than the network carries.
    TooLong,
    /// A second copy was put on its way.
    Duplicated,
    /// Put into the receiver's queue.
    Delivered,
    /// Nobody was bound to the destination when it arrived.
    Unbound,
    /// The receiver's queue was full.
    Overflowed,
}

impl Fate {
    const COUNT: usize = Self::Overflowed as usize + 1;
}

/// One line of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Virtual time since the net was made.
    pub at: Duration,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub len: usize,
    pub fate: Fate,
}

/// FNV-1a over all events, and how many there were of each kind.
#[derive(Debug)]
pub(super) struct Trace {
    hash: u64,
    packets: u64,
    counts: [u64; Fate::COUNT],
    events: Option<Vec<Event>>,
}

impl Trace {
    pub(super) const fn new() -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            packets: 0,
            counts: [0; Fate::COUNT],
            events: None,
        }
    }

    pub(super) const fn summary(&self) -> (u64, u64) {
        (self.hash, self.packets)
    }

    pub(super) const fn count(&self, fate: Fate) -> u64 {
        self.counts[fate as usize]
    }

    pub(super) fn keep_events(&mut self) {
        self.events.get_or_insert_default();
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.events.clone().unwrap_or_default()
    }

    pub(super) fn record(&mut self, event: Event) {
        self.eat(&(event.at.as_nanos() as u64).to_le_bytes());
        self.eat_addr(event.src);
        self.eat_addr(event.dst);
        self.eat(&(event.len as u64).to_le_bytes());
        self.eat(&[event.fate as u8]);
        self.counts[event.fate as usize] += 1;
        if matches!(
            event.fate,
            Fate::Forwarded | Fate::Lost | Fate::Cut | Fate::TooLong
        ) {
            self.packets += 1;
        }
        if let Some(events) = &mut self.events {
            events.push(event);
        }
    }

    fn eat_addr(&mut self, addr: SocketAddr) {
        match addr.ip() {
            IpAddr::V4(ip) => self.eat(&ip.octets()),
            IpAddr::V6(ip) => self.eat(&ip.octets()),
        }
        self.eat(&addr.port().to_le_bytes());
    }

    fn eat(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
