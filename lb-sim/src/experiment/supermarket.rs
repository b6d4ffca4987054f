//! The shortest of `d` queues with true lengths, against the supermarket model: how far the simulator can be trusted.

use lb_core::pick::By;

use super::{Findings, Fleet, base, best_of};
use crate::Progress;
use crate::chart::{Axis, Chart};
use crate::policy::Policy;
use crate::scenario::{Reports, Scenario};
use crate::sweep::sweep;
use crate::table::Table;

/// The grid.
#[derive(Clone, Debug)]
pub struct Supermarket {
    /// Among how many servers, how often. Who picks is given by `choices`.
    pub fleet: Fleet,
    /// Loads.
    pub loads: Vec<f64>,
}

impl Default for Supermarket {
    fn default() -> Self {
        Self {
            fleet: Fleet::default(),
            loads: vec![0.5, 0.7, 0.8, 0.9, 0.95],
        }
    }
}

/// Mean time in the system of infinitely many queues, when each request joins the shortest of `d` (Mitzenmacher 1996;
/// Vvedenskaya, Dobrushin and Karpelevich 1996): the sum of `load^((d^i - d) / (d - 1))`.
///
/// ```
/// assert!((lb_sim::experiment::supermarket::fixed_point(0.9, 2) - 2.614).abs() < 0.001);
/// assert!((lb_sim::experiment::supermarket::fixed_point(0.9, 1) - 10.0).abs() < 0.001);
/// ```
#[must_use]
pub fn fixed_point(load: f64, d: u8) -> f64 {
    if d == 1 {
        return 1.0 / (1.0 - load);
    }
    let d = f64::from(d);
    (1..40).map(|i| load.powf((d.powi(i) - d) / (d - 1.0))).sum()
}

/// Runs the grid and presents it.
#[must_use]
pub fn findings(grid: &Supermarket, progress: &Progress<'_>) -> Findings {
    let fleet = &grid.fleet;
    let policies: Vec<(u8, Policy)> = [1, 2, 3].map(|d| (d, best_of(d, By::Reported))).to_vec();
    let mut cells = Vec::new();
    for (d, policy) in &policies {
        for &load in &grid.loads {
            let scenario = Scenario {
                speeds: vec![1.0; fleet.servers],
                load,
                reports: Reports {
                    period: 0.0,
                    ..Reports::default()
                },
                ..base(fleet.requests)
            };
            cells.push((*d, policy, scenario));
        }
    }
    let runs: Vec<(&Scenario, &Policy)> = cells
        .iter()
        .map(|(_, policy, scenario)| (scenario, *policy))
        .collect();
    let summaries = sweep(&runs, fleet.seeds, progress);

    let mut table = Table::new(&[
        "choices",
        "load",
        "seeds",
        "mean",
        "margin",
        "model",
        "off_percent",
    ]);
    let mut chart = Chart {
        title: "The shortest of d queues".to_owned(),
        subtitle: format!(
            "{} servers, exponential work, true queue lengths; dashed: the model of infinitely many servers; {}",
            fleet.servers,
            fleet.runs()
        ),
        x: Axis::linear("load, as a share of all capacity"),
        y: Axis::log("mean latency, in mean service times"),
        columns: 1,
        panels: Vec::new(),
        dashed: policies.iter().map(|(d, _)| format!("model, d = {d}")).collect(),
    };
    for ((d, _, scenario), summary) in cells.iter().zip(&summaries) {
        let model = fixed_point(scenario.load, *d);
        let mean = summary.mean.mean;
        table.row(vec![
            u64::from(*d).into(),
            scenario.load.into(),
            fleet.count(),
            mean.into(),
            summary.mean.margin.into(),
            model.into(),
            ((mean / model - 1.0) * 100.0).into(),
        ]);
        chart.point("", &format!("d = {d}"), (scenario.load, mean));
        chart.point("", &format!("model, d = {d}"), (scenario.load, model));
    }
    Findings {
        heading: format!(
            "Mean latency in mean service times when each request joins the shortest of d queues, and what the supermarket\n\
             model says of infinitely many. {} servers, {}.",
            fleet.servers,
            fleet.runs()
        ),
        table,
        chart,
    }
}
