//! The experiments: each a grid of scenarios, run by every policy, and what there is to see in it.

pub mod bins;
pub mod mixed;
pub mod ramp;
pub mod sinkhole;
pub mod slowstart;
pub mod stale;
pub mod supermarket;
pub mod verdict;
pub mod zones;

use std::fmt;
use std::str::FromStr;

use lb_core::pick::{By, Choices, Random};

use crate::chart::Chart;
use crate::policy::Policy;
use crate::scenario::Scenario;
use crate::sweep::Seeds;
use crate::table::{Cell, Table};

/// What an experiment found.
#[derive(Clone, Debug)]
pub struct Findings {
    /// What was done, in a line or two: for the reader of the table.
    pub heading: String,
    /// The figures.
    pub table: Table,
    /// What there is to see in them.
    pub chart: Chart,
}

/// Who picks, among how many servers, how often.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Who picks.
    pub policies: Vec<Policy>,
    /// How many servers.
    pub servers: usize,
    /// Requests in each run.
    pub requests: u64,
    /// With which seeds.
    pub seeds: Seeds,
}

impl Default for Fleet {
    /// Every policy there is, 100 servers, ten runs of 300 000 requests.
    fn default() -> Self {
        Self {
            policies: Policy::usual(),
            servers: 100,
            requests: 300_000,
            seeds: Seeds::default(),
        }
    }
}

impl Fleet {
    /// How much was run, in words.
    fn runs(&self) -> String {
        let seeds = if self.seeds.count == 1 { "seed" } else { "seeds" };
        format!(
            "{} requests a run, {} {seeds} from {}",
            self.requests, self.seeds.count, self.seeds.first
        )
    }

    fn count(&self) -> Cell {
        u64::from(self.seeds.count).into()
    }
}

/// The speeds of a fleet of servers.
#[derive(Clone, Debug, PartialEq)]
pub struct Speeds {
    cycle: Vec<f64>,
}

impl Speeds {
    /// All servers at speed 1.
    #[must_use]
    pub fn equal() -> Self {
        Self { cycle: vec![1.0] }
    }

    /// Half of the servers at speed 0.5, half at 1.5.
    #[must_use]
    pub fn mixed() -> Self {
        Self {
            cycle: vec![0.5, 1.5],
        }
    }

    /// Whether all servers are as fast.
    #[must_use]
    pub fn are_equal(&self) -> bool {
        self.cycle.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// The speeds of so many servers.
    #[must_use]
    pub fn of(&self, servers: usize) -> Vec<f64> {
        self.cycle.iter().copied().cycle().take(servers).collect()
    }

    /// Weighted rotation is stable below 1; 0.9 for equal servers, 0.7 for others, which leaves policies that know
    /// nothing of speed a chance.
    #[must_use]
    pub fn usual_load(&self) -> f64 {
        if self.are_equal() { 0.9 } else { 0.7 }
    }
}

impl fmt::Display for Speeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::equal() {
            return f.pad("equal");
        }
        if *self == Self::mixed() {
            return f.pad("mixed");
        }
        let speeds: Vec<String> = self.cycle.iter().map(ToString::to_string).collect();
        f.pad(&speeds.join(":"))
    }
}

impl FromStr for Speeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "equal" => return Ok(Self::equal()),
            "mixed" => return Ok(Self::mixed()),
            _ => {}
        }
        let cycle: Result<Vec<f64>, _> = text.split(':').map(str::parse).collect();
        cycle
            .ok()
            .filter(|cycle| cycle.iter().all(|speed| (0.01..=100.0).contains(speed)))
            .map(|cycle| Self { cycle })
            .ok_or_else(|| {
                format!(
                    "'{text}' are no speeds; there are: equal, mixed (half 0.5, half 1.5), or your own from 0.01 to \
                     100 with colons, such as 0.5:1:2, repeated for all servers"
                )
            })
    }
}

/// The best of `d` at random; of one, a random one.
fn best_of(d: u8, by: By) -> Policy {
    if d == 1 {
        Policy::of("random", || Random)
            .without_reports()
            .without_latency()
    } else {
        Policy::of("choices", move || Choices::new(d, by)).without_latency()
    }
}

/// The share of requests to discard: a quarter, so that queues that begin empty have grown to their length.
const WARM_UP: f64 = 0.25;

/// The names of those that exist only to be compared with.
fn references(policies: &[Policy]) -> Vec<String> {
    let references = policies.iter().filter(|policy| policy.is_reference());
    references.map(|policy| policy.name().to_owned()).collect()
}

fn base(requests: u64) -> Scenario {
    Scenario {
        requests,
        warm_up: WARM_UP,
        ..Scenario::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_have_names() {
        for name in ["equal", "mixed", "0.5:1:2"] {
            assert_eq!(name.parse::<Speeds>().unwrap().to_string(), name);
        }
        assert_eq!(Speeds::mixed().of(3), [0.5, 1.5, 0.5]);
        for wrong in ["fast", "1:", "0:1", "-1", "nan"] {
            assert!(
                wrong.parse::<Speeds>().unwrap_err().contains("there are: equal"),
                "{wrong}"
            );
        }
    }
}
