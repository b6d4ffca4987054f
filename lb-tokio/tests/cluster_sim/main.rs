//! Whole clusters in virtual time: this crate's own nodes over the simulated network.

mod calls;
mod lab;
mod partition;
mod quiet;
mod restart;
#[path = "../sim/mod.rs"]
mod sim;
mod simultaneous;
mod start;
