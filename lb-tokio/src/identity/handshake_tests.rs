//! Real handshakes between real endpoints on the loopback interface: who gets in, and who does not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lb_core::NodeId;
use quinn::{ConnectionError, Endpoint, EndpointConfig, TokioRuntime, TransportConfig};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
/// Far longer than anything here takes; what ends by a timeout has failed.
const LONG: Duration = Duration::from_secs(20);

fn name(cluster: &str) -> ClusterName {
    ClusterName::new(cluster).unwrap()
}

fn ca(cluster: &str) -> ClusterCa {
    ClusterCa::generate(&name(cluster)).unwrap()
}

fn node(ca: &ClusterCa, id: u32) -> NodeIdentity {
    ca.issue(NodeId::new(id), DAY).unwrap()
}

fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(15).try_into().unwrap()));
    Arc::new(transport)
}

fn server_config(identity: &NodeIdentity) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(identity.server_crypto().unwrap()));
    config.transport_config(transport());
    config
}

fn endpoint(config: EndpointConfig, server: Option<quinn::ServerConfig>, addr: SocketAddr) -> Endpoint {
    let socket = std::net::UdpSocket::bind(addr).unwrap();
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime)).unwrap()
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn client_config(crypto: quinn::crypto::rustls::QuicClientConfig) -> quinn::ClientConfig {
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport());
    config
}

/// A client that trusts `trusts` and dials by cluster rules, but shows what `shows` has (or nothing).
fn odd_client(
    trusts: &NodeIdentity,
    shows: Option<&NodeIdentity>,
) -> quinn::crypto::rustls::QuicClientConfig {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trusts.server_verifier()));
    let config = match shows {
        Some(shows) => builder
            .with_client_auth_cert(shows.chain.to_vec(), shows.key.clone_key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    finish_client(config).unwrap()
}

/// What the two sides see: the peer's id, or why there is no connection.
struct Outcome {
    /// What the server learnt of the client.
    server: Result<NodeId, ConnectionError>,
    /// What the client learnt of the server. If the server refuses, the client may first see a connection.
    client: Result<NodeId, ConnectionError>,
    /// The protocol agreed, as the server sees it.
    alpn: Option<Vec<u8>>,
}

impl Outcome {
    fn server_text(&self) -> String {
        self.server.as_ref().unwrap_err().to_string()
    }

    fn client_text(&self) -> String {
        self.client.as_ref().unwrap_err().to_string()
    }
}

/// Dials `server` as `dial` with the given client, to the end of the handshake on both sides.
async fn meet(server: &NodeIdentity, client: quinn::crypto::rustls::QuicClientConfig, dial: &str) -> Outcome {
    let listening = endpoint(server.endpoint_config(), Some(server_config(server)), loopback());
    let dialling = endpoint(EndpointConfig::default(), None, loopback());
    let addr = listening.local_addr().unwrap();
    let cluster = server.cluster();

    let accept = async {
        let conn = listening.accept().await.unwrap().await?;
        let alpn = conn
            .handshake_data()
            .and_then(|any| any.downcast::<quinn::crypto::rustls::HandshakeData>().ok())
            .and_then(|data| data.protocol);
        let id = peer_id(&conn, cluster).unwrap();
        // A sign of life, so that the client's success means that the server is content, too.
        conn.open_uni().await?.write_all(b"in").await.unwrap();
        Ok::<_, ConnectionError>((id, alpn, conn))
    };
    let dialled = async {
        let conn = dialling
            .connect_with(client_config(client), addr, dial)
            .unwrap()
            .await?;
        let id = peer_id(&conn, cluster).unwrap();
        conn.accept_uni().await?;
        Ok::<_, ConnectionError>((id, conn))
    };
    let (server, client) = tokio::time::timeout(LONG, async { tokio::join!(accept, dialled) })
        .await
        .expect("no outcome");
    let alpn = server.as_ref().ok().and_then(|(_, alpn, _)| alpn.clone());
    Outcome {
        server: server.map(|(id, ..)| id),
        client: client.map(|(id, _)| id),
        alpn,
    }
}

fn dial(cluster: &str, id: u32) -> String {
    dial_name(&name(cluster), NodeId::new(id))
}

#[tokio::test]
async fn both_sides_learn_the_id() {
    let ca = ca("a");
    let (one, two) = (node(&ca, 1), node(&ca, 2));
    let met = meet(&one, two.client_crypto().unwrap(), &dial("a", 1)).await;
    assert_eq!(met.server.unwrap(), NodeId::new(2));
    assert_eq!(met.client.unwrap(), NodeId::new(1));
    assert_eq!(met.alpn.unwrap(), b"lb/1");
}

#[tokio::test]
async fn identities_from_pem_meet() {
    let ca = ca("a");
    let reload = |node: NodeIdentity| {
        NodeIdentity::from_pem(&node.ca_pem(), &node.cert_pem(), &node.key_pem()).unwrap()
    };
    let (one, two) = (reload(node(&ca, 1)), reload(node(&ca, u32::MAX)));
    let met = meet(&one, two.client_crypto().unwrap(), &dial("a", 1)).await;
    assert_eq!(met.server.unwrap(), NodeId::new(u32::MAX));
    assert_eq!(met.client.unwrap(), NodeId::new(1));
}

#[tokio::test]
async fn certificates_from_elsewhere_are_as_good() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};

    // A company's root, an intermediate, and a node with another kind of key.
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (root_key, middle_key, node_key) = (key(), key(), key());
    let authority = |cn: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, cn);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root = authority("root").self_signed(&root_key).unwrap();
    let root_issuer = Issuer::new(authority("root"), &root_key);
    let middle = authority("middle").signed_by(&middle_key, &root_issuer).unwrap();
    let middle_issuer = Issuer::new(authority("middle"), &middle_key);
    let leaf = CertificateParams::new(vec![dial("a", 1)])
        .unwrap()
        .signed_by(&node_key, &middle_issuer)
        .unwrap();
    let chain = leaf.pem() + &middle.pem();
    let one = NodeIdentity::from_pem(&root.pem(), &chain, &node_key.serialize_pem()).unwrap();
    assert_eq!((one.cert_pem(), one.key_pem()), (chain, node_key.serialize_pem()));

    let met = meet(&one, one.client_crypto().unwrap(), &dial("a", 1)).await;
    assert_eq!(
        (met.server.unwrap(), met.client.unwrap()),
        (NodeId::new(1), NodeId::new(1))
    );
}

#[test]
fn one_name_and_no_more() {
    use rcgen::{CertificateParams, Issuer, KeyPair, PKCS_ED25519};

    let root_key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root_pem = root.self_signed(&root_key).unwrap().pem();
    let issuer = Issuer::new(root, &root_key);
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    for names in [
        vec![],
        vec![dial("a", 1), dial("a", 2)],
        vec![dial("a", 1), "*.a.lb.internal".to_owned()],
    ] {
        let cert = CertificateParams::new(names.clone())
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let err = NodeIdentity::from_pem(&root_pem, &cert.pem(), &key.serialize_pem()).unwrap_err();
        assert!(
            matches!(&err, IdentityError::NodeName { found, .. } if *found == names),
            "{err}"
        );
    }
}

#[tokio::test]
async fn any_node_may_answer_when_only_the_address_is_known() {
    let ca = ca("a");
    for id in [0, 9] {
        let met = meet(
            &node(&ca, id),
            node(&ca, 2).client_crypto().unwrap(),
            &any_name(&name("a")),
        )
        .await;
        assert_eq!(met.client.unwrap(), NodeId::new(id));
        assert_eq!(met.server.unwrap(), NodeId::new(2));
    }
}

#[tokio::test]
async fn another_node_than_the_one_dialled_is_refused() {
    let ca = ca("a");
    let met = meet(
        &node(&ca, 1),
        node(&ca, 2).client_crypto().unwrap(),
        &dial("a", 3),
    )
    .await;
    assert!(
        met.client_text().contains("node-3.a.lb.internal"),
        "{}",
        met.client_text()
    );
    assert!(
        met.client_text().contains("node-1.a.lb.internal"),
        "{}",
        met.client_text()
    );
    assert!(met.server.is_err());
    // "node-1" is not a prefix match of "node-11".
    let met = meet(
        &node(&ca, 11),
        node(&ca, 2).client_crypto().unwrap(),
        &dial("a", 1),
    )
    .await;
    assert!(met.client.is_err() && met.server.is_err());
}

#[tokio::test]
async fn names_outside_the_rules_are_refused() {
    let ca = ca("a");
    let server = node(&ca, 1);
    for dial in [
        "localhost",
        "node-01.a.lb.internal",
        "any.b.lb.internal",
        "a.lb.internal",
        "127.0.0.1",
    ] {
        let met = meet(&server, node(&ca, 2).client_crypto().unwrap(), dial).await;
        assert!(
            met.client_text().contains("not valid for name"),
            "{dial}: {}",
            met.client_text()
        );
        assert!(met.server.is_err(), "{dial}");
    }
}

#[tokio::test]
async fn another_authority_is_refused_by_the_dialling_side() {
    let (ours, theirs) = (ca("a"), ca("a"));
    let met = meet(
        &node(&theirs, 1),
        node(&ours, 2).client_crypto().unwrap(),
        &dial("a", 1),
    )
    .await;
    // Two authorities of one name: the signature decides.
    assert!(
        met.client_text().contains("BadSignature"),
        "{}",
        met.client_text()
    );
    assert!(met.server.is_err());
}

#[tokio::test]
async fn another_authority_is_refused_by_the_accepting_side() {
    let (ours, theirs) = (ca("a"), ca("a"));
    let server = node(&ours, 1);
    let met = meet(
        &server,
        odd_client(&server, Some(&node(&theirs, 2))),
        &dial("a", 1),
    )
    .await;
    assert!(
        met.server_text().contains("BadSignature"),
        "{}",
        met.server_text()
    );
    assert!(
        matches!(met.client, Err(ConnectionError::ConnectionClosed(_))),
        "{:?}",
        met.client
    );
}

#[tokio::test]
async fn another_cluster_is_refused_under_the_same_authority() {
    let ca = ca("a");
    let now = SystemTime::now();
    let stranger = ca
        .issue_for(&name("b"), NodeId::new(2), Some(now - DAY), Some(now + DAY))
        .unwrap();
    let ours = node(&ca, 1);

    // As a client, even if it is content with our name.
    let met = meet(&ours, odd_client(&ours, Some(&stranger)), &dial("a", 1)).await;
    assert!(
        met.server_text().contains("node-2.b.lb.internal"),
        "{}",
        met.server_text()
    );
    assert!(
        matches!(met.client, Err(ConnectionError::ConnectionClosed(_))),
        "{:?}",
        met.client
    );

    // As a server, dialled by its id, by our name for its id, and by either cluster's name for anyone.
    for name in [
        dial("b", 2),
        dial("a", 2),
        any_name(&name("a")),
        any_name(&name("b")),
    ] {
        let met = meet(&stranger, ours.client_crypto().unwrap(), &name).await;
        assert!(
            met.client_text().contains("not valid for name"),
            "{name}: {}",
            met.client_text()
        );
        assert!(met.server.is_err(), "{name}");
    }
}

#[tokio::test]
async fn no_client_certificate_no_connection() {
    let ca = ca("a");
    let server = node(&ca, 1);
    let met = meet(&server, odd_client(&server, None), &dial("a", 1)).await;
    assert!(
        met.server_text().contains("peer sent no certificates"),
        "{}",
        met.server_text()
    );
    assert!(
        matches!(met.client, Err(ConnectionError::ConnectionClosed(_))),
        "{:?}",
        met.client
    );
}

#[tokio::test]
async fn the_authority_itself_is_not_a_node() {
    let ca = ca("a");
    let server = node(&ca, 1);
    let mut fake = node(&ca, 2);
    let key = files::parse_key(&ca.key_pem(), "").unwrap();
    fake.chain = Arc::clone(&fake.ca);
    fake.key = Arc::new(key);
    let met = meet(&server, odd_client(&server, Some(&fake)), &dial("a", 1)).await;
    assert!(
        met.server_text().contains("CaUsedAsEndEntity"),
        "{}",
        met.server_text()
    );
}

#[tokio::test]
async fn certificates_count_between_their_dates_only() {
    let ca = ca("a");
    let now = SystemTime::now();
    let dated = |id, from, until| {
        ca.issue_for(ca.cluster(), NodeId::new(id), Some(from), Some(until))
            .unwrap()
    };
    let hour = Duration::from_secs(3600);
    for (bad, text) in [
        (dated(2, now - DAY, now - hour), "expired"),
        (dated(2, now + hour, now + DAY), "not valid yet"),
    ] {
        let good = node(&ca, 1);
        let met = meet(&good, bad.client_crypto().unwrap(), &dial("a", 1)).await;
        assert!(met.server_text().contains(text), "{}", met.server_text());
        assert!(met.client.is_err());

        let met = meet(&bad, good.client_crypto().unwrap(), &dial("a", 2)).await;
        assert!(met.client_text().contains(text), "{}", met.client_text());
        assert!(met.server.is_err());
    }
    // A clock that is minutes behind does not keep a fresh node out.
    let fresh = node(&ca, 1);
    let behind = rustls::pki_types::UnixTime::since_unix_epoch(
        (now - Duration::from_secs(240))
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap(),
    );
    use rustls::server::danger::ClientCertVerifier;
    fresh
        .client_verifier()
        .unwrap()
        .verify_client_cert(&fresh.chain[0], &[], behind)
        .unwrap();
}

#[tokio::test]
async fn another_protocol_is_refused() {
    let ca = ca("a");
    let server = node(&ca, 1);
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(server.server_verifier()))
        .with_client_auth_cert(server.chain.to_vec(), server.key.clone_key())
        .unwrap();
    config.alpn_protocols = vec![b"lb/2".to_vec()];
    let client = quinn::crypto::rustls::QuicClientConfig::try_from(config).unwrap();
    let met = meet(&server, client, &dial("a", 1)).await;
    assert!(met.client.is_err() && met.server.is_err());
}

#[test]
fn derived_keys_belong_to_the_private_key() {
    let ca = ca("a");
    let (one, two) = (node(&ca, 1), node(&ca, 1));
    let mac = |node: &NodeIdentity| {
        let key = node.reset_key();
        let mut out = vec![0; key.signature_len()];
        key.sign(b"connection", &mut out);
        out
    };
    let reloaded = NodeIdentity::from_pem(&one.ca_pem(), &one.cert_pem(), &one.key_pem()).unwrap();
    assert_eq!(mac(&one), mac(&reloaded));
    assert_ne!(mac(&one), mac(&two));
}

/// A node that dies without a word and comes back at the same address: its peers must learn of it at their
/// next packet.
#[test]
fn restart_resets_the_connections_of_the_former_life() {
    let ca = ca("a");
    let (server, client) = (node(&ca, 1), node(&ca, 2));
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let here = runtime();

    let listen = |identity: &NodeIdentity, addr| {
        endpoint(identity.endpoint_config(), Some(server_config(identity)), addr)
    };
    let first_life = runtime();
    // Not the address of the other tests: none of them may take the port while nobody has it.
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 77), 0));
    let listening = first_life.block_on(async { listen(&server, own) });
    let addr = listening.local_addr().unwrap();
    let (ready, wait) = std::sync::mpsc::channel();
    let (die, dies) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        first_life.block_on(async move {
            tokio::spawn(async move {
                let conn = listening.accept().await.unwrap().await.unwrap();
                ready.send(()).unwrap();
                conn.closed().await;
                drop(listening);
            });
            let _ = dies.await;
        });
        // Drops every task where it stands: nobody gets to send a farewell.
        drop(first_life);
    });

    let (dialling, conn) = here.block_on(async {
        let dialling = endpoint(EndpointConfig::default(), None, loopback());
        let config = client_config(client.client_crypto().unwrap());
        let conn = dialling
            .connect_with(config, addr, &dial("a", 1))
            .unwrap()
            .await
            .unwrap();
        (dialling, conn)
    });
    wait.recv_timeout(LONG).unwrap();
    die.send(()).unwrap();
    thread.join().unwrap();

    here.block_on(async {
        assert!(
            conn.close_reason().is_none(),
            "the crash must not look like a farewell: {:?}",
            conn.close_reason()
        );
        let reloaded =
            NodeIdentity::from_pem(&server.ca_pem(), &server.cert_pem(), &server.key_pem()).unwrap();
        let second_life = listen(&reloaded, addr);
        // One word is enough, and it is answered at once: an idle timeout would take 15 s.
        conn.send_datagram(vec![0; 100].into()).unwrap();
        let reason = tokio::time::timeout(Duration::from_secs(5), conn.closed())
            .await
            .expect("no reset");
        assert_eq!(reason, ConnectionError::Reset);

        // And a new connection is fine.
        let config = client_config(client.client_crypto().unwrap());
        let again = dialling.connect_with(config, addr, &dial("a", 1)).unwrap();
        let (again, accepted) = tokio::join!(again, async { second_life.accept().await.unwrap().await });
        assert_eq!(
            peer_id(&again.unwrap(), server.cluster()).unwrap(),
            NodeId::new(1)
        );
        accepted.unwrap();
    });
}
