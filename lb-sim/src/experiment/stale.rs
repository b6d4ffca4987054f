//! How policies stand old reports: the age of reports from a tenth of a service time to a hundred.

use super::{Findings, Fleet, Speeds, base, references, verdict};
use crate::chart::{Axis, Chart};
use crate::policy::Policy;
use crate::queue::Discipline;
use crate::scenario::{Reports, Scenario, Stated};
use crate::sweep::{Progress, Summary, sweep};
use crate::table::Table;
use crate::work::Work;

/// The grid: every combination of these.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Who picks, among how many servers, how often.
    pub fleet: Fleet,
    /// Times between heartbeats, in mean service times; 0: the load is known at every moment.
    pub ages: Vec<f64>,
    /// Numbers of clients.
    pub clients: Vec<usize>,
    /// Speeds of the servers.
    pub speeds: Vec<Speeds>,
    /// How servers serve.
    pub disciplines: Vec<Discipline>,
    /// How much work requests are.
    pub works: Vec<Work>,
    /// The load; if not given, 0.9 for equal servers and 0.7 for others.
    pub load: Option<f64>,
    /// What servers state as their capacity.
    pub stated: Stated,
    /// All else about reports; their period is the age.
    pub reports: Reports,
    /// Judge this policy beside the best of the others, instead of telling of all.
    pub against: Option<String>,
}

impl Default for Grid {
    /// The whole grid: 168 cells of 100 servers for every policy there is.
    fn default() -> Self {
        Self {
            fleet: Fleet::default(),
            ages: vec![0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0],
            clients: vec![1, 10, 100],
            speeds: vec![Speeds::equal(), Speeds::mixed()],
            disciplines: Discipline::ALL.to_vec(),
            works: vec![Work::Exponential, Work::HeavyTailed],
            load: None,
            stated: Stated::Speed,
            reports: Reports::default(),
            against: None,
        }
    }
}

/// One cell of the grid for one policy.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who picked.
    pub policy: String,
    /// Number of clients.
    pub clients: usize,
    /// Time between heartbeats.
    pub age: f64,
    /// Speeds of the servers.
    pub speeds: Speeds,
    /// How servers serve.
    pub discipline: Discipline,
    /// How much work requests are.
    pub work: Work,
    /// The load.
    pub load: f64,
    /// What came of it.
    pub summary: Summary,
}

/// Runs the grid. Rows of one combination and policy are next to one another, by rising age.
#[must_use]
pub fn run(grid: &Grid, progress: &Progress<'_>) -> Vec<Row> {
    let cells = cells(grid);
    let mut runs: Vec<(&Scenario, &Policy)> = Vec::new();
    let mut places = Vec::new();
    for (place, (row, scenario, policy)) in cells.iter().enumerate() {
        // What reads no reports does the same at every age: the same run, so it is run once.
        let known = (place.checked_sub(1))
            .filter(|_| !policy.reads_reports() && row.age != grid.ages[0])
            .map(|before| places[before]);
        places.push(known.unwrap_or_else(|| {
            runs.push((scenario, policy));
            runs.len() - 1
        }));
    }
    let summaries = sweep(&runs, grid.fleet.seeds, progress);
    cells
        .iter()
        .zip(places)
        .map(|((row, ..), place)| Row {
            summary: summaries[place].clone(),
            ..row.clone()
        })
        .collect()
}

fn cells(grid: &Grid) -> Vec<(Row, Scenario, &Policy)> {
    let mut cells = Vec::new();
    for speeds in &grid.speeds {
        for &discipline in &grid.disciplines {
            for &work in &grid.works {
                for &clients in &grid.clients {
                    for policy in &grid.fleet.policies {
                        for &age in &grid.ages {
                            let load = grid.load.unwrap_or_else(|| speeds.usual_load());
                            let scenario = Scenario {
                                speeds: speeds.of(grid.fleet.servers),
                                discipline,
                                work,
                                load,
                                clients,
                                reports: Reports {
                                    period: age,
                                    ..grid.reports
                                },
                                stated: grid.stated,
                                ..base(grid.fleet.requests)
                            };
                            let row = Row {
                                policy: policy.name().to_owned(),
                                clients,
                                age,
                                speeds: speeds.clone(),
                                discipline,
                                work,
                                load,
                                summary: Summary::of(&[]),
                            };
                            cells.push((row, scenario, policy));
                        }
                    }
                }
            }
        }
    }
    cells
}

/// Runs the grid and presents it.
#[must_use]
pub fn findings(grid: &Grid, progress: &Progress<'_>) -> Findings {
    let rows = run(grid, progress);
    let mut heading = format!(
        "Latency in mean service times, by the age of reports (time between heartbeats of a server).\n\
         {} servers, {}{}; margin: half of the 95 % confidence interval.",
        grid.fleet.servers,
        grid.fleet.runs(),
        conditions(&grid.reports)
    );
    let table = match &grid.against {
        None => table(&rows, &grid.fleet),
        Some(policy) => {
            let verdicts = verdict::verdicts(&rows, policy);
            heading.push_str(&format!("\n{policy}: {}.", verdict::summary(&verdicts)));
            verdict::table(&verdicts)
        }
    };
    Findings {
        heading,
        table,
        chart: chart(&rows, grid),
    }
}

/// What is not usual about the reports: without it two tables could not be told apart.
fn conditions(reports: &Reports) -> String {
    let mut words = String::new();
    if reports.loss > 0.0 {
        words.push_str(&format!("; of the reports {} lost", reports.loss));
    }
    if reports.delay > 0.0 {
        words.push_str(&format!("; reports on their way for {}", reports.delay));
    }
    if reports.on_responses {
        words.push_str("; reports on responses too");
    }
    if reports.synchronised {
        words.push_str("; reports of all servers at once");
    }
    words
}

fn chart(rows: &[Row], grid: &Grid) -> Chart {
    let mut chart = Chart {
        title: "Mean latency by age of load reports".to_owned(),
        subtitle: format!(
            "{} servers; both axes in mean service times; dashed: only for comparison; {}{}",
            grid.fleet.servers,
            grid.fleet.runs(),
            conditions(&grid.reports)
        ),
        x: Axis::log("age: time between reports of a server"),
        y: Axis::log("mean latency"),
        columns: grid.clients.len(),
        panels: Vec::new(),
        dashed: references(&grid.fleet.policies),
    };
    for row in rows {
        let clients = if row.clients == 1 { "client" } else { "clients" };
        let panel = format!(
            "{} {clients}, {}, {}, {}, load {}",
            row.clients, row.speeds, row.discipline, row.work, row.load
        );
        chart.point(&panel, &row.policy, (row.age, row.summary.mean.mean));
    }
    chart
}

fn table(rows: &[Row], fleet: &Fleet) -> Table {
    let mut table = Table::new(&[
        "policy",
        "clients",
        "age",
        "speeds",
        "discipline",
        "work",
        "load",
        "seeds",
        "mean",
        "margin",
        "p50",
        "p99",
        "p999",
    ]);
    for row in rows {
        let summary = &row.summary;
        table.row(vec![
            row.policy.clone().into(),
            row.clients.into(),
            row.age.into(),
            row.speeds.to_string().into(),
            row.discipline.as_str().into(),
            row.work.as_str().into(),
            row.load.into(),
            fleet.count(),
            summary.mean.mean.into(),
            summary.mean.margin.into(),
            summary.p50.mean.into(),
            summary.p99.mean.into(),
            summary.p999.mean.into(),
        ]);
    }
    table
}
