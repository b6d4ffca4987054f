//! Reports have an order, and whatever way they come, the same is known in the end.

use std::collections::BTreeMap;

use lb_core::load::{
    CachedLoad, Ended, Finished, Freshness, LoadCache, LoadMeter, LoadReport, Recorded, ReportVersion,
};
use lb_core::{Duration, Instant, NodeId};
use proptest::prelude::*;

const TTL: Duration = Duration::from_secs(10);
const STALE: Duration = Duration::from_secs(15);

/// What a report says depends on its version alone: a node says a thing once.
fn report(epoch: u32, seq: u64, age_ms: u32) -> LoadReport {
    LoadReport {
        version: ReportVersion { epoch, seq },
        age_ms,
        in_flight: (epoch * 31 + seq as u32) as u16,
        capacity: 64,
        ..LoadReport::default()
    }
}

/// Copies of a few reports, direct and relayed, with their times of arrival.
fn copies() -> impl Strategy<Value = Vec<CachedLoad>> {
    let copy = (1..4_u32, 0..4_u64, 0..30_000_u32, 0..60_000_u64)
        .prop_map(|(epoch, seq, age, at)| CachedLoad::new(Instant::from_millis(at), report(epoch, seq, age)));
    prop::collection::vec(copy, 1..12)
}

/// Copies of one version are the same when their samples are of one moment: how the time was spent, on the
/// way or in the cache, cannot be seen.
fn state(cached: &CachedLoad) -> (ReportVersion, u16, Duration) {
    let end = Instant::from_secs(1_000);
    (
        cached.report().version,
        cached.report().in_flight,
        cached.age(end),
    )
}

fn merged(copies: &[CachedLoad]) -> CachedLoad {
    let mut all = copies[0];
    for copy in &copies[1..] {
        let before = all;
        let recorded = all.merge(*copy);
        let end = Instant::from_secs(1_000);
        match recorded {
            Recorded::Newer => assert!(all.report().version > before.report().version),
            Recorded::Younger => {
                assert!(all.report().version == before.report().version && all.age(end) < before.age(end));
            }
            Recorded::Old => assert_eq!(all, before),
        }
    }
    all
}

proptest! {
    #[test]
    fn any_order_and_number_of_copies_gives_the_same(
        (copies, shuffled) in copies().prop_flat_map(|copies| {
            let twice = [copies.clone(), copies.clone()].concat();
            (Just(copies), Just(twice).prop_shuffle())
        })
    ) {
        prop_assert_eq!(state(&merged(&copies)), state(&merged(&shuffled)));
        let best = copies.iter().map(|copy| {
            let (version, _, age) = state(copy);
            (version, std::cmp::Reverse(age))
        }).max().unwrap();
        let (version, _, age) = state(&merged(&copies));
        prop_assert_eq!((version, std::cmp::Reverse(age)), best);
    }

    #[test]
    fn merge_is_associative_and_idempotent(copies in copies(), cut in any::<prop::sample::Index>()) {
        let (left, right) = copies.split_at(cut.index(copies.len()));
        let whole = merged(&copies);
        if !left.is_empty() {
            let mut halves = merged(left);
            halves.merge(merged(right));
            prop_assert_eq!(state(&halves), state(&whole));
        }
        let mut again = whole;
        prop_assert_eq!(again.merge(whole), Recorded::Old);
        prop_assert_eq!(again, whole);
    }

    #[test]
    fn a_meter_never_overflows_and_its_sequence_rises(
        ops in prop::collection::vec((0..6_u8, any::<u64>(), any::<u16>()), 0..200)
    ) {
        let mut meter = LoadMeter::new(1, 8);
        let (mut last, mut begun, mut epoch) = (ReportVersion { epoch: 0, seq: 0 }, 0_u16, 1);
        let arrival = meter.begin(Instant::ZERO);
        meter.finish(Instant::ZERO, arrival, Finished::GivenUp);
        let mut arrivals = vec![arrival];
        for (op, word, small) in ops {
            // Also back in time, and to its end.
            let now = Instant::from_micros(word >> (small % 64));
            match op {
                0 => { arrivals.push(meter.begin(now)); begun = begun.saturating_add(1); }
                1 | 2 => {
                    let finished = match small % 3 {
                        0 => Finished::Failed,
                        1 => Finished::GivenUp,
                        _ => Finished::Answered(Duration::from_micros(word)),
                    };
                    meter.finish(now, arrivals[usize::from(small) % arrivals.len()], finished);
                    begun = begun.saturating_sub(1);
                }
                3 => { meter.set_queued(small); meter.set_clients(small); meter.set_capacity(small); meter.set_utilization(small % 2); }
                4 if small < 2_000 => { epoch += 1; meter.set_epoch(epoch); }
                _ => {}
            }
            prop_assert_eq!(meter.in_flight(), begun);
            let report = meter.report(now);
            prop_assert!(report.version > last);
            prop_assert_eq!((report.in_flight, report.age_ms, report.version.epoch), (begun, 0, epoch));
            last = report.version;
        }
    }
}

/// An endpoint as the documentation of the cache describes it.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Version and the moment of the sample, in microseconds.
    load: Option<(ReportVersion, i128)>,
    own: u32,
    own_at_report: u32,
}

const ROOM: usize = 4;

fn check(cache: &LoadCache<ROOM>, model: &BTreeMap<u32, Model>, now: Instant) {
    assert_eq!(cache.endpoints().len(), model.len());
    for (&id, expected) in model {
        let slot = cache.slot_of(NodeId::new(id)).unwrap();
        let found = cache.get(slot).unwrap();
        assert_eq!(found.own_in_flight(), expected.own, "own requests are never lost");
        let version = found.cached().map(|cached| cached.report().version);
        assert_eq!(version, expected.load.map(|(version, _)| version));
        let age = expected
            .load
            .map(|(_, taken)| i128::from(now.as_micros()) - taken);
        assert_eq!(
            found
                .cached()
                .map(|cached| i128::from(cached.age(now).as_micros())),
            age
        );
        let (fresh, aging) = (
            age.is_some_and(|age| age <= 10_000_000),
            age.is_some_and(|age| age <= 15_000_000),
        );
        assert_eq!(cache.fresh(slot, now).is_some(), fresh);
        let freshness = match (fresh, aging) {
            (true, _) => Freshness::Fresh,
            (false, true) => Freshness::Aging,
            (false, false) => Freshness::Stale,
        };
        assert_eq!(cache.freshness(slot, now), freshness);
        if expected.load.is_some() {
            assert_eq!(found.own_at_report(), expected.own_at_report);
        }
    }
}

/// Makes room in the model: `Err` when everybody is in use, else who had to go may be one of several equals.
fn make_room(model: &BTreeMap<u32, Model>, id: u32) -> Result<Vec<u32>, ()> {
    if model.contains_key(&id) || model.len() < ROOM {
        return Ok(Vec::new());
    }
    let idle = || model.iter().filter(|(_, endpoint)| endpoint.own == 0);
    let taken = |endpoint: &Model| endpoint.load.map_or(i128::MIN, |(_, taken)| taken);
    let oldest = idle().map(|(_, endpoint)| taken(endpoint)).min().ok_or(())?;
    Ok(idle()
        .filter(|(_, endpoint)| taken(endpoint) == oldest)
        .map(|(&id, _)| id)
        .collect())
}

proptest! {
    #[test]
    fn the_cache_does_what_it_says(
        ops in prop::collection::vec((0..7_u8, 0..7_u32, 1..3_u32, 0..6_u64, 0..20_000_u32, 0..4_000_u64), 1..150)
    ) {
        let mut cache: LoadCache<ROOM> = LoadCache::new(TTL, STALE);
        let mut model: BTreeMap<u32, Model> = BTreeMap::new();
        let mut now = Instant::from_secs(1_000);
        for (op, n, epoch, seq, age_ms, pass) in ops {
            now = now.saturating_add(Duration::from_millis(pass));
            let id = NodeId::new(n);
            match op {
                0..=2 => {
                    let incoming = report(epoch, seq, age_ms);
                    let room = make_room(&model, n);
                    let result = if op == 0 {
                        cache.insert(now, id).map(|_| Recorded::Old)
                    } else {
                        cache.record(now, id, incoming)
                    };
                    prop_assert_eq!(result.is_ok(), room.is_ok(), "full only when all are in use");
                    if let (Ok(recorded), Ok(victims)) = (result, room) {
                        if !victims.is_empty() {
                            let gone: Vec<u32> = victims.into_iter()
                                .filter(|&victim| cache.slot_of(NodeId::new(victim)).is_none()).collect();
                            prop_assert_eq!(gone.len(), 1, "one of the oldest idle ones went");
                            model.remove(&gone[0]);
                        }
                        let endpoint = model.entry(n).or_default();
                        if op != 0 {
                            let taken = i128::from(now.as_micros()) - i128::from(age_ms) * 1_000;
                            let expected = match endpoint.load {
                                Some((known, _)) if incoming.version < known => Recorded::Old,
                                Some((known, before)) if incoming.version == known => {
                                    if taken > before { Recorded::Younger } else { Recorded::Old }
                                }
                                _ => Recorded::Newer,
                            };
                            prop_assert_eq!(recorded, expected);
                            if expected != Recorded::Old {
                                endpoint.load = Some((incoming.version, taken));
                            }
                            if expected == Recorded::Newer {
                                endpoint.own_at_report = endpoint.own;
                            }
                        }
                    }
                }
                3 | 4 => if let Some(slot) = cache.slot_of(id) {
                    cache.begin(slot);
                    model.get_mut(&n).unwrap().own += 1;
                },
                5 => if let Some(slot) = cache.slot_of(id) {
                    cache.finish(slot, now, Ended::Abandoned);
                    let own = &mut model.get_mut(&n).unwrap().own;
                    *own = own.saturating_sub(1);
                },
                _ => if let Some(slot) = cache.slot_of(id) {
                    if seq == 0 {
                        cache.remove(slot);
                        model.remove(&n);
                    } else {
                        cache.clear_report(slot);
                        model.get_mut(&n).unwrap().load = None;
                    }
                },
            }
            check(&cache, &model, now);
        }
    }
}
