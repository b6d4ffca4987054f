//! Strategies that look at the load: our own requests in flight, and what endpoints report.

use lb_core::pick::{
    Adaptive, Bias, By, Choices, Corrected, FirstFit, Hybrid, LeastConnections, LoadBuckets, Strategy as _,
    WeightedLeast,
};

use lb_core::rng::Sfc32;

use super::{Fleet, blind, loaded, make_table, ours, slot};
use crate::input::Window;
use crate::kernels::load::LIMIT;
use crate::measure::Contender;

/// The fewest of our own requests, by scanning.
#[must_use]
pub fn least_connections(n: usize) -> Contender {
    loaded(Fleet::new(n), LeastConnections::default())
}

/// The lowest corrected estimate.
#[must_use]
pub fn corrected(n: usize) -> Contender {
    loaded(Fleet::new(n), Corrected::default())
}

/// The lowest hybrid score.
#[must_use]
pub fn hybrid(n: usize) -> Contender {
    blind(Fleet::new(n), Hybrid::default())
}

/// The lowest corrected estimate within reach.
#[must_use]
pub fn adaptive(n: usize) -> Contender {
    let fleet = Fleet::new(n);
    let mut strategy = Adaptive::new(vec![0; Adaptive::words(n)], 1).expect("any memory will do");
    make_table(&mut strategy, &fleet.pool());
    loaded(fleet, strategy)
}

/// The one of two with fewer of our own requests.
#[must_use]
pub fn choices(n: usize) -> Contender {
    loaded(Fleet::new(n), Choices::new(2, By::OwnRequests))
}

/// The first that is not full.
#[must_use]
pub fn first_fit(n: usize) -> Contender {
    loaded(Fleet::new(n), FirstFit::with_limit(LIMIT))
}

/// The fewest of our own requests, from lists by load, which count by themselves.
#[must_use]
pub fn buckets(n: usize) -> Contender {
    let (pool, mut rng) = (Fleet::new(n).leak(), Sfc32::new(1));
    let memory = vec![0; LoadBuckets::<()>::words(n)];
    let mut strategy = LoadBuckets::new(memory).expect("enough memory");
    make_table(&mut strategy, &pool);
    let mut window = Window::filled(n, |request| {
        strategy.begin(request % n);
        (request % n) as u16
    });
    ours(move |key| {
        let slot = slot(strategy.pick(&pool, None, &mut rng));
        strategy.begin(slot);
        let ended = window.exchange(key, slot as u16);
        strategy.finish(ended.into());
        slot
    })
}

/// Shares by weight, less what is in flight.
#[must_use]
pub fn weighted_least(n: usize) -> Contender {
    let memory = vec![0; WeightedLeast::<()>::words(n)];
    let strategy = WeightedLeast::new(memory, Bias::One).expect("enough memory");
    loaded(Fleet::weighted(n), strategy)
}
