//! The messages nodes exchange, and their bytes.
//!
//! The format is specified in `WIRE.md` beside this crate's manifest, with golden vectors that the tests of
//! [`encode`] and [`decode`] check. A message is self-contained, at most [`MESSAGE_BYTES_MAX`] bytes, and
//! carries the sender's state and load whatever else it says.
//!
//! Over sealed datagrams there is more: small calls ([`from_edge`] and [`to_edge`] tell what a payload is) and sections that tell a
//! server what an edge can keep ([`Interest`]) and an edge whom to use ([`ServerEntry`]).
//! [`Metrics`](crate::load::Metrics) of an application ride behind messages and reports that say them.

mod bytes;
mod call;
mod codec;
mod message;
#[cfg(feature = "seal")]
pub mod seal;
mod section;

pub use call::{
    FromEdge, METHOD_BYTES_MAX, Outcome, REQUEST_OVERHEAD, RESPONSE_OVERHEAD_MAX, Request, Response, ToEdge,
    encode_cancel, encode_working, from_edge, to_edge,
};
#[cfg(feature = "edge")]
pub(crate) use codec::head;
pub use codec::{DecodeError, EncodeError, decode, decode_report, encode, encode_report, peek};
pub use message::{
    Body, CONTACTS_MAX, Contact, Flags, Header, Kind, MESSAGE_BYTES_MAX, Message, REPORT_BYTES_MAX, VERSION,
    view_digest,
};
pub use section::{
    Interest, METRICS_BYTES_MAX, ServerEntry, append_interest, append_metrics, append_servers, interest,
    metrics, report_metrics, servers,
};
#[cfg(feature = "edge")]
pub(crate) use section::{Listed, servers_in};
