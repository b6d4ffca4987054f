//! Membership: who is there, in which state, with which tags.

mod addr;
mod filter;
mod status;
mod table;
mod tags;

pub use addr::Addr;
pub use filter::{FILTER_BYTES_MAX, FILTER_TERMS_MAX, Filter, FilterError};
pub use status::{Admission, Axes, Liveness, Role, Status};
pub(crate) use table::pending;
pub use table::{Member, PEERS_MAX, Table, TableFull};
pub use tags::{KEY_BYTES_MAX, RESERVED_KEY_PREFIX, TAG_BYTES_MAX, Tags, TagsError, VALUE_BYTES_MAX};
