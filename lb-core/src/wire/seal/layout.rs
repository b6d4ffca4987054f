//! The bytes of handshake and data, field by field.

use super::key::{DeviceKey, MAC_BYTES, RANDOM_BYTES};

/// The version of the format, the first byte of every datagram.
pub const SEAL_VERSION: u8 = 1;

/// Bytes of a `HELLO`.
pub const HELLO_BYTES: usize = HELLO_SIGNED + MAC_BYTES;

/// Bytes of a `WELCOME`.
pub const WELCOME_BYTES: usize = WELCOME_SIGNED + MAC_BYTES;

/// Bytes in front of a sealed payload.
pub const HEADER_BYTES: usize = 2 + 4 + 8;

/// Bytes that sealing adds to a payload: header and authentication tag.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + super::cipher::TAG_BYTES;

/// Version, type, suite, 0, key id, random, eight reserved bytes.
const HELLO_SIGNED: usize = 4 + 4 + RANDOM_BYTES + 8;

/// Version, type, suite, 0, key id, session tag, random.
const WELCOME_SIGNED: usize = 4 + 4 + 4 + RANDOM_BYTES;

// A server must be no amplifier: what it answers is not longer than what it was asked, and a datagram that
// proves nothing is not answered at all.
const _: () = assert!(WELCOME_BYTES <= HELLO_BYTES);

/// The second byte of every datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Type {
    Hello = 1,
    Welcome = 2,
    ToServer = 3,
    ToEdge = 4,
}

/// What a datagram is said to be, for routing it. Nothing of this is authentic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Peek {
    /// For [`super::verify_hello`].
    Hello {
        /// The number of the cipher the edge uses, [`super::Cipher::SUITE`].
        suite: u8,
        /// The id of the edge's key.
        key_id: u32,
    },
    /// For [`super::Initiator::handle_welcome`].
    Welcome {
        /// The id of the edge's key.
        key_id: u32,
    },
    /// A sealed datagram of an edge, for [`super::Seat::open`] or [`super::Session::open`].
    ToServer {
        /// The tag of the session.
        session: u32,
    },
    /// A sealed datagram of a server, for [`super::Session::open`].
    ToEdge {
        /// The tag of the session.
        session: u32,
    },
}

/// Reads what a datagram is said to be; `None` when it is nothing of this version.
///
/// ```
/// use lb_core::wire::seal::{Peek, peek};
/// assert_eq!(peek(&[1, 3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]), Some(Peek::ToServer { session: 9 }));
/// assert_eq!(peek(b"GET / HTTP/1.1"), None);
/// ```
#[must_use]
pub fn peek(datagram: &[u8]) -> Option<Peek> {
    let (&[version, kind], rest) = datagram.split_first_chunk()?;
    if version != SEAL_VERSION {
        return None;
    }
    if kind == Type::Hello as u8 {
        let hello = Hello::read(datagram).ok()?;
        return Some(Peek::Hello {
            suite: hello.suite,
            key_id: hello.key_id,
        });
    }
    if kind == Type::Welcome as u8 {
        let key_id = Welcome::read(datagram).ok()?.key_id;
        return Some(Peek::Welcome { key_id });
    }
    let session = u32::from_be_bytes(*rest.first_chunk()?);
    if kind == Type::ToServer as u8 {
        Some(Peek::ToServer { session })
    } else if kind == Type::ToEdge as u8 {
        Some(Peek::ToEdge { session })
    } else {
        None
    }
}

/// A datagram of the handshake that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    Malformed,
    Version(u8),
}

/// The fields of a `HELLO`.
pub(super) struct Hello<'a> {
    pub(super) suite: u8,
    pub(super) key_id: u32,
    pub(super) random: &'a [u8; RANDOM_BYTES],
    pub(super) signed: &'a [u8],
    pub(super) mac: &'a [u8; MAC_BYTES],
}

impl<'a> Hello<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let (suite, rest) = prefix(bytes, Type::Hello, HELLO_BYTES)?;
        let (key_id, rest) = rest.split_first_chunk().ok_or(ReadError::Malformed)?;
        let (random, _reserved) = rest.split_first_chunk().ok_or(ReadError::Malformed)?;
        let (signed, mac) = bytes.split_last_chunk().ok_or(ReadError::Malformed)?;
        Ok(Self {
            suite,
            key_id: u32::from_be_bytes(*key_id),
            random,
            signed,
            mac,
        })
    }
}

/// The `HELLO` of this key and random: always the same bytes.
pub(super) fn hello(suite: u8, key: &DeviceKey, random: &[u8; RANDOM_BYTES]) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    let prefix = [SEAL_VERSION, Type::Hello as u8, suite, 0];
    let id = key.id().to_be_bytes();
    put(&mut bytes, prefix.iter().chain(&id).chain(random));
    sign(&mut bytes, key, &[]);
    bytes
}

/// The fields of a `WELCOME`.
pub(super) struct Welcome<'a> {
    pub(super) suite: u8,
    pub(super) key_id: u32,
    pub(super) session: u32,
    pub(super) random: &'a [u8; RANDOM_BYTES],
    pub(super) signed: &'a [u8],
    pub(super) mac: &'a [u8; MAC_BYTES],
}

impl<'a> Welcome<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, ReadError> {
        let (suite, rest) = prefix(bytes, Type::Welcome, WELCOME_BYTES)?;
        let (key_id, rest) = rest.split_first_chunk().ok_or(ReadError::Malformed)?;
        let (session, rest) = rest.split_first_chunk().ok_or(ReadError::Malformed)?;
        let random = rest.first_chunk().ok_or(ReadError::Malformed)?;
        let (signed, mac) = bytes.split_last_chunk().ok_or(ReadError::Malformed)?;
        Ok(Self {
            suite,
            key_id: u32::from_be_bytes(*key_id),
            session: u32::from_be_bytes(*session),
            random,
            signed,
            mac,
        })
    }
}

/// The `WELCOME` that answers these bytes of a `HELLO`; its MAC covers both.
pub(super) fn welcome(
    suite: u8,
    key: &DeviceKey,
    session: u32,
    random: &[u8; RANDOM_BYTES],
    hello: &[u8; HELLO_BYTES],
) -> [u8; WELCOME_BYTES] {
    let mut bytes = [0; WELCOME_BYTES];
    let prefix = [SEAL_VERSION, Type::Welcome as u8, suite, 0];
    let (id, session) = (key.id().to_be_bytes(), session.to_be_bytes());
    put(&mut bytes, prefix.iter().chain(&id).chain(&session).chain(random));
    sign(&mut bytes, key, hello);
    bytes
}

/// The header of a sealed datagram, which is its associated data.
pub(super) fn header(kind: Type, session: u32, counter: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    let (session, counter) = (session.to_be_bytes(), counter.to_be_bytes());
    put(
        &mut bytes,
        [SEAL_VERSION, kind as u8].iter().chain(&session).chain(&counter),
    );
    bytes
}

/// The suite and what follows, of a datagram of this type and exactly this length.
fn prefix(bytes: &[u8], kind: Type, length: usize) -> Result<(u8, &[u8]), ReadError> {
    match bytes {
        [version, ..] if *version != SEAL_VERSION => Err(ReadError::Version(*version)),
        [_, is, suite, _, rest @ ..] if *is == kind as u8 && bytes.len() == length => Ok((*suite, rest)),
        _ => Err(ReadError::Malformed),
    }
}

fn put<'a>(to: &mut [u8], from: impl Iterator<Item = &'a u8>) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Ends the bytes with the MAC over what is before it and over `also`.
fn sign(bytes: &mut [u8], key: &DeviceKey, also: &[u8]) {
    if let Some((signed, mac)) = bytes.split_last_chunk_mut() {
        *mac = key.sign(signed, also);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let key = DeviceKey::new(7, &[1; 32], "orchard");
        let bytes = hello(1, &key, &[2; 16]);
        let read = Hello::read(&bytes).unwrap();
        assert_eq!((read.suite, read.key_id, read.random), (1, 7, &[2; 16]));
        assert!(key.verify(read.signed, &[], read.mac));
        let answer = welcome(1, &key, 9, &[3; 16], &bytes);
        let read = Welcome::read(&answer).unwrap();
        assert_eq!(
            (read.suite, read.key_id, read.session, read.random),
            (1, 7, 9, &[3; 16])
        );
        assert!(key.verify(read.signed, &bytes, read.mac));
        assert_eq!(peek(&bytes), Some(Peek::Hello { suite: 1, key_id: 7 }));
        assert_eq!(peek(&answer), Some(Peek::Welcome { key_id: 7 }));
        assert_eq!(
            peek(&header(Type::ToEdge, 9, 1)),
            Some(Peek::ToEdge { session: 9 })
        );
        assert_eq!(
            peek(&header(Type::ToServer, 9, 1)),
            Some(Peek::ToServer { session: 9 })
        );
    }

    #[test]
    fn lengths_are_exact() {
        let key = DeviceKey::new(7, &[1; 32], "orchard");
        let bytes = hello(1, &key, &[2; 16]);
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Hello::read(&longer).is_err());
        assert!((0..HELLO_BYTES).all(|short| Hello::read(&bytes[..short]).is_err()));
        assert!(Welcome::read(&bytes).is_err());
    }
}
