//! Many runs on all cores.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::engine::run;
use crate::outcome::{Estimate, Outcome};
use crate::policy::Policy;
use crate::scenario::Scenario;

/// Is told, from any thread, how many runs of how many are done.
pub type Progress<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Applies `work` to every item on all cores. The results are in the order of the items, whatever the number of
/// cores.
pub(crate) fn parallel<T: Sync, R: Send>(
    items: &[T],
    progress: &Progress<'_>,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results: Vec<Mutex<Option<R>>> = items.iter().map(|_| Mutex::new(None)).collect();
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(item), Some(place)) = (items.get(index), results.get(index)) else {
                        return;
                    };
                    let result = work(item);
                    if let Ok(mut place) = place.lock() {
                        *place = Some(result);
                    }
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
                }
            });
        }
    });
    // The scope has passed on the panic of a thread, so that each has its result.
    results
        .into_iter()
        .filter_map(|place| place.into_inner().ok().flatten())
        .collect()
}

/// What a policy did in a scenario, over several seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Mean latency in mean service times.
    pub mean: Estimate,
    /// Half of the requests were faster.
    pub p50: Estimate,
    /// 99 % of the requests were faster.
    pub p99: Estimate,
    /// 99.9 % of the requests were faster.
    pub p999: Estimate,
    /// Share of the requests that failed.
    pub failed: Estimate,
    /// Share of the requests that failed or came after the deadline.
    pub errors: Estimate,
    /// The share of requests that each server got, mean over the seeds.
    pub shares: Vec<f64>,
}

impl Summary {
    /// Of the outcomes of one scenario and policy with different seeds.
    #[must_use]
    pub fn of(outcomes: &[Outcome]) -> Self {
        let over =
            |value: &dyn Fn(&Outcome) -> f64| Estimate::of(&outcomes.iter().map(value).collect::<Vec<f64>>());
        let servers = outcomes.first().map_or(0, |outcome| outcome.sent.len());
        let mut shares = vec![0.0; servers];
        for outcome in outcomes {
            for (sum, share) in shares.iter_mut().zip(outcome.shares()) {
                *sum += share / outcomes.len() as f64;
            }
        }
        Self {
            mean: over(&|outcome| outcome.latency.mean()),
            p50: over(&|outcome| outcome.latency.quantile(0.5)),
            p99: over(&|outcome| outcome.latency.quantile(0.99)),
            p999: over(&|outcome| outcome.latency.quantile(0.999)),
            failed: over(&Outcome::failure_rate),
            errors: over(&Outcome::error_rate),
            shares,
        }
    }
}

/// Which seeds to run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The first.
    pub first: u64,
    /// How many, one after the other.
    pub count: u32,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { first: 1, count: 10 }
    }
}

/// Runs each policy in each scenario with each seed, on all cores, and sums up by scenario, then policy.
pub fn sweep(runs: &[(&Scenario, &Policy)], seeds: Seeds, progress: &Progress<'_>) -> Vec<Summary> {
    let items: Vec<(&Scenario, &Policy, u64)> = runs
        .iter()
        .flat_map(|&(scenario, policy)| {
            (0..u64::from(seeds.count)).map(move |i| (scenario, policy, seeds.first.wrapping_add(i)))
        })
        .collect();
    let outcomes = parallel(&items, progress, |(scenario, policy, seed)| {
        run(scenario, policy, *seed)
    });
    outcomes
        .chunks((seeds.count as usize).max(1))
        .map(Summary::of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order() {
        let items: Vec<u64> = (0..500).collect();
        let count = AtomicUsize::new(0);
        let squares = parallel(
            &items,
            &|_, total| {
                assert_eq!(total, 500);
                count.fetch_add(1, Ordering::Relaxed);
            },
            |&i| i * i,
        );
        assert_eq!(squares, items.iter().map(|i| i * i).collect::<Vec<u64>>());
        assert_eq!(count.into_inner(), 500);
    }
}
