//! Load-balanced calls over a QUIC cluster with mutual TLS.

pub mod identity;
mod runtime;

pub use runtime::CoalescingRuntime;
