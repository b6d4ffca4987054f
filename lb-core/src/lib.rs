//! Load balancing, failure detection and membership as `no_std`, allocation-free state machines.
//!
//! `lb-core` decides *who is there, who is healthy and who is least busy*; it never touches a socket, a
//! clock or a heap. A driver (`lb-tokio`, firmware, a simulator, a property test) hands in time and bytes
//! and carries out what comes back. The same code runs on a 16 KB microcontroller and on a server.
//!
//! * [`Node`] is the composition: [`Node::handle_message`], [`Node::handle_timeout`],
//!   [`Node::poll_transmit`], [`Node::poll_event`], [`Node::next_deadline`]. Its page is the driver's contract.
//! * [`load`] has the load report, its order, and the cache with a time to live.
//! * [`pick`] has the strategies, all over one trait, usable without a `Node`.
//! * [`health`] has the failure detector, [`member`] the peer table with tags and filters, [`elect`] the
//!   coordinator, [`wire`] the messages.
//!
//! # Panics, allocation, arithmetic
//!
//! No function of this crate panics, allocates, uses floating point, atomics or `unsafe`; all arithmetic
//! saturates. No `u64` is divided when a message is handled or an endpoint is picked. `tests/panic-free` in the
//! repository proves it by linking for two microcontrollers. The ciphers of `seal` are crates of their own: they
//! do not panic either, but the compiler cannot always see that.
//!
//! # Features
//!
//! * `defmt`: `defmt::Format` for the public types and log lines through defmt. Exclusive with `log`.
//! * `log`: log lines through the `log` facade. Exclusive with `defmt`.
//! * `edge`: a microcontroller's side of a cluster, `edge`; with `seal`.
//! * `seal`: sealed datagrams with ChaCha20-Poly1305, `wire::seal`.
//! * `seal-ascon`: Ascon-AEAD128 for them as well, the smaller choice.
//! * `serde`: serde's traits for identities, addresses and load reports.
//! * `std`: conversion from `std::time::Instant`. Nothing else changes.
//!
//! # Minimum Rust version
//!
//! The `rust-version` of the manifest is what is built and tested; raising it is a minor release.
#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unreachable,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::float_arithmetic,
        clippy::indexing_slicing
    )
)]

#[cfg(all(feature = "defmt", feature = "log"))]
compile_error!("the features `defmt` and `log` of lb-core are exclusive: enable one of them");

mod fmt;

#[cfg(feature = "edge")]
pub mod edge;
pub mod elect;
pub mod health;
mod id;
pub mod load;
pub mod member;
pub mod node;
pub mod pick;
pub mod rng;
pub mod time;
pub mod wire;

pub use id::NodeId;
pub use node::Node;
pub use time::{Duration, Instant};
