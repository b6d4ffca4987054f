//! What a message says.

use heapless::Vec;

use super::bytes::varint_max;
use crate::elect::Claim;
use crate::id::NodeId;
use crate::load::LoadReport;
use crate::member::{Addr, TAG_BYTES_MAX};

/// The version of the format, the first byte of every message.
pub const VERSION: u8 = 1;

/// Most contacts in one [`Body::Introduce`].
pub const CONTACTS_MAX: usize = 16;

/// No message is longer, in bytes. Fits a QUIC datagram at the smallest MTU with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 2 + HEADER_MAX + REPORT_BYTES_MAX + BODY_MAX;

/// No encoded load report is longer, in bytes.
pub const REPORT_BYTES_MAX: usize = 5 * varint_max(32) + 2 * varint_max(64) + 7 * varint_max(16);

/// Five numbers, flags, an optional claim of two.
const HEADER_MAX: usize = 5 * varint_max(32) + 1 + 1 + 2 * varint_max(32);
const ADDR_MAX: usize = 16 + varint_max(16);
const JOIN_MAX: usize = ADDR_MAX + 2 + TAG_BYTES_MAX;
const INTRODUCE_MAX: usize = 1 + CONTACTS_MAX * (varint_max(32) + ADDR_MAX);
const BODY_MAX: usize = if JOIN_MAX > INTRODUCE_MAX {
    JOIN_MAX
} else {
    INTRODUCE_MAX
};

const _: () = assert!(MESSAGE_BYTES_MAX <= 1_000);
const _: () = assert!(TAG_BYTES_MAX <= 255 && CONTACTS_MAX < 128);

/// What a message is for: the second byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Kind {
    /// "I am here, this is my load; are you?"
    Heartbeat = 1,
    /// The answer, with the load of who answers.
    HeartbeatAck = 2,
    /// "This is who I am": address and tags.
    Join = 3,
    /// "I stop now."
    Leave = 4,
    /// "These workers exist": hearsay that is only used to contact them.
    Introduce = 5,
}

impl Kind {
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Heartbeat),
            2 => Some(Self::HeartbeatAck),
            3 => Some(Self::Join),
            4 => Some(Self::Leave),
            5 => Some(Self::Introduce),
            _ => None,
        }
    }
}

/// State bits of the sender. Bits without a name are sent as 0 and ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Flags(pub u8);

impl Flags {
    /// The sender does not serve.
    pub const OBSERVER: Self = Self(1);
    /// The sender takes no new requests.
    pub const DRAINING: Self = Self(1 << 1);
    /// The sender's present epoch was not confirmed by anyone yet.
    pub const STARTING: Self = Self(1 << 2);
    /// The sender lacks the receiver's current address and tags: send a `Join`.
    pub const WANT_META: Self = Self(1 << 3);
    /// The sender has no room for more peers: do not introduce any.
    pub const FULL: Self = Self(1 << 4);
    /// The receiver's epoch is taken by another life of it: take a higher one, if still `STARTING` or
    /// told that it is over.
    pub const EPOCH_TAKEN: Self = Self(1 << 5);
    /// The sender heard the receiver in its epoch, as long as it was `STARTING`, and took it for that life.
    pub const CONFIRMS: Self = Self(1 << 6);
    /// The life of the receiver with this `known_epoch` left or fell silent, as far as the sender knows.
    pub const EPOCH_OVER: Self = Self(1 << 7);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// With the bits of `other` when `condition` holds.
    #[must_use]
    pub const fn with(self, other: Self, condition: bool) -> Self {
        if condition { Self(self.0 | other.0) } else { self }
    }
}

/// What every message says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// The sender; must be who the transport proved it to be.
    pub from: NodeId,
    /// The sender's life.
    pub epoch: u32,
    /// The receiver's life as the sender knows it; 0 when it knows none.
    pub known_epoch: u32,
    /// Version of the sender's address and tags within its epoch.
    pub meta: u32,
    /// State bits.
    pub flags: Flags,
    /// [`view_digest`] of the workers the sender knows.
    pub view: u32,
    /// The coordinator as the sender knows it.
    pub claim: Option<Claim>,
}

/// A worker somebody else knows: enough to contact it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Contact {
    /// Which worker.
    pub id: NodeId,
    /// Where it listens.
    pub addr: Addr,
}

/// What only some messages say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap to box the contacts on; messages are transient"
)]
pub enum Body<'a> {
    /// See [`Kind::Heartbeat`].
    Heartbeat,
    /// See [`Kind::HeartbeatAck`].
    HeartbeatAck,
    /// See [`Kind::Join`].
    Join {
        /// Where the sender listens.
        addr: Addr,
        /// Its tags in text form, at most [`TAG_BYTES_MAX`] bytes.
        tags: &'a str,
    },
    /// See [`Kind::Leave`].
    Leave,
    /// See [`Kind::Introduce`].
    Introduce(Vec<Contact, CONTACTS_MAX>),
}

impl Body<'_> {
    /// The kind byte that goes with this body.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Heartbeat => Kind::Heartbeat,
            Self::HeartbeatAck => Kind::HeartbeatAck,
            Self::Join { .. } => Kind::Join,
            Self::Leave => Kind::Leave,
            Self::Introduce(_) => Kind::Introduce,
        }
    }
}

/// A whole message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Message<'a> {
    /// The sender.
    pub header: Header,
    /// The sender's load.
    pub load: LoadReport,
    /// The rest.
    pub body: Body<'a>,
}

/// Order-free digest of a set of ids: two nodes that know the same workers agree on it, so that
/// introductions are sent only when there is something to learn. Not a security measure.
#[must_use]
pub fn view_digest(ids: impl Iterator<Item = NodeId>) -> u32 {
    // MurmurHash3's 32-bit finalizer spreads neighbouring ids.
    ids.fold(0, |digest, id| {
        let mut hash = id.get().wrapping_add(0x9e37_79b9);
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        digest ^ hash ^ (hash >> 16)
    })
}
