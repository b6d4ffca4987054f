//! Strategies that keep equal keys together, their tables made.

use lb_core::pick::{Bounded, Ketama, Maglev, Overflow, Rendezvous, Ring, RingSize};

use super::{Fleet, loaded, make_table, tabled};
use crate::measure::Contender;

/// Points for each endpoint on a ring.
const POINTS: u32 = 160;

/// The highest score of key and name.
#[must_use]
pub fn rendezvous(n: usize) -> Contender {
    let memory = vec![0; Rendezvous::words(n)];
    tabled(Fleet::new(n), Rendezvous::new(memory, n).expect("enough memory"))
}

/// The same, shares by weight.
#[must_use]
pub fn weighted_rendezvous(n: usize) -> Contender {
    let memory = vec![0; Rendezvous::words(n)];
    tabled(
        Fleet::weighted(n),
        Rendezvous::new(memory, n).expect("enough memory"),
    )
}

/// Envoy's table of 65 537 entries.
#[must_use]
pub fn maglev(n: usize) -> Contender {
    tabled(Fleet::new(n), table(n))
}

fn table(n: usize) -> Maglev<Vec<u32>> {
    let memory = vec![0; Maglev::words(n, Maglev::ENVOY)];
    Maglev::new(memory, n, Maglev::ENVOY).expect("a prime, and enough memory")
}

/// The same, nobody above 1.25 times the mean load.
#[must_use]
pub fn bounded(n: usize) -> Contender {
    let (fleet, mut strategy) = (Fleet::new(n), Bounded::new(table(n), 125, Overflow::Jump));
    make_table(&mut strategy, &fleet.pool());
    loaded(fleet, strategy)
}

/// Envoy's ring, 160 points for each endpoint.
#[must_use]
pub fn ring(n: usize) -> Contender {
    let size = RingSize::PerWeight(POINTS);
    let memory = vec![0; Ring::words(n, POINTS * n as u32)];
    let ring = Ring::new(memory, n, size).expect("enough memory");
    tabled(Fleet::new(n), ring)
}

/// nginx's ring, 160 points for each endpoint.
#[must_use]
pub fn ketama(n: usize) -> Contender {
    let memory = vec![0; Ketama::words(n, n as u32)];
    tabled(Fleet::new(n), Ketama::new(memory, n).expect("enough memory"))
}
