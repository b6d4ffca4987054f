//! Edges on loopback: the core's edge driven over a socket, and an edge without manners.
#![allow(dead_code, unused_macros, reason = "each test binary uses a part of it")]

/// Runs each of these tests, which are generic, with each cipher.
macro_rules! with_each_cipher {
    ($($test:ident),+ $(,)?) => {
        mod chacha {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test::<lb_tokio::core::wire::seal::ChaCha20Poly1305>().await;
                }
            )+
        }

        mod ascon {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test::<lb_tokio::core::wire::seal::Ascon128>().await;
                }
            )+
        }
    };
}

pub(crate) mod driver;
pub(crate) mod raw;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use lb_tokio::core::wire::seal::DeviceKey;
use lb_tokio::edge::{EdgeCounters, EdgeKeys, EdgeListenerConfig, EdgeStatus, EdgesStatus};
use lb_tokio::{Cluster, Server};

use crate::support::World;

pub(crate) const CLUSTER: &str = "test";

/// The first key of each device; `generation` counts up as keys are changed.
pub(crate) fn key(id: u32, generation: u8) -> DeviceKey {
    let mut psk = [generation; 32];
    psk[..4].copy_from_slice(&id.to_be_bytes());
    DeviceKey::new(id, &psk, CLUSTER)
}

/// Keys in memory, for tests to change.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    keys: Mutex<HashMap<u32, [Option<DeviceKey>; 2]>>,
    version: AtomicU64,
}

impl Keys {
    /// Devices `1..=n`, each with its first key.
    pub(crate) fn of(n: u32) -> Arc<Self> {
        let keys = Self::default();
        for id in 1..=n {
            keys.set(id, [Some(key(id, 1)), None]);
        }
        Arc::new(keys)
    }

    pub(crate) fn set(&self, id: u32, keys: [Option<DeviceKey>; 2]) {
        self.keys.lock().unwrap().insert(id, keys);
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl EdgeKeys for Keys {
    fn keys(&self, id: u32) -> [Option<DeviceKey>; 2] {
        self.keys.lock().unwrap().get(&id).cloned().unwrap_or_default()
    }

    fn name(&self, id: u32) -> Option<Arc<str>> {
        (id == 1).then(|| "first".into())
    }

    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A worker that listens for the edges with these keys.
pub(crate) async fn gateway(world: &World, id: u32, server: Server, keys: &Arc<Keys>) -> Cluster {
    gateway_with(
        world,
        id,
        server,
        EdgeListenerConfig::new(loopback(), keys.clone()),
    )
    .await
}

pub(crate) async fn gateway_with(
    world: &World,
    id: u32,
    server: Server,
    edges: EdgeListenerConfig,
) -> Cluster {
    let builder = world.node(id).tag("role", "worker").server(server);
    builder.edges(edges).start().await.unwrap()
}

pub(crate) fn edges(cluster: &Cluster) -> EdgesStatus {
    cluster.status().edges.expect("it listens for edges")
}

pub(crate) fn counters(cluster: &Cluster) -> EdgeCounters {
    edges(cluster).counters
}

pub(crate) fn edge_status(cluster: &Cluster, id: u32) -> Option<EdgeStatus> {
    edges(cluster).edges.into_iter().find(|edge| edge.id == id)
}
