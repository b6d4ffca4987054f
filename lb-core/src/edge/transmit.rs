//! What is to be sent, beside the requests of calls.

use super::place::owed;
use super::{Edge, call};
use crate::load::ReportVersion;
use crate::member::Addr;
use crate::time::Instant;
use crate::wire::seal::{Cipher, HEADER_BYTES};
use crate::wire::{self, Body, EncodeError, Flags, Header, Interest, Message};

/// A datagram for the driver to send: the first `len` bytes of its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Transmit {
    /// Where to.
    pub addr: Addr,
    /// How many bytes.
    pub len: usize,
}

impl<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C: Cipher>
    Edge<SERVERS, SESSIONS, CALLS, TAGS, C>
{
    /// Writes the next datagram to send, or `None` when there is none. `buffer` should have as many bytes as
    /// [`super::Config::datagram`] says; what does not fit is dropped.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.now = self.now.max(now);
        if !self.link_up {
            return None;
        }
        let sent = self
            .send_hello(buffer)
            .or_else(|| self.send_cancel(buffer))
            .or_else(|| self.send_owed(buffer))?;
        self.counters.sent = self.counters.sent.saturating_add(1);
        Some(sent)
    }

    fn send_hello(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        let (slot, _) = self.attempt?;
        let hello = self.initiator.poll_transmit(self.now)?;
        // Its next one.
        if let Some(due) = self.initiator.deadline() {
            self.urge_at(due);
        }
        let addr = self.place(slot)?.addr;
        buffer.get_mut(..hello.len())?.copy_from_slice(&hello);
        Some(Transmit {
            addr,
            len: hello.len(),
        })
    }

    fn send_cancel(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        while let Some((slot, number)) = self.take_cancelled() {
            let written = wire::encode_cancel(self.life, number, payload(buffer));
            let sent = self.seal(slot, written, buffer);
            if sent.is_some() {
                return sent;
            }
        }
        None
    }

    fn send_owed(&mut self, buffer: &mut [u8]) -> Option<Transmit> {
        loop {
            let (now, leaving) = (self.now, self.leaving);
            let link = self.links.iter_mut().flatten().find(|link| link.owes != 0)?;
            let (slot, owes) = (link.slot, link.owes);
            link.owes = 0;
            link.unanswered = link.unanswered.saturating_add(1);
            if !leaving {
                // Of several that wait for an answer it is not known which one is answered.
                link.asked = match link.asked {
                    None => Some(now),
                    Some(_) => None,
                };
            }
            let sent = self.send_message(slot, owes, buffer);
            if owes & owed::LEAVE != 0 {
                self.drop_link(slot);
            }
            if sent.is_some() {
                return sent;
            }
        }
    }

    fn send_message(&mut self, slot: u8, owes: u8, buffer: &mut [u8]) -> Option<Transmit> {
        let header = Header {
            from: self.id,
            epoch: self.epoch,
            known_epoch: self.place(slot)?.load.epoch(),
            meta: self.meta,
            flags: Flags::default()
                .with(Flags::OBSERVER, !self.serves)
                .with(Flags::DRAINING, self.leaving),
            view: 0,
            claim: None,
        };
        let ReportVersion { seq, .. } = self.load.version;
        self.load.version = ReportVersion {
            epoch: self.epoch,
            seq: seq.saturating_add(1),
        };
        let joins = owes & owed::JOIN != 0;
        let body = if owes & owed::LEAVE != 0 {
            Body::Leave
        } else if joins {
            Body::Join {
                addr: Addr::NONE,
                tags: self.tags.as_str(),
            }
        } else {
            Body::Heartbeat
        };
        let load = self.load;
        let mut written = wire::encode(&Message { header, load, body }, payload(buffer));
        if joins {
            let interest = Interest {
                places: u8::try_from(SERVERS).unwrap_or(u8::MAX),
                tag_bytes: u8::try_from(TAGS).unwrap_or(u8::MAX),
                datagram: self.datagram,
            };
            written = written.and_then(|used| wire::append_interest(&interest, payload(buffer), used));
        }
        self.seal(slot, written, buffer)
    }

    /// Seals what was written behind [`HEADER_BYTES`] free bytes, for the server in this place.
    pub(super) fn seal(
        &mut self,
        slot: u8,
        written: Result<usize, EncodeError>,
        buffer: &mut [u8],
    ) -> Option<Transmit> {
        let addr = self.place(slot)?.addr;
        let link = self.link_mut(slot)?;
        let len = link.session.seal_in_place(written.ok()?, buffer).ok()?;
        Some(Transmit { addr, len })
    }

    fn take_cancelled(&mut self) -> Option<(u8, u32)> {
        self.calls.iter_mut().find_map(call::Call::take_cancelled)
    }
}

/// Where the payload of a sealed datagram goes.
pub(super) fn payload(buffer: &mut [u8]) -> &mut [u8] {
    buffer.get_mut(HEADER_BYTES..).unwrap_or_default()
}
