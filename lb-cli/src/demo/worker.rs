//! The demo's worker processes: started, killed, started again, and never left behind.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use lb_tokio::{NodeId, Timers};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::node::Ready;
use crate::units::exact;

/// How long a worker may take until it listens.
const START: Duration = Duration::from_secs(10);

/// How long a worker may take to leave before it is killed.
const LEAVE: Duration = Duration::from_secs(3);

/// What all workers have in common.
#[derive(Debug)]
pub(crate) struct Spec {
    pub(crate) program: PathBuf,
    /// Certificates, key, logs and epochs.
    pub(crate) dir: PathBuf,
    pub(crate) key_file: PathBuf,
    pub(crate) capacity: u16,
    pub(crate) timers: Timers,
}

/// A worker process. It is killed when this is dropped; and as it watches its standard input, which is ours,
/// it also ends when this process does, however that comes about.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: NodeId,
    pub(crate) addr: SocketAddr,
    pub(crate) epoch: u32,
    child: Child,
}

impl Worker {
    /// Starts a worker and waits until it listens.
    pub(crate) async fn start(
        spec: &Spec,
        id: NodeId,
        listen: SocketAddr,
        seeds: &[SocketAddr],
    ) -> Result<Self> {
        let mut child = spec
            .command(id, listen, seeds)
            .and_then(|mut command| Ok(command.spawn()?))
            .with_context(|| format!("cannot start worker {id} ({})", spec.program.display()))?;
        let stdout = child.stdout.take().context("a worker without standard output")?;
        let mut line = String::new();
        let mut lines = BufReader::new(stdout);
        let ready = tokio::time::timeout(START, lines.read_line(&mut line)).await;
        let ready: Option<Ready> = match ready {
            Ok(Ok(_)) => line.parse().ok().filter(|ready: &Ready| ready.node == id),
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(ready) = ready else {
            let _ = child.kill().await;
            let said = log_end(&spec.log(id), 3);
            bail!(
                "worker {id} did not start{}",
                if said.is_empty() {
                    said
                } else {
                    format!(":\n{said}")
                }
            );
        };
        Ok(Self {
            id,
            addr: ready.addr,
            epoch: ready.epoch,
            child,
        })
    }

    /// SIGKILL: no goodbye, no flushing. Returns when the process is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("cannot kill worker {}", self.id))
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to leave the cluster and waits until it has; kills it if that takes too long.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        match tokio::time::timeout(LEAVE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(anyhow!("worker {} ended with {status}", self.id)),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                self.kill().await?;
                Err(anyhow!(
                    "worker {} did not leave within {LEAVE:?} and was killed",
                    self.id
                ))
            }
        }
    }
}

impl Spec {
    pub(crate) fn log(&self, id: NodeId) -> PathBuf {
        self.dir.join(format!("node-{id}.log"))
    }

    fn command(&self, id: NodeId, listen: SocketAddr, seeds: &[SocketAddr]) -> Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(self.log(id))?;
        let time = |span: lb_tokio::core::Duration| exact(span.into());
        let mut command = Command::new(&self.program);
        command
            .arg("node")
            .args(["--id", &id.to_string()])
            .arg("--dir")
            .arg(&self.dir)
            .args(["--listen", &listen.to_string()])
            .args(["--capacity", &self.capacity.to_string()])
            .args(["--heartbeat", &time(self.timers.heartbeat())])
            .args(["--ttl", &time(self.timers.ttl())])
            .args(["--stale", &time(self.timers.stale())])
            .args(["--failed", &time(self.timers.failed())])
            .arg("--key-file")
            .arg(&self.key_file)
            .arg("--state-dir")
            .arg(&self.dir)
            .arg("--exit-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C in the terminal is for the demo, which stops its workers itself.
            .process_group(0)
            .kill_on_drop(true);
        for seed in seeds {
            command.args(["--seed", &seed.to_string()]);
        }
        Ok(command)
    }
}

/// Where a worker listens at first: any free port.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The last lines a worker logged.
pub(crate) fn log_end(path: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines.get(from..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::TempDir;

    #[tokio::test]
    async fn a_worker_that_does_not_start_is_quoted() {
        let temp = TempDir::new("lb-worker-test").unwrap();
        let spec = |program: &str| Spec {
            program: program.into(),
            dir: temp.path().to_owned(),
            key_file: temp.path().join("key"),
            capacity: 1,
            timers: Timers::default(),
        };
        let start = |spec: Spec| async move {
            let started = Worker::start(&spec, NodeId::new(1), ANY_PORT, &[]).await;
            format!("{:#}", started.map(|worker| worker.id).unwrap_err())
        };
        let error = start(spec("/nowhere/lb")).await;
        assert!(error.contains("cannot start worker 1 (/nowhere/lb)"), "{error}");
        std::fs::write(temp.path().join("node-1.log"), "a\nb\nc\nthe reason\n").unwrap();
        let error = start(spec("true")).await;
        assert_eq!(error, "worker 1 did not start:\nb\nc\nthe reason");
    }
}
