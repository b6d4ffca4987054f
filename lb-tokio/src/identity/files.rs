//! PEM text and the files it lives in: `ca.pem`, `ca.key`, `node-7.pem`, `node-7.key`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lb_core::NodeId;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::IdentityError;
use super::issue::ClusterCa;
use super::{NodeIdentity, Origin};

const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// Who may read a file that is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Whoever the process's umask lets.
    Shared,
    /// The owner only (mode 0600), from the moment the file exists.
    Owner,
}

impl ClusterCa {
    /// Writes `ca.pem` and `ca.key` (mode 0600) into `dir`, which is made if missing.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Exists`] if either file is there already, then nothing is changed;
    /// [`IdentityError::Write`].
    pub fn write_to(&self, dir: impl AsRef<Path>) -> Result<(), IdentityError> {
        let dir = dir.as_ref();
        write_pair(
            &dir.join(CA_KEY),
            &self.key_pem(),
            &dir.join(CA_CERT),
            &self.cert_pem(),
        )
    }

    /// Reads `ca.pem` and `ca.key` from `dir`.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Read`], and those of [`from_pem`](Self::from_pem), with the paths.
    pub fn read_from(dir: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let (cert, key) = (dir.as_ref().join(CA_CERT), dir.as_ref().join(CA_KEY));
        Self::parse(
            &read(&cert)?,
            &read(&key)?,
            &cert.to_string_lossy(),
            &key.to_string_lossy(),
        )
    }
}

impl NodeIdentity {
    /// Loads an identity from PEM text: the authority's certificate (several while one authority replaces
    /// another), the node's certificate (with intermediates after it, if any) and the node's private key.
    ///
    /// The certificate is checked as peers will check it, so that a node with an expired or foreign one fails
    /// at its start and not at its first connection.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Pem`], [`IdentityError::NodeName`], [`IdentityError::KeyMismatch`] and
    /// [`IdentityError::Refused`].
    pub fn from_pem(ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        let from = Origin {
            ca: "the CA certificate",
            cert: "the node certificate",
            key: "the node key",
        };
        Self::parse(ca_pem, cert_pem, key_pem, from)
    }

    fn parse(ca: &str, cert: &str, key: &str, from: Origin<'_>) -> Result<Self, IdentityError> {
        let identity = Self::assemble(
            parse_certs(ca, from.ca)?,
            parse_certs(cert, from.cert)?,
            parse_key(key, from.key)?,
            from,
        )?;
        identity.check(from)?;
        Ok(identity)
    }

    /// The authority's certificate (or certificates) as PEM text.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        cert_pem(&self.ca)
    }

    /// The node's certificate, and intermediates if any, as PEM text.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        cert_pem(&self.chain)
    }

    /// The node's private key as PEM text. Secret.
    #[must_use]
    pub fn key_pem(&self) -> String {
        let section = match &*self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        to_pem(section, self.key.secret_der())
    }

    /// Writes `node-<id>.pem`, `node-<id>.key` (mode 0600) and, if missing, `ca.pem` into `dir`, which is
    /// made if missing.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Exists`] if the node's certificate or key is there already, and
    /// [`IdentityError::OtherCa`] if `ca.pem` is that of another authority; then nothing is changed.
    /// [`IdentityError::Write`] and [`IdentityError::Read`].
    pub fn write_to(&self, dir: impl AsRef<Path>) -> Result<(), IdentityError> {
        let dir = dir.as_ref();
        let ca = dir.join(CA_CERT);
        let ca_there = fs::exists(&ca).map_err(|source| IdentityError::Read {
            path: ca.clone(),
            source,
        })?;
        if ca_there {
            let found = parse_certs(&read(&ca)?, &ca.to_string_lossy())?;
            if !self.ca.iter().all(|cert| found.contains(cert)) {
                return Err(IdentityError::OtherCa { path: ca });
            }
        }
        let (cert, key) = node_files(dir, self.id());
        write_pair(&key, &self.key_pem(), &cert, &self.cert_pem())?;
        if !ca_there {
            write_new(&ca, &self.ca_pem(), Access::Shared)?;
        }
        Ok(())
    }

    /// Reads `ca.pem`, `node-<id>.pem` and `node-<id>.key` from `dir`.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Read`], [`IdentityError::OtherNode`], and those of [`from_pem`](Self::from_pem), with
    /// the paths.
    pub fn read_from(dir: impl AsRef<Path>, id: NodeId) -> Result<Self, IdentityError> {
        let ca = dir.as_ref().join(CA_CERT);
        let (cert, key) = node_files(dir.as_ref(), id);
        let (ca_from, cert_from, key_from) = (
            ca.to_string_lossy(),
            cert.to_string_lossy(),
            key.to_string_lossy(),
        );
        let from = Origin {
            ca: &ca_from,
            cert: &cert_from,
            key: &key_from,
        };
        let identity = Self::parse(&read(&ca)?, &read(&cert)?, &read(&key)?, from)?;
        if identity.id() != id {
            return Err(IdentityError::OtherNode {
                what: cert_from.into_owned(),
                found: identity.id(),
                asked: id,
            });
        }
        Ok(identity)
    }
}

/// The paths of a node's certificate and key.
fn node_files(dir: &Path, id: NodeId) -> (PathBuf, PathBuf) {
    (
        dir.join(format!("node-{id}.pem")),
        dir.join(format!("node-{id}.key")),
    )
}

fn read(path: &Path) -> Result<String, IdentityError> {
    fs::read_to_string(path).map_err(|source| IdentityError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Writes a key and its certificate, both or neither.
fn write_pair(key: &Path, key_pem: &str, cert: &Path, cert_pem: &str) -> Result<(), IdentityError> {
    if let Some(dir) = key.parent() {
        fs::create_dir_all(dir).map_err(|source| IdentityError::Write {
            path: dir.to_owned(),
            source,
        })?;
    }
    for path in [key, cert] {
        // Also true for a dangling link, which `exists` would deny.
        if fs::symlink_metadata(path).is_ok() {
            return Err(IdentityError::Exists {
                path: path.to_owned(),
            });
        }
    }
    write_new(key, key_pem, Access::Owner)?;
    write_new(cert, cert_pem, Access::Shared).inspect_err(|_| {
        // A key without its certificate is of no use, and would stand in the way of the next attempt.
        let _ = fs::remove_file(key);
    })
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str, access: Access) -> Result<(), IdentityError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if access == Access::Owner {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let mut file = options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => IdentityError::Exists {
            path: path.to_owned(),
        },
        _ => IdentityError::Write {
            path: path.to_owned(),
            source,
        },
    })?;
    let written = |file: &mut File| file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written(&mut file).map_err(|source| {
        let _ = fs::remove_file(path);
        IdentityError::Write {
            path: path.to_owned(),
            source,
        }
    })
}

/// All certificates in PEM text; at least one.
pub(super) fn parse_certs(text: &str, from: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    let bad = |reason| IdentityError::pem(from, reason, "CERTIFICATE");
    let certs = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| bad(reason(&why)))?;
    if certs.is_empty() {
        return Err(bad("no certificate in it"));
    }
    Ok(certs)
}

/// The private key in PEM text.
pub(super) fn parse_key(text: &str, from: &str) -> Result<PrivateKeyDer<'static>, IdentityError> {
    PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|why| IdentityError::pem(from, reason(&why), "PRIVATE KEY"))
}

/// What is wrong with PEM text, without quoting it: a broken line may be part of a key.
fn reason(why: &pem::Error) -> &'static str {
    match why {
        pem::Error::NoItemsFound => "no such section in it",
        pem::Error::MissingSectionEnd { .. } => "a section has no END line (is the file cut off?)",
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        pem::Error::Base64Decode(_) => "a section is not valid base64",
        _ => "not readable as PEM",
    }
}

pub(super) fn to_pem(section: &str, der: &[u8]) -> String {
    let config = ::pem::EncodeConfig::new().set_line_ending(::pem::LineEnding::LF);
    ::pem::encode_config(&::pem::Pem::new(section, der), config)
}

pub(super) fn cert_pem(certs: &[CertificateDer<'_>]) -> String {
    certs.iter().map(|cert| to_pem("CERTIFICATE", cert)).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, SystemTime};

    use super::super::ClusterName;
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    /// A directory of its own for each test, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("lb-identity-{}-{n}", std::process::id()));
            fs::create_dir(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn ca(name: &str) -> ClusterCa {
        ClusterCa::generate(&ClusterName::new(name).unwrap()).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn identity_survives_files() {
        let dir = Scratch::new();
        let dir = dir.0.join("made/if/missing");
        let ca = ca("a");
        ca.write_to(&dir).unwrap();
        let node = ca.issue(NodeId::new(7), DAY).unwrap();
        node.write_to(&dir).unwrap();
        ca.issue(NodeId::new(8), DAY).unwrap().write_to(&dir).unwrap();

        assert_eq!(mode(&dir.join("ca.key")), 0o600);
        assert_eq!(mode(&dir.join("node-7.key")), 0o600);
        assert_eq!(mode(&dir.join("node-8.key")), 0o600);

        let back = NodeIdentity::read_from(&dir, NodeId::new(7)).unwrap();
        assert_eq!((back.id(), back.cluster()), (node.id(), node.cluster()));
        assert_eq!(back.cert_pem(), node.cert_pem());
        assert_eq!(back.key_pem(), node.key_pem());
        assert_eq!(back.ca_pem(), ca.cert_pem());
        assert_eq!(ClusterCa::read_from(&dir).unwrap().key_pem(), ca.key_pem());
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = Scratch::new();
        let ca_a = ca("a");
        ca_a.write_to(&dir.0).unwrap();
        let err = ca("a").write_to(&dir.0).unwrap_err();
        assert!(
            matches!(&err, IdentityError::Exists { path } if path.ends_with("ca.key")),
            "{err}"
        );
        assert!(err.to_string().contains("move it away"), "{err}");

        let node = ca_a.issue(NodeId::new(7), DAY).unwrap();
        node.write_to(&dir.0).unwrap();
        let err = ca_a
            .issue(NodeId::new(7), DAY)
            .unwrap()
            .write_to(&dir.0)
            .unwrap_err();
        assert!(
            matches!(&err, IdentityError::Exists { path } if path.ends_with("node-7.key")),
            "{err}"
        );
        assert_eq!(
            fs::read_to_string(dir.0.join("node-7.key")).unwrap(),
            node.key_pem()
        );

        // Half a pair in the way: the other half is not written either.
        fs::write(dir.0.join("node-8.pem"), "x").unwrap();
        let err = ca_a
            .issue(NodeId::new(8), DAY)
            .unwrap()
            .write_to(&dir.0)
            .unwrap_err();
        assert!(
            matches!(&err, IdentityError::Exists { path } if path.ends_with("node-8.pem")),
            "{err}"
        );
        assert!(!dir.0.join("node-8.key").exists());

        // A dangling link is not followed.
        std::os::unix::fs::symlink(dir.0.join("elsewhere"), dir.0.join("node-9.key")).unwrap();
        let err = ca_a
            .issue(NodeId::new(9), DAY)
            .unwrap()
            .write_to(&dir.0)
            .unwrap_err();
        assert!(matches!(&err, IdentityError::Exists { .. }), "{err}");

        let err = ca("b")
            .issue(NodeId::new(1), DAY)
            .unwrap()
            .write_to(&dir.0)
            .unwrap_err();
        assert!(
            matches!(&err, IdentityError::OtherCa { path } if path.ends_with("ca.pem")),
            "{err}"
        );
        assert!(!dir.0.join("node-1.key").exists());
    }

    #[test]
    fn errors_name_the_file_and_the_way_out() {
        let dir = Scratch::new();
        let path = |name: &str| dir.0.join(name).display().to_string();
        let ca = ca("a");
        ca.issue(NodeId::new(7), DAY).unwrap().write_to(&dir.0).unwrap();

        let err = NodeIdentity::read_from(&dir.0, NodeId::new(8))
            .unwrap_err()
            .to_string();
        assert!(
            err.contains(&path("node-8.pem")) && err.contains("check the path"),
            "{err}"
        );

        fs::copy(dir.0.join("node-7.pem"), dir.0.join("node-8.pem")).unwrap();
        fs::copy(dir.0.join("node-7.key"), dir.0.join("node-8.key")).unwrap();
        let err = NodeIdentity::read_from(&dir.0, NodeId::new(8))
            .unwrap_err()
            .to_string();
        assert!(
            err.contains(&path("node-8.pem")) && err.contains("node 7, not of node 8"),
            "{err}"
        );

        fs::write(
            dir.0.join("node-8.key"),
            ca.issue(NodeId::new(8), DAY).unwrap().key_pem(),
        )
        .unwrap();
        let err = NodeIdentity::read_from(&dir.0, NodeId::new(8))
            .unwrap_err()
            .to_string();
        assert!(
            err.contains(&path("node-8.key")) && err.contains("is not the private key of"),
            "{err}"
        );
    }

    #[test]
    fn bad_pem_is_explained_and_not_quoted() {
        let ca = ca("a");
        let node = ca.issue(NodeId::new(7), DAY).unwrap();
        let (ca_pem, cert, key) = (node.ca_pem(), node.cert_pem(), node.key_pem());
        let err =
            |ca: &str, cert: &str, key: &str| NodeIdentity::from_pem(ca, cert, key).unwrap_err().to_string();

        let got = err("", &cert, &key);
        assert_eq!(
            got,
            "the CA certificate: no certificate in it; it must be PEM text with a '-----BEGIN CERTIFICATE-----' section"
        );
        let got = err(&ca_pem, &key, &key);
        assert!(
            got.starts_with("the node certificate: no certificate in it"),
            "{got}"
        );
        let got = err(&ca_pem, &cert, &cert);
        assert!(
            got.starts_with("the node key: no such section") && got.contains("BEGIN PRIVATE KEY"),
            "{got}"
        );

        let secret = key.lines().nth(1).unwrap();
        let cut = &key[..key.len() - 30];
        let got = err(&ca_pem, &cert, cut);
        assert!(got.contains("cut off") && !got.contains(secret), "{got}");
        let got = err(&ca_pem, &cert, &key.replace(&secret[..4], "!!!!"));
        assert!(got.contains("base64") && !got.contains(&secret[4..]), "{got}");
        let got = err(&ca_pem, &cert, &key.replace(secret, "AAAA"));
        assert!(got.starts_with("the node key: not a usable private key"), "{got}");
        let got = err(&ca_pem, &to_pem("CERTIFICATE", b"junk"), &key);
        assert!(
            got.starts_with("the node certificate: a node's certificate carries exactly one"),
            "{got}"
        );
        let got = err(&to_pem("CERTIFICATE", b"junk"), &cert, &key);
        assert!(
            got.starts_with("the CA certificate: not a usable certificate"),
            "{got}"
        );
        let got = err(&ca_pem, &ca_pem, &ca.key_pem());
        assert!(got.contains(r#"["ca.a.lb.internal"]"#), "{got}");
    }

    #[test]
    fn what_peers_would_refuse_is_refused_at_loading() {
        let (a, other) = (ca("a"), ca("a"));
        let node = a.issue(NodeId::new(7), DAY).unwrap();
        let err = NodeIdentity::from_pem(&other.cert_pem(), &node.cert_pem(), &node.key_pem()).unwrap_err();
        assert!(matches!(err, IdentityError::Refused { .. }), "{err}");
        assert!(
            err.to_string()
                .contains("give the ca.pem of the CA that issued it"),
            "{err}"
        );

        let now = SystemTime::now();
        let dated = |from: Option<SystemTime>, until: Option<SystemTime>| {
            let node = a.issue_for(a.cluster(), NodeId::new(7), from, until).unwrap();
            NodeIdentity::from_pem(&node.ca_pem(), &node.cert_pem(), &node.key_pem())
                .unwrap_err()
                .to_string()
        };
        let err = dated(now.checked_sub(2 * DAY), now.checked_sub(DAY));
        assert!(
            err.contains("expired") && err.contains("issue a new one"),
            "{err}"
        );
        let err = dated(now.checked_add(DAY), now.checked_add(2 * DAY));
        assert!(err.contains("not valid yet") && err.contains("clock"), "{err}");
    }

    #[test]
    fn two_authorities_during_a_change() {
        let (old, new) = (ca("a"), ca("a"));
        let both = old.cert_pem() + &new.cert_pem();
        for ca in [&old, &new] {
            let node = ca.issue(NodeId::new(7), DAY).unwrap();
            let node = NodeIdentity::from_pem(&both, &node.cert_pem(), &node.key_pem()).unwrap();
            assert_eq!(node.ca_pem(), both);
        }
    }
}
