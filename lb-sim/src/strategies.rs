//! The strategies of `lb-core` as policies: with the memory they need, and what they read.

use lb_core::Duration;
use lb_core::load::Ended;
use lb_core::pick::{
    Adaptive, AnyStrategy, Bias, By, Choices, FirstFit, HotCold, LoadBuckets, PeakEwma, SmoothWeighted,
    StaticStride, Strategy, StrategyKind, Tabled, WeightedLeast, WeightedRandom,
};
use lb_core::rng::Sfc32;

use crate::policy::{Kept, Picker, Policy, Setup};
use crate::view::View;

/// A period of weighted rotation has this many turns for each server at least.
const TURNS: usize = 64;

/// Every strategy of the core: those with a name of their own there, then the others.
pub(crate) fn all() -> Vec<Policy> {
    let named = StrategyKind::ALL
        .into_iter()
        .map(|kind| Policy::of(kind.as_str(), move || AnyStrategy::new(kind)))
        .map(|policy| match policy.name() {
            "random" | "round-robin" | "least-connections" => policy.without_reports().without_latency(),
            "hybrid" | "corrected" => policy.without_latency(),
            _ => policy,
        });
    let others = [
        weighted(),
        choices(),
        vec![
            Policy::of("peak-ewma", PeakEwma::default).without_reports(),
            Policy::of("hot-cold", HotCold::default),
            Policy::of("first-fit", FirstFit::new).without_latency(),
            Policy::made("adaptive", |setup| {
                let memory = vec![0_u32; Adaptive::words(servers(setup))];
                Box::new(Kept(Adaptive::new(memory, setup.seed).expect(ENOUGH)))
            }),
        ],
    ];
    // Those with a table need memory that a kind alone does not tell of.
    let others: Vec<Policy> = others.into_iter().flatten().collect();
    let known = |policy: &Policy| others.iter().any(|other| other.name() == policy.name());
    let named: Vec<Policy> = named.filter(|policy| !known(policy)).collect();
    named.into_iter().chain(others).collect()
}

type Memory = Vec<u32>;

const ENOUGH: &str = "as much memory as it asks for";

const fn servers(setup: &Setup<'_>) -> usize {
    setup.speeds.len()
}

/// Load buckets have to be told of every request.
struct Counting(LoadBuckets<Memory>);

impl Picker for Counting {
    fn choose(&mut self, view: &View<'_>, key: Option<u64>, rng: &mut Sfc32) -> Option<usize> {
        let picked = self.0.pick(view, key, rng);
        if let Some(server) = picked {
            self.0.begin(server);
        }
        picked
    }

    fn renew(&mut self, view: &View<'_>) {
        while !self.0.update(view, u32::MAX) {}
    }

    fn ended(&mut self, server: usize, _: Duration, _: Ended) {
        self.0.finish(server);
    }
}

/// By weight, with or without a look at own requests.
fn weighted() -> Vec<Policy> {
    let blind = [
        Policy::made("smooth-weighted", |setup| {
            let memory = vec![0_u32; SmoothWeighted::<Memory>::words(servers(setup), TURNS * servers(setup))];
            Box::new(Kept(SmoothWeighted::new(memory, servers(setup)).expect(ENOUGH)))
        }),
        Policy::made("static-stride", |setup| {
            let memory = vec![0_u32; StaticStride::<Memory>::words(servers(setup))];
            Box::new(Kept(StaticStride::new(memory).expect(ENOUGH)))
        }),
        Policy::made("weighted-random", |setup| {
            let memory = vec![0_u32; WeightedRandom::<Memory>::words(servers(setup))];
            Box::new(Kept(WeightedRandom::new(memory).expect(ENOUGH)))
        }),
        Policy::made("load-buckets", |setup| {
            let memory = vec![0_u32; LoadBuckets::<Memory>::words(servers(setup))];
            Box::new(Counting(LoadBuckets::new(memory).expect(ENOUGH)))
        }),
        Policy::made("weighted-least", |setup| {
            let memory = vec![0_u32; WeightedLeast::<Memory>::words(servers(setup))];
            Box::new(WeightedLeast::new(memory, Bias::One).expect(ENOUGH))
        }),
    ];
    blind
        .map(|policy| policy.without_reports().without_latency())
        .to_vec()
}

/// The best of a few at random.
fn choices() -> Vec<Policy> {
    vec![
        Policy::of("choice-of-two", || Choices::new(2, By::OwnRequests))
            .without_reports()
            .without_latency(),
        Policy::of("choice-of-two-reported", || Choices::new(2, By::Reported)).without_latency(),
        Policy::of("choice-of-three-reported", || Choices::new(3, By::Reported)).without_latency(),
        Policy::of("choice-of-two-corrected", || Choices::new(2, By::Corrected)).without_latency(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_there_and_none_twice() {
        let names: Vec<String> = all().iter().map(|policy| policy.name().to_owned()).collect();
        for kind in StrategyKind::ALL {
            assert!(names.iter().any(|name| name == kind.as_str()), "{kind}");
        }
        for name in &names {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        }
    }
}
