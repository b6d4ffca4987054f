//! The options of `lb sim`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lb_sim::experiment::{Speeds, stale};
use lb_sim::{Discipline, Policy, Seeds, Stated, Work};

/// Try strategies on simulated servers: old load reports, unequal machines, overload, failures.
///
/// The strategies are those that run in production; servers, clients and requests are simulated, and time with them:
/// it is counted in mean service times, so that 1 is what a request takes at an idle server. The same options and
/// seed give the same figures on every machine. Runs use all cores.
#[derive(Debug, Subcommand)]
pub(crate) enum SimCommand {
    Stale(StaleArgs),
}

/// Latency of every policy when load reports grow old.
///
/// A server sends its load once in AGE mean service times; clients pick with what they know. Without options, the
/// whole grid is run: 168 combinations for each policy, which takes about half an hour.
#[derive(Debug, Args)]
pub(crate) struct StaleArgs {
    /// Times between the reports of a server, in mean service times; 0: always up to date
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "0.1,0.3,1,3,10,30,100", value_parser = age)]
    ages: Vec<f64>,
    /// Numbers of clients that pick
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,10,100", value_parser = count(10_000))]
    clients: Vec<u64>,
    /// Speeds of the servers: equal, mixed (half 0.5, half 1.5), or your own such as 0.5:1:2
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "equal,mixed"
    )]
    speeds: Vec<Speeds>,
    /// How servers serve: fifo, ps (processor sharing)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "fifo,ps")]
    discipline: Vec<Discipline>,
    /// How much work requests are: constant, exponential, bimodal, hyperexponential, heavy-tailed, normal
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "exponential,heavy-tailed"
    )]
    work: Vec<Work>,
    /// Load as a share of what all servers can do [default: 0.9, and 0.7 if speeds differ]
    #[arg(long, value_name = "SHARE", value_parser = load)]
    load: Option<f64>,
    /// What servers state as their capacity: speed (in proportion to it), equal, nothing
    #[arg(long, value_name = "NAME", default_value = "speed")]
    capacity: Stated,
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What every experiment with policies has.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Who picks; all there are if not given
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = policy)]
    policies: Vec<Policy>,
    /// Number of servers
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count(65_535))]
    servers: u64,
    /// Requests in each run; the first quarter is not counted
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = count(1_000_000_000))]
    requests: u64,
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

impl StaleArgs {
    pub(crate) fn grid(&self) -> stale::Grid {
        stale::Grid {
            policies: self.common.policies(),
            ages: self.ages.clone(),
            clients: self.clients.iter().map(|&clients| clients as usize).collect(),
            speeds: self.speeds.clone(),
            disciplines: self.discipline.clone(),
            works: self.work.clone(),
            servers: self.common.servers as usize,
            load: self.load,
            stated: self.capacity,
            requests: self.common.requests,
            seeds: self.common.seeds(),
            ..stale::Grid::default()
        }
    }
}

impl CommonArgs {
    fn policies(&self) -> Vec<Policy> {
        if self.policies.is_empty() {
            Policy::all()
        } else {
            self.policies.clone()
        }
    }

    fn seeds(&self) -> Seeds {
        Seeds {
            first: self.seed,
            count: self.seeds as u32,
        }
    }
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
