//! Floods at the edge listener, from many addresses: memory stays flat and honest edges are served throughout.

mod edges;
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edges::driver::{Device, Options, random};
use edges::raw::{SILENCE, hello};
use edges::{Keys, counters, edges as listed, gateway, gateway_with, key, loopback};
use lb_tokio::core::wire::seal::{ChaCha20Poly1305, WELCOME_BYTES};
use lb_tokio::edge::EdgeListenerConfig;
use support::{World, server};

/// What is measured is the process's.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A heartbeat so long that an edge makes no new session because the machine is busy with the test.
const CALM: Duration = Duration::from_secs(5);

fn calm(id: u32) -> Options {
    Options {
        heartbeat: CALM,
        ..Options::new(key(id, 1))
    }
}

fn resident_kb() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// Sends `count` datagrams from many source addresses, some 50 000 a second, from a thread of its own; how many
/// answers came.
fn flood(
    addr: SocketAddr,
    count: u32,
    mut datagram: impl FnMut(u32) -> Vec<u8> + Send + 'static,
) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let sources: Vec<_> = (0..500_u32)
            .map(|n| {
                let ip = Ipv4Addr::from(0x7f01_0000 | (n * 131 + 7));
                let socket = std::net::UdpSocket::bind((ip, 0)).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket
            })
            .collect();
        let mut answers = 0;
        let mut buffer = [0; 2_048];
        for n in 0..count {
            let socket = &sources[n as usize % sources.len()];
            let _ = socket.send_to(&datagram(n), addr);
            if n % 500 == 499 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        std::thread::sleep(SILENCE);
        for socket in &sources {
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                assert_eq!(length, WELCOME_BYTES);
                answers += 1;
            }
        }
        answers
    })
}

/// Calls go through while `threads` run; what those return.
async fn calls_go_through(edges: &[Device], threads: Vec<std::thread::JoinHandle<u64>>) -> Vec<u64> {
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let waiting = tokio::task::spawn_blocking(move || {
        let answers: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        ended.store(true, Ordering::SeqCst);
        answers
    });
    let mut calls = 0;
    while !over.load(Ordering::SeqCst) {
        for edge in edges {
            assert_eq!(edge.call("echo", b"honest").await.body(), b"honest");
            calls += 1;
        }
    }
    assert!(calls >= edges.len(), "{calls}");
    eprintln!("{calls} calls meanwhile");
    waiting.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_garbage_costs_nothing_but_its_own_datagrams() {
    const COUNT: u32 = 100_000;
    let _alone = ALONE.lock().await;
    let world = World::with_heartbeat(CALM);
    let node = gateway(&world, 1, server(), &Keys::of(8)).await;
    let addr = node.edge_addr().unwrap();
    let mut honest = Vec::new();
    for id in 1..=8 {
        honest.push(Device::start(calm(id), &[addr]).await);
        honest.last().unwrap().attached().await;
    }
    let before = resident_kb();
    let garbage = flood(addr, COUNT, |n| {
        let mut bytes: [u8; 64] = random();
        match n % 4 {
            // Sealed datagrams of sessions that do not exist, of both directions, and plain noise.
            0 => bytes[..2].copy_from_slice(&[1, 3]),
            1 => bytes[..2].copy_from_slice(&[1, 4]),
            2 => bytes[..2].copy_from_slice(&[1, 2]),
            _ => {}
        }
        bytes[..n as usize % 64].to_vec()
    });
    let answers = calls_go_through(&honest, vec![garbage]).await;
    assert_eq!(answers, [0]);
    let after = counters(&node);
    let dropped = after.malformed + after.unknown_session + after.wrong_direction;
    assert!(dropped > u64::from(COUNT) / 10, "{after:?}");
    assert_eq!((after.sessions, after.forged, listed(&node).total), (8, 0, 8));
    let grown = resident_kb().saturating_sub(before);
    eprintln!("garbage: {dropped} dropped, resident +{grown} KB, {after:?}");
    assert!(grown < 8 * 1_024, "{grown} KB more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_hellos_keeps_nobody_out() {
    const COUNT: u32 = 100_000;
    const HONEST: u32 = 8;
    const LATE: u32 = HONEST + 1;
    let _alone = ALONE.lock().await;
    let world = World::with_heartbeat(CALM);
    let keys = Keys::of(200);
    let config = EdgeListenerConfig::new(loopback(), keys).capacity(64);
    let node = gateway_with(&world, 1, server(), config).await;
    let addr = node.edge_addr().unwrap();
    let mut honest = Vec::new();
    for id in 1..=HONEST {
        honest.push(Device::start(calm(id), &[addr]).await);
        honest.last().unwrap().attached().await;
    }
    let before = resident_kb();
    let recorded: Vec<Vec<u8>> = (1..=200)
        .map(|id| hello::<ChaCha20Poly1305>(&key(id, 1)).1.to_vec())
        .collect();
    let replayed = recorded.clone();
    let forged = flood(addr, COUNT / 2, move |n| {
        let mut hello = recorded[n as usize % recorded.len()].clone();
        hello[8..24].copy_from_slice(&random::<16>());
        if n % 3 == 0 {
            hello[4] = 1;
        }
        hello
    });
    let replays = flood(addr, COUNT / 2, move |n| {
        replayed[n as usize % replayed.len()].clone()
    });
    // One comes for the first time meanwhile.
    let late = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let late = Device::start(calm(LATE), &[addr]).await;
        late.attached().await;
        late.call("echo", b"late").await.body()
    };
    let (answers, late) = tokio::join!(calls_go_through(&honest, vec![forged, replays]), late);
    assert_eq!(late, b"late");
    assert_eq!(answers[0], 0, "forged ones are not answered");
    let after = counters(&node);
    let known = listed(&node);
    assert!(known.total <= 64, "{known:?}");
    assert!(
        after.hellos_forged + after.hellos_limited > u64::from(COUNT) / 20,
        "{after:?}"
    );
    for edge in &known.edges {
        match edge.id {
            // On a busy machine it may have renewed its session itself.
            1..=LATE => assert!(edge.sessions > 0),
            _ => assert_eq!(edge.sessions, 0, "no replay is a session"),
        }
    }
    let grown = resident_kb().saturating_sub(before);
    eprintln!("hellos: resident +{grown} KB, {after:?}");
    assert!(grown < 8 * 1_024, "{grown} KB more");
}
