//! Rendezvous hashing: the candidate that scores best with the key.

use super::affine::{self, Affine, Census, Progress, listed};
use super::halves::{Halves, MemoryTooSmall};
use super::heapsort::{Heapsort, Items};
use super::logarithm::minus_ln;
use super::xxh64::{avalanche, xxh64};
use super::{Pool, Strategy, Tabled};
use crate::rng::Rng;

/// Scores compared at a time.
const BLOCK: usize = 32;
const LANES: usize = 8;

/// Sends equal keys to the same slot: every candidate's score with the key is worked out, and the best one wins.
///
/// Choose it for small and middling fleets, up to some hundred, and for microcontrollers: 16 bytes a candidate,
/// shares that follow the weights exactly, and the least possible disruption: when a candidate leaves or is
/// refused, its keys spread evenly over the others and no other key moves. A pick costs O(candidates), about
/// 0.3 ns each with SSE2 (19 ns for 16, 350 ns for 1024), twice that or more by weight; beyond that, `Maglev`.
///
/// A score is 32 bits of a product of the hashes of name and key. Weights `w` make it `-ln(score) / w`, the lowest
/// wins; in fixed point to 1 part in 10^7, and only for candidates that can still win. A refused home falls to the
/// next best. Candidates of weight 0 get nothing unless all have 0. For more candidates than `slots` there is no
/// table, and picks scan all candidates' names.
///
/// Sources: Thaler and Ravishankar, "A Name-Based Mapping Scheme for Rendezvous", 1996; for weights, Schindelhauer and
/// Schomaker, "Weighted Distributed Hash Tables", SPAA 2005.
///
/// ```
/// use lb_core::pick::{Rendezvous, SlicePool, Strategy, Tabled, key_hash};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     names: &[b"a:80", b"b:80", b"c:80"],
///     ..SlicePool::default()
/// };
/// let mut rendezvous = Rendezvous::new([0_u32; Rendezvous::words(3)], 3).unwrap();
/// while !rendezvous.update(&pool, 100) {}
/// let home = rendezvous.pick(&pool, Some(key_hash(b"user-17")), &mut Sfc32::new(1));
/// let mut best = [0; 2];
/// assert_eq!(rendezvous.top(&pool, key_hash(b"user-17"), &mut best), 2);
/// assert_eq!(home, Some(usize::from(best[0])));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Rendezvous<S> {
    halves: Halves<S>,
    slots: usize,
    table: Option<Made>,
    made_of: Option<u32>,
    build: Option<Build>,
}

#[derive(Clone, Copy, Debug)]
struct Made {
    len: usize,
    total: (u32, bool),
    equal: bool,
}

#[derive(Clone, Copy, Debug)]
struct Build {
    version: u32,
    census: Census,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Census,
    Hash(usize),
    Sort(Heapsort),
    /// Making seeds distinct, from this candidate on.
    Part(usize),
}

/// A table: a seed for each candidate; its slot, with its weight in the upper half. Heaviest first, then by seed.
#[derive(Clone, Copy)]
struct Table<'a> {
    seeds: &'a [u32],
    list: &'a [u32],
    equal: bool,
}

/// What a key multiplies seeds with.
#[derive(Clone, Copy)]
struct Key {
    mask: u32,
    factor: u32,
}

/// How well a candidate does; less is better: `cost / weight`.
#[derive(Clone, Copy)]
struct Rank {
    cost: u64,
    weight: u64,
}

impl Rank {
    const WORST: Self = Self { cost: 1, weight: 0 };

    const fn beats(self, other: Self) -> bool {
        self.cost.wrapping_mul(other.weight) < other.cost.wrapping_mul(self.weight)
    }
}

impl Key {
    const fn new(key: u64) -> Self {
        let mixed = avalanche(key);
        Self {
            mask: mixed as u32,
            factor: (mixed >> 32) as u32 | 1,
        }
    }

    /// Both halves of one 64-bit product, which SSE2 has: 3 times the speed of a finalizer of 32-bit
    /// multiplications, which it has not, and as even by chi-square. Signed, for SSE2 compares no others.
    #[inline]
    const fn score(self, seed: u32) -> i32 {
        let product = ((seed ^ self.mask) as u64).wrapping_mul(self.factor as u64);
        ((product >> 32) as u32 ^ product as u32).cast_signed()
    }
}

impl Rendezvous<()> {
    /// Words of memory for at most `slots` candidates.
    #[must_use]
    pub const fn words(slots: usize) -> usize {
        slots.saturating_mul(4)
    }
}

impl<S: AsRef<[u32]>> Rendezvous<S> {
    /// For at most `slots` candidates; [`Rendezvous::words`] tells how much memory.
    ///
    /// # Errors
    ///
    /// [`MemoryTooSmall`].
    pub fn new(memory: S, slots: usize) -> Result<Self, MemoryTooSmall> {
        Ok(Self {
            halves: Halves::new(memory, slots.saturating_mul(2), 0)?,
            slots,
            table: None,
            made_of: None,
            build: None,
        })
    }

    /// Writes the slots of the best admitted candidates for a key, the best first; how many. None without a table.
    /// O(candidates + k² log(candidates)) for `k` of them.
    pub fn top<P: Pool + ?Sized>(&self, pool: &P, key: u64, best: &mut [u16]) -> usize {
        let Some(table) = self.table() else { return 0 };
        let key = Key::new(key);
        let mut found = 0_usize;
        for at in 0..table.list.len() {
            let rank = table.rank(at, key);
            let worse = |other: &u16| rank.beats(table.rank(usize::from(*other), key));
            let full = found == best.len();
            if (full && !best.last().is_some_and(worse)) || !pool.admits(table.slot(at)) {
                continue;
            }
            let kept = best.get(..found).unwrap_or_default();
            let place = kept.iter().position(worse).unwrap_or(found);
            if !full {
                found = found.saturating_add(1);
            }
            affine::push_in(best.get_mut(place..found).unwrap_or_default(), at as u16);
        }
        for entry in best.iter_mut().take(found) {
            *entry = table.slot(usize::from(*entry)) as u16;
        }
        found
    }

    #[inline]
    fn table(&self) -> Option<Table<'_>> {
        let made = self.table?;
        let (seeds, list) = self.halves.used().split_at_checked(self.slots)?;
        Some(Table {
            seeds: seeds.get(..made.len)?,
            list: list.get(..made.len)?,
            equal: made.equal,
        })
    }
}

impl<S> Rendezvous<S> {
    /// The same table in another kind of memory, which `change` must copy or share.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Rendezvous<T> {
        Rendezvous {
            halves: self.halves.map(change),
            slots: self.slots,
            table: self.table,
            made_of: self.made_of,
            build: self.build,
        }
    }
}

impl Table<'_> {
    #[inline]
    fn slot(&self, at: usize) -> usize {
        self.list
            .get(at)
            .map_or(usize::MAX, |&entry| usize::from(listed(entry).0))
    }

    fn weight(&self, at: usize) -> u64 {
        self.list.get(at).map_or(0, |&entry| u64::from(listed(entry).1))
    }

    fn rank(&self, at: usize, key: Key) -> Rank {
        let score = key.score(self.seeds.get(at).copied().unwrap_or(0));
        if self.equal {
            return Rank {
                cost: u64::from(unsigned(score)),
                weight: 1,
            };
        }
        Rank {
            cost: minus_ln(unsigned(score)),
            weight: self.weight(at),
        }
    }

    /// The winner among equal weights.
    #[inline]
    fn lowest(&self, key: Key) -> usize {
        let (blocks, rest) = self.seeds.as_chunks::<BLOCK>();
        let (mut best, mut first) = (i32::MAX, 0_usize);
        for (block, seeds) in blocks.iter().enumerate() {
            let lowest = lowest_of(seeds, key);
            if lowest < best {
                best = lowest;
                first = block.wrapping_mul(BLOCK);
            }
        }
        let start = self.seeds.len().wrapping_sub(rest.len());
        let mut at = None;
        for (index, &seed) in (start..).zip(rest) {
            let score = key.score(seed);
            if score < best {
                best = score;
                at = Some(index);
            }
        }
        at.unwrap_or_else(|| {
            let block = self.seeds.get(first..).unwrap_or_default();
            let within = block.iter().take(BLOCK).position(|&seed| key.score(seed) == best);
            first.wrapping_add(within.unwrap_or(0))
        })
    }

    /// The winner among weights. `-ln(1 - x) >= x`: a block is passed over when even its lowest score could not
    /// win with its highest weight, the first one's.
    fn lightest(&self, key: Key) -> usize {
        let (mut best, mut winner) = (Rank::WORST, 0);
        for (block, seeds) in self.seeds.chunks(BLOCK).enumerate() {
            let start = block.wrapping_mul(BLOCK);
            let lowest = match seeds.first_chunk::<BLOCK>() {
                Some(seeds) => lowest_of(seeds, key),
                None => i32::MIN,
            };
            let could = |score: i32, at: usize| {
                Rank {
                    cost: minus_ln_at_least(unsigned(score)),
                    weight: self.weight(at),
                }
                .beats(best)
            };
            if !could(lowest, start) {
                continue;
            }
            for (at, &seed) in (start..).zip(seeds) {
                let weight = self.weight(at);
                let score = unsigned(key.score(seed));
                let bound = Rank {
                    cost: minus_ln_at_least(score),
                    weight,
                };
                if bound.beats(best) {
                    let rank = Rank {
                        cost: minus_ln(score),
                        weight,
                    };
                    if rank.beats(best) {
                        best = rank;
                        winner = at;
                    }
                }
            }
        }
        winner
    }
}

/// The lowest score of a block, in lanes so that it becomes SIMD.
#[inline]
fn lowest_of(seeds: &[u32; BLOCK], key: Key) -> i32 {
    let mut lanes = [i32::MAX; LANES];
    for row in seeds.as_chunks::<LANES>().0 {
        for (lane, &seed) in lanes.iter_mut().zip(row) {
            *lane = (*lane).min(key.score(seed));
        }
    }
    lanes.into_iter().fold(i32::MAX, i32::min)
}

/// Scores in the order of their signs, from 0.
const fn unsigned(score: i32) -> u32 {
    score.cast_unsigned() ^ (1 << 31)
}

/// A lower bound of [`minus_ln`].
const fn minus_ln_at_least(score: u32) -> u64 {
    (score as u64) << 8
}

impl<S: AsRef<[u32]>> Strategy for Rendezvous<S> {
    #[inline]
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        affine::pick(self, pool, key, rng)
    }
}

impl<S: AsRef<[u32]>> Affine for Rendezvous<S> {
    #[inline]
    fn home<P: Pool + ?Sized>(&self, _: &P, key: u64) -> Option<usize> {
        let table = self.table()?;
        let key = Key::new(key);
        let at = if table.equal {
            table.lowest(key)
        } else {
            table.lightest(key)
        };
        Some(table.slot(at))
    }

    /// All candidates are asked for, so this always finds the next best.
    fn walk<P: Pool + ?Sized>(
        &self,
        _: &P,
        key: u64,
        mut accepts: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let table = self.table()?;
        let key = Key::new(key);
        let (mut best, mut winner) = (Rank::WORST, None);
        for at in 0..table.list.len() {
            let rank = table.rank(at, key);
            if rank.beats(best) {
                let slot = table.slot(at);
                if accepts(slot) {
                    best = rank;
                    winner = Some(slot);
                }
            }
        }
        winner
    }

    fn total_weight(&self) -> Option<(u32, bool)> {
        self.table.map(|table| table.total)
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for Rendezvous<S> {
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let version = pool.version();
        if self.made_of == Some(version) {
            return true;
        }
        let (table, _) = self.halves.spare();
        let (seeds, list) = table.split_at_mut_checked(self.slots).unwrap_or_default();
        let build = match &mut self.build {
            Some(build) if build.version == version => build,
            other => other.insert(Build {
                version,
                census: Census::new(),
                stage: Stage::Census,
            }),
        };
        for _ in 0..budget {
            let len = build.census.len;
            match &mut build.stage {
                Stage::Census => {
                    if build.census.step(pool, list, false) == Progress::Done {
                        build.stage = Stage::Hash(0);
                        if !build.census.complete {
                            self.table = None;
                            self.made_of = Some(version);
                            self.build = None;
                            return true;
                        }
                    }
                }
                Stage::Hash(at) => match seeds.get_mut(*at).zip(list.get(*at)) {
                    Some((seed, &entry)) if *at < len => {
                        let name = pool.name(usize::from(listed(entry).0));
                        *seed = (xxh64(name.as_ref(), 0) >> 32) as u32;
                        *at = at.saturating_add(1);
                    }
                    _ => build.stage = Stage::Sort(Heapsort::new(len)),
                },
                Stage::Sort(sort) => {
                    let mut items = BySeed { pool, seeds, list };
                    if sort.step(&mut items, len) {
                        build.stage = Stage::Part(1);
                    }
                }
                Stage::Part(at) => {
                    if *at >= len {
                        self.table = (len > 0).then_some(Made {
                            len,
                            total: (build.census.total, build.census.even),
                            equal: build.census.least == build.census.most,
                        });
                        self.made_of = Some(version);
                        self.build = None;
                        self.halves.flip();
                        return true;
                    }
                    part(seeds, list, *at);
                    *at = at.saturating_add(1);
                }
            }
        }
        false
    }
}

/// Two seeds of 32 bits may be equal, and then one of them would always win: the next one is taken instead.
fn part(seeds: &mut [u32], list: &[u32], at: usize) {
    let before = at.saturating_sub(1);
    let weight = |at: usize| list.get(at).map(|&entry| listed(entry).1);
    let former = seeds.get(before).copied();
    if let (Some(seed), Some(former)) = (seeds.get_mut(at), former)
        && weight(before) == weight(at)
    {
        *seed = (*seed).max(former.saturating_add(1));
    }
}

struct BySeed<'a, P: ?Sized> {
    pool: &'a P,
    seeds: &'a mut [u32],
    list: &'a mut [u32],
}

impl<P: Pool + ?Sized> Items for BySeed<'_, P> {
    fn less(&self, left: usize, right: usize) -> bool {
        let key = |at: usize| {
            let (slot, weight) = listed(self.list.get(at).copied().unwrap_or(0));
            (
                u16::MAX.wrapping_sub(weight),
                self.seeds.get(at).copied().unwrap_or(0),
                slot,
            )
        };
        let ((weight, seed, slot), (other_weight, other_seed, other)) = (key(left), key(right));
        if (weight, seed) != (other_weight, other_seed) {
            return (weight, seed) < (other_weight, other_seed);
        }
        let (name, other_name) = (
            self.pool.name(usize::from(slot)),
            self.pool.name(usize::from(other)),
        );
        (name.as_ref(), slot) < (other_name.as_ref(), other)
    }

    fn swap(&mut self, left: usize, right: usize) {
        affine::swap(self.seeds, left, right);
        affine::swap(self.list, left, right);
    }
}

#[cfg(test)]
mod tests {
    use super::super::affine::tests::names;
    use super::super::{SlicePool, key_hash};
    use super::*;
    use crate::rng::Sfc32;
    use std::vec::Vec;

    fn shares(weights: &[u16], keys: u32) -> Vec<u32> {
        let names = names(weights.len());
        let names: Vec<&[u8]> = names.iter().map(std::string::String::as_bytes).collect();
        let candidates: Vec<u16> = (0..weights.len() as u16).collect();
        let pool = SlicePool {
            candidates: &candidates,
            admitted: &[u32::MAX; 40],
            names: &names,
            weights,
            ..SlicePool::default()
        };
        let memory = std::vec![0; Rendezvous::words(weights.len())];
        let mut rendezvous = Rendezvous::new(memory, weights.len()).unwrap();
        while !rendezvous.update(&pool, 10) {}
        let mut counts = std::vec![0; weights.len()];
        let mut best = [0; 1];
        for key in 0..keys {
            let key = key_hash(&key.to_le_bytes());
            let slot = rendezvous.pick(&pool, Some(key), &mut Sfc32::new(1)).unwrap();
            counts[slot] += 1;
            if key.is_multiple_of(64) {
                let table = rendezvous.table().unwrap();
                let scanned = rendezvous.walk(&pool, key, |_| true);
                assert_eq!(
                    scanned,
                    Some(slot),
                    "the scan of {} skips nothing",
                    table.list.len()
                );
                assert_eq!(rendezvous.top(&pool, key, &mut best), 1);
                assert_eq!(usize::from(best[0]), slot);
            }
        }
        counts
    }

    /// Chi-square per degree of freedom.
    fn unevenness(counts: &[u32], weights: &[u16]) -> f64 {
        let total: f64 = counts.iter().map(|&count| f64::from(count)).sum();
        let weight: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let sum: f64 = counts
            .iter()
            .zip(weights)
            .map(|(&count, &weight_of)| {
                let expected = total * f64::from(weight_of) / weight;
                (f64::from(count) - expected).powi(2) / expected
            })
            .sum();
        sum / (counts.len() - 1) as f64
    }

    #[test]
    fn shares_are_the_weights() {
        let cases: [(&[u16], u32, f64); 7] = [
            (&[1; 2], 200_000, 8.0),
            (&[7; 3], 100_000, 5.0),
            (&[1; 16], 200_000, 2.2),
            (&[1; 100], 200_000, 1.5),
            (&[1, 2, 3], 200_000, 5.0),
            (&[65_535, 655, 6_553, 20_000], 200_000, 4.0),
            (
                &[
                    5, 1, 5, 2, 5, 3, 5, 4, 5, 5, 5, 6, 5, 7, 5, 8, 1, 1, 1, 1, 9, 9, 9, 9, 2, 2, 2, 2, 3, 3,
                    3, 3, 10, 12, 14,
                ],
                200_000,
                1.8,
            ),
        ];
        for (weights, keys, limit) in cases {
            let counts = shares(weights, keys);
            let unevenness = unevenness(&counts, weights);
            assert!(unevenness < limit, "{unevenness} {counts:?}");
        }
        let extreme = shares(&[1, 65_535], 200_000);
        assert!((0..12).contains(&extreme[0]), "{extreme:?}");
    }

    #[test]
    fn equal_seeds_share() {
        let mut seeds = [5, 5, 5, 6, 9];
        let list = [1 << 16; 5];
        (1..5).for_each(|at| part(&mut seeds, &list, at));
        assert_eq!(seeds, [5, 6, 7, 8, 9]);
    }

    #[test]
    fn top_is_the_order_in_which_homes_are_refused() {
        let names = names(20);
        let names: Vec<&[u8]> = names.iter().map(std::string::String::as_bytes).collect();
        let candidates: Vec<u16> = (0..20).collect();
        for weights in [[1_u16; 20], core::array::from_fn(|i| i as u16 + 1)] {
            let mut admitted = [(1 << 20) - 1_u32];
            let mut pool = SlicePool {
                candidates: &candidates,
                names: &names,
                weights: &weights,
                ..SlicePool::default()
            };
            let mut rendezvous = Rendezvous::new([0; Rendezvous::words(20)], 20).unwrap();
            while !rendezvous.update(&pool, 3) {}
            let mut top = [0; 30];
            let all = admitted;
            pool.admitted = &all;
            assert_eq!(rendezvous.top(&pool, 77, &mut top), 20);
            assert_eq!(rendezvous.top(&pool, 77, &mut []), 0);
            let mut five = [0; 5];
            assert_eq!(rendezvous.top(&pool, 77, &mut five), 5);
            assert_eq!(five, top[..5]);
            for slot in top[..20].iter().map(|&slot| usize::from(slot)) {
                let now = admitted;
                let pool = SlicePool {
                    admitted: &now,
                    ..pool
                };
                assert_eq!(rendezvous.pick(&pool, Some(77), &mut Sfc32::new(1)), Some(slot));
                admitted[0] &= !(1 << slot);
            }
        }
    }
}
