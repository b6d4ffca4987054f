//! Picks from many threads at once, by `lb-tokio`'s picker: a compiled tag filter over a hundred workers, the request
//! that begins counted for all threads to see, and one that ends.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use lb_core::NodeId;
use lb_core::load::LoadReport;
use lb_core::member::Tags;
use lb_core::pick::StrategyKind;
use lb_tokio::pick::{Ask, Balancer, BalancerConfig, Endpoint, Picker};
use serde::Serialize;

use crate::input::{Window, report, weight};
use crate::measure::{Contender, Plan, contest};
use crate::row::rounded;

/// Workers that match.
const WORKERS: usize = 100;

/// Others, which do not.
const OTHERS: usize = 100;

/// Of the tags below, a worker's.
const FILTER: &str = "role=worker,zone=a";

/// Twice as many requests as this are in flight for each thread.
const SENDS: usize = 32;

/// Picks during which allocations are counted, in every thread.
const COUNTED: usize = 2_048;

/// The figures of one strategy with one number of threads.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The strategy.
    pub strategy: &'static str,
    /// Workers to pick from.
    pub n: usize,
    /// Threads that pick at once.
    pub threads: usize,
    /// Nanoseconds of a thread's own time per pick: the median of the threads.
    pub ours_ns: f64,
    /// Allocations during 2048 picks of every thread.
    pub allocs: u64,
}

/// Measures one strategy.
///
/// # Errors
/// When the balancer refuses what it is given, which it does not.
pub fn measure(strategy: StrategyKind, threads: usize, keys: &[u64], plan: Plan) -> anyhow::Result<Row> {
    let balancer = balancer()?;
    let picker = balancer.picker(Some(FILTER), strategy)?;
    let start = Barrier::new(threads);
    let mut figures: Vec<(f64, u64)> = thread::scope(|scope| {
        let work = || {
            let mut contender = [contender(picker.clone())];
            start.wait();
            let figures = contest(&mut contender, keys, plan);
            let allocations = contender[0].allocations(&keys[..COUNTED.min(keys.len())]);
            (figures[0], allocations)
        };
        let crew: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = crew.into_iter().map(|thread| thread.join().ok());
        ended.collect::<Option<_>>()
    })
    .context("a thread panicked")?;
    figures.sort_by(|one, other| one.0.total_cmp(&other.0));
    Ok(Row {
        strategy: strategy.as_str(),
        n: WORKERS,
        threads,
        ours_ns: rounded(figures[figures.len() / 2].0),
        allocs: figures.iter().map(|figure| figure.1).sum(),
    })
}

fn contender(picker: Picker) -> Contender {
    let pick = move |key| {
        let lease = picker.pick(&Ask::new().key_hash(key));
        lease.expect("there are workers with room")
    };
    let mut window = Window::filled(SENDS, |request| pick(request as u64));
    Contender::new("ours", move |key| {
        let lease = pick(key);
        let slot = lease.id().get() as usize;
        drop(window.exchange(key, lease));
        slot
    })
}

fn balancer() -> anyhow::Result<Balancer> {
    let hour = Duration::from_secs(3_600);
    let balancer = Balancer::new(BalancerConfig::default().ttl(hour).seed(1));
    for slot in 0..WORKERS + OTHERS {
        let tags = if slot % 2 == 0 {
            "role=worker,zone=a"
        } else {
            "role=worker,zone=b"
        };
        let id = NodeId::new(slot as u32 + 1);
        let endpoint = Endpoint::new(id).tags(Tags::parse(tags)?).weight(weight(slot));
        balancer.put(endpoint)?;
        let figures = report(slot);
        // They could serve all that a hundred threads send, so that nobody is ever full.
        let said = LoadReport {
            in_flight: figures.in_flight,
            capacity: u16::MAX,
            clients: figures.clients,
            rate_milli: figures.rate_milli,
            latency_us: figures.latency_us,
            ..LoadReport::default()
        };
        balancer.report(id, said);
    }
    Ok(balancer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workers_of_the_zone_are_picked() -> anyhow::Result<()> {
        let picker = balancer()?.picker(Some(FILTER), StrategyKind::RoundRobin)?;
        let picked: std::collections::HashSet<u32> = (0..WORKERS)
            .filter_map(|_| Some(picker.pick(&Ask::new()).ok()?.id().get()))
            .collect();
        assert_eq!(picked.len(), WORKERS);
        assert!(picked.iter().all(|id| id % 2 == 1));
        Ok(())
    }
}
