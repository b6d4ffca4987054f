//! Names: the cluster, and the one DNS name that a node's certificate carries.

use std::fmt;
use std::str::FromStr;

use lb_core::NodeId;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

/// What every name in a cluster ends with. `.internal` is reserved for private use, so it never resolves in
/// public.
const SUFFIX: &str = ".lb.internal";

/// The name of a cluster: 1 to 40 characters of `a-z`, `0-9` and `-`, with no hyphen first or last.
///
/// It is part of every certificate, so two clusters never talk to each other by mistake, even when one
/// certificate authority serves both.
///
/// ```
/// use lb_tokio::identity::{ClusterName, ClusterNameError};
///
/// let name: ClusterName = "prod-eu".parse()?;
/// assert_eq!(name.as_str(), "prod-eu");
/// assert!(matches!(ClusterName::new("Prod"), Err(ClusterNameError::BadCharacter { found: 'P', at: 0 })));
/// # Ok::<(), ClusterNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(String);

impl ClusterName {
    /// The longest name, in characters (and, as they are ASCII, in bytes).
    pub const MAX_LEN: usize = 40;

    /// Checks `name` and makes it a cluster name.
    ///
    /// # Errors
    ///
    /// A [`ClusterNameError`] that names the first rule broken, in the order of its variants.
    pub fn new(name: impl Into<String>) -> Result<Self, ClusterNameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(ClusterNameError::Empty);
        }
        if let Some((at, found)) = name
            .chars()
            .enumerate()
            .find(|(_, c)| !matches!(c, 'a'..='z' | '0'..='9' | '-'))
        {
            return Err(ClusterNameError::BadCharacter { found, at });
        }
        if name.len() > Self::MAX_LEN {
            return Err(ClusterNameError::TooLong { len: name.len() });
        }
        if name.starts_with('-') || name.ends_with('-') {
            return Err(ClusterNameError::HyphenAtEdge);
        }
        Ok(Self(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClusterName {
    type Err = ClusterNameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::new(s)
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The rule that a proposed [`ClusterName`] breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClusterNameError {
    /// There is no character at all.
    #[error("a cluster name cannot be empty; give 1 to 40 characters of a-z, 0-9 and '-'")]
    Empty,
    /// A character is not one of `a-z`, `0-9`, `-`.
    #[error("a cluster name may hold only a-z, 0-9 and '-', but character {at} (from 0) is {found:?}")]
    BadCharacter {
        /// The first such character.
        found: char,
        /// Its place, in characters from 0.
        at: usize,
    },
    /// There are more than [`ClusterName::MAX_LEN`] characters.
    #[error("a cluster name may have at most 40 characters, but this one has {len}")]
    TooLong {
        /// How many characters there are.
        len: usize,
    },
    /// The first or the last character is a hyphen.
    #[error("a cluster name cannot start or end with '-'")]
    HyphenAtEdge,
}

/// The name of node `id`: what its certificate carries, and what a dialler that knows the id asks for.
pub(crate) fn dial_name(cluster: &ClusterName, id: NodeId) -> String {
    format!("node-{id}.{cluster}{SUFFIX}")
}

/// The name to dial when only an address is known: any node of the cluster may answer.
pub(crate) fn any_name(cluster: &ClusterName) -> String {
    format!("any.{cluster}{SUFFIX}")
}

/// The name that the cluster's own CA certificate carries, so that the CA can be loaded from its two files
/// alone.
pub(super) fn ca_name(cluster: &ClusterName) -> String {
    format!("ca.{cluster}{SUFFIX}")
}

/// The id and cluster in a node name, if it is spelt exactly as [`dial_name`] spells it.
fn parse_node_name(name: &str) -> Option<(NodeId, ClusterName)> {
    let (id, cluster) = name
        .strip_suffix(SUFFIX)?
        .strip_prefix("node-")?
        .split_once('.')?;
    let id = NodeId::new(id.parse().ok()?);
    let cluster = ClusterName::new(cluster).ok()?;
    // One spelling per id: "node-007" and "node-+7" are not node 7.
    (dial_name(&cluster, id) == name).then_some((id, cluster))
}

/// The cluster in a CA's name.
pub(super) fn parse_ca_name(name: &str) -> Option<ClusterName> {
    ClusterName::new(name.strip_suffix(SUFFIX)?.strip_prefix("ca.")?).ok()
}

/// All DNS names in a certificate; none if it cannot be read as one.
pub(super) fn dns_names(cert: &CertificateDer<'_>) -> Vec<String> {
    webpki::EndEntityCert::try_from(cert)
        .map(|cert| cert.valid_dns_names().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Whose certificate this is. On failure, the DNS names found instead of exactly one node name.
///
/// This reads the name only: whether the certificate is to be believed is for the chain verification to say.
pub(super) fn node_in(cert: &CertificateDer<'_>) -> Result<(NodeId, ClusterName), Vec<String>> {
    let names = dns_names(cert);
    match names.as_slice() {
        [name] => parse_node_name(name).ok_or(names),
        _ => Err(names),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_at_the_edges() {
        for good in ["a", "0", "a-b", "9-9", "x--y", &"a".repeat(40)] {
            assert_eq!(ClusterName::new(good).unwrap().as_str(), good);
        }
        let cases = [
            ("", ClusterNameError::Empty),
            (&"a".repeat(41), ClusterNameError::TooLong { len: 41 }),
            ("-", ClusterNameError::HyphenAtEdge),
            ("-a", ClusterNameError::HyphenAtEdge),
            ("a-", ClusterNameError::HyphenAtEdge),
            ("a.b", ClusterNameError::BadCharacter { found: '.', at: 1 }),
            ("aB", ClusterNameError::BadCharacter { found: 'B', at: 1 }),
            ("a_b", ClusterNameError::BadCharacter { found: '_', at: 1 }),
            ("é", ClusterNameError::BadCharacter { found: 'é', at: 0 }),
            ("a b", ClusterNameError::BadCharacter { found: ' ', at: 1 }),
            ("a\0", ClusterNameError::BadCharacter { found: '\0', at: 1 }),
        ];
        for (bad, why) in cases {
            assert_eq!(ClusterName::new(bad), Err(why), "{bad:?}");
        }
        assert!(
            ClusterNameError::TooLong { len: 41 }
                .to_string()
                .contains("at most 40")
        );
    }

    #[test]
    fn node_names_have_one_spelling() {
        let cluster = ClusterName::new("a-1").unwrap();
        for id in [0, 7, u32::MAX] {
            let id = NodeId::new(id);
            assert_eq!(
                parse_node_name(&dial_name(&cluster, id)),
                Some((id, cluster.clone()))
            );
        }
        for bad in [
            "node-07.a-1.lb.internal",
            "node-+7.a-1.lb.internal",
            "node--7.a-1.lb.internal",
            "node-4294967296.a-1.lb.internal",
            "node-.a-1.lb.internal",
            "node-7..lb.internal",
            "node-7.lb.internal",
            "node-7.a-1.lb.internal.",
            "node-7.a-1.x.lb.internal",
            "Node-7.a-1.lb.internal",
            "node-7.A-1.lb.internal",
            "any.a-1.lb.internal",
            "ca.a-1.lb.internal",
            "*.a-1.lb.internal",
            "",
        ] {
            assert_eq!(parse_node_name(bad), None, "{bad}");
        }
        assert_eq!(parse_ca_name(&ca_name(&cluster)), Some(cluster));
    }

    #[test]
    fn longest_name_is_a_valid_dns_name() {
        let cluster = ClusterName::new("a".repeat(40)).unwrap();
        let name = dial_name(&cluster, NodeId::new(u32::MAX));
        assert!(rustls::pki_types::DnsName::try_from(name.as_str()).is_ok());
        assert!(rustls::pki_types::DnsName::try_from(any_name(&cluster)).is_ok());
    }

    #[test]
    fn junk_is_no_certificate() {
        assert_eq!(node_in(&CertificateDer::from(vec![1, 2, 3])), Err(Vec::new()));
    }
}
