//! `lb call`: one call to whichever worker is least busy.

use std::io::{self, IsTerminal, Read, Write};

use anyhow::{Context, Result, anyhow, bail};
use lb_tokio::{
    Bytes, CallError, Cluster, ClusterClient, ClusterClientConfig, ClusterStatus, JoinError, MemberStatus,
    WorkerRegistry,
};
use tokio::time::Instant;

use crate::cli::CallArgs;
use crate::join;
use crate::units::exact;

pub(crate) async fn run(args: CallArgs) -> Result<()> {
    let request = request(&args)?;
    let cluster = join::observe(&args.join).await?;
    let response = call(&args, request, &cluster).await;
    cluster.leave().await;
    let response = response?;
    let mut out = io::stdout().lock();
    out.write_all(&response).and_then(|()| out.flush())?;
    if out.is_terminal() && !response.is_empty() && response.last() != Some(&b'\n') {
        writeln!(out)?;
    }
    Ok(())
}

async fn call(args: &CallArgs, request: Bytes, cluster: &Cluster) -> Result<Bytes> {
    let timeout = args.join.timeout;
    let deadline = Instant::now() + timeout;
    let filter = args.filter.as_deref();
    if let Err(error) = cluster.wait_for_workers(1, filter, timeout).await {
        return Err(match (error, tags_of_workers(&cluster.status())) {
            (JoinError::TooFew { .. }, Some(tags)) => anyhow!(
                "no worker matches --filter {}; the tags of the workers are: {tags}",
                filter.unwrap_or_default()
            ),
            (error, _) => error.into(),
        });
    }
    let registry = WorkerRegistry::new(cluster.clone(), args.strategy);
    let left = deadline.saturating_duration_since(Instant::now());
    let client = ClusterClient::new(registry, ClusterClientConfig::default().timeout(left));
    match client.call_worker(&args.method, request, filter).await {
        Err(CallError::Deadline { .. }) => {
            // The time to join was part of it.
            let timeout = exact(timeout);
            bail!("no answer within {timeout}: raise --timeout, or find out what is slow with `lb status`")
        }
        other => Ok(other?),
    }
}

/// The tags of each worker that is alive, if there is one.
fn tags_of_workers(status: &ClusterStatus) -> Option<String> {
    let alive = |member: &&MemberStatus| member.role == "worker" && member.liveness == "alive";
    let workers = status.members.iter().filter(alive);
    let tags: Vec<String> = workers
        .map(|member| format!("{} ({})", member.id, member.tags))
        .collect();
    (!tags.is_empty()).then(|| tags.join(", "))
}

fn request(args: &CallArgs) -> Result<Bytes> {
    if let Some(text) = &args.data {
        return Ok(text.clone().into());
    }
    if let Some(path) = &args.file {
        let body = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(body.into());
    }
    if io::stdin().is_terminal() {
        eprintln!("reading the request from the terminal; end it with Ctrl-D, or use --data");
    }
    let mut body = Vec::new();
    io::stdin()
        .read_to_end(&mut body)
        .context("cannot read the request from standard input")?;
    Ok(body.into())
}
