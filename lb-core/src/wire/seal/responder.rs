//! The server's side of the handshake. It keeps nothing until a `HELLO` has proven itself.

use core::fmt;

use super::cipher::{ChaCha20Poly1305, Suites};
use super::key::{DeviceKey, KeyStore, RANDOM_BYTES};
use super::layout::{self, HELLO_BYTES, ReadError, SEAL_VERSION, WELCOME_BYTES};
use super::session::{Agreed, End, OpenError, Session};

/// A `HELLO` whose MAC is right. It may still be a replay: only a sealed datagram proves that the edge is there.
pub struct Hello<'a, C: Suites = ChaCha20Poly1305> {
    key: &'a DeviceKey,
    newest: bool,
    cipher: C,
    random: &'a [u8; RANDOM_BYTES],
    bytes: &'a [u8; HELLO_BYTES],
}

/// Checks a `HELLO` against the keys of a store. Costs one HMAC for each key of its id, none for an unknown id.
///
/// # Errors
/// [`HelloError`]: drop the datagram in silence. There is no state that could have changed.
pub fn verify_hello<'a, C: Suites>(
    store: &'a (impl KeyStore + ?Sized),
    hello: &'a [u8],
) -> Result<Hello<'a, C>, HelloError> {
    let fields = layout::Hello::read(hello).map_err(|error| match error {
        ReadError::Malformed => HelloError::Malformed,
        ReadError::Version(theirs) => HelloError::Version(theirs),
    })?;
    let cipher = C::of(fields.suite).ok_or(HelloError::Suite(fields.suite))?;
    let bytes = hello.first_chunk().ok_or(HelloError::Malformed)?;
    let mut refused = HelloError::UnknownKey(fields.key_id);
    for (key, newest) in store.keys(fields.key_id).into_iter().zip([true, false]) {
        let Some(key) = key else { continue };
        if key.verify(fields.signed, &[], fields.mac) {
            return Ok(Hello {
                key,
                newest,
                cipher,
                random: fields.random,
                bytes,
            });
        }
        refused = HelloError::Forged;
    }
    Err(refused)
}

impl<C: Suites> Hello<'_, C> {
    /// The id of the edge's key.
    #[must_use]
    pub const fn key_id(&self) -> u32 {
        self.key.id()
    }

    /// Whether it was made with the store's newest key of that id. When it never is the older one any more,
    /// that one can go.
    #[must_use]
    pub const fn is_newest_key(&self) -> bool {
        self.newest
    }

    /// Whether this session was made for this `HELLO`; `random` is what the edge contributed to it.
    ///
    /// The key does not matter: an edge with two tries both with one random, and takes the answer to either.
    pub(super) fn made(&self, session: &Session<C>, random: &[u8; RANDOM_BYTES]) -> bool {
        // The random is public: there is no secret to compare in constant time.
        session.cipher().suite() == self.cipher.suite() && random == self.random
    }

    /// Answers: the session waits for its first sealed datagram, and its `WELCOME` is to be sent.
    ///
    /// `tag` must be unique among the sessions of this server, pending ones included; `server_random` must be
    /// 16 fresh bytes of a good source each time: they make a replayed `HELLO` worthless.
    #[must_use]
    pub fn accept(&self, tag: u32, server_random: &[u8; RANDOM_BYTES]) -> PendingSession<C> {
        let agreed = Agreed {
            tag,
            edge_random: self.random,
            server_random,
        };
        PendingSession {
            session: Session::new(End::Server, self.cipher, self.key, &agreed),
            edge_random: *self.random,
            welcome: layout::welcome(self.cipher.suite(), self.key, tag, server_random, self.bytes),
        }
    }
}

/// [`verify_hello`] and [`Hello::accept`] in one, for servers that keep sessions their own way.
/// [`super::Seat`] is the way with the least to get wrong.
///
/// # Errors
/// [`HelloError`]: drop the datagram in silence. There is no state that could have changed.
pub fn accept_hello<C: Suites>(
    store: &(impl KeyStore + ?Sized),
    hello: &[u8],
    tag: u32,
    server_random: &[u8; RANDOM_BYTES],
) -> Result<([u8; WELCOME_BYTES], PendingSession<C>), HelloError> {
    let pending = verify_hello::<C>(store, hello)?.accept(tag, server_random);
    Ok((pending.welcome, pending))
}

/// A session whose edge was not heard in it yet.
///
/// The `HELLO` may have been a replay. So it must not displace an established session, and nothing may be
/// sealed in it, before [`PendingSession::open`] has opened a datagram.
pub struct PendingSession<C: Suites = ChaCha20Poly1305> {
    session: Session<C>,
    edge_random: [u8; RANDOM_BYTES],
    welcome: [u8; WELCOME_BYTES],
}

impl<C: Suites> PendingSession<C> {
    /// The tag of the session.
    #[must_use]
    pub const fn tag(&self) -> u32 {
        self.session.tag()
    }

    /// The `WELCOME`, to be sent again, as it is, when the same `HELLO` comes again.
    #[must_use]
    pub const fn welcome(&self) -> &[u8; WELCOME_BYTES] {
        &self.welcome
    }

    /// Whether it answers this `HELLO`.
    #[must_use]
    pub fn answers(&self, hello: &Hello<'_, C>) -> bool {
        hello.made(&self.session, &self.edge_random)
    }

    /// Opens a datagram. If that succeeds, the edge is there: take [`PendingSession::into_session`], and end
    /// the edge's former session.
    ///
    /// # Errors
    /// As [`Session::open`]: nothing changed.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        self.session.open(datagram)
    }

    /// The session. Before a datagram was opened in it, it may be with nobody.
    #[must_use]
    pub fn into_session(self) -> Session<C> {
        self.session
    }

    pub(super) const fn edge_random(&self) -> &[u8; RANDOM_BYTES] {
        &self.edge_random
    }
}

impl<C: Suites> fmt::Debug for Hello<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("key", &self.key)
            .field("newest", &self.newest)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<C: Suites> defmt::Format for Hello<'_, C> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Hello {{ key: {}, newest: {}, .. }}", self.key, self.newest);
    }
}

impl<C: Suites> fmt::Debug for PendingSession<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingSession")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<C: Suites> defmt::Format for PendingSession<C> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "PendingSession {{ session: {}, .. }}", self.session);
    }
}

/// A `HELLO` that was refused, and is to be dropped in silence. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum HelloError {
    /// Not a `HELLO`.
    Malformed,
    /// Another version of the format.
    Version(u8),
    /// The edge uses the cipher with this number, which this server was not made for.
    Suite(u8),
    /// The store has no key with this id.
    UnknownKey(u32),
    /// Made by someone without the key, or for another cluster.
    Forged,
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("not a HELLO"),
            Self::Version(theirs) => {
                write!(
                    f,
                    "seal version {theirs} is not spoken here (ours is {SEAL_VERSION})"
                )
            }
            Self::Suite(theirs) => write!(f, "the edge uses cipher suite {theirs}: build both with the same"),
            Self::UnknownKey(id) => write!(f, "no key with id {id}"),
            Self::Forged => f.write_str("made with another key or for another cluster"),
        }
    }
}

impl core::error::Error for HelloError {}
