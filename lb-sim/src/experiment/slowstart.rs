//! A server joins: what it is sent of the requests over the window of slow start, strategy by strategy.

use std::fmt;
use std::str::FromStr;

use lb_core::Duration;
use lb_core::pick::{Aggression, SlowStart, StrategyKind};

use super::Findings;
use crate::Progress;
use crate::chart::{Axis, Chart};
use crate::eased::eased;
use crate::engine::run as simulate;
use crate::math;
use crate::names::{Unknown, find};
use crate::policy::Policy;
use crate::scenario::{Event, Reports, SERVICE_TIME_US, Scenario, What};
use crate::sweep::{Seeds, parallel};
use crate::table::Table;
use crate::watch::{Seen, Watch};

/// Before somebody joins, so that queues have grown to their length.
const BEFORE: f64 = 500.0;
/// Spans in which shares are measured: ten of the window, and two after it.
const SPANS: usize = 12;
const SPANS_OF_WINDOW: usize = 10;

/// Whether newcomers are eased in, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Easing {
    /// They are not.
    #[default]
    Off,
    /// By slow start.
    By(Aggression),
}

impl Easing {
    /// Every choice.
    pub const ALL: [Self; 4] = [
        Self::Off,
        Self::By(Aggression::One),
        Self::By(Aggression::Two),
        Self::By(Aggression::Four),
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::By(Aggression::One) => "1",
            Self::By(Aggression::Two) => "2",
            Self::By(Aggression::Four) => "4",
        }
    }

    fn rules(self, window: f64) -> SlowStart {
        let micros = (window * f64::from(SERVICE_TIME_US)) as u64;
        match self {
            Self::Off => SlowStart {
                window: Duration::ZERO,
                ..SlowStart::default()
            },
            Self::By(aggression) => SlowStart {
                window: Duration::from_micros(micros),
                aggression,
                ..SlowStart::default()
            },
        }
    }

    /// `max(0.1, passed ^ (1 / aggression))`, as a share of what the others get; 1 without slow start.
    #[must_use]
    pub fn share(self, passed: f64) -> f64 {
        let power = match self {
            Self::Off => return 1.0,
            Self::By(Aggression::One) => 1.0,
            Self::By(Aggression::Two) => 0.5,
            Self::By(Aggression::Four) => 0.25,
        };
        if passed > 0.0 {
            math::pow(passed, power).clamp(0.1, 1.0)
        } else {
            0.1
        }
    }

    /// Its mean over a span: it is bent so much at the beginning that the middle would not do.
    fn mean_share(self, span: usize) -> f64 {
        const PARTS: u32 = 1_000;
        let part =
            |part: u32| (span as f64 + (f64::from(part) + 0.5) / f64::from(PARTS)) / SPANS_OF_WINDOW as f64;
        let sum: f64 = (0..PARTS).map(|at| self.share(part(at))).sum();
        sum / f64::from(PARTS)
    }
}

impl fmt::Display for Easing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Easing {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        find("aggression", name, &Self::ALL, Self::as_str)
    }
}

/// The grid.
#[derive(Clone, Debug)]
pub struct Grid {
    /// Who picks.
    pub kinds: Vec<StrategyKind>,
    /// With and without slow start.
    pub easings: Vec<Easing>,
    /// Servers, the newcomer included.
    pub servers: usize,
    /// Number of clients.
    pub clients: usize,
    /// Load as a share of what all can do, the newcomer included.
    pub load: f64,
    /// How long slow start takes.
    pub window: f64,
    /// Time between heartbeats.
    pub age: f64,
    /// With which seeds.
    pub seeds: Seeds,
}

impl Default for Grid {
    /// The tenth server comes, at half load; four clients, and the default window: 30 s of 10 ms requests.
    fn default() -> Self {
        Self {
            kinds: vec![
                StrategyKind::RoundRobin,
                StrategyKind::Random,
                StrategyKind::TwoChoices,
                StrategyKind::LeastConnections,
                StrategyKind::Adaptive,
                StrategyKind::Maglev,
            ],
            easings: Easing::ALL.to_vec(),
            servers: 10,
            clients: 4,
            load: 0.5,
            window: 3_000.0,
            age: 10.0,
            seeds: Seeds::default(),
        }
    }
}

/// What a newcomer got in one span.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who picked.
    pub kind: StrategyKind,
    /// With or without slow start.
    pub easing: Easing,
    /// The middle of the span, as a share of the window.
    pub passed: f64,
    /// What it got, as a share of what the others got on average.
    pub share: f64,
    /// What the formula gives, on average over the span.
    pub formula: f64,
    /// Mean latency at the newcomer of what was sent in the span.
    pub latency: f64,
    /// Likewise in the whole window.
    pub window_latency: f64,
}

impl Row {
    /// By how much it got more than the formula gives.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        self.share - self.formula
    }
}

/// Runs the grid. Rows of one strategy and easing are next to one another, in the order of time.
#[must_use]
pub fn run(grid: &Grid, progress: &Progress<'_>) -> Vec<Row> {
    let mut cells: Vec<(StrategyKind, Easing, Policy, Scenario)> = Vec::new();
    for &kind in &grid.kinds {
        for &easing in &grid.easings {
            let policy = eased(kind, easing.rules(grid.window));
            cells.push((kind, easing, policy, scenario(grid, kind.is_affine())));
        }
    }
    let items: Vec<_> = cells
        .iter()
        .flat_map(|cell| {
            (0..u64::from(grid.seeds.count)).map(move |i| (cell, grid.seeds.first.wrapping_add(i)))
        })
        .collect();
    let seen = parallel(&items, progress, |((_, _, policy, scenario), seed)| {
        simulate(scenario, policy, *seed).seen
    });
    let runs = seen.chunks((grid.seeds.count as usize).max(1));
    let rows = cells.iter().zip(runs);
    rows.flat_map(|((kind, easing, ..), runs)| rows_of(*kind, *easing, grid.servers, &total(runs)))
        .collect()
}

fn scenario(grid: &Grid, keyed: bool) -> Scenario {
    let (newcomer, span) = (grid.servers - 1, grid.window / SPANS_OF_WINDOW as f64);
    // A span more, so that the last one is whole whatever chance does.
    let until = BEFORE + (SPANS + 1) as f64 * span;
    Scenario {
        speeds: vec![1.0; grid.servers],
        load: grid.load,
        clients: grid.clients,
        keyed,
        requests: (until * grid.load * grid.servers as f64) as u64,
        warm_up: 0.0,
        reports: Reports {
            period: grid.age,
            ..Reports::default()
        },
        events: [(0.0, What::Leave(newcomer)), (BEFORE, What::Join(newcomer))]
            .map(|(at, what)| Event { at, what })
            .to_vec(),
        watch: Some(Watch {
            server: newcomer,
            from: BEFORE,
            span,
            spans: SPANS,
        }),
        ..Scenario::default()
    }
}

/// What was seen in all runs, span by span.
fn total(runs: &[Vec<Seen>]) -> Vec<Seen> {
    let mut total = vec![Seen::default(); SPANS];
    for run in runs {
        total.iter_mut().zip(run).for_each(|(sum, seen)| sum.merge(seen));
    }
    total
}

fn rows_of(kind: StrategyKind, easing: Easing, servers: usize, seen: &[Seen]) -> Vec<Row> {
    let mut window = Seen::default();
    seen.iter()
        .take(SPANS_OF_WINDOW)
        .for_each(|seen| window.merge(seen));
    let others = (servers - 1) as f64;
    let row = |(span, seen): (usize, &Seen)| Row {
        kind,
        easing,
        passed: (span as f64 + 0.5) / SPANS_OF_WINDOW as f64,
        share: seen.sent as f64 * others / (seen.all - seen.sent) as f64,
        formula: easing.mean_share(span),
        latency: seen.mean(),
        window_latency: window.mean(),
    };
    seen.iter().enumerate().map(row).collect()
}

/// Runs the grid and presents it.
#[must_use]
pub fn findings(grid: &Grid, progress: &Progress<'_>) -> Findings {
    let mut table = Table::new(&[
        "policy",
        "aggression",
        "passed",
        "seeds",
        "share",
        "formula",
        "deviation",
        "latency",
        "window_latency",
    ]);
    let seeds = if grid.seeds.count == 1 { "seed" } else { "seeds" };
    let world = format!(
        "server {} of {} comes, {} clients, load {}, window {}, reports every {}; {} {seeds} from {}",
        grid.servers,
        grid.servers,
        grid.clients,
        grid.load,
        grid.window,
        grid.age,
        grid.seeds.count,
        grid.seeds.first
    );
    let mut chart = Chart {
        title: "What a newcomer is sent".to_owned(),
        subtitle: format!("{world}; times in mean service times; dashed: the formula"),
        x: Axis::linear("time since it came, as a share of the window"),
        y: Axis::linear("share, by that of the others"),
        columns: 2,
        panels: Vec::new(),
        dashed: vec!["formula".to_owned()],
    };
    for row in run(grid, progress) {
        table.row(vec![
            row.kind.as_str().into(),
            row.easing.as_str().into(),
            row.passed.into(),
            u64::from(grid.seeds.count).into(),
            row.share.into(),
            row.formula.into(),
            row.deviation().into(),
            row.latency.into(),
            row.window_latency.into(),
        ]);
        let panel = match row.easing {
            Easing::Off => "without slow start".to_owned(),
            Easing::By(_) => format!("aggression {}", row.easing),
        };
        chart.point(&panel, row.kind.as_str(), (row.passed, row.share));
        if grid.kinds.first() == Some(&row.kind) {
            chart.point(&panel, "formula", (row.passed, row.formula));
        }
    }
    Findings {
        heading: format!(
            "What a newcomer is sent over the window of slow start, as a share of what the others are sent on average: {world}.\n\
             passed: time since it came, as a share of the window; formula: max(0.1, passed ^ (1 / aggression));\n\
             latency: at the newcomer, in mean service times; window_latency: likewise over the whole window."
        ),
        table,
        chart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_is_that_of_the_core() {
        for easing in Easing::ALL {
            let rules = easing.rules(3_000.0);
            for passed in [0.0, 0.05, 0.3, 0.99, 1.0, 1.2] {
                let elapsed = Duration::from_micros((passed * 30e6) as u64);
                let weight = f64::from(rules.weight(10_000, elapsed)) / 10_000.0;
                assert!(
                    (weight - easing.share(passed)).abs() < 0.001,
                    "{easing}, {passed}"
                );
            }
        }
        assert_eq!("2".parse(), Ok(Easing::By(Aggression::Two)));
        let error = "3".parse::<Easing>().unwrap_err().to_string();
        assert!(error.contains("off, 1, 2, 4"), "{error}");
    }
}
