//! An established session: sealing and opening datagrams.

use core::fmt;

use super::cipher::{ChaCha20Poly1305, Suites};
use super::key::{DeviceKey, RANDOM_BYTES, Secret};
use super::layout::{HEADER_BYTES, OVERHEAD_BYTES, SEAL_VERSION, Type, header};
use super::window::{Refused, Window};

/// From this many datagrams in one direction on, [`Session::needs_rekey`] asks for a new handshake.
pub const REKEY_AFTER: u64 = 1 << 32;

/// No counter reaches this: a session that was not replaced by then stops sealing, and refuses to open.
pub const COUNTER_LIMIT: u64 = 1 << 33;

const _: () = assert!(REKEY_AFTER < COUNTER_LIMIT && COUNTER_LIMIT < u64::MAX);

/// Which end of a session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Edge,
    Server,
}

/// What both ends know of a new session, but for the key.
pub(super) struct Agreed<'a> {
    pub(super) tag: u32,
    pub(super) edge_random: &'a [u8; RANDOM_BYTES],
    pub(super) server_random: &'a [u8; RANDOM_BYTES],
}

/// Seals and opens the datagrams of one session, at one of its ends.
///
/// [`super::Initiator`] makes the edge's, [`super::PendingSession`] the server's. It lives in memory only: after
/// a reboot there is a new handshake and so a new session with new keys; no counter is ever stored.
///
/// Whatever [`Session::open`] refuses is to be dropped **in silence**: count it, answer nothing, and change
/// nothing because of it, above all not the address to which the next datagram goes.
///
/// ```
/// use lb_core::Instant;
/// use lb_core::wire::seal::*;
///
/// let key = || DeviceKey::new(7, &[0x42; 32], "orchard");
/// let mut edge = Initiator::<ChaCha20Poly1305>::new(key(), None);
/// edge.start(Instant::ZERO, [1; 16]); // fresh randoms, both: from hardware
/// let hello = edge.poll_transmit(Instant::ZERO).unwrap();
/// let (welcome, pending) = accept_hello::<ChaCha20Poly1305>(&[key()], &hello, 9, &[2; 16])?;
/// let (mut edge, mut server) = (edge.handle_welcome(&welcome)?, pending.into_session());
///
/// let mut datagram = [0; 100];
/// let length = edge.seal(b"21.5 C", &mut datagram)?;
/// assert_eq!(length, 6 + OVERHEAD_BYTES);
/// let mut copy = datagram;
/// assert_eq!(server.open(&mut datagram[..length])?, b"21.5 C");
/// assert_eq!(server.open(&mut copy[..length]), Err(OpenError::Replayed));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Session<C: Suites = ChaCha20Poly1305> {
    tag: u32,
    end: End,
    seals: Secret,
    opens: Secret,
    /// The counter of the next datagram.
    next: u64,
    /// One past the highest counter opened.
    opened: u64,
    window: Window,
    cipher: C,
}

impl<C: Suites> Session<C> {
    pub(super) fn new(end: End, cipher: C, key: &DeviceKey, agreed: &Agreed<'_>) -> Self {
        let tag = agreed.tag;
        let (to_server, to_edge) = key.session(cipher.suite(), tag, agreed.edge_random, agreed.server_random);
        let (seals, opens) = match end {
            End::Edge => (to_server, to_edge),
            End::Server => (to_edge, to_server),
        };
        Self {
            tag,
            end,
            seals,
            opens,
            next: 0,
            opened: 0,
            window: Window::default(),
            cipher,
        }
    }

    /// The cipher the session was made with.
    pub(super) const fn cipher(&self) -> C {
        self.cipher
    }

    /// The tag by which the server knows the session; in every header, in the clear.
    #[must_use]
    pub const fn tag(&self) -> u32 {
        self.tag
    }

    /// Whether a datagram was ever opened: the other end has the session, and is not a replayed `HELLO`.
    ///
    /// An edge whose session stays unconfirmed although it sends must start a new handshake: the server may
    /// have forgotten it. So must one whose session falls silent. A server never says so, because it could
    /// not prove it.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        self.opened > 0
    }

    /// Whether it is time for a new handshake: [`REKEY_AFTER`] datagrams went either way. Until the new
    /// session is there this one goes on, up to [`COUNTER_LIMIT`].
    #[must_use]
    pub const fn needs_rekey(&self) -> bool {
        self.next >= REKEY_AFTER || self.opened >= REKEY_AFTER
    }

    /// Writes the sealed payload to `out` and returns its length, the payload's plus [`OVERHEAD_BYTES`].
    ///
    /// # Errors
    /// [`SealError`]; the session is unchanged, `out` unspecified.
    pub fn seal(&mut self, payload: &[u8], out: &mut [u8]) -> Result<usize, SealError> {
        let room = out
            .get_mut(HEADER_BYTES..)
            .and_then(|rest| rest.get_mut(..payload.len()))
            .ok_or(SealError::BufferTooSmall)?;
        room.copy_from_slice(payload);
        self.seal_in_place(payload.len(), out)
    }

    /// As [`Session::seal`], for a payload of `length` bytes that was written to `buffer` behind
    /// [`HEADER_BYTES`] free bytes: no second buffer is needed.
    ///
    /// # Errors
    /// [`SealError`]; the session is unchanged, `buffer` unspecified.
    pub fn seal_in_place(&mut self, length: usize, buffer: &mut [u8]) -> Result<usize, SealError> {
        if self.next >= COUNTER_LIMIT {
            return Err(SealError::Exhausted);
        }
        let total = length
            .checked_add(OVERHEAD_BYTES)
            .ok_or(SealError::BufferTooSmall)?;
        let datagram = buffer.get_mut(..total).ok_or(SealError::BufferTooSmall)?;
        let (head, rest) = datagram
            .split_first_chunk_mut()
            .ok_or(SealError::BufferTooSmall)?;
        let (text, mac) = rest.split_last_chunk_mut().ok_or(SealError::BufferTooSmall)?;
        *head = header(self.sent_type(), self.tag, self.next);
        *mac = self
            .cipher
            .encrypt(self.seals.bytes(), self.tag, self.next, head, text)
            .ok_or(SealError::TooLong)?;
        self.next = self.next.saturating_add(1);
        Ok(total)
    }

    /// Opens a whole sealed datagram in place and returns its payload.
    ///
    /// # Errors
    /// [`OpenError`]; the session is unchanged. What `datagram` then holds is unspecified and must not be
    /// used: some ciphers decrypt before they know.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<&'a [u8], OpenError> {
        let (head, rest) = datagram
            .split_first_chunk_mut::<HEADER_BYTES>()
            .ok_or(OpenError::Malformed)?;
        let (text, mac) = rest.split_last_chunk_mut().ok_or(OpenError::Malformed)?;
        let &mut [version, kind, t0, t1, t2, t3, ref counter @ ..] = head;
        if version != SEAL_VERSION {
            return Err(OpenError::Version(version));
        }
        if kind != self.awaited_type() as u8 {
            return Err(if kind == self.sent_type() as u8 {
                OpenError::WrongDirection
            } else {
                OpenError::Malformed
            });
        }
        let tag = u32::from_be_bytes([t0, t1, t2, t3]);
        if tag != self.tag {
            return Err(OpenError::ForeignSession(tag));
        }
        let counter = u64::from_be_bytes(*counter);
        if counter >= COUNTER_LIMIT {
            return Err(OpenError::Exhausted);
        }
        self.window.check(counter).map_err(|refused| match refused {
            Refused::Replayed => OpenError::Replayed,
            Refused::TooOld => OpenError::TooOld,
        })?;
        if !self
            .cipher
            .decrypt(self.opens.bytes(), tag, counter, head, text, mac)
        {
            return Err(OpenError::Forged);
        }
        self.window.take(counter);
        self.opened = self.opened.max(counter.saturating_add(1));
        Ok(text)
    }

    const fn sent_type(&self) -> Type {
        match self.end {
            End::Edge => Type::ToServer,
            End::Server => Type::ToEdge,
        }
    }

    const fn awaited_type(&self) -> Type {
        match self.end {
            End::Edge => Type::ToEdge,
            End::Server => Type::ToServer,
        }
    }
}

impl<C: Suites> fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("tag", &self.tag)
            .field("end", &self.end)
            .field("next", &self.next)
            .field("opened", &self.opened)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<C: Suites> defmt::Format for Session<C> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Session {{ tag: {}, next: {}, opened: {}, .. }}",
            self.tag,
            self.next,
            self.opened
        );
    }
}

/// A payload that was not sealed. The session is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SealError {
    /// The buffer is shorter than the payload and [`OVERHEAD_BYTES`].
    BufferTooSmall,
    /// [`COUNTER_LIMIT`] is reached. Only a new handshake helps.
    Exhausted,
    /// The payload is too long for the cipher, by far more than a datagram could carry.
    TooLong,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall => {
                write!(
                    f,
                    "buffer too small: sealing adds {OVERHEAD_BYTES} bytes to the payload"
                )
            }
            Self::Exhausted => f.write_str("the session is used up: make a new handshake"),
            Self::TooLong => f.write_str("payload too long"),
        }
    }
}

impl core::error::Error for SealError {}

/// A datagram that was not opened. The session is unchanged; drop the datagram in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OpenError {
    /// Not a sealed datagram: too short, or of another type.
    Malformed,
    /// Another version of the format.
    Version(u8),
    /// It is for the other end: reflected, or sent to the wrong place.
    WrongDirection,
    /// It belongs to the session with this tag.
    ForeignSession(u32),
    /// This counter was already opened.
    Replayed,
    /// Its counter is [`super::WINDOW`] or more behind the highest opened one: a replay, or far too late.
    TooOld,
    /// Its counter is at [`COUNTER_LIMIT`] or beyond, where nothing is sealed.
    Exhausted,
    /// It is not authentic: made or changed by someone without the key.
    Forged,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("not a sealed datagram"),
            Self::Version(theirs) => {
                write!(
                    f,
                    "seal version {theirs} is not spoken here (ours is {SEAL_VERSION})"
                )
            }
            Self::WrongDirection => f.write_str("sealed for the other end"),
            Self::ForeignSession(tag) => write!(f, "sealed in another session ({tag:#010x})"),
            Self::Replayed => f.write_str("opened before"),
            Self::TooOld => f.write_str("too old to tell whether it was opened before"),
            Self::Exhausted => f.write_str("counter beyond the limit"),
            Self::Forged => f.write_str("not authentic"),
        }
    }
}

impl core::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::super::cipher::sealed::Aead;
    use super::*;

    fn pair() -> (Session, Session) {
        let key = DeviceKey::new(7, &[1; 32], "orchard");
        let agreed = Agreed {
            tag: 9,
            edge_random: &[2; 16],
            server_random: &[3; 16],
        };
        (
            Session::new(End::Edge, ChaCha20Poly1305, &key, &agreed),
            Session::new(End::Server, ChaCha20Poly1305, &key, &agreed),
        )
    }

    fn seal(session: &mut Session, payload: &[u8]) -> std::vec::Vec<u8> {
        let mut buffer = std::vec![0; payload.len() + OVERHEAD_BYTES];
        session.seal(payload, &mut buffer).unwrap();
        buffer
    }

    #[test]
    fn a_new_handshake_is_asked_for_long_before_the_end() {
        let (mut edge, mut server) = pair();
        edge.next = REKEY_AFTER - 1;
        assert!(!edge.needs_rekey());
        let mut datagram = seal(&mut edge, b"x");
        assert!(edge.needs_rekey());
        assert!(!server.needs_rekey());
        assert_eq!(server.open(&mut datagram), Ok(b"x".as_slice()));
        assert!(server.needs_rekey(), "either end notices");

        edge.next = COUNTER_LIMIT - 1;
        assert_eq!(server.open(&mut seal(&mut edge, b"last")), Ok(b"last".as_slice()));
        let mut buffer = [0; 64];
        assert_eq!(edge.seal(b"more", &mut buffer), Err(SealError::Exhausted));
        assert_eq!(edge.next, COUNTER_LIMIT);
    }

    #[test]
    fn a_counter_at_the_limit_is_refused_even_if_authentic() {
        let (edge, mut server) = pair();
        let head = header(Type::ToServer, 9, COUNTER_LIMIT);
        let mut text = *b"x";
        let mac = ChaCha20Poly1305
            .encrypt(edge.seals.bytes(), 9, COUNTER_LIMIT, &head, &mut text)
            .unwrap();
        let mut datagram: std::vec::Vec<u8> = head.iter().chain(&text).chain(&mac).copied().collect();
        assert_eq!(server.open(&mut datagram), Err(OpenError::Exhausted));
    }

    #[test]
    fn a_small_buffer_uses_no_counter() {
        let (mut edge, _) = pair();
        let mut buffer = [0; OVERHEAD_BYTES + 3];
        for short in 0..buffer.len() {
            assert_eq!(
                edge.seal(b"abc", &mut buffer[..short]),
                Err(SealError::BufferTooSmall)
            );
        }
        assert_eq!(
            edge.seal_in_place(usize::MAX, &mut buffer),
            Err(SealError::BufferTooSmall)
        );
        assert_eq!(edge.next, 0);
        assert_eq!(edge.seal(b"abc", &mut buffer), Ok(buffer.len()));
    }

    #[test]
    fn sizes_are_what_the_page_says() {
        assert!(size_of::<Session>() <= 112);
        assert!(size_of::<super::super::Initiator>() <= 192);
        assert!(size_of::<super::super::Seat>() <= 488);
        #[cfg(feature = "seal-ascon")]
        assert_eq!(
            size_of::<super::super::Seat<super::super::AnyCipher>>(),
            size_of::<super::super::Seat>()
        );
    }

    #[test]
    fn nothing_secret_is_printed() {
        let (edge, _) = pair();
        assert_eq!(
            format!("{edge:?}"),
            "Session { tag: 9, end: Edge, next: 0, opened: 0, .. }"
        );
    }
}
