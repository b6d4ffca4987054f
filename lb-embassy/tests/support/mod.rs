//! A world for edges: virtual time, a simulated Ethernet, tasks polled by hand. Nothing in it depends on the machine.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod clock;
pub(crate) mod gone;
pub(crate) mod hub;
pub(crate) mod orchard;
pub(crate) mod server;
pub(crate) mod world;
