//! A server that drains, leaves, stops, or never started: what its edges see of it.

mod edges;
mod support;

use std::time::Duration;

use edges::driver::{Device, End, Options};
use edges::raw::{Raw, response};
use edges::{Keys, counters, gateway, key, loopback};
use lb_tokio::StartError;
use lb_tokio::core::member::TagsError;
use lb_tokio::core::wire::{Body, Flags, Outcome, decode};
use lb_tokio::edge::EdgeListenerConfig;
use support::{World, eventually, server};

#[tokio::test]
async fn a_draining_server_says_so_and_still_answers() {
    let world = World::new();
    let node = gateway(&world, 1, server(), &Keys::of(1)).await;
    let mut raw = Raw::join(&key(1, 1), node.edge_addr().unwrap()).await;
    let request = raw.request(7, 1, "sleep", b"300");
    raw.send(&request).await;
    node.set_draining(true);
    let heartbeat = raw.message(Body::Heartbeat);
    raw.send(&heartbeat).await;
    let ack = raw.payload().await.unwrap();
    assert!(decode(&ack).unwrap().header.flags.has(Flags::DRAINING));
    let answer = raw.payload().await.unwrap();
    assert_eq!(response(&answer).outcome, Outcome::Ok);
    node.set_draining(false);
    raw.send(&heartbeat).await;
    let ack = raw.payload().await.unwrap();
    assert!(!decode(&ack).unwrap().header.flags.has(Flags::DRAINING));
}

#[tokio::test]
async fn a_server_that_leaves_finishes_its_calls_and_says_goodbye() {
    let world = World::new();
    let node = gateway(&world, 1, server(), &Keys::of(2)).await;
    let mut raw = Raw::join(&key(1, 1), node.edge_addr().unwrap()).await;
    let edge = Device::start(Options::new(key(2, 1)), &[node.edge_addr().unwrap()]).await;
    edge.attached().await;
    let request = raw.request(7, 1, "sleep", b"300");
    raw.send(&request).await;
    eventually("it runs", || node.status().members[0].in_flight == 1).await;
    node.leave().await;
    let answer = raw.payload().await.unwrap();
    assert_eq!(response(&answer).outcome, Outcome::Ok);
    let goodbye = raw.payload().await.unwrap();
    assert_eq!(decode(&goodbye).unwrap().body, Body::Leave);
    eventually("detached", || !edge.is_attached()).await;
    assert!(!raw.beats().await, "it is gone");
}

#[tokio::test]
async fn a_cluster_that_is_dropped_closes_its_socket() {
    let world = World::new();
    let node = gateway(&world, 1, server(), &Keys::of(1)).await;
    let addr = node.edge_addr().unwrap();
    let mut raw = Raw::join(&key(1, 1), addr).await;
    let request = raw.request(7, 1, "sleep", b"20000");
    raw.send(&request).await;
    eventually("it runs", || node.status().members[0].in_flight == 1).await;
    drop(node);
    let end = tokio::time::Instant::now() + support::PATIENCE;
    while let Err(error) = std::net::UdpSocket::bind(addr) {
        assert!(tokio::time::Instant::now() < end, "{error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_edge_comes_back_to_a_server_that_was_restarted() {
    let world = World::new();
    let node = gateway(&world, 1, server(), &Keys::of(1)).await;
    let addr = node.edge_addr().unwrap();
    let edge = Device::start(Options::new(key(1, 1)), &[addr]).await;
    assert_eq!(edge.call("echo", b"1").await.body(), b"1");
    drop(node);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let config = EdgeListenerConfig::new(addr, Keys::of(1));
    let node = edges::gateway_with(&world, 1, server(), config).await;
    let end = edge.call("echo", b"2").await;
    assert!(matches!(end, End::Answer { .. }), "{end:?}");
    assert_eq!(counters(&node).sessions, 1);
}

#[tokio::test]
async fn mistakes_at_the_start() {
    let world = World::new();
    let edges = |addr: &str| EdgeListenerConfig::new(addr.parse().unwrap(), Keys::of(1));
    let start = async |config| world.node(1).server(server()).edges(config).start().await;
    let error = start(edges("0.0.0.0:0")).await.unwrap_err();
    assert!(matches!(error, StartError::EdgeAdvertise { .. }), "{error}");
    let taken = std::net::UdpSocket::bind(loopback()).unwrap();
    let error = start(EdgeListenerConfig::new(taken.local_addr().unwrap(), Keys::of(1)))
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::EdgeBind { .. }), "{error}");
    assert!(error.to_string().contains("another UDP port"), "{error}");

    let node = start(edges("0.0.0.0:0").advertise("10.1.2.3:7500".parse().unwrap()))
        .await
        .unwrap();
    assert!(node.status().members[0].tags.contains("lb.edge=10.1.2.3@7500"));
    assert_eq!(node.set_tag("lb.edge", "x"), Err(TagsError::Reserved));
    assert!(!node.remove_tag("lb.edge"));
    let error = world.node(1).tag("lb.mine", "x").start().await.unwrap_err();
    assert!(error.to_string().contains("set by the node itself"), "{error}");
    let plain = world.node(2).server(server()).start().await.unwrap();
    assert_eq!((plain.edge_addr(), plain.status().edges), (None, None));
}
