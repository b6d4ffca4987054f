//! What came of a run.

use crate::histogram::Histogram;
use crate::scenario::Scenario;
use crate::watch::Seen;

/// What came of one run of a [`Scenario`](crate::Scenario).
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Time from sending a request to its response, of those that were counted and answered.
    pub latency: Histogram,
    /// Requests that were sent, counted or not.
    pub arrived: u64,
    /// Of those, answered.
    pub completed: u64,
    /// Of those, failed: the server was broken or died, or nobody could be picked.
    pub failed: u64,
    /// Of those, never answered: their servers stood still at the end.
    pub left: u64,
    /// Counted requests that failed.
    pub counted_failed: u64,
    /// Counted requests that were answered after the deadline.
    pub counted_late: u64,
    /// Requests sent to each server, of those that were counted.
    pub sent: Vec<u64>,
    /// When the last request arrived.
    pub last_arrival: f64,
    /// Counted requests by the zone they came from, then by that they were sent to.
    pub flows: Vec<Vec<u64>>,
    /// What was seen of the [watched](crate::Watch) server, span by span.
    pub seen: Vec<Seen>,
}

impl Outcome {
    /// Nothing has happened yet.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let zones = scenario.placing.zones();
        Self {
            latency: Histogram::new(),
            arrived: 0,
            completed: 0,
            failed: 0,
            left: 0,
            counted_failed: 0,
            counted_late: 0,
            sent: vec![0; scenario.speeds.len()],
            last_arrival: 0.0,
            flows: vec![vec![0; zones]; zones],
            seen: vec![Seen::default(); scenario.watch.map_or(0, |watch| watch.spans)],
        }
    }

    /// The share of the counted requests that each server got.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let total = self.sent.iter().sum::<u64>().max(1) as f64;
        self.sent.iter().map(|&sent| sent as f64 / total).collect()
    }

    /// The share of the counted requests that failed.
    #[must_use]
    pub fn failure_rate(&self) -> f64 {
        self.counted_failed as f64 / (self.latency.count() + self.counted_failed).max(1) as f64
    }

    /// The share of the counted requests that failed or came after the deadline.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        (self.counted_failed + self.counted_late) as f64
            / (self.latency.count() + self.counted_failed).max(1) as f64
    }
}

/// A mean over runs with different seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half the width of its 95 % confidence interval (Student's t); infinite with fewer than two runs.
    pub margin: f64,
}

impl Estimate {
    /// From one value for each run.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        if values.len() < 2 {
            return Self {
                mean,
                margin: f64::INFINITY,
            };
        }
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        Self {
            mean,
            margin: student_t(values.len() - 1) * (squares / (n - 1.0) / n).sqrt(),
        }
    }
}

/// The 97.5 % quantile of Student's distribution.
fn student_t(freedom: usize) -> f64 {
    const T: [f64; 15] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131,
    ];
    T.get(freedom.saturating_sub(1))
        .copied()
        // Cornish and Fisher's first term: within 0.2 % from 16 on.
        .unwrap_or_else(|| 1.96 + 2.372 / freedom as f64 + 2.82 / (freedom * freedom) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn margins_are_students() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(estimate.mean, 2.5);
        assert!((estimate.margin - 3.182 * (5.0_f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
        assert!((student_t(30) - 2.042).abs() < 0.005);
        assert!(Estimate::of(&[1.0]).margin.is_infinite());
    }
}
