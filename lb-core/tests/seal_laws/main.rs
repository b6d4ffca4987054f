//! What an attacker on the path can do to sealed sessions: drop and delay, nothing else.
//!
//! `ends` makes devices, servers and sessions; `data` has the laws of sealed datagrams, for each cipher;
//! `handshake` those of `HELLO`s, keys and seats; `network` runs handshakes over a bad network; `suites` mixes
//! ciphers; `bytes` throws arbitrary ones.

mod bytes;
mod data;
mod ends;
mod handshake;
mod network;
#[cfg(feature = "seal-ascon")]
mod suites;
