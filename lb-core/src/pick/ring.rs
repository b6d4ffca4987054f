//! Ring hash, with the points of Envoy and gRPC.

use super::affine::{self, Affine, Census, Progress, listed};
use super::double::Double;
use super::halves::{Halves, MemoryTooSmall};
use super::points::{self, BATCH, Points, PointsMut, kept};
use super::xxh64::Xxh64;
use super::{Pool, Strategy, Tabled};
use crate::rng::Rng;

/// Sends equal keys to the same slot by a ring of points, many for each candidate.
///
/// The points are those of Envoy and gRPC: the XXH64 of `name_0`, `name_1`, …; how many for each, [`RingSize`] says.
/// A key belongs to the first point at or after it. A refused home falls to the slots of the next points, at most 256, then the candidates' order by rendezvous
/// decides.
///
/// Choose it to agree with Envoy or gRPC, or when endpoints come and go often: with [`RingSize::PerWeight`] exactly
/// the keys of the leaving one move, to many others. Shares are uneven: at 160 points for each of 64, the busiest gets 20 % too much.
/// `Maglev` is even and faster, `Rendezvous` even without memory.
///
/// A pick reads on from where the key points into the table, two or three entries however many there are. An entry
/// has 32 bits of its point's hash; whenever that does not tell, the point is hashed anew, so choices are exact.
/// Building hashes every point once and needs no sorting. For more candidates than `slots` there is no table, and
/// picks scan all candidates' names.
///
/// Sources: Karger et al., "Consistent Hashing and Random Trees", STOC 1997; Envoy, `ring_hash_lb.cc`; gRPC A42.
///
/// ```
/// use lb_core::pick::{Ring, RingSize, SlicePool, Strategy, Tabled, key_hash};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     names: &[b"a:80", b"b:80", b"c:80"],
///     ..SlicePool::default()
/// };
/// let mut ring = Ring::new([0_u32; Ring::words(3, 480)], 3, RingSize::PerWeight(160)).unwrap();
/// while !ring.update(&pool, 100) {}
/// let mut rng = Sfc32::new(1);
/// let key = Some(key_hash(b"user-17"));
/// assert_eq!(ring.pick(&pool, key, &mut rng), ring.pick(&pool, key, &mut rng));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ring<S> {
    halves: Halves<S>,
    slots: usize,
    size: RingSize,
    table: Option<Made>,
    made_of: Option<u32>,
    build: Option<Build>,
}

/// How many points a [`Ring`] has. Never more than there is memory for: then each has less, in proportion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum RingSize {
    /// So many for each unit of weight, whoever else there is. 160 is what ketama has.
    PerWeight(u32),
    /// As Envoy and gRPC count them when hosts are listed in the order of their names, roundings of their doubles
    /// included: each candidate of the lowest weight gets the same whole number of points, and the ring at least
    /// `at_least` unless that exceeds `at_most`. The number of points of everybody changes when candidates
    /// come and go, so some keys move between those that stay.
    Envoy {
        /// `minimum_ring_size`, 1024 by default.
        at_least: u32,
        /// `maximum_ring_size`, 8 388 608 by default.
        at_most: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Made {
    total: (u32, bool),
    /// The most points that one candidate has.
    most: u32,
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
    Clear(usize),
    Fill(Fill),
}

#[derive(Clone, Copy, Debug)]
struct Fill {
    /// The candidate whose turn it is, and its next point.
    turn: usize,
    point: u32,
    /// Points for the sum of all weights; those that candidates so far should have, as Envoy adds them up; the
    /// same as a whole number; and those that they have.
    scale: Scale,
    target: Double,
    until: u32,
    placed: u32,
    most: u32,
    /// "name_" of the candidate.
    name: Option<Xxh64>,
}

impl Ring<()> {
    /// Words of memory for at most `slots` candidates and `points` points.
    #[must_use]
    pub const fn words(slots: usize, points: u32) -> usize {
        points::words(points as usize)
            .saturating_mul(2)
            .saturating_add(slots)
    }
}

impl<S: AsRef<[u32]>> Ring<S> {
    /// A ring for at most `slots` candidates. All the memory is used: [`Ring::words`] tells how much so many points
    /// need, and more makes picks a little faster.
    ///
    /// # Errors
    ///
    /// [`MemoryTooSmall`]: for one point for each candidate.
    pub fn new(memory: S, slots: usize, size: RingSize) -> Result<Self, MemoryTooSmall> {
        let half = memory.as_ref().len().saturating_sub(slots) / 2;
        Ok(Self {
            halves: Halves::new(memory, half.max(points::words(slots)), slots)?,
            slots,
            size,
            table: None,
            made_of: None,
            build: None,
        })
    }
}

impl<S> Ring<S> {
    /// The same ring in another kind of memory, which `change` must copy or share.
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Ring<T> {
        Ring {
            halves: self.halves.map(change),
            slots: self.slots,
            size: self.size,
            table: self.table,
            made_of: self.made_of,
            build: self.build,
        }
    }
}

impl<S: AsRef<[u32]>> Strategy for Ring<S> {
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

impl<S: AsRef<[u32]>> Ring<S> {
    #[inline]
    fn find<P: Pool + ?Sized>(&self, pool: &P, key: u64) -> Option<(Points<'_>, usize)> {
        let most = self.table?.most;
        let points = Points::new(self.halves.used());
        let top = kept((key >> 32) as u32);
        let mut at = points.find(top)?;
        if points.has(at, top) {
            at = points.settle(at, top, |slot| {
                let name = pool.name(slot);
                full(name.as_ref(), top, most).is_some_and(|hash| hash < key)
            })?;
        }
        Some((points, at))
    }
}

impl<S: AsRef<[u32]>> Affine for Ring<S> {
    #[inline]
    fn home<P: Pool + ?Sized>(&self, pool: &P, key: u64) -> Option<usize> {
        self.find(pool, key).map(|(points, at)| points.slot(at))
    }

    fn walk<P: Pool + ?Sized>(
        &self,
        pool: &P,
        key: u64,
        mut accepts: impl FnMut(usize) -> bool,
    ) -> Option<usize> {
        let (points, at) = self.find(pool, key)?;
        points.walk(at).find(|&slot| accepts(slot))
    }

    fn total_weight(&self) -> Option<(u32, bool)> {
        self.table.map(|table| table.total)
    }
}

/// The whole hash of the point of a candidate that is kept as `top`.
#[cold]
fn full(name: &[u8], top: u32, most: u32) -> Option<u64> {
    let prefix = prefix(name);
    (0..most)
        .map(|point| hash(&prefix, point))
        .find(|hash| kept((hash >> 32) as u32) == top)
}

fn prefix(name: &[u8]) -> Xxh64 {
    let mut prefix = Xxh64::new(0);
    prefix.write(name);
    prefix.write(b"_");
    prefix
}

/// XXH64 of the prefix and a number in decimal.
fn hash(prefix: &Xxh64, point: u32) -> u64 {
    let mut digits = [0_u8; 10];
    let (mut rest, mut used) = (point, 0_usize);
    for digit in digits.iter_mut().rev() {
        *digit = b'0'.wrapping_add((rest % 10) as u8);
        rest /= 10;
        used = used.wrapping_add(1);
        if rest == 0 {
            break;
        }
    }
    let from = digits.len().wrapping_sub(used);
    prefix.finish_with(digits.get(from..).unwrap_or_default())
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for Ring<S> {
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let version = pool.version();
        if self.made_of == Some(version) {
            return true;
        }
        let (table, scratch) = self.halves.spare();
        let room = points::most(table.len());
        let list = scratch.get_mut(..self.slots).unwrap_or_default();
        let mut points = PointsMut::new(table);
        let build = match &mut self.build {
            Some(build) if build.version == version => build,
            other => other.insert(Build {
                version,
                census: Census::new(),
                stage: Stage::Census,
            }),
        };
        let mut budget = budget;
        while budget > 0 {
            match &mut build.stage {
                Stage::Census => {
                    budget = budget.saturating_sub(build.census.work());
                    if build.census.step(pool, list, true) == Progress::Done {
                        build.stage = Stage::Clear(0);
                        if !build.census.complete || build.census.len == 0 {
                            self.table = None;
                            self.made_of = Some(version);
                            self.build = None;
                            return true;
                        }
                    }
                }
                Stage::Clear(at) => {
                    budget = budget.saturating_sub(1);
                    *at = points.clear(*at, 16);
                    if *at >= points.entries() {
                        let scale = Scale::new(&build.census, self.size, room);
                        build.stage = Stage::Fill(Fill::new(scale));
                    }
                }
                Stage::Fill(fill) => {
                    let work = fill.step(pool, list, &build.census, &mut points);
                    budget = budget.saturating_sub(work);
                    if fill.turn >= build.census.len {
                        self.table = Some(Made {
                            total: (build.census.total, build.census.even),
                            most: fill.most,
                        });
                        self.made_of = Some(version);
                        self.build = None;
                        self.halves.flip();
                        return true;
                    }
                }
            }
        }
        false
    }
}

/// How many points weights get.
#[derive(Clone, Copy, Debug)]
enum Scale {
    PerWeight(u32),
    /// For the sum of all weights.
    Sum(Double),
}

impl Scale {
    fn new(census: &Census, size: RingSize, room: u32) -> Self {
        let (at_least, at_most) = match size {
            RingSize::PerWeight(points) => match points.max(1).checked_mul(census.total) {
                Some(sum) if sum <= room => return Self::PerWeight(points.max(1)),
                _ => (room, room),
            },
            RingSize::Envoy { at_least, at_most } => {
                let at_most = at_most.min(room).max(1);
                (at_least.min(at_most).max(1), at_most)
            }
        };
        let least = normalized(census.least, census);
        let whole = least.multiply(Double::from_u32(at_least)).ceil();
        let sum = Double::from_u32(whole).divide(least);
        Self::Sum(sum.min(Double::from_u32(at_most)))
    }
}

fn normalized(weight: u16, census: &Census) -> Double {
    Double::from_u32(u32::from(weight)).divide(Double::from_u32(census.total))
}

impl Fill {
    const fn new(scale: Scale) -> Self {
        Self {
            turn: 0,
            point: 0,
            scale,
            target: Double::ZERO,
            until: 0,
            placed: 0,
            most: 0,
            name: None,
        }
    }

    /// Places some points, or goes on to the next candidate; how much work it was.
    fn step<P: Pool + ?Sized>(
        &mut self,
        pool: &P,
        list: &[u32],
        census: &Census,
        points: &mut PointsMut<'_>,
    ) -> u32 {
        let (slot, weight) = listed(list.get(self.turn).copied().unwrap_or(0));
        let name = pool.name(usize::from(slot));
        let name = name.as_ref();
        let prefix = match &self.name {
            Some(prefix) => prefix,
            None => {
                self.until = match self.scale {
                    Scale::PerWeight(points) => {
                        let share = points.saturating_mul(u32::from(weight));
                        self.until.saturating_add(share)
                    }
                    Scale::Sum(sum) => {
                        self.target = self.target.add(sum.multiply(normalized(weight, census)));
                        self.target.ceil()
                    }
                };
                self.point = 0;
                self.name.insert(prefix(name))
            }
        };
        let left = self.until.saturating_sub(self.placed);
        if left > 0 {
            let mut batch = [0_u64; BATCH];
            let first = self.point;
            let wholes = batch.get_mut(..BATCH.min(left as usize)).unwrap_or_default();
            for (point, whole) in (first..).zip(wholes.iter_mut()) {
                *whole = hash(prefix, point);
            }
            let count = wholes.len() as u32;
            self.point = first.saturating_add(count);
            self.placed = self.placed.saturating_add(count);
            self.most = self.most.max(self.point);
            let top = |whole: u64| kept((whole >> 32) as u32);
            return points.insert_all(wholes, top, slot, |whole, other| {
                let name = pool.name(other);
                let other = full(name.as_ref(), top(whole), self.most).unwrap_or(whole);
                whole.cmp(&other).into()
            });
        }
        self.name = None;
        self.turn = self.turn.saturating_add(1);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::super::affine::tests::names;
    use super::super::xxh64::xxh64;
    use super::super::{SlicePool, key_hash};
    use super::*;
    use crate::rng::Sfc32;
    use std::vec::Vec;

    fn ring(pool: &SlicePool<'_>, at_least: u32, at_most: u32, budget: u32) -> Ring<Vec<u32>> {
        let slots = pool.len();
        let memory = std::vec![7; Ring::words(slots, at_most)];
        let mut ring = Ring::new(memory, slots, RingSize::Envoy { at_least, at_most }).unwrap();
        while !ring.update(pool, budget) {}
        ring
    }

    fn at(ring: &mut Ring<Vec<u32>>, pool: &SlicePool<'_>, key: u64) -> usize {
        ring.pick(pool, Some(key), &mut Sfc32::new(1)).unwrap()
    }

    const ADDRESSES: [&[u8]; 6] = [
        b"127.0.0.1:90",
        b"127.0.0.1:91",
        b"127.0.0.1:92",
        b"127.0.0.1:93",
        b"127.0.0.1:94",
        b"127.0.0.1:95",
    ];

    const POOL: SlicePool<'_> = SlicePool {
        candidates: &[0, 1, 2, 3, 4, 5],
        admitted: &[0b11_1111],
        names: &ADDRESSES,
        own_in_flight: &[],
        total_in_flight: None,
        loads: &[],
        weights: &[],
        version: 0,
    };

    /// The rings in Envoy's own tests (`ring_hash_lb_test.cc`: Basic, UnevenHosts, HostWeightedTinyRing), to the
    /// last bit of every point.
    #[test]
    fn points_are_envoys() {
        let basic = [
            (833_437_586_790_550_860, 4),
            (928_266_305_478_181_108, 2),
            (1_033_482_794_131_418_490, 0),
            (3_551_244_743_356_806_947, 5),
            (3_851_675_632_748_031_481, 3),
            (5_583_722_120_771_150_861, 1),
            (6_311_230_543_546_372_928, 1),
            (7_700_377_290_971_790_572, 3),
            (13_144_177_310_400_110_813, 5),
            (13_444_792_449_719_432_967, 2),
            (15_516_499_411_664_133_160, 4),
            (16_117_243_373_044_804_889, 0),
        ];
        for budget in [1, 2, 1_000] {
            let mut ring = ring(&POOL, 12, 12, budget);
            for (i, (point, slot)) in basic.into_iter().enumerate() {
                assert_eq!(at(&mut ring, &POOL, point), slot);
                assert_eq!(at(&mut ring, &POOL, point + 1), basic[(i + 1) % 12].1);
            }
            assert_eq!(at(&mut ring, &POOL, 0), 4);
            assert_eq!(at(&mut ring, &POOL, u64::MAX), 4);
        }
        let pool = SlicePool {
            candidates: &[0, 1],
            names: &[b"127.0.0.1:81", b"127.0.0.1:82"],
            ..POOL
        };
        let mut uneven = ring(&pool, 3, 1_024, 7);
        let points = [
            (7_859_399_908_942_313_493, 0),
            (8_241_336_090_459_785_962, 1),
            (12_882_406_409_176_325_258, 1),
            (16_064_866_803_292_627_174, 0),
        ];
        for (i, (point, slot)) in points.into_iter().enumerate() {
            assert_eq!(at(&mut uneven, &pool, point), slot);
            assert_eq!(at(&mut uneven, &pool, point + 1), points[(i + 1) % 4].1);
        }
        let pool = SlicePool {
            candidates: &[0, 1, 2],
            weights: &[1, 2, 3],
            ..POOL
        };
        let mut tiny = ring(&pool, 6, 6, 7);
        for (point, slot) in [
            (928_266_305_478_181_108, 2),
            (4_443_673_547_860_492_590, 2),
            (5_583_722_120_771_150_861, 1),
            (6_311_230_543_546_372_928, 1),
            (13_444_792_449_719_432_967, 2),
            (16_117_243_373_044_804_889, 0),
        ] {
            assert_eq!(at(&mut tiny, &pool, point), slot);
        }
    }

    /// Envoy's BasicWithRetryHostPredicate: the next points' slots in turn.
    #[test]
    fn a_refused_home_falls_to_the_next_points() {
        let mut ring = ring(&POOL, 12, 12, 100);
        for (admitted, slot) in [(0b10_1111_u32, 2), (0b10_1011, 0), (0b10_1010, 5)] {
            assert_eq!(
                at(
                    &mut ring,
                    &SlicePool {
                        admitted: &[admitted],
                        ..POOL
                    },
                    0
                ),
                slot
            );
        }
        let nobody = SlicePool {
            admitted: &[0],
            ..POOL
        };
        assert_eq!(ring.pick(&nobody, Some(0), &mut Sfc32::new(1)), None);
    }

    /// Choices for 2000 keys as Envoy's algorithm in doubles makes them (a transcription to Python), as hashes: with
    /// equal weights where rounding gives some candidates a point too many, with weights, and scaled down.
    #[test]
    fn rings_round_as_envoys() {
        let cases: [(usize, &[u16], u32, u32, u64); 6] = [
            (75, &[], 1024, 2000, 0x0D60637410C5ACE5),
            (105, &[], 16800, 17000, 0x94D9D581863EA1F6),
            (
                20,
                &[10, 5, 6, 9, 1, 8, 4, 1, 3, 2, 6, 8, 4, 7, 9, 2, 10, 4, 1, 4],
                1024,
                8192,
                0x020ACA054C1D75CC,
            ),
            (
                9,
                &[3, 7, 11, 2, 65535, 1000, 5, 5, 9],
                200,
                3000,
                0x8AF753354799D75E,
            ),
            (300, &[], 1024, 500, 0xB2FE26BFD3CEC611),
            (
                40,
                &[
                    53, 36, 24, 99, 50, 21, 98, 10, 18, 80, 80, 57, 17, 17, 1, 1, 27, 100, 28, 22, 22, 38,
                    41, 26, 70, 87, 81, 27, 24, 89, 26, 50, 39, 3, 47, 54, 22, 19, 34, 9,
                ],
                4096,
                4096,
                0xF319ED6E474E2604,
            ),
        ];
        for (count, weights, at_least, at_most, expected) in cases {
            let names = names(count);
            let names: Vec<&[u8]> = names.iter().map(std::string::String::as_bytes).collect();
            let candidates: Vec<u16> = (0..count as u16).collect();
            let pool = SlicePool {
                candidates: &candidates,
                admitted: &[u32::MAX; 10],
                names: &names,
                weights,
                ..SlicePool::default()
            };
            let mut ring = ring(&pool, at_least, at_most, 50);
            let bytes: Vec<u8> = (0..2_000_u32)
                .flat_map(|key| (at(&mut ring, &pool, key_hash(&key.to_le_bytes())) as u16).to_le_bytes())
                .collect();
            assert_eq!(xxh64(&bytes, 0), expected, "{count} candidates");
        }
    }

    #[test]
    fn too_many_candidates_are_scanned() {
        let mut ring = Ring::new([0; Ring::words(2, 100)], 2, RingSize::PerWeight(50)).unwrap();
        assert!(ring.update(&POOL, 100));
        let mut rng = Sfc32::new(1);
        let picks: std::collections::HashSet<_> = (0..100)
            .map(|i| ring.pick(&POOL, Some(key_hash(&[i])), &mut rng))
            .collect();
        assert_eq!(picks.len(), 6);
    }
}
