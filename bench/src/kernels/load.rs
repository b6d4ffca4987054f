//! Own requests in flight: scans, choices, and lists by load.

use lb_core::rng::Sfc32;

use super::{kernel, two_below};
use crate::input::{Window, weight};
use crate::measure::Contender;

/// The counters of requests in flight, and which are.
pub(super) struct InFlight {
    pub(super) own: Vec<u32>,
    window: Window<u16>,
}

impl InFlight {
    pub(super) fn new(n: usize) -> Self {
        let mut own = vec![0; n];
        let window = Window::filled(n, |request| {
            own[request % n] += 1;
            (request % n) as u16
        });
        Self { own, window }
    }

    /// A request begins there, and another ends.
    pub(super) fn send(&mut self, key: u64, slot: usize) -> usize {
        self.own[slot] += 1;
        let ended = self.window.exchange(key, slot as u16);
        self.own[usize::from(ended)] -= 1;
        slot
    }
}

/// A scan for the lowest of words that hold a counter and, for ties, the distance from the last pick; and the two
/// counters of the request that begins and the one that ends.
#[must_use]
pub fn scan(n: usize) -> Contender {
    let (mut fleet, mut from) = (InFlight::new(n), 0_u32);
    kernel(move |key| {
        let words = fleet.own.iter().zip(0_u32..);
        let least = words
            .map(|(&own, slot)| own << 16 | (slot.wrapping_sub(from) & 0xffff))
            .min();
        let slot = least.map_or(0, |word| word.wrapping_add(from) & 0xffff);
        from = slot + 1;
        fleet.send(key, slot as usize)
    })
}

/// Two draws, two counters, a comparison; and the two counters of the request that begins and the one that ends.
#[must_use]
pub fn choices(n: usize) -> Contender {
    let (mut fleet, mut rng) = (InFlight::new(n), Sfc32::new(1));
    kernel(move |key| {
        let (one, other) = two_below(&mut rng, n);
        let slot = if fleet.own[other] < fleet.own[one] {
            other
        } else {
            one
        };
        fleet.send(key, slot)
    })
}

/// Requests in flight that [`first_fit`] allows.
pub const LIMIT: u32 = 4;

/// A scan for the first counter below the limit; and the two counters of the request that begins and the one that
/// ends. Half of the endpoints are full, and twice as many requests in flight as endpoints never fill them all.
#[must_use]
pub fn first_fit(n: usize) -> Contender {
    let mut fleet = InFlight::new(n);
    kernel(move |key| {
        let slot = fleet.own.iter().position(|&own| own < LIMIT).unwrap_or(0);
        fleet.send(key, slot)
    })
}

/// For every endpoint a reciprocal of its requests in flight from a table, times its weight, added to what it is
/// owed; the one that is owed most, which pays what all were given; and the two counters of the request that begins
/// and the one that ends.
#[must_use]
pub fn weighted(n: usize) -> Contender {
    const ACTIVE: usize = 256;
    let reciprocals: Vec<i32> = (1..=ACTIVE).map(|active| (1 << 16) / active as i32).collect();
    let weights: Vec<i32> = (0..n).map(|slot| weight(slot).into()).collect();
    let (mut fleet, mut owed) = (InFlight::new(n), vec![0_i32; n]);
    kernel(move |key| {
        let (mut sum, mut most) = (0, i32::MIN);
        for ((owed, &weight), &own) in owed.iter_mut().zip(&weights).zip(&fleet.own) {
            let share = (weight * reciprocals[own as usize % ACTIVE]) >> 8;
            sum += share;
            *owed += share;
            most = most.max(*owed);
        }
        let slot = owed.iter().position(|&owed| owed == most).unwrap_or(0);
        owed[slot] -= sum;
        fleet.send(key, slot)
    })
}

/// The index of the lowest cost; among equals, the next one from this index on. Costs are kept while they are
/// compared.
///
/// The costs and the lowest of them first, which the compiler vectorises, then where it is. A handful is faster in
/// one go, by words that hold the cost and the distance.
pub(super) fn lowest(costs: &mut [u32], from: usize, cost: impl Fn(usize) -> u32) -> usize {
    let n = costs.len();
    if n < 16 {
        let distance = |index: usize| if index < from { index + n } else { index };
        let words = (0..n).map(|index| u64::from(cost(index)) << 32 | distance(index) as u64);
        let index = words.min().map_or(0, |word| word as u32 as usize);
        return if index < n { index } else { index - n };
    }
    let mut least = u32::MAX;
    for (index, kept) in costs.iter_mut().enumerate() {
        *kept = cost(index);
        least = least.min(*kept);
    }
    let (earlier, later) = costs.split_at(from);
    let is_least = |&cost: &u32| cost == least;
    later.iter().position(is_least).map_or_else(
        || earlier.iter().position(is_least).unwrap_or(0),
        |index| from + index,
    )
}

/// Doubly linked rings of endpoints, one for each number of requests in flight: the next of the lowest ring moves
/// up by one, the one whose request ended moves down.
#[must_use]
pub fn buckets(n: usize) -> Contender {
    let mut rings = Rings::new(n);
    let mut window = Window::filled(n, |_| rings.take());
    kernel(move |key| {
        let slot = rings.take();
        let ended = window.exchange(key, slot);
        rings.release(ended);
        usize::from(slot)
    })
}

/// Endpoints by load, each ring in the order in which they came to it.
struct Rings {
    links: Vec<Link>,
    first: Vec<u16>,
    least: u16,
}

#[derive(Clone, Copy)]
struct Link {
    next: u16,
    previous: u16,
    load: u16,
}

impl Rings {
    const NONE: u16 = u16::MAX;
    /// Far more requests in flight than any endpoint gets here.
    const MOST: usize = 1_024;

    fn new(n: usize) -> Self {
        let unlinked = Link {
            next: Self::NONE,
            previous: Self::NONE,
            load: 0,
        };
        let mut rings = Self {
            links: vec![unlinked; n],
            first: vec![Self::NONE; Self::MOST],
            least: 0,
        };
        for slot in 0..n {
            rings.append(slot as u16, 0);
        }
        rings
    }

    fn take(&mut self) -> u16 {
        let slot = self.first[usize::from(self.least)];
        let load = self.least;
        self.remove(slot);
        self.append(slot, load + 1);
        if self.first[usize::from(load)] == Self::NONE {
            self.least += 1;
        }
        slot
    }

    fn release(&mut self, slot: u16) {
        let load = self.links[usize::from(slot)].load - 1;
        self.remove(slot);
        self.append(slot, load);
        self.least = self.least.min(load);
    }

    fn remove(&mut self, slot: u16) {
        let Link { next, previous, load } = self.links[usize::from(slot)];
        let first = &mut self.first[usize::from(load)];
        if next == slot {
            *first = Self::NONE;
            return;
        }
        if *first == slot {
            *first = next;
        }
        self.links[usize::from(previous)].next = next;
        self.links[usize::from(next)].previous = previous;
    }

    fn append(&mut self, slot: u16, load: u16) {
        let first = self.first[usize::from(load)];
        let (next, previous) = if first == Self::NONE {
            self.first[usize::from(load)] = slot;
            (slot, slot)
        } else {
            let last = self.links[usize::from(first)].previous;
            self.links[usize::from(last)].next = slot;
            self.links[usize::from(first)].previous = slot;
            (first, last)
        };
        self.links[usize::from(slot)] = Link { next, previous, load };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_wins_and_ties_take_turns() {
        for n in [3, 15, 16, 300] {
            assert_eq!(
                lowest(&mut vec![0; n], 0, |index| u32::from(index != n - 2)),
                n - 2
            );
            let next: Vec<usize> = (0..=n).map(|from| lowest(&mut vec![0; n], from, |_| 4)).collect();
            assert_eq!(next, (0..n).chain([0]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn rings_level_the_load() {
        let mut rings = Rings::new(5);
        let taken: Vec<u16> = (0..12).map(|_| rings.take()).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]);
        rings.release(3);
        assert_eq!(rings.take(), 3);
        for slot in [2, 3, 4, 2] {
            rings.release(slot);
        }
        assert_eq!([rings.take(), rings.take()], [2, 3]);
    }
}
