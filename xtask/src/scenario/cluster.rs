//! Three `lb node` processes on this machine, which listen for edges.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command::text;
use crate::place::{self, Scratch};
use crate::qemu::HOST;

pub(crate) const NAME: &str = "orchard";

/// Between heartbeats, of nodes and edges; the time-outs follow. Long enough for a machine with other things to do.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);

/// Ids: the nodes are 1 to this, the devices [`DEVICES`], and the rest is for `lb status` and `lb call`.
pub(crate) const NODES: u32 = 3;
pub(crate) const DEVICES: std::ops::RangeInclusive<u32> = 101..=108;
const WATCHER: u32 = 9;
const CALLERS: std::ops::RangeInclusive<u32> = 10..=13;

/// Requests a node serves at once.
const CAPACITY: u32 = 4;

/// How long a node may take to start, and `lb status` to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The processes. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    lb: PathBuf,
    keys: Vec<String>,
    nodes: Vec<Node>,
    scratch: Scratch,
}

#[derive(Debug)]
struct Node {
    id: u32,
    port: u16,
    edges: u16,
    process: Option<Child>,
}

impl Node {
    /// As SIGKILL does it: nobody is told.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Cluster {
    /// Makes certificates and device keys, and starts the nodes.
    pub(crate) fn start(lb: &Path) -> Result<Self> {
        let scratch = Scratch::new("cluster")?;
        let ids = format!("1-{NODES},{WATCHER},{}-{}", CALLERS.start(), CALLERS.end());
        let mut certificates = Command::new(lb);
        certificates.args(["cert", "--cluster", NAME, "--nodes", &ids, "--dir"]);
        text(certificates.arg(scratch.path()))?;
        let mut keys = Vec::new();
        for id in DEVICES {
            let mut device = Command::new(lb);
            device.args(["device", "new", "--id", &id.to_string(), "--keys"]);
            let said = text(device.arg(scratch.path().join("devices.toml")))?;
            let key = said.lines().find_map(|line| line.strip_prefix("key "));
            keys.push(key.with_context(|| format!("no key in: {said}"))?.to_owned());
        }
        let ports = free_ports(NODES as usize * 2)?;
        let nodes = (1..=NODES).zip(ports.chunks_exact(2));
        let nodes = nodes.map(|(id, ports)| Node {
            id,
            port: ports[0],
            edges: ports[1],
            process: None,
        });
        let mut cluster = Self {
            lb: lb.to_owned(),
            keys,
            nodes: nodes.collect(),
            scratch,
        };
        cluster.start_missing()?;
        Ok(cluster)
    }

    /// Starts the nodes that do not run, each where it was before, and waits until they listen.
    pub(crate) fn start_missing(&mut self) -> Result<()> {
        let seeds: Vec<u16> = self.nodes.iter().map(|node| node.port).collect();
        for node in self.nodes.iter_mut().filter(|node| node.process.is_none()) {
            let (id, heartbeat) = (node.id, HEARTBEAT.as_millis());
            let mut command = Command::new(&self.lb);
            command
                .args(["node", "--exit-with-stdin", "--id", &id.to_string()])
                .args(["--listen", &format!("127.0.0.1:{}", node.port)])
                .args(["--edge-listen", &format!("127.0.0.1:{}", node.edges)])
                .args(["--edge-advertise", &format!("{HOST}:{}", node.edges)])
                .args(["--heartbeat", &format!("{heartbeat}ms")])
                .args(["--capacity", &CAPACITY.to_string()])
                .args(["--tag", &format!("name=n{id}")])
                .arg("--dir")
                .arg(self.scratch.path())
                .arg("--edge-keys")
                .arg(self.scratch.path().join("devices.toml"))
                .arg("--state-dir")
                .arg(self.scratch.path());
            for seed in seeds.iter().filter(|seed| **seed != node.port) {
                command.args(["--seed", &format!("127.0.0.1:{seed}")]);
            }
            let log = File::options()
                .create(true)
                .append(true)
                .open(log(self.scratch.path(), id))?;
            let process = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(log)
                .spawn();
            let mut process = process.with_context(|| format!("cannot start node {id}"))?;
            let output = process.stdout.take().context("a node without output")?;
            node.process = Some(process);
            let mut line = String::new();
            // A node that cannot start ends, and its output with it.
            BufReader::new(output).read_line(&mut line)?;
            if !line.starts_with("listening ") {
                bail!("node {id} does not start: {}", self.logs());
            }
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self, id: u32) -> Result<()> {
        let node = self.nodes.iter_mut().find(|node| node.id == id);
        node.with_context(|| format!("there is no node {id}"))?.kill();
        Ok(())
    }

    pub(crate) fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
    }

    /// The key of a device, as hexadecimal digits.
    pub(crate) fn key(&self, device: u32) -> Result<&str> {
        let mut keys = DEVICES.zip(&self.keys);
        let (_, key) = keys.find(|(id, _)| *id == device).context("no such device")?;
        Ok(key)
    }

    /// Where a guest reaches the listeners.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = String> + '_ {
        self.nodes.iter().map(|node| format!("{HOST}:{}", node.edges))
    }

    /// What `lb status --json` says at this node.
    pub(crate) fn status(&self, id: u32) -> Result<Value> {
        let node = self.nodes.iter().find(|node| node.id == id);
        let node = node.with_context(|| format!("there is no node {id}"))?;
        let mut command = Command::new(&self.lb);
        command.args(["status", "--json", "--timeout"]);
        command.arg(format!("{}s", PATIENCE.as_secs()));
        self.join(&mut command, WATCHER, [node.port]);
        let said = text(&mut command)?;
        serde_json::from_str(&said).with_context(|| format!("lb status says what is not JSON: {said}"))
    }

    /// The edges that the nodes know, each as one node sees it.
    pub(crate) fn edges(&self) -> Result<Vec<Value>> {
        let mut edges = Vec::new();
        for id in 1..=NODES {
            let status = self.status(id)?;
            let listed = status.pointer("/edges/edges").and_then(Value::as_array);
            let listed = listed.with_context(|| format!("node {id} lists no edges: {status}"))?;
            edges.extend(listed.iter().cloned());
        }
        Ok(edges)
    }

    /// Keeps a node busy, nearly as busy as it can be, until the result is dropped.
    pub(crate) fn keep_busy(&self, id: u32) -> Result<Busy> {
        let mut callers = Busy(Vec::new());
        let ports: Vec<u16> = self.nodes.iter().map(|node| node.port).collect();
        for caller in CALLERS.take(CAPACITY as usize - 1) {
            let mut command = Command::new(&self.lb);
            command.args(["call", "sleep", "--data", "60000", "--timeout", "60s"]);
            command.args(["--filter", &format!("name=n{id}")]);
            self.join(&mut command, caller, ports.iter().copied());
            command.stdin(Stdio::null()).stdout(Stdio::null());
            let log = File::create(log(self.scratch.path(), caller))?;
            callers
                .0
                .push(command.stderr(log).spawn().context("cannot start lb call")?);
        }
        self.wait_until_busy(id, CAPACITY - 1)?;
        Ok(callers)
    }

    /// Waits until the node has that much to do, and the others know.
    fn wait_until_busy(&self, id: u32, wanted: u32) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let asked = if id == 1 { 2 } else { 1 };
        loop {
            let status = self.status(asked)?;
            let members = status.get("members").and_then(Value::as_array);
            let member = members
                .into_iter()
                .flatten()
                .find(|member| member["id"] == id)
                .cloned();
            let in_flight = member.and_then(|member| member["in_flight"].as_u64());
            if in_flight == Some(u64::from(wanted)) {
                return Ok(());
            }
            ensure!(
                Instant::now() < until,
                "node {id} does not get busy: {in_flight:?} in flight; {}",
                self.logs()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn join(&self, command: &mut Command, id: u32, seeds: impl IntoIterator<Item = u16>) {
        command.args(["--id", &id.to_string(), "--dir"]);
        command.arg(self.scratch.path());
        for seed in seeds {
            command.args(["--seed", &format!("127.0.0.1:{seed}")]);
        }
    }

    /// The last lines of all processes' logs.
    pub(crate) fn logs(&self) -> String {
        let mut text = String::new();
        for id in (1..=NODES).chain(CALLERS) {
            let log = std::fs::read_to_string(log(self.scratch.path(), id)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(5)) {
                text += &format!("\n  {id}: {line}");
            }
        }
        text
    }
}

fn log(folder: &Path, id: u32) -> PathBuf {
    folder.join(format!("{id}.log"))
}

/// Processes that keep a node busy.
#[derive(Debug)]
pub(crate) struct Busy(Vec<Child>);

impl Drop for Busy {
    fn drop(&mut self) {
        for caller in &mut self.0 {
            // It may have ended by itself.
            let _ = caller.kill();
            let _ = caller.wait();
        }
    }
}

/// UDP ports that nobody uses. All are taken before the first is given back, so they differ.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let sockets: Vec<UdpSocket> = (0..count)
        .map(|_| UdpSocket::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .context("cannot bind a port")?;
    let addresses = sockets.iter().map(UdpSocket::local_addr);
    Ok(addresses
        .map(|addr| addr.map(|addr| addr.port()))
        .collect::<Result<_, _>>()?)
}

/// Builds the program `lb`, as it is released.
pub(crate) fn build() -> Result<PathBuf> {
    eprintln!("lb, release");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--bin", "lb"]);
    crate::command::run(cargo.current_dir(place::root()))?;
    let lb = place::target().join("release/lb");
    ensure!(lb.is_file(), "{} is missing", lb.display());
    Ok(lb)
}
