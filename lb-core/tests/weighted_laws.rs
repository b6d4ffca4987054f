//! What the strategies by weight, by choice and by latency owe their users, over any pool.

use lb_core::load::LoadFigures;
use lb_core::pick::{
    Bias, By, Choices, FirstFit, HotCold, LeastConnections, Load, LoadBuckets, PeakEwma, SlicePool,
    SmoothWeighted, StaticStride, Strategy as Pick, Tabled, WeightedLeast, WeightedRandom,
};
use lb_core::rng::Sfc32;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct World {
    candidates: Vec<u16>,
    admitted: Vec<u32>,
    own: Vec<u32>,
    loads: Vec<Load>,
    weights: Vec<u16>,
}

impl World {
    fn pool(&self, version: u32) -> SlicePool<'_> {
        SlicePool {
            candidates: &self.candidates,
            admitted: &self.admitted,
            own_in_flight: &self.own,
            loads: &self.loads,
            weights: &self.weights,
            version,
            ..SlicePool::default()
        }
    }

    fn admits(&self, slot: usize) -> bool {
        self.admitted[slot / 32] >> (slot % 32) & 1 == 1
    }
}

fn count() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0..50_u32, 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn load() -> impl Strategy<Value = Load> {
    let report = (
        any::<u16>(),
        prop_oneof![0..50_u16, any::<u16>()],
        0..9_u16,
        count(),
    )
        .prop_map(|(in_flight, capacity, clients, latency_us)| LoadFigures {
            in_flight,
            capacity,
            clients,
            latency_us,
            ..LoadFigures::default()
        });
    let report = prop::option::weighted(0.8, report);
    (report, 0..9_000_u32, count(), count(), any::<u8>()).prop_map(
        |(report, age_ms, own_at_report, own_latency_us, failing)| Load {
            report,
            age_ms,
            own_in_flight: 0,
            own_at_report,
            own_latency_us,
            failing,
        },
    )
}

fn weight() -> impl Strategy<Value = u16> {
    prop_oneof![1 => Just(0), 6 => 1..20_u16, 1 => Just(u16::MAX), 1 => any::<u16>()]
}

/// Any set of candidates, of which some are admitted.
fn world() -> impl Strategy<Value = World> {
    let slots = prop_oneof![1 => Just(0..0), 8 => (1..40_usize).prop_map(|n| 0..n), 1 => (900..1_100_usize).prop_map(|n| 0..n)];
    (slots, 0..=100_u8, 0..=100_u8).prop_flat_map(|(slots, there, open)| {
        let slot = (load(), count(), weight(), 0..100_u8, 0..100_u8);
        prop::collection::vec(slot, slots.len()).prop_map(move |slots| {
            let mut world = World {
                candidates: Vec::new(),
                admitted: vec![0; slots.len().div_ceil(32)],
                own: Vec::new(),
                loads: Vec::new(),
                weights: Vec::new(),
            };
            for (slot, (load, own, weight, luck, more)) in slots.into_iter().enumerate() {
                world.loads.push(load);
                world.own.push(own);
                world.weights.push(weight);
                if luck < there {
                    world.candidates.push(slot as u16);
                    world.admitted[slot / 32] |= u32::from(more < open) << (slot % 32);
                }
            }
            world
        })
    })
}

/// Only who is admitted, nobody only when nobody is, and the same picks from the same seed.
fn obeys<S: Pick + Clone>(world: &World, seed: u64, strategy: &S) -> Result<(), TestCaseError> {
    let pool = world.pool(0);
    let open = world.candidates.iter().any(|&slot| world.admits(slot.into()));
    let (mut one, mut two) = (strategy.clone(), strategy.clone());
    let (mut rng_one, mut rng_two) = (Sfc32::new(seed), Sfc32::new(seed));
    for _ in 0..8 {
        let pick = one.pick(&pool, None, &mut rng_one);
        prop_assert_eq!(pick, two.pick(&pool, Some(seed), &mut rng_two));
        prop_assert_eq!(pick.is_some(), open);
        prop_assert!(pick.is_none_or(|slot| world.admits(slot)));
    }
    Ok(())
}

/// The same before the first update, in the middle of one, and after it.
fn obeys_with_a_table<S: Pick + Tabled + Clone>(
    world: &World,
    seed: u64,
    budget: u32,
    mut strategy: S,
) -> Result<S, TestCaseError> {
    let pool = world.pool(0);
    obeys(world, seed, &strategy)?;
    let mut calls = 0_u32;
    while !strategy.update(&pool, budget) {
        if calls.is_multiple_of(64) {
            obeys(world, seed, &strategy)?;
        }
        calls += 1;
        prop_assert!(calls < 2_000_000, "every call does something");
    }
    prop_assert!(strategy.update(&pool, 0), "nothing is left to do");
    obeys(world, seed, &strategy)?;
    // Others are admitted now, and some candidates are gone, before the table knows.
    let mut later = world.clone();
    later
        .admitted
        .iter_mut()
        .for_each(|word| *word = word.rotate_left(3));
    later
        .candidates
        .retain(|&slot| slot % 3 > 0 && later.admitted[usize::from(slot) / 32] != 0);
    let candidates = later.candidates.clone();
    for slot in 0..later.loads.len() {
        if !candidates.contains(&(slot as u16)) {
            later.admitted[slot / 32] &= !(1 << (slot % 32));
        }
    }
    obeys(&later, seed, &strategy)?;
    Ok(strategy)
}

fn memory(words: usize) -> Vec<u32> {
    vec![0xdead_beef; words]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn scans_and_samples_obey(world in world(), seed in any::<u64>(), choices in any::<u8>(), limit in count()) {
        for by in [By::OwnRequests, By::Reported, By::Corrected] {
            obeys(&world, seed, &Choices::new(choices, by))?;
        }
        obeys(&world, seed, &LeastConnections::default())?;
        obeys(&world, seed, &PeakEwma::new(choices))?;
        obeys(&world, seed, &HotCold::new().quantile(choices).reuse(choices >> 4))?;
        obeys(&world, seed, &FirstFit::new())?;
        obeys(&world, seed, &FirstFit::with_limit(limit))?;
        for bias in [Bias::None, Bias::One, Bias::Two] {
            let slots = 1 + (seed % 64) as usize;
            obeys(&world, seed, &WeightedLeast::new(memory(slots), bias).unwrap())?;
        }
    }

    #[test]
    fn tables_obey(world in world(), seed in any::<u64>(), room in 1..60_usize, budget in 1..200_u32) {
        // Enough memory, or whatever there is.
        for slots in [world.loads.len().max(1), room] {
            let smooth = SmoothWeighted::new(memory(SmoothWeighted::<Vec<u32>>::words(slots, 2 * slots)), slots).unwrap();
            obeys_with_a_table(&world, seed, budget, smooth)?;
            let alias = WeightedRandom::new(memory(WeightedRandom::<Vec<u32>>::words(slots))).unwrap();
            obeys_with_a_table(&world, seed, budget, alias)?;
            let stride = StaticStride::new(memory(StaticStride::<Vec<u32>>::words(slots))).unwrap();
            obeys_with_a_table(&world, seed, budget, stride)?;
            let buckets = LoadBuckets::new(memory(LoadBuckets::<Vec<u32>>::words(slots))).unwrap();
            let mut buckets = obeys_with_a_table(&world, seed, budget, buckets)?;
            let held: Vec<usize> = (0..99).filter_map(|_| {
                let slot = buckets.pick(&world.pool(0), None, &mut Sfc32::new(seed))?;
                buckets.begin(slot);
                Some(slot)
            }).collect();
            held.into_iter().for_each(|slot| buckets.finish(slot));
            prop_assert!((0..slots).all(|slot| buckets.in_flight(slot) == 0));
        }
    }

    /// Over whole periods everybody gets its exact share, wherever they begin.
    #[test]
    fn shares_are_exact(weights in prop::collection::vec(0..30_u16, 1..20), seed in any::<u64>(), periods in 1..4_u32) {
        let candidates: Vec<u16> = (0..weights.len() as u16).collect();
        let pool = SlicePool { candidates: &candidates, admitted: &[!0], weights: &weights, ..SlicePool::default() };
        let slots = weights.len();
        let mut strategy = SmoothWeighted::new(memory(SmoothWeighted::<Vec<u32>>::words(slots, 600)), slots).unwrap();
        while !strategy.update(&pool, 50) {}
        let (mut rng, mut counts) = (Sfc32::new(seed), vec![0_u32; slots]);
        for _ in 0..periods * strategy.period() {
            counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
        }
        let sum: u32 = weights.iter().map(|&weight| u32::from(weight)).sum();
        for (count, &weight) in counts.into_iter().zip(&weights) {
            if sum == 0 {
                prop_assert_eq!(count, periods);
            } else {
                prop_assert_eq!(count * sum, periods * strategy.period() * u32::from(weight));
            }
        }
    }

    /// With room for all, the buckets hold the level that a scan would.
    #[test]
    fn buckets_level(slots in 1..200_usize, seed in any::<u64>(), requests in 0..1_000_usize) {
        let candidates: Vec<u16> = (0..slots as u16).collect();
        let pool = SlicePool { candidates: &candidates, admitted: &[!0; 7], ..SlicePool::default() };
        let mut strategy = LoadBuckets::new(memory(LoadBuckets::<Vec<u32>>::words(slots))).unwrap();
        while !strategy.update(&pool, 50) {}
        let mut rng = Sfc32::new(seed);
        for _ in 0..requests {
            let slot = strategy.pick(&pool, None, &mut rng).unwrap();
            strategy.begin(slot);
        }
        let level = (requests / slots) as u32;
        for slot in 0..slots {
            prop_assert!((level..=level + 1).contains(&strategy.in_flight(slot)));
        }
    }
}
