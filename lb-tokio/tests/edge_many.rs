//! Very many edges on one listener: 10 000 in an optimised build, or `LB_EDGES`, as far as this process may open
//! sockets. `LB_EDGES_STAY` says for how many seconds they stay.

mod edges;
mod support;

use std::time::{Duration, Instant};

use edges::driver::{CoreEdge, random};
use edges::{CLUSTER, Keys, counters, edges as listed, gateway, key};
use lb_tokio::core::edge::{Answer, CallPoll, Config, Outgoing, Received};
use lb_tokio::core::health::Timers;
use lb_tokio::core::member::{Addr, Filter};
use support::{World, eventually, server};

const HEARTBEAT: Duration = Duration::from_secs(5);

/// CPU time that the listener took: the process's less this thread's, which is the crowd's.
fn cpu() -> Duration {
    let ticks = |path: &str| -> u64 {
        let stat = std::fs::read_to_string(path).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    // This thread's first: time goes on between the two. Of 10 ms each.
    let own = ticks("/proc/thread-self/stat");
    Duration::from_millis(ticks("/proc/self/stat").saturating_sub(own) * 10)
}

/// How many sockets this process may have, less some for the test itself.
fn sockets() -> u32 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let soft = line.split_whitespace().next().unwrap();
    soft.parse::<u32>()
        .map_or(u32::MAX, |soft| soft.saturating_sub(100))
}

fn resident_kb() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// Edges of one thread, each with a socket of its own.
struct Crowd {
    edges: Vec<(std::net::UdpSocket, CoreEdge)>,
    origin: Instant,
    answered: usize,
}

impl Crowd {
    fn new(ids: std::ops::RangeInclusive<u32>, server: std::net::SocketAddr) -> Self {
        let start = lb_tokio::core::Instant::ZERO;
        let edges = ids.map(|id| {
            let config = Config::new(key(id, 1), u32::from_be_bytes(random()))
                .timers(Timers::scaled(HEARTBEAT.into()).unwrap());
            let mut edge = CoreEdge::new(start, config.check().unwrap());
            edge.add_seed(start, Addr::from(server)).unwrap();
            let ip = std::net::Ipv4Addr::from(0x7f02_0000 | (id / 200));
            let socket = std::net::UdpSocket::bind((ip, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            (socket, edge)
        });
        Self {
            edges: edges.collect(),
            origin: Instant::now(),
            answered: 0,
        }
    }

    fn now(&self) -> lb_tokio::core::Instant {
        let micros = self.origin.elapsed().as_micros();
        lb_tokio::core::Instant::from_micros(u64::try_from(micros).unwrap())
    }

    /// One look at every edge; how many are attached.
    fn round(&mut self) -> usize {
        let (mut attached, mut buffer) = (0, [0; 1_472]);
        let now = self.now();
        for (socket, edge) in &mut self.edges {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let datagram = &mut buffer[..length];
                let received = edge.handle_datagram(now, Addr::from(from), datagram);
                if let Ok(Received::Answer(Answer { call, result, .. })) = received {
                    assert_eq!(result, Ok(&b"21.5 C"[..]));
                    self.answered += 1;
                    edge.finish(now, call);
                }
            }
            if edge.next_deadline().is_some_and(|at| at <= now) {
                edge.handle_timeout(now, &mut random);
            }
            while let Some(out) = edge.poll_transmit(now, &mut buffer) {
                let _ = socket.send_to(&buffer[..out.len], out.addr.socket().unwrap());
            }
            while edge.poll_event().is_some() {}
            attached += usize::from(edge.status().attached);
        }
        attached
    }

    /// Every edge calls once; until all are answered.
    fn call_all(&mut self, until: Instant) {
        let filter = Filter::parse("").unwrap();
        let outgoing = Outgoing {
            method: "echo",
            body: b"21.5 C",
            response_max: 64,
            filter: &filter,
        };
        let now = self.now();
        let budget = Duration::from_secs(30).into();
        let mut calls: Vec<_> = self
            .edges
            .iter_mut()
            .map(|(_, edge)| edge.call(now, budget, true).unwrap())
            .collect();
        let mut buffer = [0; 1_472];
        self.answered = 0;
        while self.answered < self.edges.len() {
            assert!(Instant::now() < until, "{} answered", self.answered);
            let now = self.now();
            for (at, call) in calls.iter_mut().enumerate() {
                let (socket, edge) = &mut self.edges[at];
                while let CallPoll::Transmit(out) = edge.poll_call(now, *call, &outgoing, &mut buffer) {
                    let _ = socket.send_to(&buffer[..out.len], out.addr.socket().unwrap());
                }
                if at % 100 == 99 {
                    // The crowd shares its machine with the server.
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            self.round();
        }
    }
}

#[test]
fn a_crowd_of_edges_attaches_calls_and_stays() {
    let usual = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
    let wanted = std::env::var("LB_EDGES").map_or(usual, |count| count.parse().unwrap());
    let count = wanted.min(sockets());
    let stay: u64 = std::env::var("LB_EDGES_STAY").map_or(1, |secs| secs.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _guard = runtime.enter();
    let world = World::with_heartbeat(HEARTBEAT);
    let keys = Keys::of(count);
    let serve = server().concurrency(u16::MAX);
    let node = runtime.block_on(gateway(&world, 1, serve, &keys));
    let addr = node.edge_addr().unwrap();
    assert_eq!(CLUSTER, node.status().cluster);

    let mut crowd = Crowd::new(1..=count, addr);
    let empty = resident_kb();
    let until = Instant::now() + Duration::from_secs(120);
    let (began, cpu_before) = (Instant::now(), cpu());
    while crowd.round() < count as usize {
        assert!(Instant::now() < until, "{:?}", counters(&node));
        std::thread::sleep(Duration::from_millis(1));
    }
    eprintln!(
        "{count} edges attached in {:?}, CPU of the listener {:?}",
        began.elapsed(),
        cpu().saturating_sub(cpu_before)
    );
    let attached = resident_kb();
    let (began, cpu_before) = (Instant::now(), cpu());
    crowd.call_all(until);
    eprintln!(
        "{count} calls in {:?}, CPU of the listener {:?}",
        began.elapsed(),
        cpu().saturating_sub(cpu_before)
    );
    let called = resident_kb();
    eprintln!(
        "resident: {empty} KB before, +{} KB attached, +{} KB after calls",
        attached.saturating_sub(empty),
        called.saturating_sub(empty)
    );

    let (began, cpu_before, before) = (Instant::now(), cpu(), counters(&node));
    while began.elapsed() < Duration::from_secs(stay) {
        crowd.round();
        std::thread::sleep(Duration::from_millis(20));
    }
    let acks = counters(&node).acks - before.acks;
    eprintln!(
        "idle for {stay} s: {acks} heartbeats, CPU of the listener {:?}",
        cpu().saturating_sub(cpu_before)
    );

    let known = listed(&node);
    assert_eq!(known.total, count as usize);
    assert_eq!(known.edges.len(), known.total.min(1_024));
    assert!(
        known
            .edges
            .iter()
            .all(|edge| edge.status == "Observer" && edge.calls == 1)
    );
    assert_eq!(
        known.counters.calls,
        u64::from(count),
        "each call was executed once"
    );
    assert_eq!(known.counters.evicted + known.counters.refused, 0);
    runtime.block_on(async {
        eventually("idle", || node.status().members[0].in_flight == 0).await;
    });
}
