//! Zones: what stays near, what it costs, and what comes of zones that are not alike.

mod layout;

use lb_core::pick::{SpillRules, StrategyKind, ZoneRules};

pub use layout::{Layout, Zone};

use super::{Findings, WARM_UP};
use crate::Progress;
use crate::chart::{Axis, Chart};
use crate::engine::run as simulate;
use crate::names::{Unknown, find};
use crate::outcome::{Estimate, Outcome};
use crate::policy::Policy;
use crate::scenario::{Reports, Scenario};
use crate::strategies::named;
use crate::sweep::{Seeds, Summary, parallel};
use crate::table::{Cell, Table};
use crate::zoned::{By, zoned};

/// How zones are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// They are not: all servers are alike.
    Unaware,
    /// By the numbers of clients and servers: `zone_aware`.
    Aware,
    /// By the load of the zones: `load_aware`.
    ByLoad,
}

impl Routing {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Unaware, Self::Aware, Self::ByLoad];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unaware => "unaware",
            Self::Aware => "zone-aware",
            Self::ByLoad => "load-aware",
        }
    }

    fn policy(self, kind: StrategyKind, layout: &Layout) -> Policy {
        let by = match self {
            Self::Unaware => return named(kind),
            Self::Aware => By::Numbers(ZoneRules::default()),
            Self::ByLoad => By::Load(SpillRules::default()),
        };
        zoned(self.as_str(), kind, by, layout.placing(0.0))
    }
}

impl std::str::FromStr for Routing {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        find("policy", name, &Self::ALL, Self::as_str)
    }
}

/// The grid.
#[derive(Clone, Debug)]
pub struct Grid {
    /// How zones are chosen.
    pub routings: Vec<Routing>,
    /// Who picks within a zone, or among all.
    pub kind: StrategyKind,
    /// Where clients and servers are, and what is wrong with them.
    pub layouts: Vec<Layout>,
    /// What a request that leaves its zone takes longer.
    pub crossing: f64,
    /// Load as a share of what all servers can do; if not given, that of the layout.
    pub load: Option<f64>,
    /// Time between heartbeats.
    pub age: f64,
    /// Requests in each run.
    pub requests: u64,
    /// With which seeds.
    pub seeds: Seeds,
}

impl Default for Grid {
    /// Every scenario, two choices within zones, half a service time to another one.
    fn default() -> Self {
        Self {
            routings: Routing::ALL.to_vec(),
            kind: StrategyKind::TwoChoices,
            layouts: Layout::all(),
            crossing: 0.5,
            load: None,
            age: 10.0,
            requests: 300_000,
            seeds: Seeds::default(),
        }
    }
}

/// What came of one scenario and policy.
#[derive(Clone, Debug)]
pub struct Row {
    /// The scenario.
    pub layout: Layout,
    /// The policy.
    pub routing: Routing,
    /// The load.
    pub load: f64,
    /// Shares of all requests, by the zone they came from, then by that they were sent to.
    pub flows: Vec<Vec<f64>>,
    /// Mean latency.
    pub mean: Estimate,
    /// 99 % of the requests were faster.
    pub p99: Estimate,
}

impl Row {
    /// The share of all requests that stayed in their zone.
    #[must_use]
    pub fn local(&self) -> f64 {
        self.flows.iter().enumerate().map(|(zone, to)| to[zone]).sum()
    }

    /// How the requests of a zone's clients were shared among zones; not numbers if they sent none.
    #[must_use]
    pub fn shares_of(&self, zone: usize) -> Vec<f64> {
        let all: f64 = self.flows[zone].iter().sum();
        self.flows[zone].iter().map(|part| part / all).collect()
    }

    /// What each zone's servers got of all requests.
    #[must_use]
    pub fn received(&self) -> Vec<f64> {
        let zones = 0..self.flows.len();
        zones
            .map(|zone| self.flows.iter().map(|to| to[zone]).sum())
            .collect()
    }
}

/// Runs the grid: by scenario, then policy.
#[must_use]
pub fn run(grid: &Grid, progress: &Progress<'_>) -> Vec<Row> {
    let mut cells: Vec<(&Layout, Routing, Policy, Scenario)> = Vec::new();
    for layout in &grid.layouts {
        for &routing in &grid.routings {
            let policy = routing.policy(grid.kind, layout);
            cells.push((layout, routing, policy, scenario(grid, layout)));
        }
    }
    let seeds = || (0..u64::from(grid.seeds.count)).map(|i| grid.seeds.first.wrapping_add(i));
    let items: Vec<_> = cells
        .iter()
        .flat_map(|cell| seeds().map(move |seed| (cell, seed)))
        .collect();
    let outcomes = parallel(&items, progress, |((_, _, policy, scenario), seed)| {
        simulate(scenario, policy, *seed)
    });
    let runs = outcomes.chunks((grid.seeds.count as usize).max(1));
    let rows = cells.iter().zip(runs);
    rows.map(|((layout, routing, _, scenario), outcomes)| {
        let summary = Summary::of(outcomes);
        Row {
            layout: (*layout).clone(),
            routing: *routing,
            load: scenario.load,
            flows: flows(outcomes),
            mean: summary.mean,
            p99: summary.p99,
        }
    })
    .collect()
}

fn scenario(grid: &Grid, layout: &Layout) -> Scenario {
    Scenario {
        speeds: vec![1.0; layout.servers()],
        load: grid.load.unwrap_or(layout.load),
        clients: layout.clients(),
        split: layout.split(),
        placing: layout.placing(grid.crossing),
        events: layout.events(),
        requests: grid.requests,
        warm_up: WARM_UP,
        reports: Reports {
            period: grid.age,
            ..Reports::default()
        },
        ..Scenario::default()
    }
}

fn flows(outcomes: &[Outcome]) -> Vec<Vec<f64>> {
    let total: u64 = outcomes
        .iter()
        .flat_map(|outcome| outcome.flows.iter().flatten())
        .sum();
    let zones = outcomes.first().map_or(0, |outcome| outcome.flows.len());
    let share = |from: usize, to: usize| {
        let sum: u64 = outcomes.iter().map(|outcome| outcome.flows[from][to]).sum();
        sum as f64 / total.max(1) as f64
    };
    (0..zones)
        .map(|from| (0..zones).map(|to| share(from, to)).collect())
        .collect()
}

/// As percentages; `-` where there is nothing to share.
fn percent(shares: &[f64]) -> Cell {
    if shares.iter().any(|share| !share.is_finite()) {
        return Cell::None;
    }
    let parts: Vec<String> = shares
        .iter()
        .map(|share| format!("{:.1}", share * 100.0))
        .collect();
    parts.join(" ").into()
}

/// Runs the grid and presents it.
#[must_use]
pub fn findings(grid: &Grid, progress: &Progress<'_>) -> Findings {
    let rows = run(grid, progress);
    let mut table = Table::new(&[
        "scenario", "policy", "load", "seeds", "zone", "clients", "servers", "local", "shares", "mean",
        "margin", "p99",
    ]);
    let seeds = if grid.seeds.count == 1 { "seed" } else { "seeds" };
    let world = format!(
        "{} within zones, {} more to another one, reports every {}; {} requests a run, {} {seeds} from {}",
        grid.kind, grid.crossing, grid.age, grid.requests, grid.seeds.count, grid.seeds.first
    );
    let mut chart = Chart {
        title: "What stays in its zone, and what that costs or saves".to_owned(),
        subtitle: format!("{world}; one line for each policy, one point for each scenario"),
        x: Axis::linear("requests that stay in their zone, in %"),
        y: Axis::log("mean latency (service times)"),
        columns: 3,
        panels: Vec::new(),
        dashed: Vec::new(),
    };
    for row in &rows {
        let (layout, count) = (&row.layout, u64::from(grid.seeds.count));
        table.row(vec![
            layout.name.clone().into(),
            row.routing.as_str().into(),
            row.load.into(),
            count.into(),
            "all".into(),
            layout.clients().into(),
            layout.servers().into(),
            row.local().into(),
            percent(&row.received()),
            row.mean.mean.into(),
            row.mean.margin.into(),
            row.p99.mean.into(),
        ]);
        for (zone, of) in layout.zones.iter().enumerate() {
            let shares = row.shares_of(zone);
            table.row(vec![
                layout.name.clone().into(),
                row.routing.as_str().into(),
                row.load.into(),
                count.into(),
                (zone + 1).to_string().into(),
                of.clients.into(),
                of.servers.into(),
                shares[zone].into(),
                percent(&shares),
                Cell::None,
                Cell::None,
                Cell::None,
            ]);
        }
        let point = (row.local() * 100.0, row.mean.mean);
        chart.point(&layout.name, row.routing.as_str(), point);
    }
    let told = grid
        .layouts
        .iter()
        .map(|layout| format!("\n{}: {}", layout.name, layout.about));
    Findings {
        heading: format!(
            "What clients send to the servers of each zone: {world}.\n\
             local: share that stays in its zone; shares: of each zone, in %, of the requests of the clients of a zone;\n\
             all: of all requests. Latency in mean service times.{}",
            told.collect::<String>()
        ),
        table,
        chart,
    }
}
