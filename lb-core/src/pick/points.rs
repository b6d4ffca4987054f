//! A ring of points as an ordered open-addressing table: a point is as near behind the place that its hash points
//! to as order allows, so looking up is reading on from there, with no search and no index.
//!
//! Hashes are even, so at two thirds full a place is reached within a few entries. Points are put in one by one in
//! any order and always come to lie alike (Amble and Knuth, "Ordered hash tables", 1974): no sorting, and building
//! can stop after any point.

use core::cmp::Ordering;

use super::halves::{half_word, set_half_word};

/// At the end there must be room for points that are pushed back: this many entries, or a tenth.
const SLACK: usize = 64;

/// Points that are best put in at a time.
pub(super) const BATCH: usize = 16;

/// Entries that are looked at together.
const NEAR: usize = 8;

/// Entries that a walk looks at.
const WALK: usize = 256;

/// Words for a table of so many points.
pub(super) const fn words(points: usize) -> usize {
    let entries = points.saturating_add(points / 2).saturating_add(1);
    let tenth = (entries / 8).saturating_add(2);
    let entries = entries.saturating_add(if tenth < SLACK { tenth } else { SLACK });
    entries.saturating_add(entries.div_ceil(2))
}

/// The table in some words of memory: a hash of 32 bits for each entry, 0 when it is empty, then the slots.
#[derive(Clone, Copy)]
pub(super) struct Points<'a> {
    hashes: &'a [u32],
    slots: &'a [u32],
    spread: u32,
}

/// The same, to be written.
pub(super) struct PointsMut<'a> {
    hashes: &'a mut [u32],
    slots: &'a mut [u32],
    spread: u32,
}

/// A hash as it is kept: 0 means empty.
pub(super) const fn kept(hash: u32) -> u32 {
    if hash == 0 { 1 } else { hash }
}

/// Entries, and those that hashes are spread over, in so many words.
const fn layout(words: usize) -> (usize, u32) {
    let entries = (words / 3).saturating_mul(2);
    let tenth = entries / 10;
    let slack = if tenth < SLACK { tenth } else { SLACK };
    (entries, entries.saturating_sub(slack) as u32)
}

/// The most points that so many words should hold.
pub(super) const fn most(words: usize) -> u32 {
    let (_, spread) = layout(words);
    spread.saturating_sub(spread / 4)
}

/// Where the place of a hash begins; monotone in the hash.
#[inline]
fn place(hash: u32, spread: u32) -> usize {
    (u64::from(hash).wrapping_mul(u64::from(spread)) >> 32) as usize
}

impl<'a> Points<'a> {
    #[inline]
    pub(super) fn new(words: &'a [u32]) -> Self {
        let (entries, spread) = layout(words.len());
        let (hashes, slots) = words.split_at_checked(entries).unwrap_or_default();
        Self {
            hashes,
            slots,
            spread,
        }
    }

    /// The first point at or after a kept hash, around the ring.
    #[inline]
    pub(super) fn find(&self, hash: u32) -> Option<usize> {
        let start = place(hash, self.spread);
        let later = self.hashes.get(start..).unwrap_or_default();
        // Eight at once, without a branch that is hard to foretell; nearly always that is enough.
        if let Some(points) = later.first_chunk::<NEAR>() {
            let before = points.iter().rev();
            let before = before
                .fold(0_u32, |bits, &point| bits << 1 | u32::from(point < hash))
                .trailing_ones() as usize;
            if before < NEAR {
                return Some(start.wrapping_add(before));
            }
        }
        self.search(start, hash)
    }

    /// The same, one by one. Apart, for a loop within would cost every pick a branch that is hard to foretell.
    #[cold]
    fn search(&self, start: usize, hash: u32) -> Option<usize> {
        let later = self.hashes.get(start..).unwrap_or_default();
        let found = later.iter().position(|&point| point >= hash);
        found.map_or_else(|| self.first(), |at| Some(start.wrapping_add(at)))
    }

    /// The same among points of that very hash and after them, from one that was found on. `passes` says whether a
    /// slot's point lies before what is looked for.
    #[cold]
    pub(super) fn settle(
        &self,
        from: usize,
        hash: u32,
        mut passes: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let later = self.hashes.get(from..).unwrap_or_default();
        for (at, &point) in (from..).zip(later) {
            if point > hash || (point == hash && !passes(self.slot(at))) {
                return Some(at);
            }
        }
        self.first()
    }

    fn first(&self) -> Option<usize> {
        self.hashes.iter().position(|&point| point != 0)
    }

    /// Whether the point there has this hash.
    #[inline]
    pub(super) fn has(&self, at: usize, hash: u32) -> bool {
        self.hashes.get(at) == Some(&hash)
    }

    #[inline]
    pub(super) fn slot(&self, at: usize) -> usize {
        half_word(self.slots, at).map_or(usize::MAX, usize::from)
    }

    /// The slots of the points from here on, around the ring, as far as a walk goes.
    pub(super) fn walk(self, from: usize) -> impl Iterator<Item = usize> + use<'a> {
        let later = self.hashes.get(from..).unwrap_or_default();
        let earlier = self.hashes.get(..from).unwrap_or_default();
        (from..)
            .zip(later)
            .chain((0..).zip(earlier))
            .filter(|(_, point)| **point != 0)
            .take(WALK)
            .map(move |(at, _)| self.slot(at))
    }
}

/// What becomes of a point whose hash is already there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tie {
    Before,
    After,
    /// Only one may stay: the one that is there.
    Dropped,
    /// Only one may stay: the new one.
    Replaces,
}

impl From<Ordering> for Tie {
    fn from(order: Ordering) -> Self {
        match order {
            Ordering::Less => Self::Before,
            _ => Self::After,
        }
    }
}

impl<'a> PointsMut<'a> {
    pub(super) fn new(words: &'a mut [u32]) -> Self {
        let (entries, spread) = layout(words.len());
        let (hashes, slots) = words.split_at_mut_checked(entries).unwrap_or_default();
        Self {
            hashes,
            slots,
            spread,
        }
    }

    pub(super) fn entries(&self) -> usize {
        self.hashes.len()
    }

    /// Empties entries from here on, so many at most; where the next are.
    pub(super) fn clear(&mut self, from: usize, entries: usize) -> usize {
        let rest = self.hashes.get_mut(from..).unwrap_or_default();
        rest.iter_mut().take(entries).for_each(|hash| *hash = 0);
        from.saturating_add(entries)
    }

    /// Puts points of a slot in; how much work it was. `tie` tells what becomes of a point, when one of that slot has
    /// its hash.
    pub(super) fn insert_all<T: Copy>(
        &mut self,
        points: &[T],
        hash: impl Fn(T) -> u32,
        slot: u16,
        mut tie: impl FnMut(T, usize) -> Tie,
    ) -> u32 {
        // All places are read before the first is written, so that a big table's cache misses overlap.
        let read =
            |at| self.hashes.get(at).copied().unwrap_or(0) ^ self.slots.get(at / 2).copied().unwrap_or(0);
        let warm = points
            .iter()
            .fold(0, |warm, &point| warm ^ read(place(hash(point), self.spread)));
        core::hint::black_box(warm);
        points.iter().fold(0, |work, &point| {
            let looks = self.insert(hash(point), slot, |other| tie(point, other));
            work.saturating_add(looks / 16).saturating_add(1)
        })
    }

    /// Puts a point in; how many entries were looked at. A point that is pushed past the end is lost.
    fn insert(&mut self, hash: u32, slot: u16, mut tie: impl FnMut(usize) -> Tie) -> u32 {
        let start = place(hash, self.spread);
        let mut at = start;
        while let Some(&point) = self.hashes.get(at) {
            if point == 0 || point > hash {
                break;
            }
            if point == hash {
                match tie(usize::from(half_word(self.slots, at).unwrap_or(0))) {
                    Tie::Before => break,
                    Tie::After => {}
                    Tie::Dropped => return 1,
                    Tie::Replaces => {
                        set_half_word(self.slots, at, slot);
                        return 1;
                    }
                }
            }
            at = at.saturating_add(1);
        }
        let mut carried = (hash, slot);
        while let Some(point) = self.hashes.get_mut(at) {
            let pushed = (*point, half_word(self.slots, at).unwrap_or(0));
            *point = carried.0;
            set_half_word(self.slots, at, carried.1);
            if pushed.0 == 0 {
                break;
            }
            carried = pushed;
            at = at.saturating_add(1);
        }
        u32::try_from(at.saturating_sub(start)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Sfc32};
    use std::vec::Vec;

    fn filled(points: &[(u32, u16)], memory: &mut [u32]) {
        let mut table = PointsMut::new(memory);
        table.clear(0, usize::MAX);
        for &(hash, slot) in points {
            table.insert(kept(hash), slot, |other| usize::from(slot).cmp(&other).into());
        }
    }

    #[test]
    fn finds_as_a_sorted_list_does() {
        let mut rng = Sfc32::new(2);
        for count in [1_usize, 2, 3, 10, 160, 1_000, 20_000] {
            for range in [u32::MAX, 1 << 16] {
                let mut points: Vec<(u32, u16)> = (0..count)
                    .map(|slot| {
                        (
                            rng.below(range)
                                .wrapping_mul(if range < 1 << 20 { 1 << 16 } else { 1 }),
                            slot as u16,
                        )
                    })
                    .collect();
                let mut memory = std::vec![9; words(count)];
                assert!(most(memory.len()) as usize >= count, "{count}");
                filled(&points, &mut memory);
                let mut again = std::vec![5; words(count)];
                points.reverse();
                filled(&points, &mut again);
                let ends = layout(memory.len()).0;
                assert_eq!(
                    memory[..ends],
                    again[..ends],
                    "the order of insertion is not to be seen"
                );
                points.sort_unstable();
                let table = Points::new(&memory);
                for _ in 0..2_000 {
                    let key = rng.next_u32();
                    let at = points.partition_point(|&(hash, _)| hash < key) % count;
                    let found = table.find(kept(key)).unwrap();
                    let order: Vec<usize> = table.walk(found).collect();
                    let expected: Vec<usize> = (0..count.min(WALK))
                        .map(|i| usize::from(points[(at + i) % count].1))
                        .collect();
                    assert_eq!(order, expected);
                }
            }
        }
    }

    #[test]
    fn overfilling_loses_points_and_nothing_else() {
        let mut memory = [0; 30];
        filled(&[(u32::MAX, 1); 50], &mut memory);
        let table = Points::new(&memory);
        assert_eq!(table.find(5).map(|at| table.slot(at)), Some(1));
        assert_eq!(Points::new(&[]).find(5), None);
        PointsMut::new(&mut []).insert(5, 5, |_| Tie::After);
    }
}
