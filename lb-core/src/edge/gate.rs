//! The other side: a microcontroller that serves edges, so that they need no server at all.

use core::fmt;

use heapless::Vec;

use super::served::{Admit, Served};
use super::transmit::Transmit;
use crate::NodeId;
use crate::health::Timers;
use crate::load::{Finished, LoadMeter};
use crate::member::Addr;
use crate::time::{Duration, Instant};
use crate::wire::seal::{
    ChaCha20Poly1305, Cipher, HEADER_BYTES, KeyStore, OVERHEAD_BYTES, Peek, RANDOM_BYTES, Seat, peek,
    verify_hello,
};
use crate::wire::{self, Body, EncodeError, Flags, FromEdge, Header, Kind, Message, Outcome, Response};

/// Fresh bytes of a good source: once for each new handshake.
pub type Random<'a> = &'a mut dyn FnMut() -> [u8; RANDOM_BYTES];

/// A server for at most `GUESTS` edges, with the last `CALLS` calls of each remembered and `RESPONSE` bytes of each
/// response. Sans-I/O.
///
/// The driver hands every datagram that is for a server to [`Gate::handle_datagram`] (see [`Gate::is_for`]), serves what
/// comes out as [`Heard::Request`], and gives the answer to [`Gate::respond`], at once or later.
///
/// A guest that was silent for the `failed` time-out makes room for another; when all are there, newcomers are dropped
/// in silence. A response longer than `RESPONSE` is sent, but not kept: asked for again it is
/// [`Outcome::Forgotten`]. A guest takes about 360 bytes and `CALLS x RESPONSE`.
pub struct Gate<const GUESTS: usize, const CALLS: usize, const RESPONSE: usize, C: Cipher = ChaCha20Poly1305>
{
    id: NodeId,
    timers: Timers,
    draining: bool,
    meter: LoadMeter,
    epoch: u32,
    capacity: u16,
    guests: Vec<Guest<CALLS, RESPONSE, C>, GUESTS>,
    counters: GateCounters,
}

struct Guest<const CALLS: usize, const RESPONSE: usize, C: Cipher> {
    key_id: u32,
    addr: Addr,
    epoch: u32,
    heard: Instant,
    seat: Seat<C, 1>,
    served: Served<Vec<u8, RESPONSE>, CALLS>,
}

/// What a datagram brought.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Heard<'a> {
    /// Nothing to do.
    Nothing,
    /// Send the first bytes of the buffer.
    Reply(Transmit),
    /// Serve this and call [`Gate::respond`].
    Request(Work<'a>),
    /// A request that was handed out is not wanted any more. It is still to be given back with [`Gate::respond`], which
    /// then sends nothing.
    Cancelled(WorkId),
}

/// A request to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Work<'a> {
    /// Which request this is.
    pub id: WorkId,
    /// Who asks: the id of its key.
    pub from: NodeId,
    /// What is asked.
    pub method: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// How long the caller waits.
    pub budget: Duration,
    /// The longest answer the caller takes, in bytes.
    pub response_max: u16,
}

/// A request that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WorkId {
    key_id: u32,
    life: u32,
    call: u32,
    response_max: u16,
}

/// Counts since the start; they saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct GateCounters {
    /// Datagrams taken in.
    pub received: u32,
    /// Datagrams dropped in silence.
    pub dropped: u32,
    /// Sessions established.
    pub sessions: u32,
    /// Requests handed out.
    pub requests: u32,
    /// Requests that came again and were not executed again.
    pub repeated: u32,
}

/// A datagram that was dropped in silence; counted. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Unwelcome;

impl fmt::Display for Unwelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not authentic, repeated, or without room")
    }
}

impl core::error::Error for Unwelcome {}

impl<const GUESTS: usize, const CALLS: usize, const RESPONSE: usize, C: Cipher>
    Gate<GUESTS, CALLS, RESPONSE, C>
{
    /// A server that nobody uses yet: who it is, in which life, and how many requests it says it serves at once.
    #[must_use]
    pub fn new(id: NodeId, epoch: u32, capacity: u16, timers: Timers) -> Self {
        Self {
            id,
            timers,
            draining: false,
            meter: LoadMeter::new(epoch, capacity),
            epoch,
            capacity,
            guests: Vec::new(),
            counters: GateCounters::default(),
        }
    }

    /// Whether a datagram is for a server, rather than for an edge.
    #[must_use]
    pub fn is_for(datagram: &[u8]) -> bool {
        matches!(peek(datagram), Some(Peek::Hello { .. } | Peek::ToServer { .. }))
    }

    /// Asks for no new requests, or for requests again; guests learn it from what is sent to them next.
    pub const fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub const fn counters(&self) -> &GateCounters {
        &self.counters
    }

    /// How many guests there are, gone ones included until somebody needs their place.
    #[must_use]
    pub fn guests(&self) -> usize {
        self.guests.len()
    }

    /// Takes in a datagram that came from `from`; it is decrypted in place. `out` gets the reply, if there is one.
    ///
    /// # Errors
    /// [`Unwelcome`]: counted, to be forgotten. Do not answer.
    pub fn handle_datagram<'a>(
        &mut self,
        now: Instant,
        from: Addr,
        datagram: &'a mut [u8],
        keys: &dyn KeyStore,
        random: Random<'_>,
        out: &mut [u8],
    ) -> Result<Heard<'a>, Unwelcome> {
        let heard = match peek(datagram) {
            Some(Peek::Hello { .. }) => self.welcome(now, from, datagram, keys, random, out),
            Some(Peek::ToServer { session }) => self.open(now, from, session, datagram, out),
            _ => None,
        };
        let counters = &mut self.counters;
        let counter = match heard {
            Some(_) => &mut counters.received,
            None => &mut counters.dropped,
        };
        *counter = counter.saturating_add(1);
        heard.ok_or(Unwelcome)
    }

    /// Answers a request, each one that was handed out once; what is to be sent is in `out`. A body that its caller cannot
    /// take or that `out` has no room for becomes [`Outcome::ResponseTooLarge`]. `None` when its caller gave it up or is
    /// gone.
    pub fn respond(
        &mut self,
        now: Instant,
        work: WorkId,
        outcome: Outcome,
        body: &[u8],
        took: Duration,
        out: &mut [u8],
    ) -> Option<Transmit> {
        let finished = match outcome {
            Outcome::Handler | Outcome::Deadline => Finished::Failed,
            _ => Finished::Answered(took),
        };
        // Not what it found when it came, which nobody keeps: a few calls at most.
        let present = self.meter.present();
        self.meter.finish(now, present, finished);
        let load = self.meter.report(now);
        let guest = self.guests.iter_mut().find(|guest| guest.key_id == work.key_id)?;
        let room = out.len().saturating_sub(OVERHEAD_BYTES);
        let behind = out.get_mut(HEADER_BYTES..).unwrap_or_default();
        let payload = behind.get_mut(..room).unwrap_or_default();
        let mut write = |outcome, body: &[u8]| {
            let call = work.call;
            let response = Response {
                call,
                outcome,
                load,
                body,
            };
            let length = response.encode(payload).ok()?;
            Some((outcome, length, Vec::from_slice(payload.get(..length)?)))
        };
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let fits = body.len() <= usize::from(work.response_max);
        let written = fits.then(|| write(outcome, body)).flatten();
        let written = written.or_else(|| write(Outcome::ResponseTooLarge { size }, &[]));
        let Some((outcome, length, kept)) = written else {
            guest.served.abandon(work.life, work.call);
            return None;
        };
        let wanted = match (outcome, kept) {
            // It was not executed, so it may come again.
            (Outcome::Overloaded { .. } | Outcome::Leaving, _) => guest.served.refuse(work.life, work.call),
            (_, Ok(kept)) => guest.served.answer(work.life, work.call, kept),
            (_, Err(_)) => guest.served.abandon(work.life, work.call),
        };
        if !wanted {
            return None;
        }
        guest.seal(length, out)
    }

    fn welcome<'a>(
        &mut self,
        now: Instant,
        from: Addr,
        datagram: &[u8],
        keys: &dyn KeyStore,
        random: Random<'_>,
        out: &mut [u8],
    ) -> Option<Heard<'a>> {
        let hello = verify_hello::<C>(keys, datagram).ok()?;
        let known = self
            .guests
            .iter()
            .position(|guest| guest.key_id == hello.key_id());
        let index = match known {
            Some(index) => index,
            None => self.make_room(now, from, hello.key_id())?,
        };
        let server_random = random();
        let [a, b, c, d, ..] = random();
        let tag = u32::from_be_bytes([a, b, c, d]);
        if self.guests.iter().any(|guest| guest.has(tag)) {
            return None;
        }
        let answer = self
            .guests
            .get_mut(index)?
            .seat
            .hello(&hello, tag, &server_random)?;
        let len = answer.welcome.len();
        out.get_mut(..len)?.copy_from_slice(&answer.welcome);
        Some(Heard::Reply(Transmit { addr: from, len }))
    }

    fn make_room(&mut self, now: Instant, addr: Addr, key_id: u32) -> Option<usize> {
        if self.guests.is_full() {
            let gone = |guest: &Guest<CALLS, RESPONSE, C>| now.since(guest.heard) > self.timers.failed();
            let index = self.guests.iter().position(gone)?;
            self.guests.swap_remove(index);
        }
        let guest = Guest {
            key_id,
            addr,
            epoch: 0,
            heard: now,
            seat: Seat::new(),
            served: Served::new(),
        };
        self.guests.push(guest).ok()?;
        self.guests.len().checked_sub(1)
    }

    fn open<'a>(
        &mut self,
        now: Instant,
        from: Addr,
        session: u32,
        datagram: &'a mut [u8],
        out: &mut [u8],
    ) -> Option<Heard<'a>> {
        let index = self.guests.iter().position(|guest| guest.has(session))?;
        let guest = self.guests.get_mut(index)?;
        let opened = guest.seat.open(datagram).ok()?;
        if opened.established {
            self.counters.sessions = self.counters.sessions.saturating_add(1);
        }
        guest.heard = now;
        guest.addr = from;
        let key_id = guest.key_id;
        match wire::from_edge(opened.payload).ok()? {
            FromEdge::Message(bytes) => self.message(now, index, bytes, out),
            FromEdge::Request(request) => {
                let id = WorkId {
                    key_id,
                    life: request.life,
                    call: request.call,
                    response_max: request.response_max,
                };
                let work = Work {
                    id,
                    from: NodeId::new(key_id),
                    method: request.method,
                    body: request.body,
                    budget: Duration::from_millis(request.budget_ms.into()),
                    response_max: request.response_max,
                };
                self.request(now, index, work, out)
            }
            FromEdge::Cancel { life, call } => {
                let response_max = 0;
                let id = WorkId {
                    key_id,
                    life,
                    call,
                    response_max,
                };
                if !guest.served.abandon(life, call) {
                    return Some(Heard::Nothing);
                }
                Some(Heard::Cancelled(id))
            }
        }
    }

    fn message<'a>(&mut self, now: Instant, index: usize, bytes: &[u8], out: &mut [u8]) -> Option<Heard<'a>> {
        let head = wire::head(bytes).ok()?;
        let guest = self.guests.get_mut(index)?;
        if head.header.from != NodeId::new(guest.key_id) {
            return None;
        }
        guest.epoch = head.header.epoch;
        if head.kind == Kind::Leave {
            self.guests.swap_remove(index);
            return Some(Heard::Nothing);
        }
        let ack = Message {
            header: Header {
                from: self.id,
                epoch: self.epoch,
                known_epoch: guest.epoch,
                meta: 1,
                flags: Flags::default().with(Flags::DRAINING, self.draining),
                view: 0,
                claim: None,
            },
            load: self.meter.report(now),
            body: Body::HeartbeatAck,
        };
        guest.send(out, |payload| wire::encode(&ack, payload))
    }

    fn request<'a>(
        &mut self,
        now: Instant,
        index: usize,
        work: Work<'a>,
        out: &mut [u8],
    ) -> Option<Heard<'a>> {
        let load = self.meter.report(now);
        let full = self.meter.in_flight() >= self.capacity.max(1);
        let guest = self.guests.get_mut(index)?;
        let WorkId { life, call, .. } = work.id;
        let refuse = |outcome| Response {
            call,
            outcome,
            load,
            body: &[],
        };
        let busy = Outcome::Overloaded { retry_after_ms: 20 };
        let admitted = guest.served.request(life, call);
        if admitted != Admit::New {
            self.counters.repeated = self.counters.repeated.saturating_add(1);
        }
        match admitted {
            Admit::New if full || self.draining => {
                // It may come again when there is a place.
                guest.served.refuse(life, call);
                let outcome = if self.draining { Outcome::Leaving } else { busy };
                guest.send(out, |payload| refuse(outcome).encode(payload))
            }
            Admit::New => {
                let _ = self.meter.begin(now);
                self.counters.requests = self.counters.requests.saturating_add(1);
                Some(Heard::Request(work))
            }
            Admit::Running => guest.send(out, |payload| wire::encode_working(call, payload)),
            Admit::Replay(kept) => {
                let length = kept.len();
                out.get_mut(HEADER_BYTES..)?
                    .get_mut(..length)?
                    .copy_from_slice(kept);
                guest.seal(length, out).map(Heard::Reply)
            }
            Admit::Forgotten => guest.send(out, |payload| refuse(Outcome::Forgotten).encode(payload)),
            Admit::Busy => guest.send(out, |payload| refuse(busy).encode(payload)),
        }
    }
}

impl<const CALLS: usize, const RESPONSE: usize, C: Cipher> Guest<CALLS, RESPONSE, C> {
    fn has(&self, tag: u32) -> bool {
        self.seat.tags().any(|known| known == tag)
    }

    fn send<'a>(
        &mut self,
        out: &mut [u8],
        write: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
    ) -> Option<Heard<'a>> {
        let length = write(out.get_mut(HEADER_BYTES..)?).ok()?;
        self.seal(length, out).map(Heard::Reply)
    }

    fn seal(&mut self, length: usize, out: &mut [u8]) -> Option<Transmit> {
        let len = self.seat.session()?.seal_in_place(length, out).ok()?;
        Some(Transmit { addr: self.addr, len })
    }
}

impl<const GUESTS: usize, const CALLS: usize, const RESPONSE: usize, C: Cipher> fmt::Debug
    for Gate<GUESTS, CALLS, RESPONSE, C>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("id", &self.id)
            .field("guests", &self.guests.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
