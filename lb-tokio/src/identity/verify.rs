//! Who may be on the other side of a connection: the checks both sides make during the handshake.

use std::sync::Arc;

use lb_core::NodeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};

use super::error::IdentityError;
use super::name::{self, ClusterName, any_name, dial_name};
use super::provider;

/// The dialling side's check: a valid certificate of this cluster, and of the node that was dialled.
#[derive(Debug)]
pub(super) struct NodeServerVerifier {
    cluster: ClusterName,
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl NodeServerVerifier {
    pub(super) fn new(cluster: ClusterName, roots: Arc<RootCertStore>) -> Self {
        Self {
            cluster,
            roots,
            algorithms: provider().signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for NodeServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let cert = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &cert,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let id = node_of(end_entity, &self.cluster, server_name)?;
        let name = dial_name(&self.cluster, id);
        let asked = server_name.to_str();
        if *asked != *name && *asked != *any_name(&self.cluster) {
            return Err(not_valid_for(server_name, vec![name]));
        }
        // The exact comparison above is the stricter one; the standard one has the last word all the same.
        let name = ServerName::try_from(name).map_err(|_| CertificateError::BadEncoding)?;
        verify_server_name(&cert, &name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The accepting side's check: a valid certificate of any node of this cluster. No certificate, no
/// connection.
#[derive(Debug)]
pub(super) struct NodeClientVerifier {
    cluster: ClusterName,
    chain: Arc<dyn ClientCertVerifier>,
}

impl NodeClientVerifier {
    pub(super) fn new(cluster: ClusterName, roots: Arc<RootCertStore>) -> Result<Self, IdentityError> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|why| Error::General(why.to_string()))?;
        Ok(Self { cluster, chain })
    }
}

impl ClientCertVerifier for NodeClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // A node has one certificate; hints would only make the handshake longer.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        let any = ServerName::try_from(any_name(&self.cluster)).map_err(|_| CertificateError::BadEncoding)?;
        node_of(end_entity, &self.cluster, &any)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The node of `cluster` that a certificate names; `expected` is for the error only.
fn node_of(
    cert: &CertificateDer<'_>,
    cluster: &ClusterName,
    expected: &ServerName<'_>,
) -> Result<NodeId, Error> {
    match name::node_in(cert) {
        Ok((id, of)) if of == *cluster => Ok(id),
        Ok((id, of)) => Err(not_valid_for(expected, vec![dial_name(&of, id)])),
        Err(found) => Err(not_valid_for(expected, found)),
    }
}

fn not_valid_for(expected: &ServerName<'_>, presented: Vec<String>) -> Error {
    CertificateError::NotValidForNameContext {
        expected: expected.to_owned(),
        presented,
    }
    .into()
}

/// Which node of `cluster` is on the other side of an established connection.
///
/// The handshake has checked the certificate already; this reads the id from it, and checks the cluster once
/// more.
///
/// # Errors
///
/// [`IdentityError::NoPeerCertificate`] before the handshake is complete; [`IdentityError::NodeName`] and
/// [`IdentityError::OtherCluster`] for a connection whose configuration did not come from a
/// [`NodeIdentity`](super::NodeIdentity).
pub(crate) fn peer_id(conn: &quinn::Connection, cluster: &ClusterName) -> Result<NodeId, IdentityError> {
    let chain = conn
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(IdentityError::NoPeerCertificate)?;
    let cert = chain.first().ok_or(IdentityError::NoPeerCertificate)?;
    match name::node_in(cert) {
        Ok((id, found)) if found == *cluster => Ok(id),
        Ok((_, found)) => Err(IdentityError::OtherCluster {
            found,
            ours: cluster.clone(),
        }),
        Err(found) => Err(IdentityError::NodeName {
            what: "the peer's certificate".to_owned(),
            found,
        }),
    }
}
