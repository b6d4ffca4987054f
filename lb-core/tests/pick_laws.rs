//! What every strategy owes its users, over any pool.

use std::collections::HashSet;

use lb_core::load::LoadFigures;
use lb_core::pick::{
    AnyStrategy, Corrected, LeastConnections, Load, Pool, RoundRobin, SLOTS_MAX, SlotSet, Strategy as _,
    StrategyKind, Tabled,
};
use lb_core::rng::Sfc32;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct Slots {
    up: SlotSet,
    /// Full, or tried already.
    closed: SlotSet,
    loads: Vec<Load>,
    weights: Vec<u16>,
    version: u32,
}

impl Pool for Slots {
    fn len(&self) -> usize {
        self.slots().count()
    }
    fn slot(&self, index: usize) -> usize {
        self.slots().nth(index).unwrap_or(usize::MAX)
    }
    fn slots(&self) -> impl Iterator<Item = usize> {
        self.up.iter().filter(|&slot| slot < self.loads.len())
    }
    fn admits(&self, slot: usize) -> bool {
        slot < self.loads.len() && self.up.contains(slot) && !self.closed.contains(slot)
    }
    fn load(&self, slot: usize) -> Load {
        self.loads.get(slot).copied().unwrap_or_default()
    }
    fn weight(&self, slot: usize) -> u16 {
        self.weights.get(slot).copied().unwrap_or(1)
    }
    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        slot.to_string()
    }
    fn version(&self) -> u32 {
        self.version
    }
}

impl Slots {
    fn of(loads: Vec<Load>) -> Self {
        let mut up = SlotSet::new();
        (0..loads.len()).for_each(|slot| {
            up.insert(slot);
        });
        Self {
            up,
            closed: SlotSet::new(),
            loads,
            weights: Vec::new(),
            version: 0,
        }
    }

    fn eligible(&self) -> Vec<usize> {
        self.slots().collect()
    }

    /// A strategy with a table for this pool, made in steps of that size, as far as so many go.
    fn strategy(&self, kind: StrategyKind, seed: u64, budget: u32, steps: u32) -> AnyStrategy<Vec<u32>> {
        let slots = self.loads.len();
        let mut strategy = AnyStrategy::new(kind, vec![0; kind.words(slots)], slots, seed).unwrap();
        for _ in 0..steps {
            if strategy.update(self, budget) {
                break;
            }
        }
        strategy
    }
}

fn narrow() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 0..50_u16, 1 => Just(u16::MAX), 1 => any::<u16>()]
}

fn wide() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..50_u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn load() -> impl Strategy<Value = Load> {
    let report =
        (narrow(), narrow(), narrow(), wide()).prop_map(|(in_flight, capacity, clients, rate_milli)| {
            LoadFigures {
                in_flight,
                capacity,
                clients,
                rate_milli,
                ..LoadFigures::default()
            }
        });
    (prop::option::weighted(0.8, report), wide(), wide()).prop_map(
        |(report, own_in_flight, own_at_report)| Load {
            report,
            own_in_flight,
            own_at_report,
            ..Load::default()
        },
    )
}

fn pool() -> impl Strategy<Value = Slots> {
    let size = prop_oneof![6 => 0..40_usize, 1 => 0..=SLOTS_MAX, 1 => Just(SLOTS_MAX)];
    let weight = prop_oneof![4 => 0..5_u16, 1 => Just(0), 1 => Just(u16::MAX), 1 => any::<u16>()];
    (size, 0..=100_u8, 0..=100_u8, any::<bool>()).prop_flat_map(move |(size, share, shut, even)| {
        prop::collection::vec((load(), weight.clone(), 0..100_u8, 0..100_u8), size).prop_map(move |slots| {
            let (mut up, mut closed) = (SlotSet::new(), SlotSet::new());
            for (slot, (_, _, luck, fate)) in slots.iter().enumerate() {
                if *luck < share {
                    up.insert(slot);
                }
                if *fate < shut / 2 {
                    closed.insert(slot);
                }
            }
            let weights = slots
                .iter()
                .map(|(_, weight, ..)| if even { 1 } else { *weight })
                .collect();
            let loads = slots.into_iter().map(|(load, ..)| load).collect();
            Slots {
                up,
                closed,
                loads,
                weights,
                version: 1,
            }
        })
    })
}

/// `(estimate + 1, capacity)` as the documentation has it; counts end at `u32::MAX`, as everything does.
fn cost(pool: &Slots, slot: usize) -> (i128, i128) {
    let reports: Vec<LoadFigures> = pool
        .eligible()
        .into_iter()
        .filter_map(|slot| pool.loads[slot].report)
        .collect();
    let stated: Vec<i128> = reports
        .iter()
        .map(|report| i128::from(report.capacity))
        .filter(|&c| c > 0)
        .collect();
    let mean = |values: &[i128]| {
        values
            .iter()
            .sum::<i128>()
            .checked_div(values.len() as i128)
            .unwrap_or(0)
    };
    let mean_of = |value: fn(&LoadFigures) -> i128| mean(&reports.iter().map(value).collect::<Vec<_>>());
    let mean_capacity = mean(&stated).max(1);
    let load = pool.loads[slot];
    let own = i128::from(load.own_in_flight);
    let (in_flight, capacity, clients, at_report) = match load.report {
        Some(report) => (
            i128::from(report.in_flight),
            if report.capacity == 0 {
                mean_capacity
            } else {
                i128::from(report.capacity)
            },
            i128::from(report.clients.max(1)),
            i128::from(load.own_at_report),
        ),
        None => (
            mean_of(|report| i128::from(report.in_flight)),
            mean_capacity,
            mean_of(|report| i128::from(report.clients.max(1))).max(1),
            0,
        ),
    };
    // Every step saturates.
    let changed = |count: i128| {
        (count.max(0) * clients)
            .min(i128::from(u32::MAX))
            .min(i128::from(i32::MAX))
    };
    let estimate =
        (in_flight + changed(own - at_report)).min(i128::from(i32::MAX)) - changed(at_report - own);
    (estimate + 1, capacity)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever of its table is made, and whether it is of this pool.
    #[test]
    fn only_admitted_slots_and_the_same_seed_the_same_picks(
        mut pool in pool(), seed in any::<u64>(), key in any::<Option<u64>>(), budget in 1..5_000_u32, steps in 0..60_u32
    ) {
        let admitted: HashSet<usize> = pool.slots().filter(|&slot| pool.admits(slot)).collect();
        for kind in StrategyKind::ALL {
            let (mut one, mut two) = (pool.strategy(kind, seed, budget, steps), pool.strategy(kind, seed, budget, steps));
            let (mut rng_one, mut rng_two) = (Sfc32::new(seed), Sfc32::new(seed));
            for _ in 0..5 {
                let pick = one.pick(&pool, key, &mut rng_one);
                prop_assert_eq!(pick, two.pick(&pool, key, &mut rng_two), "{}", kind);
                prop_assert_eq!(pick.is_none(), admitted.is_empty(), "{}", kind);
                if let Some(slot) = pick {
                    prop_assert!(admitted.contains(&slot), "{}: {}", kind, slot);
                    pool.loads[slot].own_in_flight = pool.loads[slot].own_in_flight.saturating_add(1);
                    one.ended(slot);
                    two.ended(slot);
                }
            }
        }
    }

    /// Who left is not picked, and who came is, before the table knows of it.
    #[test]
    fn an_old_table_is_no_excuse(pool in pool(), gone in any::<prop::sample::Index>(), seed in any::<u64>()) {
        let eligible = pool.eligible();
        prop_assume!(!eligible.is_empty());
        for kind in StrategyKind::ALL {
            let mut pool = pool.clone();
            let mut strategy = pool.strategy(kind, seed, u32::MAX, 60);
            pool.up.remove(*gone.get(&eligible));
            pool.version = 2;
            let mut rng = Sfc32::new(seed);
            for key in 0..5 {
                let pick = strategy.pick(&pool, Some(key), &mut rng);
                prop_assert!(pick.is_none_or(|slot| pool.admits(slot)), "{}", kind);
                prop_assert_eq!(pick.is_none(), !pool.slots().any(|slot| pool.admits(slot)), "{}", kind);
            }
        }
    }

    #[test]
    fn round_robin_gives_everybody_the_same(pool in pool(), seed in any::<u64>(), rounds in 1..4_usize) {
        let pool = Slots { closed: SlotSet::new(), ..pool };
        let eligible = pool.eligible();
        let (mut strategy, mut rng) = (RoundRobin::new(), Sfc32::new(seed));
        let mut counts = vec![0; pool.loads.len()];
        for _ in 0..rounds * eligible.len() {
            counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
        }
        prop_assert!(eligible.iter().all(|&slot| counts[slot] == rounds));
    }

    /// Whatever was asked while nobody was there.
    #[test]
    fn rotations_of_many_clients_start_at_different_slots(early in 1..4_usize) {
        for kind in [StrategyKind::RoundRobin, StrategyKind::LeastConnections, StrategyKind::Corrected, StrategyKind::Hybrid] {
            let mut first = HashSet::new();
            for seed in 0..64 {
                let mut pool = Slots::of(Vec::new());
                let (mut strategy, mut rng) = (pool.strategy(kind, seed, 1, 1), Sfc32::new(seed));
                for _ in 0..early {
                    prop_assert_eq!(strategy.pick(&pool, None, &mut rng), None);
                }
                for slot in 0..4 {
                    pool.up.insert(slot);
                    pool.loads.push(Load::default());
                }
                first.extend(strategy.pick(&pool, None, &mut rng));
            }
            prop_assert_eq!(first.len(), 4, "{}", kind);
        }
    }

    #[test]
    fn least_connections_is_even(mut pool in pool(), seed in any::<u64>(), picks in 0..200_usize, held in any::<bool>()) {
        pool.loads.iter_mut().for_each(|load| load.own_in_flight = 0);
        pool.closed = SlotSet::new();
        let eligible = pool.eligible();
        let (mut strategy, mut rng) = (LeastConnections::default(), Sfc32::new(seed));
        let mut counts = vec![0_u32; pool.loads.len()];
        for _ in 0..picks {
            let Some(slot) = strategy.pick(&pool, None, &mut rng) else { break };
            counts[slot] += 1;
            if held { pool.loads[slot].own_in_flight += 1 }
        }
        let shares: Vec<u32> = eligible.iter().map(|&slot| counts[slot]).collect();
        let (most, fewest) = (shares.iter().max().unwrap_or(&0), shares.iter().min().unwrap_or(&0));
        prop_assert!(most - fewest <= 1, "{:?}", shares);
    }

    #[test]
    fn the_corrected_pick_costs_no_more_than_any_other(mut pool in pool(), seed in any::<u64>()) {
        pool.closed = SlotSet::new();
        if let Some(picked) = Corrected::default().pick(&pool, None, &mut Sfc32::new(seed)) {
            let (load, capacity) = cost(&pool, picked);
            if pool.loads.len() <= 40 {
                for other in pool.eligible() {
                    let (other_load, other_capacity) = cost(&pool, other);
                    prop_assert!(load * other_capacity <= other_load * capacity, "{} against {}", picked, other);
                }
            }
        }
    }

    /// One that says nothing fares like one that says what all the others say.
    #[test]
    fn the_unknown_is_neutral(
        in_flight in 0..100_u16, capacity in 1..100_u16, clients in 1..9_u16, count in 1..20_usize, seed in any::<u64>()
    ) {
        let report = LoadFigures { in_flight, capacity, clients, ..LoadFigures::default() };
        let mut pool = Slots::of(Vec::new());
        for slot in 0..=count {
            pool.up.insert(slot);
            pool.loads.push(Load { report: (slot > 0).then_some(report), ..Load::default() });
        }
        let (mut strategy, mut rng) = (Corrected::default(), Sfc32::new(seed));
        let mut counts = vec![0; count + 1];
        for _ in 0..3 * (count + 1) {
            let slot = strategy.pick(&pool, None, &mut rng).unwrap();
            pool.loads[slot].own_in_flight += 1;
            counts[slot] += 1;
        }
        prop_assert!(counts.iter().all(|&count| count == 3), "{:?}", counts);
    }
}
