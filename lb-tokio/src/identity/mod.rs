//! Who a node is: mutual TLS with the node's id in its certificate.
//!
//! Every node of a cluster holds a certificate from the cluster's own certificate authority. The certificate
//! carries exactly one DNS name, `node-<id>.<cluster>.lb.internal`, and that name is the node's identity:
//! addresses may change, ids do not. Both sides of a connection prove theirs during the TLS 1.3 handshake:
//!
//! - whoever dials node 7 gets node 7 or an error, never another node that took over its address;
//! - whoever accepts gets a peer with a certificate of the same cluster, or refuses during the handshake. A
//!   certificate for another cluster is refused even when the same authority issued it.
//!
//! There is no session resumption and no 0-RTT: each connection checks the certificates afresh, so an expired
//! or replaced one stops counting at the next connection, and nothing can be replayed.
//!
//! # Issuing
//!
//! One machine keeps the authority ([`ClusterCa`]); each node gets its own key and certificate, and the
//! authority's certificate (not its key).
//!
//! ```
//! use std::time::Duration;
//! use lb_core::NodeId;
//! use lb_tokio::identity::{ClusterCa, ClusterName, NodeIdentity};
//!
//! # let dir = std::env::temp_dir().join(format!("lb-identity-doc-{}", std::process::id()));
//! let cluster = ClusterName::new("prod-eu")?;
//! let ca = ClusterCa::generate(&cluster)?;
//! ca.issue(NodeId::new(7), Duration::from_secs(90 * 86_400))?.write_to(&dir)?; // ca.pem, node-7.pem, node-7.key
//!
//! let me = NodeIdentity::read_from(&dir, NodeId::new(7))?;
//! assert_eq!(me.id(), NodeId::new(7));
//! assert_eq!(me.cluster(), &cluster);
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
mod error;
mod files;
mod issue;
mod name;
mod verify;

use std::fmt;
use std::sync::Arc;

use lb_core::NodeId;
use ring::hmac;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

pub use error::{IdentityError, IssueError};
pub use issue::ClusterCa;
pub use name::{ClusterName, ClusterNameError};
pub(crate) use name::{any_name, dial_name};
pub(crate) use verify::peer_id;

/// The protocol both sides must agree on: the first version of the wire format, over QUIC.
pub(crate) const ALPN: &[u8] = b"lb/1";

/// A node's proof of identity: its id and cluster, its certificate and private key, and the authority it
/// trusts.
///
/// Cloning is cheap. `Debug` shows the names only.
///
/// Comes from [`ClusterCa::issue`], [`NodeIdentity::read_from`] or [`NodeIdentity::from_pem`]; keys and
/// certificates from elsewhere (any kind that rustls with ring can use, with intermediates if need be) are as
/// good as our own, provided the certificate carries the one node name and, if it lists extended key usages,
/// both server and client authentication.
#[derive(Clone)]
pub struct NodeIdentity {
    id: NodeId,
    cluster: ClusterName,
    /// The node's certificate, then intermediates if any.
    chain: Arc<[CertificateDer<'static>]>,
    key: Arc<PrivateKeyDer<'static>>,
    /// The authority's certificates; several while one authority replaces another.
    ca: Arc<[CertificateDer<'static>]>,
    roots: Arc<RootCertStore>,
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeIdentity")
            .field("id", &self.id)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

/// Where the three parts of an identity come from, for error messages: a path, or words.
#[derive(Clone, Copy)]
struct Origin<'a> {
    ca: &'a str,
    cert: &'a str,
    key: &'a str,
}

impl NodeIdentity {
    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The cluster the node belongs to.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Puts the parts together: the name is read and the key must fit, but dates and signatures are not
    /// looked at.
    fn assemble(
        ca: Vec<CertificateDer<'static>>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        from: Origin<'_>,
    ) -> Result<Self, IdentityError> {
        let (Some(first), false) = (chain.first(), ca.is_empty()) else {
            let what = if ca.is_empty() { from.ca } else { from.cert };
            return Err(IdentityError::pem(what, "no certificate in it", "CERTIFICATE"));
        };
        let (id, cluster) = name::node_in(first).map_err(|found| IdentityError::NodeName {
            what: from.cert.to_owned(),
            found,
        })?;
        let mut roots = RootCertStore::empty();
        for cert in &ca {
            roots.add(cert.clone()).map_err(|why| {
                IdentityError::pem(
                    from.ca,
                    format!("not a usable certificate ({why})"),
                    "CERTIFICATE",
                )
            })?;
        }
        match rustls::sign::CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()) {
            Ok(_) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(IdentityError::KeyMismatch {
                    key: from.key.to_owned(),
                    cert: from.cert.to_owned(),
                });
            }
            Err(why) => {
                let reason = format!("not a usable private key ({why})");
                return Err(IdentityError::pem(from.key, reason, "PRIVATE KEY"));
            }
        }
        Ok(Self {
            id,
            cluster,
            chain: chain.into(),
            key: Arc::new(key),
            ca: ca.into(),
            roots: Arc::new(roots),
        })
    }

    /// Asks, with the verifiers that peers use, whether peers will accept this identity now.
    fn check(&self, from: Origin<'_>) -> Result<(), IdentityError> {
        use rustls::client::danger::ServerCertVerifier;
        use rustls::server::danger::ClientCertVerifier;

        let now = UnixTime::now();
        let refused = |why| IdentityError::Refused {
            cert: from.cert.to_owned(),
            ca: from.ca.to_owned(),
            why,
        };
        // `assemble` saw at least one certificate.
        let Some((cert, intermediates)) = self.chain.split_first() else {
            return Ok(());
        };
        let name = dial_name(&self.cluster, self.id);
        let name = rustls::pki_types::ServerName::try_from(name)
            .map_err(|_| refused(rustls::CertificateError::NotValidForName.into()))?;
        self.server_verifier()
            .verify_server_cert(cert, intermediates, &name, &[], now)
            .map_err(refused)?;
        self.client_verifier()?
            .verify_client_cert(cert, intermediates, now)
            .map_err(refused)?;
        Ok(())
    }

    fn server_verifier(&self) -> verify::NodeServerVerifier {
        verify::NodeServerVerifier::new(self.cluster.clone(), Arc::clone(&self.roots))
    }

    fn client_verifier(&self) -> Result<verify::NodeClientVerifier, IdentityError> {
        verify::NodeClientVerifier::new(self.cluster.clone(), Arc::clone(&self.roots))
    }

    /// The TLS half of a `quinn::ServerConfig`: TLS 1.3, ALPN `lb/1`, a client certificate of this cluster
    /// required.
    pub(crate) fn server_crypto(&self) -> Result<quinn::crypto::rustls::QuicServerConfig, IdentityError> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(self.client_verifier()?))
            .with_single_cert(self.chain.to_vec(), self.key.clone_key())?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // No resumption: a ticket would carry an old identity past its expiry or replacement.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        quinn::crypto::rustls::QuicServerConfig::try_from(config)
            .map_err(|why| IdentityError::no_initial_suite(&why))
    }

    /// The TLS half of a `quinn::ClientConfig`. The name given to `connect` decides who may answer:
    /// [`dial_name`] or [`any_name`]; every other name is refused.
    pub(crate) fn client_crypto(&self) -> Result<quinn::crypto::rustls::QuicClientConfig, IdentityError> {
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.server_verifier()))
            .with_client_auth_cert(self.chain.to_vec(), self.key.clone_key())?;
        finish_client(config)
    }

    /// Settings of a QUIC endpoint that must outlive a restart.
    ///
    /// Both the key of stateless resets and the key that marks connection ids as ours are derived from the
    /// private key. So a process that restarts with the same identity on the same address tells the peers of
    /// its former life at once that their connections are gone, instead of leaving them to an idle timeout. A
    /// replaced private key gives that up for connections made before.
    pub(crate) fn endpoint_config(&self) -> quinn::EndpointConfig {
        let tag = hmac::sign(&self.derive("lb/1 connection id"), b"");
        let mut key = [0; 8];
        for (to, from) in key.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        let key = u64::from_le_bytes(key);
        let mut config = quinn::EndpointConfig::new(self.reset_key());
        config.cid_generator(move || Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(key)));
        config
    }

    /// The key of stateless resets, derived from the private key; see
    /// [`endpoint_config`](Self::endpoint_config).
    pub(crate) fn reset_key(&self) -> Arc<dyn quinn::crypto::HmacKey> {
        Arc::new(self.derive("lb/1 stateless reset"))
    }

    /// A key for one purpose, from the private key. One-way: it says nothing about the private key.
    fn derive(&self, purpose: &str) -> hmac::Key {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.key.secret_der());
        hmac::Key::new(
            hmac::HMAC_SHA256,
            hmac::sign(&secret, purpose.as_bytes()).as_ref(),
        )
    }
}

/// The cryptography, always given explicitly: no dependence on what the process installed as its default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What every client configuration has in common.
fn finish_client(
    mut config: rustls::ClientConfig,
) -> Result<quinn::crypto::rustls::QuicClientConfig, IdentityError> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_early_data = false;
    quinn::crypto::rustls::QuicClientConfig::try_from(config)
        .map_err(|why| IdentityError::no_initial_suite(&why))
}

#[cfg(test)]
mod handshake_tests;
