//! Keys of edges that change while the listener runs; and a table that is full.

mod edges;
mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edges::driver::random;
use edges::raw::{Raw, SILENCE, heard, hello, socket};
use edges::{CLUSTER, Keys, counters, edge_status, edges as listed, gateway, gateway_with, key, loopback};
use lb_tokio::core::Instant;
use lb_tokio::core::wire::seal::{ChaCha20Poly1305, Initiator};
use lb_tokio::edge::{EdgeKeyFile, EdgeListenerConfig};
use lb_tokio::identity::ClusterName;
use support::{World, eventually, server};

#[tokio::test]
async fn a_key_is_changed_without_losing_a_session() {
    let world = World::new();
    let keys = Keys::of(2);
    let node = gateway(&world, 1, server(), &keys).await;
    let addr = node.edge_addr().unwrap();
    let mut old = Raw::join(&key(1, 1), addr).await;
    // The server has both, the device the old one: it goes on, and gets in again.
    keys.set(1, [Some(key(1, 2)), Some(key(1, 1))]);
    assert!(old.beats().await);
    let mut old = Raw::join(&key(1, 1), addr).await;
    assert!(old.beats().await);
    // The device has the new one.
    let mut new = Raw::join(&key(1, 2), addr).await;
    assert!(new.beats().await && !old.beats().await);
    // The old one goes: nothing is lost, and it is of no use any more.
    keys.set(1, [Some(key(1, 2)), None]);
    assert!(new.beats().await);
    assert!(Raw::shake_hands(&key(1, 1), addr).await.is_none());
    assert_eq!(counters(&node).withdrawn, 0);
    // A device that was given the next key first gets in with its older one, by its fourth HELLO.
    let mut initiator: Initiator = Initiator::new(key(1, 3), Some(key(1, 2)));
    initiator.start(Instant::ZERO, random());
    let socket = socket().await;
    let mut welcomes = Vec::new();
    for n in 0..4 {
        let hello = initiator.poll_transmit(Instant::from_secs(n * 60)).unwrap();
        socket.send_to(&hello, addr).await.unwrap();
        welcomes.push(heard(&socket, SILENCE).await);
    }
    assert!(welcomes[..3].iter().all(Option::is_none));
    initiator.handle_welcome(welcomes[3].as_ref().unwrap()).unwrap();
}

#[tokio::test]
async fn a_withdrawn_key_ends_its_sessions_at_once() {
    let world = World::new();
    let keys = Keys::of(2);
    let node = gateway(&world, 1, server(), &keys).await;
    let addr = node.edge_addr().unwrap();
    let mut stolen = Raw::join(&key(1, 1), addr).await;
    let mut other = Raw::join(&key(2, 1), addr).await;
    let pending = Raw::shake_hands(&key(1, 1), addr).await;
    let request = stolen.request(7, 1, "sleep", b"20000");
    stolen.send(&request).await;
    eventually("it runs", || node.status().members[0].in_flight == 1).await;
    keys.set(1, [Some(key(1, 2)), None]);
    assert!(!stolen.beats().await);
    assert!(!pending.unwrap().beats().await);
    assert!(other.beats().await);
    eventually("its call is given up", || node.status().members[0].in_flight == 0).await;
    assert_eq!((counters(&node).withdrawn, listed(&node).total), (1, 1));
    let mut owner = Raw::join(&key(1, 2), addr).await;
    assert!(owner.beats().await);
    keys.set(1, [None, None]);
    assert!(!owner.beats().await && other.beats().await);
}

struct File(PathBuf);

impl File {
    fn write(&self, devices: &[(u32, char)]) {
        let entry = |(id, digit): &(u32, char)| {
            format!(
                "[[device]]\nid = {id}\nkey = \"{}\"\n",
                digit.to_string().repeat(64)
            )
        };
        let text: String = devices.iter().map(entry).collect();
        std::fs::write(&self.0, text).unwrap();
        std::fs::set_permissions(&self.0, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_key_file_is_reloaded_while_edges_talk() {
    let world = World::new();
    let file = File(std::env::temp_dir().join(format!("lb-edge-reload-{}", std::process::id())));
    file.write(&[(1, '1')]);
    let keys = Arc::new(EdgeKeyFile::open(&file.0, &ClusterName::new(CLUSTER).unwrap()).unwrap());
    let config = EdgeListenerConfig::new(loopback(), keys.clone());
    let node = gateway_with(&world, 1, server(), config).await;
    let addr = node.edge_addr().unwrap();
    let of = |id, byte: u8| lb_tokio::core::wire::seal::DeviceKey::new(id, &[byte; 32], CLUSTER);
    let mut one = Raw::join(&of(1, 0x11), addr).await;
    assert!(Raw::shake_hands(&of(2, 0x22), addr).await.is_none());
    file.write(&[(1, '1'), (2, '2')]);
    assert_eq!(keys.reload().unwrap(), 2);
    let mut two = Raw::join(&of(2, 0x22), addr).await;
    std::fs::write(&file.0, "[[device]]\nid = 2").unwrap();
    keys.reload().unwrap_err();
    assert!(
        one.beats().await && two.beats().await,
        "a file that is wrong changes nothing"
    );
    file.write(&[(2, '2')]);
    keys.reload().unwrap();
    assert!(two.beats().await && !one.beats().await);
}

#[tokio::test]
async fn a_full_table_forgets_the_silent_and_never_the_living() {
    let world = World::with_heartbeat(Duration::from_millis(500));
    let config = EdgeListenerConfig::new(loopback(), Keys::of(9)).capacity(3);
    let node = gateway_with(&world, 1, server(), config).await;
    let addr = node.edge_addr().unwrap();
    let mut raws = Vec::new();
    for id in 1..=3 {
        raws.push(Raw::join(&key(id, 1), addr).await);
    }
    let stranger = socket().await;
    stranger
        .send_to(&hello::<ChaCha20Poly1305>(&key(4, 1)).1, addr)
        .await
        .unwrap();
    assert_eq!(heard(&stranger, SILENCE).await, None, "all are alive");
    assert_eq!(counters(&node).refused, 1);
    // The first two fall silent (stale after 1.5 s), one after the other; the third lives.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(raws[1].beats().await && raws[2].beats().await);
    }
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(raws[2].beats().await);
    }
    let mut four = Raw::join(&key(4, 1), addr).await;
    assert!(!raws[0].beats().await, "the longest silent made room");
    assert!(raws[1].beats().await && raws[2].beats().await && four.beats().await);
    let known: Vec<u32> = listed(&node).edges.iter().map(|edge| edge.id).collect();
    assert_eq!(known, [2, 3, 4]);
    assert_eq!(counters(&node).evicted, 1);
    // One that says goodbye makes room at once.
    let leave = raws[1].message(lb_tokio::core::wire::Body::Leave);
    raws[1].send(&leave).await;
    eventually("left", || edge_status(&node, 2).unwrap().status == "LEFT").await;
    assert!(raws[2].beats().await && four.beats().await);
    let mut one = Raw::join(&key(1, 1), addr).await;
    assert!(one.beats().await && raws[2].beats().await && four.beats().await);
    assert!(edge_status(&node, 2).is_none());
}
