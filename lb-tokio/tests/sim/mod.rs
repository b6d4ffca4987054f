//! A deterministic UDP network in memory, to run real quinn endpoints on.
//!
//! One seed decides every latency, loss and duplicate; time is tokio's paused clock. A test that keeps the
//! rules below sends byte for byte the same datagram lengths, at the same virtual nanoseconds, in every run:
//!
//! - the runtime is single-threaded and paused from its start ([`run`] builds one), and nothing blocks;
//! - every endpoint has its own [`endpoint_config`] seed (give a restarted node a fresh one);
//! - keys are Ed25519, since an ECDSA signature varies in length ([`Authority`] issues them);
//! - our code reads no wall clock, iterates no `HashMap`, and every `select!` is `biased`.
//!
//! ```ignore
//! sim::run(async {
//!     let net = sim::Net::new(7);
//!     let endpoint = quinn::Endpoint::new_with_abstract_socket(
//!         sim::endpoint_config(1), Some(server), net.bind(addr), sim::runtime())?;
//!     net.set_loss(20); // 2 %
//!     net.partition(&[&[a, b], &[c, d, e]]);
//!     net.heal();
//!     let (hash, packets) = net.trace();
//! });
//! ```
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "support shared by several test binaries, none of which uses all of it"
)]

mod identity;
mod net;
mod prng;
mod runtime;
mod socket;
mod switch;
mod trace;

pub use identity::{Authority, Identity};
pub use net::Net;
pub use prng::Prng;
pub use runtime::{endpoint_config, rng_seed, run, runtime};
pub use trace::{Event, Fate};
