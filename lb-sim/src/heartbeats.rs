//! Whose report is next.

use crate::random::Source;
use crate::scenario::Scenario;

/// Which server's heartbeat is next: they follow one another in the same order in every period.
pub(crate) struct Heartbeats {
    period: f64,
    phases: Vec<(f64, usize)>,
    round: f64,
    index: usize,
    /// When the next one is; infinity: nobody listens.
    pub(crate) at: f64,
}

impl Heartbeats {
    pub(crate) fn new(scenario: &Scenario, listens: bool, source: &mut Source) -> Self {
        let period = scenario.reports.period;
        let mut phases: Vec<(f64, usize)> = (0..scenario.speeds.len())
            .map(|server| {
                let phase = source.uniform() * period;
                (if scenario.reports.synchronised { 0.0 } else { phase }, server)
            })
            .collect();
        phases.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let first = phases.first().map_or(f64::INFINITY, |(phase, _)| *phase);
        Self {
            period,
            at: if listens && period > 0.0 {
                first
            } else {
                f64::INFINITY
            },
            phases,
            round: 0.0,
            index: 0,
        }
    }

    /// When and whose it is, and on to the next.
    pub(crate) fn next(&mut self) -> (f64, usize) {
        let now = (self.at, self.phases[self.index].1);
        self.index += 1;
        if self.index == self.phases.len() {
            self.index = 0;
            self.round += 1.0;
        }
        self.at = self.round * self.period + self.phases[self.index].0;
        now
    }
}
