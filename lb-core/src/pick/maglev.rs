//! Maglev hashing, with Envoy's tables.

use super::affine::{self, Affine, Census, Progress, listed};
use super::double::Double;
use super::halves::{Halves, set_half_word};
use super::xxh64::xxh64;
use super::{Pool, Strategy, Tabled};
use crate::rng::Rng;

/// Words of scratch for each candidate while a table is built.
const SCRATCH: usize = 9;

/// Further tries after the home, as Envoy retries.
const TRIES: u64 = 16;

/// Looks at so many taken entries are a unit of work.
const LOOKS: u32 = 8;

/// Sends equal keys to the same slot by one look into a table that gives every candidate its exact share.
///
/// Candidates take turns in the order of their names; each takes the next free entry of a permutation of its own.
/// With as many entries as [`Maglev::ENVOY`], the table and the choice for a key are identical to Envoy's for the
/// same names, weights and key hash, roundings of its doubles included. A refused home is retried as Envoy does,
/// with the key's hash changed, then the candidates' [order by rendezvous](super::Rendezvous) decides.
///
/// Choose it for many endpoints and exact shares: shares differ by one entry, a pick costs 2.5 ns however
/// many there are. When endpoints leave, up to about 2 % of the other keys move as well (65 537 entries, 1000
/// endpoints, 6 failures); the bigger the table, the fewer. `Rendezvous` and `Ring` move none.
///
/// Weights are followed to one part in entries. Building takes about `6 * entries` looks in the worst case: 1.2 ms
/// for 65 537, twice that by weight. Candidates of weight 0 get nothing unless all have 0. For more candidates than `slots` no table is made:
/// picks then scan all candidates' names, O(candidates).
///
/// Sources: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4;
/// Envoy, `maglev_lb.cc`.
///
/// ```
/// use lb_core::pick::{Maglev, SlicePool, Strategy, Tabled, key_hash};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     names: &[b"a:80", b"b:80", b"c:80"],
///     ..SlicePool::default()
/// };
/// let mut maglev = Maglev::new([0_u32; Maglev::words(3, 251)], 3, 251).unwrap();
/// while !maglev.update(&pool, 100) {}
/// let mut rng = Sfc32::new(1);
/// let key = Some(key_hash(b"user-17"));
/// assert_eq!(maglev.pick(&pool, key, &mut rng), maglev.pick(&pool, key, &mut rng));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Maglev<S> {
    halves: Halves<S>,
    entries: Modulus,
    /// One less than entries: what skips are drawn from.
    skips: Modulus,
    slots: usize,
    /// The weights of the table in use, see [`Affine::total_weight`]; `None`: there is no table.
    total: Option<(u32, bool)>,
    made_of: Option<u32>,
    build: Option<Build>,
}

/// Why a [`Maglev`] cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MaglevError {
    /// The number of entries is not a prime, or not one of 3..=16 777 213.
    NotPrime,
    /// The memory is too small.
    Memory(super::MemoryTooSmall),
}

impl core::fmt::Display for MaglevError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotPrime => f.write_str("the number of entries must be a prime of 3..=16777213"),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MaglevError {}

#[derive(Clone, Copy, Debug)]
struct Build {
    version: u32,
    census: Census,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Listing and sorting the candidates.
    Census,
    /// Working out the permutations, of this candidate next.
    Permute(usize),
    Fill(Fill),
    /// Listing what is free, from this word on.
    List(Fill, usize, Free),
}

#[derive(Clone, Copy, Debug)]
struct Fill {
    turn: usize,
    iteration: u32,
    filled: u32,
    /// The last free entries, once they are listed.
    free: Option<Free>,
}

impl Maglev<()> {
    /// Entries of Envoy's default table.
    pub const ENVOY: u32 = 65_537;

    /// Words of memory for tables of `entries` over at most `slots` candidates.
    #[must_use]
    pub const fn words(slots: usize, entries: u32) -> usize {
        let table = (entries as usize).div_ceil(2);
        let taken = (entries as usize).div_ceil(32);
        table
            .saturating_mul(2)
            .saturating_add(taken)
            .saturating_add(last(entries))
            .saturating_add(slots.saturating_mul(SCRATCH))
    }
}

impl<S: AsRef<[u32]>> Maglev<S> {
    /// A table of `entries`, a prime, for at most `slots` candidates; more entries than a hundred times as many
    /// give even shares. [`Maglev::words`] tells how much memory.
    ///
    /// # Errors
    ///
    /// [`MaglevError`]: not a prime, or too little memory.
    pub fn new(memory: S, slots: usize, entries: u32) -> Result<Self, MaglevError> {
        if !is_prime(entries) {
            return Err(MaglevError::NotPrime);
        }
        let table = (entries as usize).div_ceil(2);
        let scratch = Maglev::words(slots, entries).saturating_sub(table.saturating_mul(2));
        Ok(Self {
            halves: Halves::new(memory, table, scratch).map_err(MaglevError::Memory)?,
            entries: Modulus::new(entries),
            skips: Modulus::new(entries.saturating_sub(1)),
            slots,
            total: None,
            made_of: None,
            build: None,
        })
    }
}

impl<S> Maglev<S> {
    /// The same table in another kind of memory, which `change` must copy or share.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Maglev<T> {
        Maglev {
            halves: self.halves.map(change),
            entries: self.entries,
            skips: self.skips,
            slots: self.slots,
            total: self.total,
            made_of: self.made_of,
            build: self.build,
        }
    }
}

impl<S: AsRef<[u32]>> Strategy for Maglev<S> {
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

impl<S: AsRef<[u32]>> Affine for Maglev<S> {
    #[inline]
    fn home<P: Pool + ?Sized>(&self, _: &P, key: u64) -> Option<usize> {
        self.total?;
        let at = self.entries.rest_of(key) as usize;
        self.halves.half_word(at).map(usize::from)
    }

    fn walk<P: Pool + ?Sized>(
        &self,
        pool: &P,
        key: u64,
        mut accepts: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        (0..=TRIES)
            .filter_map(|attempt| self.home(pool, key ^ attempt.wrapping_neg()))
            .find(|&slot| accepts(slot))
    }

    fn total_weight(&self) -> Option<(u32, bool)> {
        self.total
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for Maglev<S> {
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let version = pool.version();
        if self.made_of == Some(version) {
            return true;
        }
        let (table, scratch) = self.halves.spare();
        let taken = (self.entries.divisor as usize).div_ceil(32);
        let (taken, scratch) = scratch.split_at_mut_checked(taken).unwrap_or_default();
        let mut work = Work {
            table,
            taken,
            plans: Plans::new(scratch, self.slots, last(self.entries.divisor)),
            entries: &self.entries,
            skips: &self.skips,
        };
        let build = match &mut self.build {
            Some(build) if build.version == version => build,
            other => other.insert(Build {
                version,
                census: Census::new(),
                stage: Stage::Census,
            }),
        };
        let mut budget = budget;
        'work: while budget > 0 {
            match build.stage {
                Stage::Census => {
                    budget = budget.saturating_sub(build.census.work());
                    if build.census.step(pool, work.plans.list, true) == Progress::Done {
                        build.stage = Stage::Permute(0);
                    }
                }
                Stage::Permute(at) => {
                    budget = budget.saturating_sub(affine::HASHING);
                    if build.census.complete && at < build.census.len {
                        work.permute(pool, at, &build.census);
                        build.stage = Stage::Permute(at.saturating_add(1));
                    } else if build.census.complete && build.census.len > 0 {
                        work.taken.fill(0);
                        build.stage = Stage::Fill(Fill {
                            turn: 0,
                            iteration: 1,
                            filled: 0,
                            free: None,
                        });
                    } else {
                        self.total = None;
                        self.made_of = Some(version);
                        self.build = None;
                        return true;
                    }
                }
                Stage::Fill(ref mut fill) => {
                    let heaviest = normalized(build.census.most, &build.census);
                    let mut looks = budget.saturating_mul(LOOKS);
                    while !work.fill(fill, &build.census, heaviest, &mut looks) {
                        let empty = self.entries.divisor.saturating_sub(fill.filled);
                        if empty as usize == last(self.entries.divisor) && fill.free.is_none() {
                            build.stage = Stage::List(*fill, 0, Free { len: 0 });
                            budget = looks / LOOKS;
                            continue 'work;
                        }
                        if looks == 0 {
                            return false;
                        }
                    }
                    self.total = Some((build.census.total, build.census.even));
                    self.made_of = Some(version);
                    self.build = None;
                    self.halves.flip();
                    return true;
                }
                Stage::List(ref mut fill, ref mut word, ref mut free) => {
                    budget = budget.saturating_sub(1);
                    *word = work.list_free(*word, free);
                    if *word >= work.taken.len() {
                        fill.free = Some(*free);
                        build.stage = Stage::Fill(*fill);
                    }
                }
            }
        }
        false
    }
}

/// Scratch, by candidate.
struct Plans<'a> {
    /// As [`Census`] makes it.
    list: &'a mut [u32],
    position: &'a mut [u32],
    skip: &'a mut [u32],
    /// The last free entries.
    free: &'a mut [u32],
    due: Due<'a>,
}

/// When a lighter candidate has its next turn: in the first iteration that is at least
/// `turns had * heaviest weight / weight`. Exactly that, but Envoy compares doubles, `iteration * weight` with a
/// sum of heaviest weights, and where both are equal it depends on their roundings; so these are kept too.
struct Due<'a> {
    whole: &'a mut [u32],
    /// What is left over, and in the upper half 1 when rounding delays the turn.
    rest: &'a mut [u32],
    target: &'a mut [[u32; 2]],
    weight: &'a mut [[u32; 2]],
}

impl<'a> Plans<'a> {
    fn new(scratch: &'a mut [u32], slots: usize, last: usize) -> Self {
        let mut rest = scratch;
        let mut part = |words: usize| {
            let (part, after) = core::mem::take(&mut rest)
                .split_at_mut_checked(words)
                .unwrap_or_default();
            rest = after;
            part
        };
        Self {
            list: part(slots),
            position: part(slots),
            skip: part(slots),
            free: part(last),
            due: Due {
                whole: part(slots),
                rest: part(slots),
                target: part(slots.saturating_mul(2)).as_chunks_mut().0,
                weight: part(slots.saturating_mul(2)).as_chunks_mut().0,
            },
        }
    }
}

impl Due<'_> {
    fn start(&mut self, at: usize, weight: Double) {
        set(self.whole, at, 0);
        set(self.rest, at, 0);
        set(self.target, at, Double::ZERO.to_words());
        set(self.weight, at, weight.to_words());
    }

    fn is_due(&self, at: usize, iteration: u32) -> bool {
        let whole = get(self.whole, at);
        iteration >= whole.saturating_add(u32::from(get(self.rest, at) != 0))
    }

    /// A turn was had.
    fn advance(&mut self, at: usize, weight: u16, most: u16, heaviest: Double) {
        let (weight, most) = (u32::from(weight), u32::from(most));
        let turns = most.checked_div(weight).unwrap_or(0);
        let mut whole = get(self.whole, at).saturating_add(turns);
        let mut rest =
            (get(self.rest, at) & 0xFFFF).saturating_add(most.saturating_sub(turns.saturating_mul(weight)));
        if rest >= weight {
            rest = rest.saturating_sub(weight);
            whole = whole.saturating_add(1);
        }
        let words = self.target.get(at).copied().unwrap_or_default();
        let target = Double::from_words(words).add(heaviest);
        if rest == 0 {
            let weight = Double::from_words(self.weight.get(at).copied().unwrap_or_default());
            if Double::from_u32(whole).multiply(weight) < target {
                rest = 1 << 16;
            }
        }
        set(self.whole, at, whole);
        set(self.rest, at, rest);
        set(self.target, at, target.to_words());
    }
}

struct Work<'a> {
    table: &'a mut [u32],
    taken: &'a mut [u32],
    plans: Plans<'a>,
    entries: &'a Modulus,
    skips: &'a Modulus,
}

impl Work<'_> {
    fn permute<P: Pool + ?Sized>(&mut self, pool: &P, at: usize, census: &Census) {
        let (slot, weight) = listed(get(self.plans.list, at));
        let name = pool.name(usize::from(slot));
        set(
            self.plans.position,
            at,
            self.entries.rest_of(xxh64(name.as_ref(), 0)),
        );
        set(
            self.plans.skip,
            at,
            self.skips.rest_of(xxh64(name.as_ref(), 1)).saturating_add(1),
        );
        if census.least < census.most {
            self.plans.due.start(at, normalized(weight, census));
        }
    }

    /// Gives everybody a turn, unless the looks are used up before or it is time to list what is free; whether all
    /// entries are filled.
    fn fill(&mut self, fill: &mut Fill, census: &Census, heaviest: Double, left: &mut u32) -> bool {
        let equal = census.least == census.most;
        let entries = self.entries.divisor;
        let plans = &mut self.plans;
        let turns = plans
            .list
            .iter()
            .zip(plans.position.iter_mut())
            .zip(plans.skip.iter());
        let mut looks = *left;
        *left = 0;
        for (at, ((&entry, position), &skip)) in turns.enumerate().take(census.len).skip(fill.turn) {
            fill.turn = at;
            if looks == 0 {
                return false;
            }
            if !equal && !plans.due.is_due(at, fill.iteration) {
                looks = looks.saturating_sub(1);
                continue;
            }
            let here = match &mut fill.free {
                Some(free) => {
                    looks = looks.saturating_sub(free.len.saturating_mul(2).saturating_add(40));
                    free.take_next(plans.free, *position, skip, self.entries)
                }
                None => match take_next(self.taken, *position, skip, entries, &mut looks) {
                    Ok(here) => here,
                    Err(here) => {
                        *position = here;
                        return false;
                    }
                },
            };
            set_half_word(self.table, here as usize, entry as u16);
            *position = add(here, skip, entries);
            looks = looks.saturating_sub(LOOKS);
            let (_, weight) = listed(entry);
            if !equal && weight < census.most {
                plans.due.advance(at, weight, census.most, heaviest);
            }
            fill.filled = fill.filled.saturating_add(1);
            let empty = entries.saturating_sub(fill.filled);
            if empty == 0 {
                return true;
            }
            if empty as usize == last(entries) {
                fill.turn = at.saturating_add(1);
                *left = looks;
                return false;
            }
        }
        *left = looks;
        fill.turn = 0;
        fill.iteration = fill.iteration.saturating_add(1);
        false
    }

    /// Lists the free entries, from a word of the map of those taken on; the next word, past the end when done.
    fn list_free(&mut self, from: usize, free: &mut Free) -> usize {
        let entries = self.entries.divisor;
        let words = self.taken.iter().enumerate().skip(from).take(WORDS);
        for (index, &word) in words {
            let mut bits = !word;
            while bits != 0 {
                let position = (index as u32)
                    .wrapping_mul(32)
                    .wrapping_add(bits.trailing_zeros());
                bits &= bits.wrapping_sub(1);
                if position < entries {
                    set(self.plans.free, free.len as usize, position);
                    free.len = free.len.saturating_add(1);
                }
            }
        }
        from.saturating_add(WORDS)
    }
}

/// Words of the map that are read for one unit of work.
const WORDS: usize = 16;

/// So many entries are filled last, in another way: finding one of the last few free ones by trying takes half of
/// all tries, while which of them comes first in a permutation can be worked out.
const fn last(entries: u32) -> usize {
    (entries / 256) as usize
}

/// Entries that are still free, in the list of them.
#[derive(Clone, Copy, Debug)]
struct Free {
    len: u32,
}

impl Free {
    /// Takes the first in a permutation, as [`take_next`].
    fn take_next(&mut self, list: &mut [u32], position: u32, skip: u32, entries: &Modulus) -> u32 {
        let inverse = u64::from(entries.inverse(skip));
        let steps = |free: u32| {
            let distance = if free >= position {
                free.wrapping_sub(position)
            } else {
                free.wrapping_add(entries.divisor).wrapping_sub(position)
            };
            entries.rest_of(u64::from(distance).wrapping_mul(inverse))
        };
        let free = list.iter().enumerate().take(self.len as usize);
        let first = free.min_by_key(|&(_, &free)| steps(free));
        let (at, taken) = first.map_or((0, 0), |(at, &free)| (at, free));
        self.len = self.len.saturating_sub(1);
        let moved = get(list, self.len as usize);
        set(list, at, moved);
        taken
    }
}

/// Takes the first free entry of a permutation, by its position and its skip; or where to look next when the looks
/// are used up.
#[inline]
fn take_next(
    taken: &mut [u32],
    mut position: u32,
    skip: u32,
    entries: u32,
    looks: &mut u32,
) -> Result<u32, u32> {
    while *looks > 0 {
        let Some(word) = taken.get_mut(position as usize / 32) else {
            break;
        };
        let bit = 1_u32.wrapping_shl(position);
        if *word & bit == 0 {
            *word |= bit;
            return Ok(position);
        }
        position = add(position, skip, entries);
        *looks = looks.saturating_sub(1);
    }
    Err(position)
}

/// The sum modulo `entries`.
const fn add(position: u32, skip: u32, entries: u32) -> u32 {
    let sum = position.wrapping_add(skip);
    if sum >= entries {
        sum.wrapping_sub(entries)
    } else {
        sum
    }
}

/// A weight as Envoy normalises it.
fn normalized(weight: u16, census: &Census) -> Double {
    Double::from_u32(u32::from(weight)).divide(Double::from_u32(census.total))
}

fn get(words: &[u32], at: usize) -> u32 {
    words.get(at).copied().unwrap_or(0)
}

fn set<T>(words: &mut [T], at: usize, value: T) {
    if let Some(word) = words.get_mut(at) {
        *word = value;
    }
}

fn is_prime(number: u32) -> bool {
    (3..1 << 24).contains(&number)
        && number % 2 == 1
        && (3..4_096_u32)
            .step_by(2)
            .take_while(|&factor| factor.saturating_mul(factor) <= number)
            .all(|factor| number.checked_rem(factor) != Some(0))
}

/// Division of a `u64` with a remainder by a number that is known ahead, without dividing (Barrett).
#[derive(Clone, Copy, Debug)]
struct Modulus {
    divisor: u32,
    /// 2^64 / divisor, rounded down.
    reciprocal: u64,
}

impl Modulus {
    /// For 2 and more.
    fn new(divisor: u32) -> Self {
        let (mut quotient, mut rest) = (0_u64, 1_u64);
        for _ in 0..u64::BITS {
            rest <<= 1;
            quotient <<= 1;
            if rest >= u64::from(divisor) {
                rest = rest.wrapping_sub(u64::from(divisor));
                quotient |= 1;
            }
        }
        Self {
            divisor,
            reciprocal: quotient,
        }
    }

    /// What gives 1 when it is multiplied with this number, modulo the divisor, a prime: a power (Fermat).
    fn inverse(&self, number: u32) -> u32 {
        let (mut power, mut result) = (u64::from(number), 1_u64);
        let mut exponent = self.divisor.saturating_sub(2);
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = u64::from(self.rest_of(result.wrapping_mul(power)));
            }
            power = u64::from(self.rest_of(power.wrapping_mul(power)));
            exponent >>= 1;
        }
        result as u32
    }

    /// The estimate of the quotient is at most one too small, because `number / 2^64 < 1`.
    #[inline]
    fn rest_of(&self, number: u64) -> u32 {
        let product = u128::from(number).wrapping_mul(u128::from(self.reciprocal));
        let quotient = (product >> 64) as u64;
        let divisor = u64::from(self.divisor);
        let rest = number.wrapping_sub(quotient.wrapping_mul(divisor));
        (if rest >= divisor {
            rest.wrapping_sub(divisor)
        } else {
            rest
        }) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::super::SlicePool;
    use super::*;
    use crate::rng::Sfc32;
    use std::vec::Vec;

    fn table(names: &[&[u8]], weights: &[u16], entries: u32, budget: u32) -> Vec<usize> {
        let candidates: Vec<u16> = (0..names.len() as u16).collect();
        let pool = SlicePool {
            candidates: &candidates,
            admitted: &[u32::MAX; 4],
            names,
            weights,
            ..SlicePool::default()
        };
        let memory = std::vec![0; Maglev::words(names.len(), entries)];
        let mut maglev = Maglev::new(memory, names.len(), entries).unwrap();
        while !maglev.update(&pool, budget) {}
        (0..u64::from(entries))
            .map(|key| maglev.pick(&pool, Some(key), &mut Sfc32::new(1)).unwrap())
            .collect()
    }

    const ADDRESSES: [&[u8]; 6] = [
        b"127.0.0.1:90",
        b"127.0.0.1:91",
        b"127.0.0.1:92",
        b"127.0.0.1:93",
        b"127.0.0.1:94",
        b"127.0.0.1:95",
    ];

    /// The tables that Envoy's own tests expect (`maglev_lb_test.cc`: Basic, BasicWithHostName, Weighted,
    /// LocalityWeightedSameLocalityWeights, LocalityWeightedDifferentLocalityWeights with 8 : 2).
    #[test]
    fn tables_are_envoys() {
        for budget in [1, 3, 1_000] {
            assert_eq!(table(&ADDRESSES, &[], 7, budget), [2, 4, 0, 1, 5, 0, 3]);
            let hosts: [&[u8]; 6] = [b"90", b"91", b"92", b"93", b"94", b"95"];
            assert_eq!(table(&hosts, &[], 7, budget), [2, 5, 0, 3, 4, 1, 0]);
            assert_eq!(
                table(&ADDRESSES[..2], &[1, 2], 17, budget),
                [1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1]
            );
            assert_eq!(
                table(&ADDRESSES[..2], &[1, 1], 17, budget),
                [1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1]
            );
            assert_eq!(
                table(&ADDRESSES[..2], &[8, 2], 17, budget),
                [1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]
            );
        }
    }

    /// Hashes of tables that Envoy's algorithm gives in doubles (a transcription to Python, checked against the
    /// tables above); four of ten differ from what exact fractions would give.
    #[test]
    fn weighted_tables_round_as_envoys() {
        let cases: [(&[u16], u32, u64); 10] = [
            (&[6, 3, 7], 251, 0x4FD838AA2D89CB42),
            (&[3, 1, 1, 3, 1], 257, 0xD512056934119E31),
            (&[47, 75, 8, 65, 28, 5, 12], 509, 0x1D3F5E5DC00EA685),
            (&[445, 429, 72, 247, 93, 565, 435, 61], 1021, 0xC752B6CB7FBBA396),
            (&[5, 1, 2, 5, 1, 5, 5, 4, 1, 2, 1, 5], 2039, 0xA39FAC66C7006ABA),
            (
                &[3, 5, 7, 3, 9, 2, 10, 5, 9, 11, 3, 2, 10, 10, 11, 4],
                1009,
                0x2177C9A5A5A45468,
            ),
            (
                &[
                    24406, 6386, 35897, 46669, 4115, 36987, 3907, 40568, 13498, 32534, 44591, 34847, 28023,
                    50937, 20588, 30514, 38376, 60519, 29700, 23697,
                ],
                4099,
                0x2A0A9D1ED325C7CD,
            ),
            (
                &[
                    3, 2, 7, 2, 6, 7, 2, 1, 5, 3, 5, 4, 3, 6, 4, 3, 5, 1, 1, 5, 4, 2, 7, 3, 2, 4, 4, 1, 6, 1,
                ],
                1021,
                0x68F9CA5986CB11F0,
            ),
            (
                &[
                    9, 10, 6, 6, 12, 6, 10, 8, 10, 8, 2, 2, 5, 8, 12, 11, 2, 1, 12, 12, 5, 11, 10, 11, 8, 5,
                    12, 7, 11, 6, 1, 8, 6, 3, 10, 2, 8, 1, 4, 5,
                ],
                2053,
                0x261A4E8A8214DE43,
            ),
            (
                &[
                    3, 4, 7, 7, 8, 2, 3, 8, 7, 9, 5, 3, 7, 9, 5, 7, 6, 7, 4, 3, 2, 3, 3, 4, 4, 1, 8, 3, 5, 5,
                    1, 3, 7, 9, 6, 6, 3, 9, 1, 8, 9, 7, 7, 7, 7, 2, 8, 7, 1, 4, 2, 4, 8, 3, 2, 6, 1, 2, 1, 3,
                ],
                1021,
                0x8619696D267010C0,
            ),
        ];
        for (weights, entries, expected) in cases {
            let names: Vec<_> = (0..weights.len())
                .map(|i| std::format!("host-{i}").into_bytes())
                .collect();
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            assert_eq!(
                fingerprint(&table(&names, weights, entries, 100)),
                expected,
                "{weights:?}"
            );
        }
    }

    /// Likewise for tables of Envoy's size, the last entries of which are filled another way.
    #[test]
    fn big_tables_are_envoys() {
        let weights: [u16; 24] = [
            8, 10, 6, 5, 3, 3, 1, 6, 9, 8, 10, 2, 6, 9, 10, 1, 7, 3, 8, 7, 3, 3, 4, 1,
        ];
        for (weights, budget, expected) in [
            (&[1; 100][..], 1_000, 0x82D77461F1DF6AE8),
            (&weights[..], u32::MAX, 0xA99FA86323F48B17),
        ] {
            let names: Vec<_> = (0..weights.len())
                .map(|i| std::format!("host-{i}").into_bytes())
                .collect();
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            let table = table(&names, weights, Maglev::ENVOY, budget);
            assert_eq!(fingerprint(&table), expected, "{weights:?}");
        }
    }

    fn fingerprint(table: &[usize]) -> u64 {
        let bytes: Vec<u8> = table
            .iter()
            .flat_map(|&slot| (slot as u16).to_le_bytes())
            .collect();
        xxh64(&bytes, 0)
    }

    #[test]
    fn divides_without_dividing() {
        let mut rng = Sfc32::new(3);
        for divisor in [2, 3, 6, 7, 250, 65_536, 65_537, 5_000_011, 16_777_213] {
            let modulus = Modulus::new(divisor);
            for number in [0, 1, u64::MAX, u64::MAX - 1]
                .into_iter()
                .chain((0..10_000).map(|_| affine::draw(&mut rng)))
            {
                assert_eq!(u64::from(modulus.rest_of(number)), number % u64::from(divisor));
            }
            if is_prime(divisor) {
                for number in [1, 2, divisor / 2, divisor - 1] {
                    let product = u64::from(number) * u64::from(modulus.inverse(number));
                    assert_eq!(product % u64::from(divisor), 1);
                }
            }
        }
    }

    #[test]
    fn takes_primes_and_enough_memory() {
        let error = |entries| Maglev::new([0; 8], 1, entries).err();
        for entries in [0, 1, 2, 4, 9, 65_536, 16_769_025, u32::MAX] {
            assert_eq!(error(entries), Some(MaglevError::NotPrime), "{entries}");
        }
        let needed = Maglev::words(1, 65_537);
        assert_eq!(
            error(65_537),
            Some(MaglevError::Memory(super::super::MemoryTooSmall { needed }))
        );
    }

    #[test]
    fn a_refused_home_is_retried_as_envoy_does() {
        let mut pool = SlicePool {
            candidates: &[0, 1, 2, 3, 4, 5],
            admitted: &[0b11_1111],
            names: &ADDRESSES,
            ..SlicePool::default()
        };
        let mut maglev = Maglev::new([0; Maglev::words(6, 7)], 6, 7).unwrap();
        while !maglev.update(&pool, 9) {}
        let mut pick = |pool: &SlicePool<'_>| maglev.pick(pool, Some(10), &mut Sfc32::new(1));
        // Envoy's BasicWithRetryHostPredicate: key 10 is at home at 1, then 0, then 5.
        assert_eq!(pick(&pool), Some(1));
        pool.admitted = &[0b11_1101];
        assert_eq!(pick(&pool), Some(0));
        pool.admitted = &[0b11_1100];
        assert_eq!(pick(&pool), Some(5));
        pool.admitted = &[0];
        assert_eq!(pick(&pool), None);
    }
}
