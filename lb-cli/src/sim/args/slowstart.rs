//! The options of `lb sim slowstart`.

use clap::Args;
use lb_sim::StrategyKind;
use lb_sim::experiment::slowstart::{self, Easing};

use super::{OutputArgs, SeedArgs, age, count, load, number};

/// What a server that joins is sent while it is eased in, under several strategies, with and without slow start.
///
/// With slow start its share is at most max(0.1, (t / WINDOW) ^ (1 / AGGRESSION)) of what the others are sent, t after it
/// came; strategies that spread requests evenly follow that to 2 %. The last server joins; with few seeds and a short
/// window, chance does more than that.
#[derive(Debug, Args)]
pub(crate) struct SlowStartArgs {
    /// Who picks; affine strategies are given a key with every request
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "round-robin,random,two-choices,least-connections,adaptive,maglev"
    )]
    policies: Vec<StrategyKind>,
    /// How fast shares grow in the beginning: off (no slow start), 1 (in proportion), 2, 4
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "off,1,2,4")]
    aggression: Vec<Easing>,
    /// How long slow start takes, in mean service times
    #[arg(long, value_name = "TIME", default_value = "3000", value_parser = window)]
    window: f64,
    /// Load as a share of what all servers can do
    #[arg(long, value_name = "SHARE", default_value = "0.5", value_parser = load)]
    load: f64,
    /// Number of clients that pick
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count(10_000))]
    clients: u64,
    /// Time between the reports of a server, in mean service times; 0: always up to date
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = age)]
    age: f64,
    /// Number of servers with the one that joins
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=65_535))]
    servers: u64,
    #[command(flatten)]
    seeds: SeedArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl SlowStartArgs {
    pub(crate) fn grid(&self) -> slowstart::Grid {
        slowstart::Grid {
            kinds: self.policies.clone(),
            easings: self.aggression.clone(),
            servers: self.servers as usize,
            clients: self.clients as usize,
            load: self.load,
            window: self.window,
            age: self.age,
            seeds: self.seeds.seeds(),
        }
    }
}

/// Ten spans of at least one service time.
fn window(text: &str) -> Result<f64, String> {
    number(text, 10.0, 10_000_000.0)
}

#[cfg(test)]
mod tests {
    use super::super::SimCommand;
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_experiment() {
        let SimCommand::Slowstart(args) = parse("lb sim slowstart") else {
            panic!("not slowstart");
        };
        assert_eq!(
            format!("{:?}", args.grid()),
            format!("{:?}", slowstart::Grid::default())
        );
    }
}
