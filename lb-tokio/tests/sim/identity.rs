//! Certificates that are the same in every run.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    version::TLS13,
};

use super::runtime::rng_seed;

/// A certificate authority whose keys, and those it issues, come from a seed.
#[derive(Debug)]
pub struct Authority {
    seed: u64,
    issued: u64,
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// What a node proves itself with, and whom it believes.
#[derive(Debug)]
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub roots: RootCertStore,
}

impl Authority {
    pub fn new(seed: u64) -> Self {
        let (_, key) = ed25519(seed);
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "sim");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(serial(0));
        let certificate = params
            .self_signed(&key)
            .expect("a plain certificate can be signed");
        let issuer = Issuer::new(params, key);
        Self {
            seed,
            issued: 0,
            issuer,
            certificate,
        }
    }

    /// A certificate for this DNS name, good for either end of a connection.
    pub fn issue(&mut self, name: &str) -> Identity {
        self.issued += 1;
        let (pkcs8, key) = ed25519(self.seed.wrapping_add(self.issued));
        let mut params = CertificateParams::new([name.to_owned()]).expect("a DNS name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(serial(self.issued));
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("a plain certificate can be signed");
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.der().clone())
            .expect("our own root parses");
        Identity {
            chain: vec![certificate.der().clone()],
            key: pkcs8.into(),
            roots,
        }
    }
}

impl Identity {
    /// Serves TLS 1.3 to whoever shows a certificate of the same authority.
    pub fn server(&self, alpn: &[u8]) -> quinn::ServerConfig {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots.clone()), provider())
            .build()
            .expect("there is a root");
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("ring speaks TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .expect("the key fits the certificate");
        tls.alpn_protocols = vec![alpn.to_vec()];
        let crypto = QuicServerConfig::try_from(tls).expect("ring has the initial cipher suite");
        quinn::ServerConfig::with_crypto(Arc::new(crypto))
    }

    /// Dials servers of the same authority.
    pub fn client(&self, alpn: &[u8]) -> quinn::ClientConfig {
        let mut tls = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .expect("ring speaks TLS 1.3")
            .with_root_certificates(self.roots.clone())
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .expect("the key fits the certificate");
        tls.alpn_protocols = vec![alpn.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).expect("ring has the initial cipher suite");
        quinn::ClientConfig::new(Arc::new(crypto))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A key from a seed. Ed25519 signatures have one length, and the same key signs the same bytes alike.
fn ed25519(seed: u64) -> (PrivatePkcs8KeyDer<'static>, KeyPair) {
    // RFC 8410, section 7: version 0, algorithm 1.3.101.112, then the 32 bytes of the key.
    let mut der = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
    ];
    der.extend(rng_seed(seed));
    let pkcs8 = PrivatePkcs8KeyDer::from(der);
    let key = KeyPair::try_from(&pkcs8).expect("any 32 bytes are an Ed25519 key");
    (pkcs8, key)
}

/// Always eight bytes in DER. The default, a hash of the key, is now and then a byte shorter.
fn serial(number: u64) -> SerialNumber {
    SerialNumber::from((number | 1 << 62).to_be_bytes().to_vec())
}
