//! Picks by many threads over endpoints that change, and what they leave behind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lb_core::NodeId;
use lb_core::load::{Ended, LoadReport, ReportVersion};
use lb_core::member::Tags;
use lb_core::pick::StrategyKind;

use super::{Ask, Balancer, BalancerConfig, BalancerFull, Endpoint, Lease, Picker, Standing, seat};
use crate::error::SelectError;

fn id(n: u32) -> NodeId {
    NodeId::new(n)
}

fn endpoint(n: u32, tags: &str) -> Endpoint {
    Endpoint::new(id(n)).tags(Tags::parse(tags).unwrap())
}

/// Endpoints `1..=n` with the tag `zone=a`.
fn balancer(n: u32) -> Balancer {
    let balancer = Balancer::new(BalancerConfig::default().seed(7));
    balancer.put_all((1..=n).map(|n| endpoint(n, "zone=a"))).unwrap();
    balancer
}

fn capacity(seq: u64, capacity: u16) -> LoadReport {
    LoadReport {
        version: ReportVersion { epoch: 1, seq },
        capacity,
        ..LoadReport::default()
    }
}

fn own(balancer: &Balancer) -> Vec<u32> {
    let known = balancer.endpoints();
    known.iter().map(|known| known.load.own_in_flight).collect()
}

fn picked(picker: &Picker, ask: &Ask<'_>) -> Result<u32, SelectError> {
    picker.pick(ask).map(|lease| lease.id().get())
}

#[test]
fn every_strategy_picks_what_matches_and_counts_it() {
    for kind in StrategyKind::ALL {
        let balancer = balancer(4);
        balancer.put(endpoint(9, "zone=b")).unwrap();
        let picker = balancer.picker(Some("zone=a"), kind).unwrap();
        let leases: Vec<Lease> = (0..40)
            .map(|n: u32| picker.pick(&Ask::new().key(n.to_le_bytes())).unwrap())
            .collect();
        assert!(leases.iter().all(|lease| lease.id().get() <= 4), "{kind}");
        let counts = own(&balancer);
        assert_eq!((counts.iter().sum::<u32>(), counts[4]), (40, 0), "{kind}");
        assert_eq!(balancer.picks().values().sum::<u64>(), 40, "{kind}");
        drop(leases);
        assert_eq!(own(&balancer), [0; 5], "{kind}");
        assert_eq!(balancer.picks().values().sum::<u64>(), 40, "{kind}");
    }
}

#[test]
fn same_seed_same_picks() {
    for kind in StrategyKind::ALL {
        let run = || {
            let balancer = balancer(9);
            let pickers = [Some("zone=a"), None].map(|filter| balancer.picker(filter, kind).unwrap());
            (0..100)
                .map(|n| picked(&pickers[n % 2], &Ask::new()).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(run(), run(), "{kind}");
    }
}

#[test]
fn what_is_missing_is_told() {
    let balancer = balancer(0);
    let picker = balancer.picker(Some("zone=a"), StrategyKind::RoundRobin).unwrap();
    let none = |ask: &Ask<'_>| picked(&picker, ask).unwrap_err();
    assert_eq!(none(&Ask::new()), SelectError::NoWorkers);
    balancer.put(endpoint(3, "zone=b")).unwrap();
    let filter = "zone=a".to_owned();
    assert_eq!(none(&Ask::new()), SelectError::NoMatch { filter });
    balancer.put(endpoint(1, "zone=a")).unwrap();
    balancer
        .put(endpoint(2, "zone=a").standing(Standing::Suspect))
        .unwrap();
    assert_eq!(picked(&picker, &Ask::new()), Ok(1));
    assert_eq!(
        picked(&picker, &Ask::new().exclude(&[id(1)])),
        Ok(2),
        "better than none"
    );
    assert_eq!(none(&Ask::new().exclude(&[id(1), id(2)])), SelectError::AllTried);
    balancer.set_full(id(1), Duration::from_secs(60));
    assert_eq!(picked(&picker, &Ask::new()), Ok(2));
    balancer.set_full(id(2), Duration::from_secs(60));
    assert_eq!(none(&Ask::new()), SelectError::AllAtCapacity);
    balancer.report(id(1), LoadReport::default());
    assert_eq!(picked(&picker, &Ask::new()), Ok(1), "a report ends it");
    balancer
        .put(endpoint(1, "zone=a").standing(Standing::Closed))
        .unwrap();
    balancer.remove(id(2));
    balancer.remove(id(3));
    assert_eq!(none(&Ask::new()), SelectError::NoWorkers);
    let bad = balancer.picker(Some("="), StrategyKind::RoundRobin);
    assert!(matches!(bad, Err(SelectError::Filter(_))));
}

#[test]
fn a_hint_is_followed_if_it_can_be() {
    let balancer = balancer(3);
    balancer.put(endpoint(4, "zone=b")).unwrap();
    let picker = balancer.picker(Some("zone=a"), StrategyKind::RoundRobin).unwrap();
    for _ in 0..5 {
        assert_eq!(picked(&picker, &Ask::new().hint(id(2))), Ok(2));
        assert_eq!(picked(&picker, &Ask::new().only(id(3))), Ok(3));
    }
    let tried = [id(2)];
    for (ask, unavailable) in [(Ask::new().exclude(&tried), 2), (Ask::new(), 4), (Ask::new(), 77)] {
        let hint = id(unavailable);
        let other = picked(&picker, &ask.hint(hint)).unwrap();
        assert!(other <= 3 && other != unavailable, "the strategy's choice");
        let error = picked(&picker, &ask.only(hint)).unwrap_err();
        assert_eq!(error, SelectError::Unavailable { id: hint });
    }
}

#[test]
fn no_more_than_the_capacity_is_in_flight() {
    let balancer = balancer(2);
    balancer.report(id(1), capacity(1, 2));
    balancer.report(id(2), capacity(1, 3));
    let picker = balancer.picker(None, StrategyKind::Random).unwrap();
    let leases: Vec<_> = (0..5).map(|_| picker.pick(&Ask::new()).unwrap()).collect();
    assert_eq!(own(&balancer), [2, 3]);
    assert_eq!(picked(&picker, &Ask::new()), Err(SelectError::AllAtCapacity));
    let forced = balancer.lease(id(1)).unwrap();
    assert_eq!(forced.own_in_flight(), 3, "leases without a pick may");
    drop((leases, forced));
    assert_eq!(own(&balancer), [0, 0]);
}

#[test]
fn counts_survive_leaving_and_coming_back() {
    let config = BalancerConfig::default().endpoints(2);
    let balancer = Balancer::new(config);
    balancer.put(endpoint(1, "")).unwrap();
    balancer.put(endpoint(2, "")).unwrap();
    let picker = balancer.picker(None, StrategyKind::LeastConnections).unwrap();
    let lease = picker.pick(&Ask::new().only(id(1))).unwrap();
    assert!(balancer.remove(id(1)) && !balancer.remove(id(1)));
    assert_eq!(
        balancer.put(endpoint(3, "")),
        Err(BalancerFull),
        "its slot is in use"
    );
    assert_eq!(picked(&picker, &Ask::new()), Ok(2));
    balancer.put(endpoint(1, "")).unwrap();
    assert_eq!(own(&balancer), [1, 0]);
    balancer.remove(id(1));
    assert_eq!(lease.id(), id(1), "a lease knows its endpoint");
    drop(lease);
    balancer.put(endpoint(3, "")).unwrap();
    assert_eq!(own(&balancer), [0, 0]);
    assert_eq!(balancer.picks(), BTreeMap::from([(id(1), 1), (id(2), 1)]));
}

#[test]
fn a_slot_given_away_is_clean() {
    let balancer = Balancer::new(BalancerConfig::default().endpoints(1));
    balancer.put(endpoint(1, "")).unwrap();
    balancer.report(id(1), capacity(9, 1));
    balancer.set_full(id(1), Duration::from_secs(60));
    let lease = balancer.lease(id(1)).unwrap();
    lease.end(Ended::Answered(lb_core::Duration::from_secs(3)));
    assert_eq!(balancer.endpoints()[0].load.failing, 0);
    assert!(balancer.endpoints()[0].load.own_latency_us > 2_900_000);
    balancer.remove(id(1));
    balancer.put(endpoint(2, "")).unwrap();
    let known = &balancer.endpoints()[0];
    assert_eq!((known.load.own_latency_us, known.reported), (0, None));
    let picker = balancer.picker(None, StrategyKind::RoundRobin).unwrap();
    assert_eq!(picked(&picker, &Ask::new()), Ok(2));
    balancer.report(id(2), capacity(1, 1));
    assert!(
        balancer.endpoints()[0].load.report.is_some(),
        "older numbers of another node"
    );
}

#[test]
fn an_older_report_changes_nothing() {
    let balancer = balancer(1);
    balancer.report(id(1), capacity(5, 50));
    balancer.report(id(1), capacity(4, 40));
    assert_eq!(balancer.endpoints()[0].reported.unwrap().capacity, 50);
    assert!(!balancer.report(id(2), capacity(1, 1)), "unknown");
}

#[test]
fn tables_follow_the_endpoints() {
    for kind in StrategyKind::ALL.into_iter().filter(|kind| kind.is_affine()) {
        let balancer = balancer(10);
        let picker = balancer.picker(Some("zone=a"), kind).unwrap();
        let homes = || -> Vec<u32> {
            let home = |n: u32| picked(&picker, &Ask::new().key(n.to_le_bytes())).unwrap();
            (0..500).map(home).collect()
        };
        let before = homes();
        assert_eq!(homes(), before, "{kind}");
        balancer.put(endpoint(11, "zone=a")).unwrap();
        balancer.put(endpoint(12, "zone=b")).unwrap();
        let with_another = homes();
        let moved = before.iter().zip(&with_another).filter(|(a, b)| a != b).count();
        assert!((10..200).contains(&moved), "{kind}: {moved} of 500 keys moved");
        assert!(
            with_another.contains(&11) && !with_another.contains(&12),
            "{kind}"
        );
        balancer.remove(id(11));
        assert_eq!(homes(), before, "{kind}");
        // In a thread that has not picked yet as well.
        let elsewhere = std::thread::scope(|scope| scope.spawn(homes).join().unwrap());
        assert_eq!(elsewhere, before, "{kind}");
    }
}

#[test]
fn weights_count_and_may_change() {
    for kind in [
        StrategyKind::SmoothWeighted,
        StrategyKind::StaticStride,
        StrategyKind::WeightedLeast,
    ] {
        let balancer = balancer(2);
        balancer.put(endpoint(1, "zone=a").weight(3)).unwrap();
        let picker = balancer.picker(None, kind).unwrap();
        let firsts = || {
            let picks = (0..400).map(|_| picked(&picker, &Ask::new()).unwrap());
            picks.filter(|&id| id == 1).count()
        };
        assert!(firsts().abs_diff(300) <= 4, "{kind}");
        balancer.put(endpoint(2, "zone=a").weight(9)).unwrap();
        assert!(firsts().abs_diff(100) <= 4, "{kind}");
    }
}

#[test]
fn the_default_learns_where_requests_end() {
    let balancer = balancer(40);
    let picker = balancer.picker(None, StrategyKind::Adaptive).unwrap();
    let mut leases: Vec<_> = (0..400).map(|_| picker.pick(&Ask::new()).unwrap()).collect();
    let counts = own(&balancer);
    let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
    assert!(most - least <= 4, "{counts:?}");
    let freed = leases[123].id();
    leases.retain(|lease| lease.id() != freed);
    assert_eq!(picker.pick(&Ask::new()).unwrap().id(), freed);
}

#[test]
fn pickers_that_are_gone_leave_nothing_in_a_thread() {
    let work = || {
        let balancer = balancer(2);
        let kept = balancer.picker(None, StrategyKind::RoundRobin).unwrap();
        drop(kept.pick(&Ask::new()).unwrap());
        for _ in 0..1_000 {
            let picker = balancer.picker(None, StrategyKind::RoundRobin).unwrap();
            drop(picker.pick(&Ask::new()).unwrap());
        }
        let many: Vec<_> = (0..100)
            .map(|_| balancer.picker(None, StrategyKind::RoundRobin).unwrap())
            .collect();
        many.iter().for_each(|picker| drop(picker.pick(&Ask::new())));
        let most = seat::seats();
        drop(many);
        for _ in 0..200 {
            let picker = balancer.picker(None, StrategyKind::RoundRobin).unwrap();
            drop(picker.pick(&Ask::new()).unwrap());
        }
        assert_eq!(balancer.picks().values().sum::<u64>(), 1 + 1_000 + 100 + 200);
        (most, seat::seats())
    };
    let (most, after) = std::thread::spawn(work).join().unwrap();
    assert!((101..=210).contains(&most), "{most}");
    assert!(after < most, "{after} of {most}");
}

#[test]
fn data_whose_destructor_picks_is_no_trouble() {
    struct Picks(Picker);
    impl Drop for Picks {
        fn drop(&mut self) {
            let _ = self.0.pick(&Ask::new());
        }
    }
    let balancer = balancer(1);
    let picker = balancer.picker(None, StrategyKind::RoundRobin).unwrap();
    balancer.put(endpoint(2, "").data(Picks(picker.clone()))).unwrap();
    assert_eq!(picked(&picker, &Ask::new().only(id(2))), Ok(2));
    drop(balancer.lease(id(2)));
    balancer.remove(id(2));
    assert_eq!(picked(&picker, &Ask::new()), Ok(1));
    drop(balancer.lease(id(1)));
}

/// Four threads pick while endpoints come, go, and change their tags and standing.
#[test]
fn threads_pick_only_whom_they_may_and_leave_no_count_behind() {
    const ENDPOINTS: u32 = 24;
    const LIMIT: u32 = 3;
    // Without a table, with one, and with words that picks write to.
    for kind in [
        StrategyKind::Adaptive,
        StrategyKind::RoundRobin,
        StrategyKind::LeastConnections,
        StrategyKind::SmoothWeighted,
        StrategyKind::WeightedLeast,
        StrategyKind::Rendezvous,
    ] {
        let balancer = Balancer::new(BalancerConfig::default().endpoints(40));
        for n in 1..=ENDPOINTS {
            // The first third never changes, so that there is always somebody.
            balancer.put(endpoint(n, "zone=a")).unwrap();
            balancer.report(id(n), capacity(1, LIMIT as u16));
        }
        let picker = balancer.picker(Some("zone=a"), kind).unwrap();
        let (stop, picks) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (picker, stop, picks) = (picker.clone(), &stop, &picks);
                scope.spawn(move || {
                    let mut held = Vec::new();
                    let mut made = 0;
                    for round in 0_u32.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let tried = [id(round % ENDPOINTS + 1)];
                        let ask = Ask::new().key_hash(u64::from(round) << 32 | u64::from(thread));
                        match picker.pick(&ask.exclude(&tried)) {
                            Ok(lease) => {
                                made += 1;
                                assert_ne!(lease.id(), tried[0]);
                                assert_eq!(lease.endpoint().get_tags().as_str(), "zone=a");
                                assert_ne!(lease.endpoint().get_standing(), Standing::Closed);
                                assert!(lease.own_in_flight() <= LIMIT + 4, "4 threads may try at once");
                                held.push(lease);
                            }
                            Err(SelectError::AllAtCapacity) => held.clear(),
                            Err(error) => panic!("{error}"),
                        }
                        if held.len() > 12 {
                            held.swap_remove(round as usize % 12)
                                .end(Ended::Failed { retry_after: None });
                        }
                    }
                    picks.fetch_add(made, Ordering::Relaxed);
                });
            }
            for round in 0..200_u32 {
                let n = ENDPOINTS / 3 + 1 + round * 7 % (ENDPOINTS * 2 / 3);
                match round % 4 {
                    0 => drop(balancer.remove(id(n))),
                    1 => balancer.put(endpoint(n, "zone=b")).unwrap(),
                    2 => balancer
                        .put(endpoint(n, "zone=a").standing(Standing::Closed))
                        .unwrap(),
                    _ => balancer.put(endpoint(n, "zone=a")).unwrap(),
                }
                balancer.report(id(n), capacity(u64::from(round) + 2, LIMIT as u16));
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        for known in balancer.endpoints() {
            assert_eq!(known.load.own_in_flight, 0, "{kind}: {known:?}");
        }
        assert_eq!(
            balancer.picks().values().sum::<u64>(),
            picks.into_inner(),
            "{kind}"
        );
    }
}

#[test]
fn an_explanation_tells_what_would_be_picked_and_changes_nothing() {
    for kind in StrategyKind::ALL {
        let balancer = balancer(4);
        balancer.put(endpoint(9, "zone=b")).unwrap();
        balancer.report(id(3), capacity(1, 8));
        let picker = balancer.picker(Some("zone=a"), kind).unwrap();
        for key in 0..9_u64 {
            let ask = Ask::new().key_hash(key);
            let why = picker.explain(&ask);
            assert_eq!(why, picker.explain(&ask), "{kind}");
            assert_eq!(why.candidates, 4, "{kind}");
            assert!(
                why.considered.iter().any(|(id, _)| why.picked == Some(*id)),
                "{kind}"
            );
            assert_eq!(why.rung.is_some(), kind == StrategyKind::Adaptive);
            let lease = picker.pick(&ask).unwrap();
            assert_eq!(why.picked, Some(lease.id()), "{kind}");
        }
        assert_eq!(own(&balancer), [0; 5], "{kind}");
    }
    let nobody = balancer(0).picker(None, StrategyKind::default()).unwrap();
    assert_eq!(nobody.explain(&Ask::new()).picked, None);
}
