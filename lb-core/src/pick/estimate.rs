//! The corrected estimate of a load; its formula is in [`super::Corrected`].

use super::Load;
use crate::load::LoadFigures;

/// What is assumed of a slot that does not report: the means of those that do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neutral {
    in_flight: u32,
    capacity: u32,
    clients: u32,
}

impl Neutral {
    /// The means of these reports.
    pub(super) fn of(given: impl Iterator<Item = LoadFigures>) -> Self {
        let (mut reports, mut stated) = (0_u32, 0_u32);
        let (mut in_flight, mut capacity, mut clients) = (0_u32, 0_u32, 0_u32);
        for report in given {
            reports = reports.saturating_add(1);
            stated = stated.saturating_add(u32::from(report.capacity > 0));
            in_flight = in_flight.saturating_add(u32::from(report.in_flight));
            capacity = capacity.saturating_add(u32::from(report.capacity));
            clients = clients.saturating_add(u32::from(report.clients.max(1)));
        }
        let mean = |sum: u32, count: u32| sum.checked_div(count).unwrap_or(0);
        Self {
            in_flight: mean(in_flight, reports),
            capacity: mean(capacity, stated).max(1),
            clients: mean(clients, reports).max(1),
        }
    }

    /// What is there now, judging by the report and by what we did since.
    #[inline]
    pub(super) fn estimate(&self, load: &Load) -> Estimate {
        let (in_flight, at_report, clients, capacity) = match load.report {
            Some(report) => (
                u32::from(report.in_flight),
                load.own_at_report,
                u32::from(report.clients.max(1)),
                if report.capacity == 0 {
                    self.capacity
                } else {
                    u32::from(report.capacity)
                },
            ),
            None => (self.in_flight, 0, self.clients, self.capacity),
        };
        Estimate {
            in_flight: corrected(in_flight, clients, load.own_in_flight, at_report),
            capacity,
        }
    }
}

/// `in_flight + clients * (own - at_report)`, which may be negative.
///
/// Exact in 64 bits, as a client count has 16, and then the nearest of 32.
#[inline]
pub(super) fn corrected(in_flight: u32, clients: u32, own: u32, at_report: u32) -> i32 {
    let since = i64::from(own).wrapping_sub(i64::from(at_report));
    let change = since.wrapping_mul(i64::from(clients));
    let estimate = change.wrapping_add(i64::from(in_flight));
    estimate.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
}

/// Ordered by `(in_flight + 1) / capacity`, compared without division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Estimate {
    /// Requests there now; negative where more of ours ended than the report explains.
    pub(super) in_flight: i32,
    /// As stated, or the mean of those stated; at least 1.
    pub(super) capacity: u32,
}

impl Ord for Estimate {
    #[inline]
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        // 33 bits with the sign, times 32: nothing wraps.
        let cross = |a: &Self, b: &Self| {
            i64::from(a.in_flight)
                .wrapping_add(1)
                .wrapping_mul(i64::from(b.capacity))
        };
        cross(self, other).cmp(&cross(other, self))
    }
}

impl PartialOrd for Estimate {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
