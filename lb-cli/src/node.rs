//! `lb node`: a worker with a few built-in methods.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail};
use lb_tokio::identity::NodeIdentity;
use lb_tokio::{Bytes, Cluster, Event, HandlerError, NodeId, Server, StartError};
use tokio::sync::{broadcast, oneshot};

use crate::cli::NodeArgs;
use crate::config::Settings;
use crate::crypto::{OVERHEAD, Sealer};
use crate::edges::Keys;
use crate::join;
use crate::signals::Stop;

/// Larger bodies are sealed on a thread of their own, so that they do not hold up heartbeats.
const INLINE_MAX: usize = 256 * 1024;

pub(crate) async fn run(args: NodeArgs) -> Result<ExitCode> {
    let settings = Settings::from_args(args)?;
    let identity = NodeIdentity::read_from(&settings.dir, settings.id)?;
    let sealer = settings.key_file.as_deref().map(Sealer::read_from).transpose()?;
    let mut keys = match &settings.edges {
        Some(edges) => Some(Keys::open(edges, identity.cluster())?),
        None => None,
    };
    let listening = match keys {
        Some(_) => Stop::listen_but_hangup(),
        None => Stop::listen(),
    };
    let mut stop = listening.context("cannot listen for signals")?;
    let parent_gone = settings.exit_with_stdin.then(stdin_closed).transpose()?;

    let mut builder = Cluster::builder(identity)
        .seeds(join::resolve(&settings.seeds)?)
        .timers(settings.timers)
        .server(server(sealer, settings.capacity));
    for (key, value) in &settings.tags {
        builder = builder.tag(key, value);
    }
    if let Some(addr) = settings.listen {
        builder = builder.listen(addr);
    }
    if let Some(addr) = settings.advertise {
        builder = builder.advertise(addr);
    }
    if let (Some(edges), Some(keys)) = (&settings.edges, &keys) {
        builder = builder.edges(keys.config(edges));
    }
    let state_dir = settings.state_dir.as_deref();
    match (settings.epoch, state_dir) {
        (Some(epoch), dir) => {
            dir.map_or(Ok(()), |dir| keep_epoch(dir, settings.id, epoch))?;
            builder = builder.epoch(epoch);
        }
        (None, Some(dir)) => builder = builder.epoch(next_epoch(dir, settings.id, now())?),
        (None, None) => {}
    }
    let cluster = builder.start().await.map_err(|error| match error {
        StartError::Advertise { bound } => anyhow!(
            "--listen {bound} is every interface, which others cannot dial: add --advertise IP:PORT, the \
             address they reach this node at"
        ),
        StartError::EdgeAdvertise { bound } => anyhow!(
            "--edge-listen {bound} is every interface, which edges cannot send to: add --edge-advertise \
             IP:PORT, the address they reach this node at"
        ),
        error => error.into(),
    })?;
    let mut events = cluster.events();

    let ready = Ready {
        node: cluster.id(),
        addr: cluster.local_addr(),
        epoch: cluster.epoch(),
        edges: cluster.edge_addr(),
    };
    // Nobody may be reading; that is no reason not to serve.
    let _ = writeln!(io::stdout(), "{ready}").and_then(|()| io::stdout().flush());
    tracing::info!(%ready);

    let parent_gone = async {
        match parent_gone {
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    };
    tokio::pin!(parent_gone);
    loop {
        tokio::select! {
            _ = stop.asked() => break,
            () = &mut parent_gone => break,
            () = keep_up(keys.as_mut()) => {}
            event = events.recv() => match event {
                Ok(event) => on_event(event, state_dir, settings.id)?,
                Err(broadcast::error::RecvError::Lagged(missed)) => tracing::warn!(missed, "events missed"),
                Err(broadcast::error::RecvError::Closed) => bail!("the node stopped by itself"),
            },
        }
    }
    tracing::info!("leaving; ask again to stop at once");
    tokio::select! {
        () = cluster.leave() => Ok(ExitCode::SUCCESS),
        code = stop.asked() => Ok(ExitCode::from(code)),
    }
}

/// Keeps the keys of edges, if there are any, as their file is.
async fn keep_up(keys: Option<&mut Keys>) {
    match keys {
        Some(keys) => keys.keep_up().await,
        None => std::future::pending().await,
    }
}

/// The library has logged it; this is what else there is to do.
fn on_event(event: Event, state_dir: Option<&Path>, id: NodeId) -> Result<()> {
    match (event, state_dir) {
        // A former life had this epoch, so the node took a higher one.
        (Event::EpochTaken { epoch }, Some(dir)) => keep_epoch(dir, id, epoch),
        (Event::Superseded { epoch }, _) => bail!(
            "another process runs as node {id}, with epoch {epoch}, which is newer: this one stops. \
             Give each node an id and a certificate of its own"
        ),
        _ => Ok(()),
    }
}

/// The methods.
fn server(sealer: Option<Sealer>, capacity: u16) -> Server {
    let opener = sealer.clone();
    Server::new()
        .concurrency(capacity)
        .handler("echo", |request| async move { Ok(request.body) })
        .handler("encrypt", move |request| {
            let sealer = sealer.clone();
            async move {
                let sealer = sealer.ok_or_else(no_key)?;
                let sealed = compute(request.body, move |body| sealer.seal(body)).await?;
                Ok(sealed.map_err(|error| HandlerError::new(error.to_string()))?.into())
            }
        })
        .handler("decrypt", move |request| {
            let opener = opener.clone();
            async move {
                let opener = opener.ok_or_else(no_key)?;
                let plain = compute(request.body, move |body| opener.open(body)).await?;
                let refusal = || {
                    HandlerError::new(format!(
                        "not sealed with this key: expected {OVERHEAD} bytes or more of nonce, ciphertext, tag"
                    ))
                };
                Ok(plain.ok_or_else(refusal)?.into())
            }
        })
        .handler("sleep", |request| async move {
            let millis = std::str::from_utf8(&request.body)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .ok_or_else(|| HandlerError::new("the request must be milliseconds as a decimal number"))?;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(Bytes::new())
        })
        .handler("fail", |_| async { Err(HandlerError::new("asked to fail, and did")) })
}

fn no_key() -> HandlerError {
    HandlerError::new("this node has no key: start it with --key-file")
}

async fn compute<T: Send + 'static>(
    body: Bytes,
    work: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, HandlerError> {
    if body.len() <= INLINE_MAX {
        return Ok(work(&body));
    }
    tokio::task::spawn_blocking(move || work(&body))
        .await
        .map_err(|_| HandlerError::new("the work was given up"))
}

/// Resolves when standard input is at its end. The thread that reads it holds nothing up.
fn stdin_closed() -> Result<oneshot::Receiver<()>> {
    let (tell, closed) = oneshot::channel();
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut buffer = [0; 256];
            let mut stdin = io::stdin().lock();
            loop {
                match stdin.read(&mut buffer) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => break,
                }
            }
            let _ = tell.send(());
        })
        .context("cannot start a thread")?;
    Ok(closed)
}

fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// An epoch above every former one, kept before it is used.
fn next_epoch(dir: &Path, id: NodeId, now: u32) -> Result<u32> {
    let path = dir.join(format!("node-{id}.epoch"));
    let former: u32 = match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| {
            anyhow!(
                "{} does not hold a number; delete it if the clock of this machine was never set back",
                path.display()
            )
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let Some(next) = former.checked_add(1) else {
        bail!("{} is at its end; give the node another id", path.display());
    };
    let epoch = next.max(now);
    keep_epoch(dir, id, epoch)?;
    Ok(epoch)
}

fn keep_epoch(dir: &Path, id: NodeId, epoch: u32) -> Result<()> {
    let path = dir.join(format!("node-{id}.epoch"));
    let draft = dir.join(format!("node-{id}.epoch.new"));
    let write = || {
        fs::create_dir_all(dir)?;
        let mut file = File::create(&draft)?;
        writeln!(file, "{epoch}")?;
        file.sync_all()?;
        fs::rename(&draft, &path)
    };
    write().with_context(|| format!("cannot keep the epoch in {}; check --state-dir", path.display()))
}

/// The line a node prints when it listens, for whoever started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    pub(crate) node: NodeId,
    pub(crate) addr: SocketAddr,
    pub(crate) epoch: u32,
    /// Where it listens for edges, if it does.
    pub(crate) edges: Option<SocketAddr>,
}

impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            addr,
            epoch,
            edges,
        } = self;
        write!(f, "listening node={node} addr={addr} epoch={epoch}")?;
        edges.map_or(Ok(()), |edges| write!(f, " edges={edges}"))
    }
}

impl FromStr for Ready {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let mut fields = line.trim_end().strip_prefix("listening ").ok_or(())?.split(' ');
        let mut field = |key: &str| fields.next()?.strip_prefix(key)?.strip_prefix('=');
        let (node, addr, epoch) = (field("node"), field("addr"), field("epoch"));
        let edges = field("edges");
        let parsed = || {
            Some(Self {
                node: NodeId::new(node?.parse().ok()?),
                addr: addr?.parse().ok()?,
                epoch: epoch?.parse().ok()?,
                edges: edges.map(str::parse).transpose().ok()?,
            })
        };
        parsed().ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::temp::TempDir;

    #[test]
    fn the_ready_line_is_read_back() {
        let ready = Ready {
            node: NodeId::new(3),
            addr: "127.0.0.1:7401".parse().unwrap(),
            epoch: 1_790_000_000,
            edges: None,
        };
        let line = ready.to_string();
        assert_eq!(line, "listening node=3 addr=127.0.0.1:7401 epoch=1790000000");
        assert_eq!(format!("{line}\n").parse(), Ok(ready));
        let edges = Some("127.0.0.1:7500".parse().unwrap());
        let ready = Ready { edges, ..ready };
        assert_eq!(ready.to_string(), format!("{line} edges=127.0.0.1:7500"));
        assert_eq!(ready.to_string().parse(), Ok(ready));
        for bad in [
            "",
            "listening",
            "listening node=3",
            "listening node=x addr=127.0.0.1:1 epoch=1",
            "listening node=1 addr=127.0.0.1:1 epoch=1 edges=x",
        ] {
            assert_eq!(bad.parse::<Ready>(), Err(()), "{bad}");
        }
    }

    #[test]
    fn epochs_rise_whatever_the_clock_says() {
        let temp = TempDir::new("lb-epoch-test").unwrap();
        let dir = temp.path().join("state");
        let id = NodeId::new(1);
        assert_eq!(next_epoch(&dir, id, 1_000).unwrap(), 1_000);
        assert_eq!(next_epoch(&dir, id, 1_000).unwrap(), 1_001);
        assert_eq!(next_epoch(&dir, id, 5).unwrap(), 1_002);
        assert_eq!(next_epoch(&dir, id, 2_000).unwrap(), 2_000);
        assert_eq!(next_epoch(&dir, NodeId::new(2), 7).unwrap(), 7);
        keep_epoch(&dir, id, 9_000).unwrap();
        assert_eq!(next_epoch(&dir, id, 2_000).unwrap(), 9_001);

        keep_epoch(&dir, id, u32::MAX).unwrap();
        assert!(
            next_epoch(&dir, id, 1)
                .unwrap_err()
                .to_string()
                .contains("another id")
        );
        fs::write(dir.join("node-1.epoch"), "soon").unwrap();
        assert!(
            next_epoch(&dir, id, 1)
                .unwrap_err()
                .to_string()
                .contains("node-1.epoch")
        );
        fs::write(temp.path().join("file"), "").unwrap();
        let error = next_epoch(&temp.path().join("file"), id, 1).unwrap_err();
        assert!(format!("{error:#}").contains("file"), "{error:#}");
    }
}
