//! Weighted round robin in nginx's smooth order, from a schedule made ahead.

use super::halves::{Halves, half_word, set_half_word};
use super::heapsort::{Heapsort, Items};
use super::weights::{Weights, divide, slot_of};
use super::{MemoryTooSmall, Pool, RoundRobin, Strategy, Tabled, pool};
use crate::rng::Rng;

/// Entries looked at before the nearest admitted candidate is taken.
const TRIES: u32 = 32;

/// Longest schedule.
const TURNS_MAX: usize = u16::MAX as usize;

/// Each candidate as often as its weight says, evenly interleaved: with weights 5, 1 and 1 the order is AABACAA, not
/// AAAAABC. A pick is O(1), a look-up; nothing of the load is read. Choose it for unequal workers and many clients,
/// or when reports are too old to tell.
///
/// The schedule is one period of nginx's smooth weighted round robin, made ahead by [`update`](Tabled::update). Over
/// a period, which is the sum of the weights divided by what divides them all, everyone gets its exact share. When
/// the period is longer than the memory, the weights are scaled down by largest remainders: everyone is within one
/// turn of its exact share and nobody with a weight is left without a turn (those that would be are given one, at the
/// others' expense). Candidates of weight 0 get none, unless all weights are 0.
///
/// The first pick is anywhere in the period, so that clients that start together do not walk in step. A new schedule
/// goes on at the same relative phase, so frequent changes favour nobody.
///
/// *Work*: an entry costs O(different weights), at most the square root of twice the entries; sorting costs O(log
/// candidates) for each candidate. *Memory*: two schedules of 16 bits a turn, a word for each slot, three for each
/// different weight: [`words`](Self::words). With more candidates than slots at an update, and before the first, it is
/// a plain [`RoundRobin`].
///
/// *Source*: nginx commit 52327e0627f4 (the order), Tengine's VNSWRR (making it ahead).
///
/// ```
/// use lb_core::pick::{SlicePool, SmoothWeighted, Strategy, Tabled};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     weights: &[5, 1, 1],
///     ..SlicePool::default()
/// };
/// const WORDS: usize = SmoothWeighted::<[u32; 0]>::words(8, 64);
/// let mut strategy = SmoothWeighted::new([0; WORDS], 8)?;
/// while !strategy.update(&pool, 16) {}
/// let (mut rng, mut counts) = (Sfc32::new(1), [0; 3]);
/// for _ in 0..70 {
///     counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
/// }
/// assert_eq!(counts, [50, 10, 10]);
/// # Ok::<(), lb_core::pick::MemoryTooSmall>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SmoothWeighted<S> {
    tables: Halves<S>,
    slots: usize,
    /// Longest schedule.
    turns_max: u32,
    /// Length of the one in use; 0: there is none.
    turns: u32,
    /// The next turn; beyond the last one before the first pick.
    next: u32,
    /// What was cut off the phase when the schedule changed, in 2^-16 turns.
    part: u16,
    version: Option<u32>,
    rotation: RoundRobin,
    build: Build,
}

const UNSTARTED: u32 = u32::MAX;

/// What is being built, and how far it is.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Build {
    version: u32,
    stage: Stage,
    /// The next candidate, entry or class.
    at: u32,
    weights: Weights,
    /// Weights below get one turn.
    small: u32,
    /// The turns for all others, and their weights' sum.
    room: u32,
    rest: u32,
    /// Words in the list.
    listed: u32,
    /// Remainders from this one on get a turn more.
    threshold: Option<u32>,
    classes: u32,
    turns: u32,
}

#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Stage {
    Idle,
    /// Sums the weights up.
    Sum,
    /// Counts those too small for a turn; repeated until there are no more.
    Small {
        count: u32,
        sum: u32,
    },
    /// Lists the remainders.
    Remainders {
        whole: u32,
    },
    /// Finds as many of the largest.
    Largest {
        sort: Heapsort,
        left: u32,
    },
    /// Lists turns and slots.
    Turns,
    Sort(Heapsort),
    /// Finds those with as many turns.
    Classes,
    Entries,
}

impl<S> SmoothWeighted<S> {
    /// The memory needed for that many slots and a period of at most that many turns; never fewer turns than slots,
    /// nor more than 65 535.
    #[must_use]
    pub const fn words(slots: usize, turns: usize) -> usize {
        let turns = if turns < slots { slots } else { turns };
        let turns = if turns > TURNS_MAX { TURNS_MAX } else { turns };
        // Whole words of each schedule.
        let turns = turns.saturating_add(turns & 1);
        turns
            .saturating_add(slots)
            .saturating_add(3_usize.saturating_mul(classes(turns)))
    }

    /// A strategy for pools of at most that many candidates. The longer the memory, the longer a period is kept
    /// without rounding.
    ///
    /// # Errors
    /// [`MemoryTooSmall`] when it does not hold a turn for each slot.
    pub fn new(memory: S, slots: usize) -> Result<Self, MemoryTooSmall>
    where
        S: AsRef<[u32]>,
    {
        let needed = Self::words(slots, slots);
        let room = memory.as_ref().len();
        if room < needed || slots > TURNS_MAX {
            return Err(MemoryTooSmall { needed });
        }
        // The most turns that fit: what is left is halved, less the classes that come with them.
        let half = (0..32).rev().fold(0_usize, |half, bit| {
            let more = half | 1 << bit;
            let fits = more <= TURNS_MAX.div_ceil(2) && Self::words(slots, more.saturating_mul(2)) <= room;
            if fits { more } else { half }
        });
        let turns = half.max(slots.div_ceil(2)).saturating_mul(2);
        let scratch = slots.saturating_add(3_usize.saturating_mul(classes(turns)));
        Ok(Self {
            tables: Halves::new(memory, turns >> 1, scratch)?,
            slots,
            turns_max: turns.min(TURNS_MAX) as u32,
            turns: 0,
            next: UNSTARTED,
            part: 0,
            version: None,
            rotation: RoundRobin::new(),
            build: Build::IDLE,
        })
    }

    /// The same strategy in another kind of memory, which must hold the same words.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> SmoothWeighted<T> {
        SmoothWeighted {
            tables: self.tables.map(change),
            slots: self.slots,
            turns_max: self.turns_max,
            turns: self.turns,
            next: self.next,
            part: self.part,
            version: self.version,
            rotation: self.rotation,
            build: self.build,
        }
    }

    /// How long the period is that is in use; 0 before the first update, and with too many candidates.
    #[must_use]
    pub const fn period(&self) -> u32 {
        self.turns
    }

    /// The longest period that is kept without rounding.
    #[must_use]
    pub const fn period_max(&self) -> u32 {
        self.turns_max
    }
}

/// How many different numbers of turns there can be: `1 + 2 + ... <= turns`.
const fn classes(turns: usize) -> usize {
    turns
        .saturating_mul(8)
        .saturating_add(1)
        .isqrt()
        .saturating_sub(1)
        / 2
}

impl<S: AsRef<[u32]>> SmoothWeighted<S> {
    #[cold]
    fn go_round<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        if self.turns == 0 {
            return self.rotation.pick(pool, key, rng);
        }
        for _ in 0..TRIES {
            if self.next >= self.turns {
                self.next = if self.next == UNSTARTED {
                    rng.below(self.turns)
                } else {
                    0
                };
            }
            let slot = half_word(self.tables.used(), self.next as usize);
            self.next = self.next.wrapping_add(1);
            if let Some(slot) = slot.map(usize::from).filter(|&slot| pool.admits(slot)) {
                return Some(slot);
            }
        }
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        pool::scan_from(pool, rng.below(count) as usize)
    }
}

impl<S: AsRef<[u32]>> Strategy for SmoothWeighted<S> {
    #[inline]
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        if self.next < self.turns {
            let slot = half_word(self.tables.used(), self.next as usize)?;
            if pool.admits(usize::from(slot)) {
                self.next = self.next.wrapping_add(1);
                return Some(usize::from(slot));
            }
        }
        self.go_round(pool, key, rng)
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for SmoothWeighted<S> {
    /// A unit is one entry or one candidate in one of the passes; an entry costs a unit more for every eight different
    /// weights.
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let version = pool.version();
        if self.version == Some(version) {
            return true;
        }
        if self.build.is_idle() || self.build.version != version {
            if pool.len() > self.slots {
                self.turns = 0;
                self.version = Some(version);
                self.build = Build::IDLE;
                return true;
            }
            self.build = Build {
                version,
                stage: Stage::Sum,
                ..Build::IDLE
            };
        }
        let (schedule, scratch) = self.tables.spare();
        let (list, classes) = scratch.split_at_mut_checked(self.slots).unwrap_or_default();
        let mut tables = Tables {
            schedule,
            list,
            classes,
        };
        let mut left = budget;
        while left > 0 && !self.build.is_idle() {
            left = left.saturating_sub(self.build.step(pool, &mut tables, self.turns_max));
        }
        if !self.build.is_idle() {
            return false;
        }
        self.change(version);
        true
    }
}

impl<S> SmoothWeighted<S> {
    /// What was built goes into use at the phase that was reached.
    fn change(&mut self, version: u32) {
        let turns = self.build.turns;
        if self.next != UNSTARTED && self.turns > 0 {
            let next = self.next.checked_rem(self.turns).unwrap_or(0);
            let phase = u64::from(next) << 16 | u64::from(self.part);
            let (phase, _) = divide(phase.wrapping_mul(u64::from(turns)), self.turns, 32);
            self.next = (phase >> 16) as u32;
            self.part = phase as u16;
        }
        self.turns = turns;
        self.tables.flip();
        self.version = Some(version);
    }
}

struct Tables<'a> {
    schedule: &'a mut [u32],
    /// One word for each candidate: what is sorted.
    list: &'a mut [u32],
    /// Three words for each number of turns: value, turns and cursor, begin and end in the list.
    classes: &'a mut [u32],
}

impl Build {
    const IDLE: Self = Self {
        version: 0,
        stage: Stage::Idle,
        at: 0,
        weights: Weights {
            candidates: 0,
            positive: 0,
            sum: 0,
            largest: 0,
            divisor: 0,
        },
        small: 0,
        room: 0,
        rest: 0,
        listed: 0,
        threshold: None,
        classes: 0,
        turns: 0,
    };

    /// One unit of work; how many it counts for.
    fn step<P: Pool + ?Sized>(&mut self, pool: &P, tables: &mut Tables<'_>, period_max: u32) -> u32 {
        let at = self.at;
        self.at = at.wrapping_add(1);
        let index = at as usize;
        let past = index >= pool.len();
        match &mut self.stage {
            Stage::Idle => {}
            Stage::Sum if past => {
                self.weights.finish();
                self.turns = self.weights.sum.checked_div(self.weights.divisor).unwrap_or(0);
                if self.turns <= period_max {
                    self.enter(Stage::Turns);
                } else {
                    self.turns = period_max;
                    self.bound(0, 0);
                    self.enter(Stage::Small { count: 0, sum: 0 });
                }
            }
            Stage::Sum => self.weights.add(pool.weight(pool.slot(index))),
            Stage::Small { count, sum } if past => {
                let (count, sum, small) = (*count, *sum, self.small);
                self.bound(count, sum);
                self.enter(if self.small == small {
                    Stage::Remainders { whole: 0 }
                } else {
                    Stage::Small { count: 0, sum: 0 }
                });
            }
            Stage::Small { count, sum } => {
                let weight = u32::from(self.weights.of(pool, pool.slot(index)));
                if weight < self.small {
                    *count = count.saturating_add(u32::from(weight > 0));
                    *sum = sum.saturating_add(weight);
                }
            }
            Stage::Remainders { whole } if past => {
                let left = self.room.saturating_sub(*whole);
                let sort = Heapsort::new(self.listed as usize);
                self.enter(Stage::Largest { sort, left });
            }
            Stage::Remainders { whole } => {
                let weight = self.weights.of(pool, pool.slot(index));
                if u32::from(weight) >= self.small {
                    let (quota, word) = quota(weight, self.room, self.rest, at);
                    *whole = whole.saturating_add(quota);
                    self.list(tables, word);
                }
            }
            Stage::Largest { sort, left } => {
                let mut words = Words(tables.list);
                if sort.step(&mut words, self.listed as usize) {
                    let least = self.listed.wrapping_sub(*left) as usize;
                    self.threshold = tables.list.get(least).copied().filter(|_| *left > 0);
                    self.listed = 0;
                    self.enter(Stage::Turns);
                }
            }
            Stage::Turns if past => {
                let sort = Heapsort::new(self.listed as usize);
                self.enter(Stage::Sort(sort));
            }
            Stage::Turns => {
                let slot = slot_of(pool, index);
                let turns = self.turns_of(self.weights.of(pool, usize::from(slot)), at);
                if turns > 0 {
                    self.list(tables, turns << 16 | u32::from(slot));
                }
            }
            Stage::Sort(sort) => {
                if sort.step(&mut Words(tables.list), self.listed as usize) {
                    self.enter(Stage::Classes);
                }
            }
            Stage::Classes if at >= self.listed => self.enter(Stage::Entries),
            Stage::Classes => self.classify(tables, at),
            Stage::Entries if at >= self.turns => self.enter(Stage::Idle),
            Stage::Entries => {
                let slot = next_turn(tables, self.classes, self.turns);
                set_half_word(tables.schedule, index, slot);
                return (self.classes >> 3).saturating_add(1);
            }
        }
        1
    }

    const fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    fn list(&mut self, tables: &mut Tables<'_>, word: u32) {
        if let Some(place) = tables.list.get_mut(self.listed as usize) {
            *place = word;
            self.listed = self.listed.wrapping_add(1);
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        self.at = 0;
    }

    /// Weights below the mean turn of those that are not small are small.
    fn bound(&mut self, count: u32, sum: u32) {
        self.room = self.turns.saturating_sub(count);
        self.rest = self.weights.sum.saturating_sub(sum);
        let whole = self.rest.checked_div(self.room).unwrap_or(0);
        let cut = whole.saturating_mul(self.room) < self.rest;
        self.small = whole.saturating_add(u32::from(cut));
    }

    /// The turns of a candidate in a period.
    fn turns_of(&self, weight: u16, index: u32) -> u32 {
        if self.room == 0 {
            return u32::from(weight).checked_div(self.weights.divisor).unwrap_or(0);
        }
        if u32::from(weight) < self.small {
            return u32::from(weight > 0);
        }
        let (quota, word) = quota(weight, self.room, self.rest, index);
        let more = self.threshold.is_some_and(|threshold| word >= threshold);
        quota.saturating_add(u32::from(more))
    }

    /// The `at`-th of the list belongs to the last class, or begins one.
    fn classify(&mut self, tables: &mut Tables<'_>, at: u32) {
        let turns = |index: u32| tables.list.get(index as usize).map_or(0, |word| word >> 16);
        let here = turns(at);
        let begins = at == 0 || turns(at.wrapping_sub(1)) != here;
        self.classes = self.classes.saturating_add(u32::from(begins));
        let class = self.classes.saturating_sub(1) as usize;
        if let Some([value, cursor, range]) = tables.classes.as_chunks_mut().0.get_mut(class) {
            if begins {
                *value = 0;
                *cursor = here << 16 | at;
                *range = at << 16;
            }
            *range = *range & 0xffff_0000 | at.saturating_add(1);
        }
    }
}

/// Whole turns, and the remainder as a word that sorts by it.
fn quota(weight: u16, room: u32, rest: u32, index: u32) -> (u32, u32) {
    let product = u64::from(weight).saturating_mul(u64::from(room));
    let (quota, _) = divide(product << 16, rest, 32);
    ((quota >> 16) as u32, (quota as u32) << 16 | index & 0xffff)
}

/// One turn of nginx: everybody gains its turns, the richest pays for all. Of those with as many turns, the one that
/// comes next in their rotation is the richest, so only one for each number of turns is looked at.
fn next_turn(tables: &mut Tables<'_>, classes: u32, turns: u32) -> u16 {
    let slot = |list: &[u32], cursor: u32| {
        list.get((cursor & 0xffff) as usize)
            .map_or(0, |&word| word as u16)
    };
    let (mut best, mut most, mut head) = (usize::MAX, i32::MIN, 0);
    let classes = tables
        .classes
        .as_chunks_mut::<3>()
        .0
        .iter_mut()
        .take(classes as usize);
    for (class, [value, cursor, _]) in classes.enumerate() {
        let gained = value.cast_signed().wrapping_add((*cursor >> 16).cast_signed());
        *value = gained.cast_unsigned();
        if gained > most || (gained == most && slot(tables.list, *cursor) < head) {
            (best, most, head) = (class, gained, slot(tables.list, *cursor));
        }
    }
    if let Some([value, cursor, range]) = tables.classes.as_chunks_mut::<3>().0.get_mut(best) {
        *cursor = cursor.wrapping_add(1);
        if *cursor & 0xffff >= *range & 0xffff {
            // Everybody had this turn: the next one is the one that paid first.
            *cursor = *cursor & 0xffff_0000 | *range >> 16;
            *value = value.wrapping_sub(turns);
        }
    }
    head
}

struct Words<'a>(&'a mut [u32]);

impl Items for Words<'_> {
    fn less(&self, left: usize, right: usize) -> bool {
        self.0.get(left) < self.0.get(right)
    }

    fn swap(&mut self, left: usize, right: usize) {
        if let (Some(a), Some(b)) = (self.0.get(left).copied(), self.0.get(right).copied()) {
            for (index, word) in [(left, b), (right, a)] {
                if let Some(place) = self.0.get_mut(index) {
                    *place = word;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SlicePool;
    use super::*;
    use crate::rng::Sfc32;
    use std::vec::Vec;

    /// What nginx does.
    fn nginx(weights: &[u16], turns: usize) -> Vec<usize> {
        let total: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
        let mut current = std::vec![0_i64; weights.len()];
        let turn = |_| {
            let mut best = 0;
            for (index, weight) in weights.iter().enumerate() {
                current[index] += i64::from(*weight);
                if current[index] > current[best] {
                    best = index;
                }
            }
            current[best] -= total;
            best
        };
        (0..turns).map(turn).collect()
    }

    fn candidates(count: usize) -> Vec<u16> {
        (0..count as u16).collect()
    }

    fn pool<'a>(candidates: &'a [u16], weights: &'a [u16], version: u32) -> SlicePool<'a> {
        SlicePool {
            candidates,
            admitted: &[u32::MAX; 2_048],
            weights,
            version,
            ..SlicePool::default()
        }
    }

    fn built(weights: &[u16], turns: usize) -> SmoothWeighted<Vec<u32>> {
        let slots = weights.len();
        let memory = std::vec![0xdead_beef; SmoothWeighted::<Vec<u32>>::words(slots, turns)];
        let mut strategy = SmoothWeighted::new(memory, slots).unwrap();
        while !strategy.update(&pool(&candidates(slots), weights, 0), 7) {}
        strategy
    }

    fn schedule(strategy: &SmoothWeighted<Vec<u32>>) -> Vec<usize> {
        let entry = |turn| half_word(strategy.tables.used(), turn).unwrap().into();
        (0..strategy.turns as usize).map(entry).collect()
    }

    #[test]
    fn the_order_is_that_of_nginx() {
        assert_eq!(schedule(&built(&[5, 1, 1], 8)), [0, 0, 1, 0, 2, 0, 0]);
        let mut rng = Sfc32::new(1);
        for round in 0..300 {
            let count = 1 + rng.below(24);
            let most = 1 + rng.below(40);
            let weights: Vec<u16> = (0..count).map(|_| rng.below(most + 1) as u16).collect();
            let sum: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
            if sum == 0 {
                continue;
            }
            let strategy = built(&weights, sum);
            let order = schedule(&strategy);
            assert_eq!(order, nginx(&weights, order.len()), "{round}: {weights:?}");
            assert_eq!(sum % order.len(), 0);
        }
    }

    #[test]
    fn long_periods_are_scaled_within_a_turn() {
        let mut rng = Sfc32::new(2);
        for round in 0..200 {
            let count = 2 + rng.below(60) as usize;
            let spread = rng.below(16);
            let weights: Vec<u16> = (0..count)
                .map(|_| ((rng.next_u32() & 0xffff) >> rng.below(spread + 1)) as u16)
                .collect();
            let turns = (count + rng.below(200) as usize).next_multiple_of(2);
            let strategy = built(&weights, turns);
            let mut counts = std::vec![0_u64; count];
            schedule(&strategy).into_iter().for_each(|slot| counts[slot] += 1);
            let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
            let period = u64::from(strategy.turns);
            if period < turns as u64 {
                continue;
            }
            assert_eq!(period, turns as u64);
            // Water level: what the larger ones share when the smallest have a turn each.
            let mut small = std::vec![false; count];
            let (mut room, mut rest) = (period, sum);
            while let Some(index) = (0..count)
                .find(|&index| !small[index] && weights[index] > 0 && u64::from(weights[index]) * room < rest)
            {
                // All below the level at once.
                let (level_room, level_rest) = (room, rest);
                let _ = index;
                for index in 0..count {
                    let weight = u64::from(weights[index]);
                    if !small[index] && weight > 0 && weight * level_room < level_rest {
                        small[index] = true;
                        room -= 1;
                        rest -= weight;
                    }
                }
            }
            for index in 0..count {
                let (weight, turns) = (u64::from(weights[index]), counts[index]);
                if weight == 0 {
                    assert_eq!(turns, 0);
                } else if small[index] {
                    assert_eq!(turns, 1, "{round}: {weights:?}");
                } else {
                    let quota = weight * room / rest;
                    assert!(
                        (quota..=quota + 1).contains(&turns),
                        "{round}: {turns} for {weight} of {weights:?}"
                    );
                }
            }
            assert_eq!(counts.iter().sum::<u64>(), period);
        }
    }

    /// 99 to 1 with a new schedule before every pick: who is rare is neither starved nor favoured.
    #[test]
    fn a_new_schedule_goes_on_at_the_same_phase() {
        for weights in [[[99, 1], [99, 1]], [[99, 1], [98, 1]], [[99, 1], [990, 11]]] {
            let mut total = 0;
            for seed in 0..20 {
                let candidates = candidates(2);
                let mut strategy = built(&weights[0], 1_100);
                let mut rng = Sfc32::new(seed);
                let mut rare = 0;
                for version in 1..=1_000 {
                    let pool = pool(&candidates, &weights[version as usize % 2], version);
                    assert!(strategy.update(&pool, u32::MAX));
                    rare += strategy.pick(&pool, None, &mut rng).unwrap();
                }
                assert!((8..=12).contains(&rare) || weights[1][1] > 1, "{rare} of 1000");
                total += rare;
            }
            assert!((180..=224).contains(&total), "{total} of 20000 for {weights:?}");
        }
    }

    #[test]
    fn clients_start_anywhere() {
        let strategy = built(&[1, 1, 1, 1], 8);
        let mut first = [0; 4];
        for seed in 0..400 {
            let candidates = candidates(4);
            let pool = pool(&candidates, &[], 0);
            first[strategy.clone().pick(&pool, None, &mut Sfc32::new(seed)).unwrap()] += 1;
        }
        assert!(first.iter().all(|&count| count > 60), "{first:?}");
    }

    #[test]
    fn the_former_schedule_is_used_while_the_next_is_made() {
        let mut strategy = built(&[3, 1], 64);
        let candidates = candidates(2);
        let next = pool(&candidates, &[1, 3], 1);
        let mut rng = Sfc32::new(1);
        let mut counts = [0; 2];
        for _ in 0..4 {
            assert!(!strategy.update(&next, 1));
            counts[strategy.pick(&next, None, &mut rng).unwrap()] += 1;
        }
        assert_eq!(counts, [3, 1]);
        while !strategy.update(&next, 1) {}
        assert_eq!(schedule(&strategy), nginx(&[1, 3], 4));
        assert!(
            !strategy.update(&pool(&candidates, &[1, 3], 2), 0),
            "no budget, no work"
        );
    }

    #[test]
    fn too_many_candidates_are_taken_in_turn() {
        let mut strategy = built(&[3, 1], 64);
        let candidates = candidates(3);
        let more = pool(&candidates, &[9, 1, 1], 1);
        assert!(strategy.update(&more, 1));
        let mut counts = [0; 3];
        for _ in 0..30 {
            counts[strategy.pick(&more, None, &mut Sfc32::new(1)).unwrap()] += 1;
        }
        assert_eq!(counts, [10; 3]);
        let needed = SmoothWeighted::<[u32; 3]>::words(8, 8);
        assert_eq!(
            SmoothWeighted::new([0; 3], 8).unwrap_err(),
            MemoryTooSmall { needed }
        );
    }

    #[test]
    fn memory_is_used_to_the_last_turn() {
        for slots in [0, 1, 2, 3, 16, 100] {
            for turns in [0, 1, 2, 7, 64, 1_000, 65_535, 1 << 20] {
                let words = SmoothWeighted::<Vec<u32>>::words(slots, turns);
                let strategy = SmoothWeighted::new(std::vec![0; words], slots).unwrap();
                let most = turns.max(slots).min(TURNS_MAX) as u32;
                assert!(
                    (most..=most + 1).contains(&strategy.period_max()),
                    "{slots} {turns}"
                );
            }
        }
    }
}
