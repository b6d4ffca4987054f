//! Calls of edges: who calls, once at most, cancellation, limits, errors; and what edges are told of servers.

#[macro_use]
mod edges;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use edges::driver::{Device, DeviceWith, End, Options, random};
use edges::raw::{Raw, RawWith, response};
use edges::{Keys, counters, edge_status, gateway, key};
use lb_tokio::core::wire::seal::{Ascon128, Cipher};
use lb_tokio::core::wire::{Outcome, ToEdge, to_edge};
use lb_tokio::{ClusterClientConfig, LoadBalancingStrategy, NodeId, Origin, Server};
use tokio::net::UdpSocket;

use support::{PATIENCE, World, eventually, server};

/// Counts handlers that were dropped before their end.
struct Given {
    up: Arc<AtomicU32>,
    done: bool,
}

impl Given {
    fn finish(mut self) {
        self.done = true;
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        if !self.done {
            self.up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// `count` and `slow` count executions; `slow` takes until it is let go, and tells when it is given up.
fn counting() -> (
    Server,
    Arc<AtomicU32>,
    Arc<tokio::sync::Semaphore>,
    Arc<AtomicU32>,
) {
    let (runs, dropped) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let go = Arc::new(tokio::sync::Semaphore::new(0));
    let (count, quick, gate, gave_up) = (runs.clone(), runs.clone(), go.clone(), dropped.clone());
    let server = server()
        .handler("count", move |_| {
            let n = quick.fetch_add(1, Ordering::SeqCst) + 1;
            async move { Ok(n.to_string().into()) }
        })
        .handler("slow", move |_| {
            let n = count.fetch_add(1, Ordering::SeqCst) + 1;
            let gate = gate.clone();
            let given = Given {
                up: gave_up.clone(),
                done: false,
            };
            async move {
                gate.acquire().await.unwrap().forget();
                given.finish();
                Ok(n.to_string().into())
            }
        });
    (server, runs, go, dropped)
}

with_each_cipher!(an_edge_calls_and_is_shown);

async fn an_edge_calls_and_is_shown<C: Cipher + Send + 'static>() {
    let world = World::new();
    let node = gateway(&world, 1, server(), &Keys::of(1)).await;
    let edge = DeviceWith::<C>::start(
        Options {
            tags: "zone=north",
            ..Options::new(key(1, 1))
        },
        &[node.edge_addr().unwrap()],
    )
    .await;
    edge.attached().await;
    let end = edge.call("echo", b"21.5 C").await;
    assert_eq!(
        end,
        End::Answer {
            server: NodeId::new(1),
            body: b"21.5 C".to_vec()
        }
    );
    assert_eq!(edge.call("fail", b"").await, End::Handler("as asked".to_owned()));
    assert_eq!(edge.call("none", b"").await, End::Refused("unknown method"));
    assert_eq!(edge.call("lb.status", b"").await, End::Refused("unknown method"));
    assert_eq!(
        edge.call("panic", b"").await,
        End::Handler("the handler panicked".to_owned())
    );
    assert_eq!(edge.call("echo", &[7; 900]).await.body(), [7; 900]);

    let shown = edge_status(&node, 1).unwrap();
    assert_eq!(
        (shown.name.as_deref(), shown.zone.as_deref()),
        (Some("first"), Some("north"))
    );
    assert_eq!(
        (shown.status.as_str(), shown.addr),
        ("Observer", Some(edge.addr()))
    );
    assert_eq!((shown.calls, shown.sessions), (6, 1));
    assert!(shown.heard_ms.unwrap() < 5_000 && shown.load_age_ms.is_some());
    let told = serde_json::to_string(&node.status()).unwrap();
    let back: lb_tokio::ClusterStatus = serde_json::from_str(&told).unwrap();
    assert_eq!(back.edges.unwrap().counters.calls, 6);
    assert!(
        node.status().members.iter().all(|member| member.id == 1),
        "an edge is no member"
    );
}

#[tokio::test]
async fn edge_one_is_not_node_one() {
    let world = World::new();
    let serve = server().handler("who", |request| async move {
        let origin = match request.origin {
            Origin::Node => "node",
            Origin::Edge => "edge",
            _ => "other",
        };
        Ok(format!("{origin} {}", request.from).into())
    });
    let keys = Keys::of(9);
    let node = gateway(&world, 1, serve, &keys).await;
    let edge = Device::start(Options::new(key(9, 1)), &[node.edge_addr().unwrap()]).await;
    assert_eq!(edge.call("who", b"").await.body(), b"edge 9");
    let config = ClusterClientConfig::default();
    let client = world
        .client(
            9,
            std::slice::from_ref(&node),
            LoadBalancingStrategy::default(),
            config,
        )
        .await;
    assert_eq!(client.call_worker("who", "", None).await.unwrap(), "node 9");
}

#[tokio::test]
async fn a_repeated_request_is_executed_once() {
    let world = World::new();
    let (serve, runs, go, _) = counting();
    let node = gateway(&world, 1, serve, &Keys::of(1)).await;
    let mut raw = Raw::join(&key(1, 1), node.edge_addr().unwrap()).await;
    let request = raw.request(7, 1, "slow", b"");
    raw.send(&request).await;
    raw.send(&request).await;
    let working = raw.payload().await.unwrap();
    assert_eq!(to_edge(&working), Ok(ToEdge::Working { call: 1 }));
    go.add_permits(10);
    let first = raw.payload().await.unwrap();
    assert_eq!(
        (response(&first).outcome, response(&first).body),
        (Outcome::Ok, &b"1"[..])
    );
    raw.send(&request).await;
    let again = raw.payload().await.unwrap();
    assert_eq!(
        (response(&again).outcome, response(&again).body),
        (Outcome::Ok, &b"1"[..])
    );

    // In a new session of the same life it is still the same call, even with the other cipher.
    let mut rekeyed = RawWith::<Ascon128>::join(&key(1, 1), node.edge_addr().unwrap()).await;
    rekeyed.send(&request).await;
    assert_eq!(response(&rekeyed.payload().await.unwrap()).body, b"1");
    // In another life it is another.
    let reborn = rekeyed.request(8, 1, "slow", b"");
    rekeyed.send(&reborn).await;
    assert_eq!(response(&rekeyed.payload().await.unwrap()).body, b"2");
    // So many later, nobody remembers.
    let later = rekeyed.request(8, 100, "count", b"");
    rekeyed.send(&later).await;
    assert_eq!(response(&rekeyed.payload().await.unwrap()).outcome, Outcome::Ok);
    rekeyed.send(&reborn).await;
    // Its response is still kept, as only two calls were made.
    assert_eq!(response(&rekeyed.payload().await.unwrap()).body, b"2");
    let old = rekeyed.request(8, 2, "count", b"");
    rekeyed.send(&old).await;
    assert_eq!(
        response(&rekeyed.payload().await.unwrap()).outcome,
        Outcome::Forgotten
    );
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    let counters = counters(&node);
    assert_eq!(
        (
            counters.calls,
            counters.working,
            counters.replays,
            counters.forgotten
        ),
        (3, 1, 3, 1)
    );
    assert!(!raw.beats().await, "the former session is over");
}

#[tokio::test]
async fn an_edge_whose_datagrams_all_come_thrice_executes_once() {
    let world = World::new();
    let (serve, runs, ..) = counting();
    let node = gateway(&world, 1, serve, &Keys::of(1)).await;
    let options = Options {
        copies: 3,
        ..Options::new(key(1, 1))
    };
    let edge = Device::start(options, &[node.edge_addr().unwrap()]).await;
    for n in 1..=50_u32 {
        assert_eq!(edge.call("count", b"").await.body(), n.to_string().as_bytes());
    }
    assert_eq!(runs.load(Ordering::SeqCst), 50);
    assert!(counters(&node).replayed >= 100);
}

/// A network that loses, repeats and reorders, in front of this server; where it is reached.
async fn bad_network(server: SocketAddr) -> SocketAddr {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let addr = front.local_addr().unwrap();
    tokio::spawn(async move {
        let mut edge = None;
        let (mut up, mut down) = ([0; 2_048], [0; 2_048]);
        loop {
            let (via, to, datagram) = tokio::select! {
                received = front.recv_from(&mut up) => {
                    let (length, from) = received.unwrap();
                    edge = Some(from);
                    (&back, server, up[..length].to_vec())
                }
                received = back.recv_from(&mut down) => {
                    let (length, _) = received.unwrap();
                    (&front, edge.unwrap(), down[..length].to_vec())
                }
            };
            let [fate, delay, again] = random();
            let copies = match fate {
                0..=40 => 0,
                41..=200 => 1,
                _ => 2,
            };
            for delay in [delay, again].into_iter().take(copies) {
                let (via, datagram) = (via.clone(), datagram.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(u64::from(delay) / 8)).await;
                    let _ = via.send_to(&datagram, to).await;
                });
            }
        }
    });
    addr
}

#[tokio::test]
async fn over_a_bad_network_every_call_is_answered_and_executed_once() {
    let world = World::with_heartbeat(Duration::from_secs(1));
    let (serve, runs, ..) = counting();
    let node = gateway(&world, 1, serve, &Keys::of(1)).await;
    let network = bad_network(node.edge_addr().unwrap()).await;
    let options = Options {
        heartbeat: Duration::from_secs(1),
        ..Options::new(key(1, 1))
    };
    let edge = Device::start(options, &[network]).await;
    // One after the other: many at once can leave a call behind that nobody remembers any more.
    for n in 1..=60_u32 {
        let end = edge.call("count", b"").await;
        assert_eq!(end.body(), n.to_string().as_bytes(), "{:?}", counters(&node));
    }
    assert_eq!(runs.load(Ordering::SeqCst), 60);
    let counters = counters(&node);
    assert!(
        counters.replays + counters.working > 0,
        "it was put to the test: {counters:?}"
    );
}

#[tokio::test]
async fn a_call_given_up_drops_its_handler() {
    let world = World::new();
    let (serve, runs, go, dropped) = counting();
    let node = gateway(&world, 1, serve, &Keys::of(1)).await;
    let edge = Device::start(Options::new(key(1, 1)), &[node.edge_addr().unwrap()]).await;
    edge.attached().await;
    tokio::select! {
        _ = edge.call("slow", b"") => panic!("nobody let it go"),
        () = eventually("it runs", || runs.load(Ordering::SeqCst) == 1) => {}
    }
    eventually("dropped", || dropped.load(Ordering::SeqCst) == 1).await;
    eventually("counted", || {
        counters(&node).cancelled == 1 && node.status().members[0].in_flight == 0
    })
    .await;

    // The same when it waits no longer than its budget, and when it has begun another life.
    let end = edge
        .call_with("slow", b"", "", 100, Duration::from_millis(200))
        .await;
    assert!(
        matches!(end, End::Refused("deadline") | End::Failed(_)),
        "{end:?}"
    );
    eventually("dropped", || dropped.load(Ordering::SeqCst) == 2).await;
    let mut raw = Raw::join(&key(1, 1), node.edge_addr().unwrap()).await;
    let first = raw.request(7, 1, "slow", b"");
    raw.send(&first).await;
    eventually("it runs", || runs.load(Ordering::SeqCst) == 3).await;
    let second = raw.request(8, 1, "echo", b"");
    raw.send(&second).await;
    eventually("dropped", || dropped.load(Ordering::SeqCst) == 3).await;
    go.add_permits(1);
}

#[tokio::test]
async fn a_full_server_sheds_and_takes_the_same_call_later() {
    let world = World::new();
    let (serve, runs, go, _) = counting();
    let node = gateway(&world, 1, serve.concurrency(1), &Keys::of(2)).await;
    let seeds = [node.edge_addr().unwrap()];
    let one = Device::start(Options::new(key(1, 1)), &seeds).await;
    let two = Device::start(Options::new(key(2, 1)), &seeds).await;
    let busy = async {
        eventually("it runs", || runs.load(Ordering::SeqCst) == 1).await;
        let later = async {
            eventually("shed", || counters(&node).shed > 0).await;
            go.add_permits(1);
        };
        let (end, ()) = tokio::join!(two.call("echo", b"at last"), later);
        end.body()
    };
    let (slow, echo) = tokio::join!(one.call("slow", b""), busy);
    assert_eq!((slow.body(), echo), (b"1".to_vec(), b"at last".to_vec()));
}

#[tokio::test]
async fn answers_that_do_not_fit_say_so() {
    let world = World::new();
    let serve = Server::new()
        .max_request(600)
        .handler("many", |request| async move {
            let n: usize = String::from_utf8_lossy(&request.body).parse().unwrap();
            Ok(vec![1; n].into())
        })
        .handler("complain", |_| async {
            Err(lb_tokio::HandlerError::new("ä".repeat(2_000)))
        });
    let node = gateway(&world, 1, serve, &Keys::of(2)).await;
    let seeds = [node.edge_addr().unwrap()];
    let edge = Device::start(Options::new(key(1, 1)), &seeds).await;
    assert_eq!(edge.call("many", b"1000").await.body().len(), 1_000);
    assert_eq!(
        edge.call("many", b"1001").await,
        End::Refused("response too large")
    );
    assert_eq!(
        edge.call("many", &[b'1'; 601]).await,
        End::Refused("request too large")
    );
    match edge.call("complain", b"").await {
        End::Handler(text) => assert_eq!(text, "ä".repeat(500)),
        other => panic!("{other:?}"),
    }
    let small = Device::start(
        Options {
            datagram: 256,
            ..Options::new(key(2, 1))
        },
        &seeds,
    )
    .await;
    assert_eq!(small.call("many", b"120").await.body().len(), 120);
    assert_eq!(
        small.call("many", b"220").await,
        End::Refused("response too large")
    );
}

#[tokio::test]
async fn an_edge_learns_the_other_servers_and_calls_move_on() {
    let world = World::new();
    let keys = Keys::of(1);
    let serve = || server().handler("who", |_| async { Ok("".into()) });
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let seeds: Vec<_> = nodes
            .first()
            .map(lb_tokio::Cluster::local_addr)
            .into_iter()
            .collect();
        let config = lb_tokio::edge::EdgeListenerConfig::new(edges::loopback(), keys.clone());
        let builder = world.node(id).tag("role", "worker").tag("zone", "a").seeds(seeds);
        nodes.push(builder.server(serve()).edges(config).start().await.unwrap());
    }
    for node in &nodes {
        node.wait_for_workers(3, None, PATIENCE).await.unwrap();
    }
    let edge = Device::start(Options::new(key(1, 1)), &[nodes[0].edge_addr().unwrap()]).await;
    edge.attached().await;
    let known = || edge.with(|edge, _| edge.servers().filter_map(|server| server.id).count());
    eventually("all three known", || known() == 3).await;
    let filter = "role=worker,zone=a";
    let end = edge.call_with("who", b"", filter, 100, PATIENCE).await;
    assert!(matches!(end, End::Answer { .. }), "{end:?}");
    let gone = nodes.remove(0);
    gone.leave().await;
    for _ in 0..20 {
        match edge.call("who", b"").await {
            End::Answer { server, .. } => assert_ne!(server, NodeId::new(1)),
            other => panic!("{other:?}"),
        }
    }
    let mut told = nodes[0].status().members.into_iter();
    assert!(told.any(|member| member.tags.contains("lb.edge=127.0.0.1@")));
}
