//! The command line: what can be asked for, and the help that says so.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use lb_tokio::{LoadBalancingStrategy, NodeId};

use crate::cert::Ids;
use crate::sim::SimCommand;
use crate::units::{parse_duration, parse_size};

/// Largest `--chunk`: what fits into a request and, sealed, into its response with room to spare.
pub(crate) const CHUNK_MAX: usize = 2 << 20;

/// Load balancing without a message per request: run a cluster, call it, watch it.
#[derive(Debug, Parser)]
#[command(name = "lb", version, propagate_version = true, max_term_width = 100, after_help = FIRST_STEPS)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const FIRST_STEPS: &str = "\
Start here:
  lb demo                                               see all of it work, in half a minute
  lb cert --cluster lab --dir certs --nodes 1-3,9       certificates for three workers and you
  lb node --id 1 --dir certs --listen 127.0.0.1:7401    a worker; the others get --seed as below
  lb call echo --data hi --id 9 --dir certs --seed 127.0.0.1:7401
  lb status --id 9 --dir certs --seed 127.0.0.1:7401
  lb sim stale --ages 1,10 --clients 10 --seeds 2       strategies compared on simulated servers

Set RUST_LOG=debug for logs on standard error.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(DemoArgs),
    Node(Box<NodeArgs>),
    Call(CallArgs),
    Status(StatusArgs),
    Cert(CertArgs),
    #[command(subcommand)]
    Device(DeviceCommand),
    #[command(subcommand)]
    Sim(SimCommand),
}

/// Manage the keys of devices: microcontrollers that a node listens to with --edge-listen.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    New(DeviceNewArgs),
}

/// Make a key for a device, add it to a key file, and print it.
///
/// The file is made if missing, readable by you alone. A node takes it over within seconds, or at once on SIGHUP.
#[derive(Debug, Args)]
pub(crate) struct DeviceNewArgs {
    /// The key file, as for `lb node --edge-keys`
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: PathBuf,
    /// The device's id, unique in the file
    #[arg(long, value_name = "N")]
    pub(crate) id: u32,
    /// What people call it
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// Encrypt files on a small cluster, kill a worker meanwhile, verify every byte.
///
/// Starts worker processes on this machine with certificates of their own and sends them every file below
/// PATH, in chunks, to be encrypted with ChaCha20-Poly1305 by whichever worker is picked. What comes back is
/// decrypted and compared, byte for byte. Meanwhile one worker is killed (SIGKILL) with requests in flight;
/// the demo waits until the client calls it FAILED, starts it again, and waits until it serves again. The
/// input is sent over and over until that is done.
///
/// Exits with 0 only if every byte was verified, no request failed, the kill was detected and the worker came
/// back; otherwise with 1, saying why.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Files and directories to encrypt
    ///
    /// In directories, what git would see: files that .gitignore excludes, hidden files and symbolic links
    /// are left out.
    #[arg(value_name = "PATH", default_value = ".")]
    pub(crate) paths: Vec<PathBuf>,
    /// Worker processes, 2 to 16
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=16))]
    pub(crate) workers: u32,
    /// How workers are picked
    #[arg(long, value_name = "NAME", default_value_t, value_parser = strategy())]
    pub(crate) strategy: LoadBalancingStrategy,
    /// Requests kept in flight, 1 to 1024
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) concurrency: u16,
    /// Bytes per request, at most 2MiB
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = chunk)]
    pub(crate) chunk: usize,
    /// Keep the load up for at least so many seconds
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub(crate) seconds: u64,
    /// Heartbeat every 200 ms instead of every 5 s, and the other time-outs in proportion
    #[arg(long)]
    pub(crate) quick_timers: bool,
    /// Print one JSON object as the last line of standard output; everything else goes to standard error
    #[arg(long)]
    pub(crate) json: bool,
}

/// Run a worker until SIGTERM or Ctrl-C, then leave the cluster gracefully.
///
/// Prints one line when it is ready: `listening node=ID addr=IP:PORT epoch=E`, with ` edges=IP:PORT` at its end if it
/// listens for edges. Logs go to standard error.
///
/// Methods: `echo` answers with the request; `encrypt` with a random 12-byte nonce and the ChaCha20-Poly1305
/// ciphertext and tag of the request, under --key-file; `decrypt` undoes that; `sleep` waits for so many
/// milliseconds as the request says, in decimal; `fail` answers with an error.
#[derive(Debug, Default, Args)]
#[command(after_help = NODE_FILE)]
pub(crate) struct NodeArgs {
    /// Settings in TOML; flags override them
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// This node's id: the number in its certificate
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<u32>,
    /// Directory with ca.pem, node-ID.pem and node-ID.key (see `lb cert`)
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Address to listen on; port 0 lets the system choose [default: 127.0.0.1:0]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address that other nodes dial, if it is another than the one listened on
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) advertise: Option<SocketAddr>,
    /// A node to join the cluster through; may be given several times
    #[arg(long = "seed", value_name = "HOST:PORT")]
    pub(crate) seeds: Vec<String>,
    /// A tag for filters; may be given several times. role=worker is added unless there is another role
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    pub(crate) tags: Vec<(String, String)>,
    /// Requests served at once; more are shed [default: 256]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) capacity: Option<u16>,
    /// UDP address to listen on for edges; needs --edge-keys
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) edge_listen: Option<SocketAddr>,
    /// File with the keys of edges (see `lb device`); read again when it changes, and on SIGHUP
    #[arg(long, value_name = "FILE")]
    pub(crate) edge_keys: Option<PathBuf>,
    /// Address that edges are told to use, if it is another than the one listened on
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) edge_advertise: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) timers: TimerArgs,
    /// File with the key of `encrypt` and `decrypt`: 32 bytes as 64 hexadecimal digits
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Number of this life of the node, higher than any before [default: seconds since 1970]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) epoch: Option<u32>,
    /// Directory where the epoch is kept, so that it rises even when the clock goes back
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Leave when standard input closes, that is, when the parent process is gone
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

const NODE_FILE: &str = "\
A file for --config, with every setting (paths are relative to the file):
  id = 1
  dir = \"certs\"
  listen = \"0.0.0.0:7401\"
  advertise = \"10.0.0.1:7401\"
  seeds = [\"10.0.0.2:7401\", \"10.0.0.3:7401\"]
  capacity = 256
  edge_listen = \"0.0.0.0:7500\"
  edge_keys = \"devices.toml\"
  edge_advertise = \"10.0.0.1:7500\"
  key_file = \"demo.key\"
  epoch = 7
  state_dir = \"/var/lib/lb\"
  [tags]
  zone = \"eu-1\"
  [timers]
  heartbeat = \"5s\"
  ttl = \"10s\"
  stale = \"15s\"
  failed = \"20s\"";

/// The time-outs. Those not given follow the heartbeat, in the proportions of the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct TimerArgs {
    /// Time between heartbeats; the time-outs not given follow it, 1 : 2 : 3 : 4 [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) heartbeat: Option<Duration>,
    /// How long a load report is used for picking [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) ttl: Option<Duration>,
    /// Silence after which a node is STALE [default: 15s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) stale: Option<Duration>,
    /// Silence after which a node is FAILED [default: 20s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) failed: Option<Duration>,
}

/// Who joins, and through whom.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// Directory with ca.pem, node-ID.pem and node-ID.key (see `lb cert`)
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Your own id in the cluster, used by no other node
    #[arg(long, value_name = "ID")]
    pub(crate) id: u32,
    /// A node of the cluster; may be given several times
    #[arg(long = "seed", value_name = "HOST:PORT", required = true)]
    pub(crate) seeds: Vec<String>,
    /// Give up after this time
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
}

impl JoinArgs {
    pub(crate) fn node_id(&self) -> NodeId {
        NodeId::new(self.id)
    }
}

/// Call a method of whichever worker is least busy, and print the response as it is.
///
/// The request is --data, --file, or standard input. Exits with 1 and a message if there is no response.
#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The method, such as echo
    pub(crate) method: String,
    /// The request as text
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    pub(crate) data: Option<String>,
    /// A file with the request
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Only workers with these tags: key=value, key!=value, key, !key, separated by commas
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// How workers are picked
    #[arg(long, value_name = "NAME", default_value_t, value_parser = strategy())]
    pub(crate) strategy: LoadBalancingStrategy,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
}

/// Show the cluster as one of its nodes sees it: the seed that answers first.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Show it again every second until Ctrl-C
    #[arg(long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) join: JoinArgs,
}

/// Make the cluster's certificate authority and the certificates of nodes.
///
/// The authority is made at the first call, and used after that. A node needs ca.pem, node-ID.pem and
/// node-ID.key; keep ca.key to yourself. Existing files are never overwritten.
#[derive(Debug, Args)]
pub(crate) struct CertArgs {
    /// The cluster's name: 1 to 40 of a-z, 0-9 and '-'
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: String,
    /// Directory for the files; made if missing
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Nodes to make certificates for, such as 1,2,3 or 1-5 or 1-3,9
    #[arg(long, value_name = "IDS")]
    pub(crate) nodes: Option<Ids>,
    /// How long the nodes' certificates are valid, 1 to 3650
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
    pub(crate) days: u64,
}

fn strategy() -> impl TypedValueParser<Value = LoadBalancingStrategy> {
    let names = LoadBalancingStrategy::ALL.map(|strategy| strategy.as_str());
    PossibleValuesParser::new(names).try_map(|name| name.parse::<LoadBalancingStrategy>())
}

fn chunk(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        size @ 1..=CHUNK_MAX => Ok(size),
        _ => Err("a chunk has 1 byte to 2MiB".to_owned()),
    }
}

fn tag(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("'{text}' is not a tag; write it like zone=eu-1"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    fn refusal(line: &str) -> String {
        Cli::try_parse_from(line.split(' ')).unwrap_err().to_string()
    }

    #[test]
    fn defaults_of_the_demo() {
        let Command::Demo(demo) = Cli::parse_from(["lb", "demo"]).command else {
            panic!("not the demo");
        };
        assert_eq!(demo.paths, [PathBuf::from(".")]);
        assert_eq!((demo.workers, demo.concurrency, demo.chunk), (3, 32, 65_536));
        assert_eq!(demo.strategy, LoadBalancingStrategy::default());
    }

    #[test]
    fn refusals_say_what_is_right() {
        for (line, part) in [
            (
                "lb demo --strategy best",
                "adaptive, round-robin, random, smooth-weighted",
            ),
            ("lb demo --workers 1", "2..=16"),
            ("lb demo --workers 17", "2..=16"),
            ("lb demo --concurrency 0", "1..=1024"),
            ("lb demo --chunk 0", "1 byte to 2MiB"),
            ("lb demo --chunk 3MiB", "1 byte to 2MiB"),
            ("lb demo --chunk much", "64KiB"),
            ("lb node --heartbeat 5", "write 5s for seconds"),
            ("lb node --tag zone", "zone=eu-1"),
            ("lb node --epoch 0", "1.."),
            ("lb node --listen localhost", "--listen"),
            ("lb node --edge-listen 7500", "--edge-listen"),
            ("lb device new --id 1", "--keys"),
            ("lb device new --keys f --id -1", "--id"),
            ("lb cert --cluster a --dir d --nodes 3-1", "3-1"),
            ("lb cert --cluster a --dir d --days 0", "1..=3650"),
            ("lb call echo --dir d --id 1", "--seed"),
            (
                "lb call echo --data a --file b --dir d --id 1 --seed s",
                "cannot be used with",
            ),
        ] {
            let text = refusal(line);
            assert!(text.contains(part), "{line}: {text}");
        }
    }
}
