//! Calls: one request, one answer, from whichever server gives it in time.

use core::fmt;

use super::attach::UNANSWERED_MAX;
use super::select::{Choice, PickError};
use super::transmit::{Transmit, payload};
use super::{Edge, place::owed};
use crate::NodeId;
use crate::member::Filter;
use crate::time::{Duration, Instant};
use crate::wire::seal::{Cipher, OVERHEAD_BYTES};
use crate::wire::{METHOD_BYTES_MAX, REQUEST_OVERHEAD, Request};

/// Most calls an edge can have at once.
pub const CALLS_MAX: usize = 32;

/// How often a server is asked, without a sound from it, before another one is.
const TRIES: u8 = 3;

/// How long to wait before a server that said it is working is asked again.
const WORKING_PAUSE: Duration = Duration::from_secs(1);

/// A server is not asked again sooner, however near the deadline is.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// The pause before servers that were tried already are asked again, when there is no other.
const AGAIN_PAUSE: Duration = Duration::from_millis(50);

/// Who answered, when it did not say so yet.
pub(super) const NOBODY: NodeId = NodeId::new(0);

/// A call in flight. Give it back with [`Edge::finish`], however it ended, unless [`CallPoll::Failed`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CallId {
    number: u32,
}

impl CallId {
    pub(super) const fn numbered(number: u32) -> Self {
        Self { number }
    }
}

/// What is asked: the driver keeps it, and shows it again with each [`Edge::poll_call`].
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The method, 1 to [`METHOD_BYTES_MAX`] bytes.
    pub method: &'a str,
    /// The request.
    pub body: &'a [u8],
    /// The longest answer that can be taken, in bytes.
    pub response_max: u16,
    /// Which servers may be asked.
    pub filter: &'a Filter,
}

/// What to do for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CallPoll {
    /// Send the datagram in the buffer, then poll again.
    Transmit(Transmit),
    /// Nothing until then, or until the next input of the edge.
    Wait(Instant),
    /// The call is over and given back.
    Failed(CallError),
}

/// A call that got no answer. It is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CallError {
    /// The deadline passed. A server may or may not have done the work.
    Deadline,
    /// The deadline passed before a server could be asked: nothing was sent. Says what was missing last.
    NoServer(PickError),
    /// The request is longer than a datagram takes; nothing was sent.
    TooLong {
        /// The longest body for this method, in bytes.
        limit: usize,
    },
    /// A method has 1 to [`METHOD_BYTES_MAX`] bytes; nothing was sent.
    Method,
    /// A server cannot tell whether it did this before, and there is no other one to ask.
    Forgotten,
    /// There is no such call, or it was answered.
    Over,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("no answer within the deadline"),
            Self::NoServer(reason) => write!(f, "no server within the deadline: {reason}"),
            Self::TooLong { limit } => write!(f, "the request is longer than {limit} bytes: split it"),
            Self::Method => write!(f, "a method has 1 to {METHOD_BYTES_MAX} bytes"),
            Self::Forgotten => {
                f.write_str("a server cannot tell whether it did this before, and there is no other")
            }
            Self::Over => f.write_str("this call is over"),
        }
    }
}

impl core::error::Error for CallError {}

/// As many calls as there is room for are in flight. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct CallsFull;

impl fmt::Display for CallsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many calls at once: wait for one, or use a larger CALLS")
    }
}

impl core::error::Error for CallsFull {}

/// A call, or room for one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    number: u32,
    fail_over: bool,
    /// A server said that it cannot do it any more.
    forgotten: bool,
    /// Bit by place: may have heard of it, and may answer.
    asked: u32,
    /// Bit by place: asked in vain.
    tried: u32,
    candidates: u8,
    deadline: Instant,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Free,
    Choosing {
        not_before: Instant,
    },
    Asking {
        slot: u8,
        /// Since the last sound of it.
        tries: u8,
        due: Instant,
        /// When it was sent, while it was sent once and nothing came back.
        once: Option<Instant>,
    },
    Answered {
        slot: u8,
    },
    Cancelled {
        slot: u8,
    },
}

/// Of a place. There are at most 32.
const fn bit(slot: u8) -> u32 {
    1_u32.wrapping_shl(slot as u32)
}

impl Call {
    pub(super) const FREE: Self = Self {
        number: 0,
        fail_over: true,
        forgotten: false,
        asked: 0,
        tried: 0,
        candidates: 0,
        deadline: Instant::ZERO,
        state: State::Free,
    };

    const fn slot(&self) -> Option<u8> {
        match self.state {
            State::Asking { slot, .. } => Some(slot),
            _ => None,
        }
    }

    /// A server may have heard of it.
    const fn is_sent(&self) -> bool {
        self.asked != 0
    }

    /// Whether it is not over, and the server in this place may answer it.
    pub(super) const fn may_hear(&self, slot: u8) -> bool {
        matches!(self.state, State::Choosing { .. } | State::Asking { .. }) && self.asked & bit(slot) != 0
    }

    pub(super) fn waits_for(&self, slot: u8) -> bool {
        self.slot() == Some(slot)
    }

    pub(super) fn take_cancelled(&mut self) -> Option<(u8, u32)> {
        let State::Cancelled { slot } = self.state else {
            return None;
        };
        self.state = State::Free;
        Some((slot, self.number))
    }
}

impl<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C: Cipher>
    Edge<SERVERS, SESSIONS, CALLS, TAGS, C>
{
    /// Begins a call that is over after `budget` at the latest. With `fail_over`, a server that falls silent is given up
    /// for another one, which may do the work a second time; without, only a server that certainly did not do it is.
    ///
    /// # Errors
    /// [`CallsFull`].
    pub fn call(&mut self, now: Instant, budget: Duration, fail_over: bool) -> Result<CallId, CallsFull> {
        self.advance(now);
        let (now, number) = (self.now, self.next_call);
        let mut calls = self.calls.iter_mut();
        let call = calls
            .find(|call| matches!(call.state, State::Free))
            .ok_or(CallsFull)?;
        *call = Call {
            number,
            fail_over,
            deadline: now.saturating_add(budget),
            state: State::Choosing { not_before: now },
            ..Call::FREE
        };
        self.next_call = number.checked_add(1).unwrap_or(1);
        self.counters.calls = self.counters.calls.saturating_add(1);
        Ok(CallId::numbered(number))
    }

    /// Brings a call forward: chooses a server, sends the request, sends it again, moves on. The same `outgoing` is to be
    /// shown each time. `buffer` as for [`Edge::poll_transmit`].
    pub fn poll_call(
        &mut self,
        now: Instant,
        id: CallId,
        outgoing: &Outgoing<'_>,
        buffer: &mut [u8],
    ) -> CallPoll {
        self.advance(now);
        let Some(index) = self.index_of(id.number) else {
            return CallPoll::Failed(CallError::Over);
        };
        if let Err(error) = self.check(outgoing, buffer.len()) {
            self.release(index);
            return CallPoll::Failed(error);
        }
        // Each turn asks, waits, fails, or tries another place.
        for _ in 0..=SERVERS {
            let Some(call) = self.calls.get(index).copied() else {
                break;
            };
            let poll = match call.state {
                State::Choosing { not_before } => {
                    self.choose_server(index, &call, not_before, outgoing.filter)
                }
                State::Asking { slot, tries, due, .. } => {
                    self.ask(index, &call, slot, (tries, due), outgoing, buffer)
                }
                State::Answered { .. } => Some(CallPoll::Wait(call.deadline)),
                State::Free | State::Cancelled { .. } => Some(CallPoll::Failed(CallError::Over)),
            };
            if let Some(poll) = poll {
                return poll;
            }
        }
        CallPoll::Wait(self.now.saturating_add(AGAIN_PAUSE))
    }

    /// The call is over for its caller: answered, or given up; then its server is told. Frees its place.
    pub fn finish(&mut self, now: Instant, id: CallId) {
        self.advance(now);
        if let Some(index) = self.index_of(id.number) {
            let told = self.calls.get(index).filter(|call| call.is_sent());
            let told = told.and_then(Call::slot);
            self.release(index);
            if let (Some(slot), Some(call)) = (told, self.calls.get_mut(index)) {
                call.state = State::Cancelled { slot };
            }
        }
        self.dirty = true;
    }

    /// Whom a call asks, and what spoke for it; `None` while it chooses.
    #[must_use]
    pub fn choice(&self, id: CallId) -> Option<Choice> {
        let call = self.calls.get(self.index_of(id.number)?)?;
        let (State::Asking { slot, .. } | State::Answered { slot }) = call.state else {
            return None;
        };
        self.explain(slot, call.candidates)
    }

    fn check(&self, outgoing: &Outgoing<'_>, buffer: usize) -> Result<(), CallError> {
        let method = outgoing.method.len();
        if method == 0 || method > METHOD_BYTES_MAX {
            return Err(CallError::Method);
        }
        let room = buffer.min(usize::from(self.datagram));
        let taken = OVERHEAD_BYTES
            .saturating_add(REQUEST_OVERHEAD)
            .saturating_add(method);
        let limit = room.saturating_sub(taken);
        if room < taken || outgoing.body.len() > limit {
            return Err(CallError::TooLong { limit });
        }
        Ok(())
    }

    fn choose_server(
        &mut self,
        index: usize,
        call: &Call,
        not_before: Instant,
        filter: &Filter,
    ) -> Option<CallPoll> {
        if self.now < not_before && self.now < call.deadline {
            return Some(CallPoll::Wait(not_before.min(call.deadline)));
        }
        let chosen = self.select(filter, call.tried);
        if self.now >= call.deadline {
            self.release(index);
            return Some(CallPoll::Failed(match chosen {
                Err(reason) if !call.is_sent() => CallError::NoServer(reason),
                _ => CallError::Deadline,
            }));
        }
        let wait = self.now.saturating_add(AGAIN_PAUSE);
        let now = self.now;
        let entry = self.calls.get_mut(index)?;
        match chosen {
            Ok((slot, candidates)) => {
                entry.candidates = candidates;
                entry.state = State::Asking {
                    slot,
                    tries: 0,
                    due: now,
                    once: None,
                };
                if let Some(place) = self.place_mut(slot) {
                    place.load.begin();
                }
                if self.link(slot).is_none() {
                    self.urge();
                }
                None
            }
            Err(PickError::AllTried) if call.forgotten => {
                self.release(index);
                Some(CallPoll::Failed(CallError::Forgotten))
            }
            // The same call to the same server is the same call: it may be asked again.
            Err(PickError::AllTried) => {
                entry.tried = 0;
                entry.state = State::Choosing { not_before: wait };
                Some(CallPoll::Wait(wait.min(call.deadline)))
            }
            Err(PickError::AllAtCapacity) => Some(CallPoll::Wait(wait.min(call.deadline))),
            Err(_) => Some(CallPoll::Wait(call.deadline)),
        }
    }

    fn ask(
        &mut self,
        index: usize,
        call: &Call,
        slot: u8,
        (tries, due): (u8, Instant),
        outgoing: &Outgoing<'_>,
        buffer: &mut [u8],
    ) -> Option<CallPoll> {
        if self.now >= call.deadline {
            self.release(index);
            return Some(CallPoll::Failed(CallError::Deadline));
        }
        if !self.link_up {
            return Some(CallPoll::Wait(call.deadline));
        }
        if self.link(slot).is_none() {
            let hopeless = self
                .place(slot)
                .is_none_or(|place| place.not_before > self.now || place.draining);
            if hopeless && (call.fail_over || !call.is_sent()) {
                self.elsewhere(index, slot);
                return None;
            }
            // `handle_timeout` makes the session.
            return Some(CallPoll::Wait(call.deadline));
        }
        if self.now < due {
            return Some(CallPoll::Wait(due.min(call.deadline)));
        }
        if tries >= TRIES {
            self.doubt(slot);
            if call.fail_over {
                self.elsewhere(index, slot);
                return None;
            }
        }
        let left = call.deadline.since(self.now);
        let budget_us = u32::try_from(left.as_micros()).unwrap_or(u32::MAX);
        let request = Request {
            life: self.life,
            call: call.number,
            // A shift, not a division: 2 % less than there is.
            budget_ms: (budget_us >> 10).max(1),
            response_max: outgoing.response_max,
            method: outgoing.method,
            body: outgoing.body,
        };
        let written = request.encode(payload(buffer));
        let Some(transmit) = self.seal(slot, written, buffer) else {
            // The session is used up.
            self.drop_link(slot);
            self.urge();
            return None;
        };
        self.note_asked(index, slot, left);
        Some(CallPoll::Transmit(transmit))
    }

    fn note_asked(&mut self, index: usize, slot: u8, left: Duration) {
        let now = self.now;
        let rtt = self.place(slot).map(|place| place.rtt).unwrap_or_default();
        if let Some(link) = self.link_mut(slot) {
            link.last_call = now;
        }
        let Some(call) = self.calls.get_mut(index) else {
            return;
        };
        if let State::Asking { tries, due, once, .. } = &mut call.state {
            *once = (*tries == 0 && call.asked == 0).then_some(now);
            *tries = tries.saturating_add(1).min(TRIES);
            // Early enough to ask somebody else before the deadline.
            let quarter = Duration::from_micros(left.as_micros() >> 2);
            *due = now.saturating_add(rtt.timeout(*tries).min(quarter.max(PAUSE_MIN)));
        }
        call.asked |= bit(slot);
        self.counters.requests = self.counters.requests.saturating_add(1);
    }

    /// A server did not answer calls: it is asked whether it is there, and used only if there is no other.
    fn doubt(&mut self, slot: u8) {
        if let Some(place) = self.place_mut(slot) {
            place.detector.doubt();
        }
        if let Some(link) = self.link_mut(slot) {
            link.owes |= owed::HEARTBEAT;
            link.unanswered = link.unanswered.max(UNANSWERED_MAX);
        }
        self.urge();
    }

    /// The call leaves this server for another one.
    pub(super) fn elsewhere(&mut self, index: usize, slot: u8) {
        let now = self.now;
        let Some(call) = self.calls.get_mut(index) else {
            return;
        };
        if !call.waits_for(slot) {
            return;
        }
        call.tried |= bit(slot);
        call.state = State::Choosing { not_before: now };
        if let Some(place) = self.place_mut(slot) {
            place.load.finish();
        }
        self.counters.moved = self.counters.moved.saturating_add(1);
    }

    /// The call with this number, if the server in this place was asked and an answer is still awaited; and whether that
    /// is the server it asks now.
    pub(super) fn call_asked(&self, number: u32, from: u8) -> Option<(usize, bool)> {
        let index = self.index_of(number)?;
        let call = self.calls.get(index).filter(|call| call.may_hear(from))?;
        Some((index, call.waits_for(from)))
    }

    /// The server cannot tell whether it did this before: whether another one may be asked.
    pub(super) fn note_forgotten(&mut self, index: usize) -> bool {
        self.calls.get_mut(index).is_some_and(|call| {
            call.forgotten = true;
            call.fail_over
        })
    }

    /// An unambiguous round trip.
    pub(super) fn sample_call(&mut self, index: usize) {
        let now = self.now;
        if let Some(call) = self.calls.get(index)
            && let State::Asking {
                slot,
                once: Some(sent),
                ..
            } = call.state
            && let Some(place) = self.place_mut(slot)
        {
            place.rtt.sample(now.since(sent));
        }
    }

    /// The server works on it: no news is good news for a while.
    pub(super) fn note_working(&mut self, from: u8, number: u32) {
        let now = self.now;
        let Some(index) = self.index_of(number) else {
            return;
        };
        let Some(call) = self.calls.get_mut(index) else {
            return;
        };
        let quarter = Duration::from_micros(call.deadline.since(now).as_micros() >> 2);
        if let State::Asking {
            slot,
            tries,
            due,
            once,
        } = &mut call.state
            && *slot == from
        {
            *tries = 0;
            *once = None;
            *due = now.saturating_add(WORKING_PAUSE.min(quarter.max(PAUSE_MIN)));
        }
    }

    /// An answer came, from this server.
    pub(super) fn answered(&mut self, index: usize, from: u8) {
        let asked = self.calls.get(index).and_then(Call::slot);
        if let Some(place) = asked.and_then(|slot| self.place_mut(slot)) {
            place.load.finish();
        }
        if let Some(call) = self.calls.get_mut(index) {
            call.state = State::Answered { slot: from };
        }
        self.counters.answered = self.counters.answered.saturating_add(1);
    }

    /// Frees the place of a call.
    fn release(&mut self, index: usize) {
        let asked = self.calls.get(index).and_then(Call::slot);
        if let Some(place) = asked.and_then(|slot| self.place_mut(slot)) {
            place.load.finish();
        }
        if let Some(call) = self.calls.get_mut(index) {
            call.state = State::Free;
        }
    }

    fn index_of(&self, number: u32) -> Option<usize> {
        self.calls.iter().position(|call| {
            call.number == number && !matches!(call.state, State::Free | State::Cancelled { .. })
        })
    }
}
