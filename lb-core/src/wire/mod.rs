//! The messages nodes exchange, and their bytes.
//!
//! The format is specified in `WIRE.md` beside this crate's manifest, with golden vectors that the tests of
//! [`encode`] and [`decode`] check. A message is self-contained, at most [`MESSAGE_BYTES_MAX`] bytes, and
//! carries the sender's state and load whatever else it says.

mod codec;
mod message;
#[cfg(feature = "seal")]
pub mod seal;

pub use codec::{
    DecodeError, EncodeError, REPORT_BYTES_MAX, decode, decode_report, encode, encode_report, peek,
};
pub use message::{
    Body, CONTACTS_MAX, Contact, Flags, Header, Kind, MESSAGE_BYTES_MAX, Message, VERSION, view_digest,
};
