//! Edges: microcontrollers that take part over sealed UDP datagrams.
//!
//! A node with an [`EdgeListenerConfig`] answers their heartbeats with its load and the best few other servers,
//! and serves their calls with the handlers that serve nodes. An edge proves with a key of its own
//! ([`EdgeKeys`]) who it is; edges are known to the nodes they talk to and to nobody else, so any number of
//! them costs the cluster nothing. What they speak is in `SEAL.md` and `WIRE.md` of `lb-core`; the edge's own
//! side is [`lb_core::edge`]; each edge chooses its cipher, [`AnyCipher`](lb_core::wire::seal::AnyCipher) is spoken here.
//!
//! # Under attack
//!
//! * What is not authentic is dropped in silence and counted ([`EdgeCounters`]). Only a `HELLO` with a right MAC is
//!   answered before a session is established, by fewer bytes than it had.
//! * Memory is bounded: a table of devices that only authentic `HELLO`s get into, tables of fixed size for the
//!   limits, sixteen calls and their responses for each device.
//! * The work that strangers cause is bounded, and established sessions do not depend on what is left of it.
//!
//! # Once at most
//!
//! A request that comes again is answered from memory: with "working" while its handler runs, with the same
//! response for a minute after, and with "forgotten" later. That memory ends when the device is evicted from a full
//! table, when its key is withdrawn, and with the node.

mod config;
mod device;
mod keys;
mod limit;
mod listener;
mod serve;
mod servers;
mod status;
mod table;

pub use config::{EDGES_DEFAULT, EDGES_MAX, EdgeListenerConfig};
pub use device::DATAGRAM_MAX;
pub use keys::{EdgeKeyFile, EdgeKeys, EdgeKeysError};
pub(crate) use listener::{Gate, Listener};
pub(crate) use servers::{Candidate, TAG, from_tag, to_tag};
pub use status::{EDGES_LISTED_MAX, EdgeCounters, EdgeStatus, EdgesStatus};
