//! Crates that rotate, or draw, by weight: `weighted-rs`, `rsbalancer`, `rand_distr`.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand_distr::Distribution;
use rand_distr::weighted::WeightedAliasIndex;
use rsbalancer::{Balancer, Node};
use weighted_rs::{RandWeight, RoundrobinWeight, SmoothWeight, Weight};

use super::peer;
use crate::input::weight;
use crate::measure::Contender;

fn weighted_rs<W: Weight<Item = usize> + 'static>(what: &str, n: usize, mut balancer: W) -> Contender {
    for slot in 0..n {
        balancer.add(slot, weight(slot).try_into().expect("weights are small"));
    }
    peer("weighted-rs", what, move |_| balancer.next().expect("not empty"))
}

/// nginx's order, by scanning.
#[must_use]
pub fn smooth(n: usize) -> Contender {
    weighted_rs("SmoothWeight", n, SmoothWeight::new())
}

/// The Linux virtual server's order: the heavy ones first, more and more of the others.
#[must_use]
pub fn round_robin(n: usize) -> Contender {
    weighted_rs("RoundrobinWeight", n, RoundrobinWeight::new())
}

/// By weight, at random, by scanning.
#[must_use]
pub fn random(n: usize) -> Contender {
    weighted_rs("RandWeight", n, RandWeight::new())
}

fn rsbalancer<B: Balancer<usize> + 'static>(what: &str, mut balancer: B) -> Contender {
    peer("rsbalancer", what, move |_| {
        *balancer.next_id().expect("not empty")
    })
}

/// Each in turn.
#[must_use]
pub fn unweighted_round_robin(n: usize) -> Contender {
    let nodes = (0..n).map(Node::new_with_default_weight).collect();
    rsbalancer("RoundRobin", rsbalancer::round_robin(nodes))
}

/// Any of them.
#[must_use]
pub fn unweighted_random(n: usize) -> Contender {
    let nodes = (0..n).map(Node::new_with_default_weight).collect();
    rsbalancer("Random", rsbalancer::random(nodes))
}

/// nginx's order, by scanning.
#[must_use]
pub fn smooth_scan(n: usize) -> Contender {
    let nodes = (0..n).map(|slot| Node::new(slot, weight(slot).into())).collect();
    rsbalancer("WeightedRoundRobin", rsbalancer::weighted_round_robin(nodes))
}

/// An alias table, with the fastest generator that `rand` has.
#[must_use]
pub fn alias(n: usize) -> Contender {
    let weights = (0..n).map(|slot| u32::from(weight(slot))).collect();
    let table = WeightedAliasIndex::new(weights).expect("weights are positive");
    let mut rng = SmallRng::seed_from_u64(1);
    peer("rand_distr", "WeightedAliasIndex", move |_| {
        table.sample(&mut rng)
    })
}
