//! The options of `lb sim zones`.

use clap::Args;
use lb_sim::StrategyKind;
use lb_sim::experiment::zones::{self, Layout, Routing};

use super::{OutputArgs, SeedArgs, age, count, load};

/// What stays in its zone, and what comes of it, when zones are not alike: by numbers, by load, and without a difference.
///
/// Zone-aware clients know how many clients and servers each zone has and keep what their zone can take (Envoy's zone
/// aware routing); load-aware ones go by how busy its servers are (Envoy's load_aware_locality), looked at once in 100
/// mean service times.
#[derive(Debug, Args)]
pub(crate) struct ZonesArgs {
    /// Worlds: envoy-38758, uneven, half-failed, overloaded, neighbours, or your own clients:servers of each zone, such as
    /// 10:5/10:20/0:5 [default: all that have names]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    scenarios: Vec<Layout>,
    /// How zones are chosen: unaware (they are not), zone-aware, load-aware
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "unaware,zone-aware,load-aware"
    )]
    policies: Vec<Routing>,
    /// Who picks within a zone, and among all servers without a difference
    #[arg(long, value_name = "NAME", default_value = "two-choices")]
    strategy: StrategyKind,
    /// What a request that leaves its zone takes longer, in mean service times
    #[arg(long, value_name = "TIME", default_value = "0.5", value_parser = age)]
    crossing: f64,
    /// Load as a share of what all servers can do [default: that of the scenario; your own: 0.7]
    #[arg(long, value_name = "SHARE", value_parser = load)]
    load: Option<f64>,
    /// Time between the reports of a server, in mean service times; 0: always up to date
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = age)]
    age: f64,
    /// Requests in each run; the first quarter is not counted
    #[arg(long, value_name = "N", default_value_t = 300_000, value_parser = count(1_000_000_000))]
    requests: u64,
    #[command(flatten)]
    seeds: SeedArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl ZonesArgs {
    pub(crate) fn grid(&self) -> zones::Grid {
        zones::Grid {
            routings: self.policies.clone(),
            kind: self.strategy,
            layouts: if self.scenarios.is_empty() {
                Layout::all()
            } else {
                self.scenarios.clone()
            },
            crossing: self.crossing,
            load: self.load,
            age: self.age,
            requests: self.requests,
            seeds: self.seeds.seeds(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SimCommand;
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_experiment() {
        let SimCommand::Zones(args) = parse("lb sim zones") else {
            panic!("not zones");
        };
        assert_eq!(
            format!("{:?}", args.grid()),
            format!("{:?}", zones::Grid::default())
        );
    }

    #[test]
    fn scenarios_are_names_or_numbers() {
        let SimCommand::Zones(args) = parse("lb sim zones --scenarios uneven,2:3/0:1 --load 0.3") else {
            panic!("not zones");
        };
        let grid = args.grid();
        let names: Vec<&str> = grid.layouts.iter().map(|layout| layout.name.as_str()).collect();
        assert_eq!((names, grid.load), (vec!["uneven", "2:3/0:1"], Some(0.3)));
    }
}
