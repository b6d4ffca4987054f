//! The cluster's certificate authority.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lb_core::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::error::{IdentityError, IssueError};
use super::name::{self, ClusterName};
use super::{NodeIdentity, Origin, files};

/// How long an authority's certificate is valid, and the most that a node's may be.
const MAX_VALIDITY: Duration = Duration::from_secs(3650 * 86_400);

/// How far in the past a certificate starts to be valid: a peer's clock may be this much behind.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Seconds from 1970 to the end of the year 9999, the last date a certificate can carry.
const LAST_DATE: u64 = 253_402_300_799;

const MADE_HERE: Origin<'static> = Origin {
    ca: "the CA certificate just made",
    cert: "the node certificate just made",
    key: "the node key just made",
};

/// A cluster's certificate authority: whoever holds it decides who belongs to the cluster.
///
/// Keep its key (`ca.key`) away from the nodes; they need its certificate (`ca.pem`) only. Keys are Ed25519.
/// The authority's certificate is made for 10 years; note that verifiers, as is the rule for trust anchors,
/// do not look at that date. `Debug` shows the cluster only.
///
/// ```
/// use std::time::Duration;
/// use lb_core::NodeId;
/// use lb_tokio::identity::{ClusterCa, ClusterName};
///
/// let ca = ClusterCa::generate(&ClusterName::new("lab")?)?;
/// let same = ClusterCa::from_pem(&ca.cert_pem(), &ca.key_pem())?;
/// let node = same.issue(NodeId::new(3), Duration::from_secs(86_400))?;
/// assert_eq!(node.id().get(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ClusterCa {
    cluster: ClusterName,
    cert: CertificateDer<'static>,
    key: KeyPair,
}

impl fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterCa")
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl ClusterCa {
    /// Makes a new authority, with a new key, for `cluster`.
    ///
    /// # Errors
    ///
    /// [`IssueError::Clock`] and [`IssueError::Generate`].
    pub fn generate(cluster: &ClusterName) -> Result<Self, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = ca_params(cluster)?;
        let now = SystemTime::now();
        set_validity(
            &mut params,
            now.checked_sub(CLOCK_SKEW),
            now.checked_add(MAX_VALIDITY),
        )?;
        params.serial_number = Some(serial(&key));
        let cert = params.self_signed(&key)?.into();
        Ok(Self {
            cluster: cluster.clone(),
            cert,
            key,
        })
    }

    /// The cluster this authority speaks for.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// Makes a new key and a certificate for node `id`, valid from now (5 minutes earlier, for clocks that
    /// are behind) for `validity`: 1 second to 10 years.
    ///
    /// Nothing stops the caller from issuing an id twice; whoever holds either key is that node.
    ///
    /// # Errors
    ///
    /// [`IssueError::Validity`], [`IssueError::Clock`] and [`IssueError::Generate`].
    pub fn issue(&self, id: NodeId, validity: Duration) -> Result<NodeIdentity, IssueError> {
        if !(Duration::from_secs(1)..=MAX_VALIDITY).contains(&validity) {
            return Err(IssueError::Validity { asked: validity });
        }
        let now = SystemTime::now();
        self.issue_for(
            &self.cluster,
            id,
            now.checked_sub(CLOCK_SKEW),
            now.checked_add(validity),
        )
    }

    /// As [`issue`](Self::issue), for any cluster and any dates; `None` is a date that cannot be expressed.
    pub(super) fn issue_for(
        &self,
        cluster: &ClusterName,
        id: NodeId,
        not_before: Option<SystemTime>,
        not_after: Option<SystemTime>,
    ) -> Result<NodeIdentity, IssueError> {
        let name = name::dial_name(cluster, id);
        let mut params = CertificateParams::new(vec![name.clone()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, not_before, not_after)?;

        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        params.serial_number = Some(serial(&key));
        let cert = params.signed_by(&key, &Issuer::new(ca_params(&self.cluster)?, &self.key))?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        NodeIdentity::assemble(vec![self.cert.clone()], vec![cert.into()], key, MADE_HERE)
            .map_err(|why| IssueError::Unusable(Box::new(why)))
    }

    /// The authority's certificate as PEM text: what every node needs.
    #[must_use]
    pub fn cert_pem(&self) -> String {
        files::cert_pem(std::slice::from_ref(&self.cert))
    }

    /// The authority's private key as PEM text (PKCS #8). Secret.
    #[must_use]
    pub fn key_pem(&self) -> String {
        files::to_pem("PRIVATE KEY", self.key.serialized_der())
    }

    /// Loads an authority from the PEM text of its certificate and of its key.
    ///
    /// # Errors
    ///
    /// [`IdentityError::Pem`], [`IdentityError::NotOurCa`] and [`IdentityError::KeyMismatch`].
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        Self::parse(cert_pem, key_pem, "the CA certificate", "the CA key")
    }

    pub(super) fn parse(
        cert_pem: &str,
        key_pem: &str,
        cert_from: &str,
        key_from: &str,
    ) -> Result<Self, IdentityError> {
        let certs = files::parse_certs(cert_pem, cert_from)?;
        let [cert] = certs.as_slice() else {
            let reason = format!("{} certificates in it where one is expected", certs.len());
            return Err(IdentityError::pem(cert_from, reason, "CERTIFICATE"));
        };
        let not_ours = || IdentityError::NotOurCa {
            what: cert_from.to_owned(),
            found: name::dns_names(cert),
        };
        let names = name::dns_names(cert);
        let cluster = match names.as_slice() {
            [name] => name::parse_ca_name(name).ok_or_else(not_ours)?,
            _ => return Err(not_ours()),
        };
        let key = match files::parse_key(key_pem, key_from)? {
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ED25519).ok(),
            _ => None,
        };
        let key = key.ok_or_else(|| {
            IdentityError::pem(
                key_from,
                "not an Ed25519 private key in PKCS #8 form",
                "PRIVATE KEY",
            )
        })?;
        // The certificate is read by its names and its key alone; the rest follows from the cluster's name.
        let in_cert = webpki::EndEntityCert::try_from(cert).map(|c| c.subject_public_key_info());
        match in_cert {
            Ok(spki) if spki.as_ref() == key.subject_public_key_info() => {}
            Ok(_) => {
                return Err(IdentityError::KeyMismatch {
                    key: key_from.to_owned(),
                    cert: cert_from.to_owned(),
                });
            }
            Err(_) => return Err(not_ours()),
        }
        let ca = Self {
            cluster,
            cert: cert.clone(),
            key,
        };
        // The last proof: what it issues is accepted by those who trust the certificate.
        ca.issue(NodeId::new(0), Duration::from_secs(3600))
            .map_err(|_| not_ours())?
            .check(Origin {
                ca: cert_from,
                ..MADE_HERE
            })?;
        Ok(ca)
    }
}

/// Everything in an authority's certificate that follows from the cluster's name.
fn ca_params(cluster: &ClusterName) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec![name::ca_name(cluster)])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("lb cluster {cluster} CA"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A certificate's serial number: a hash of its public key, which is made for it alone.
///
/// Always 16 bytes in DER: an integer's leading zeros are dropped and a leading 1 bit costs a byte, so
/// neither occurs, and every certificate for the same name has the same length.
fn serial(key: &KeyPair) -> rcgen::SerialNumber {
    let hash = ring::digest::digest(&ring::digest::SHA256, key.public_key_raw());
    let mut bytes: Vec<u8> = hash.as_ref().iter().copied().take(16).collect();
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x3f) | 0x40;
    }
    rcgen::SerialNumber::from(bytes)
}

fn set_validity(
    params: &mut CertificateParams,
    from: Option<SystemTime>,
    until: Option<SystemTime>,
) -> Result<(), IssueError> {
    let since_1970 = |t: Option<SystemTime>| {
        t.and_then(|t| t.duration_since(UNIX_EPOCH).ok())
            .filter(|d| d.as_secs() <= LAST_DATE)
            .ok_or(IssueError::Clock)
    };
    // Within years 1970 to 9999, so the additions cannot overflow.
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_1970(from)?;
    params.not_after = epoch + since_1970(until)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn ca(name: &str) -> ClusterCa {
        ClusterCa::generate(&ClusterName::new(name).unwrap()).unwrap()
    }

    #[test]
    fn authority_survives_pem() {
        let first = ca("a");
        let second = ClusterCa::from_pem(&first.cert_pem(), &first.key_pem()).unwrap();
        assert_eq!(second.cluster(), first.cluster());
        assert_eq!(second.cert_pem(), first.cert_pem());
        assert_eq!(second.key_pem(), first.key_pem());
        // What the loaded one issues is accepted by those who trust the first.
        let node = second.issue(NodeId::new(7), DAY).unwrap();
        NodeIdentity::from_pem(&first.cert_pem(), &node.cert_pem(), &node.key_pem()).unwrap();
    }

    #[test]
    fn authority_parts_must_fit() {
        let (a, b) = (ca("a"), ca("b"));
        let err = ClusterCa::from_pem(&a.cert_pem(), &b.key_pem()).unwrap_err();
        assert!(matches!(err, IdentityError::KeyMismatch { .. }), "{err}");

        let node = a.issue(NodeId::new(1), DAY).unwrap();
        let err = ClusterCa::from_pem(&node.cert_pem(), &node.key_pem()).unwrap_err();
        assert!(matches!(err, IdentityError::NotOurCa { .. }), "{err}");
        assert!(err.to_string().contains("node-1.a.lb.internal"), "{err}");

        let both = a.cert_pem() + &b.cert_pem();
        let err = ClusterCa::from_pem(&both, &a.key_pem()).unwrap_err();
        assert!(err.to_string().contains("2 certificates"), "{err}");
    }

    #[test]
    fn another_subject_is_not_our_authority() {
        let a = ca("a");
        let mut params = ca_params(a.cluster()).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "something else");
        let other = files::cert_pem(&[params.self_signed(&a.key).unwrap().into()]);
        let err = ClusterCa::from_pem(&other, &a.key_pem()).unwrap_err();
        assert!(matches!(err, IdentityError::Refused { .. }), "{err}");
    }

    #[test]
    fn validity_has_bounds() {
        let ca = ca("a");
        for bad in [
            Duration::ZERO,
            Duration::from_millis(999),
            MAX_VALIDITY + Duration::from_nanos(1),
            Duration::MAX,
        ] {
            let err = ca.issue(NodeId::new(1), bad).unwrap_err();
            assert!(
                matches!(err, IssueError::Validity { asked } if asked == bad),
                "{err}"
            );
        }
        for good in [Duration::from_secs(1), MAX_VALIDITY] {
            ca.issue(NodeId::new(u32::MAX), good).unwrap();
        }
        let err = ca
            .issue_for(&ca.cluster, NodeId::new(1), None, Some(SystemTime::now()))
            .unwrap_err();
        assert!(matches!(err, IssueError::Clock), "{err}");
        let far = UNIX_EPOCH.checked_add(Duration::from_secs(LAST_DATE + 1));
        let err = ca
            .issue_for(&ca.cluster, NodeId::new(1), Some(UNIX_EPOCH), far)
            .unwrap_err();
        assert!(matches!(err, IssueError::Clock), "{err}");
    }

    #[test]
    fn certificates_have_one_length() {
        // What the deterministic tests of the whole cluster stand on: Ed25519 signatures do not vary in
        // length.
        let ca = ca("a");
        let now = SystemTime::now();
        let len = || {
            ca.issue_for(&ca.cluster, NodeId::new(7), Some(now), now.checked_add(DAY))
                .unwrap()
                .chain[0]
                .len()
        };
        let first = len();
        assert!((0..300).all(|_| len() == first));
    }

    #[test]
    fn debug_shows_no_key() {
        let ca = ca("a");
        let node = ca.issue(NodeId::new(7), DAY).unwrap();
        assert_eq!(format!("{ca:?}"), "ClusterCa { cluster: ClusterName(\"a\"), .. }");
        assert_eq!(
            format!("{node:?}"),
            "NodeIdentity { id: NodeId(7), cluster: ClusterName(\"a\"), .. }"
        );
    }
}
