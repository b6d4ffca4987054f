//! What can go wrong with identities, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use lb_core::NodeId;
use thiserror::Error;

use super::name::ClusterName;

/// Why an identity cannot be loaded, saved or used.
///
/// The text names the file (or the part) and what to do; it never contains key material.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// A file could not be read.
    #[error("cannot read {}: {source}; check the path and that this user may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file could not be written. Nothing is left behind of it.
    #[error("cannot write {}: {source}; check that the directory is writable and has room", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is there already. Nothing was written.
    #[error("{} exists and is never overwritten; move it away or choose another directory", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The directory holds the `ca.pem` of another authority. Nothing was written.
    #[error(
        "{} is not the certificate of the authority that issued this node's; use one directory per cluster",
        path.display()
    )]
    OtherCa {
        /// The file.
        path: PathBuf,
    },
    /// Something is not the PEM text it should be.
    #[error("{what}: {reason}; it must be PEM text with a '-----BEGIN {section}-----' section")]
    Pem {
        /// The file, or the part.
        what: String,
        /// What is wrong with it.
        reason: String,
        /// The section looked for.
        section: &'static str,
    },
    /// A certificate does not carry exactly one node name.
    #[error(
        "{what}: a node's certificate carries exactly one DNS name, node-<id>.<cluster>.lb.internal, \
         but this one carries {found:?}; issue a new one with the cluster's CA"
    )]
    NodeName {
        /// The file, or the part.
        what: String,
        /// The DNS names it does carry.
        found: Vec<String>,
    },
    /// A certificate is not that of a cluster authority made by [`ClusterCa`](super::ClusterCa).
    #[error(
        "{what}: not the certificate of a cluster CA made by this crate (its DNS names are {found:?}); \
         give the ca.pem that was written together with the CA's key"
    )]
    NotOurCa {
        /// The file, or the part.
        what: String,
        /// The DNS names it carries.
        found: Vec<String>,
    },
    /// The certificate is that of another node than the one asked for.
    #[error(
        "{what}: this is the certificate of node {found}, not of node {asked}; check how the files are named"
    )]
    OtherNode {
        /// The file.
        what: String,
        /// The node in the certificate.
        found: NodeId,
        /// The node asked for.
        asked: NodeId,
    },
    /// The private key is not the one of the certificate.
    #[error("{key} is not the private key of {cert}; give two files that were written together")]
    KeyMismatch {
        /// Where the key is from.
        key: String,
        /// Where the certificate is from.
        cert: String,
    },
    /// Peers would refuse the certificate: it is not valid now, or not signed by the authority.
    #[error(
        "{cert}: peers that trust {ca} would refuse this certificate: {why}; {}",
        advice(why)
    )]
    Refused {
        /// Where the certificate is from.
        cert: String,
        /// Where the authority's certificate is from.
        ca: String,
        /// What the verification said.
        why: rustls::Error,
    },
    /// A connection has no peer certificate, so its handshake is not complete.
    #[error("the peer has shown no certificate; ask for its id after the handshake")]
    NoPeerCertificate,
    /// A peer's certificate is that of another cluster.
    #[error("the peer belongs to cluster {found}, not to {ours}")]
    OtherCluster {
        /// The peer's cluster.
        found: ClusterName,
        /// This node's cluster.
        ours: ClusterName,
    },
    /// TLS could not be configured.
    #[error("TLS cannot be configured with this identity: {0}")]
    Tls(#[from] rustls::Error),
}

impl IdentityError {
    pub(super) fn pem(what: &str, reason: impl Into<String>, section: &'static str) -> Self {
        Self::Pem {
            what: what.to_owned(),
            reason: reason.into(),
            section,
        }
    }

    pub(super) fn no_initial_suite(why: &quinn::crypto::rustls::NoInitialCipherSuite) -> Self {
        Self::Tls(rustls::Error::General(why.to_string()))
    }
}

fn advice(why: &rustls::Error) -> &'static str {
    use rustls::CertificateError as C;
    match why {
        rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
            "issue a new one with the cluster's CA (and check this machine's clock)"
        }
        rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
            "check this machine's clock and the clock of the machine that issued it"
        }
        rustls::Error::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => {
            "give the ca.pem of the CA that issued it, or issue a new one with this CA"
        }
        _ => "issue a new one with the cluster's CA",
    }
}

/// Why an authority or a certificate could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The validity asked for is not between 1 second and 10 years.
    #[error("a certificate can be valid for 1 second to 10 years (3650 days), not for {asked:?}")]
    Validity {
        /// What was asked for.
        asked: Duration,
    },
    /// This machine's clock is before 1970 or so far ahead that a certificate cannot express the date.
    #[error("this machine's clock is far off; set it before issuing certificates")]
    Clock,
    /// A key or certificate could not be generated.
    #[error("a key or certificate could not be generated: {0}")]
    Generate(#[from] rcgen::Error),
    /// What was generated is not usable. A defect in this crate.
    #[error("the certificate just made is not usable: {0}")]
    Unusable(#[source] Box<IdentityError>),
}
