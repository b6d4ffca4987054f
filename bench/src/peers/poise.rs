//! `poise-core`: the closest relative, a core of policies over a slice of backends.

use std::time::Duration;

use poise_core::policy::{
    BoundedLoadRendezvous, LeastLoaded, Maglev, PowerOfTwoChoices, Random, Rendezvous, RingHash,
    RingHashConfig, RoundRobin, SmoothWeightedRoundRobin, WeightedRandom, WeightedRendezvous,
};
use poise_core::{Backend, PeakEwma, Policy, Weight};
use std::num::{NonZeroU32, NonZeroUsize};

use super::peer;
use crate::input::{Window, mix, weight};
use crate::measure::Contender;

const CRATE: &str = "poise-core";

type Server<Load> = Backend<u64, (), Load>;

fn servers<Load>(n: usize, load: impl Fn() -> Load) -> Vec<Server<Load>> {
    (0..n)
        .map(|slot| Backend::new(mix(slot as u64)).with_load(load()))
        .collect()
}

fn weighted(n: usize) -> Vec<Server<()>> {
    let mut servers = servers(n, || ());
    for (slot, server) in servers.iter_mut().enumerate() {
        let weight = Weight::new(weight(slot).into()).expect("weights are positive");
        server.set_weight(weight);
    }
    servers
}

/// A policy that looks at nothing but which servers are eligible, and their weights.
fn blind<P: Policy<Server<()>> + 'static>(what: &str, servers: Vec<Server<()>>, mut policy: P) -> Contender {
    peer(CRATE, what, move |_| chosen(policy.pick(&servers, &())))
}

/// A policy that looks at the load, here how many requests are in flight.
fn loaded<P: Policy<Server<u32>> + 'static>(what: &str, n: usize, mut policy: P) -> Contender {
    let mut servers = servers(n, || 0);
    let mut window = Window::filled(n, |request| {
        begin(&mut servers, request % n);
        request % n
    });
    peer(CRATE, what, move |key| {
        let slot = chosen(policy.pick(&servers, &()));
        begin(&mut servers, slot);
        let ended = window.exchange(key, slot);
        let load = *servers[ended].load();
        servers[ended].set_load(load - 1);
        slot
    })
}

fn begin(servers: &mut [Server<u32>], slot: usize) {
    let load = *servers[slot].load();
    servers[slot].set_load(load + 1);
}

/// A policy that keeps equal keys together.
fn affine<P: Policy<Server<()>, u64> + 'static>(
    what: &str,
    servers: Vec<Server<()>>,
    mut policy: P,
) -> Contender {
    peer(CRATE, what, move |key| chosen(policy.pick(&servers, &key)))
}

fn chosen(selection: Result<poise_core::Selection, poise_core::PickError>) -> usize {
    selection.expect("all are eligible").index()
}

/// Each in turn.
#[must_use]
pub fn round_robin(n: usize) -> Contender {
    blind("RoundRobin", servers(n, || ()), RoundRobin::new())
}

/// Any of them.
#[must_use]
pub fn random(n: usize) -> Contender {
    blind("Random", servers(n, || ()), Random::seeded(1))
}

/// By weight, in nginx's order.
#[must_use]
pub fn smooth(n: usize) -> Contender {
    blind(
        "SmoothWeightedRoundRobin",
        weighted(n),
        SmoothWeightedRoundRobin::new(),
    )
}

/// By weight, at random.
#[must_use]
pub fn weighted_random(n: usize) -> Contender {
    blind("WeightedRandom", weighted(n), WeightedRandom::seeded(1))
}

/// The fewest requests in flight.
#[must_use]
pub fn least_loaded(n: usize) -> Contender {
    loaded("LeastLoaded", n, LeastLoaded::new())
}

/// The less loaded of two.
#[must_use]
pub fn two_choices(n: usize) -> Contender {
    loaded("PowerOfTwoChoices", n, PowerOfTwoChoices::seeded(1))
}

/// The one of two with the lower product of latency and requests in flight.
#[must_use]
pub fn peak_ewma(n: usize) -> Contender {
    let tracker = || PeakEwma::new(Duration::from_millis(1), Duration::from_secs(10)).expect("not zero");
    let (servers, mut policy) = (servers(n, tracker), PowerOfTwoChoices::seeded(1));
    let mut window = Window::filled(n, |request| {
        servers[request % n].load().start().expect("no limit")
    });
    peer(CRATE, "PowerOfTwoChoices<PeakEwma>", move |key| {
        let slot = chosen(policy.pick(&servers, &()));
        let begun = servers[slot].load().start().expect("no limit");
        window.exchange(key, begun).complete();
        slot
    })
}

/// The highest hash of key and server.
#[must_use]
pub fn rendezvous(n: usize) -> Contender {
    affine("Rendezvous", servers(n, || ()), Rendezvous::new())
}

/// The same, shares by weight.
#[must_use]
pub fn weighted_rendezvous(n: usize) -> Contender {
    affine("WeightedRendezvous", weighted(n), WeightedRendezvous::new())
}

/// The table of 65 537 entries.
#[must_use]
pub fn maglev(n: usize) -> Contender {
    affine("Maglev", servers(n, || ()), Maglev::default())
}

/// The ring, 160 points for each server.
#[must_use]
pub fn ring(n: usize) -> Contender {
    let points = NonZeroU32::new(160).zip(NonZeroUsize::new(160 * n));
    let config = points.and_then(|(each, all)| RingHashConfig::new(each, all).ok());
    let policy = RingHash::new(config.expect("160 points each are within the limit"));
    affine("RingHash", servers(n, || ()), policy)
}

/// The highest hash among those below one and a half times the mean load.
#[must_use]
pub fn bounded(n: usize) -> Contender {
    let mut servers = servers(n, || 0_u64);
    let mut policy = BoundedLoadRendezvous::default();
    let mut window = Window::filled(n, |request| {
        let load = *servers[request % n].load();
        servers[request % n].set_load(load + 1);
        request % n
    });
    peer(CRATE, "BoundedLoadRendezvous", move |key| {
        let slot = chosen(policy.pick(&servers, &key));
        let load = *servers[slot].load();
        servers[slot].set_load(load + 1);
        let ended = window.exchange(key, slot);
        let load = *servers[ended].load();
        servers[ended].set_load(load - 1);
        slot
    })
}
