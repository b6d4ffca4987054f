//! Clusters on loopback, for tests over real sockets.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;
use std::time::Duration;

use lb_tokio::identity::{ClusterCa, ClusterName, NodeIdentity};
use lb_tokio::{
    Cluster, ClusterBuilder, ClusterClient, ClusterClientConfig, LoadBalancingStrategy, NodeId, Server,
    Timers, WorkerRegistry,
};

/// A bound on everything that waits; no test should come near it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One authority and the nodes it certifies.
pub(crate) struct World {
    ca: ClusterCa,
    heartbeat: Duration,
}

impl World {
    /// Nodes with a quick heartbeat of 200 ms.
    pub(crate) fn new() -> Self {
        Self::with_heartbeat(Duration::from_millis(200))
    }

    pub(crate) fn with_heartbeat(heartbeat: Duration) -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_test_writer()
            .try_init();
        let ca = ClusterCa::generate(&ClusterName::new("test").unwrap()).unwrap();
        Self { ca, heartbeat }
    }

    pub(crate) fn identity(&self, id: u32) -> NodeIdentity {
        self.ca
            .issue(NodeId::new(id), Duration::from_secs(3_600))
            .unwrap()
    }

    pub(crate) fn node(&self, id: u32) -> ClusterBuilder {
        Cluster::builder(self.identity(id)).timers(Timers::scaled(self.heartbeat.into()).unwrap())
    }

    pub(crate) async fn worker(&self, id: u32, seeds: &[SocketAddr], server: Server) -> Cluster {
        let builder = self
            .node(id)
            .tag("role", "worker")
            .seeds(seeds.iter().copied())
            .server(server);
        builder.start().await.unwrap()
    }

    /// Workers `1..=n` that know each other, serving clones of `server`.
    pub(crate) async fn workers(&self, n: u32, server: &Server) -> Vec<Cluster> {
        let mut workers: Vec<Cluster> = Vec::new();
        for id in 1..=n {
            let seeds: Vec<SocketAddr> = workers.first().map(Cluster::local_addr).into_iter().collect();
            workers.push(self.worker(id, &seeds, server.clone()).await);
        }
        for worker in &workers {
            worker.wait_for_workers(n as usize, None, PATIENCE).await.unwrap();
        }
        workers
    }

    /// An observer with a client of all these workers.
    pub(crate) async fn client(
        &self,
        id: u32,
        workers: &[Cluster],
        strategy: LoadBalancingStrategy,
        config: ClusterClientConfig,
    ) -> ClusterClient {
        let cluster = self
            .node(id)
            .seeds(workers.iter().map(Cluster::local_addr))
            .start()
            .await
            .unwrap();
        cluster
            .wait_for_workers(workers.len(), None, PATIENCE)
            .await
            .unwrap();
        ClusterClient::new(WorkerRegistry::new(cluster, strategy), config)
    }
}

/// `echo`, `sleep` (milliseconds in the body), `fail`, `panic`.
pub(crate) fn server() -> Server {
    Server::new()
        .handler("echo", |request| async move { Ok(request.body) })
        .handler("fail", |_| async { Err(lb_tokio::HandlerError::new("as asked")) })
        .handler("panic", |_| async { panic!("as asked") })
        .handler("sleep", |request| async move {
            let millis: u64 = String::from_utf8_lossy(&request.body).parse().unwrap();
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(request.body)
        })
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
