//! What arrives.

use core::fmt;

use super::Edge;
use super::call::{CallId, NOBODY};
use super::place::owed;
use crate::NodeId;
use crate::health::Verdict;
use crate::load::LoadReport;
use crate::member::{Addr, Tags};
use crate::wire::seal::{Cipher, Peek, peek};
use crate::wire::{self, Flags, Kind, Listed, Outcome, Response, ToEdge};

/// How long a server that is full is passed over at most, in milliseconds.
const FULL_MAX_MS: u32 = 5_000;

/// What a datagram brought.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Received<'a> {
    /// Something between the edge and its servers; calls may have news of it.
    Control,
    /// The answer to a call: take what is wanted of it, then [`Edge::finish`] the call.
    Answer(Answer<'a>),
}

/// The answer to a call.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Answer<'a> {
    /// Which call.
    pub call: CallId,
    /// Who answered.
    pub server: NodeId,
    /// What it said.
    pub result: Result<&'a [u8], Refusal<'a>>,
}

/// A call was answered, but not with what was hoped for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refusal<'a> {
    /// The handler refused, with this text, which should be UTF-8.
    Handler(&'a [u8]),
    /// The server has no such method.
    UnknownMethod,
    /// The deadline passed on the server. It may have done the work.
    Deadline,
    /// The request is longer than the server takes. It was not executed.
    RequestTooLarge {
        /// The server's limit in bytes.
        limit: u32,
    },
    /// The answer is longer than the caller can take. The work is done.
    ResponseTooLarge {
        /// Its size in bytes.
        size: u32,
    },
    /// The server cannot tell whether it did the work earlier, and the call must not go elsewhere.
    Forgotten,
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handler(text) => f.write_str(core::str::from_utf8(text).unwrap_or("the handler refused")),
            Self::UnknownMethod => f.write_str("the server has no such method"),
            Self::Deadline => f.write_str("the deadline passed on the server"),
            Self::RequestTooLarge { limit } => {
                write!(f, "the server takes requests of {limit} bytes at most")
            }
            Self::ResponseTooLarge { size } => {
                write!(
                    f,
                    "the answer has {size} bytes: give a larger buffer, up to a datagram"
                )
            }
            Self::Forgotten => f.write_str("the server cannot tell whether it did this before"),
        }
    }
}

impl core::error::Error for Refusal<'_> {}

/// A datagram that was dropped in silence; counted. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Dropped {
    /// Not for an edge, or from an address the session is not with.
    Foreign,
    /// A `WELCOME` that does not answer the present `HELLO`.
    Welcome,
    /// Not authentic, or opened before.
    Seal,
    /// Authentic, but nothing this edge understands.
    Frame,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Foreign => "not for this edge",
            Self::Welcome => "not an answer to the present HELLO",
            Self::Seal => "not authentic, or opened before",
            Self::Frame => "not understood",
        })
    }
}

impl core::error::Error for Dropped {}

impl<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C: Cipher>
    Edge<SERVERS, SESSIONS, CALLS, TAGS, C>
{
    /// Takes in a datagram that came from `from`. An answer borrows from the datagram, which is decrypted in place.
    ///
    /// # Errors
    /// [`Dropped`]: counted, to be forgotten. Do not answer, and do not log each one.
    pub fn handle_datagram<'a>(
        &mut self,
        now: crate::Instant,
        from: Addr,
        datagram: &'a mut [u8],
    ) -> Result<Received<'a>, Dropped> {
        self.advance(now);
        let result = self.receive(from, datagram);
        match &result {
            Ok(_) => self.counters.received = self.counters.received.saturating_add(1),
            Err(_) => self.counters.dropped = self.counters.dropped.saturating_add(1),
        }
        self.dirty = true;
        result
    }

    fn receive<'a>(&mut self, from: Addr, datagram: &'a mut [u8]) -> Result<Received<'a>, Dropped> {
        match peek(datagram) {
            Some(Peek::Welcome { .. }) => self.receive_welcome(from, datagram),
            Some(Peek::ToEdge { session }) => {
                let places = &self.places;
                let at = |slot: u8| places.get(usize::from(slot)).map(|place| place.addr);
                let mut links = self.links.iter_mut().flatten();
                let link = links
                    .find(|link| link.session.tag() == session && at(link.slot) == Some(from))
                    .ok_or(Dropped::Foreign)?;
                let slot = link.slot;
                let payload = link.session.open(datagram).map_err(|_| Dropped::Seal)?;
                self.receive_payload(slot, payload)
            }
            _ => Err(Dropped::Foreign),
        }
    }

    fn receive_welcome<'a>(&mut self, from: Addr, bytes: &[u8]) -> Result<Received<'a>, Dropped> {
        let (slot, _) = self.attempt.ok_or(Dropped::Welcome)?;
        if self.place(slot).is_none_or(|place| place.addr != from) {
            return Err(Dropped::Welcome);
        }
        let session = self
            .initiator
            .handle_welcome(bytes)
            .map_err(|_| Dropped::Welcome)?;
        self.attempt = None;
        self.attach(slot, session);
        Ok(Received::Control)
    }

    fn receive_payload<'a>(&mut self, slot: u8, payload: &'a [u8]) -> Result<Received<'a>, Dropped> {
        match wire::to_edge(payload).map_err(|_| Dropped::Frame)? {
            ToEdge::Message(bytes) => {
                self.receive_message(slot, bytes)?;
                Ok(Received::Control)
            }
            ToEdge::Response(response) => {
                self.heard(slot);
                let received = self.receive_response(slot, &response);
                // The call is over first: its server does not count it any more either.
                self.note_load(slot, &response.load);
                Ok(received)
            }
            ToEdge::Working { call } => {
                self.heard(slot);
                self.note_working(slot, call);
                Ok(Received::Control)
            }
        }
    }

    fn receive_message(&mut self, slot: u8, bytes: &[u8]) -> Result<(), Dropped> {
        let head = wire::head(bytes).map_err(|_| Dropped::Frame)?;
        let (header, kind) = (head.header, head.kind);
        let (now, heartbeat) = (self.now, self.timers.heartbeat());
        if !matches!(kind, Kind::HeartbeatAck | Kind::Leave) {
            return Err(Dropped::Frame);
        }
        self.heard(slot);
        // Who it is, is known for sure only now. Where else it was thought to be, it is not.
        for (other, place) in (0_u8..).zip(&mut self.places) {
            if other != slot && place.is(header.from) {
                place.known = false;
                place.listed_until = now;
            }
        }
        let leaves = kind == Kind::Leave;
        if let Some(place) = self.place_mut(slot) {
            place.set_id(header.from);
            // Its session is new: what it says of itself is true even if its epoch went back.
            if place.load.epoch() > header.epoch {
                place.load.clear();
            }
            place.draining = leaves || header.flags.has(Flags::DRAINING);
            if leaves {
                place.detector.doubt();
                place.not_before = now.saturating_add(heartbeat);
            }
        }
        self.note_load(slot, &head.load);
        if leaves {
            self.drop_link(slot);
            self.urge();
            return Ok(());
        }
        self.note_ack(slot, header.flags.has(Flags::WANT_META));
        if let Some(servers) = wire::servers_in(head.rest) {
            for entry in servers {
                self.hear_of(&entry);
            }
        }
        Ok(())
    }

    pub(super) fn heard(&mut self, slot: u8) {
        let now = self.now;
        if let Some(place) = self.place_mut(slot) {
            place.detector.heard(now);
        }
        let postponed = now.saturating_add(self.timers.heartbeat());
        if let Some(link) = self.link_mut(slot) {
            link.last_heard = now;
            link.unanswered = 0;
            // Answers to calls are as good as acknowledgements, but for what only a home tells.
            if link.joined && !link.home {
                link.next_heartbeat = link.next_heartbeat.max(postponed);
            }
        }
    }

    fn note_load(&mut self, slot: u8, load: &LoadReport) {
        let now = self.now;
        if let Some(place) = self.place_mut(slot) {
            place.load.record(now, load);
        }
    }

    /// The answer to a heartbeat or a `Join`.
    fn note_ack(&mut self, slot: u8, wants_join: bool) {
        let (now, heartbeat, phase) = (self.now, self.timers.heartbeat(), self.phase());
        let Some(link) = self.link_mut(slot) else { return };
        let asked = link.asked.take();
        let first = !link.joined && !wants_join;
        link.joined = !wants_join;
        if wants_join {
            link.owes |= owed::JOIN;
        }
        link.next_heartbeat = if first {
            // A phase of its own, so that edges that started together do not beat in step.
            now.saturating_add(crate::Duration::from_micros(
                (heartbeat.as_micros() >> 1).saturating_add(phase.as_micros() >> 1),
            ))
        } else {
            link.next_heartbeat.max(now.saturating_add(heartbeat))
        };
        if let Some(asked) = asked
            && let Some(place) = self.place_mut(slot)
        {
            place.rtt.sample(now.since(asked));
        }
    }

    /// A server that another one recommends.
    fn hear_of(&mut self, entry: &Listed<'_>) {
        if entry.addr == Addr::NONE {
            return;
        }
        let known = self.slot_of(entry.id).or_else(|| self.slot_at(entry.addr));
        let Some(slot) = known.or_else(|| self.insert(entry.addr)) else {
            return;
        };
        let linked = self.link(slot).is_some();
        let (now, timers) = (self.now, self.timers);
        let listed_until = now.saturating_add(timers.stale());
        let Some(place) = self.place_mut(slot) else { return };
        place.listed_until = listed_until;
        place.tags = Tags::received(entry.tags);
        if !linked {
            // Where it is and whether it drains, a session tells better.
            place.set_id(entry.id);
            place.draining = false;
            if !place.seed {
                place.addr = entry.addr;
            }
        }
        let newer = place.load.record(now, &entry.load);
        // Others hear from it again: without this, it would not be tried while there are homes enough.
        if newer && !linked && place.detector.verdict(now, &timers) == Verdict::Failed {
            place.rest(now, &timers);
        }
    }

    fn receive_response<'a>(&mut self, slot: u8, response: &Response<'a>) -> Received<'a> {
        let Some((call, asked_now)) = self.call_asked(response.call, slot) else {
            return Received::Control;
        };
        // A server asked earlier may answer late: as good as any, and the other one is told.
        if asked_now {
            self.sample_call(call);
        }
        let now = self.now;
        let refusal = match response.outcome {
            Outcome::Overloaded { retry_after_ms } => {
                let pause = crate::Duration::from_millis(u64::from(retry_after_ms.min(FULL_MAX_MS)));
                if let Some(place) = self.place_mut(slot) {
                    place.not_before = now.saturating_add(pause);
                }
                self.elsewhere(call, slot);
                return Received::Control;
            }
            Outcome::Leaving => {
                if let Some(place) = self.place_mut(slot) {
                    place.draining = true;
                }
                self.elsewhere(call, slot);
                return Received::Control;
            }
            Outcome::Forgotten if self.note_forgotten(call) => {
                self.elsewhere(call, slot);
                return Received::Control;
            }
            Outcome::Ok => None,
            Outcome::Handler => Some(Refusal::Handler(response.body)),
            Outcome::UnknownMethod => Some(Refusal::UnknownMethod),
            Outcome::Deadline => Some(Refusal::Deadline),
            Outcome::RequestTooLarge { limit } => Some(Refusal::RequestTooLarge { limit }),
            Outcome::ResponseTooLarge { size } => Some(Refusal::ResponseTooLarge { size }),
            Outcome::Forgotten => Some(Refusal::Forgotten),
        };
        self.answered(call, slot);
        let server = self.place(slot).and_then(super::place::Place::id);
        Received::Answer(Answer {
            call: CallId::numbered(response.call),
            server: server.unwrap_or(NOBODY),
            result: refusal.map_or(Ok(response.body), Err),
        })
    }
}
