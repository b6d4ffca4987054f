//! What arrives: messages, and the evidence that calls bring along.

use super::{Node, Phase, Refusal};
use crate::fmt::{debug, warning};
use crate::id::NodeId;
use crate::load::{Endpoint, LoadReport, ReportVersion};
use crate::member::{Addr, Admission, Liveness, Role, Tags, pending};
use crate::time::{Duration, Instant};
use crate::wire::{self, Body, Contact, DecodeError, Flags, Header, Message};

impl<const PEERS: usize, const TAGS: usize> Node<PEERS, TAGS> {
    /// Takes in a message from `from`, who the transport proved to be the sender.
    ///
    /// O(peers). An `Err` is for the log: the node has counted it and will tell of it in an event.
    ///
    /// # Errors
    /// [`Refusal`] saying why; what it changed is said there.
    pub fn handle_message(&mut self, now: Instant, from: NodeId, bytes: &[u8]) -> Result<(), Refusal> {
        self.advance(now);
        let result = self.receive(from, bytes);
        match &result {
            Ok(()) => self.counters.received = self.counters.received.saturating_add(1),
            Err(reason) => {
                warning!("refused a message from node {}", from.get());
                self.counters.refuse(reason);
                self.refused = Some((from, *reason));
            }
        }
        self.dirty = true;
        self.promise();
        result
    }

    /// A response to a call came from `from`, with the load that rode on it: evidence of life in both
    /// directions, so the next heartbeat there can wait a period, though not for ever: what only messages
    /// tell should not be older than a load report may be. One of another life than the known one is no
    /// evidence; neither is one of an unknown peer.
    pub fn handle_response(&mut self, now: Instant, from: NodeId, report: LoadReport) {
        self.advance(now);
        if let Some(slot) = self.note_evidence(from, report.version.epoch) {
            self.cache.record_at(slot, self.now, report);
            if let Some(member) = self.table.get_mut(slot) {
                member.postpone_heartbeat(self.now, &self.timers);
            }
        }
        self.promise();
    }

    /// A request came from `from` in its life `epoch` (what the last message over the same connection said):
    /// evidence of life, under the same conditions as a response.
    pub fn handle_request(&mut self, now: Instant, from: NodeId, epoch: u32) {
        self.advance(now);
        self.note_evidence(from, epoch);
        self.promise();
    }

    /// A call's evidence that the known life of a peer goes on; the peer's slot if it is.
    fn note_evidence(&mut self, from: NodeId, epoch: u32) -> Option<usize> {
        let slot = self.table.slot_of(from)?;
        let member = self.table.get_mut(slot)?;
        if member.left || member.epoch != epoch {
            return None;
        }
        member.detector.heard(self.now);
        self.dirty = true;
        Some(slot)
    }

    /// A connection to `id` is up: says who this node is at once, so that a restart on either side is noticed
    /// without waiting for a heartbeat. Unknown peers are ignored; they speak first.
    pub fn handle_connect(&mut self, now: Instant, id: NodeId) {
        self.advance(now);
        if let Some(slot) = self.table.slot_of(id) {
            self.reply(slot, pending::JOIN);
        }
        self.promise();
    }

    /// The connection to `id` broke: it is suspected at once, and asked soon whether it is there.
    pub fn handle_disconnect(&mut self, now: Instant, id: NodeId) {
        self.advance(now);
        let timers = self.timers;
        if let Some(slot) = self.table.slot_of(id)
            && let Some(member) = self.table.get_mut(slot)
            && member.liveness(self.now, &timers) == Liveness::Alive
        {
            member.detector.doubt();
            member.next_heartbeat = self.now;
            self.dirty = true;
        }
        self.promise();
    }

    /// An endpoint answered that it has no place: it counts as full for this long, or until its next report.
    pub fn handle_overloaded(&mut self, now: Instant, id: NodeId, retry_after: Duration) {
        self.advance(now);
        if let Some(slot) = self.table.slot_of(id) {
            self.cache
                .set_full_until(slot, self.now.saturating_add(retry_after));
        }
        self.promise();
    }

    fn receive(&mut self, from: NodeId, bytes: &[u8]) -> Result<(), Refusal> {
        if self.phase != Phase::Running {
            return Err(Refusal::NotRunning);
        }
        let message = wire::decode(bytes).map_err(|error| match error {
            DecodeError::Version(theirs) => Refusal::Version(theirs),
            DecodeError::UnknownKind(kind) => Refusal::UnknownKind(kind),
            DecodeError::Malformed => Refusal::Malformed,
        })?;
        let header = message.header;
        if header.from != from {
            return Err(Refusal::Identity { claimed: header.from });
        }
        if from == self.id {
            return Err(Refusal::OwnId);
        }
        self.learn_own_epoch(&header);
        if self.phase != Phase::Running {
            return Err(Refusal::NotRunning);
        }
        if header.epoch == 0 {
            return Err(Refusal::Malformed);
        }
        let slot = match self.table.slot_of(from) {
            Some(slot) => slot,
            None if message.body == Body::Leave => return Ok(()),
            None => self.insert(from, Addr::NONE).map_err(|_| Refusal::TableFull)?,
        };
        self.check_epoch(slot, &header)?;
        let tags = match &message.body {
            Body::Join { tags, .. } => Some(Tags::parse(tags).map_err(|_| Refusal::Tags)?),
            _ => None,
        };
        self.note_sender(slot, &message);
        if let Some(claim) = header.claim {
            self.election.heard(claim);
        }
        let (now, heartbeat) = (self.now, self.timers.heartbeat());
        // An introduction is not answered with one: where views cannot become the same, that would go on
        // for ever, as fast as the network allows.
        let introduced = matches!(message.body, Body::Introduce(_));
        match message.body {
            Body::Heartbeat => self.reply(slot, pending::ACK),
            Body::HeartbeatAck => {}
            Body::Join { addr, .. } => {
                if let Some(member) = self.table.get_mut(slot)
                    && (header.meta >= member.meta || header.flags.has(Flags::STARTING))
                {
                    if member.meta == 0 {
                        member.next_heartbeat = member.next_heartbeat.min(now.saturating_add(heartbeat));
                    }
                    member.meta = header.meta;
                    member.addr = addr;
                    member.tags = tags.unwrap_or_default();
                }
                // Whoever knows us needs no answer: this *is* the answer.
                if header.known_epoch != self.epoch || header.flags.has(Flags::STARTING) {
                    self.reply(slot, pending::ACK);
                }
            }
            Body::Leave => {
                if let Some(member) = self.table.get_mut(slot) {
                    member.left = true;
                    member.pending = 0;
                }
            }
            Body::Introduce(contacts) => {
                for contact in contacts {
                    self.hear_of(contact);
                }
            }
        }
        if !introduced && matches!(self.table.get(slot), Some(member) if !member.left) {
            self.offer_introductions(slot, &header);
        }
        Ok(())
    }

    /// What the sender knows of our own epoch: confirmation, or that it is taken.
    ///
    /// That the sender knows our epoch is not enough: it may know it from a former life. And a higher one is
    /// not yet another process: it may be a former life that those who confirmed us had not known.
    fn learn_own_epoch(&mut self, header: &Header) {
        let (known, flags) = (header.known_epoch, header.flags);
        let (taken, over) = (flags.has(Flags::EPOCH_TAKEN), flags.has(Flags::EPOCH_OVER));
        if known < self.epoch {
            return;
        }
        if known == self.epoch && !(taken && (over || self.starting)) {
            if self.starting && flags.has(Flags::CONFIRMS) {
                self.starting = false;
                // From now on all peers can tell this life from one that starts with the same epoch.
                let (now, timers) = (self.now, self.timers);
                for member in self.table.members_mut() {
                    if member.liveness(now, &timers) == Liveness::Alive || member.id == header.from {
                        member.pending |= pending::ACK;
                    }
                }
            }
            return;
        }
        if !(self.starting || over || self.now < self.settled) {
            warning!("superseded by another process with this id");
            self.phase = Phase::Superseded;
            self.superseded = Some(known);
            for member in self.table.members_mut() {
                member.pending = 0;
            }
            return;
        }
        // At the end of epochs there is nothing higher to take: stay, and be refused.
        if let Some(epoch) = known.checked_add(1) {
            debug!("epoch {} was taken, now {}", self.epoch, epoch);
            self.epoch = epoch;
            self.starting = true;
            self.taken_over = Some(epoch);
            self.load.version = ReportVersion { epoch, seq: 0 };
            self.owe_everyone(pending::JOIN);
        }
    }

    /// Former lives are refused and told so; a new life resets everything known of the peer.
    fn check_epoch(&mut self, slot: usize, header: &Header) -> Result<(), Refusal> {
        let Some(member) = self.table.get_mut(slot) else {
            return Err(Refusal::TableFull);
        };
        let known = member.epoch;
        let old = Refusal::OldEpoch {
            epoch: header.epoch,
            known,
        };
        if header.epoch < known {
            member.pending |= pending::ACK;
            return Err(old);
        }
        if header.epoch == known {
            // A node that still looks for confirmation cannot be the one that had it already.
            let starting = header.flags.has(Flags::STARTING);
            if starting && (member.established || member.left) {
                member.pending |= pending::ACK | pending::EPOCH_TAKEN;
                return Err(old);
            }
            if member.left {
                // Late words of the life that left, or a life that those who confirmed it took for new.
                member.pending |= pending::ACK | pending::EPOCH_TAKEN;
                return Err(Refusal::HasLeft);
            }
            return Ok(());
        }
        member.begin_life(header.epoch);
        self.cache.clear_report(slot);
        Ok(())
    }

    /// What every message says of its sender.
    fn note_sender(&mut self, slot: usize, message: &Message<'_>) {
        let (header, now, heartbeat) = (&message.header, self.now, self.timers.heartbeat());
        let Some(member) = self.table.get_mut(slot) else {
            return;
        };
        let was_away = !matches!(member.liveness(now, &self.timers), Liveness::Alive);
        member.detector.heard(now);
        member.last_message = now;
        if was_away {
            // It may have been on the slow schedule of the failed.
            member.next_heartbeat = member.next_heartbeat.min(now.saturating_add(heartbeat));
        }
        member.established |= !header.flags.has(Flags::STARTING);
        if header.flags.has(Flags::WANT_META) {
            member.pending |= pending::JOIN;
        }
        // What it says of its state is as old as the load beside it; a message that was overtaken says less.
        let known = self
            .cache
            .get(slot)
            .and_then(Endpoint::cached)
            .map(|cached| cached.report().version);
        if known.is_some_and(|known| message.load.version < known) {
            return;
        }
        member.role = if header.flags.has(Flags::OBSERVER) {
            Role::Observer
        } else {
            Role::Worker
        };
        member.admission = if header.flags.has(Flags::DRAINING) {
            Admission::Draining
        } else {
            Admission::Open
        };
        let missing = member.meta < header.meta && !matches!(message.body, Body::Join { .. });
        if missing && !matches!(message.body, Body::Leave) {
            // Says WANT_META, because what we have is older than what there is.
            member.meta = 0;
            member.pending |= pending::ACK;
        }
        if message.load.version.epoch == header.epoch {
            self.cache.record_at(slot, now, message.load);
        }
    }

    fn reply(&mut self, slot: usize, what: u8) {
        if let Some(member) = self.table.get_mut(slot) {
            member.pending |= what;
        }
    }

    /// A worker somebody else hears. Hearsay makes contact, nothing more.
    fn hear_of(&mut self, contact: Contact) {
        if contact.id == self.id {
            return;
        }
        let Some(slot) = self.table.slot_of(contact.id) else {
            let _ = self.insert(contact.id, contact.addr);
            return;
        };
        let (now, timers) = (self.now, self.timers);
        if let Some(member) = self.table.get_mut(slot) {
            let (moved, liveness) = (member.addr != contact.addr, member.liveness(now, &timers));
            let worth_a_try = match liveness {
                // Whoever is heard after a goodbye is back: nobody else would try it.
                Liveness::Left => true,
                Liveness::Unheard | Liveness::Failed => moved,
                Liveness::Alive | Liveness::Suspect => false,
            };
            if worth_a_try && contact.addr != Addr::NONE {
                member.addr = contact.addr;
                member.pending |= pending::JOIN;
            } else if matches!(liveness, Liveness::Unheard | Liveness::Failed) {
                member.hasten_heartbeat(now, &timers);
            }
        }
    }

    /// Tells a peer about others when its view differs from ours and it has room.
    fn offer_introductions(&mut self, slot: usize, header: &Header) {
        if header.flags.has(Flags::FULL) || header.view == self.view_digest() {
            return;
        }
        self.reply(slot, pending::INTRODUCE);
    }
}
