//! The strategies of `lb-core` as policies: with the memory they need, and what they read.

use lb_core::Duration;
use lb_core::load::Ended;
use lb_core::pick::{AnyStrategy, By, Choices, LoadBuckets, Strategy, StrategyKind, Tabled};
use lb_core::rng::Sfc32;

use crate::policy::{Kept, Picker, Policy};
use crate::view::View;

/// Every strategy of the core: those with a name of their own there, then the others.
pub(crate) fn all() -> Vec<Policy> {
    let named = StrategyKind::ALL.into_iter().map(named);
    let others = [
        Policy::of("three-reported", || Choices::new(3, By::Reported)).without_latency(),
        Policy::made("load-buckets", |setup| {
            let memory = vec![0_u32; LoadBuckets::<Vec<u32>>::words(setup.speeds.len())];
            Box::new(Counting(LoadBuckets::new(memory).expect(ENOUGH)))
        })
        .without_reports()
        .without_latency(),
    ];
    named.chain(others).collect()
}

pub(crate) const ENOUGH: &str = "as much memory as it asks for";

/// Whether it goes by the keys of requests.
pub(crate) fn is_affine(name: &str) -> bool {
    name.parse::<StrategyKind>().is_ok_and(StrategyKind::is_affine)
}

pub(crate) fn named(kind: StrategyKind) -> Policy {
    let policy = Policy::made(kind.as_str(), move |setup| {
        let slots = setup.speeds.len();
        let memory = vec![0_u32; kind.words(slots)];
        Box::new(Kept(
            AnyStrategy::new(kind, memory, slots, setup.seed).expect(ENOUGH),
        ))
    });
    spared(kind, policy)
}

/// Spares a policy what a strategy does not read.
pub(crate) fn spared(kind: StrategyKind, policy: Policy) -> Policy {
    match kind {
        StrategyKind::Random
        | StrategyKind::RoundRobin
        | StrategyKind::SmoothWeighted
        | StrategyKind::StaticStride
        | StrategyKind::WeightedRandom
        | StrategyKind::LeastConnections
        | StrategyKind::WeightedLeast
        | StrategyKind::TwoChoices => policy.without_reports().without_latency(),
        kind if kind.is_affine() => policy.without_reports().without_latency(),
        StrategyKind::PeakEwma => policy.without_reports(),
        StrategyKind::TwoReported
        | StrategyKind::TwoCorrected
        | StrategyKind::Corrected
        | StrategyKind::Hybrid => policy.without_latency(),
        _ => policy,
    }
}

/// Load buckets have to be told of every request.
struct Counting(LoadBuckets<Vec<u32>>);

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::run;
    use crate::scenario::{Reports, Scenario};

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

    /// What is spared a policy that is said not to need it must not change what it picks.
    #[test]
    fn what_is_said_not_to_be_read_is_not_read() {
        let scenario = |period: f64| Scenario {
            speeds: vec![0.5, 1.0, 1.5],
            load: 0.7,
            clients: 2,
            requests: 3_000,
            reports: Reports {
                period,
                ..Reports::default()
            },
            ..Scenario::default()
        };
        for policy in all() {
            let all_known = Policy::reading_all(&policy);
            for period in [0.0, 5.0] {
                let [spared, known] = [&policy, &all_known].map(|policy| run(&scenario(period), policy, 1));
                assert_eq!(spared, known, "{}", policy.name());
            }
        }
    }
}
