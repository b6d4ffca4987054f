#![doc = include_str!("../README.md")]
//!
//! # How it works
//!
//! [`lb_core::edge::Edge`] decides everything; here is what moves its datagrams. [`Edge::run`] is the one task: it owns
//! the socket, the clock and the randomness. An [`EdgeHandle`] works on the state both share, under a blocking mutex that is
//! held for one datagram at most and never across an await.
//!
//! A [`Call`] holds its request and the buffer for the answer. When polled it lets the core seal the request, if it
//! is time to, into the one datagram that waits for the task to send it. An answer stays in the one receive buffer until
//! its call has copied it, and nothing else is received meanwhile; a call that does not within 200 ms loses it. Dropping a
//! future leaves nothing behind but a datagram.
//!
//! A [`Worker`] is the same for [`lb_core::edge::Gate`], without anything shared: its task alone uses it.
//!
//! # Versions
//!
//! embassy-net 0.9 and embassy-time 0.5, each in one module. The `rust-version` of the manifest is what is built and
//! tested; raising it is a minor release.
#![cfg_attr(not(test), no_std)]

#[cfg(all(feature = "defmt", feature = "log"))]
compile_error!("the features `defmt` and `log` of lb-embassy are exclusive: enable one of them");

mod fmt;

mod call;
mod clock;
mod edge;
mod handle;
mod line;
mod socket;
mod state;
mod step;
mod storage;
mod wakers;
mod worker;

/// The unit tests need a clock, too.
#[cfg(test)]
#[path = "../tests/support/clock.rs"]
#[expect(dead_code, reason = "unit tests do not move it")]
mod virtual_clock;

pub use call::{Answer, Call, CallError};
pub use clock::now;
pub use edge::Edge;
pub use handle::EdgeHandle;
pub use storage::{EdgeStorage, Storage};
pub use worker::{Handler, Refusal, Request, Worker, WorkerConfig, WorkerStorage};
