//! Slow start: who just came gets a little at first, whatever the strategy.

use heapless::Vec;

use super::{Pool, Strategy, Tabled, Without};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// A full share; shares are in 65 536ths of one.
const FULL: u32 = 1 << 16;

/// One request of credit.
const ONE: u32 = 1 << 26;

/// How a share grows with the share of the window that has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Aggression {
    /// In proportion.
    #[default]
    One,
    /// As its square root.
    Two,
    /// As its fourth root: half of the share after a 16th of the window.
    Four,
}

/// How an endpoint that just came is eased in. The defaults are Envoy's, with a window.
///
/// ```text
/// share = max(minimum, (time / window) ^ (1 / aggression))
/// ```
///
/// ```
/// use lb_core::Duration;
/// use lb_core::pick::{Aggression, SlowStart};
///
/// let rules = SlowStart { aggression: Aggression::Two, ..SlowStart::default() };
/// assert_eq!(rules.weight(1_000, Duration::ZERO), 100);
/// assert_eq!(rules.weight(1_000, Duration::from_micros(7_500_000)), 500, "half after a quarter");
/// assert_eq!(rules.weight(1_000, Duration::from_secs(30)), 1_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SlowStart {
    /// How long it takes; zero: no slow start.
    pub window: Duration,
    /// How fast it goes in the beginning.
    pub aggression: Aggression,
    /// The least share, in thousandths.
    pub minimum: u16,
}

impl Default for SlowStart {
    /// 30 s, in proportion, at least 10 %.
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            aggression: Aggression::One,
            minimum: 100,
        }
    }
}

impl SlowStart {
    /// The share so long after the start, in 65 536ths.
    fn share(&self, elapsed: Duration) -> u32 {
        if elapsed >= self.window {
            return FULL;
        }
        // Both to the 16 bits of the window, so that their ratio needs 32.
        let (elapsed, window) = (elapsed.as_micros(), self.window.as_micros());
        let shift = 48_u32.saturating_sub(window.leading_zeros());
        let passed = ((elapsed >> shift) as u32) << 16;
        let passed = passed.checked_div((window >> shift) as u32).unwrap_or(FULL);
        let passed = passed.min(FULL.saturating_sub(1));
        let root = |share: u32| (share << 16).isqrt();
        let grown = match self.aggression {
            Aggression::One => passed,
            Aggression::Two => root(passed),
            Aggression::Four => root(root(passed)),
        };
        let minimum = u32::from(self.minimum.min(1_000)) << 16;
        grown.max(minimum.saturating_add(500) / 1_000)
    }

    /// The share of a weight so long after the start, at least 1 of any: for weighted strategies, through
    /// [`Pool::weight`]. Their tables have to be made anew as it grows; [`SlowStarting`] needs no tables.
    #[must_use]
    pub fn weight(&self, weight: u16, elapsed: Duration) -> u16 {
        let share = u32::from(weight).saturating_mul(self.share(elapsed) >> 1);
        let share = share.saturating_add(1 << 14) >> 15;
        (share as u16).max(weight.min(1))
    }
}

/// An endpoint that is warming up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Warming {
    slot: u16,
    since: Instant,
    /// What it has; and that by the mean of all, at most 1. In 65 536ths.
    share: u32,
    kept: u32,
    /// What it may be sent now, and by how much that grows with each request.
    credit: u32,
    rate: u32,
}

impl Warming {
    /// Chance may offer an endpoint nothing for a while and then much, which must even out the more exactly the nearer it is
    /// to a full share: four requests at first, and up to 63.
    const fn credit_max(&self) -> u32 {
        let more = self.kept.saturating_mul(59) >> 16;
        ONE.saturating_mul(more.saturating_add(4))
    }
}

/// Slow start around any strategy, tables and affine ones included: a picked endpoint that is warming up is kept as long
/// as it got less than its share, else another one is picked. The tables do not change for it.
///
/// With the share `s` it gets `s / (sum of all shares)` of the requests under a strategy that spreads them evenly, and
/// no more under one that finds the newcomer idle and would send it everything. When all are warming up equally,
/// all are kept. Requests with a key are kept or sent on by the key instead: as the share grows, keys come to the
/// endpoint and none leaves again.
///
/// At most `N` endpoints warm up at a time, 32 bytes each; if there are more, the eldest is warm early. A pick is O(N), and
/// costs nothing when nobody is warming up.
///
/// *Source*: Envoy's slow start, which is for round robin and least request only; asked for everywhere else.
///
/// ```
/// use lb_core::pick::{RoundRobin, SlicePool, SlowStart, SlowStarting, Strategy};
/// use lb_core::rng::Sfc32;
/// use lb_core::{Duration, Instant};
///
/// let pool = SlicePool { candidates: &[0, 1, 2], admitted: &[0b111], ..SlicePool::default() };
/// let mut strategy: SlowStarting<RoundRobin, 4> = SlowStarting::new(RoundRobin::new(), SlowStart::default());
/// strategy.start(2, Instant::ZERO);
/// strategy.progress(Instant::from_secs(15), pool.candidates.len());
/// let (mut counts, mut rng) = ([0_u32; 3], Sfc32::new(1));
/// for _ in 0..10_000 {
///     counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
/// }
/// assert!((1_900..2_100).contains(&counts[2]), "half a share of two and a half: {counts:?}");
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SlowStarting<S, const N: usize> {
    strategy: S,
    rules: SlowStart,
    warming: Vec<Warming, N>,
}

impl<S, const N: usize> SlowStarting<S, N> {
    /// Nobody is warming up.
    #[must_use]
    pub const fn new(strategy: S, rules: SlowStart) -> Self {
        Self {
            strategy,
            rules,
            warming: Vec::new(),
        }
    }

    /// The endpoint in this slot begins, now or lately. [`progress`](Self::progress) is due.
    pub fn start(&mut self, slot: usize, since: Instant) {
        self.stop(slot);
        let Ok(slot) = u16::try_from(slot) else { return };
        if self.warming.is_full() {
            let ages = self.warming.iter().enumerate();
            if let Some((eldest, _)) = ages.min_by_key(|(_, warming)| warming.since)
                && eldest < self.warming.len()
            {
                self.warming.swap_remove(eldest);
            }
        }
        let new = Warming {
            slot,
            since,
            share: FULL,
            kept: FULL,
            credit: 0,
            rate: 0,
        };
        // Full only if `N` is 0: then nobody ever warms up.
        let _ = self.warming.push(new);
    }

    /// The endpoint in this slot is gone, or warm. [`progress`](Self::progress) is due.
    pub fn stop(&mut self, slot: usize) {
        self.warming.retain(|warming| usize::from(warming.slot) != slot);
    }

    /// The endpoint of one slot is in another one now.
    pub fn moved(&mut self, from: usize, to: usize) {
        self.stop(to);
        let Ok(to) = u16::try_from(to) else { return };
        let mut warming = self.warming.iter_mut();
        if let Some(warming) = warming.find(|warming| usize::from(warming.slot) == from) {
            warming.slot = to;
        }
    }

    /// How many are warming up.
    #[must_use]
    pub fn warming(&self) -> usize {
        self.warming.len()
    }

    /// Brings the shares to this moment, among so many candidates. To be called when those change, and while somebody is
    /// warming up a hundred times a window or so. O(N).
    pub fn progress(&mut self, now: Instant, candidates: usize) {
        let rules = self.rules;
        for warming in &mut self.warming {
            warming.share = rules.share(now.since(warming.since));
        }
        self.warming.retain(|warming| warming.share < FULL);
        let candidates = u32::try_from(candidates).unwrap_or(u32::MAX).max(1);
        // How much is missing of a full share each; and on average of all, so that a 16-bit ratio does.
        let missing = self.warming.iter().fold(0_u32, |sum, warming| {
            sum.saturating_add(FULL.saturating_sub(warming.share))
        });
        let mean = FULL
            .saturating_sub(missing.checked_div(candidates).unwrap_or(0))
            .max(1);
        for warming in &mut self.warming {
            let kept = (warming.share << 15).checked_div(mean).unwrap_or(0) << 1;
            warming.kept = kept.min(FULL);
            warming.rate = (warming.kept << 10).checked_div(candidates).unwrap_or(0);
        }
    }

    /// A request without a key comes: whether a slot may be taken for it.
    fn pays(&mut self, slot: usize) -> bool {
        let mut pays = true;
        for warming in &mut self.warming {
            let credit = warming.credit.saturating_add(warming.rate);
            warming.credit = credit.min(warming.credit_max());
            if usize::from(warming.slot) == slot && warming.kept < FULL {
                pays = warming.credit >= ONE;
            }
        }
        pays
    }

    /// It is taken.
    fn charge(&mut self, slot: usize) {
        for warming in &mut self.warming {
            if usize::from(warming.slot) == slot {
                warming.credit = warming.credit.saturating_sub(ONE);
            }
        }
    }

    /// Whether a slot may be taken for this key.
    fn owns(&self, slot: usize, key: u64, name: &[u8]) -> bool {
        let mut warming = self.warming.iter();
        let found = warming.find(|warming| usize::from(warming.slot) == slot);
        found.is_none_or(|warming| coin(key, name) < warming.kept)
    }
}

/// A number below 65 536 that depends on the key and the endpoint alone.
fn coin(key: u64, name: &[u8]) -> u32 {
    // FNV-1a for the name; the mixing is splitmix64's.
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = name.iter().fold(key ^ 0xcbf2_9ce4_8422_2325, fold);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (hash >> 48) as u32
}

impl<S: Strategy, const N: usize> Strategy for SlowStarting<S, N> {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        let slot = self.strategy.pick(pool, key, rng)?;
        if self.warming.is_empty() {
            return Some(slot);
        }
        let kept = match key {
            Some(key) => self.owns(slot, key, pool.name(slot).as_ref()),
            None => self.pays(slot),
        };
        if kept {
            if key.is_none() {
                self.charge(slot);
            }
            return Some(slot);
        }
        // Among those that may be taken; of a key's, those that have their whole share.
        let warming = &self.warming;
        let rest = Without::new(pool, |slot| {
            let mut warming = warming.iter();
            let found = warming.find(|warming| usize::from(warming.slot) == slot && warming.kept < FULL);
            found.is_some_and(|warming| key.is_some() || warming.credit < ONE)
        });
        let other = self.strategy.pick(&rest, key, rng);
        if key.is_none() {
            self.charge(other.unwrap_or(slot));
        }
        other.or(Some(slot))
    }

    fn ended(&mut self, slot: usize) {
        self.strategy.ended(slot);
    }
}

impl<S: Tabled, const N: usize> Tabled for SlowStarting<S, N> {
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        self.strategy.update(pool, budget)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_oneof};
    use proptest::proptest;

    use super::super::pool::tests::Table;
    use super::super::{LeastConnections, Maglev, Random, RoundRobin, SlicePool};
    use super::*;
    use crate::rng::Sfc32;

    const WINDOW: u64 = 30;
    const REQUESTS: u64 = 30_000;

    fn formula(aggression: Aggression, seconds: f64) -> f64 {
        let power = match aggression {
            Aggression::One => 1.0,
            Aggression::Two => 0.5,
            Aggression::Four => 0.25,
        };
        (seconds / WINDOW as f64).powf(power).clamp(0.1, 1.0)
    }

    /// Two candidates at random, the one with fewer requests of our own: all have none here.
    #[derive(Default)]
    struct Two;

    impl Strategy for Two {
        fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
            &mut self,
            pool: &P,
            _: Option<u64>,
            rng: &mut R,
        ) -> Option<usize> {
            let [one, other] = [(); 2].map(|()| Random.pick(pool, None, rng));
            let (one, other) = (one?, other?);
            Some(if pool.own_in_flight(other) < pool.own_in_flight(one) {
                other
            } else {
                one
            })
        }
    }

    const POOL: SlicePool<'_> = SlicePool {
        candidates: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        admitted: &[0x3ff],
        own_in_flight: &[],
        total_in_flight: None,
        loads: &[],
        weights: &[],
        names: &[b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h", b"i", b"j"],
        version: 1,
    };

    fn maglev(pool: &SlicePool<'_>) -> Maglev<std::vec::Vec<u32>> {
        let mut maglev = Maglev::new(std::vec![0; Maglev::words(10, 8_209)], 10, 8_209).unwrap();
        assert!(maglev.update(pool, u32::MAX));
        maglev
    }

    /// What each of 10 got of 30 000 requests, with slots 8 and 9 so long after their start.
    fn run<S: Strategy>(strategy: S, aggression: Aggression, seconds: [u64; 2], keyed: bool) -> [f64; 10] {
        let rules = SlowStart {
            window: Duration::from_secs(WINDOW),
            aggression,
            minimum: 100,
        };
        let mut strategy: SlowStarting<S, 4> = SlowStarting::new(strategy, rules);
        let now = Instant::from_secs(1_000);
        for (slot, seconds) in [8, 9].into_iter().zip(seconds) {
            strategy.start(slot, Instant::from_secs(1_000 - seconds));
        }
        strategy.progress(now, POOL.len());
        let (mut rng, mut counts) = (Sfc32::new(2), [0.0; 10]);
        for request in 0..REQUESTS {
            let key = keyed.then(|| request.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            counts[strategy.pick(&POOL, key, &mut rng).unwrap()] += 1.0 / REQUESTS as f64;
        }
        counts
    }

    fn check<S: Strategy>(name: &str, strategy: impl Fn() -> S) {
        let keyed = name == "maglev";
        for aggression in [Aggression::One, Aggression::Two, Aggression::Four] {
            for seconds in [
                [0, 30],
                [0, 0],
                [3, 30],
                [6, 6],
                [15, 30],
                [15, 3],
                [25, 29],
                [30, 31],
            ] {
                let got = run(strategy(), aggression, seconds, keyed);
                let parts = seconds.map(|seconds| formula(aggression, seconds as f64));
                let whole = 8.0 + parts[0] + parts[1];
                for (slot, got) in got.into_iter().enumerate() {
                    let part = slot.checked_sub(8).map_or(1.0, |at| parts[at]);
                    let wanted = part / whole;
                    // 2 % of the full share, and four standard deviations of what chance does.
                    let chance = (wanted * (1.0 - wanted) / REQUESTS as f64).sqrt();
                    assert!(
                        (got - wanted).abs() < 0.02 / whole + 4.0 * chance,
                        "{name}, {aggression:?}, {seconds:?}: slot {slot} got {got}, not {wanted}"
                    );
                }
            }
        }
    }

    #[test]
    fn shares_follow_the_formula_under_every_kind_of_strategy() {
        check("round robin", RoundRobin::new);
        check("random", || Random);
        check("two choices", Two::default);
        check("least connections", LeastConnections::default);
        check("maglev", || maglev(&POOL));
    }

    #[test]
    fn an_idle_newcomer_is_not_slammed() {
        let mut table = Table::new(10);
        for slot in 0..9 {
            table.loads[slot].own_in_flight = 100;
        }
        let mut strategy: SlowStarting<LeastConnections, 1> =
            SlowStarting::new(LeastConnections::default(), SlowStart::default());
        strategy.start(9, Instant::ZERO);
        strategy.progress(Instant::from_secs(1), 10);
        let mut rng = Sfc32::new(1);
        let picks = (0..9_100).filter(|_| strategy.pick(&table, None, &mut rng) == Some(9));
        let got = picks.count();
        assert!(
            (99..=100).contains(&got),
            "1 of 91, though it would take all: {got}"
        );
    }

    #[test]
    fn keys_come_and_do_not_leave_again() {
        let table = SlicePool {
            candidates: &[0, 1, 2, 3],
            ..POOL
        };
        let mut strategy: SlowStarting<_, 2> = SlowStarting::new(maglev(&table), SlowStart::default());
        strategy.start(3, Instant::ZERO);
        let mut before = [0; 500];
        for second in 0..=31 {
            strategy.progress(Instant::from_secs(second), 4);
            for (key, before) in before.iter_mut().enumerate() {
                let slot = strategy.pick(&table, Some(key as u64), &mut Sfc32::new(second));
                let slot = slot.unwrap();
                assert!(*before != 3 || slot == 3, "{key} at {second} s");
                assert!(second == 0 || slot == 3 || slot == *before, "{key} at {second} s");
                *before = slot;
            }
        }
        assert_eq!(strategy.warming(), 0);
    }

    #[test]
    fn alone_or_all_together_they_get_everything() {
        let mut table = Table::new(3);
        let mut strategy: SlowStarting<LeastConnections, 3> =
            SlowStarting::new(LeastConnections::default(), SlowStart::default());
        let mut rng = Sfc32::new(1);
        for slot in 0..3 {
            strategy.start(slot, Instant::from_secs(7));
        }
        strategy.progress(Instant::from_secs(8), 3);
        let mut counts = [0; 3];
        for _ in 0..300 {
            counts[strategy.pick(&table, None, &mut rng).unwrap()] += 1;
        }
        assert_eq!(counts, [100; 3]);
        strategy.stop(0);
        strategy.stop(1);
        strategy.progress(Instant::from_secs(8), 3);
        table.up.remove(0);
        table.up.remove(1);
        assert_eq!(
            strategy.pick(&table, None, &mut rng),
            Some(2),
            "the others are full"
        );
        table.up.remove(2);
        assert_eq!(strategy.pick(&table, None, &mut rng), None);
    }

    #[test]
    fn places_end_and_slots_move() {
        let mut strategy: SlowStarting<Random, 2> = SlowStarting::new(Random, SlowStart::default());
        for (slot, second) in [(1, 5), (2, 3), (3, 4), (3, 6), (usize::MAX, 7)] {
            strategy.start(slot, Instant::from_secs(second));
        }
        let slots = |strategy: &SlowStarting<Random, 2>| -> std::vec::Vec<u16> {
            strategy.warming.iter().map(|warming| warming.slot).collect()
        };
        assert_eq!(slots(&strategy), [1, 3], "2 was the eldest");
        strategy.moved(3, 9);
        strategy.moved(8, 1);
        assert_eq!(slots(&strategy), [9]);
        strategy.progress(Instant::from_secs(36), 4);
        assert_eq!(strategy.warming(), 0);
        let none: SlowStart = SlowStart {
            window: Duration::ZERO,
            ..SlowStart::default()
        };
        assert_eq!(none.weight(9, Duration::ZERO), 9);
    }

    proptest! {
        #[test]
        fn a_share_is_that_of_the_formula(
            micros in 0..40_000_000_u64, window in prop_oneof![1..100_u64, 1..40_000_000_u64, any::<u64>()], which in 0..3_usize
        ) {
            let aggression = [Aggression::One, Aggression::Two, Aggression::Four][which];
            let rules = SlowStart { window: Duration::from_micros(window), aggression, minimum: 100 };
            let power = [1.0, 0.5, 0.25][which];
            let wanted = (micros as f64 / window as f64).powf(power).clamp(0.1, 1.0);
            let got = f64::from(rules.share(Duration::from_micros(micros))) / 65_536.0;
            prop_assert!((got - wanted).abs() < 0.001, "{}, not {}", got, wanted);
            let weight = f64::from(rules.weight(60_000, Duration::from_micros(micros)));
            prop_assert!((weight - wanted * 60_000.0).abs() < 70.0, "{}, not {}", weight, wanted * 60_000.0);
        }
    }
}
