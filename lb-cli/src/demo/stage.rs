//! The workers, the client, and the books kept while the demo runs.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lb_tokio::identity::{ClusterCa, ClusterName};
use lb_tokio::{
    Cluster, ClusterClient, ClusterClientConfig, ClusterStatus, MemberStatus, NodeId, Timers, WorkerRegistry,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::files::News;
use super::load::Tally;
use super::summary::{Meter, Reading, Report, rounded};
use super::view::{Row, Screen, Snapshot};
use super::worker::{ANY_PORT, Spec, Worker, log_end};
use crate::cli::DemoArgs;
use crate::crypto::{self, Sealer};
use crate::units::{plural, span};

/// The client's id: above every worker's.
const CLIENT: NodeId = NodeId::new(100);

/// Between two looks at the client's table; the resolution of what is measured by looking.
pub(super) const LOOK: Duration = Duration::from_millis(10);

/// Between two readings of a worker's counts.
const POLL: Duration = Duration::from_secs(1);

/// How long a request may take, attempts at other workers included.
pub(super) const REQUEST: Duration = Duration::from_secs(30);

/// Requests a worker serves at once, unless more are to be in flight.
const CAPACITY: u16 = 256;

/// The workers, the client, and the books kept while the demo runs.
pub(super) struct Stage<'a> {
    pub(super) screen: &'a mut Screen,
    pub(super) spec: Spec,
    pub(super) fleet: BTreeMap<NodeId, Worker>,
    pub(super) cluster: Cluster,
    pub(super) registry: WorkerRegistry,
    pub(super) client: ClusterClient,
    pub(super) tally: Arc<Tally>,
    pub(super) meter: Meter,
    pub(super) readings: mpsc::UnboundedReceiver<ClusterStatus>,
    pub(super) polls: JoinSet<()>,
    pub(super) news: Option<mpsc::UnboundedReceiver<News>>,
    pub(super) load_began: Instant,
    pub(super) input_bytes: u64,
    /// Chunks of the first pass, once they are counted.
    pub(super) first_chunks: Option<u64>,
    /// Passes read to the end.
    pub(super) passes: u64,
    /// Files that could not be read any more; the first of them that was never read whole.
    pub(super) skipped: usize,
    pub(super) missed: Option<String>,
    /// The worker that is down on purpose.
    pub(super) victim: Option<NodeId>,
    /// The words last seen in the client's table.
    pub(super) words: BTreeMap<u32, String>,
    /// What is going on, and since when if that is of interest.
    pub(super) doing: (String, Option<Instant>),
}

impl<'a> Stage<'a> {
    /// Starts the worker processes and the client.
    pub(super) async fn set(
        args: &DemoArgs,
        dir: &Path,
        timers: Timers,
        screen: &'a mut Screen,
    ) -> Result<(Self, Sealer)> {
        let name: ClusterName = "demo".parse()?;
        let ca = ClusterCa::generate(&name)?;
        let valid = Duration::from_secs(7 * 86_400);
        let ids: Vec<NodeId> = (1..=args.workers).map(NodeId::new).collect();
        for id in &ids {
            ca.issue(*id, valid)?.write_to(dir)?;
        }
        let key = crypto::random_key()?;
        let key_file = dir.join("demo.key");
        write_secret(&key_file, &crypto::to_hex(&key))?;
        let spec = Spec {
            program: std::env::current_exe().context("cannot find this program's own file")?,
            dir: dir.to_owned(),
            key_file,
            capacity: CAPACITY.max(args.concurrency),
            timers,
        };

        let mut fleet = BTreeMap::new();
        for id in &ids {
            let seeds: Vec<_> = fleet
                .values()
                .map(|worker: &Worker| worker.addr)
                .take(1)
                .collect();
            fleet.insert(*id, Worker::start(&spec, *id, ANY_PORT, &seeds).await?);
        }
        let ports: Vec<String> = fleet
            .values()
            .map(|worker| worker.addr.port().to_string())
            .collect();
        let places = match ports.len() {
            0..=4 => format!("127.0.0.1, ports {}", ports.join(", ")),
            _ => "127.0.0.1".to_owned(),
        };
        screen.event(&format!("started {} worker processes on {places}", args.workers));

        let cluster = Cluster::builder(ca.issue(CLIENT, valid)?)
            .seeds(fleet.values().map(|worker| worker.addr))
            .timers(timers)
            .observer()
            .start()
            .await?;
        let registry = WorkerRegistry::new(cluster.clone(), args.strategy);
        // A request may try every worker once.
        let config = ClusterClientConfig::default()
            .timeout(REQUEST)
            .retries(args.workers - 1);
        let (tell, readings) = mpsc::unbounded_channel();
        let mut polls = JoinSet::new();
        for id in ids {
            polls.spawn(poll(cluster.clone(), id, tell.clone()));
        }
        let stage = Self {
            screen,
            spec,
            fleet,
            client: ClusterClient::new(registry.clone(), config),
            registry,
            cluster,
            tally: Arc::new(Tally::new()),
            meter: Meter::default(),
            readings,
            polls,
            news: None,
            load_began: Instant::now(),
            input_bytes: 0,
            first_chunks: None,
            passes: 0,
            skipped: 0,
            missed: None,
            victim: None,
            words: BTreeMap::new(),
            doing: (
                "waiting for everybody to know everybody, and for a coordinator".to_owned(),
                None,
            ),
        };
        Ok((stage, Sealer::new(&key)))
    }

    /// Everybody's view, if all of them have all workers and the same coordinator.
    pub(super) async fn agreement(&self, wanted: usize) -> Option<Vec<ClusterStatus>> {
        let own = self.cluster.status();
        let complete = |view: &ClusterStatus| {
            let serving = view.members.iter().filter(|member| serves(member));
            serving.count() == wanted && view.coordinator.is_some() && view.coordinator == own.coordinator
        };
        if !complete(&own) {
            return None;
        }
        let mut views = Vec::new();
        for id in self.fleet.keys() {
            let view = self.cluster.status_of(*id).await.ok()?;
            if !complete(&view) {
                return None;
            }
            views.push(view);
        }
        views.push(self.cluster.status());
        Some(views)
    }

    pub(super) async fn until(
        &mut self,
        what: &str,
        within: Duration,
        done: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        self.until_since(what, within, Instant::now(), done).await
    }

    pub(super) async fn until_since(
        &mut self,
        what: &str,
        within: Duration,
        since: Instant,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<()> {
        while !done(self) {
            self.look()?;
            if since.elapsed() > within {
                bail!("{} passed before {what}:\n{}", span(within), self.logs());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Looks after everything that happens by itself.
    pub(super) fn look(&mut self) -> Result<()> {
        for (id, worker) in &mut self.fleet {
            if self.victim != Some(*id)
                && let Some(status) = worker.ended()
            {
                let said = log_end(&self.spec.log(*id), 3);
                bail!("worker {id} ended by itself ({status}):\n{said}");
            }
        }
        while let Ok(status) = self.readings.try_recv() {
            self.meter
                .update(status.node, status.epoch, Reading::from(&status));
        }
        while let Some(Ok(news)) = self.news.as_mut().map(mpsc::UnboundedReceiver::try_recv) {
            match news {
                News::PassRead { pass, chunks } => {
                    self.passes = pass + 1;
                    if pass == 0 {
                        self.first_chunks = Some(chunks);
                    }
                }
                News::Skipped { pass, what } => {
                    self.skipped += 1;
                    // After the first pass, all of it was verified once.
                    if pass == 0 {
                        self.missed.get_or_insert(what.clone());
                    }
                    self.screen.event(&format!("left out from now on: {what}"));
                }
                News::NothingLeft => bail!("nothing is left of the input: its files are gone"),
            }
        }
        self.tell_changes();
        self.tick();
        Ok(())
    }

    /// Tells what changed in the client's table, except what is told elsewhere.
    fn tell_changes(&mut self) {
        if self.words.is_empty() {
            return;
        }
        let now = words(&self.cluster.status());
        for (id, word) in &now {
            let before = self.words.get(id).map_or("", String::as_str);
            if before == word {
                continue;
            }
            let on_purpose = self.victim == Some(NodeId::new(*id));
            match word.as_str() {
                "FAILED" if on_purpose => {}
                "STALE" => self
                    .screen
                    .event(&format!("worker {id} is STALE: no more requests go there")),
                "COORDINATOR" => self.screen.event(&format!("worker {id} coordinates now")),
                "Worker" => {}
                word => self.screen.event(&format!("worker {id} is {word}")),
            }
        }
        self.words = now;
    }

    pub(super) fn tick(&mut self) {
        let Self {
            screen,
            cluster,
            registry,
            tally,
            ..
        } = self;
        let (input, passes, doing) = (self.input_bytes, self.passes, &self.doing);
        screen.show(|| snapshot(cluster, registry, tally, input, passes, doing));
    }

    pub(super) fn now_doing(&mut self, text: &str, since: Option<Instant>) {
        self.doing = (text.to_owned(), since);
    }

    pub(super) fn picks(&self, id: NodeId) -> u64 {
        self.registry.picks().get(&id).copied().unwrap_or(0)
    }

    /// The worker with most of our requests in flight.
    pub(super) fn busiest(&self) -> Option<(NodeId, u32)> {
        let status = self.cluster.status();
        let serving = status.members.iter().filter(|member| serves(member));
        serving
            .map(|member| (NodeId::new(member.id), member.own_in_flight))
            .max_by_key(|(_, in_flight)| *in_flight)
    }

    pub(super) async fn read_counts(&mut self, id: NodeId) {
        if let Ok(status) = self.cluster.status_of(id).await {
            self.meter
                .update(status.node, status.epoch, Reading::from(&status));
        }
    }

    /// Takes the last readings, and ends client and workers.
    pub(super) async fn conclude(&mut self, report: &mut Report) {
        self.polls.abort_all();
        while let Ok(status) = self.readings.try_recv() {
            self.meter
                .update(status.node, status.epoch, Reading::from(&status));
        }
        let ids: Vec<NodeId> = self
            .fleet
            .keys()
            .copied()
            .filter(|id| self.victim != Some(*id))
            .collect();
        for id in ids {
            self.read_counts(id).await;
        }
        let own = self.cluster.status();
        self.meter.update(own.node, own.epoch, Reading::from(&own));
        let counts = self.tally.counts();
        let latency = self.tally.latency();
        report.passes = self.passes;
        report.requests = counts.requests;
        report.ok = counts.ok;
        report.failed = counts.failed;
        report.verified_bytes = counts.verified_bytes;
        report.p50_us = latency.p50_us;
        report.p99_us = latency.p99_us;
        report.max_us = latency.max_us;
        report.picks = self.fleet.keys().map(|id| (id.get(), self.picks(*id))).collect();
        report.retries = report.picks.values().sum::<u64>().saturating_sub(counts.requests);
        report.balance_messages = self.meter.balance_messages();
        report.control_messages_per_node_per_s = rounded(self.meter.messages_per_node_per_s(), 3);
        for (reason, count) in self.tally.reasons() {
            let requests = plural(count, "request");
            report.problems.push(format!("{requests} failed: {reason}"));
        }
        if let Some(what) = &self.missed {
            report
                .problems
                .push(format!("a file of the input was not read whole: {what}"));
        }
        if self.first_chunks.is_none_or(|all| counts.first_chunks < all) {
            report
                .problems
                .push("not every byte of the input was verified".to_owned());
        }

        self.now_doing("", None);
        let last = snapshot(
            &self.cluster,
            &self.registry,
            &self.tally,
            self.input_bytes,
            self.passes,
            &self.doing,
        );
        self.screen.finish(&last);
        self.cluster.leave().await;
        let mut leaving = JoinSet::new();
        for (id, worker) in std::mem::take(&mut self.fleet) {
            if self.victim != Some(id) {
                leaving.spawn(worker.stop());
            }
        }
        while let Some(left) = leaving.join_next().await {
            if let Ok(Err(error)) = left {
                report.problems.push(format!("{error:#}"));
            }
        }
    }

    /// The last words of every worker.
    pub(super) fn logs(&self) -> String {
        let of = |id: &NodeId| format!("log of worker {id}:\n{}", log_end(&self.spec.log(*id), 3));
        self.fleet.keys().map(of).collect::<Vec<_>>().join("\n")
    }
}

/// Reads a worker's counts while it is alive. These are calls, not control messages.
async fn poll(cluster: Cluster, id: NodeId, tell: mpsc::UnboundedSender<ClusterStatus>) {
    loop {
        tokio::time::sleep(POLL).await;
        let alive = member(&cluster.status(), id).is_some_and(|member| serves(&member));
        if alive
            && let Ok(status) = cluster.status_of(id).await
            && tell.send(status).is_err()
        {
            return;
        }
    }
}

fn snapshot(
    cluster: &Cluster,
    registry: &WorkerRegistry,
    tally: &Tally,
    input: u64,
    passes: u64,
    (text, since): &(String, Option<Instant>),
) -> Snapshot {
    let counts = tally.counts();
    let picks = registry.picks();
    let workers = cluster
        .status()
        .members
        .into_iter()
        .filter(|member| member.role == "worker");
    Snapshot {
        workers: workers
            .map(|member| Row {
                id: member.id,
                epoch: member.epoch,
                in_flight: member.own_in_flight,
                picks: picks.get(&NodeId::new(member.id)).copied().unwrap_or(0),
                latency: (member.latency_us > 0 && serves(&member))
                    .then(|| Duration::from_micros(member.latency_us.into())),
                load_age: member.load_age_ms,
                status: member.status,
            })
            .collect(),
        requests: counts.requests,
        failed: counts.failed,
        verified: counts.verified_bytes,
        first: counts.first_bytes,
        input,
        pass: passes,
        doing: match since {
            Some(since) => format!("{text}: {}", span(since.elapsed())),
            None => text.clone(),
        },
    }
}

pub(super) fn member(status: &ClusterStatus, id: NodeId) -> Option<MemberStatus> {
    status
        .members
        .iter()
        .find(|member| member.id == id.get())
        .cloned()
}

/// Whether it is a worker in good health.
pub(super) fn serves(member: &MemberStatus) -> bool {
    matches!(member.status.as_str(), "Worker" | "COORDINATOR")
}

pub(super) fn words(status: &ClusterStatus) -> BTreeMap<u32, String> {
    status
        .members
        .iter()
        .filter(|member| member.role == "worker")
        .map(|member| (member.id, member.status.clone()))
        .collect()
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        writeln!(file, "{text}")
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
