//! The work of the demo: sealing bytes with ChaCha20-Poly1305, and opening them again.
//!
//! A sealed message is a 12-byte random nonce, the ciphertext, and a 16-byte tag. With random nonces one key
//! is good for some 2^32 messages; a demo's key lives for one run.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use chacha20poly1305::aead::{AeadInOut, Generate, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};

const NONCE: usize = 12;
const TAG: usize = 16;

/// How much longer a sealed message is.
pub(crate) const OVERHEAD: usize = NONCE + TAG;

/// A key, ready to seal and open. `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct Sealer {
    cipher: ChaCha20Poly1305,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self {
            cipher: ChaCha20Poly1305::new(&Key::from(*key)),
        }
    }

    /// Reads the key from a file with 64 hexadecimal digits.
    pub(crate) fn read_from(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the key file {}", path.display()))?;
        match from_hex(text.trim()) {
            Some(key) => Ok(Self::new(&key)),
            None => bail!(
                "the key file {} must hold 32 bytes as 64 hexadecimal digits; make one with: \
                 head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \\n'",
                path.display()
            ),
        }
    }

    /// Seals with a fresh nonce from the system.
    pub(crate) fn seal(&self, plain: &[u8]) -> Result<Vec<u8>> {
        let nonce = Nonce::try_generate().map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .cipher
            .encrypt_inout_detached(&nonce, b"", (&mut sealed[NONCE..]).into())
            .map_err(|_| anyhow::anyhow!("the message is too long to encrypt"))?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens what [`seal`](Self::seal) made; `None` if it is anything else.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
        let (body, tag) = rest.split_last_chunk::<TAG>()?;
        let mut plain = body.to_vec();
        self.cipher
            .decrypt_inout_detached(
                &Nonce::from(*nonce),
                b"",
                plain.as_mut_slice().into(),
                &Tag::from(*tag),
            )
            .ok()?;
        Some(plain)
    }
}

/// A new random key.
pub(crate) fn random_key() -> Result<[u8; 32]> {
    let key = Key::try_generate().map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
    Ok(key.into())
}

pub(crate) fn to_hex(key: &[u8; 32]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::TempDir;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let sealer = Sealer::new(&[7; 32]);
        for plain in [&b""[..], b"a", &[0; 65_536]] {
            let sealed = sealer.seal(plain).unwrap();
            assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            assert_eq!(sealer.open(&sealed).as_deref(), Some(plain));
            assert_ne!(sealed, sealer.seal(plain).unwrap(), "the nonce was used twice");
            for at in [0, NONCE, sealed.len() - 1] {
                let mut bent = sealed.clone();
                bent[at] ^= 1;
                assert_eq!(sealer.open(&bent), None);
            }
            assert_eq!(sealer.open(&sealed[1..]), None);
            assert_eq!(Sealer::new(&[8; 32]).open(&sealed), None);
        }
        assert_eq!(sealer.open(&[0; OVERHEAD - 1]), None);
    }

    /// Sealed by another implementation, with the nonce 0, 1, 2, ...
    #[test]
    fn the_layout_is_nonce_ciphertext_tag() {
        let mut sealed: Vec<u8> = (0..12).collect();
        sealed.extend([0x40, 0x14, 0x88, 0x4c, 0x19, 0xef]);
        sealed.extend(0x7836_2d05_c398_a545_1c24_8bb8_e8e4_1376_u128.to_be_bytes());
        assert_eq!(
            Sealer::new(&[7; 32]).open(&sealed).as_deref(),
            Some(&b"layout"[..])
        );
    }

    #[test]
    fn key_files() {
        let temp = TempDir::new("lb-key-test").unwrap();
        let path = temp.path().join("key");
        let key = random_key().unwrap();
        fs::write(&path, to_hex(&key) + "\n").unwrap();
        let sealed = Sealer::read_from(&path).unwrap().seal(b"x").unwrap();
        assert_eq!(Sealer::new(&key).open(&sealed).as_deref(), Some(&b"x"[..]));
        for bad in [
            "",
            "00",
            &"g".repeat(64),
            &"0".repeat(63),
            &"0".repeat(65),
            &"é".repeat(32),
        ] {
            fs::write(&path, bad).unwrap();
            let error = Sealer::read_from(&path).unwrap_err().to_string();
            assert!(error.contains("64 hexadecimal digits"), "{bad}: {error}");
        }
        let error = format!("{:#}", Sealer::read_from(&temp.path().join("none")).unwrap_err());
        assert!(
            error.contains("none") && error.contains("No such file"),
            "{error}"
        );
    }
}
