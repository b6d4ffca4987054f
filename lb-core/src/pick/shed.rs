//! Why nothing was picked, and what cannot be answered in time.

use core::fmt;

use super::Load;
use super::estimate::corrected;

/// Nobody could be picked. No state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PickError {
    /// No worker is known that is alive and takes requests.
    NoWorkers,
    /// There are workers, but none with matching tags.
    NoMatch,
    /// Every matching worker was tried already.
    AllTried,
    /// Every matching worker that was not tried is full.
    AllAtCapacity,
    /// Every matching worker that has a place would answer too late.
    TooLate,
}

impl PickError {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::NoWorkers,
        Self::NoMatch,
        Self::AllTried,
        Self::AllAtCapacity,
        Self::TooLate,
    ];
}

impl fmt::Display for PickError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoWorkers => "no workers: none is alive and open; start one or check the seeds",
            Self::NoMatch => "no worker matches the filter: check the tags of the workers",
            Self::AllTried => "every matching worker was tried already",
            Self::AllAtCapacity => "all matching workers are at capacity: retry later or add workers",
            Self::TooLate => {
                "no matching worker would answer within the deadline: allow more time or add workers"
            }
        })
    }
}

impl core::error::Error for PickError {}

/// What was found among the workers, each implying those before it. The first that is missing is the reason.
///
/// ```
/// use lb_core::pick::{Found, PickError};
///
/// let found = Found { workers: true, matching: true, untried: true, ..Found::default() };
/// assert_eq!(found.missing(), PickError::AllAtCapacity);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Found {
    /// One that is alive and takes requests.
    pub workers: bool,
    /// One of them that matches.
    pub matching: bool,
    /// One of them that was not tried.
    pub untried: bool,
    /// One of them that has a place.
    pub open: bool,
}

impl Found {
    /// Why nothing was picked.
    #[must_use]
    pub const fn missing(self) -> PickError {
        match self {
            Self { workers: false, .. } => PickError::NoWorkers,
            Self { matching: false, .. } => PickError::NoMatch,
            Self { untried: false, .. } => PickError::AllTried,
            Self { open: false, .. } => PickError::AllAtCapacity,
            _ => PickError::TooLate,
        }
    }
}

/// How long a request sent there now would take until its answer, in microseconds: the wait for a place behind what is
/// there by the corrected estimate, and the service time. 0 when the endpoint does not report both capacity and latency:
/// nothing speaks against it.
///
/// ```text
/// wait = max(0, estimate + 1 - capacity) * latency / capacity
/// ```
///
/// What is longer than the time a request has left is better shed at once than served for nobody:
///
/// ```
/// use lb_core::load::LoadFigures;
/// use lb_core::pick::{Load, Pool, Random, SlicePool, Strategy, Without, answer_us};
/// use lb_core::rng::Sfc32;
///
/// let report = |in_flight| Load {
///     report: Some(LoadFigures { in_flight, capacity: 10, latency_us: 5_000, ..LoadFigures::default() }),
///     ..Load::default()
/// };
/// let pool = SlicePool {
///     candidates: &[0, 1],
///     admitted: &[0b11],
///     loads: &[report(49), report(9)],
///     ..SlicePool::default()
/// };
/// let (busy, idle) = (answer_us(&pool.load(0)), answer_us(&pool.load(1)));
/// assert_eq!((busy, idle), (25_000, 5_000), "40 requests ahead, ten at once");
/// let in_time = Without::new(&pool, |slot| answer_us(&pool.load(slot)) > 10_000);
/// assert_eq!(Random.pick(&in_time, None, &mut Sfc32::new(1)), Some(1));
/// ```
#[must_use]
pub fn answer_us(load: &Load) -> u32 {
    let Some(report) = load.report else { return 0 };
    if report.capacity == 0 || report.latency_us == 0 {
        return 0;
    }
    let clients = u32::from(report.clients.max(1));
    let estimate = corrected(
        report.in_flight.into(),
        clients,
        load.own_in_flight,
        load.own_at_report,
    );
    let there = u32::try_from(estimate).unwrap_or(0).max(load.own_in_flight);
    let capacity = u32::from(report.capacity);
    let ahead = there.saturating_add(1).saturating_sub(capacity);
    // The ratio in two steps, so that neither needs 64 bits: whole rounds, and the rest of one in 65 536ths.
    let rounds = ahead.checked_div(capacity).unwrap_or(0);
    let rest = ahead.checked_rem(capacity).unwrap_or(0);
    let part = (rest << 16).checked_div(capacity).unwrap_or(0);
    let latency = u64::from(report.latency_us);
    let wait = latency
        .saturating_mul(rounds.into())
        .saturating_add(latency.saturating_mul(part.into()) >> 16);
    u32::try_from(wait.saturating_add(latency)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::LoadFigures;

    fn load(in_flight: u16, capacity: u16, latency_us: u32, clients: u16) -> Load {
        Load {
            report: Some(LoadFigures {
                in_flight,
                capacity,
                clients,
                latency_us,
                ..LoadFigures::default()
            }),
            ..Load::default()
        }
    }

    #[test]
    fn the_wait_counts_what_we_sent_since() {
        let mut load = load(8, 8, 1_000, 3);
        assert_eq!(answer_us(&load), 1_125, "one ahead of eight places");
        load.own_in_flight = 10;
        assert_eq!(
            answer_us(&load),
            1_000 + 31 * 125,
            "38 there, for all three clients"
        );
        load.own_at_report = 10;
        assert_eq!(answer_us(&load), 1_375, "at least our own");
    }

    #[test]
    fn what_is_not_known_does_not_speak_against_anyone() {
        assert_eq!(answer_us(&Load::default()), 0);
        assert_eq!(answer_us(&load(50, 0, 1_000, 1)), 0);
        assert_eq!(answer_us(&load(50, 5, 0, 1)), 0);
        let mut most = load(u16::MAX, 1, u32::MAX, u16::MAX);
        most.own_in_flight = u32::MAX;
        assert_eq!(answer_us(&most), u32::MAX);
        assert_eq!(answer_us(&load(u16::MAX, u16::MAX, 70_000, 1)), 70_001);
    }

    #[test]
    fn reasons_come_in_order_and_say_what_to_do() {
        let mut found = Found::default();
        let mut reasons = std::vec![found.missing()];
        found.workers = true;
        reasons.push(found.missing());
        found.matching = true;
        reasons.push(found.missing());
        found.untried = true;
        reasons.push(found.missing());
        found.open = true;
        reasons.push(found.missing());
        assert_eq!(reasons, PickError::ALL);
        let texts: std::collections::HashSet<_> =
            reasons.iter().map(std::string::ToString::to_string).collect();
        assert_eq!(texts.len(), PickError::ALL.len());
    }
}
