//! Attackers at the edge listener: what they send is dropped in silence and counted, and honest edges notice nothing.

#[macro_use]
mod edges;
mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use edges::raw::{RawWith, SILENCE, heard, hello, message, response, socket};
use edges::{CLUSTER, Keys, counters, edge_status, edges as listed, gateway, key};
use lb_tokio::core::member::Addr;
use lb_tokio::core::wire::seal::{Ascon128, ChaCha20Poly1305, Cipher, DeviceKey, WELCOME_BYTES};
use lb_tokio::core::wire::{Body, Flags, Outcome, decode, servers};
use lb_tokio::edge::EdgeCounters;
use lb_tokio::{Cluster, Server};
use support::{World, eventually, server};

with_each_cipher! {
    a_datagram_changed_anywhere_or_cut_off_is_dropped,
    a_hello_changed_anywhere_or_cut_off_is_dropped,
    foreign_keys_and_clusters_get_no_answer,
    replays_do_nothing_wherever_they_come_from,
    what_a_server_sends_is_not_taken_by_a_server,
    an_edge_moves_by_what_it_says_itself_and_nothing_else,
    hellos_cannot_end_a_session_nor_be_reflected_larger,
    session_tags_differ_and_cannot_be_foretold,
    acknowledgements_say_who_the_server_is_and_no_more_than_is_asked,
}

async fn listener(devices: u32) -> (World, Cluster, SocketAddr) {
    let world = World::new();
    let node = gateway(&world, 1, server(), &Keys::of(devices)).await;
    let addr = node.edge_addr().unwrap();
    (world, node, addr)
}

async fn a_datagram_changed_anywhere_or_cut_off_is_dropped<C: Cipher>() {
    let (_world, node, addr) = listener(1).await;
    let mut raw = RawWith::<C>::join(&key(1, 1), addr).await;
    let before = counters(&node);
    let request = raw.request(7, 1, "echo", b"payload");
    let datagram = raw.seal(&request);
    for at in 0..datagram.len() {
        for bit in [0, 3, 7] {
            let mut bent = datagram.clone();
            bent[at] ^= 1 << bit;
            raw.socket.send_to(&bent, addr).await.unwrap();
        }
        raw.socket.send_to(&datagram[..at], addr).await.unwrap();
    }
    let mut longer = datagram.clone();
    longer.push(0);
    raw.socket.send_to(&longer, addr).await.unwrap();
    let sent = 4 * datagram.len() as u64 + 1;
    eventually("all received", || {
        counters(&node).datagrams - before.datagrams == sent
    })
    .await;
    assert!(raw.is_silent().await);
    let after = counters(&node);
    let dropped = |c: &EdgeCounters| {
        c.malformed + c.wrong_direction + c.unknown_session + c.replayed + c.forged + c.limited
    };
    assert_eq!(dropped(&after) - dropped(&before), sent);
    assert_eq!(after.calls, 0);
    raw.socket.send_to(&datagram, addr).await.unwrap();
    assert_eq!(response(&raw.payload().await.unwrap()).body, b"payload");
}

async fn a_hello_changed_anywhere_or_cut_off_is_dropped<C: Cipher>() {
    let (_world, node, addr) = listener(1).await;
    let (_, hello) = hello::<C>(&key(1, 1));
    let socket = socket().await;
    for at in 0..hello.len() {
        let mut bent = hello;
        bent[at] ^= 0x10;
        socket.send_to(&bent, addr).await.unwrap();
        socket.send_to(&hello[..at], addr).await.unwrap();
    }
    assert_eq!(heard(&socket, SILENCE).await, None);
    let after = counters(&node);
    assert_eq!((after.datagrams, after.welcomes), (2 * hello.len() as u64, 0));
    assert_eq!(after.hellos_suite, 1, "the byte of the suite");
    assert_eq!(listed(&node).total, 0, "strangers cost no memory");
    socket.send_to(&hello, addr).await.unwrap();
    assert_eq!(
        heard(&socket, SILENCE * 10).await.map(|welcome| welcome.len()),
        Some(WELCOME_BYTES)
    );
}

async fn foreign_keys_and_clusters_get_no_answer<C: Cipher>() {
    let (_world, node, addr) = listener(2).await;
    let foreign = [
        key(1, 2),
        DeviceKey::new(1, &[9; 32], CLUSTER),
        DeviceKey::new(1, &psk_of(1), "another"),
        key(3, 1),
    ];
    for key in &foreign {
        assert!(RawWith::<C>::shake_hands(key, addr).await.is_none());
    }
    let after = counters(&node);
    assert_eq!((after.hellos_forged, after.hellos_unknown), (15, 5));
    assert_eq!(listed(&node).total, 0);

    // A device with a key of its own speaks for itself alone.
    let mut two = RawWith::<C>::join(&key(2, 1), addr).await;
    let lie = message(1, Body::Heartbeat);
    two.send(&lie).await;
    assert!(two.is_silent().await);
    assert_eq!(counters(&node).refused_payloads, 1);
    assert!(edge_status(&node, 1).is_none());
    for nonsense in [
        &b""[..],
        &[1],
        &[1, 99, 0, 0, 0, 0, 0, 0],
        &[2, 1, 0],
        &[1, 7, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
    ] {
        two.send(nonsense).await;
    }
    assert!(two.is_silent().await);
    assert_eq!(counters(&node).refused_payloads, 6);
    assert!(two.beats().await);
}

/// As in [`key`].
fn psk_of(id: u32) -> [u8; 32] {
    let mut psk = [1; 32];
    psk[..4].copy_from_slice(&id.to_be_bytes());
    psk
}

async fn replays_do_nothing_wherever_they_come_from<C: Cipher>() {
    let world = World::new();
    let runs = Arc::new(AtomicU32::new(0));
    let count = runs.clone();
    let serve = Server::new().handler("count", move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Ok("".into()) }
    });
    let node = gateway(&world, 1, serve, &Keys::of(1)).await;
    let addr = node.edge_addr().unwrap();
    let mut raw = RawWith::<C>::join(&key(1, 1), addr).await;
    let home = raw.socket.local_addr().unwrap();
    let requests: Vec<Vec<u8>> = (1..=8)
        .map(|call| {
            let request = raw.request(7, call, "count", b"");
            raw.seal(&request)
        })
        .collect();
    // Out of order, each once: all are good.
    for datagram in requests.iter().rev() {
        raw.socket.send_to(datagram, addr).await.unwrap();
    }
    for _ in &requests {
        assert_eq!(response(&raw.payload().await.unwrap()).outcome, Outcome::Ok);
    }
    let thief = socket().await;
    for datagram in &requests {
        raw.socket.send_to(datagram, addr).await.unwrap();
        thief.send_to(datagram, addr).await.unwrap();
    }
    assert!(raw.is_silent().await && heard(&thief, SILENCE).await.is_none());
    assert_eq!(runs.load(Ordering::SeqCst), 8);
    assert_eq!(counters(&node).replayed, 16);
    assert_eq!(edge_status(&node, 1).unwrap().addr, Some(home));

    // Beyond the window: too old, though never seen.
    let request = raw.request(7, 9, "count", b"");
    let old = raw.seal(&request);
    for _ in 0..70 {
        assert!(raw.beats().await);
    }
    raw.socket.send_to(&old, addr).await.unwrap();
    assert!(raw.is_silent().await);
    assert_eq!(runs.load(Ordering::SeqCst), 8);
}

async fn what_a_server_sends_is_not_taken_by_a_server<C: Cipher>() {
    let (_world, node, addr) = listener(1).await;
    let mut raw = RawWith::<C>::join(&key(1, 1), addr).await;
    let heartbeat = raw.message(Body::Heartbeat);
    raw.send(&heartbeat).await;
    let ack = heard(&raw.socket, SILENCE * 10).await.unwrap();
    raw.socket.send_to(&ack, addr).await.unwrap();
    // The same with the type of the other direction: the key of the direction does not fit.
    let mut turned = ack.clone();
    turned[1] = 3;
    turned[13] = 200;
    raw.socket.send_to(&turned, addr).await.unwrap();
    let (_, hello) = hello::<C>(&key(1, 1));
    raw.socket.send_to(&hello, addr).await.unwrap();
    let welcome = heard(&raw.socket, SILENCE * 10).await.unwrap();
    raw.socket.send_to(&welcome, addr).await.unwrap();
    assert!(raw.is_silent().await);
    let after = counters(&node);
    assert_eq!((after.wrong_direction, after.forged), (2, 1));
    assert!(raw.session.open(&mut ack.clone()).is_ok());
    assert!(raw.beats().await);
}

async fn an_edge_moves_by_what_it_says_itself_and_nothing_else<C: Cipher>() {
    let (_world, node, addr) = listener(1).await;
    let mut raw = RawWith::<C>::join(&key(1, 1), addr).await;
    let home = raw.socket.local_addr().unwrap();
    let heartbeat = raw.message(Body::Heartbeat);
    let at = || edge_status(&node, 1).unwrap().addr.unwrap();

    let thief = socket().await;
    let mut forged = raw.seal(&heartbeat);
    forged[20] ^= 1;
    thief.send_to(&forged, addr).await.unwrap();
    assert_eq!(heard(&thief, SILENCE).await, None);
    assert_eq!(at(), home);

    // Held back, and let go from elsewhere after newer ones: taken for what it says, not for where it came from.
    let held = raw.seal(&heartbeat);
    assert!(raw.beats().await);
    thief.send_to(&held, addr).await.unwrap();
    assert_eq!(heard(&thief, SILENCE).await, None);
    assert_eq!(at(), home);
    let mut ack = heard(&raw.socket, SILENCE).await.expect("the answer goes home");
    raw.session.open(&mut ack).unwrap();

    // A new address, as after a NAT lost its mind.
    raw.socket = socket().await;
    assert!(raw.beats().await);
    assert_eq!(at(), raw.socket.local_addr().unwrap());
}

async fn hellos_cannot_end_a_session_nor_be_reflected_larger<C: Cipher>() {
    let (_world, node, addr) = listener(1).await;
    let recorded: Vec<_> = (0..10).map(|_| hello::<C>(&key(1, 1)).1).collect();
    let mut raw = RawWith::<C>::join(&key(1, 1), addr).await;
    let attacker = socket().await;
    for _ in 0..3 {
        for hello in &recorded {
            attacker.send_to(hello, addr).await.unwrap();
            let welcome = heard(&attacker, SILENCE * 10).await.unwrap();
            assert!(welcome.len() < hello.len());
        }
        assert!(raw.beats().await, "the established session goes on");
    }
    let status = edge_status(&node, 1).unwrap();
    assert_eq!((status.sessions, listed(&node).total), (1, 1));
    // The device itself gets in all the same.
    let mut reborn = RawWith::<C>::join(&key(1, 1), addr).await;
    assert!(reborn.beats().await && !raw.beats().await);
}

#[tokio::test]
async fn a_device_may_change_its_cipher_and_nobody_else_does_it_for_it() {
    change_of_cipher::<ChaCha20Poly1305, Ascon128>().await;
    change_of_cipher::<Ascon128, ChaCha20Poly1305>().await;
}

async fn change_of_cipher<A: Cipher, B: Cipher>() {
    let (_world, node, addr) = listener(2).await;
    let (key, attacker) = (key(1, 1), socket().await);
    // Recorded, and never answered to the device.
    let recorded = [hello::<A>(&key).1, hello::<B>(&key).1, hello::<A>(&key).1];
    let mut former = RawWith::<A>::join(&key, addr).await;
    let mut waiting = RawWith::<A>::shake_hands(&key, addr).await.unwrap();
    let mut present = RawWith::<B>::join(&key, addr).await;
    for _ in 0..3 {
        for hello in &recorded {
            attacker.send_to(hello, addr).await.unwrap();
            assert!(heard(&attacker, SILENCE * 10).await.is_some());
        }
        assert!(present.beats().await, "the established session goes on");
    }
    let status = edge_status(&node, 1).unwrap();
    assert_eq!(
        (status.sessions, listed(&node).total),
        (2, 1),
        "one device, however it speaks"
    );
    assert!(
        !former.beats().await && !waiting.beats().await,
        "older than the present one"
    );

    // Its neighbour is free in its choice.
    let mut neighbour = RawWith::<A>::join(&edges::key(2, 1), addr).await;
    assert!(neighbour.beats().await && present.beats().await);
    // And it may go back.
    let mut reborn = RawWith::<A>::join(&key, addr).await;
    assert!(reborn.beats().await && !present.beats().await);
}

async fn session_tags_differ_and_cannot_be_foretold<C: Cipher>() {
    let (_world, _node, addr) = listener(64).await;
    let mut tags = BTreeSet::new();
    for id in 1..=64 {
        tags.insert(RawWith::<C>::join(&key(id, 1), addr).await.session.tag());
    }
    let list: Vec<u32> = tags.iter().copied().collect();
    assert_eq!(list.len(), 64);
    assert!(
        list.windows(2).any(|pair| pair[1] - pair[0] > 1 << 24),
        "{list:?}"
    );
}

async fn acknowledgements_say_who_the_server_is_and_no_more_than_is_asked<C: Cipher>() {
    let (_world, node, addr) = listener(1).await;
    let mut raw = RawWith::<C>::shake_hands(&key(1, 1), addr).await.unwrap();
    // A heartbeat before the Join (which was lost): acknowledged, and asked to join.
    let heartbeat = raw.message(Body::Heartbeat);
    raw.send(&heartbeat).await;
    let ack = raw.payload().await.unwrap();
    let decoded = decode(&ack).unwrap();
    assert_eq!((decoded.header.from, decoded.header.known_epoch), (node.id(), 1));
    assert!(decoded.header.flags.has(Flags::WANT_META));
    let join = raw.message(Body::Join {
        addr: Addr::NONE,
        tags: "",
    });
    raw.send(&join).await;
    let ack = raw.payload().await.unwrap();
    assert!(!decode(&ack).unwrap().header.flags.has(Flags::WANT_META));
    let told: Vec<_> = servers(&ack)
        .unwrap()
        .map(|server| (server.id, server.addr.socket(), server.tags))
        .collect();
    assert_eq!(told, [(node.id(), Some(addr), "role=worker")]);
}
