//! What is to be sent.

use heapless::Vec;

use super::{Node, Phase};
use crate::id::NodeId;
use crate::member::{Addr, Liveness, Member, Role, pending};
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::{self, Body, CONTACTS_MAX, Contact, Flags, Header, Kind, Message};

/// A message for the driver to send: the first `len` bytes of its buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Transmit {
    /// To whom. The transport must make sure that nobody else gets it.
    pub to: NodeId,
    /// Where that node listens, if known; an open connection is as good.
    pub addr: Addr,
    /// How many bytes.
    pub len: usize,
    /// Better sent over something that retransmits, if there is such a thing: a goodbye is said once.
    pub reliable: bool,
}

impl<const PEERS: usize, const TAGS: usize> Node<PEERS, TAGS> {
    /// Writes the next message to send, or `None` when there is none. `buffer` should have
    /// [`wire::MESSAGE_BYTES_MAX`] bytes; a message that does not fit is dropped. O(peers).
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut [u8]) -> Option<Transmit> {
        self.now = self.now.max(now);
        loop {
            let slot = self.next_pending()?;
            let what = self.take_pending(slot)?;
            let contacts = if what == pending::INTRODUCE {
                self.contacts(slot)
            } else {
                Vec::new()
            };
            if what == pending::INTRODUCE && contacts.is_empty() {
                continue;
            }
            let member = self.table.get(slot)?;
            let body = match what {
                pending::HEARTBEAT => Body::Heartbeat,
                pending::ACK | pending::EPOCH_TAKEN => Body::HeartbeatAck,
                pending::JOIN => Body::Join {
                    addr: self.addr,
                    tags: self.tags.as_str(),
                },
                pending::LEAVE => Body::Leave,
                _ => Body::Introduce(contacts),
            };
            let (kind, to, addr) = (body.kind(), member.id, member.addr);
            let message = Message {
                header: self.header(member, what),
                load: self.load,
                body,
            };
            let Ok(len) = wire::encode(&message, buffer) else {
                continue;
            };
            self.count(kind);
            let reliable = matches!(kind, Kind::Join | Kind::Leave | Kind::Introduce);
            return Some(Transmit {
                to,
                addr,
                len,
                reliable,
            });
        }
    }

    fn count(&mut self, kind: Kind) {
        let counters = &mut self.counters;
        counters.sent = counters.sent.saturating_add(1);
        match kind {
            Kind::Heartbeat => counters.sent_heartbeats = counters.sent_heartbeats.saturating_add(1),
            Kind::HeartbeatAck => counters.sent_acks = counters.sent_acks.saturating_add(1),
            Kind::Join | Kind::Leave | Kind::Introduce => {}
        }
    }

    /// The next peer that is owed something, going round so that nobody waits for ever.
    fn next_pending(&mut self) -> Option<usize> {
        let members = self.table.members();
        let owed = |slot: &usize| members.get(*slot).is_some_and(|member| member.pending != 0);
        let cursor = self.transmit_cursor;
        let slot = (cursor..members.len())
            .find(owed)
            .or_else(|| (0..cursor).find(owed))?;
        self.transmit_cursor = slot.saturating_add(1);
        Some(slot)
    }

    /// Takes the most important bit; what it says as well is taken with it.
    fn take_pending(&mut self, slot: usize) -> Option<u8> {
        let member = self.table.get_mut(slot)?;
        let bits = member.pending;
        let (what, also) = if bits & pending::LEAVE != 0 {
            (pending::LEAVE, u8::MAX)
        } else if bits & pending::EPOCH_TAKEN != 0 {
            (pending::EPOCH_TAKEN, pending::ACK)
        } else if bits & pending::JOIN != 0 {
            // A join says everything an acknowledgement says, and asks everything a heartbeat asks.
            (pending::JOIN, pending::ACK | pending::HEARTBEAT)
        } else if bits & pending::ACK != 0 {
            (pending::ACK, 0)
        } else if bits & pending::HEARTBEAT != 0 {
            (pending::HEARTBEAT, 0)
        } else {
            (pending::INTRODUCE, 0)
        };
        member.pending &= !(what | also);
        Some(what)
    }

    /// The header of a message to somebody who is no peer, such as an edge; `known_epoch` is the receiver's life
    /// as last heard, 0 when it was not heard. O(peers).
    #[must_use]
    pub fn header_to(&self, known_epoch: u32) -> Header {
        let flags = Flags::default()
            .with(Flags::OBSERVER, self.role == Role::Observer)
            .with(Flags::DRAINING, self.draining)
            .with(Flags::STARTING, self.starting)
            .with(Flags::FULL, self.table.is_full());
        Header {
            from: self.id,
            epoch: self.epoch,
            known_epoch,
            meta: self.meta,
            flags,
            view: self.view_digest(),
            claim: self.election.claim(),
        }
    }

    fn header(&self, to: &Member<TAGS>, what: u8) -> Header {
        let common = self.header_to(to.epoch);
        let flags = common
            .flags
            .with(Flags::WANT_META, to.meta == 0 && self.phase == Phase::Running)
            .with(Flags::EPOCH_TAKEN, what == pending::EPOCH_TAKEN)
            .with(
                Flags::EPOCH_OVER,
                to.epoch > 0 && to.is_over(self.now, &self.timers),
            )
            .with(Flags::CONFIRMS, to.epoch > 0 && !to.established && !to.left);
        Header { flags, ..common }
    }

    /// A random window of the workers we hear, for a peer that seems not to know them all.
    fn contacts(&mut self, slot: usize) -> Vec<Contact, CONTACTS_MAX> {
        let members = self.table.members();
        let start = self.rng.below(u32::try_from(members.len()).unwrap_or(u32::MAX)) as usize;
        let to = members.get(slot).map(|member| member.id);
        members
            .iter()
            .cycle()
            .skip(start)
            .take(members.len())
            .filter(|member| {
                Some(member.id) != to
                    && member.role == Role::Worker
                    && member.addr != Addr::NONE
                    && member.liveness(self.now, &self.timers) == Liveness::Alive
            })
            .map(|member| Contact {
                id: member.id,
                addr: member.addr,
            })
            .take(CONTACTS_MAX)
            .collect()
    }
}
