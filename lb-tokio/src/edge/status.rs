//! What people are told of edges.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Most edges in one [`EdgesStatus`].
pub const EDGES_LISTED_MAX: usize = 1_024;

/// The edges of a node that listens for them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EdgesStatus {
    /// Where the listener is bound.
    pub addr: Option<SocketAddr>,
    /// How many edges it knows, in whatever state.
    pub total: usize,
    /// How many it can know.
    pub capacity: usize,
    /// The first [`EDGES_LISTED_MAX`] of them by id.
    pub edges: Vec<EdgeStatus>,
    /// What happened since the node's start.
    pub counters: EdgeCounters,
}

/// One edge.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EdgeStatus {
    /// The id of its key.
    pub id: u32,
    /// What people call it, from the key store.
    pub name: Option<String>,
    /// Where it was last heard.
    pub addr: Option<SocketAddr>,
    /// The one word: `Observer`, or `Worker` if it serves; `DRAINING`, `STALE`, `FAILED`, `LEFT`; `NO_HEARTBEAT`
    /// when only its `HELLO` was heard.
    pub status: String,
    /// Time since it was last heard, in milliseconds.
    pub heard_ms: Option<u64>,
    /// Age of its last load report, in milliseconds.
    pub load_age_ms: Option<u64>,
    /// Requests it said to have in flight.
    pub in_flight: u32,
    /// How many it serves at once; 0 when it does not say.
    pub capacity: u32,
    /// Its requests taken up here since it is known.
    pub calls: u64,
    /// Sessions made since it is known.
    pub sessions: u64,
    /// Its tag `zone`.
    pub zone: Option<String>,
}

/// What an edge listener did, in numbers. Whatever is dropped is dropped in silence and told only here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct EdgeCounters {
    /// Datagrams received.
    pub datagrams: u64,
    /// Dropped: nothing of this format.
    pub malformed: u64,
    /// Dropped: what only a server sends.
    pub wrong_direction: u64,
    /// Dropped: of no session known here. Edges of a former life of this node send some.
    pub unknown_session: u64,
    /// Dropped: taken before, or too old to tell.
    pub replayed: u64,
    /// Dropped: not sealed by the device, or changed on the way.
    pub forged: u64,
    /// Dropped: authentic, but what was sealed is not understood or claims to be of somebody else.
    pub refused_payloads: u64,
    /// Dropped: strangers caused too much work, see `hellos_limited`; datagrams of sessions from new addresses.
    pub limited: u64,
    /// Dropped: a `HELLO`, because strangers caused too much work.
    pub hellos_limited: u64,
    /// Dropped: a `HELLO` of a cipher suite that is not spoken here.
    pub hellos_suite: u64,
    /// Dropped: a `HELLO` under an id without a key.
    pub hellos_unknown: u64,
    /// Dropped: a `HELLO` made without the key, or for another cluster.
    pub hellos_forged: u64,
    /// Dropped: the `HELLO` of an established session.
    pub hellos_replayed: u64,
    /// `HELLO`s answered.
    pub welcomes: u64,
    /// Sessions established.
    pub sessions: u64,
    /// Devices forgotten to make room.
    pub evicted: u64,
    /// Devices turned away because all others are alive.
    pub refused: u64,
    /// Devices whose sessions ended because their key was withdrawn.
    pub withdrawn: u64,
    /// Heartbeats and joins acknowledged.
    pub acks: u64,
    /// Requests taken up. One that was shed counts again when it comes again.
    pub calls: u64,
    /// Of those, the ones shed.
    pub shed: u64,
    /// Requests that came again and were answered from memory.
    pub replays: u64,
    /// Requests that came again while they were worked on.
    pub working: u64,
    /// Requests that came again when their response was not kept any more.
    pub forgotten: u64,
    /// Requests given up by the edge.
    pub cancelled: u64,
    /// Datagrams the system did not take.
    pub unsent: u64,
}
