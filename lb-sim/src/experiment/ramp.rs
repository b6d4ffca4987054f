//! Rising load on machines that are shared with others: what errors there are before the machines are full.
//!
//! After Figure 6 of Prequal (Wydrowski et al., NSDI 2024): a job owns a share of each machine and may use what others
//! on it leave idle. Policies that split the load evenly break down as soon as it exceeds what is owned, though there is
//! room elsewhere.

use super::{Findings, Fleet, base, references};
use crate::Progress;
use crate::chart::{Axis, Chart};
use crate::policy::Policy;
use crate::queue::Discipline;
use crate::random::Source;
use crate::scenario::{Event, Reports, Scenario, Stated, What};
use crate::sweep::sweep;
use crate::table::Table;
use crate::work::Work;

/// The grid.
#[derive(Clone, Debug)]
pub struct Ramp {
    /// Who picks, among how many servers, how often.
    pub fleet: Fleet,
    /// Loads, as a share of what is owned.
    pub loads: Vec<f64>,
    /// Number of clients.
    pub clients: usize,
    /// Time between heartbeats.
    pub age: f64,
    /// A response that takes longer is an error.
    pub deadline: f64,
}

/// What a machine does that nobody else uses, by what is owned of it.
const ALONE: f64 = 3.0;
/// How long a neighbour is busy or idle, on average.
const SPELL: f64 = 200.0;

impl Default for Ramp {
    /// 100 clients, 100 servers, nine steps of 10 : 9 from 0.75 to 1.74, a deadline of 50 service times.
    fn default() -> Self {
        let step = |i: i32| (0.75 * (10.0_f64 / 9.0).powi(i) * 100.0).round() / 100.0;
        Self {
            fleet: Fleet::default(),
            loads: (0..9).map(step).collect(),
            clients: 100,
            age: 3.0,
            deadline: 50.0,
        }
    }
}

/// Neighbours come and go, each machine's at moments of its own.
fn neighbours(servers: usize, until: f64) -> Vec<Event> {
    let mut source = Source::new(0, 6);
    let mut events = Vec::new();
    for server in 0..servers {
        let mut alone = server % 2 == 0;
        let mut at = 0.0;
        while at < until {
            let pace = if alone { ALONE } else { 1.0 };
            events.push(Event {
                at,
                what: What::Pace(server, pace),
            });
            at += source.exponential() * SPELL;
            alone = !alone;
        }
    }
    events.sort_by(|a, b| a.at.total_cmp(&b.at));
    events
}

/// Runs the grid and presents it.
#[must_use]
pub fn findings(grid: &Ramp, progress: &Progress<'_>) -> Findings {
    let fleet = &grid.fleet;
    let mut cells = Vec::new();
    for policy in &fleet.policies {
        for &load in &grid.loads {
            let until = 1.1 * fleet.requests as f64 / (load * fleet.servers as f64);
            let scenario = Scenario {
                speeds: vec![1.0; fleet.servers],
                discipline: Discipline::Sharing,
                work: Work::Normal,
                load,
                clients: grid.clients,
                stated: Stated::Equal,
                deadline: grid.deadline,
                reports: Reports {
                    period: grid.age,
                    ..Reports::default()
                },
                events: neighbours(fleet.servers, until),
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
        "policy", "clients", "age", "load", "seeds", "errors", "margin", "p50", "p99", "p999",
    ]);
    let mut chart = Chart {
        title: "Latency at the 99.9th percentile under rising load".to_owned(),
        subtitle: format!(
            "{} servers that own a third of their machines, half of which are busy with others; {} clients, reports every \
             {} mean service times, deadline {}; dashed: only for comparison; {}",
            fleet.servers,
            grid.clients,
            grid.age,
            grid.deadline,
            fleet.runs()
        ),
        x: Axis::linear("load, as a share of what is owned"),
        y: Axis::log("p99.9, in mean service times"),
        columns: 1,
        panels: Vec::new(),
        dashed: references(&fleet.policies),
    };
    for ((policy, scenario), summary) in cells.iter().zip(&summaries) {
        table.row(vec![
            policy.name().into(),
            grid.clients.into(),
            grid.age.into(),
            scenario.load.into(),
            fleet.count(),
            summary.errors.mean.into(),
            summary.errors.margin.into(),
            summary.p50.mean.into(),
            summary.p99.mean.into(),
            summary.p999.mean.into(),
        ]);
        chart.point("", policy.name(), (scenario.load, summary.p999.mean));
    }
    Findings {
        heading: format!(
            "Load above what is owned, on machines half of which have idle neighbours (capacity: twice what is owned).\n\
             Latency in mean service times; errors: share of the requests answered after {} of them. {} servers, {}.",
            grid.deadline,
            fleet.servers,
            fleet.runs()
        ),
        table,
        chart,
    }
}
