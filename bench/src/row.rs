//! What came out: one row for each strategy and size.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cases::Case;
use crate::measure::{Plan, contest};

/// Ours may take this much longer than the kernel.
const RATIO_BAR: f64 = 1.5;

/// Picks during which allocations are counted.
const COUNTED: usize = 2_048;

/// The figures of one strategy at one size.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The strategy.
    pub strategy: &'static str,
    /// Endpoints to pick from.
    pub n: usize,
    /// Nanoseconds per pick of ours.
    pub ours_ns: f64,
    /// Of the kernel.
    pub kernel_ns: f64,
    /// Ours by the kernel's.
    pub ratio: f64,
    /// Allocations during 2048 of our picks.
    pub allocs: u64,
    /// Nanoseconds per pick of the peers, by crate, version and type.
    pub peers: BTreeMap<String, f64>,
}

impl Row {
    /// Measures a case.
    #[must_use]
    pub fn measure(case: &Case, n: usize, keys: &[u64], plan: Plan) -> Self {
        let mut contenders = case.contenders(n);
        let figures = contest(&mut contenders, keys, plan);
        let (ours_ns, kernel_ns) = (figures[0], figures[1]);
        let peers = contenders[2..].iter().zip(&figures[2..]);
        Self {
            strategy: case.name,
            n,
            ours_ns: rounded(ours_ns),
            kernel_ns: rounded(kernel_ns),
            ratio: rounded(ours_ns / kernel_ns),
            peers: peers
                .map(|(peer, &ns)| (peer.label().to_owned(), rounded(ns)))
                .collect(),
            allocs: contenders[0].allocations(&keys[..keys.len().min(COUNTED)]),
        }
    }

    /// The fastest peer.
    #[must_use]
    pub fn best_peer(&self) -> Option<(&str, f64)> {
        let peers = self.peers.iter().map(|(label, &ns)| (label.as_str(), ns));
        peers.min_by(|one, other| one.1.total_cmp(&other.1))
    }

    /// The bars that it does not reach, one sentence each.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let Self {
            strategy, n, ours_ns, ..
        } = self;
        let mut violations = Vec::new();
        if self.ratio > RATIO_BAR {
            let (ratio, kernel_ns) = (self.ratio, self.kernel_ns);
            violations.push(format!(
                "{strategy}, n = {n}: {ratio:.2} times the kernel ({ours_ns:.1} ns, not {kernel_ns:.1})"
            ));
        }
        if self.allocs > 0 {
            violations.push(format!("{strategy}, n = {n}: {} allocations", self.allocs));
        }
        for (peer, ns) in self.peers.iter().filter(|&(_, ns)| ns <= ours_ns) {
            violations.push(format!(
                "{strategy}, n = {n}: {peer} takes {ns:.1} ns, ours {ours_ns:.1}"
            ));
        }
        violations
    }
}

/// To hundredths: more would be noise.
pub(crate) fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_is_checked() {
        let row = Row {
            strategy: "random",
            n: 3,
            ours_ns: 10.0,
            kernel_ns: 9.0,
            ratio: 1.11,
            allocs: 0,
            peers: BTreeMap::from([("slow 1.0.0".to_owned(), 11.0)]),
        };
        assert_eq!(row.violations(), [""; 0]);
        let peers = BTreeMap::from([("slow 1.0.0".to_owned(), 11.0), ("quick 0.1.0".to_owned(), 2.0)]);
        let bad = Row {
            ratio: 1.51,
            allocs: 1,
            peers,
            ..row
        };
        assert_eq!(bad.violations().len(), 3);
        assert_eq!(bad.best_peer(), Some(("quick 0.1.0", 2.0)));
    }
}
