//! The options of `lb sim stale`.

use clap::Args;
use lb_sim::experiment::{Speeds, stale};
use lb_sim::{Discipline, Policy, Reports, Stated, Work};

use super::{FleetArgs, OutputArgs, age, count, load, policy, sizes};

/// Latency of every policy when load reports grow old.
///
/// A server sends its load once in AGE mean service times; clients pick with what they know. Without options, the
/// whole grid is run: 168 combinations for each policy. That takes about half an hour on two cores, and a tenth of it
/// with --seeds 1.
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
    /// Share of the reports that are lost on their way to a client, from 0 to below 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = loss)]
    loss: f64,
    /// How long a report is on its way, in mean service times
    #[arg(long, value_name = "TIME", default_value_t = 0.0, value_parser = age)]
    delay: f64,
    /// Responses carry a report as well, to the client that asked
    #[arg(long)]
    on_responses: bool,
    /// All servers report at the same moment, and not each at one of its own
    #[arg(long)]
    synchronised: bool,
    /// Judge this policy beside the best of the others, one line for each combination
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    against: Option<Policy>,
    /// Number of servers
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count(65_535))]
    servers: u64,
    #[command(flatten)]
    fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl StaleArgs {
    pub(crate) fn grid(&self) -> stale::Grid {
        stale::Grid {
            fleet: self.fleet.fleet(self.servers),
            ages: self.ages.clone(),
            clients: sizes(&self.clients),
            speeds: self.speeds.clone(),
            disciplines: self.discipline.clone(),
            works: self.work.clone(),
            load: self.load,
            stated: self.capacity,
            against: self.against.as_ref().map(|policy| policy.name().to_owned()),
            reports: Reports {
                synchronised: self.synchronised,
                loss: self.loss,
                delay: self.delay,
                on_responses: self.on_responses,
                ..Reports::default()
            },
        }
    }
}

/// If all were lost, nobody would hear anything, and the age of reports would mean nothing.
fn loss(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| "write a share from 0 to below 1, such as 0.1".to_owned())
}

#[cfg(test)]
mod tests {
    use lb_sim::Seeds;

    use super::super::SimCommand;
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_experiment() {
        let SimCommand::Stale(args) = parse("lb sim stale") else {
            panic!("not stale");
        };
        assert_eq!(
            format!("{:?}", args.grid()),
            format!("{:?}", stale::Grid::default())
        );
    }

    #[test]
    fn a_grid_is_what_was_asked_for() {
        let line = "lb sim stale --ages 0,2.5 --clients 3 --policies adaptive,least-reported --seeds 2 --seed 7 \
                    --requests 1000 --load 0.5 --servers 4 --work bimodal,constant --discipline ps --speeds 0.5:1";
        let SimCommand::Stale(args) = parse(&line.split_whitespace().collect::<Vec<_>>().join(" ")) else {
            panic!("not stale");
        };
        let grid = args.grid();
        assert_eq!(
            (grid.ages, grid.clients, grid.load),
            (vec![0.0, 2.5], vec![3], Some(0.5))
        );
        assert_eq!(
            (grid.works, grid.disciplines),
            (vec![Work::Bimodal, Work::Constant], vec![Discipline::Sharing])
        );
        assert_eq!(grid.speeds[0].of(4), [0.5, 1.0, 0.5, 1.0]);
        assert_eq!(grid.fleet.seeds, Seeds { first: 7, count: 2 });
        let names: Vec<&str> = grid.fleet.policies.iter().map(Policy::name).collect();
        assert_eq!(names, ["adaptive", "least-reported"]);
    }

    #[test]
    fn reports_are_lost_and_late_as_was_asked_for() {
        let line = "lb sim stale --loss 0.2 --delay 1.5 --on-responses --synchronised";
        let SimCommand::Stale(args) = parse(line) else {
            panic!("not stale");
        };
        let expected = Reports {
            synchronised: true,
            loss: 0.2,
            delay: 1.5,
            on_responses: true,
            ..Reports::default()
        };
        assert_eq!(args.grid().reports, expected);
    }
}
