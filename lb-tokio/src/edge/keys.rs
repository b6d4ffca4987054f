//! Device keys: how the listener asks for them, and the file they usually live in.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use lb_core::wire::seal::{DeviceKey, PSK_BYTES};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::identity::ClusterName;

/// Where an edge listener finds the keys of devices.
///
/// It is asked for every `HELLO`, forged ones included, from the task that receives datagrams: answer from memory.
pub trait EdgeKeys: fmt::Debug + Send + Sync {
    /// The keys accepted under this id, the newest first; two while the key of a device is being changed.
    fn keys(&self, id: u32) -> [Option<DeviceKey>; 2];

    /// What people call the device, for status pages.
    fn name(&self, id: u32) -> Option<Arc<str>> {
        let _ = id;
        None
    }

    /// A number that changes whenever a key may have been withdrawn. The listener then ends the sessions whose
    /// key is no longer among [`EdgeKeys::keys`], before it takes another datagram.
    fn version(&self) -> u64;
}

/// Device keys in a TOML file.
///
/// ```toml
/// [[device]]
/// id = 7
/// key = "4242424242424242424242424242424242424242424242424242424242424242"
/// # while the key is being changed, the one before:
/// # former = "…"
/// # name = "greenhouse, north"
/// ```
///
/// [`reload`](Self::reload) takes a changed file over without a restart. The file holds secrets: it must be of
/// its owner's alone (mode 0600).
pub struct EdgeKeyFile {
    path: PathBuf,
    cluster: String,
    devices: RwLock<Arc<Devices>>,
    version: AtomicU64,
}

type Devices = HashMap<u32, Device>;

struct Device {
    keys: [Option<DeviceKey>; 2],
    name: Option<Arc<str>>,
}

impl EdgeKeyFile {
    /// Reads the file. Keys are bound to the name of the cluster: the same file does not fit another.
    ///
    /// # Errors
    /// [`EdgeKeysError`], saying where in the file.
    pub fn open(path: impl Into<PathBuf>, cluster: &ClusterName) -> Result<Self, EdgeKeysError> {
        let (path, cluster) = (path.into(), cluster.to_string());
        let devices = RwLock::new(Arc::new(read(&path, &cluster)?));
        Ok(Self {
            path,
            cluster,
            devices,
            version: AtomicU64::new(0),
        })
    }

    /// Reads the file again; how many devices it has. Sessions of keys that are gone end, others go on.
    ///
    /// # Errors
    /// [`EdgeKeysError`]; nothing has changed then.
    pub fn reload(&self) -> Result<usize, EdgeKeysError> {
        let devices = Arc::new(read(&self.path, &self.cluster)?);
        let count = devices.len();
        *self
            .devices
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = devices;
        // After the keys: whoever sees the new number sees the new keys.
        self.version.fetch_add(1, Ordering::Release);
        Ok(count)
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many devices have a key.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.current().len()
    }

    fn current(&self) -> Arc<Devices> {
        Arc::clone(
            &self
                .devices
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }
}

impl fmt::Debug for EdgeKeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeKeyFile")
            .field("path", &self.path)
            .field("devices", &self.devices())
            .finish_non_exhaustive()
    }
}

impl EdgeKeys for EdgeKeyFile {
    fn keys(&self, id: u32) -> [Option<DeviceKey>; 2] {
        self.current()
            .get(&id)
            .map_or([None, None], |device| device.keys.clone())
    }

    fn name(&self, id: u32) -> Option<Arc<str>> {
        self.current().get(&id)?.name.clone()
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Schema {
    #[serde(default)]
    device: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Spanned<u32>,
    key: Spanned<Psk>,
    former: Option<Spanned<Psk>>,
    name: Option<String>,
}

#[derive(PartialEq, Eq, Hash)]
struct Psk([u8; PSK_BYTES]);

impl<'de> Deserialize<'de> for Psk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Psk;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("32 bytes as 64 hexadecimal digits in quotes")
            }

            // The text is not quoted: it may be most of a key.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Psk, E> {
                from_hex(text)
                    .map(Psk)
                    .ok_or_else(|| E::custom("must be 32 bytes as 64 hexadecimal digits"))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

fn from_hex(text: &str) -> Option<[u8; PSK_BYTES]> {
    if text.len() != 2 * PSK_BYTES || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; PSK_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn read(path: &Path, cluster: &str) -> Result<Devices, EdgeKeysError> {
    check_mode(path)?;
    let text = fs::read_to_string(path).map_err(|source| EdgeKeysError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, cluster).map_err(|Wrong { at, reason }| EdgeKeysError::Entry {
        path: path.to_owned(),
        place: at.map_or_else(String::new, |at| place(&text, at.start)),
        reason,
    })
}

#[cfg(unix)]
fn check_mode(path: &Path) -> Result<(), EdgeKeysError> {
    use std::os::unix::fs::PermissionsExt;
    let read = |source| EdgeKeysError::Read {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(read)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(EdgeKeysError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_mode(_: &Path) -> Result<(), EdgeKeysError> {
    Ok(())
}

struct Wrong {
    at: Option<Range<usize>>,
    reason: String,
}

fn parse(text: &str, cluster: &str) -> Result<Devices, Wrong> {
    let schema: Schema = toml::from_str(text).map_err(|error| Wrong {
        at: error.span(),
        reason: error.message().trim_end().to_owned(),
    })?;
    let wrong = |at: Range<usize>, reason: String| Wrong { at: Some(at), reason };
    let mut devices = Devices::with_capacity(schema.device.len());
    let mut owners: HashMap<Psk, u32> = HashMap::new();
    for entry in schema.device {
        let (id_at, id) = (entry.id.span(), entry.id.into_inner());
        if devices.contains_key(&id) {
            return Err(wrong(id_at, format!("device {id} is in the file twice")));
        }
        let mut keys = [None, None];
        let given = [Some(entry.key), entry.former];
        for (key, psk) in keys.iter_mut().zip(given) {
            let Some(psk) = psk else { continue };
            let (at, psk) = (psk.span(), psk.into_inner());
            *key = Some(DeviceKey::new(id, &psk.0, cluster));
            // Who has the key of one device would be the other as well.
            match owners.insert(psk, id) {
                Some(other) if other == id => {
                    return Err(wrong(at, "the former key is the same as the key".to_owned()));
                }
                Some(other) => {
                    return Err(wrong(
                        at,
                        format!("device {other} has the same key; give each device one of its own"),
                    ));
                }
                None => {}
            }
        }
        let name = entry.name.map(Arc::from);
        devices.insert(id, Device { keys, name });
    }
    Ok(devices)
}

/// Line and field at this place. Nothing right of the `=` is told.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    match line.split_once('=') {
        Some((key, _)) => format!(", line {number}, {}", key.trim()),
        None => format!(", line {number}"),
    }
}

/// A key file that was not taken. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeKeysError {
    /// It cannot be read.
    #[error("cannot read the device keys in {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than its owner may read or change it.
    #[error("others may read or change the device keys in {path} (mode {mode:o}): run chmod 600 on it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// An entry is wrong.
    #[error("{path}{place}: {reason}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// Line and field, as `, line 3, key`, or nothing.
        place: String,
        /// What is wrong. Does not quote keys.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            Self(std::env::temp_dir().join(format!("lb-edge-keys-{}-{n}", std::process::id())))
        }

        fn write(&self, text: &str) {
            use std::os::unix::fs::PermissionsExt;
            fs::write(&self.0, text).unwrap();
            fs::set_permissions(&self.0, fs::Permissions::from_mode(0o600)).unwrap();
        }

        fn open(&self) -> Result<EdgeKeyFile, EdgeKeysError> {
            EdgeKeyFile::open(&self.0, &ClusterName::new("orchard").unwrap())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn device(id: u32, key: char, rest: &str) -> String {
        format!(
            "[[device]]\nid = {id}\nkey = \"{}\"\n{rest}\n",
            key.to_string().repeat(64)
        )
    }

    fn is(found: Option<DeviceKey>, id: u32, byte: u8) -> bool {
        found.is_some_and(|key| key.fingerprint() == DeviceKey::new(id, &[byte; 32], "orchard").fingerprint())
    }

    #[test]
    fn keys_former_keys_and_names() {
        let file = Scratch::new();
        let former = format!("former = \"{}\"\nname = \"north\"", "2".repeat(64));
        file.write(&(device(7, '1', &former) + &device(8, 'A', "")));
        let keys = file.open().unwrap();
        let [new, old] = keys.keys(7);
        assert!(is(new, 7, 0x11) && is(old, 7, 0x22));
        assert_eq!(keys.name(7).as_deref(), Some("north"));
        let [new, old] = keys.keys(8);
        assert!(is(new, 8, 0xaa) && old.is_none());
        assert_eq!((keys.name(8), keys.devices()), (None, 2));
        assert!(keys.keys(9).iter().all(Option::is_none));
        assert!(!format!("{keys:?}").contains("1111"));
    }

    #[test]
    fn a_reload_takes_all_or_nothing() {
        let file = Scratch::new();
        file.write(&device(7, '1', ""));
        let keys = file.open().unwrap();
        let before = keys.version();
        file.write(&(device(8, '3', "") + "[[device]]\nid = 9\nkey = \"33\"\n"));
        let error = keys.reload().unwrap_err().to_string();
        assert!(error.contains("line 7, key: must be 32 bytes"), "{error}");
        assert!(is(keys.keys(7)[0].clone(), 7, 0x11) && keys.keys(8)[0].is_none());
        assert_eq!(keys.version(), before);
        file.write(&device(8, '3', ""));
        assert_eq!(keys.reload().unwrap(), 1);
        assert!(keys.keys(7)[0].is_none() && is(keys.keys(8)[0].clone(), 8, 0x33));
        assert_ne!(keys.version(), before);
        fs::remove_file(&file.0).unwrap();
        assert!(matches!(keys.reload(), Err(EdgeKeysError::Read { .. })));
        assert_eq!(keys.devices(), 1);
    }

    #[test]
    fn errors_say_where_and_never_quote_a_key() {
        let file = Scratch::new();
        let key = "5".repeat(64);
        let almost = &key[1..];
        for (text, parts) in [
            (
                format!("[[device]]\nid = 1\nkey = \"{almost}\""),
                &["line 3, key", "64 hexadecimal"][..],
            ),
            (
                format!("[[device]]\nid = 1\nkey = \"{almost}g\""),
                &["line 3, key", "64 hexadecimal"],
            ),
            (format!("[[device]]\nid = 1\nkey = {almost}"), &["line 3, key"]),
            (format!("[[device]]\nid = 1\nkey = \"{key}"), &["line 3, key"]),
            (
                format!("[[device]]\nkey = \"{key}\""),
                &["line 1", "missing field `id`"],
            ),
            (
                format!("[[device]]\nid = -1\nkey = \"{key}\""),
                &["line 2, id", "u32"],
            ),
            (
                "[[device]]\nid = 1".to_owned(),
                &["line 1", "missing field `key`"],
            ),
            (
                format!("[[device]]\nid = 1\nkey = \"{key}\"\nformer = \"{key}\""),
                &["line 4, former", "same as the key"],
            ),
            (device(1, '5', "keys = 1"), &["line 4, keys", "unknown field"]),
            (
                device(1, '5', "") + &device(1, '6', ""),
                &["line 6, id", "device 1 is in the file twice"],
            ),
            (
                device(1, '5', "") + &device(2, '5', ""),
                &["line 7, key", "device 1 has the same key"],
            ),
            ("[[devices]]".to_owned(), &["line 1", "unknown field"]),
        ] {
            file.write(&text);
            let error = file.open().unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{text}\nno {part:?} in {error:?}");
            }
            assert!(!error.contains("5555"), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = Scratch::new();
        file.write(&device(1, '5', ""));
        fs::set_permissions(&file.0, fs::Permissions::from_mode(0o640)).unwrap();
        let error = file.open().unwrap_err().to_string();
        assert!(
            error.contains("mode 640") && error.contains("chmod 600"),
            "{error}"
        );
    }
}
