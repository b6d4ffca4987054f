//! Servers that fail at once look idle: how much of the traffic they draw.

use super::{Findings, Fleet, base, references};
use crate::Progress;
use crate::chart::{Axis, Chart};
use crate::policy::Policy;
use crate::scenario::{Event, Reports, Scenario, What};
use crate::sweep::sweep;
use crate::table::Table;

/// The grid.
#[derive(Clone, Debug)]
pub struct Sinkhole {
    /// Who picks, among how many servers, how often.
    pub fleet: Fleet,
    /// How many of the servers answer every request with an error, at once, all the time.
    pub broken: usize,
    /// Loads.
    pub loads: Vec<f64>,
    /// Number of clients.
    pub clients: usize,
    /// Time between heartbeats.
    pub age: f64,
}

impl Default for Sinkhole {
    /// 2 of 20, by load, with 10 clients.
    fn default() -> Self {
        Self {
            fleet: Fleet {
                servers: 20,
                ..Fleet::default()
            },
            broken: 2,
            loads: vec![0.3, 0.5, 0.7, 0.8],
            clients: 10,
            age: 10.0,
        }
    }
}

/// Runs the grid and presents it.
#[must_use]
pub fn findings(grid: &Sinkhole, progress: &Progress<'_>) -> Findings {
    let fleet = &grid.fleet;
    let broken = grid.broken.min(fleet.servers);
    let mut cells = Vec::new();
    for policy in &fleet.policies {
        for &load in &grid.loads {
            let event = |server| Event {
                at: 0.0,
                what: What::Broken(server),
            };
            let scenario = Scenario {
                speeds: vec![1.0; fleet.servers],
                load,
                clients: grid.clients,
                reports: Reports {
                    period: grid.age,
                    ..Reports::default()
                },
                events: (0..broken).map(event).collect(),
                ..base(fleet.requests)
            };
            cells.push((policy, scenario));
        }
    }
    let runs: Vec<(&Scenario, &Policy)> = cells
        .iter()
        .map(|(policy, scenario)| (scenario, *policy))
        .collect();
    let summaries = sweep(&runs, fleet.seeds, progress);

    let mut table = Table::new(&[
        "policy", "clients", "age", "load", "seeds", "failed", "margin", "avoided", "mean", "p99",
    ]);
    let mut chart = Chart {
        title: format!(
            "Failed requests when {broken} of {} servers fail at once",
            fleet.servers
        ),
        subtitle: format!(
            "{} clients, reports every {} mean service times; dashed: only for comparison; {}",
            grid.clients,
            grid.age,
            fleet.runs()
        ),
        x: Axis::linear("load, as a share of all capacity"),
        y: Axis::linear("failed, in % of all requests"),
        columns: 1,
        panels: Vec::new(),
        dashed: references(&fleet.policies),
    };
    let fair = broken as f64 / fleet.servers.max(1) as f64;
    for ((policy, scenario), summary) in cells.iter().zip(&summaries) {
        table.row(vec![
            policy.name().into(),
            grid.clients.into(),
            grid.age.into(),
            scenario.load.into(),
            fleet.count(),
            summary.failed.mean.into(),
            summary.failed.margin.into(),
            (1.0 - summary.failed.mean / fair).into(),
            summary.mean.mean.into(),
            summary.p99.mean.into(),
        ]);
        let point = (scenario.load, summary.failed.mean * 100.0);
        chart.point("", policy.name(), point);
    }
    Findings {
        heading: format!(
            "{broken} of {} servers answer every request with an error, at once.\n\
             failed: share of the requests; avoided: of the failures that random picks would have had, the share that did\n\
             not happen (below 0: more happened). {}.",
            fleet.servers,
            fleet.runs()
        ),
        table,
        chart,
    }
}
