//! Device keys, what is derived from them, and where a server finds them.

use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// Bytes of a pre-shared key.
pub const PSK_BYTES: usize = 32;

/// Bytes of the random each side contributes to a session.
pub const RANDOM_BYTES: usize = 16;

/// Bytes of the MACs of the handshake: HMAC-SHA-256, truncated.
pub(super) const MAC_BYTES: usize = 16;

const LABEL_ROOT: &[u8] = b"lb-seal 1";
const LABEL_MAC: &[u8] = b"mac";
const LABEL_SEED: &[u8] = b"seed";
const LABEL_TO_SERVER: &[u8] = b"to server";
const LABEL_TO_EDGE: &[u8] = b"to edge";
const LABEL_FINGERPRINT: &[u8] = b"fingerprint";

/// 32 secret bytes, wiped when dropped and never printed.
#[derive(Clone)]
pub(super) struct Secret([u8; 32]);

impl Secret {
    pub(super) const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// HMAC-SHA-256 of the parts, one after the other. The only one in the image: not inlined, or flash pays for
/// it at every use.
///
/// A key shorter than a block is the same as that key padded with zeros (RFC 2104), and to a whole block there
/// is no error.
#[inline(never)]
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> Secret {
    let mut block = [0; 64];
    put(&mut block, key);
    let mut mac = Hmac::<Sha256>::new((&block).into());
    block.zeroize();
    for part in parts {
        mac.update(part);
    }
    Secret(mac.finalize().into_bytes().into())
}

fn put<'a>(to: &mut [u8], from: impl IntoIterator<Item = &'a u8>) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// HKDF-Extract (RFC 5869). The salt is at most 32 bytes.
fn extract(salt: &[u8], secret: &[u8]) -> Secret {
    let mut key = [0; 32];
    put(&mut key, salt);
    hmac(&key, &[secret])
}

/// HKDF-Expand (RFC 5869) to one block, 32 bytes, with `label ‖ 00 ‖ context` as the info.
fn expand(key: &Secret, label: &[u8], context: [&[u8]; 3]) -> Secret {
    let [first, second, third] = context;
    hmac(key.bytes(), &[label, &[0], first, second, third, &[1]])
}

/// The key of one device in one cluster, ready for use.
///
/// It does not hold the pre-shared key, only what is derived from it for this cluster and key id, so that a
/// forged `HELLO` costs a server one HMAC. 68 bytes; wiped when dropped; not printed.
///
/// ```
/// use lb_core::wire::seal::DeviceKey;
/// let key = DeviceKey::new(7, &[0x42; 32], "orchard");
/// assert_eq!(key.id(), 7);
/// assert_eq!(format!("{key:?}"), "DeviceKey { id: 7, .. }");
/// ```
#[derive(Clone)]
pub struct DeviceKey {
    id: u32,
    mac: Secret,
    seed: Secret,
}

impl DeviceKey {
    /// The key with this id. `psk` must be 32 bytes of a good random source, of this device alone; `cluster` is
    /// the cluster's name, and keys of another cluster do not fit, even from the same `psk`.
    #[must_use]
    pub fn new(id: u32, psk: &[u8; PSK_BYTES], cluster: &str) -> Self {
        let root = extract(LABEL_ROOT, psk);
        let id_bytes = id.to_be_bytes();
        let derive = |label| expand(&root, label, [&id_bytes, cluster.as_bytes(), &[]]);
        Self {
            id,
            mac: derive(LABEL_MAC),
            seed: derive(LABEL_SEED),
        }
    }

    /// The id under which a server looks the key up. It travels in the clear.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Tells keys apart without telling them: the same for the same pre-shared key, id and cluster. A server
    /// remembers it with a session, to end that when the key is withdrawn. Not secret. Costs one HMAC.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let whole = expand(&self.mac, LABEL_FINGERPRINT, [&[], &[], &[]]);
        u64::from_be_bytes(whole.bytes().first_chunk().copied().unwrap_or_default())
    }

    #[cfg(test)]
    pub(super) const fn derived(&self) -> (&[u8; 32], &[u8; 32]) {
        (self.mac.bytes(), self.seed.bytes())
    }

    /// The MAC over both parts.
    pub(super) fn sign(&self, signed: &[u8], also: &[u8]) -> [u8; MAC_BYTES] {
        let whole = hmac(self.mac.bytes(), &[signed, also]);
        whole.bytes().first_chunk().copied().unwrap_or_default()
    }

    /// Whether this is the MAC over both parts; takes the same time whatever the bytes.
    pub(super) fn verify(&self, signed: &[u8], also: &[u8], mac: &[u8; MAC_BYTES]) -> bool {
        self.sign(signed, also).ct_eq(mac).into()
    }

    /// The two keys of a session: to the server, to the edge.
    pub(super) fn session(
        &self,
        suite: u8,
        tag: u32,
        edge_random: &[u8; RANDOM_BYTES],
        server_random: &[u8; RANDOM_BYTES],
    ) -> (Secret, Secret) {
        let mut salt = [0; 32];
        put(&mut salt, edge_random.iter().chain(server_random));
        let root = extract(&salt, self.seed.bytes());
        let (id, tag) = (self.id.to_be_bytes(), tag.to_be_bytes());
        let derive = |label| expand(&root, label, [&[suite], &id, &tag]);
        (derive(LABEL_TO_SERVER), derive(LABEL_TO_EDGE))
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for DeviceKey {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "DeviceKey {{ id: {}, .. }}", self.id);
    }
}

/// Where a server finds the keys it accepts.
///
/// An id has at most two: while a device's key is being changed, the new one and the old one. A slice of keys
/// is a store (searched from its start); a server with many devices brings its own.
///
/// ```
/// use lb_core::wire::seal::{DeviceKey, KeyStore};
/// let new = DeviceKey::new(7, &[2; 32], "orchard");
/// let old = DeviceKey::new(7, &[1; 32], "orchard");
/// let store: &[DeviceKey] = &[new, old];
/// assert!(store.keys(7).iter().all(Option::is_some));
/// assert!(store.keys(8).iter().all(Option::is_none));
/// ```
pub trait KeyStore {
    /// The keys accepted under this id, the newest first.
    fn keys(&self, id: u32) -> [Option<&DeviceKey>; 2];
}

impl KeyStore for [DeviceKey] {
    fn keys(&self, id: u32) -> [Option<&DeviceKey>; 2] {
        let mut found = self.iter().filter(|key| key.id == id);
        [found.next(), found.next()]
    }
}

impl<const N: usize> KeyStore for [DeviceKey; N] {
    fn keys(&self, id: u32) -> [Option<&DeviceKey>; 2] {
        self.as_slice().keys(id)
    }
}

impl<S: KeyStore + ?Sized> KeyStore for &S {
    fn keys(&self, id: u32) -> [Option<&DeviceKey>; 2] {
        (**self).keys(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Sfc32};

    /// RFC 5869, A.1: its output is longer than one block, of which ours is the first.
    #[test]
    fn hkdf_of_the_rfc() {
        let salt: [u8; 13] = core::array::from_fn(|i| i as u8);
        let prk = extract(&salt, &[0x0b; 22]);
        assert_eq!(prk.bytes()[..4], [0x07, 0x77, 0x09, 0x36]);
        let info: [u8; 10] = core::array::from_fn(|i| 0xf0 + i as u8);
        let okm = hmac(prk.bytes(), &[&info[..4], &info[4..], &[1]]);
        let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf";
        let hex: std::string::String = okm.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    #[test]
    fn hkdf_of_another_implementation() {
        let mut rng = Sfc32::new(5);
        for _ in 0..50 {
            let mut bytes = |most: u32| -> std::vec::Vec<u8> {
                (0..rng.below(most + 1)).map(|_| rng.next_u32() as u8).collect()
            };
            let (salt, secret, context) = (bytes(32), bytes(100), bytes(100));
            let info = [b"label\0".as_slice(), &context].concat();
            let mut expected = [0; 32];
            hkdf::Hkdf::<Sha256>::new(Some(&salt), &secret)
                .expand(&info, &mut expected)
                .unwrap();
            assert_eq!(
                expand(&extract(&salt, &secret), b"label", [&context, &[], &[]]).bytes(),
                &expected
            );
        }
    }

    #[test]
    fn every_input_changes_the_keys() {
        let base = || DeviceKey::new(7, &[1; 32], "orchard");
        let session = |key: &DeviceKey, suite, tag, edge, server| {
            let (up, down) = key.session(suite, tag, &[edge; 16], &[server; 16]);
            [*up.bytes(), *down.bytes()]
        };
        let mut all = std::vec![
            [*base().mac.bytes(), *base().seed.bytes()],
            session(&base(), 1, 2, 3, 4),
            session(&base(), 9, 2, 3, 4),
            session(&base(), 1, 9, 3, 4),
            session(&base(), 1, 2, 9, 4),
            session(&base(), 1, 2, 3, 9),
        ];
        for other in [
            DeviceKey::new(8, &[1; 32], "orchard"),
            DeviceKey::new(7, &[2; 32], "orchard"),
            DeviceKey::new(7, &[1; 32], "orchards"),
        ] {
            all.push([*other.mac.bytes(), *other.seed.bytes()]);
            all.push(session(&other, 1, 2, 3, 4));
        }
        let distinct: std::collections::BTreeSet<_> = all.iter().flatten().collect();
        assert_eq!(distinct.len(), 2 * all.len());
    }

    #[test]
    fn fingerprints_tell_keys_apart() {
        let of = |id, byte, cluster| DeviceKey::new(id, &[byte; 32], cluster).fingerprint();
        let one = of(7, 1, "orchard");
        assert_eq!(one, of(7, 1, "orchard"));
        for other in [of(8, 1, "orchard"), of(7, 2, "orchard"), of(7, 1, "orchards")] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_store_gives_at_most_two_keys_newest_first() {
        let store = [1, 2, 3].map(|byte| DeviceKey::new(7, &[byte; 32], "orchard"));
        let found = store.keys(7).map(|key| *key.unwrap().seed.bytes());
        assert_eq!(found, [*store[0].seed.bytes(), *store[1].seed.bytes()]);
    }
}
