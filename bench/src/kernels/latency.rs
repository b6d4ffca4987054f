//! Latency: the better of two by latency and requests in flight, the fastest that is not hot.

use lb_core::rng::Sfc32;

use super::load::InFlight;
use super::{below, kernel, two_below};
use crate::input::{latency_us, report};
use crate::measure::Contender;

/// Two draws, two latencies as they stand now, each times its requests in flight with the new one, a comparison;
/// and the two counters of the request that begins and the one that ends.
#[must_use]
pub fn choices(n: usize) -> Contender {
    let latencies: Vec<u32> = (0..n).map(latency_us).collect();
    let (mut fleet, mut rng) = (InFlight::new(n), Sfc32::new(1));
    kernel(move |key| {
        let cost = |slot: usize| u64::from(latencies[slot]) * u64::from(fleet.own[slot] + 1);
        let (one, other) = two_below(&mut rng, n);
        let slot = if cost(other) < cost(one) { other } else { one };
        fleet.send(key, slot)
    })
}

/// Endpoints that Prequal's rule compares.
const PROBES: usize = 16;

/// How often one of them is used before another takes its place.
const REUSE: u8 = 2;

/// Two draws, each in place of the oldest of sixteen unless it is among them; sixteen loads and latencies; the fastest
/// with at most ten below it in load, by a scan for the lowest, a count, and both again while it is hot; its uses; and
/// the two counters of the request that begins and the one that ends.
#[must_use]
pub fn hot_cold(n: usize) -> Contender {
    // What it adds to ours in flight, and its latency.
    let reports: Vec<(i32, u32)> = (0..n)
        .map(|slot| (i32::from(report(slot).in_flight) - 2, latency_us(slot)))
        .collect();
    let (mut fleet, mut rng, mut probes) = (InFlight::new(n), Sfc32::new(1), Probes::default());
    kernel(move |key| {
        for _ in 0..2 {
            probes.join(below(&mut rng, n) as u16);
        }
        let (mut loads, mut costs) = ([i32::MAX; PROBES], [u64::MAX; PROBES]);
        for (index, &slot) in probes.slots.iter().enumerate().take(probes.known) {
            let (base, latency) = reports[usize::from(slot)];
            loads[index] = base + fleet.own[usize::from(slot)] as i32;
            costs[index] = u64::from(latency) << 8 | index as u64;
        }
        let limit = (probes.known - 1) * 160 / 255;
        let best = loop {
            let lowest = costs.iter().copied().fold(u64::MAX, u64::min);
            let best = (lowest as usize) % PROBES;
            let fewer: usize = loads.iter().map(|&load| usize::from(load < loads[best])).sum();
            if fewer <= limit {
                break best;
            }
            costs[best] = u64::MAX;
        };
        let slot = usize::from(probes.slots[best]);
        probes.used(best);
        fleet.send(key, slot)
    })
}

#[derive(Default)]
struct Probes {
    slots: [u16; PROBES],
    uses: [u8; PROBES],
    known: usize,
    oldest: usize,
}

impl Probes {
    fn join(&mut self, slot: u16) {
        let known = &self.slots[..self.known];
        if known.iter().fold(false, |found, &there| found | (there == slot)) {
            return;
        }
        let place = if self.known < PROBES {
            self.known += 1;
            self.known - 1
        } else {
            self.oldest = (self.oldest + 1) % PROBES;
            self.oldest
        };
        (self.slots[place], self.uses[place]) = (slot, 0);
    }

    /// Whoever is used up makes room at once, unless it is the last.
    fn used(&mut self, index: usize) {
        self.uses[index] += 1;
        if self.uses[index] == REUSE && self.known > 1 {
            self.known -= 1;
            self.slots[index] = self.slots[self.known];
            self.uses[index] = self.uses[self.known];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_different_and_make_room() {
        let mut probes = Probes::default();
        for slot in [4, 4, 7, 4, 9] {
            probes.join(slot);
        }
        assert_eq!(probes.slots[..probes.known], [4, 7, 9]);
        probes.used(0);
        probes.used(0);
        assert_eq!(probes.slots[..probes.known], [9, 7]);
    }
}
