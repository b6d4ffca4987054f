//! The ciphers a session can use, behind one small trait.

use chacha20poly1305::aead::{AeadInOut, KeyInit};

/// Bytes of a key. A cipher with shorter keys takes the first bytes.
pub(super) const KEY_BYTES: usize = 32;

/// Bytes of an authentication tag, for every cipher.
pub(super) const TAG_BYTES: usize = 16;

/// What one end of a session speaks: a single [`Cipher`], or with the feature `seal-ascon` whichever the other end uses,
/// `AnyCipher`.
///
/// An edge has one cipher; a server may be made for several. A session has one from its `HELLO` to its end. Sealed: the
/// nonces are safe for these ciphers only.
pub trait Suites: sealed::Aead {}

/// An AEAD for [`super::Session`]: [`ChaCha20Poly1305`] or, with the feature `seal-ascon`, `Ascon128`.
///
/// Its [`Cipher::SUITE`] is in the handshake and in the keys; the other end must speak it too.
pub trait Cipher: Suites + Default {
    /// The cipher's number on the wire.
    const SUITE: u8;
}

pub(super) mod sealed {
    use super::{KEY_BYTES, TAG_BYTES};

    pub trait Aead: Copy {
        /// The cipher with this number, if it is spoken.
        fn of(suite: u8) -> Option<Self>;

        /// The cipher's number.
        fn suite(self) -> u8;

        /// Encrypts in place and gives the tag; `None` when the text is too long for the cipher.
        fn encrypt(
            self,
            key: &[u8; KEY_BYTES],
            session: u32,
            counter: u64,
            header: &[u8],
            text: &mut [u8],
        ) -> Option<[u8; TAG_BYTES]>;

        /// Decrypts in place; whether it is authentic. If not, the text is unspecified.
        fn decrypt(
            self,
            key: &[u8; KEY_BYTES],
            session: u32,
            counter: u64,
            header: &[u8],
            text: &mut [u8],
            tag: &[u8; TAG_BYTES],
        ) -> bool;
    }
}

/// The nonce: the session, zeros, the counter; big-endian, so that it is the same bytes as in the header.
fn nonce<const N: usize>(session: u32, counter: u64) -> [u8; N] {
    let mut nonce = [0; N];
    if let Some(first) = nonce.first_chunk_mut() {
        *first = session.to_be_bytes();
    }
    if let Some(last) = nonce.last_chunk_mut() {
        *last = counter.to_be_bytes();
    }
    nonce
}

/// ChaCha20-Poly1305 (RFC 8439), the default: the fastest where there is no cipher hardware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ChaCha20Poly1305;

impl Suites for ChaCha20Poly1305 {}

impl Cipher for ChaCha20Poly1305 {
    const SUITE: u8 = 1;
}

impl sealed::Aead for ChaCha20Poly1305 {
    fn of(suite: u8) -> Option<Self> {
        (suite == Self::SUITE).then_some(Self)
    }

    fn suite(self) -> u8 {
        Self::SUITE
    }

    fn encrypt(
        self,
        key: &[u8; KEY_BYTES],
        session: u32,
        counter: u64,
        header: &[u8],
        text: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        let nonce = nonce::<12>(session, counter);
        chacha20poly1305::ChaCha20Poly1305::new(key.into())
            .encrypt_inout_detached((&nonce).into(), header, text.into())
            .ok()
            .map(Into::into)
    }

    fn decrypt(
        self,
        key: &[u8; KEY_BYTES],
        session: u32,
        counter: u64,
        header: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> bool {
        let nonce = nonce::<12>(session, counter);
        chacha20poly1305::ChaCha20Poly1305::new(key.into())
            .decrypt_inout_detached((&nonce).into(), header, text.into(), tag.into())
            .is_ok()
    }
}

/// Ascon-AEAD128 (NIST SP 800-232): the smallest text and stack, at some cost in speed on 32-bit cores.
#[cfg(feature = "seal-ascon")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ascon128;

#[cfg(feature = "seal-ascon")]
impl Suites for Ascon128 {}

#[cfg(feature = "seal-ascon")]
impl Cipher for Ascon128 {
    const SUITE: u8 = 2;
}

#[cfg(feature = "seal-ascon")]
impl sealed::Aead for Ascon128 {
    fn of(suite: u8) -> Option<Self> {
        (suite == Self::SUITE).then_some(Self)
    }

    fn suite(self) -> u8 {
        Self::SUITE
    }

    fn encrypt(
        self,
        key: &[u8; KEY_BYTES],
        session: u32,
        counter: u64,
        header: &[u8],
        text: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        let nonce = nonce::<16>(session, counter);
        ascon_aead::AsconAead128::new(key.first_chunk::<16>()?.into())
            .encrypt_inout_detached((&nonce).into(), header, text.into())
            .ok()
            .map(Into::into)
    }

    fn decrypt(
        self,
        key: &[u8; KEY_BYTES],
        session: u32,
        counter: u64,
        header: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> bool {
        let nonce = nonce::<16>(session, counter);
        key.first_chunk::<16>().is_some_and(|key| {
            ascon_aead::AsconAead128::new(key.into())
                .decrypt_inout_detached((&nonce).into(), header, text.into(), tag.into())
                .is_ok()
        })
    }
}

/// Every cipher: for servers whose edges do not all use the same.
///
/// [`super::Seat`] with it holds the sessions of one device, of whichever suite each is, in the room of one cipher.
#[cfg(feature = "seal-ascon")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AnyCipher {
    /// Suite 1.
    ChaCha20Poly1305,
    /// Suite 2.
    Ascon128,
}

#[cfg(feature = "seal-ascon")]
impl Suites for AnyCipher {}

#[cfg(feature = "seal-ascon")]
impl sealed::Aead for AnyCipher {
    fn of(suite: u8) -> Option<Self> {
        match suite {
            ChaCha20Poly1305::SUITE => Some(Self::ChaCha20Poly1305),
            Ascon128::SUITE => Some(Self::Ascon128),
            _ => None,
        }
    }

    fn suite(self) -> u8 {
        match self {
            Self::ChaCha20Poly1305 => ChaCha20Poly1305::SUITE,
            Self::Ascon128 => Ascon128::SUITE,
        }
    }

    fn encrypt(
        self,
        key: &[u8; KEY_BYTES],
        session: u32,
        counter: u64,
        header: &[u8],
        text: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        match self {
            Self::ChaCha20Poly1305 => ChaCha20Poly1305.encrypt(key, session, counter, header, text),
            Self::Ascon128 => Ascon128.encrypt(key, session, counter, header, text),
        }
    }

    fn decrypt(
        self,
        key: &[u8; KEY_BYTES],
        session: u32,
        counter: u64,
        header: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> bool {
        match self {
            Self::ChaCha20Poly1305 => ChaCha20Poly1305.decrypt(key, session, counter, header, text, tag),
            Self::Ascon128 => Ascon128.decrypt(key, session, counter, header, text, tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_hold_session_and_counter_apart() {
        assert_eq!(nonce::<12>(0x0102_0304, 5), [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(
            nonce::<16>(1, u64::MAX),
            [0, 0, 0, 1, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]
        );
    }
    #[cfg(feature = "seal-ascon")]
    #[test]
    fn any_cipher_is_the_one_that_was_asked_for() {
        use super::sealed::Aead;

        let seal = |cipher: AnyCipher| {
            let mut text = *b"text";
            let tag = cipher.encrypt(&[1; KEY_BYTES], 2, 3, b"header", &mut text);
            (text, tag)
        };
        for suite in 0..=u8::MAX {
            let any = AnyCipher::of(suite);
            assert_eq!(any.is_some(), (1..=2).contains(&suite));
            assert!(any.is_none_or(|any| any.suite() == suite));
        }
        let [mut chacha, mut ascon] = [*b"text"; 2];
        let tag = ChaCha20Poly1305.encrypt(&[1; KEY_BYTES], 2, 3, b"header", &mut chacha);
        assert_eq!(seal(AnyCipher::ChaCha20Poly1305), (chacha, tag));
        let tag = Ascon128.encrypt(&[1; KEY_BYTES], 2, 3, b"header", &mut ascon);
        assert_eq!(seal(AnyCipher::Ascon128), (ascon, tag));
        assert_ne!(chacha, ascon);
    }
}
