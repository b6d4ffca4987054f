//! What the demo found out: as text for people, as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;

use lb_tokio::ClusterStatus;
use serde::Serialize;
use std::time::Duration;

use crate::units::{bytes, grouped, plural, span};

/// The result. Everything is counted while the demo runs, nothing computed from its settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) strategy: String,
    pub(crate) workers: u32,
    pub(crate) concurrency: u16,
    pub(crate) chunk_bytes: usize,
    pub(crate) input_files: usize,
    pub(crate) input_bytes: u64,
    pub(crate) skipped_files: usize,
    /// How many times the whole input was sent.
    pub(crate) passes: u64,
    /// How long the load was up.
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    /// Picks beyond the first of each request: attempts at another worker.
    pub(crate) retries: u64,
    pub(crate) verified_bytes: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    pub(crate) picks: BTreeMap<u32, u64>,
    pub(crate) balance_messages: u64,
    pub(crate) control_messages_per_node_per_s: f64,
    pub(crate) killed: Option<u32>,
    pub(crate) in_flight_when_killed: Option<u32>,
    pub(crate) failed_detected_ms: Option<f64>,
    pub(crate) rejoined_ms: Option<f64>,
    pub(crate) epoch_before: Option<u32>,
    pub(crate) epoch_after: Option<u32>,
    /// What went wrong; empty if all is well.
    pub(crate) problems: Vec<String>,
}

impl Report {
    pub(crate) fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Milliseconds to a tenth.
pub(crate) fn millis(span: Duration) -> f64 {
    rounded(span.as_secs_f64() * 1e3, 1)
}

pub(crate) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

/// Lines end before this column.
const LINE_MAX: usize = 80;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |millis: f64| span(Duration::from_secs_f64(millis / 1e3));
        let micros = |micros: u64| span(Duration::from_micros(micros));
        let again = match self.passes {
            0 | 1 => String::new(),
            passes => format!(", {} times over", grouped(passes)),
        };
        writeln!(
            f,
            "verified   {} of {} ({}{again}) in {}",
            bytes(self.verified_bytes),
            plural(self.input_files as u64, "file"),
            bytes(self.input_bytes),
            span(Duration::from_secs_f64(self.seconds))
        )?;
        writeln!(
            f,
            "requests   {} answered, {} failed, {} on another worker",
            grouped(self.ok),
            grouped(self.failed),
            plural(self.retries, "retry").replace("retrys", "retries")
        )?;
        writeln!(
            f,
            "latency    half within {}, 99 % within {}, all within {}",
            micros(self.p50_us),
            micros(self.p99_us),
            micros(self.max_us)
        )?;
        let total: u64 = self.picks.values().sum();
        let shares = self.picks.iter().map(|(id, count)| {
            let share = *count as f64 * 100.0 / total.max(1) as f64;
            format!("{id}: {share:.1} %")
        });
        let mut line = format!("picks      {} by {}: worker", grouped(total), self.strategy);
        for (index, share) in shares.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if line.len() + comma.len() + 1 + share.len() >= LINE_MAX {
                writeln!(f, "{line}{comma}")?;
                line = " ".repeat(10) + " " + &share;
            } else {
                line.extend([comma, " ", &share]);
            }
        }
        writeln!(f, "{line}")?;
        if let (Some(id), Some(in_flight)) = (self.killed, self.in_flight_when_killed) {
            let detected = self
                .failed_detected_ms
                .map_or("never called FAILED".to_owned(), |ms| {
                    format!("FAILED after {}", time(ms))
                });
            writeln!(
                f,
                "failure    worker {id} killed with {} in flight, {detected}",
                plural(in_flight.into(), "request")
            )?;
            let back = match (self.rejoined_ms, self.epoch_before, self.epoch_after) {
                (Some(ms), Some(before), Some(after)) => {
                    format!("back {} after its restart, epoch {before} -> {after}", time(ms))
                }
                _ => "not back".to_owned(),
            };
            writeln!(f, "return     {back}")?;
        }
        writeln!(
            f,
            "messages   {} for balancing; {:.2} control messages per node and second",
            self.balance_messages, self.control_messages_per_node_per_s
        )
    }
}

/// A node's counts of messages, at some time after its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) uptime_ms: u64,
    pub(crate) messages: u64,
    pub(crate) balance: u64,
}

impl From<&ClusterStatus> for Reading {
    fn from(status: &ClusterStatus) -> Self {
        Self {
            uptime_ms: status.uptime_ms,
            messages: status.control.messages_sent,
            balance: status.control.balance_messages,
        }
    }
}

/// Control messages per node and second, over all lives of all nodes.
///
/// A life that was there when the measurement began counts from then on, a later one from its start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    lives: BTreeMap<(u32, u32), (Reading, Reading)>,
}

impl Meter {
    /// The first reading of a life that is there already.
    pub(crate) fn begin(&mut self, id: u32, epoch: u32, reading: Reading) {
        self.lives.insert((id, epoch), (reading, reading));
    }

    pub(crate) fn update(&mut self, id: u32, epoch: u32, reading: Reading) {
        let life = self.lives.entry((id, epoch)).or_default();
        // An answer that was overtaken by a later one brings nothing.
        if reading.uptime_ms >= life.1.uptime_ms {
            life.1 = reading;
        }
    }

    pub(crate) fn messages_per_node_per_s(&self) -> f64 {
        let (mut messages, mut millis) = (0, 0);
        for (first, last) in self.lives.values() {
            messages += last.messages.saturating_sub(first.messages);
            millis += last.uptime_ms.saturating_sub(first.uptime_ms);
        }
        if millis == 0 {
            return 0.0;
        }
        messages as f64 * 1e3 / millis as f64
    }

    /// Messages that were neither calls nor control messages nor probes, since the nodes' start.
    pub(crate) fn balance_messages(&self) -> u64 {
        self.lives.values().map(|(_, last)| last.balance).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(uptime_ms: u64, messages: u64, balance: u64) -> Reading {
        Reading {
            uptime_ms,
            messages,
            balance,
        }
    }

    #[test]
    fn control_messages_are_counted_from_formation_and_over_lives() {
        let mut meter = Meter::default();
        assert_eq!(meter.messages_per_node_per_s(), 0.0);
        meter.begin(1, 10, reading(1_000, 50, 0));
        meter.begin(2, 10, reading(1_000, 40, 0));
        meter.update(1, 10, reading(11_000, 60, 0));
        meter.update(2, 10, reading(3_000, 42, 1));
        meter.update(2, 10, reading(2_000, 41, 0));
        // Node 2 was killed; its next life counts from its start.
        meter.update(2, 11, reading(8_000, 12, 2));
        let expected = f64::from(10 + 2 + 12) / f64::from(10 + 2 + 8);
        assert!((meter.messages_per_node_per_s() - expected).abs() < 1e-9);
        assert_eq!(meter.balance_messages(), 3);
    }

    fn report() -> Report {
        Report {
            strategy: "corrected".into(),
            workers: 3,
            concurrency: 32,
            chunk_bytes: 65_536,
            input_files: 61,
            input_bytes: 593_920,
            passes: 2_143,
            seconds: 25.04,
            requests: 18_234,
            ok: 18_234,
            retries: 11,
            verified_bytes: 1_288_490_188,
            p50_us: 1_234,
            p99_us: 4_321,
            max_us: 2_100_000,
            picks: [(1, 8_000), (2, 2_245), (3, 8_000)].into(),
            control_messages_per_node_per_s: 0.8,
            killed: Some(2),
            in_flight_when_killed: Some(11),
            failed_detected_ms: Some(20_050.5),
            rejoined_ms: Some(640.0),
            epoch_before: Some(1_795_250_000),
            epoch_after: Some(1_795_250_023),
            ..Report::default()
        }
    }

    #[test]
    fn the_text_has_every_figure_and_fits() {
        let text = report().to_string();
        for part in [
            "1.2 GiB of 61 files (580 KiB, 2,143 times over) in 25.0 s",
            "18,234 answered, 0 failed, 11 retries on another worker",
            "half within 1.2 ms, 99 % within 4.3 ms, all within 2.1 s",
            "18,245 by corrected: worker 1: 43.8 %, 2: 12.3 %, 3: 43.8 %",
            "worker 2 killed with 11 requests in flight, FAILED after 20.1 s",
            "back 640 ms after its restart, epoch 1795250000 -> 1795250023",
            "0 for balancing; 0.80 control messages per node and second",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

        let many = Report {
            picks: (1..=16).map(|id| (id, 1_000)).collect(),
            ..report()
        };
        let text = many.to_string();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(
            text.contains(",\n           ") && text.contains("16: 6.2 %"),
            "{text}"
        );

        let worse = Report {
            failed_detected_ms: None,
            rejoined_ms: None,
            retries: 1,
            ..report()
        };
        let text = worse.to_string();
        assert!(
            text.contains("never called FAILED") && text.contains("not back"),
            "{text}"
        );
        assert!(text.contains("1 retry on"), "{text}");
    }

    #[test]
    fn json_has_the_documented_fields() {
        let value = serde_json::to_value(report()).unwrap();
        for field in [
            "requests",
            "ok",
            "failed",
            "verified_bytes",
            "p50_us",
            "p99_us",
            "picks",
            "balance_messages",
            "control_messages_per_node_per_s",
            "killed",
            "failed_detected_ms",
            "rejoined_ms",
            "strategy",
            "seconds",
            "workers",
            "retries",
            "epoch_before",
            "epoch_after",
            "problems",
        ] {
            assert!(!value[field].is_null(), "{field} is missing");
        }
        assert_eq!(value["picks"]["2"], 2_245);
        assert_eq!(value["killed"], 2);
        assert!(serde_json::to_value(Report::default()).unwrap()["killed"].is_null());
    }

    #[test]
    fn rounding() {
        assert_eq!(millis(Duration::from_micros(20_050_512)), 20_050.5);
        assert_eq!(rounded(0.79999, 3), 0.8);
    }
}
