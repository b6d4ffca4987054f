//! Priority levels: the second is used as far as the first cannot cope.

use heapless::Vec;

use crate::rng::Rng;

/// The candidates of one level, by health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TierHealth {
    /// Well.
    pub healthy: u32,
    /// Not well, yet able to serve: suspected, or in trouble by their own account.
    pub degraded: u32,
    /// All, the unhealthy ones included.
    pub total: u32,
}

/// When a level cannot cope, and when nobody is believed any more. The defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TierRules {
    /// How much more a level can serve than it gets, in percent: it gets all as long as so much of what is healthy is 100 %.
    pub overprovisioning: u16,
    /// Below this share of available candidates, in percent, a level is in panic, if all levels together cannot cope.
    /// 0: never.
    pub panic: u8,
}

impl Default for TierRules {
    /// 1.4 times, and 50 %.
    fn default() -> Self {
        Self {
            overprovisioning: 140,
            panic: 50,
        }
    }
}

/// Who of a level is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum TierGroup {
    /// Its healthy candidates.
    Healthy,
    /// Its degraded ones.
    Degraded,
    /// All of them: it is in panic.
    All,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Tier {
    healthy: u8,
    degraded: u8,
    panic: bool,
}

/// How requests are shared among at most `N` priority levels, the first of which is preferred.
///
/// ```text
/// health(i) = min(100, healthy(i) * 1.4 / total(i))          percent; likewise of the degraded
/// sum       = min(100, health(0) + health(1) + ...)
/// load(i)   = min(100 - load(0) - ... - load(i-1), health(i) / sum)
/// ```
///
/// What is left goes to the degraded, in the same way. When `sum` is below 100, a level with less than half of its
/// candidates available is in panic: it is taken to be well, as one cannot tell any more, and so that the few
/// healthy ones are not overrun. When all levels are, each gets as much as it has candidates.
///
/// Made when the membership changes, in O(levels), integers only; a level is drawn per pick in O(levels).
///
/// *Source*: Envoy's documentation of priority levels, panic thresholds and degraded endpoints; each row of their
/// tables is a test. Percentages are rounded to the nearest, as there; what rounding leaves goes to the first level.
///
/// ```
/// use lb_core::pick::{TierHealth, TierRules, Tiers};
///
/// let half = TierHealth { healthy: 5, degraded: 0, total: 10 };
/// let whole = TierHealth { healthy: 4, degraded: 0, total: 4 };
/// let tiers: Tiers<2> = Tiers::new(&[half, whole], TierRules::default());
/// assert_eq!([tiers.load(0), tiers.load(1)], [70, 30]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tiers<const N: usize> {
    tiers: Vec<Tier, N>,
    availability: u8,
}

impl<const N: usize> Tiers<N> {
    /// Of these levels, the first `N`.
    #[must_use]
    pub fn new(levels: &[TierHealth], rules: TierRules) -> Self {
        let levels = levels.get(..N).unwrap_or(levels);
        let health = |part: u32, total: u32| {
            let scaled = part.saturating_mul(rules.overprovisioning.into());
            scaled.checked_div(total).unwrap_or(0).min(100)
        };
        let healthy = |level: &TierHealth| health(level.healthy, level.total);
        let degraded = |level: &TierHealth| health(level.degraded, level.total);
        let sum = levels.iter().fold(0_u32, |sum, level| {
            sum.saturating_add(healthy(level)).saturating_add(degraded(level))
        });
        let sum = sum.min(100);
        let mut left = 100_u32;
        let mut take = |health: u32| {
            let load = health.saturating_mul(100).saturating_add(sum >> 1);
            let load = load.checked_div(sum).unwrap_or(0).min(left);
            left = left.saturating_sub(load);
            load as u8
        };
        let mut tiers: Vec<Tier, N> = levels
            .iter()
            .map(|level| Tier {
                healthy: take(healthy(level)),
                degraded: 0,
                panic: sum < 100 && is_in_panic(level, rules.panic),
            })
            .collect();
        for (tier, level) in tiers.iter_mut().zip(levels) {
            tier.degraded = take(degraded(level));
        }
        if let Some(tier) = tiers.iter_mut().find(|tier| tier.healthy > 0) {
            tier.healthy = tier.healthy.saturating_add(left as u8);
        } else if let Some(tier) = tiers.iter_mut().find(|tier| tier.degraded > 0) {
            tier.degraded = tier.degraded.saturating_add(left as u8);
        }
        let mut tiers = Self {
            tiers,
            availability: sum as u8,
        };
        if tiers.tiers.iter().all(|tier| tier.panic) {
            tiers.by_numbers(levels);
        }
        tiers
    }

    /// Nothing is known to be well: as many requests as there are candidates.
    fn by_numbers(&mut self, levels: &[TierHealth]) {
        let all = levels
            .iter()
            .fold(0_u32, |sum, level| sum.saturating_add(level.total));
        let mut left = 100_u8;
        for (tier, level) in self.tiers.iter_mut().zip(levels) {
            let load = level.total.saturating_mul(100).checked_div(all).unwrap_or(0) as u8;
            (tier.healthy, tier.degraded) = (load, 0);
            left = left.saturating_sub(load);
        }
        let mut both = self.tiers.iter_mut().zip(levels);
        if let Some((tier, _)) = both.find(|(_, level)| level.total > 0) {
            tier.healthy = tier.healthy.saturating_add(left);
        }
    }

    /// How many percent of the requests a level gets, its degraded candidates included.
    #[must_use]
    pub fn load(&self, tier: usize) -> u8 {
        let tier = self.tiers.get(tier).copied().unwrap_or_default();
        tier.healthy.saturating_add(tier.degraded)
    }

    /// How many percent the degraded candidates of a level get.
    #[must_use]
    pub fn degraded_load(&self, tier: usize) -> u8 {
        self.tiers.get(tier).map_or(0, |tier| tier.degraded)
    }

    /// Whether a level is in panic.
    #[must_use]
    pub fn in_panic(&self, tier: usize) -> bool {
        self.tiers.get(tier).is_some_and(|tier| tier.panic)
    }

    /// How much of the requests all levels together can serve, in percent, at most 100: Envoy's normalized total health.
    #[must_use]
    pub const fn availability(&self) -> u8 {
        self.availability
    }

    /// How many levels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tiers.len()
    }

    /// Whether no level gets anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tiers
            .iter()
            .all(|tier| tier.healthy == 0 && tier.degraded == 0)
    }

    /// A level and who of it, with the probability of their load; `None` when none gets anything. If nobody of them is
    /// admitted, try the levels in their order.
    pub fn draw<R: Rng + ?Sized>(&self, rng: &mut R) -> Option<(usize, TierGroup)> {
        if self.is_empty() {
            return None;
        }
        let mut point = rng.below(100);
        let mut passed = |load: u8| {
            let load = u32::from(load);
            let hit = point < load;
            point = point.saturating_sub(load);
            hit
        };
        let healthy = self.tiers.iter().position(|tier| passed(tier.healthy));
        let (index, group) = match healthy {
            Some(index) => (index, TierGroup::Healthy),
            None => (
                self.tiers.iter().position(|tier| passed(tier.degraded))?,
                TierGroup::Degraded,
            ),
        };
        let group = if self.in_panic(index) {
            TierGroup::All
        } else {
            group
        };
        Some((index, group))
    }
}

fn is_in_panic(level: &TierHealth, threshold: u8) -> bool {
    let available = level.healthy.saturating_add(level.degraded).saturating_mul(100);
    available < u32::from(threshold).saturating_mul(level.total) || (level.total == 0 && threshold > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Sfc32;

    fn level(healthy: u32, degraded: u32, total: u32) -> TierHealth {
        TierHealth {
            healthy,
            degraded,
            total,
        }
    }

    fn tiers(percent: &[u32], rules: TierRules) -> Tiers<3> {
        let levels: std::vec::Vec<_> = percent.iter().map(|&healthy| level(healthy, 0, 100)).collect();
        Tiers::new(&levels, rules)
    }

    /// The three tables of `priority.rst`, which know of no panic: in the last row all levels would be in it.
    #[test]
    fn priority_levels_row_by_row() {
        let rows: [(&[u32], &[u8]); 19] = [
            (&[100, 100], &[100, 0]),
            (&[72, 100], &[100, 0]),
            (&[71, 100], &[99, 1]),
            (&[50, 100], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[0, 100], &[0, 100]),
            (&[100, 100], &[100, 0]),
            (&[72, 72], &[100, 0]),
            (&[71, 71], &[99, 1]),
            (&[50, 50], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[25, 25], &[50, 50]),
            (&[100, 100, 100], &[100, 0, 0]),
            (&[72, 72, 100], &[100, 0, 0]),
            (&[71, 71, 100], &[99, 1, 0]),
            (&[50, 50, 100], &[70, 30, 0]),
            (&[25, 100, 100], &[35, 65, 0]),
            (&[25, 25, 100], &[35, 35, 30]),
            (&[25, 25, 20], &[36, 36, 28]),
        ];
        for (healthy, loads) in rows {
            let calm = TierRules {
                panic: 0,
                ..TierRules::default()
            };
            let tiers = tiers(healthy, calm);
            let got: std::vec::Vec<_> = (0..loads.len()).map(|tier| tiers.load(tier)).collect();
            assert_eq!(got, loads, "{healthy:?}");
        }
    }

    /// Both tables of `panic_threshold.rst`: health, loads, panic, normalized total health.
    #[test]
    fn panic_thresholds_row_by_row() {
        let rows = [
            ([72, 100], [100, 0], [false, false], 100),
            ([71, 100], [99, 1], [false, false], 100),
            ([50, 100], [70, 30], [false, false], 100),
            ([25, 100], [35, 65], [false, false], 100),
            ([0, 100], [0, 100], [false, false], 100),
            ([72, 72], [100, 0], [false, false], 100),
            ([71, 71], [99, 1], [false, false], 100),
            ([50, 60], [70, 30], [false, false], 100),
            ([25, 100], [35, 65], [false, false], 100),
            ([25, 25], [50, 50], [true, true], 70),
            ([5, 65], [7, 93], [true, false], 98),
        ];
        for (healthy, loads, panics, total) in rows {
            let tiers = tiers(&healthy, TierRules::default());
            assert_eq!([tiers.load(0), tiers.load(1)], loads, "{healthy:?}");
            assert_eq!([tiers.in_panic(0), tiers.in_panic(1)], panics, "{healthy:?}");
            assert_eq!(tiers.availability(), total, "{healthy:?}");
        }
    }

    /// The table of `degraded.rst`: healthy and degraded, the load of either.
    #[test]
    fn degraded_row_by_row() {
        let rows = [
            ((100, 0), (100, 0)),
            ((71, 0), (100, 0)),
            ((71, 29), (99, 1)),
            ((25, 65), (35, 65)),
            ((5, 0), (100, 0)),
        ];
        for ((healthy, degraded), (to_healthy, to_degraded)) in rows {
            let tiers: Tiers<1> = Tiers::new(&[level(healthy, degraded, 100)], TierRules::default());
            assert_eq!(
                tiers.load(0) - tiers.degraded_load(0),
                to_healthy,
                "{healthy}/{degraded}"
            );
            assert_eq!(tiers.degraded_load(0), to_degraded, "{healthy}/{degraded}");
        }
    }

    #[test]
    fn when_all_panic_numbers_count() {
        let dead = [level(0, 0, 2), level(0, 0, 0), level(0, 0, 8)];
        let tiers: Tiers<3> = Tiers::new(&dead, TierRules::default());
        assert_eq!([0, 1, 2].map(|tier| tiers.load(tier)), [20, 0, 80]);
        let drawn = tiers.draw(&mut Sfc32::new(1)).unwrap();
        assert_eq!(drawn.1, TierGroup::All);
        let brave = TierRules {
            panic: 0,
            ..TierRules::default()
        };
        let tiers: Tiers<3> = Tiers::new(&dead, brave);
        assert!(tiers.is_empty() && !tiers.in_panic(0));
        assert_eq!(tiers.draw(&mut Sfc32::new(1)), None);
        let nobody: Tiers<3> = Tiers::new(&[], TierRules::default());
        assert_eq!(nobody.draw(&mut Sfc32::new(1)), None);
        let empty: Tiers<3> = Tiers::new(&[level(0, 0, 0)], TierRules::default());
        assert_eq!(empty.draw(&mut Sfc32::new(1)), None);
    }

    #[test]
    fn draws_follow_the_loads() {
        let levels = [level(1, 2, 8), level(2, 2, 8)];
        let tiers: Tiers<2> = Tiers::new(&levels, TierRules::default());
        let (mut rng, mut counts) = (Sfc32::new(3), [[0_u32; 2]; 2]);
        for _ in 0..100_000 {
            let (tier, group) = tiers.draw(&mut rng).unwrap();
            counts[tier][usize::from(group == TierGroup::Degraded)] += 1;
        }
        for (tier, [healthy, degraded]) in counts.into_iter().enumerate() {
            let wanted = u32::from(tiers.degraded_load(tier)) * 1_000;
            assert!(degraded.abs_diff(wanted) < 700);
            let wanted = u32::from(tiers.load(tier)) * 1_000 - wanted;
            assert!(healthy.abs_diff(wanted) < 700);
        }
    }

    proptest! {
        #[test]
        fn laws(
            levels in prop::collection::vec((0..40_u32, 0..40_u32, 0..40_u32), 0..5), which in any::<prop::sample::Index>(), panic in 0..=100_u8
        ) {
            let mut levels: std::vec::Vec<_> = levels.into_iter().map(|(h, d, rest)| level(h, d, h + d + rest)).collect();
            let rules = TierRules { panic, ..TierRules::default() };
            let tiers: Tiers<5> = Tiers::new(&levels, rules);
            let whole: u32 = (0..5).map(|tier| u32::from(tiers.load(tier))).sum();
            prop_assert_eq!(whole, if tiers.is_empty() { 0 } else { 100 });
            for (tier, level) in levels.iter().enumerate() {
                prop_assert!(level.total > 0 || tiers.load(tier) == 0, "nothing to the empty");
                if !tiers.in_panic(tier) {
                    prop_assert!(level.healthy > 0 || tiers.load(tier) == tiers.degraded_load(tier));
                    prop_assert!(level.degraded > 0 || tiers.degraded_load(tier) == 0);
                }
            }
            // One more is well: its level gets no less, but for what rounding moves.
            if !levels.is_empty() {
                let at = which.index(levels.len());
                if levels[at].healthy + levels[at].degraded < levels[at].total {
                    levels[at].healthy += 1;
                    let better: Tiers<5> = Tiers::new(&levels, rules);
                    if !(0..5).any(|tier| tiers.in_panic(tier) || better.in_panic(tier)) {
                        prop_assert!(better.load(at) + 5 >= tiers.load(at), "{:?} {:?}", tiers, better);
                    }
                }
            }
        }
    }
}
