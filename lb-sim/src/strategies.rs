//! The strategies of `lb-core` as policies: with the memory they need, and what they read.

use lb_core::Duration;
use lb_core::load::Ended;
use lb_core::pick::{AnyStrategy, By, Choices, LoadBuckets, Strategy, StrategyKind, Tabled};
use lb_core::rng::Sfc32;

use crate::policy::{Kept, Picker, Policy, Setup};
use crate::view::View;

type Memory = Vec<u32>;

const ENOUGH: &str = "as much memory as it asks for";

/// Every strategy of the core: those with a name of their own there, then the others.
pub(crate) fn all() -> Vec<Policy> {
    let others = [
        Policy::of("three-reported", || Choices::new(3, By::Reported)).without_latency(),
        Policy::made("load-buckets", |setup| {
            let memory = vec![0_u32; LoadBuckets::<Memory>::words(servers(setup))];
            Box::new(Counting(LoadBuckets::new(memory).expect(ENOUGH)))
        })
        .without_reports()
        .without_latency(),
    ];
    StrategyKind::ALL.into_iter().map(named).chain(others).collect()
}

fn named(kind: StrategyKind) -> Policy {
    let policy = Policy::made(kind.as_str(), move |setup| {
        let memory = vec![0_u32; kind.words(servers(setup))];
        let strategy = AnyStrategy::new(kind, memory, servers(setup), setup.seed);
        Box::new(Kept(strategy.expect(ENOUGH)))
    });
    match kind {
        StrategyKind::Adaptive | StrategyKind::HotCold => policy,
        StrategyKind::PeakEwma => policy.without_reports(),
        StrategyKind::TwoReported
        | StrategyKind::TwoCorrected
        | StrategyKind::Corrected
        | StrategyKind::Hybrid
        | StrategyKind::FirstFit => policy.without_latency(),
        _ => policy.without_reports().without_latency(),
    }
}

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
