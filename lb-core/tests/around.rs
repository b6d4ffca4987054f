//! All that goes around a strategy, together: levels, zones, slow start, exclusion, hints and reasons, over groups of
//! candidates with a strategy each.

use lb_core::load::LoadFigures;
use lb_core::pick::{
    AnyStrategy, Fallback, Found, Load, PickCounters, PickError, Pool as _, Shares, SlicePool, SlotSet,
    SlowStart, SlowStarting, StrategyKind, Stuck, Tabled as _, TierGroup, TierHealth, TierRules, Tiers,
    Tried, Without, ZoneCounts, ZoneRules, answer_us, sticky, zone_aware,
};
use lb_core::rng::{Rng as _, Sfc32};
use lb_core::{Duration, Instant};

const TIERS: usize = 2;
const ZONES: usize = 3;
const EACH: u16 = 5;
const SLOTS: usize = TIERS * ZONES * EACH as usize;

const NAMES: [&[u8]; SLOTS] = {
    let mut names: [&[u8]; SLOTS] = [b""; SLOTS];
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcd";
    let mut at = 0;
    while at < SLOTS {
        names[at] = letters.split_at(at).1.split_at(1).0;
        at += 1;
    }
    names
};

/// The strategies that spread requests evenly: not those that fill one up first, or keep to a few.
fn even() -> impl Iterator<Item = StrategyKind> {
    let uneven = [StrategyKind::Adaptive, StrategyKind::FirstFit];
    StrategyKind::ALL
        .into_iter()
        .filter(move |kind| !uneven.contains(kind))
}

/// A picker as its owner would build it.
struct Picker {
    /// By level and zone.
    groups: Vec<Group>,
    tiers: Tiers<TIERS>,
    zones: Vec<Shares<ZONES>>,
    counters: PickCounters,
    rng: Sfc32,
}

struct Group {
    candidates: Vec<u16>,
    strategy: SlowStarting<AnyStrategy<Vec<u32>>, 4>,
}

/// What is known of the endpoints.
struct Endpoints {
    healthy: SlotSet,
    full: SlotSet,
    loads: Vec<Load>,
    own_in_flight: Vec<u32>,
}

fn strategy(kind: StrategyKind, seed: u64) -> AnyStrategy<Vec<u32>> {
    let slots = EACH.into();
    AnyStrategy::new(kind, vec![0; kind.words(slots)], slots, seed).unwrap()
}

impl Picker {
    fn new(kind: StrategyKind, seed: u64) -> Self {
        let groups = (0..TIERS * ZONES).map(|group| {
            let first = group as u16 * EACH;
            Group {
                candidates: (first..first + EACH).collect(),
                strategy: SlowStarting::new(strategy(kind, seed), SlowStart::default()),
            }
        });
        Self {
            groups: groups.collect(),
            tiers: Tiers::default(),
            zones: Vec::new(),
            counters: PickCounters::default(),
            rng: Sfc32::new(seed),
        }
    }

    /// The membership changed.
    fn refresh(&mut self, endpoints: &Endpoints) {
        let healthy = |group: &Group| {
            let slots = group.candidates.iter();
            slots
                .filter(|&&slot| endpoints.healthy.contains(slot.into()))
                .count() as u32
        };
        let levels: Vec<_> = self
            .groups
            .chunks(ZONES)
            .map(|zones| TierHealth {
                healthy: zones.iter().map(healthy).sum(),
                degraded: 0,
                total: ZONES as u32 * u32::from(EACH),
            })
            .collect();
        self.tiers = Tiers::new(&levels, TierRules::default());
        self.zones = self
            .groups
            .chunks(ZONES)
            .map(|zones| {
                let counts = zones.iter().map(|group| ZoneCounts {
                    clients: 2,
                    endpoints: healthy(group),
                });
                zone_aware(0, &counts.collect::<Vec<_>>(), ZoneRules::default())
            })
            .collect();
    }

    fn pick(
        &mut self,
        endpoints: &Endpoints,
        tried: &Tried<8>,
        hint: Option<usize>,
        budget_us: u32,
    ) -> Result<usize, PickError> {
        let mut found = Found::default();
        let drawn = self.tiers.draw(&mut self.rng);
        let first = drawn.map_or(0, |(tier, _)| tier);
        let tiers = std::iter::once(first).chain((0..TIERS).filter(|&tier| tier != first));
        for (turn, tier) in tiers.enumerate() {
            let panics = self.tiers.in_panic(tier);
            let order: Vec<usize> = self.zones[tier].order(&mut self.rng).collect();
            for (zone_turn, zone) in order.into_iter().enumerate() {
                let Group { candidates, strategy } = &mut self.groups[tier * ZONES + zone];
                let pool = SlicePool {
                    candidates,
                    admitted: &[u32::MAX],
                    loads: &endpoints.loads,
                    own_in_flight: &endpoints.own_in_flight,
                    names: &NAMES,
                    version: 1,
                    ..SlicePool::default()
                };
                while !strategy.update(&pool, 10_000) {}
                let down = |slot: usize| !panics && !endpoints.healthy.contains(slot);
                let late = |slot: usize| answer_us(&pool.load(slot)) > budget_us;
                for slot in pool.slots() {
                    let untried = !down(slot) && !tried.contains(slot);
                    found.workers = true;
                    found.matching |= !down(slot);
                    found.untried |= untried;
                    found.open |= untried && !endpoints.full.contains(slot);
                }
                let open = Without::new(&pool, |slot| {
                    down(slot) || tried.contains(slot) || endpoints.full.contains(slot) || late(slot)
                });
                let hint = hint.filter(|&slot| candidates.contains(&(slot as u16)));
                let stuck = sticky(strategy, &open, hint, Fallback::Any, None, &mut self.rng);
                if hint.is_some() {
                    self.counters.hinted(stuck);
                }
                if let Some(slot) = stuck.map(Stuck::slot) {
                    let group = if panics {
                        TierGroup::All
                    } else {
                        TierGroup::Healthy
                    };
                    self.counters.picked(group, turn + zone_turn > 0, zone > 0);
                    return Ok(slot);
                }
            }
        }
        self.counters.shed(found.missing());
        Err(found.missing())
    }
}

fn endpoints() -> Endpoints {
    let mut healthy = SlotSet::new();
    (0..SLOTS).for_each(|slot| assert!(healthy.insert(slot)));
    let report = LoadFigures {
        in_flight: 3,
        capacity: 8,
        clients: 2,
        latency_us: 1_000,
        ..LoadFigures::default()
    };
    let load = Load {
        report: Some(report),
        ..Load::default()
    };
    Endpoints {
        healthy,
        full: SlotSet::new(),
        loads: vec![load; SLOTS],
        own_in_flight: vec![0; SLOTS],
    }
}

#[test]
fn all_is_near_as_long_as_all_is_well() {
    for kind in even() {
        let (mut picker, endpoints) = (Picker::new(kind, 1), endpoints());
        picker.refresh(&endpoints);
        let mut counts = [0_u32; SLOTS];
        for _ in 0..1_000 {
            counts[picker.pick(&endpoints, &Tried::new(), None, u32::MAX).unwrap()] += 1;
        }
        assert_eq!(counts[..5].iter().sum::<u32>(), 1_000, "{kind}");
        assert!(counts[..5].iter().all(|&count| count > 120), "{kind}: {counts:?}");
        assert_eq!(picker.counters.spills + picker.counters.fallbacks, 0);
    }
}

#[test]
fn the_second_level_helps_out_and_zones_keep_their_balance() {
    for kind in StrategyKind::ALL {
        let (mut picker, mut endpoints) = (Picker::new(kind, 2), endpoints());
        // Of the first level, one of the five near by is left, and three in each other zone: 7 of 15, 65 %.
        for slot in [0, 1, 2, 3, 5, 6, 10, 11] {
            endpoints.healthy.remove(slot);
        }
        picker.refresh(&endpoints);
        let mut counts = [0_u32; SLOTS];
        for _ in 0..20_000 {
            counts[picker.pick(&endpoints, &Tried::new(), None, u32::MAX).unwrap()] += 1;
        }
        let first: u32 = counts[..15].iter().sum();
        assert!((12_700..13_300).contains(&first), "{kind}: {first}");
        // A seventh of the candidates for a third of the clients: 43 % stay.
        let stays = counts[4] * 100 / first;
        assert!((41..=45).contains(&stays), "{kind}: {stays} %");
        assert_eq!(counts[15..20].iter().sum::<u32>(), 20_000 - first, "{kind}: near");
    }
}

#[test]
fn whoever_is_there_is_found_and_nobody_else() {
    for kind in StrategyKind::ALL {
        let mut picker = Picker::new(kind, 3);
        let mut chance = Sfc32::new(4);
        let (mut sheds, mut hits) = (0_u32, 0_u32);
        for round in 0..600 {
            let mut endpoints = endpoints();
            let (down, full) = (chance.below(101), chance.below(101));
            for slot in 0..SLOTS {
                if chance.below(100) < down {
                    endpoints.healthy.remove(slot);
                }
                if chance.below(100) < full {
                    endpoints.full.insert(slot);
                }
                endpoints.own_in_flight[slot] = chance.below(20);
                endpoints.loads[slot].own_in_flight = endpoints.own_in_flight[slot];
            }
            let now = Instant::from_secs(round);
            for group in &mut picker.groups {
                let slot = group.candidates[chance.below(5) as usize];
                group.strategy.start(slot.into(), now);
                group.strategy.progress(now, group.candidates.len());
            }
            picker.refresh(&endpoints);
            let mut tried = Tried::new();
            for _ in 0..4 {
                let budget = 500 + chance.below(4_000);
                let hint = (chance.below(2) == 0).then(|| chance.below(SLOTS as u32) as usize);
                let available = |slot: usize| {
                    let panics = picker.tiers.in_panic(slot / 15);
                    (panics || endpoints.healthy.contains(slot))
                        && !tried.contains(slot)
                        && !endpoints.full.contains(slot)
                        && answer_us(&endpoints.loads[slot]) <= budget
                };
                let any = (0..SLOTS).any(available);
                let expected: Vec<bool> = (0..SLOTS).map(available).collect();
                match picker.pick(&endpoints, &tried, hint, budget) {
                    Ok(slot) => {
                        assert!(expected[slot], "{kind}: {slot}");
                        hits += u32::from(hint == Some(slot));
                        assert!(tried.insert(slot));
                    }
                    Err(reason) => {
                        assert!(!any, "{kind}: {reason}");
                        sheds += 1;
                    }
                }
            }
        }
        let counters = picker.counters;
        assert_eq!(counters.sheds.iter().sum::<u32>(), sheds);
        assert_eq!(counters.picks + sheds, 2_400);
        assert!(
            counters.sticky_hits > 20 && counters.sticky_hits <= hits,
            "{counters:?}"
        );
        assert!(counters.panics > 0 && counters.spills > 0 && counters.fallbacks > 0);
        for reason in [PickError::AllAtCapacity, PickError::TooLate] {
            assert!(counters.sheds_for(reason) > 0, "{reason}: {counters:?}");
        }
    }
}

#[test]
fn a_newcomer_in_a_group_gets_its_share_of_the_group() {
    for kind in even() {
        let (mut picker, endpoints) = (Picker::new(kind, 5), endpoints());
        picker.refresh(&endpoints);
        let group = &mut picker.groups[0].strategy;
        group.start(2, Instant::ZERO);
        group.progress(Instant::ZERO.saturating_add(Duration::from_secs(6)), 5);
        let mut counts = [0_u32; SLOTS];
        for _ in 0..42_000 {
            counts[picker.pick(&endpoints, &Tried::new(), None, u32::MAX).unwrap()] += 1;
        }
        assert!(
            (1_900..2_100).contains(&counts[2]),
            "{kind}: a fifth of a share, 1 of 21: {counts:?}"
        );
    }
}
