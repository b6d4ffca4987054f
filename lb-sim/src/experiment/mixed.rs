//! How policies use servers of different speeds, by load, with and without knowing the speeds.

use super::{Findings, Fleet, Speeds, base, references};
use crate::Progress;
use crate::chart::{Axis, Chart};
use crate::policy::Policy;
use crate::queue::Discipline;
use crate::scenario::{Reports, Scenario, Stated};
use crate::sweep::sweep;
use crate::table::Table;
use crate::work::Work;

/// The grid.
#[derive(Clone, Debug)]
pub struct Mixed {
    /// Who picks, among how many servers, how often.
    pub fleet: Fleet,
    /// Loads.
    pub loads: Vec<f64>,
    /// Times between heartbeats.
    pub ages: Vec<f64>,
    /// Numbers of clients.
    pub clients: Vec<usize>,
    /// Speeds of the servers.
    pub speeds: Speeds,
    /// What servers state as their capacity.
    pub stated: Vec<Stated>,
    /// How servers serve.
    pub discipline: Discipline,
    /// How much work requests are.
    pub work: Work,
}

impl Default for Mixed {
    /// Half of 100 servers three times as fast as the others, 10 and 100 clients, reports as old as 10 service times.
    fn default() -> Self {
        Self {
            fleet: Fleet::default(),
            loads: vec![0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
            ages: vec![10.0],
            clients: vec![10, 100],
            speeds: Speeds::mixed(),
            stated: vec![Stated::Speed, Stated::Equal],
            discipline: Discipline::Fifo,
            work: Work::Exponential,
        }
    }
}

/// Runs the grid and presents it.
#[must_use]
pub fn findings(grid: &Mixed, progress: &Progress<'_>) -> Findings {
    let fleet = &grid.fleet;
    let mut cells = Vec::new();
    for &stated in &grid.stated {
        for &clients in &grid.clients {
            for &age in &grid.ages {
                for policy in &fleet.policies {
                    for &load in &grid.loads {
                        let scenario = Scenario {
                            speeds: grid.speeds.of(fleet.servers),
                            discipline: grid.discipline,
                            work: grid.work,
                            load,
                            clients,
                            stated,
                            reports: Reports {
                                period: age,
                                ..Reports::default()
                            },
                            ..base(fleet.requests)
                        };
                        cells.push((policy, scenario, age));
                    }
                }
            }
        }
    }
    let runs: Vec<(&Scenario, &Policy)> = cells
        .iter()
        .map(|(policy, scenario, _)| (scenario, *policy))
        .collect();
    let summaries = sweep(&runs, fleet.seeds, progress);

    let mut table = Table::new(&[
        "policy",
        "clients",
        "age",
        "speeds",
        "capacity",
        "load",
        "seeds",
        "mean",
        "margin",
        "p50",
        "p99",
        "slow_share",
    ]);
    let mut chart = Chart {
        title: "Mean latency by load, servers of different speeds".to_owned(),
        subtitle: format!(
            "{} servers, speeds {}, {}, work {}; dashed: only for comparison; {}",
            fleet.servers,
            grid.speeds,
            grid.discipline,
            grid.work,
            fleet.runs()
        ),
        x: Axis::linear("load, as a share of all capacity"),
        y: Axis::log("mean latency (service times)"),
        columns: grid.clients.len() * grid.ages.len(),
        panels: Vec::new(),
        dashed: references(&fleet.policies),
    };
    for ((policy, scenario, age), summary) in cells.iter().zip(&summaries) {
        let slowest = scenario.speeds.iter().copied().fold(f64::INFINITY, f64::min);
        let of_slow = |values: &[f64]| {
            let all: f64 = values.iter().sum();
            let slow = values
                .iter()
                .zip(&scenario.speeds)
                .filter(|(_, speed)| **speed == slowest);
            slow.map(|(value, _)| value).sum::<f64>() / all
        };
        table.row(vec![
            policy.name().into(),
            scenario.clients.into(),
            (*age).into(),
            grid.speeds.to_string().into(),
            scenario.stated.as_str().into(),
            scenario.load.into(),
            fleet.count(),
            summary.mean.mean.into(),
            summary.mean.margin.into(),
            summary.p50.mean.into(),
            summary.p99.mean.into(),
            (of_slow(&summary.shares) / of_slow(&scenario.speeds)).into(),
        ]);
        let panel = format!(
            "{} clients, age {age}, capacity stated: {}",
            scenario.clients, scenario.stated
        );
        chart.point(&panel, policy.name(), (scenario.load, summary.mean.mean));
    }
    Findings {
        heading: format!(
            "Latency in mean service times, by load, among servers of different speeds ({}).\n\
             {} servers, {}; slow_share: what the slowest get, by their share of all capacity.",
            grid.speeds,
            fleet.servers,
            fleet.runs()
        ),
        table,
        chart,
    }
}
