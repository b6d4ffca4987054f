//! Real worker processes that are killed, stopped, told to leave, or are not who they should be, while a
//! client in this process calls them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lb_tokio::identity::{ClusterCa, ClusterName, NodeIdentity};
use lb_tokio::{
    CallError, Cluster, ClusterClient, ClusterClientConfig, JoinError, LoadBalancingStrategy, MemberStatus,
    NodeId, Timers, WorkerRegistry,
};

const HEARTBEAT: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);

/// A directory with certificates for nodes 1 to 4 and the client 9, removed at the end.
struct World {
    dir: PathBuf,
    ca: ClusterCa,
}

impl World {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("lb-processes-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let ca = ClusterCa::generate(&ClusterName::new("processes").unwrap()).unwrap();
        for id in [1, 2, 3, 4, 9] {
            ca.issue(NodeId::new(id), DAY).unwrap().write_to(&dir).unwrap();
        }
        Self { dir, ca }
    }

    /// Starts `lb node` and waits until it listens.
    fn start(&self, id: u32, listen: &str, seeds: &[SocketAddr]) -> Worker {
        Worker::start(&self.dir, id, listen, seeds, &[])
    }

    /// Three workers that know each other through the first.
    fn three(&self) -> Vec<Worker> {
        let mut workers = vec![self.start(1, "127.0.0.1:0", &[])];
        for id in [2, 3] {
            let seeds = [workers[0].addr];
            workers.push(self.start(id, "127.0.0.1:0", &seeds));
        }
        workers
    }

    async fn client(&self, workers: &[Worker]) -> ClusterClient {
        let identity = NodeIdentity::read_from(&self.dir, NodeId::new(9)).unwrap();
        let cluster = Cluster::builder(identity)
            .timers(Timers::scaled(HEARTBEAT.into()).unwrap())
            .seeds(workers.iter().map(|worker| worker.addr))
            .start()
            .await
            .unwrap();
        cluster
            .wait_for_workers(workers.len(), Some("role=worker"), PATIENCE)
            .await
            .unwrap();
        let registry = WorkerRegistry::new(cluster, LoadBalancingStrategy::default());
        ClusterClient::new(registry, ClusterClientConfig::default().timeout(PATIENCE))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

struct Worker {
    child: Child,
    id: u32,
    addr: SocketAddr,
    epoch: u32,
}

impl Worker {
    fn start(dir: &Path, id: u32, listen: &str, seeds: &[SocketAddr], more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.args([
            "node",
            "--id",
            &id.to_string(),
            "--listen",
            listen,
            "--heartbeat",
            "500ms",
        ]);
        command.arg("--dir").arg(dir).args(more);
        for seed in seeds {
            command.args(["--seed", &seed.to_string()]);
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let field = |name: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{name} in {line:?}")).to_owned()
        };
        let (addr, epoch) = (field("addr=").parse().unwrap(), field("epoch=").parse().unwrap());
        Self {
            child,
            id,
            addr,
            epoch,
        }
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        assert!(
            Command::new("sh")
                .args(["-c", &command])
                .status()
                .unwrap()
                .success()
        );
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls without pause from several tasks; every answer is compared.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<CallError>>>,
}

impl Load {
    fn on(client: &ClusterClient) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let tasks = (0..16_u64).map(|task| {
            let (client, stop, answered) = (client.clone(), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let (mut errors, mut number) = (Vec::new(), task);
                while !stop.load(Ordering::Relaxed) {
                    number += 16;
                    let body = number.to_string();
                    match client
                        .call_worker("echo", body.clone(), Some("role=worker"))
                        .await
                    {
                        Ok(answer) => assert_eq!(answer, body),
                        Err(error) => errors.push(error),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                errors
            })
        });
        let tasks = tasks.collect();
        Self {
            stop,
            answered,
            tasks,
        }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    async fn end(self) -> Vec<CallError> {
        self.stop.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        for task in self.tasks {
            errors.extend(task.await.unwrap());
        }
        errors
    }
}

fn member(client: &ClusterClient, id: u32) -> MemberStatus {
    let members = client.registry().cluster().status().members;
    members.into_iter().find(|member| member.id == id).unwrap()
}

fn serves(client: &ClusterClient, id: u32) -> bool {
    ["Worker", "COORDINATOR"].contains(&member(client, id).status.as_str())
}

fn own_in_flight(client: &ClusterClient) -> u32 {
    client
        .registry()
        .workers()
        .iter()
        .map(|worker| worker.own_in_flight)
        .sum()
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

#[tokio::test]
async fn a_worker_killed_under_load_costs_no_call_and_comes_back_with_a_higher_epoch() {
    let world = World::new("kill");
    let mut workers = world.three();
    let client = world.client(&workers).await;
    let load = Load::on(&client);
    eventually("load is on", || load.answered() > 100).await;

    workers[1].kill();
    eventually("it is failed", || member(&client, 2).status == "FAILED").await;
    let before = load.answered();
    eventually("calls go on without it", || load.answered() > before + 100).await;

    let (addr, epoch) = (workers[1].addr, workers[1].epoch);
    let seeds = [workers[0].addr];
    workers[1] = world.start(2, &addr.to_string(), &seeds);
    eventually("it is back", || serves(&client, 2)).await;
    assert!(member(&client, 2).epoch > epoch);
    let picked = client.registry().picks()[&NodeId::new(2)];
    eventually("it is called again", || {
        client.registry().picks()[&NodeId::new(2)] > picked + 10
    })
    .await;

    assert_eq!(load.end().await, [], "failed calls");
    assert_eq!(own_in_flight(&client), 0);
    assert_eq!(client.registry().cluster().status().control.balance_messages, 0);
}

#[tokio::test]
async fn a_worker_stopped_for_three_heartbeats_is_not_failed_and_is_used_again() {
    let world = World::new("stop");
    let workers = world.three();
    let client = world.client(&workers).await;
    let load = Load::on(&client);
    eventually("load is on", || load.answered() > 100).await;

    workers[2].signal("STOP");
    let stopped = Instant::now();
    let before = load.answered();
    while stopped.elapsed() < HEARTBEAT * 3 {
        assert_ne!(member(&client, 3).status, "FAILED");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    workers[2].signal("CONT");
    assert!(load.answered() > before, "calls go on");
    eventually("it serves", || serves(&client, 3)).await;
    let picked = client.registry().picks()[&NodeId::new(3)];
    eventually("it is called", || {
        client.registry().picks()[&NodeId::new(3)] > picked + 10
    })
    .await;
    assert_eq!(member(&client, 3).epoch, workers[2].epoch, "the same life");
    // It slept itself, so it accuses nobody.
    let view = client
        .registry()
        .cluster()
        .status_of(NodeId::new(3))
        .await
        .unwrap();
    assert!(
        view.members.iter().all(|member| member.liveness == "alive"),
        "{view:?}"
    );
    assert_eq!(load.end().await, [], "failed calls");
    assert_eq!(own_in_flight(&client), 0);
}

#[tokio::test]
async fn a_worker_that_leaves_gracefully_costs_no_call_and_is_left_not_failed() {
    let world = World::new("leave");
    let mut workers = world.three();
    let client = world.client(&workers).await;
    let load = Load::on(&client);
    eventually("load is on", || load.answered() > 100).await;
    workers[0].signal("TERM");
    eventually("it has left", || member(&client, 1).status == "LEFT").await;
    assert_eq!(workers[0].child.wait().unwrap().code(), Some(0));
    let before = load.answered();
    eventually("calls go on without it", || load.answered() > before + 100).await;
    assert_eq!(load.end().await, [], "failed calls");
    for id in [2, 3] {
        let view = client
            .registry()
            .cluster()
            .status_of(NodeId::new(id))
            .await
            .unwrap();
        let left = view.members.iter().find(|member| member.id == 1).unwrap();
        assert_eq!(left.status, "LEFT", "as node {id} sees it");
    }
}

#[tokio::test]
async fn strangers_are_refused() {
    let world = World::new("strangers");
    let worker = world.start(1, "127.0.0.1:0", &[]);
    // Another authority with the same names.
    let foreign = ClusterCa::generate(&ClusterName::new("processes").unwrap()).unwrap();
    let stranger = Cluster::builder(foreign.issue(NodeId::new(4), DAY).unwrap()).seeds([worker.addr]);
    let stranger = stranger.start().await.unwrap();
    let error = stranger
        .wait_for_workers(1, None, Duration::from_secs(1))
        .await
        .unwrap_err();
    assert!(matches!(error, JoinError::Seed { .. }), "{error}");
    assert!(error.to_string().contains("TLS identity refused"), "{error}");

    // Node 2's process, at the address where node 3 is expected.
    let three = world.start(3, "127.0.0.1:0", &[worker.addr]);
    let workers = [worker];
    let client = world.client(&workers).await;
    eventually("node 3 is known", || {
        client.registry().workers().len() == 2 && serves(&client, 3)
    })
    .await;
    let addr = three.addr;
    drop(three);
    let _impostor = world.start(2, &addr.to_string(), &[]);
    let error = loop {
        match client.call_node(NodeId::new(3), "echo", "x").await {
            Err(CallError::Unreachable { .. } | CallError::Select(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => break error,
            Ok(_) => panic!("node 2 answered for node 3"),
        }
    };
    assert!(matches!(error, CallError::IdentityRefused { .. }), "{error}");
}

#[tokio::test]
async fn garbage_and_oversized_datagrams_disturb_nobody() {
    let world = World::new("garbage");
    let workers = world.three();
    let client = world.client(&workers).await;
    let load = Load::on(&client);
    let noise = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut state: u32 = 7;
    for round in 0..3_000_usize {
        let bytes: Vec<u8> = (0..round % 1_500)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let _ = noise.send_to(&bytes, workers[round % 3].addr).await;
        if round % 100 == 0 {
            let _ = noise.send_to(&vec![0xc0; 65_507], workers[round % 3].addr).await;
            tokio::task::yield_now().await;
        }
    }
    let before = load.answered();
    eventually("calls go on", || load.answered() > before + 100).await;
    assert_eq!(load.end().await, [], "failed calls");
    for worker in &workers {
        assert!(serves(&client, worker.id));
    }
}

#[tokio::test]
async fn a_client_with_an_epoch_of_the_past_takes_a_higher_one() {
    let world = World::new("epoch");
    let workers = [world.start(1, "127.0.0.1:0", &[])];
    let identity = world.ca.issue(NodeId::new(9), DAY).unwrap();
    let start = |epoch| {
        let timers = Timers::scaled(HEARTBEAT.into()).unwrap();
        Cluster::builder(identity.clone())
            .timers(timers)
            .epoch(epoch)
            .seeds([workers[0].addr])
            .start()
    };
    let first = start(1_000).await.unwrap();
    first.wait_for_workers(1, None, PATIENCE).await.unwrap();
    tokio::time::sleep(HEARTBEAT * 2).await;
    drop(first);
    for epoch in [1_000, 5] {
        let again = start(epoch).await.unwrap();
        eventually("it has a higher epoch", || again.epoch() > 1_000).await;
        again.wait_for_workers(1, None, PATIENCE).await.unwrap();
        let client = ClusterClient::new(
            WorkerRegistry::new(again.clone(), LoadBalancingStrategy::default()),
            ClusterClientConfig::default(),
        );
        assert_eq!(client.call_worker("echo", "x", None).await.unwrap(), "x");
        let seen = || async {
            let view = again.status_of(NodeId::new(1)).await.unwrap();
            view.members
                .iter()
                .find(|member| member.id == 9)
                .map(|member| member.epoch)
        };
        let start = Instant::now();
        while seen().await != Some(again.epoch()) {
            assert!(start.elapsed() < PATIENCE, "the worker knows the new epoch");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(HEARTBEAT * 2).await;
        drop(again);
    }
}

#[tokio::test]
async fn two_processes_cannot_share_an_address() {
    let world = World::new("address");
    let worker = world.start(1, "127.0.0.1:0", &[]);
    let output = Command::new(env!("CARGO_BIN_EXE_lb"))
        .args(["node", "--id", "2", "--listen", &worker.addr.to_string(), "--dir"])
        .arg(&world.dir)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("is in use") && text.contains("another port"),
        "{text}"
    );
}
