//! Least connections in O(1), by buckets of equal load.

use super::least_connections::least;
use super::weights::slot_of;
use super::{MemoryTooSmall, Pool, RoundRobin, Strategy, Tabled};
use crate::rng::Rng;

/// Candidates looked at before all are compared.
const TRIES: u32 = 32;

/// No slot, no bucket.
const NONE: u16 = u16::MAX;

/// A request at the heaviest endpoint counts for this much load.
const UNIT_SHIFT: u32 = 12;

/// The admitted candidate with the fewest of our own requests in flight for its weight, `(own + 1) / weight`; ties in
/// rotation, whoever waited longest first. Picking, beginning and finishing are O(1) with equal weights, where
/// [`super::LeastConnections`] looks at every candidate; choose it from some 64 candidates on.
///
/// Slots of the same load are a list, and the lists are in order, so a request that begins or ends moves its slot to the
/// list beside. With different weights there can be other lists in between: moving costs as many steps as there are
/// different loads in between. When the first 32 of the lowest are not admitted, all are compared.
///
/// It counts requests itself, since it has to know of every change: call [`begin`](Self::begin) with what was picked
/// and [`finish`](Self::finish) once for each, whoever it was picked by; [`pick`](Strategy::pick) counts nothing. Counts
/// belong to slots and survive [`update`](Tabled::update) whether a slot stays a candidate or not; when an endpoint
/// moves to another slot, [`moved`](Self::moved) takes its count there. Loads differ by less than 2^-12 requests of the
/// heaviest endpoint from exact ones and saturate at 2^20 of them. A weight of 0 comes last, unless all have 0.
///
/// *Memory*: six words for each slot. When a candidate has a slot beyond that, it is
/// [`super::LeastConnections`].
///
/// *Source*: HAProxy's `lb_fwlc.c` since its 2025 change from a tree to lists by number of connections.
///
/// ```
/// use lb_core::pick::{LoadBuckets, SlicePool, Strategy, Tabled};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     weights: &[2, 1, 1],
///     ..SlicePool::default()
/// };
/// let mut strategy = LoadBuckets::new([0; LoadBuckets::<[u32; 0]>::words(3)])?;
/// while !strategy.update(&pool, 16) {}
/// let mut rng = Sfc32::new(1);
/// for _ in 0..40 {
///     let slot = strategy.pick(&pool, None, &mut rng).unwrap();
///     strategy.begin(slot);
/// }
/// assert_eq!([0, 1, 2].map(|slot| strategy.in_flight(slot)), [20, 10, 10]);
/// # Ok::<(), lb_core::pick::MemoryTooSmall>(())
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LoadBuckets<S> {
    memory: S,
    lowest: u16,
    /// Buckets that were used, linked by `above`; and the first that never was.
    free: u16,
    fresh: u16,
    largest: u16,
    started: bool,
    /// Not all candidates are in the lists.
    partial: bool,
    version: Option<u32>,
    ties: RoundRobin,
    build: Build,
}

/// How far an update is.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Build {
    running: bool,
    version: u32,
    largest: u16,
    /// The largest weight is known, and slots are being listed.
    listing: bool,
    candidate: usize,
    slot: u16,
}

/// What is kept of a slot, and of the bucket with the same number.
#[derive(Clone, Copy)]
struct Entry {
    count: u32,
    /// Neighbours in the list of a bucket.
    before: u16,
    after: u16,
    /// [`NONE`]: in no list.
    bucket: u16,
    weight: u16,
    level: u32,
    first: u16,
    last: u16,
    below: u16,
    above: u16,
}

const WORDS: usize = 6;

const fn pair(high: u16, low: u16) -> u32 {
    (high as u32) << 16 | low as u32
}

impl Entry {
    const fn read(words: &[u32; WORDS]) -> Self {
        let [count, links, place, level, ends, order] = *words;
        Self {
            count,
            before: (links >> 16) as u16,
            after: links as u16,
            bucket: (place >> 16) as u16,
            weight: place as u16,
            level,
            first: (ends >> 16) as u16,
            last: ends as u16,
            below: (order >> 16) as u16,
            above: order as u16,
        }
    }
}

/// Where the parts of an [`Entry`] are: the word, and the lowest bit in it.
#[derive(Clone, Copy)]
struct Part(usize, u32);

const COUNT: usize = 0;
const BEFORE: Part = Part(1, 16);
const AFTER: Part = Part(1, 0);
const BUCKET: Part = Part(2, 16);
const WEIGHT: Part = Part(2, 0);
const LEVEL: usize = 3;
const FIRST: Part = Part(4, 16);
const LAST: Part = Part(4, 0);
const BELOW: Part = Part(5, 16);
const ABOVE: Part = Part(5, 0);

impl<S> LoadBuckets<S> {
    /// The memory needed for slots below this one.
    #[must_use]
    pub const fn words(slots: usize) -> usize {
        slots.saturating_mul(WORDS)
    }

    /// No request is in flight.
    ///
    /// # Errors
    /// [`MemoryTooSmall`] when there is no room for a single slot.
    pub fn new(mut memory: S) -> Result<Self, MemoryTooSmall>
    where
        S: AsMut<[u32]>,
    {
        let (entries, _) = memory.as_mut().as_chunks_mut::<WORDS>();
        if entries.is_empty() {
            return Err(MemoryTooSmall { needed: WORDS });
        }
        for entry in entries {
            *entry = [
                0,
                pair(NONE, NONE),
                pair(NONE, 0),
                0,
                pair(NONE, NONE),
                pair(NONE, NONE),
            ];
        }
        Ok(Self {
            memory,
            lowest: NONE,
            free: NONE,
            fresh: 0,
            largest: 1,
            started: false,
            partial: true,
            version: None,
            ties: RoundRobin::new(),
            build: Build::default(),
        })
    }

    /// The same strategy in another kind of memory, which must hold the same words.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> LoadBuckets<T> {
        LoadBuckets {
            memory: change(self.memory),
            lowest: self.lowest,
            free: self.free,
            fresh: self.fresh,
            largest: self.largest,
            started: self.started,
            partial: self.partial,
            version: self.version,
            ties: self.ties,
            build: self.build,
        }
    }
}

impl<S: AsRef<[u32]>> LoadBuckets<S> {
    /// Requests in flight at a slot.
    #[must_use]
    pub fn in_flight(&self, slot: usize) -> u32 {
        self.words_of(slot).map_or(0, |words| Entry::read(words).count)
    }

    fn words_of(&self, slot: usize) -> Option<&[u32; WORDS]> {
        self.memory.as_ref().as_chunks::<WORDS>().0.get(slot)
    }

    #[inline]
    fn entry(&self, index: u16) -> Option<Entry> {
        self.words_of(usize::from(index)).map(Entry::read)
    }

    /// `(count + 1) / weight` in units of one request at the heaviest endpoint.
    #[inline]
    fn level(&self, count: u32, weight: u16) -> u32 {
        let unit = if weight == self.largest {
            1 << UNIT_SHIFT
        } else {
            let largest = u32::from(self.largest) << UNIT_SHIFT;
            largest.checked_div(u32::from(weight)).unwrap_or(u32::MAX)
        };
        count.saturating_add(1).saturating_mul(unit)
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> LoadBuckets<S> {
    /// A request to this slot begins.
    pub fn begin(&mut self, slot: usize) {
        self.count(slot, |count| count.saturating_add(1));
    }

    /// A request to this slot ended.
    pub fn finish(&mut self, slot: usize) {
        self.count(slot, |count| count.saturating_sub(1));
    }

    /// The endpoint of a slot is in another one now, with its requests in flight; what was counted there is
    /// forgotten.
    pub fn moved(&mut self, from: usize, to: usize) {
        let count = self.in_flight(from);
        self.count(from, |_| 0);
        self.count(to, |_| count);
    }

    #[inline]
    fn count(&mut self, slot: usize, change: impl FnOnce(u32) -> u32) {
        let Some(slot) = u16::try_from(slot).ok().filter(|&slot| slot != NONE) else {
            return;
        };
        let Some(entry) = self.entry(slot) else { return };
        let count = change(entry.count);
        self.set_word(slot, COUNT, count);
        if entry.bucket != NONE {
            self.place(slot, self.level(count, entry.weight), entry.bucket);
        }
    }

    #[inline]
    fn word(&mut self, index: u16, word: usize) -> Option<&mut u32> {
        let entries = self.memory.as_mut().as_chunks_mut::<WORDS>().0;
        entries.get_mut(usize::from(index))?.get_mut(word)
    }

    #[inline]
    fn set_word(&mut self, index: u16, word: usize, value: u32) {
        if let Some(place) = self.word(index, word) {
            *place = value;
        }
    }

    #[inline]
    fn set(&mut self, index: u16, Part(word, shift): Part, value: u16) {
        if let Some(place) = self.word(index, word) {
            *place = *place & !0xffff_u32.wrapping_shl(shift) | u32::from(value).wrapping_shl(shift);
        }
    }

    /// Moves a slot to the end of the list of its level, looking from this bucket on; into none yet is as well.
    fn place(&mut self, slot: u16, level: u32, from: u16) {
        // The neighbours of the level: `lower` is below it or at it, `upper` above.
        let (mut lower, mut upper) = match self.entry(from) {
            Some(bucket) if bucket.level <= level => (from, bucket.above),
            Some(bucket) => (bucket.below, from),
            None => (NONE, self.lowest),
        };
        while let Some(bucket) = self.entry(upper).filter(|bucket| bucket.level <= level) {
            (lower, upper) = (upper, bucket.above);
        }
        while let Some(bucket) = self.entry(lower).filter(|bucket| bucket.level > level) {
            (lower, upper) = (bucket.below, lower);
        }
        // Left before a bucket is opened, so that there are never more buckets than slots.
        let left = self.entry(slot).map_or(NONE, |entry| entry.bucket);
        let order = self.entry(left).map(|bucket| (bucket.below, bucket.above));
        self.unlist(slot);
        if let Some((below, above)) = order.filter(|_| self.free == left) {
            if lower == left {
                lower = below;
            }
            if upper == left {
                upper = above;
            }
        }
        let bucket = match self.entry(lower) {
            Some(bucket) if bucket.level == level => lower,
            _ => self.open(level, lower, upper),
        };
        self.append(slot, bucket);
    }

    /// A new bucket between these.
    fn open(&mut self, level: u32, below: u16, above: u16) -> u16 {
        let bucket = match self.entry(self.free) {
            Some(used) => core::mem::replace(&mut self.free, used.above),
            None => {
                let fresh = self.fresh;
                self.fresh = fresh.saturating_add(1);
                fresh
            }
        };
        self.set_word(bucket, LEVEL, level);
        self.set(bucket, FIRST, NONE);
        self.set(bucket, LAST, NONE);
        self.set(bucket, BELOW, below);
        self.set(bucket, ABOVE, above);
        self.set(above, BELOW, bucket);
        self.set_above(below, bucket);
        bucket
    }

    fn set_above(&mut self, bucket: u16, above: u16) {
        if bucket == NONE {
            self.lowest = above;
        } else {
            self.set(bucket, ABOVE, above);
        }
    }

    fn append(&mut self, slot: u16, bucket: u16) {
        let last = self.entry(bucket).map_or(NONE, |entry| entry.last);
        self.set(slot, BEFORE, last);
        self.set(slot, AFTER, NONE);
        self.set(slot, BUCKET, bucket);
        self.set(bucket, LAST, slot);
        if last == NONE {
            self.set(bucket, FIRST, slot);
        } else {
            self.set(last, AFTER, slot);
        }
    }

    /// Takes a slot out of its list; closes the bucket when it was the last one.
    fn unlist(&mut self, slot: u16) {
        let Some(entry) = self.entry(slot).filter(|entry| entry.bucket != NONE) else {
            return;
        };
        let (before, after) = (entry.before, entry.after);
        self.set(slot, BUCKET, NONE);
        if before == NONE {
            self.set(entry.bucket, FIRST, after);
        } else {
            self.set(before, AFTER, after);
        }
        if after == NONE {
            self.set(entry.bucket, LAST, before);
        } else {
            self.set(after, BEFORE, before);
        }
        if before == NONE && after == NONE {
            self.close(entry.bucket);
        }
    }

    fn close(&mut self, bucket: u16) {
        let Some(entry) = self.entry(bucket) else { return };
        self.set_above(entry.below, entry.above);
        self.set(entry.above, BELOW, entry.below);
        let free = core::mem::replace(&mut self.free, bucket);
        self.set(bucket, ABOVE, free);
    }

    /// Clients that start together begin anywhere among their equals.
    #[cold]
    fn start<P: Pool + ?Sized, R: Rng + ?Sized>(&mut self, pool: &P, rng: &mut R) {
        self.started = true;
        for _ in 0..rng.below(u32::try_from(pool.len()).unwrap_or(u32::MAX)) {
            let first = self.entry(self.lowest).map_or(NONE, |bucket| bucket.first);
            self.turn(first);
        }
    }

    /// To the end of its list.
    fn turn(&mut self, slot: u16) {
        if let Some(entry) = self.entry(slot).filter(|entry| entry.after != NONE) {
            // The bucket stays: there is another one behind it.
            self.unlist(slot);
            self.append(slot, entry.bucket);
        }
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Strategy for LoadBuckets<S> {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        if self.partial {
            return least(pool, &mut self.ties, rng, |slot| pool.own_in_flight(slot));
        }
        if !self.started && !pool.is_empty() {
            self.start(pool, rng);
        }
        let (mut bucket, mut slot) = (self.lowest, NONE);
        for _ in 0..TRIES {
            if slot == NONE {
                let Some(entry) = self.entry(bucket) else { break };
                (slot, bucket) = (entry.first, entry.above);
            }
            if pool.admits(usize::from(slot)) {
                return Some(usize::from(slot));
            }
            slot = self.entry(slot).map_or(NONE, |entry| entry.after);
        }
        let mut ties = core::mem::take(&mut self.ties);
        let slot = least(pool, &mut ties, rng, |slot| {
            let entry = self.words_of(slot).map(Entry::read);
            entry.map_or(u32::MAX, |entry| self.level(entry.count, entry.weight))
        });
        self.ties = ties;
        slot
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for LoadBuckets<S> {
    /// A unit is a candidate or a slot, of the slots there is memory for. Picks in between find those listed so far.
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let version = pool.version();
        if self.version == Some(version) {
            return true;
        }
        let slots = self.memory.as_ref().len() / WORDS;
        if !self.build.running || self.build.version != version {
            self.build = Build {
                running: true,
                version,
                ..Build::default()
            };
        }
        for _ in 0..budget {
            let candidate = slot_of(pool, self.build.candidate);
            let past = self.build.candidate >= pool.len();
            if !self.build.listing {
                self.build.candidate = self.build.candidate.wrapping_add(1);
                if past {
                    self.build.listing = true;
                    self.build.candidate = 0;
                    self.largest = self.build.largest.max(1);
                } else {
                    self.build.largest = self.build.largest.max(pool.weight(usize::from(candidate)));
                }
            } else if usize::from(self.build.slot) < slots && self.build.slot < NONE {
                let slot = self.build.slot;
                self.build.slot = slot.wrapping_add(1);
                if past || candidate != slot {
                    self.unlist(slot);
                    continue;
                }
                self.build.candidate = self.build.candidate.wrapping_add(1);
                let weight = if self.build.largest == 0 {
                    1
                } else {
                    pool.weight(usize::from(slot))
                };
                self.set(slot, WEIGHT, weight);
                let entry = self.entry(slot);
                let (count, bucket) = entry.map_or((0, NONE), |entry| (entry.count, entry.bucket));
                let level = self.level(count, weight);
                if self.entry(bucket).is_none_or(|bucket| bucket.level != level) {
                    self.place(slot, level, bucket);
                }
            } else {
                self.partial = !past;
                self.build.running = false;
                self.version = Some(version);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::SlicePool;
    use super::*;
    use crate::rng::Sfc32;
    use std::vec::Vec;

    fn built(pool: &SlicePool<'_>, slots: usize) -> LoadBuckets<Vec<u32>> {
        let memory = std::vec![7; LoadBuckets::<Vec<u32>>::words(slots)];
        let mut strategy = LoadBuckets::new(memory).unwrap();
        while !strategy.update(pool, 3) {}
        strategy
    }

    /// Lists in order, links both ways, every candidate once.
    fn check(strategy: &LoadBuckets<Vec<u32>>, pool: &SlicePool<'_>) {
        let (mut bucket, mut below, mut level) = (strategy.lowest, NONE, None);
        let mut listed = Vec::new();
        while let Some(entry) = strategy.entry(bucket) {
            assert!(level < Some(entry.level) && entry.below == below);
            let (mut slot, mut before) = (entry.first, NONE);
            assert_ne!(slot, NONE, "no bucket is empty");
            while slot != NONE {
                let there = strategy.entry(slot).unwrap();
                assert_eq!((there.bucket, there.before), (bucket, before));
                assert_eq!(strategy.level(there.count, there.weight), entry.level);
                listed.push(slot);
                (before, slot) = (slot, there.after);
            }
            assert_eq!(entry.last, before);
            (below, level, bucket) = (bucket, Some(entry.level), entry.above);
        }
        listed.sort_unstable();
        assert_eq!(listed, pool.candidates);
    }

    #[test]
    fn as_a_full_scan_would_pick_through_beginnings_ends_and_changes() {
        for (seed, equal) in (0..60).zip([true, false].into_iter().cycle()) {
            let mut rng = Sfc32::new(seed);
            let slots = 1 + rng.below(20) as usize;
            let mut candidates: Vec<u16> = (0..slots as u16).collect();
            let weights: Vec<u16> = (0..slots)
                .map(|_| if equal { 3 } else { 1 + rng.below(9) as u16 })
                .collect();
            let mut admitted = [u32::MAX];
            let mut version = 0;
            let mut strategy = built(
                &SlicePool {
                    candidates: &candidates,
                    weights: &weights,
                    ..SlicePool::default()
                },
                slots,
            );
            let mut counts = std::vec![0_u32; slots];
            for _ in 0..400 {
                match rng.below(8) {
                    0..=3 => {
                        let here = admitted[0] & candidates.iter().fold(0, |bits, slot| bits | 1_u32 << slot);
                        let pool = SlicePool {
                            candidates: &candidates,
                            admitted: &[here],
                            weights: &weights,
                            version,
                            ..SlicePool::default()
                        };
                        let pick = strategy.pick(&pool, None, &mut rng);
                        let cost = |slot: usize| strategy.level(counts[slot], weights[slot]);
                        let least = pool.slots().filter(|&slot| pool.admits(slot)).map(cost).min();
                        assert_eq!(pick.map(cost), least);
                        if let Some(slot) = pick {
                            strategy.begin(slot);
                            counts[slot] += 1;
                        }
                    }
                    4 | 5 => {
                        let slot = rng.below(slots as u32) as usize;
                        strategy.finish(slot);
                        counts[slot] = counts[slot].saturating_sub(1);
                    }
                    6 => admitted[0] = rng.next_u32() | rng.next_u32(),
                    _ => {
                        version += 1;
                        let keep = rng.next_u32() | 1;
                        candidates = (0..slots as u16).filter(|slot| keep >> slot & 1 == 1).collect();
                        let pool = SlicePool {
                            candidates: &candidates,
                            weights: &weights,
                            version,
                            ..SlicePool::default()
                        };
                        while !strategy.update(&pool, 2) {}
                    }
                }
                let pool = SlicePool {
                    candidates: &candidates,
                    ..SlicePool::default()
                };
                check(&strategy, &pool);
                assert!((0..slots).all(|slot| strategy.in_flight(slot) == counts[slot]));
            }
            for (slot, count) in counts.iter().enumerate() {
                (0..*count).for_each(|_| strategy.finish(slot));
                assert_eq!(strategy.in_flight(slot), 0);
            }
        }
    }

    #[test]
    fn equals_take_turns_with_and_without_requests_in_flight() {
        let pool = SlicePool {
            candidates: &[0, 1, 2, 3],
            admitted: &[0b1111],
            ..SlicePool::default()
        };
        let mut rng = Sfc32::new(1);
        for hold in [false, true] {
            let mut strategy = built(&pool, 4);
            let mut counts = [0; 4];
            for _ in 0..400 {
                let slot = strategy.pick(&pool, None, &mut rng).unwrap();
                counts[slot] += 1;
                strategy.begin(slot);
                if !hold {
                    strategy.finish(slot);
                }
            }
            assert_eq!(counts, [100; 4]);
        }
        let mut first = [0; 4];
        for seed in 0..400 {
            first[built(&pool, 4).pick(&pool, None, &mut Sfc32::new(seed)).unwrap()] += 1;
        }
        assert!(first.iter().all(|&count| count > 60), "{first:?}");
    }

    #[test]
    fn counts_follow_an_endpoint_that_moves() {
        let pool = SlicePool {
            candidates: &[0, 1, 2],
            admitted: &[0b111],
            ..SlicePool::default()
        };
        let mut strategy = built(&pool, 3);
        (0..5).for_each(|_| strategy.begin(2));
        strategy.begin(0);
        strategy.moved(2, 0);
        assert_eq!([0, 1, 2].map(|slot| strategy.in_flight(slot)), [5, 0, 0]);
        check(&strategy, &pool);
    }

    #[test]
    fn slots_beyond_the_memory_are_scanned_for() {
        let pool = SlicePool {
            candidates: &[0, 1, 9],
            admitted: &[!0],
            own_in_flight: &[4, 3, 9],
            ..SlicePool::default()
        };
        let mut strategy = built(&pool, 2);
        assert_eq!(strategy.pick(&pool, None, &mut Sfc32::new(1)), Some(9));
        strategy.begin(9);
        assert_eq!((strategy.in_flight(9), strategy.in_flight(70_000)), (0, 0));
        assert_eq!(
            LoadBuckets::new([0; 5]).unwrap_err(),
            MemoryTooSmall { needed: 6 }
        );
    }
}
