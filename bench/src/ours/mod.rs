//! Our side: strategies of lb-core over a [`SlicePool`], which is what a program with its own tables uses.
//!
//! Where requests begin and end between picks, the pool is made anew for each, as it must be: it borrows the counters.
//! All candidates are admitted. Strategies that keep a table have made it before.

pub mod affinity;
pub mod latency;
pub mod load;
pub mod rotation;

use lb_core::pick::{Load, SlicePool, Strategy, Tabled};
use lb_core::rng::Sfc32;

use crate::input::{Window, mix, report, slots, weight};
use crate::measure::Contender;

/// The tables of a program that sends requests to `n` endpoints.
struct Fleet {
    candidates: Vec<u16>,
    admitted: Vec<u32>,
    own: Vec<u32>,
    in_flight: u32,
    loads: Vec<Load>,
    weights: Vec<u16>,
    names: &'static [&'static [u8]],
    window: Window<u16>,
}

impl Fleet {
    /// Endpoints of equal weight.
    fn new(n: usize) -> Self {
        let mut own = vec![0; n];
        let window = Window::filled(n, |request| {
            own[request % n] += 1;
            (request % n) as u16
        });
        let loads = (0..n).map(|slot| Load {
            report: Some(report(slot)),
            age_ms: 100,
            own_at_report: 2,
            own_latency_us: report(slot).latency_us,
            ..Load::default()
        });
        // Every bit of the last word: what is beyond the candidates is never asked for.
        let admitted = vec![u32::MAX; n.div_ceil(32)];
        Self {
            candidates: slots(n),
            admitted,
            in_flight: own.iter().sum(),
            own,
            loads: loads.collect(),
            weights: Vec::new(),
            names: names(n),
            window,
        }
    }

    /// The same with unequal weights.
    fn weighted(n: usize) -> Self {
        Self {
            weights: (0..n).map(weight).collect(),
            ..Self::new(n)
        }
    }

    fn pool(&self) -> SlicePool<'_> {
        SlicePool {
            candidates: &self.candidates,
            admitted: &self.admitted,
            own_in_flight: &self.own,
            total_in_flight: Some(self.in_flight),
            loads: &self.loads,
            weights: &self.weights,
            names: self.names,
            version: 1,
        }
    }

    /// A pool that nothing changes any more.
    fn leak(self) -> SlicePool<'static> {
        Box::leak(Box::new(self)).pool()
    }

    /// A request begins there, and another ends; where.
    fn send(&mut self, key: u64, slot: usize) -> usize {
        self.own[slot] += 1;
        let ended = usize::from(self.window.exchange(key, slot as u16));
        self.own[ended] -= 1;
        ended
    }
}

/// Names of eight bytes. The pool borrows them twice over, so they live as long as the program.
fn names(n: usize) -> &'static [&'static [u8]] {
    let name = |slot| &*Box::leak(Box::new(mix(slot as u64).to_le_bytes()));
    let names: Vec<&'static [u8]> = (0..n).map(|slot| &name(slot)[..]).collect();
    names.leak()
}

/// A strategy that does not look at the load, so that the pool stays as it is.
fn blind(fleet: Fleet, mut strategy: impl Strategy + 'static) -> Contender {
    let (pool, mut rng) = (fleet.leak(), Sfc32::new(1));
    ours(move |key| slot(strategy.pick(&pool, Some(key), &mut rng)))
}

/// A strategy that does not either, and keeps a table, which is made.
fn tabled(fleet: Fleet, mut strategy: impl Strategy + Tabled + 'static) -> Contender {
    let pool = fleet.leak();
    make_table(&mut strategy, &pool);
    let mut rng = Sfc32::new(1);
    ours(move |key| slot(strategy.pick(&pool, Some(key), &mut rng)))
}

fn make_table(strategy: &mut impl Tabled, pool: &SlicePool<'_>) {
    while !strategy.update(pool, u32::MAX) {}
}

/// A strategy that does; requests begin where it says, and end, which it is told.
fn loaded(mut fleet: Fleet, mut strategy: impl Strategy + 'static) -> Contender {
    let mut rng = Sfc32::new(1);
    ours(move |key| {
        let slot = slot(strategy.pick(&fleet.pool(), Some(key), &mut rng));
        let ended = fleet.send(key, slot);
        strategy.ended(ended);
        slot
    })
}

fn ours(pick: impl FnMut(u64) -> usize + 'static) -> Contender {
    Contender::new("ours", pick)
}

fn slot(picked: Option<usize>) -> usize {
    picked.expect("all candidates are admitted")
}
