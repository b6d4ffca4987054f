//! The adaptive choice: a sweep and a memory.

use super::kernel;
use crate::input::{Window, mix, report};
use crate::measure::Contender;

/// Candidates looked at in turn, and as many that are remembered.
const LOOKS: usize = 8;

/// What of a candidate its cost is made of, and what is learnt from it.
#[derive(Clone, Copy)]
struct Server {
    /// Reported in flight, less ours at the time for each client.
    base: i32,
    clients: i32,
    own: i32,
    rate: u32,
}

impl Server {
    fn cost(&self) -> i32 {
        self.base + self.clients * self.own
    }
}

/// The costs, a multiplication and an addition each, of the next eight of an order and of eight remembered; the best
/// is taken, the second best takes its place in the memory, or that of the worst; four sums over the eight, smoothed,
/// which decide how many to choose among; and the two counters of the request that begins and the one that ends, which
/// is remembered. Of sixteen and fewer all are looked at every time, and none is remembered.
#[must_use]
pub fn adaptive(n: usize) -> Contender {
    let mut servers: Vec<Server> = (0..n)
        .map(report)
        .map(|report| Server {
            base: i32::from(report.in_flight) - 2 * i32::from(report.clients),
            clients: report.clients.into(),
            own: 0,
            rate: report.rate_milli,
        })
        .collect();
    let mut order: Vec<u16> = (0..n as u16).collect();
    order.sort_by_key(|&slot| mix(slot.into()));
    let mut window = Window::filled(n, |request| {
        servers[request % n].own += 1;
        (request % n) as u16
    });
    let (mut sweep, mut smoothed) = (Sweep::default(), [0_u32; 4]);
    kernel(move |key| {
        let picked = sweep.pick(&servers, &order, &mut smoothed);
        servers[picked].own += 1;
        let ended = window.exchange(key, picked as u16);
        servers[usize::from(ended)].own -= 1;
        sweep.remember(ended);
        picked
    })
}

#[derive(Default)]
struct Sweep {
    turn: usize,
    remembered: [u16; LOOKS],
    oldest: usize,
}

impl Sweep {
    fn remember(&mut self, ended: u16) {
        self.remembered[self.oldest] = ended;
        self.oldest = (self.oldest + 1) % LOOKS;
    }

    fn pick(&mut self, servers: &[Server], order: &[u16], smoothed: &mut [u32; 4]) -> usize {
        let n = order.len();
        let whole = n <= 2 * LOOKS;
        // Cost and where it was found: in the order, or behind it in the memory.
        let (mut best, mut second) = ((i32::MAX, 0), (i32::MAX, 0));
        let mut offer = |cost: i32, place: usize| {
            if cost < best.0 {
                (best, second) = ((cost, place), best);
            } else if cost < second.0 {
                second = (cost, place);
            }
        };
        let mut sums = [0_u32; 4];
        for _ in 0..if whole { n } else { LOOKS } {
            let server = &servers[usize::from(order[self.turn])];
            let [own, clients] = [server.own, server.clients].map(|number| number as u32);
            let all = [own, clients, server.base as u32, server.rate];
            sums = std::array::from_fn(|sum| sums[sum].wrapping_add(all[sum]));
            offer(server.cost(), self.turn);
            self.turn = if self.turn + 1 < n { self.turn + 1 } else { 0 };
        }
        for (mean, sum) in smoothed.iter_mut().zip(sums) {
            *mean = mean.wrapping_sub(*mean >> 6).wrapping_add(sum >> 6);
        }
        if whole {
            self.turn = if best.1 + 1 < n { best.1 + 1 } else { 0 };
            return usize::from(order[best.1]);
        }
        let mut worst = (i32::MIN, 0);
        for (index, &slot) in self.remembered.iter().enumerate() {
            let cost = servers[usize::from(slot)].cost();
            offer(cost, n + index);
            if cost > worst.0 {
                worst = (cost, index);
            }
        }
        let slot = |place: usize| {
            order
                .get(place)
                .copied()
                .unwrap_or_else(|| self.remembered[place - n])
        };
        let (picked, next) = (slot(best.1), slot(second.1));
        let room = if best.1 >= n { best.1 - n } else { worst.1 };
        if second.1 < n && (best.1 >= n || second.0 < worst.0) {
            self.remembered[room] = next;
        }
        usize::from(picked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_a_few_is_taken() {
        let mut servers = [Server {
            base: 5,
            clients: 1,
            own: 0,
            rate: 0,
        }; 3];
        servers[1].base = 2;
        let (mut sweep, mut smoothed) = (Sweep::default(), [0; 4]);
        assert_eq!(sweep.pick(&servers, &[0, 1, 2], &mut smoothed), 1);
    }

    #[test]
    fn what_ended_is_found_again() {
        let mut servers = [Server {
            base: 5,
            clients: 1,
            own: 0,
            rate: 0,
        }; 100];
        servers[77].base = 0;
        let order: Vec<u16> = (0..100).collect();
        let (mut sweep, mut smoothed) = (Sweep::default(), [0; 4]);
        sweep.remember(77);
        assert_eq!(sweep.pick(&servers, &order, &mut smoothed), 77);
    }
}
