//! Garbage, lies and half messages from inside and outside: refused, counted, and nothing else happens.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_tokio::core::load::LoadReport;
use lb_tokio::core::member::Addr;
use lb_tokio::core::node::Refusal;
use lb_tokio::core::wire::{self, Body, Flags, Header, Message};
use lb_tokio::identity::NodeIdentity;
use lb_tokio::{Bytes, Cluster, ClusterClientConfig, Event, LoadBalancingStrategy, NodeId};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::{PATIENCE, World, eventually, server};
use tokio::sync::broadcast;

/// A QUIC client with a good certificate and no manners.
struct Raw {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
}

impl Raw {
    async fn connect(identity: &NodeIdentity, to: SocketAddr, peer: u32) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(identity.ca_pem().as_bytes()).unwrap())
            .unwrap();
        let chain = vec![CertificateDer::from_pem_slice(identity.cert_pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(identity.key_pem().as_bytes()).unwrap();
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![b"lb/1".to_vec()];
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
        let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let name = format!("node-{peer}.test.lb.internal");
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let connection = endpoint.connect_with(config, to, &name).unwrap().await.unwrap();
        Self { endpoint, connection }
    }

    fn datagram(&self, bytes: &[u8]) {
        self.connection
            .send_datagram(Bytes::copy_from_slice(bytes))
            .unwrap();
    }
}

fn message(from: u32, epoch: u32, body: Body<'_>) -> Vec<u8> {
    let header = Header {
        from: NodeId::new(from),
        epoch,
        known_epoch: 0,
        meta: 1,
        flags: Flags::OBSERVER,
        view: 0,
        claim: None,
    };
    let mut bytes = vec![0; wire::MESSAGE_BYTES_MAX];
    let used = wire::encode(
        &Message {
            header,
            load: LoadReport::default(),
            body,
        },
        &mut bytes,
    )
    .unwrap();
    bytes.truncate(used);
    bytes
}

async fn refused(events: &mut broadcast::Receiver<Event>) -> (NodeId, Refusal) {
    loop {
        match tokio::time::timeout(PATIENCE, events.recv())
            .await
            .unwrap()
            .unwrap()
        {
            Event::Refused { from, reason } => return (from, reason),
            _ => continue,
        }
    }
}

async fn still_serves(world: &World, worker: &Cluster) {
    let workers = [worker.clone()];
    let config = ClusterClientConfig::default();
    let client = world
        .client(99, &workers, LoadBalancingStrategy::default(), config)
        .await;
    assert_eq!(client.call_worker("echo", "well", None).await.unwrap(), "well");
    client.registry().cluster().leave().await;
}

#[tokio::test]
async fn control_messages_that_lie_are_refused_one_by_one() {
    let world = World::new();
    let worker = world.worker(1, &[], server()).await;
    let mut events = worker.events();
    let raw = Raw::connect(&world.identity(7), worker.local_addr(), 1).await;
    let seven = NodeId::new(7);

    let mut other_version = message(7, 5, Body::Heartbeat);
    other_version[0] = 9;
    raw.datagram(&other_version);
    assert_eq!(refused(&mut events).await, (seven, Refusal::Version(9)));

    raw.datagram(&message(8, 5, Body::Heartbeat));
    assert_eq!(
        refused(&mut events).await,
        (
            seven,
            Refusal::Identity {
                claimed: NodeId::new(8)
            }
        )
    );

    raw.datagram(&message(1, 5, Body::Heartbeat));
    assert_eq!(
        refused(&mut events).await,
        (
            seven,
            Refusal::Identity {
                claimed: NodeId::new(1)
            }
        )
    );

    raw.datagram(&[wire::VERSION, 77, 1, 2, 3]);
    assert_eq!(refused(&mut events).await, (seven, Refusal::UnknownKind(77)));

    raw.datagram(&message(7, 5, Body::Heartbeat)[..9]);
    assert_eq!(refused(&mut events).await, (seven, Refusal::Malformed));

    let known: Vec<u32> = worker.status().members.iter().map(|member| member.id).collect();
    assert_eq!(known, [1], "nobody was let in");
    assert_eq!(worker.status().control.refused, 5);

    // The same peer, once it speaks properly, is taken in; its former life is not.
    raw.datagram(&message(
        7,
        5,
        Body::Join {
            addr: Addr::NONE,
            tags: "",
        },
    ));
    eventually("it is known", || worker.status().members.len() == 2).await;
    raw.datagram(&message(7, 4, Body::Heartbeat));
    assert_eq!(
        refused(&mut events).await,
        (seven, Refusal::OldEpoch { epoch: 4, known: 5 })
    );
    assert_eq!(worker.status().members[1].epoch, 5);
    still_serves(&world, &worker).await;
    raw.endpoint.close(0_u32.into(), b"");
}

#[tokio::test]
async fn a_flood_of_garbage_datagrams_changes_nothing() {
    let world = World::new();
    let worker = world.worker(1, &[], server()).await;
    let raw = Raw::connect(&world.identity(7), worker.local_addr(), 1).await;
    let outside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut noise: u32 = 1;
    for size in (0..2_000).map(|n| n % 1_100) {
        let bytes: Vec<u8> = (0..size)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            })
            .collect();
        let _ = raw.connection.send_datagram(bytes.clone().into());
        let _ = outside.send_to(&bytes, worker.local_addr()).await;
    }
    // As large as UDP allows, which no QUIC packet is.
    for _ in 0..100 {
        let _ = outside.send_to(&vec![0xff; 65_507], worker.local_addr()).await;
    }
    still_serves(&world, &worker).await;
    assert!(worker.status().control.refused > 0);
    let known: Vec<u32> = worker.status().members.iter().map(|member| member.id).collect();
    assert!(known.iter().all(|id| [1, 99].contains(id)), "{known:?}");
}

#[tokio::test]
async fn an_oversized_control_message_ends_the_connection() {
    let world = World::new();
    let worker = world.worker(1, &[], server()).await;
    let raw = Raw::connect(&world.identity(7), worker.local_addr(), 1).await;
    let mut control = raw.connection.open_uni().await.unwrap();
    control.write_all(&[0xff, 0xff, 1, 2, 3]).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, raw.connection.closed())
        .await
        .unwrap();
    assert!(error.to_string().contains("control message too long"), "{error}");
    still_serves(&world, &worker).await;
}

#[tokio::test]
async fn broken_calls_are_reset_and_take_no_place() {
    let world = World::new();
    let worker = world.worker(1, &[], server().concurrency(2)).await;
    let raw = Raw::connect(&world.identity(7), worker.local_addr(), 1).await;
    for garbage in [&[0xff_u8; 300][..], &[0, 3, 0xff, 0xff, 0xff], &[0, 200, 1]] {
        let (mut send, mut recv) = raw.connection.open_bi().await.unwrap();
        let _ = send.write_all(garbage).await;
        let _ = send.finish();
        let answer = tokio::time::timeout(PATIENCE, recv.read_to_end(1_000))
            .await
            .unwrap();
        assert!(answer.is_err(), "no answer that looks whole: {answer:?}");
    }
    // A stream that is merely opened, and one that stops in the middle of a body.
    let (mut idle, _idle) = raw.connection.open_bi().await.unwrap();
    idle.write_all(&[0]).await.unwrap();
    let in_flight = || {
        worker
            .status()
            .members
            .iter()
            .find(|it| it.is_self)
            .map(|it| it.in_flight)
    };
    assert_eq!(in_flight(), Some(0));
    still_serves(&world, &worker).await;
    raw.connection.close(0_u32.into(), b"");
    eventually("nothing is left", || in_flight() == Some(0)).await;
}

#[tokio::test]
async fn a_peer_that_opens_every_stream_does_not_block_others() {
    let world = World::new();
    let worker = world.worker(1, &[], server()).await;
    let raw = Raw::connect(&world.identity(7), worker.local_addr(), 1).await;
    let mut held = Vec::new();
    while let Ok(Ok(streams)) =
        tokio::time::timeout(Duration::from_millis(200), raw.connection.open_bi()).await
    {
        held.push(streams);
    }
    assert_eq!(held.len(), 256, "the stream limit");
    still_serves(&world, &worker).await;
}
