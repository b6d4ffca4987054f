//! The options of `lb sim`.

mod slowstart;
mod stale;
mod zones;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lb_sim::experiment::{Fleet, Speeds, bins, mixed, ramp, sinkhole, supermarket};
use lb_sim::{Discipline, Policy, Seeds, Stated, Work};

pub(crate) use slowstart::SlowStartArgs;
pub(crate) use stale::StaleArgs;
pub(crate) use zones::ZonesArgs;

/// Try strategies on simulated servers: old load reports, unequal machines, overload, failures.
///
/// The strategies are those that run in production; servers, clients and requests are simulated, and time with them:
/// it is counted in mean service times, so that 1 is what a request takes at an idle server. The same options and
/// seed give the same figures on every machine. Runs use all cores.
#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    Stale(StaleArgs),
    Mixed(MixedArgs),
    Sinkhole(SinkholeArgs),
    Ramp(RampArgs),
    Slowstart(SlowStartArgs),
    Zones(ZonesArgs),
    Supermarket(SupermarketArgs),
    Bins(BinsArgs),
}

/// Latency by load when some servers are faster than others, with and without knowing by how much.
#[derive(Debug, Args)]
pub(crate) struct MixedArgs {
    /// Loads as shares of what all servers can do
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0.4,0.5,0.6,0.7,0.8,0.9", value_parser = load)]
    load: Vec<f64>,
    /// Times between the reports of a server, in mean service times; 0: always up to date
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10", value_parser = age)]
    ages: Vec<f64>,
    /// Numbers of clients that pick
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "10,100", value_parser = count(10_000))]
    clients: Vec<u64>,
    /// Speeds of the servers: equal, mixed (half 0.5, half 1.5), or your own such as 0.5:1:2
    #[arg(long, value_name = "SPEEDS", default_value = "mixed")]
    speeds: Speeds,
    /// How servers serve: fifo, ps (processor sharing)
    #[arg(long, value_name = "NAME", default_value = "fifo")]
    discipline: Discipline,
    /// How much work requests are: constant, exponential, bimodal, hyperexponential, heavy-tailed, normal
    #[arg(long, value_name = "NAME", default_value = "exponential")]
    work: Work,
    /// What servers state as their capacity: speed (in proportion to it), equal, nothing
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "speed,equal"
    )]
    capacity: Vec<Stated>,
    /// Number of servers
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count(65_535))]
    servers: u64,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Failed requests when some servers answer everything with an error, at once, and so look idle.
#[derive(Debug, Args)]
pub(crate) struct SinkholeArgs {
    /// How many servers fail
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = count(65_535))]
    broken: u64,
    /// Loads as shares of what all servers can do
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0.3,0.5,0.7,0.8", value_parser = load)]
    load: Vec<f64>,
    /// Number of clients that pick
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count(10_000))]
    clients: u64,
    /// Time between the reports of a server, in mean service times; 0: always up to date
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = age)]
    age: f64,
    /// Number of servers
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = count(65_535))]
    servers: u64,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Latency and errors when load rises above what is owned of machines that are shared with others.
///
/// After Figure 6 of the paper on Prequal (NSDI 2024): a load of 1 is all that is owned; machines whose neighbours are
/// idle do three times as much, half of them at any time.
#[derive(Debug, Args)]
pub(crate) struct RampArgs {
    /// Loads as shares of what is owned
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = load,
          default_value = "0.75,0.83,0.93,1.03,1.14,1.27,1.41,1.57,1.74")]
    load: Vec<f64>,
    /// Number of clients that pick
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count(10_000))]
    clients: u64,
    /// Time between the reports of a server, in mean service times; 0: always up to date
    #[arg(long, value_name = "TIME", default_value = "3", value_parser = age)]
    age: f64,
    /// A response that takes longer is an error, in mean service times
    #[arg(long, value_name = "TIME", default_value = "50", value_parser = age)]
    deadline: f64,
    /// Number of servers
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count(65_535))]
    servers: u64,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The shortest of d queues against the theory of it: how far the simulator can be trusted.
#[derive(Debug, Args)]
pub(crate) struct SupermarketArgs {
    /// Loads as shares of what all servers can do
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0.5,0.7,0.8,0.9,0.95", value_parser = load)]
    load: Vec<f64>,
    /// Number of servers
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count(65_535))]
    servers: u64,
    #[command(flatten)]
    runs: RunArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The fullest of n bins after n balls, each put into the emptiest of 1, 2 and 3 at random.
#[derive(Debug, Args)]
pub(crate) struct BinsArgs {
    /// Numbers of bins
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "256,4096,65535", value_parser = count(65_535))]
    sizes: Vec<u64>,
    /// Runs of each kind, each with a seed of its own
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = count(1_000))]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Who picks among how many.
#[derive(Debug, Args)]
struct FleetArgs {
    /// Who picks; if not given, everybody but the affine ones, which need keys
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = policy)]
    policies: Vec<Policy>,
    #[command(flatten)]
    runs: RunArgs,
}

/// How much is run.
#[derive(Debug, Args)]
struct RunArgs {
    /// Requests in each run; the first quarter is not counted
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = count(1_000_000_000))]
    requests: u64,
    #[command(flatten)]
    seeds: SeedArgs,
}

/// With which seeds.
#[derive(Debug, Args)]
struct SeedArgs {
    /// Runs of each kind, each with a seed of its own
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = count(1_000))]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// How findings are shown.
#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw a chart into this file as well
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

impl MixedArgs {
    pub(crate) fn grid(&self) -> mixed::Mixed {
        mixed::Mixed {
            fleet: self.fleet.fleet(self.servers),
            loads: self.load.clone(),
            ages: self.ages.clone(),
            clients: sizes(&self.clients),
            speeds: self.speeds.clone(),
            stated: self.capacity.clone(),
            discipline: self.discipline,
            work: self.work,
        }
    }
}

impl SinkholeArgs {
    pub(crate) fn grid(&self) -> sinkhole::Sinkhole {
        sinkhole::Sinkhole {
            fleet: self.fleet.fleet(self.servers),
            broken: self.broken as usize,
            loads: self.load.clone(),
            clients: self.clients as usize,
            age: self.age,
        }
    }
}

impl RampArgs {
    pub(crate) fn grid(&self) -> ramp::Ramp {
        ramp::Ramp {
            fleet: self.fleet.fleet(self.servers),
            loads: self.load.clone(),
            clients: self.clients as usize,
            age: self.age,
            deadline: self.deadline,
        }
    }
}

impl SupermarketArgs {
    pub(crate) fn grid(&self) -> supermarket::Supermarket {
        supermarket::Supermarket {
            fleet: self.runs.fleet(Vec::new(), self.servers),
            loads: self.load.clone(),
        }
    }
}

impl BinsArgs {
    pub(crate) fn grid(&self) -> bins::Bins {
        bins::Bins {
            sizes: sizes(&self.sizes),
            seeds: seeds(self.seed, self.seeds),
        }
    }
}

impl FleetArgs {
    fn fleet(&self, servers: u64) -> Fleet {
        let policies = if self.policies.is_empty() {
            Policy::usual()
        } else {
            self.policies.clone()
        };
        self.runs.fleet(policies, servers)
    }
}

impl RunArgs {
    fn fleet(&self, policies: Vec<Policy>, servers: u64) -> Fleet {
        Fleet {
            policies,
            servers: servers as usize,
            requests: self.requests,
            seeds: self.seeds.seeds(),
        }
    }
}

impl SeedArgs {
    const fn seeds(&self) -> Seeds {
        seeds(self.seed, self.seeds)
    }
}

const fn seeds(first: u64, count: u64) -> Seeds {
    Seeds {
        first,
        count: count as u32,
    }
}

fn sizes(counts: &[u64]) -> Vec<usize> {
    counts.iter().map(|&count| count as usize).collect()
}

fn policy(name: &str) -> Result<Policy, String> {
    let found = Policy::find(&[name]).map_err(|error| error.to_string())?;
    found.into_iter().next().ok_or_else(|| name.to_owned())
}

fn age(text: &str) -> Result<f64, String> {
    number(text, 0.0, 10_000.0)
}

fn load(text: &str) -> Result<f64, String> {
    number(text, 0.01, 10.0)
}

fn number(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("write a number from {least} to {most}"))
}

fn count(most: u64) -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=most)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    pub(super) fn parse(line: &str) -> SimCommand {
        match Cli::parse_from(line.split(' ')).command {
            Command::Sim(command) => command,
            other => panic!("not an experiment: {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_experiments() {
        let SimCommand::Sinkhole(args) = parse("lb sim sinkhole") else {
            panic!("not sinkhole");
        };
        let default = sinkhole::Sinkhole::default();
        assert_eq!(format!("{:?}", args.grid()), format!("{default:?}"));
        let SimCommand::Mixed(args) = parse("lb sim mixed") else {
            panic!("not mixed");
        };
        assert_eq!(
            format!("{:?}", args.grid()),
            format!("{:?}", mixed::Mixed::default())
        );
        let SimCommand::Ramp(args) = parse("lb sim ramp") else {
            panic!("not ramp");
        };
        assert_eq!(
            format!("{:?}", args.grid()),
            format!("{:?}", ramp::Ramp::default())
        );
        let SimCommand::Bins(args) = parse("lb sim bins") else {
            panic!("not bins");
        };
        assert_eq!(
            format!("{:?}", args.grid()),
            format!("{:?}", bins::Bins::default())
        );
    }

    #[test]
    fn refusals_list_what_there_is() {
        for (line, part) in [
            ("lb sim", "stale"),
            ("lb sim stale --policies best", "least-connections"),
            ("lb sim stale --work hard", "heavy-tailed"),
            ("lb sim stale --discipline lifo", "fifo, ps"),
            ("lb sim stale --speeds fast", "equal, mixed"),
            ("lb sim stale --capacity much", "speed, equal, nothing"),
            ("lb sim stale --ages=-1", "from 0 to 10000"),
            ("lb sim stale --ages old", "from 0 to 10000"),
            ("lb sim stale --load 0", "from 0.01 to 10"),
            ("lb sim stale --clients 0", "1..=10000"),
            ("lb sim stale --loss 1", "below 1"),
            ("lb sim stale --loss=-0.1", "from 0"),
            ("lb sim stale --loss much", "from 0"),
            ("lb sim stale --delay=-1", "from 0 to 10000"),
            ("lb sim stale --delay long", "from 0 to 10000"),
            ("lb sim slowstart --aggression 3", "off, 1, 2, 4"),
            ("lb sim slowstart --policies best", "two-choices"),
            ("lb sim slowstart --servers 1", "2..=65535"),
            ("lb sim slowstart --window 1", "from 10 to"),
            ("lb sim zones --scenarios flat", "envoy-38758"),
            ("lb sim zones --policies near", "zone-aware"),
            ("lb sim zones --crossing=-1", "from 0 to 10000"),
            ("lb sim bins --sizes 70000", "1..=65535"),
        ] {
            let text = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(text.contains(part), "{line}: {text}");
        }
    }
}
