//! What endpoints report: the corrected estimate, the hybrid score.

use super::kernel;
use super::load::{InFlight, lowest};
use crate::input::report;
use crate::measure::Contender;

/// A scan for the lowest of estimate times reciprocal capacity; and the two counters of the request that begins and
/// the one that ends.
///
/// The estimate is one multiplication and one addition, because what it was when the report came (in flight, less
/// ours at the time for each client) is kept.
#[must_use]
pub fn corrected(n: usize) -> Contender {
    const OWN_AT_REPORT: i32 = 2;
    let reports = (0..n).map(report);
    let clients: Vec<i32> = reports.clone().map(|report| report.clients.into()).collect();
    let bases: Vec<i32> = reports
        .clone()
        .map(|report| i32::from(report.in_flight) - i32::from(report.clients) * OWN_AT_REPORT)
        .collect();
    let reciprocals: Vec<i32> = reports
        .map(|report| i32::from(u16::MAX) / i32::from(report.capacity))
        .collect();
    let (mut fleet, mut from, mut costs) = (InFlight::new(n), 0, vec![0; n]);
    kernel(move |key| {
        let (all, bases) = (&fleet.own[..n], &bases[..n]);
        let (clients, reciprocals) = (&clients[..n], &reciprocals[..n]);
        let slot = lowest(&mut costs, from, |index| {
            let estimate = bases[index] + clients[index] * all[index] as i32;
            // Below zero where more of ours has ended than the report explains; in the order of numbers without sign.
            ((estimate + 1) * reciprocals[index]) as u32 ^ 1 << 31
        });
        from = slot + 1;
        fleet.send(key, slot)
    })
}

/// A scan for the highest rate, one division for its reciprocal, and a scan for the lowest sum of two products.
#[must_use]
pub fn hybrid(n: usize) -> Contender {
    let reports = (0..n).map(report);
    let in_flight: Vec<u32> = reports.clone().map(|report| report.in_flight.into()).collect();
    let rates: Vec<u32> = reports.clone().map(|report| report.rate_milli >> 10).collect();
    let reciprocals: Vec<u32> = reports
        .map(|report| u32::from(u16::MAX) * 7 / 10 / u32::from(report.capacity))
        .collect();
    let (mut from, mut costs) = (0, vec![0; n]);
    kernel(move |_| {
        let (in_flight, rates, reciprocals) = (&in_flight[..n], &rates[..n], &reciprocals[..n]);
        let highest = rates.iter().copied().max().unwrap_or(0);
        let by_rate = u32::from(u16::MAX) * 3 / 10 / highest.max(1);
        let slot = lowest(&mut costs, from, |index| {
            in_flight[index] * reciprocals[index] + rates[index] * by_rate
        });
        from = slot + 1;
        slot
    })
}
