// What the examples of guide.md share: a small cluster in this process, gone when the example ends.

use std::error::Error;
use std::time::Duration;

use lb_tokio::identity::{ClusterCa, ClusterName};
use lb_tokio::{
    CallError, Cluster, ClusterClient, ClusterClientConfig, LoadBalancingStrategy, NodeId, Server,
    WorkerRegistry,
};

type Outcome = Result<(), Box<dyn Error>>;

/// The workers behind the cluster of an example.
struct Fleet {
    ca: ClusterCa,
    workers: Vec<Cluster>,
}

impl Fleet {
    /// A worker with these tags, `key=value` with commas between. The tag `capacity`, if there is one, is
    /// also how many requests it serves at once.
    async fn add(&mut self, id: u32, tags: &str) -> Result<Cluster, Box<dyn Error>> {
        let server = Server::new()
            .handler("compute", |request| async move { Ok(request.body) })
            .handler("wait", |_| std::future::pending());
        let mut builder = Cluster::builder(self.ca.issue(NodeId::new(id), DAY)?).tag("role", "worker");
        let mut concurrency = 100;
        for (key, value) in tags.split(',').filter_map(|tag| tag.split_once('=')) {
            builder = builder.tag(key, value);
            if key == "capacity" {
                concurrency = value.parse()?;
            }
        }
        let worker = builder.server(server.concurrency(concurrency)).start().await?;
        self.workers.push(worker.clone());
        Ok(worker)
    }

    /// A node that only picks and calls, once it knows all workers.
    async fn join(&self, id: u32) -> Result<Cluster, Box<dyn Error>> {
        let seeds = self.workers.iter().map(Cluster::local_addr);
        let cluster = Cluster::builder(self.ca.issue(NodeId::new(id), DAY)?)
            .seeds(seeds)
            .start()
            .await?;
        cluster
            .wait_for_workers(self.workers.len(), None, Duration::from_secs(10))
            .await?;
        Ok(cluster)
    }

    /// Another client keeps a worker busy with `n` requests that do not end.
    async fn keep_busy(&self, worker: usize, n: u32) -> Outcome {
        let worker = &self.workers[worker];
        let registry = WorkerRegistry::new(
            self.join(800 + worker.id().get()).await?,
            LoadBalancingStrategy::default(),
        );
        for _ in 0..n {
            let client = ClusterClient::new(registry.clone(), ClusterClientConfig::default());
            let id = worker.id();
            tokio::spawn(async move { client.call_node(id, "wait", "").await });
        }
        let in_flight = || {
            worker
                .status()
                .members
                .iter()
                .find(|member| member.is_self)
                .map(|own| own.in_flight)
        };
        let busy = async {
            while in_flight() != Some(n) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        Ok(tokio::time::timeout(Duration::from_secs(10), busy).await?)
    }
}

/// Calls every worker once: the responses bring their load.
async fn hear_loads(cluster: &Cluster) -> Outcome {
    let registry = WorkerRegistry::new(cluster.clone(), LoadBalancingStrategy::default());
    let client = ClusterClient::new(registry.clone(), ClusterClientConfig::default());
    for worker in registry.workers() {
        client.call_node(worker.id, "compute", "").await?;
    }
    Ok(())
}

const DAY: Duration = Duration::from_secs(86_400);

/// Runs an example against a cluster with these workers; their ids are 1, 2, 3 ...
fn with(workers: &[&str], example: impl AsyncFnOnce(Cluster, Fleet) -> Outcome) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let ca = ClusterCa::generate(&ClusterName::new("guide")?)?;
        let mut fleet = Fleet {
            ca,
            workers: Vec::new(),
        };
        for (id, tags) in (1..).zip(workers) {
            fleet.add(id, tags).await?;
        }
        example(fleet.join(900).await?, fleet).await
    })
}
