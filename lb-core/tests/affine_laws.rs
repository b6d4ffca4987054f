//! What the affine strategies owe their users, over any pool, and the figures that their pages state.

use std::collections::{HashMap, HashSet};

use lb_core::pick::{
    Bounded, Ketama, Load, Maglev, Overflow, Pool, Rendezvous, Ring, RingSize, Strategy as _, Tabled as _,
    key_hash,
};
use lb_core::rng::{Rng, Sfc32};
use proptest::prelude::*;

/// One endpoint: its name's number, its weight, whether it is admitted, our requests there.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Endpoint {
    name: u32,
    weight: u16,
    admitted: bool,
    in_flight: u32,
}

/// Endpoints by slot; some slots are nobody's.
#[derive(Clone, Debug, Default)]
struct Fleet {
    slots: Vec<Option<Endpoint>>,
    version: u32,
}

impl Fleet {
    fn of(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self {
            slots: endpoints.into_iter().map(Some).collect(),
            version: 0,
        }
    }

    fn equal(count: u32) -> Self {
        Self::of((0..count).map(|name| Endpoint {
            name,
            weight: 1,
            admitted: true,
            in_flight: 0,
        }))
    }

    fn get(&self, slot: usize) -> Option<&Endpoint> {
        self.slots.get(slot)?.as_ref()
    }

    fn get_mut(&mut self, slot: usize) -> &mut Endpoint {
        self.slots[slot].as_mut().unwrap()
    }

    fn remove(&mut self, slot: usize) {
        self.slots[slot] = None;
        self.version += 1;
    }
}

impl Pool for Fleet {
    fn len(&self) -> usize {
        self.slots().count()
    }
    fn slot(&self, index: usize) -> usize {
        self.slots().nth(index).unwrap_or(usize::MAX)
    }
    fn slots(&self) -> impl Iterator<Item = usize> {
        (0..self.slots.len()).filter(|&slot| self.slots[slot].is_some())
    }
    fn admits(&self, slot: usize) -> bool {
        self.get(slot).is_some_and(|endpoint| endpoint.admitted)
    }
    fn load(&self, slot: usize) -> Load {
        Load {
            own_in_flight: self.get(slot).map_or(0, |endpoint| endpoint.in_flight),
            ..Load::default()
        }
    }
    fn weight(&self, slot: usize) -> u16 {
        self.get(slot).map_or(0, |endpoint| endpoint.weight)
    }
    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        let name = self.get(slot).map_or(0, |endpoint| endpoint.name);
        format!("10.0.{}.{}:80", name / 256, name % 256)
    }
    fn version(&self) -> u32 {
        self.version
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Rendezvous,
    Maglev,
    Ring,
    Envoy,
    Ketama,
}

const KINDS: [Kind; 5] = [
    Kind::Rendezvous,
    Kind::Maglev,
    Kind::Ring,
    Kind::Envoy,
    Kind::Ketama,
];

#[derive(Clone)]
enum Affine {
    Rendezvous(Bounded<Rendezvous<Vec<u32>>>),
    Maglev(Bounded<Maglev<Vec<u32>>>),
    Ring(Bounded<Ring<Vec<u32>>>),
    Ketama(Bounded<Ketama<Vec<u32>>>),
    Plain(Plain),
}

#[derive(Clone)]
enum Plain {
    Rendezvous(Rendezvous<Vec<u32>>),
    Maglev(Maglev<Vec<u32>>),
    Ring(Ring<Vec<u32>>),
    Ketama(Ketama<Vec<u32>>),
}

fn plain(kind: Kind, slots: usize) -> Plain {
    let ring = |size| Plain::Ring(Ring::new(vec![9; Ring::words(slots, 4_000)], slots, size).unwrap());
    match kind {
        Kind::Rendezvous => {
            Plain::Rendezvous(Rendezvous::new(vec![9; Rendezvous::words(slots)], slots).unwrap())
        }
        Kind::Maglev => Plain::Maglev(Maglev::new(vec![9; Maglev::words(slots, 509)], slots, 509).unwrap()),
        Kind::Ring => ring(RingSize::PerWeight(40)),
        Kind::Envoy => ring(RingSize::Envoy {
            at_least: 1_024,
            at_most: 3_000,
        }),
        Kind::Ketama => Plain::Ketama(Ketama::new(vec![9; Ketama::words(slots, 30)], slots).unwrap()),
    }
}

fn bounded(kind: Kind, slots: usize, percent: u16, overflow: Overflow) -> Affine {
    match plain(kind, slots) {
        Plain::Rendezvous(inner) => Affine::Rendezvous(Bounded::new(inner, percent, overflow)),
        Plain::Maglev(inner) => Affine::Maglev(Bounded::new(inner, percent, overflow)),
        Plain::Ring(inner) => Affine::Ring(Bounded::new(inner, percent, overflow)),
        Plain::Ketama(inner) => Affine::Ketama(Bounded::new(inner, percent, overflow)),
    }
}

/// All kinds, bare and bounded.
fn all(slots: usize) -> Vec<(String, Affine)> {
    let mut all = Vec::new();
    for kind in KINDS {
        all.push((format!("{kind:?}"), Affine::Plain(plain(kind, slots))));
        for overflow in [Overflow::Jump, Overflow::Forward] {
            let name = format!("{kind:?} bounded, {overflow:?}");
            all.push((name, bounded(kind, slots, 125, overflow)));
        }
    }
    all
}

impl Affine {
    fn pick(&mut self, pool: &Fleet, key: Option<u64>, rng: &mut Sfc32) -> Option<usize> {
        match self {
            Self::Rendezvous(inner) => inner.pick(pool, key, rng),
            Self::Maglev(inner) => inner.pick(pool, key, rng),
            Self::Ring(inner) => inner.pick(pool, key, rng),
            Self::Ketama(inner) => inner.pick(pool, key, rng),
            Self::Plain(Plain::Rendezvous(inner)) => inner.pick(pool, key, rng),
            Self::Plain(Plain::Maglev(inner)) => inner.pick(pool, key, rng),
            Self::Plain(Plain::Ring(inner)) => inner.pick(pool, key, rng),
            Self::Plain(Plain::Ketama(inner)) => inner.pick(pool, key, rng),
        }
    }

    fn update(&mut self, pool: &Fleet, budget: u32) -> bool {
        match self {
            Self::Rendezvous(inner) => inner.update(pool, budget),
            Self::Maglev(inner) => inner.update(pool, budget),
            Self::Ring(inner) => inner.update(pool, budget),
            Self::Ketama(inner) => inner.update(pool, budget),
            Self::Plain(Plain::Rendezvous(inner)) => inner.update(pool, budget),
            Self::Plain(Plain::Maglev(inner)) => inner.update(pool, budget),
            Self::Plain(Plain::Ring(inner)) => inner.update(pool, budget),
            Self::Plain(Plain::Ketama(inner)) => inner.update(pool, budget),
        }
    }

    fn finish(&mut self, pool: &Fleet, budget: u32) {
        let mut calls = 0;
        while !self.update(pool, budget) {
            calls += 1;
            assert!(calls < 200_000, "the build does not end");
        }
    }

    /// The name that a key is sent to.
    fn sends(&mut self, pool: &Fleet, key: u64) -> Option<u32> {
        let slot = self.pick(pool, Some(key), &mut Sfc32::new(1))?;
        pool.get(slot).map(|endpoint| endpoint.name)
    }
}

fn keys(count: u32) -> impl Iterator<Item = u64> {
    (0..count).map(|key| key_hash(&key.to_le_bytes()))
}

fn endpoints(admitted: f64) -> impl Strategy<Value = Vec<Endpoint>> {
    let size = prop_oneof![1 => Just(0_usize), 1 => Just(1), 8 => 2..40_usize];
    let weight = prop_oneof![
        4 => Just(1_u16), 4 => 1..10_u16, 1 => Just(0), 1 => Just(u16::MAX), 1 => any::<u16>()
    ];
    let in_flight = prop_oneof![8 => 0..20_u32, 1 => Just(u32::MAX), 1 => any::<u32>()];
    (size, any::<bool>(), any::<bool>()).prop_flat_map(move |(size, equal, idle)| {
        let endpoint = (weight.clone(), prop::bool::weighted(admitted), in_flight.clone());
        (prop::collection::vec(endpoint, size), 0..60_000_u32).prop_map(move |(endpoints, first)| {
            (first..)
                .zip(endpoints)
                .map(|(name, (weight, admitted, in_flight))| Endpoint {
                    name,
                    weight: if equal { 1 } else { weight },
                    admitted,
                    in_flight: if idle { 0 } else { in_flight },
                })
                .collect()
        })
    })
}

/// Endpoints spread over slots, in some order and with gaps.
fn shuffled(endpoints: &[Endpoint], seed: u64) -> Fleet {
    let mut rng = Sfc32::new(seed);
    let mut slots: Vec<Option<Endpoint>> = endpoints.iter().copied().map(Some).collect();
    slots.extend((0..rng.below(4)).map(|_| None));
    for end in (1..slots.len()).rev() {
        slots.swap(end, rng.below(end as u32 + 1) as usize);
    }
    Fleet { slots, version: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Before there is a table, half way, with it, and when it is out of date.
    #[test]
    fn only_admitted_and_none_only_when_nobody_is(
        endpoints in endpoints(0.5), seed in any::<u64>(), steps in 0..40_u32, budget in 1..200_u32,
    ) {
        let fleet = shuffled(&endpoints, seed);
        for (name, mut affine) in all(fleet.len()) {
            let mut stale = fleet.clone();
            for stage in 0..4 {
                match stage {
                    1 => (0..steps).for_each(|_| { affine.update(&stale, budget); }),
                    2 => affine.finish(&stale, 1_000),
                    3 => {
                        let mut rng = Sfc32::new(seed);
                        for slot in 0..stale.slots.len() {
                            if rng.below(3) == 0 {
                                stale.remove(slot);
                            }
                        }
                    }
                    _ => {}
                }
                let anybody = stale.slots().any(|slot| stale.admits(slot));
                let mut twin = affine.clone();
                let (mut rng, mut twins) = (Sfc32::new(seed), Sfc32::new(seed));
                for key in keys(8).map(Some).chain([None, Some(0), Some(u64::MAX)]) {
                    let pick = affine.pick(&stale, key, &mut rng);
                    prop_assert_eq!(pick, twin.pick(&stale, key, &mut twins));
                    prop_assert_eq!(pick.is_some(), anybody, "{} {}", &name, stage);
                    prop_assert!(pick.is_none_or(|slot| stale.admits(slot)), "{} {}", &name, stage);
                }
            }
        }
    }

    #[test]
    fn where_endpoints_are_kept_changes_nothing(endpoints in endpoints(0.7), seeds in any::<[u64; 2]>()) {
        let fleets = seeds.map(|seed| shuffled(&endpoints, seed));
        for (name, affine) in all(endpoints.len()) {
            for updated in [false, true] {
                let mut pair = [affine.clone(), affine.clone()];
                if updated {
                    pair[0].finish(&fleets[0], 1_000);
                    pair[1].finish(&fleets[1], 7);
                }
                for key in keys(40) {
                    let sent: Vec<_> = pair.iter_mut().zip(&fleets).map(|(affine, fleet)| affine.sends(fleet, key)).collect();
                    prop_assert_eq!(sent[0], sent[1], "{} {}", &name, updated);
                }
            }
        }
    }

    #[test]
    fn a_build_in_steps_is_the_build_in_one_go(endpoints in endpoints(1.0), seed in any::<u64>(), budgets in prop::collection::vec(0..60_u32, 1..20)) {
        let mut fleet = shuffled(&endpoints, seed);
        for (name, affine) in all(endpoints.len()) {
            let (mut one, mut steps) = (affine.clone(), affine);
            one.finish(&fleet, u32::MAX);
            // A build that is overtaken by a change starts anew.
            fleet.version += 1;
            steps.update(&fleet, budgets[0]);
            fleet.version -= 1;
            let mut calls = 0;
            while !steps.update(&fleet, budgets[calls % budgets.len()] + u32::from(calls > 4_000)) {
                calls += 1;
                prop_assert!(calls < 200_000);
            }
            for key in keys(60) {
                prop_assert_eq!(one.sends(&fleet, key), steps.sends(&fleet, key), "{}", &name);
            }
        }
    }

    /// Whoever leaves, only its keys move; whoever is refused, likewise, without any change of a table.
    #[test]
    fn only_the_keys_of_the_leaving_move(mut endpoints in endpoints(1.0), gone in any::<prop::sample::Index>()) {
        endpoints.iter_mut().for_each(|endpoint| endpoint.weight = endpoint.weight.clamp(1, 3));
        endpoints.truncate(30);
        if endpoints.len() < 2 {
            return Ok(());
        }
        let gone = gone.index(endpoints.len());
        let fleet = Fleet::of(endpoints.iter().copied());
        let mut left = fleet.clone();
        left.remove(gone);
        let mut refused = fleet.clone();
        refused.get_mut(gone).admitted = false;
        for kind in KINDS {
            let ring = Ring::new(vec![0; Ring::words(30, 40 * 90)], 30, RingSize::PerWeight(40)).unwrap();
            let mut affine = match kind {
                Kind::Ketama => Affine::Plain(Plain::Ketama(Ketama::new(vec![0; Ketama::words(30, 90)], 30).unwrap())),
                Kind::Ring => Affine::Plain(Plain::Ring(ring)),
                other => Affine::Plain(plain(other, 30)),
            };
            affine.finish(&fleet, 1_000);
            let mut after = affine.clone();
            after.finish(&left, 1_000);
            for key in keys(300) {
                let before = affine.sends(&fleet, key);
                let refused = affine.sends(&refused, key);
                if before == Some(fleet.slots[gone].unwrap().name) {
                    prop_assert_ne!(refused, before);
                    // Ahead of its leaving, its keys go where they will.
                    if matches!(kind, Kind::Rendezvous | Kind::Ring | Kind::Ketama) {
                        prop_assert_eq!(refused, after.sends(&left, key), "{:?}", kind);
                    }
                } else {
                    prop_assert_eq!(refused, before, "{:?}", kind);
                    if matches!(kind, Kind::Rendezvous | Kind::Ring | Kind::Ketama) {
                        prop_assert_eq!(after.sends(&left, key), before, "{:?}", kind);
                    }
                }
            }
        }
    }

    /// `ceil(percent / 100 * (all + 1) * weight / weights)` is never exceeded as long as anybody admitted has room.
    #[test]
    fn bounds_hold(
        endpoints in endpoints(0.8), percent in prop_oneof![Just(100_u16), Just(125), Just(200), 100..=300_u16], seed in any::<u64>(), hot in any::<bool>()) {
        for kind in KINDS {
            for overflow in [Overflow::Jump, Overflow::Forward] {
                let mut fleet = shuffled(&endpoints, seed);
                let mut affine = bounded(kind, fleet.len(), percent, overflow);
                affine.finish(&fleet, 1_000);
                for key in keys(60) {
                    let weights: u128 = fleet.slots().map(|slot| u128::from(fleet.weight(slot))).sum();
                    // The sum saturates, as everything does.
                    let total = u128::from(fleet.total_in_flight()) + 1;
                    let bound = |slot| match weights {
                        0 => (u128::from(percent) * total).div_ceil(100 * fleet.len() as u128),
                        _ => (u128::from(percent) * total * u128::from(fleet.weight(slot))).div_ceil(100 * weights),
                    };
                    let has_room = |slot| u128::from(fleet.own_in_flight(slot)) < bound(slot);
                    let room = fleet.slots().any(|slot| fleet.admits(slot) && has_room(slot));
                    let Some(slot) = affine.pick(&fleet, Some(if hot { 7 } else { key }), &mut Sfc32::new(1)) else { break };
                    prop_assert!(!room || has_room(slot), "{:?} {:?}", kind, overflow);
                    let endpoint = fleet.get_mut(slot);
                    endpoint.in_flight = endpoint.in_flight.saturating_add(1);
                }
            }
        }
    }
}

#[test]
fn without_memory_names_are_scanned() {
    let fleet = Fleet::equal(5);
    let mut affines = [
        Affine::Plain(Plain::Rendezvous(Rendezvous::new(vec![], 0).unwrap())),
        Affine::Plain(Plain::Ring(
            Ring::new(vec![0; Ring::words(0, 0)], 0, RingSize::PerWeight(160)).unwrap(),
        )),
        Affine::Plain(Plain::Ketama(
            Ketama::new(vec![0; Ketama::words(0, 0)], 0).unwrap(),
        )),
        Affine::Plain(Plain::Maglev(
            Maglev::new(vec![0; Maglev::words(0, 3)], 0, 3).unwrap(),
        )),
    ];
    for affine in &mut affines {
        affine.finish(&fleet, 1);
        let sent: HashSet<_> = keys(100).map(|key| affine.sends(&fleet, key)).collect();
        assert_eq!(sent.len(), 5);
        assert!(!sent.contains(&None));
    }
    assert!(Rendezvous::new([0; 3], 1).is_err());
    assert!(Ring::new([0; 3], 1, RingSize::PerWeight(1)).is_err());
    assert!(Ketama::new([0; 3], 1).is_err());
}

#[test]
fn a_finished_table_is_shared() {
    let fleet = Fleet::equal(20);
    let mut ring = Ring::new(vec![0; Ring::words(20, 3_200)], 20, RingSize::PerWeight(160)).unwrap();
    while !ring.update(&fleet, 50) {}
    let mut shared = ring.clone().map(std::sync::Arc::<[u32]>::from);
    let mut again = shared.clone();
    for key in keys(100) {
        let pick = ring.pick(&fleet, Some(key), &mut Sfc32::new(1));
        assert_eq!(shared.pick(&fleet, Some(key), &mut Sfc32::new(1)), pick);
        assert_eq!(again.pick(&fleet, Some(key), &mut Sfc32::new(1)), pick);
    }
}

fn maglev(fleet: &Fleet) -> Vec<usize> {
    let slots = fleet.slots.len();
    let entries = Maglev::ENVOY;
    let mut maglev = Maglev::new(vec![0; Maglev::words(slots, entries)], slots, entries).unwrap();
    while !maglev.update(fleet, u32::MAX) {}
    let mut rng = Sfc32::new(1);
    (0..u64::from(entries))
        .map(|key| maglev.pick(fleet, Some(key), &mut rng).unwrap())
        .collect()
}

fn counts(picks: &[usize]) -> HashMap<usize, u32> {
    let mut counts = HashMap::new();
    picks
        .iter()
        .for_each(|&slot| *counts.entry(slot).or_insert(0) += 1);
    counts
}

#[test]
fn maglev_is_even_to_one_entry() {
    for count in [1, 3, 100, 400, 1_000] {
        let counts = counts(&maglev(&Fleet::equal(count)));
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(counts.len() == count as usize && most - least <= 1, "{count}");
    }
    let mut fleet = Fleet::equal(400);
    for slot in 0..400 {
        fleet.get_mut(slot).weight = [2, 1, 1, 0][slot % 4];
    }
    let counts = counts(&maglev(&fleet));
    for slot in 0..400 {
        let expected = 65_537.0 * f64::from(fleet.weight(slot)) / 400.0;
        let count = f64::from(counts.get(&slot).copied().unwrap_or(0));
        assert!((count - expected).abs() <= 2.0, "{slot}: {count} {expected}");
    }
}

/// Shares of entries that move although their home stays.
#[test]
fn maglev_moves_few_others() {
    for (count, gone, most) in [
        (1_000, 1, 0.010),
        (1_000, 6, 0.026),
        (1_000, 52, 0.042),
        (100, 5, 0.011),
    ] {
        let fleet = Fleet::equal(count);
        let mut left = fleet.clone();
        (0..gone).for_each(|i| left.remove((i * 17 + 3) as usize));
        let (before, after) = (maglev(&fleet), maglev(&left));
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after && left.get(**before).is_some());
        let share = moved.count() as f64 / before.len() as f64;
        assert!((0.0..most).contains(&share), "{count} {gone}: {share}");
    }
}

/// The most and the mean.
fn ring_imbalance(count: u32, points: u32) -> f64 {
    let fleet = Fleet::equal(count);
    let slots = count as usize;
    let words = Ring::words(slots, count * points);
    let mut ring = Ring::new(vec![0; words], slots, RingSize::PerWeight(points)).unwrap();
    while !ring.update(&fleet, u32::MAX) {}
    let mut rng = Sfc32::new(1);
    let picks: Vec<usize> = keys(200_000)
        .map(|key| ring.pick(&fleet, Some(key), &mut rng).unwrap())
        .collect();
    let most = counts(&picks).into_values().max().unwrap();
    f64::from(most) * f64::from(count) / 200_000.0
}

#[test]
fn rings_are_as_uneven_as_they_are_known_to_be() {
    for (count, points, expected) in [
        (3, 160, 1.0..1.15),
        (16, 160, 1.05..1.25),
        (64, 160, 1.12..1.30),
        (256, 160, 1.15..1.36),
        (64, 1_024, 1.03..1.15),
    ] {
        let imbalance = ring_imbalance(count, points);
        assert!(expected.contains(&imbalance), "{count} {points}: {imbalance}");
    }
}

/// 64 endpoints, up to 200 requests at each on average, keys of equal heat: how many do not get home. It is the
/// ring's unevenness, more than chance, that sends them astray.
#[test]
fn bounds_send_few_astray() {
    for (percent, most) in [(110, 0.06), (125, 0.015), (200, 0.002)] {
        for overflow in [Overflow::Jump, Overflow::Forward] {
            let mut fleet = Fleet::equal(64);
            let ring = Ring::new(vec![0; Ring::words(64, 64 * 160)], 64, RingSize::PerWeight(160)).unwrap();
            let mut plain = Affine::Plain(Plain::Ring(ring.clone()));
            let mut affine = Affine::Ring(Bounded::new(ring, percent, overflow));
            plain.finish(&fleet, u32::MAX);
            affine.finish(&fleet, u32::MAX);
            let (mut astray, mut queue) = (0_u32, std::collections::VecDeque::new());
            for key in keys(20_000) {
                let slot = affine.pick(&fleet, Some(key), &mut Sfc32::new(1)).unwrap();
                astray += u32::from(plain.pick(&fleet, Some(key), &mut Sfc32::new(1)) != Some(slot));
                fleet.get_mut(slot).in_flight += 1;
                queue.push_back(slot);
                if queue.len() > 64 * 200 {
                    fleet.get_mut(queue.pop_front().unwrap()).in_flight -= 1;
                }
            }
            let share = f64::from(astray) / 20_000.0;
            assert!(share < most, "{percent} {overflow:?}: {share}");
        }
    }
}
