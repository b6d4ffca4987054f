//! Sealed datagrams: authenticated, encrypted sessions over UDP for devices too small for TLS. Feature `seal`.
//!
//! An edge and a server share a key. One round trip (`HELLO`, `WELCOME`) of fresh randoms gives a [`Session`] with a
//! key for each direction; its datagrams are sealed with an AEAD under counters, the header as associated
//! data, and a window of [`WINDOW`] counters against replays. `SEAL.md` beside this crate's manifest has the bytes,
//! golden vectors and the threat model: what this gives and what it does not (no forward secrecy).
//!
//! * the edge: [`Initiator`], then [`Session`];
//! * the server: a [`KeyStore`], [`verify_hello`], a [`Seat`] for each device; or [`accept_hello`] and rules of its
//!   own. [`peek`] tells where a datagram goes. With `AnyCipher` (feature `seal-ascon`) it takes edges of every cipher.
//!
//! Like the rest of this crate it has no clock, no socket and no random: the caller hands them in. The
//! randoms must come from a cryptographic source, never from [`crate::rng`].
//!
//! # Silence
//!
//! **Whatever is refused is dropped in silence.** Every error here leaves its state as it was; the driver counts it and
//! does nothing else: no answer, no log line per datagram, no change of the address it sends to. Only a `HELLO` with a
//! right MAC is answered before a session exists, by fewer bytes than it had.
//!
//! # Size
//!
//! The edge's side, handshake and session, takes 9.2 KB of text on thumbv6m with [`ChaCha20Poly1305`] and 7.5 KB with
//! `Ascon128` (`opt-level = "s"`, LTO), **if** the firmware is built with `--cfg sha2_backend_soft="compact"` in its
//! `RUSTFLAGS`. Without, SHA-256 is unrolled: 9 KB more, for handshakes that are up to twice as fast. A [`Session`] takes
//! about 100 bytes of RAM, an [`Initiator`] 190, a [`Seat`] with two pending sessions 480.

mod cipher;
#[cfg(test)]
mod golden;
mod initiator;
mod key;
mod layout;
mod responder;
mod seat;
mod session;
mod window;

#[cfg(feature = "seal-ascon")]
pub use cipher::{AnyCipher, Ascon128};
pub use cipher::{ChaCha20Poly1305, Cipher, Suites};
pub use initiator::{Initiator, NEWEST_FIRST, RETRY_FIRST, RETRY_MOST, WelcomeError};
pub use key::{DeviceKey, KeyStore, PSK_BYTES, RANDOM_BYTES};
pub use layout::{HEADER_BYTES, HELLO_BYTES, OVERHEAD_BYTES, Peek, SEAL_VERSION, WELCOME_BYTES, peek};
pub use responder::{Hello, HelloError, PendingSession, accept_hello, verify_hello};
pub use seat::{Answer, Opened, Seat};
pub use session::{COUNTER_LIMIT, OpenError, REKEY_AFTER, SealError, Session};
pub use window::WINDOW;
