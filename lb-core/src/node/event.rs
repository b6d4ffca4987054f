//! What a node tells its driver, and what it counts.

use core::fmt;

use super::Node;
use crate::elect::Claim;
use crate::id::NodeId;
use crate::member::Status;

/// A change worth telling.
///
/// Events are derived from state, not queued, so none is lost: a peer whose status changed twice between two
/// polls is reported once, with the status it has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// A peer's status or epoch changed.
    Peer {
        /// Which peer.
        id: NodeId,
        /// Its life; 0 while it was never heard.
        epoch: u32,
        /// The status told before; `None` for a new peer.
        from: Option<Status>,
        /// The status now.
        to: Status,
    },
    /// Another node coordinates now, or in a new term.
    Coordinator(Claim),
    /// A message was refused. Only the last refusal between two polls is told; the counters have them all.
    Refused {
        /// Who sent it, as the transport proved.
        from: NodeId,
        /// Why.
        reason: Refusal,
    },
    /// This node's epoch was taken by a former life; it took this one.
    EpochTaken {
        /// The epoch it has now. The driver must use it for load reports.
        epoch: u32,
    },
    /// Another process with this node's id and a higher epoch is at work. This one sends nothing any more.
    Superseded {
        /// The other's epoch.
        epoch: u32,
    },
}

/// Why a message was refused. The sender's entry did not change, except for the epoch rules noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// It speaks another version of the wire format.
    Version(u8),
    /// A kind of message this version does not know.
    UnknownKind(u8),
    /// Truncated or out of range.
    Malformed,
    /// It claims to be from another node than the one that sent it.
    Identity {
        /// The id it claims.
        claimed: NodeId,
    },
    /// It comes from a node with our own id.
    OwnId,
    /// It is from a former life of the sender, which is answered with the epoch we know.
    OldEpoch {
        /// The epoch it has.
        epoch: u32,
        /// The epoch we know.
        known: u32,
    },
    /// It is from a life whose sender already said goodbye.
    HasLeft,
    /// There is no room for another peer.
    TableFull,
    /// The sender's tags do not fit the space this node has for them, or are malformed.
    Tags,
    /// This node has left or was superseded; it takes in nothing any more.
    NotRunning,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(theirs) => write!(
                f,
                "the sender speaks wire version {theirs}, this node {}: upgrade the older one",
                crate::wire::VERSION
            ),
            Self::UnknownKind(kind) => write!(f, "unknown message kind {kind}"),
            Self::Malformed => f.write_str("malformed message"),
            Self::Identity { claimed } => write!(f, "the message claims to be from node {claimed}"),
            Self::OwnId => f.write_str("the sender has this node's own id: give each node an id of its own"),
            Self::OldEpoch { epoch, known } => {
                write!(f, "epoch {epoch} is over, epoch {known} of the sender is known")
            }
            Self::HasLeft => f.write_str("the sender has left in this epoch"),
            Self::TableFull => f.write_str("the peer table is full of live peers: use a larger capacity"),
            Self::Tags => f.write_str("the sender's tags are malformed or too long for this node"),
            Self::NotRunning => f.write_str("this node has left the cluster"),
        }
    }
}

impl core::error::Error for Refusal {}

/// Counts since the node's start; they saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Counters {
    /// Messages taken in.
    pub received: u64,
    /// Messages handed to the driver.
    pub sent: u64,
    /// Of those, heartbeats.
    pub sent_heartbeats: u64,
    /// Of those, acknowledgements.
    pub sent_acks: u64,
    /// Refused: another wire version.
    pub refused_version: u64,
    /// Refused: malformed, or of a kind unknown here.
    pub refused_malformed: u64,
    /// Refused: claimed another id, or our own.
    pub refused_identity: u64,
    /// Refused: a former life, or one that had left.
    pub refused_epoch: u64,
    /// Refused: no room, or tags too long.
    pub refused_capacity: u64,
    /// Peers displaced by new ones.
    pub evicted: u64,
    /// Inputs that came later than promised.
    pub late: u64,
    /// Picks made.
    pub picks: u64,
}

impl Counters {
    /// Messages refused, for whatever reason.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused_version
            .saturating_add(self.refused_malformed)
            .saturating_add(self.refused_identity)
            .saturating_add(self.refused_epoch)
            .saturating_add(self.refused_capacity)
    }

    pub(super) fn refuse(&mut self, reason: &Refusal) {
        let counter = match reason {
            Refusal::Version(_) => &mut self.refused_version,
            Refusal::UnknownKind(_) | Refusal::Malformed => &mut self.refused_malformed,
            Refusal::Identity { .. } | Refusal::OwnId => &mut self.refused_identity,
            Refusal::OldEpoch { .. } | Refusal::HasLeft | Refusal::NotRunning => &mut self.refused_epoch,
            Refusal::TableFull | Refusal::Tags => &mut self.refused_capacity,
        };
        *counter = counter.saturating_add(1);
    }
}

impl<const PEERS: usize, const TAGS: usize> Node<PEERS, TAGS> {
    /// The next change to tell of, or `None` when all is told. O(peers) when something changed, else O(1).
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some((from, reason)) = self.refused.take() {
            return Some(Event::Refused { from, reason });
        }
        if let Some(epoch) = self.taken_over.take() {
            return Some(Event::EpochTaken { epoch });
        }
        if let Some(epoch) = self.superseded.take() {
            return Some(Event::Superseded { epoch });
        }
        if !self.dirty {
            return None;
        }
        let claim = self.election.claim();
        if claim != self.reported_claim {
            self.reported_claim = claim;
            if let Some(claim) = claim {
                return Some(Event::Coordinator(claim));
            }
        }
        for slot in 0..self.table.members().len() {
            let Some(view) = self.view(slot) else { continue };
            let (id, epoch, to) = (view.member.id, view.member.epoch, view.status);
            let Some(member) = self.table.get_mut(slot) else {
                continue;
            };
            let before = member.reported.replace((epoch, to));
            if before != Some((epoch, to)) {
                return Some(Event::Peer {
                    id,
                    epoch,
                    from: before.map(|(_, status)| status),
                    to,
                });
            }
        }
        self.dirty = false;
        None
    }
}
