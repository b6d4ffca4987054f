//! The ciphers a session can use, behind one small trait.

use chacha20poly1305::aead::{AeadInOut, KeyInit};

/// Bytes of a key. A cipher with shorter keys takes the first bytes.
pub(super) const KEY_BYTES: usize = 32;

/// Bytes of an authentication tag, for every cipher.
pub(super) const TAG_BYTES: usize = 16;

/// An AEAD for [`super::Session`]: [`ChaCha20Poly1305`] or, with the feature `seal-ascon`, `Ascon128`.
///
/// Both ends must use the same one: its [`Cipher::SUITE`] is in the handshake and in the keys. Sealed: the
/// nonces are safe for these ciphers only.
pub trait Cipher: sealed::Aead {
    /// The cipher's number on the wire.
    const SUITE: u8;
}

pub(super) mod sealed {
    use super::{KEY_BYTES, TAG_BYTES};

    pub trait Aead {
        /// Encrypts in place and gives the tag; `None` when the text is too long for the cipher.
        fn encrypt(
            key: &[u8; KEY_BYTES],
            session: u32,
            counter: u64,
            header: &[u8],
            text: &mut [u8],
        ) -> Option<[u8; TAG_BYTES]>;

        /// Decrypts in place; whether it is authentic. If not, the text is unspecified.
        fn decrypt(
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

impl Cipher for ChaCha20Poly1305 {
    const SUITE: u8 = 1;
}

impl sealed::Aead for ChaCha20Poly1305 {
    fn encrypt(
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
impl Cipher for Ascon128 {
    const SUITE: u8 = 2;
}

#[cfg(feature = "seal-ascon")]
impl sealed::Aead for Ascon128 {
    fn encrypt(
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
}
