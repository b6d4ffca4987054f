//! Policies that exist only to be compared with: what others do, and what nobody could know.

use lb_core::Duration;
use lb_core::load::Ended;
use lb_core::pick::{Pool, Strategy};
use lb_core::rng::{Rng, Sfc32};

use crate::policy::Picker;
use crate::view::View;

/// The server with the fewest requests in its last report, per unit of capacity; ties at random. What herds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeastReported;

/// The reported requests and one more, per unit of capacity. A server without a report counts as idle.
fn reported<P: Pool + ?Sized>(pool: &P, slot: usize) -> f64 {
    pool.load(slot).report.map_or(0.0, |report| {
        (f64::from(report.in_flight) + 1.0) / f64::from(report.capacity.max(1))
    })
}

/// The admitted server of the lowest cost; ties at random.
fn least<P: Pool + ?Sized, R: Rng + ?Sized>(
    pool: &P,
    rng: &mut R,
    mut cost: impl FnMut(usize) -> f64,
) -> Option<usize> {
    let (mut best, mut lowest, mut ties) = (None, f64::INFINITY, 0);
    for slot in pool.slots().filter(|&slot| pool.admits(slot)) {
        let cost = cost(slot);
        if cost < lowest {
            (best, lowest, ties) = (Some(slot), cost, 1);
        } else if cost == lowest {
            ties += 1;
            if rng.below(ties) == 0 {
                best = Some(slot);
            }
        }
    }
    best
}

impl Strategy for LeastReported {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        least(pool, rng, |slot| reported(pool, slot))
    }
}

/// The server with the lowest corrected estimate, which may be negative; ties at random.
///
/// A server that has answered requests of ours since its report is thus told apart from one that reported idle, and
/// clients that see the same do not turn to the same server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Delta;

impl Strategy for Delta {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        least(pool, rng, |slot| {
            let load = pool.load(slot);
            let report = load.report.unwrap_or_default();
            let since = f64::from(load.own_in_flight) - f64::from(load.own_at_report);
            let estimate = f64::from(report.in_flight) + f64::from(report.clients.max(1)) * since;
            (estimate + 1.0) / f64::from(report.capacity.max(1))
        })
    }
}

/// The server with the fewest requests of our own in flight; ties at random.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LeastOwn;

impl Strategy for LeastOwn {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        least(pool, rng, |slot| f64::from(pool.own_in_flight(slot)))
    }
}

/// The server whose answers came fastest, errors among them, times the requests there: the rule that a server that fails
/// at once deceives.
#[derive(Clone, Debug, Default)]
pub(crate) struct FastestOwn {
    /// Smoothed by an eighth, in microseconds.
    latency: Vec<f64>,
}

impl Picker for FastestOwn {
    fn choose(&mut self, view: &View<'_>, _key: Option<u64>, rng: &mut Sfc32) -> Option<usize> {
        least(view, rng, |slot| {
            let latency = self.latency.get(slot).copied().unwrap_or(0.0);
            latency * (f64::from(view.own_in_flight(slot)) + 1.0)
        })
    }

    fn ended(&mut self, server: usize, after: Duration, _: Ended) {
        if server >= self.latency.len() {
            self.latency.resize(server + 1, 0.0);
        }
        let latency = &mut self.latency[server];
        *latency += (after.as_micros() as f64 - *latency) / 8.0;
    }
}

/// Smooth weighted round robin (nginx's sequence) by the true speeds, from a random start: the best that can be done
/// without any news of load.
#[derive(Clone, Debug)]
pub(crate) struct WeightedRotation {
    speeds: Vec<f64>,
    credit: Vec<f64>,
}

impl WeightedRotation {
    pub(crate) fn new(speeds: &[f64]) -> Self {
        Self {
            speeds: speeds.to_vec(),
            credit: Vec::new(),
        }
    }
}

impl Picker for WeightedRotation {
    fn choose(&mut self, view: &View<'_>, _key: Option<u64>, rng: &mut Sfc32) -> Option<usize> {
        if self.credit.is_empty() {
            let phase = || f64::from(rng.next_u32()) / f64::from(u32::MAX);
            self.credit = std::iter::repeat_with(phase).take(self.speeds.len()).collect();
            for (credit, speed) in self.credit.iter_mut().zip(&self.speeds) {
                *credit *= speed * self.speeds.len() as f64;
            }
        }
        let mut best = None;
        let (mut most, mut total) = (f64::NEG_INFINITY, 0.0);
        for slot in view.slots().filter(|&slot| view.admits(slot)) {
            let credit = &mut self.credit[slot];
            *credit += self.speeds[slot];
            total += self.speeds[slot];
            if *credit > most {
                (best, most) = (Some(slot), *credit);
            }
        }
        self.credit[best?] -= total;
        best
    }
}
