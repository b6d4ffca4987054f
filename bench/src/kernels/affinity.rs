//! Affinity: rendezvous hashing, Maglev's table, the ring, a bound on the load.

use super::kernel;
use super::load::InFlight;
use crate::input::{mix, weight};
use crate::measure::Contender;

/// Entries of a Maglev table.
const TABLE: usize = 65_537;

/// Points for each endpoint on a ring.
const POINTS: usize = 160;

/// Scores compared at a time.
const BLOCK: usize = 32;

/// A 32-bit score of key and name for every endpoint, both halves of one product, the lowest of each block of 32,
/// and where it is in the best block; fewer than that in one go.
#[must_use]
pub fn rendezvous(n: usize) -> Contender {
    let seeds: Vec<u32> = (0..n).map(|slot| mix(slot as u64) as u32).collect();
    kernel(move |key| {
        let (mask, factor) = (key as u32, key >> 32 | 1);
        // Signed, because the least vectors of x86-64 compare no others.
        let score = |&seed: &u32| {
            let product = u64::from(seed ^ mask) * factor;
            ((product >> 32) as u32 ^ product as u32) as i32
        };
        if seeds.len() < BLOCK {
            let scores = seeds.iter().map(score).zip(0..);
            let lowest =
                |best: (i32, usize), other: (i32, usize)| if other.0 < best.0 { other } else { best };
            return scores.reduce(lowest).map_or(0, |(_, slot)| slot);
        }
        let (mut best, mut block) = (i32::MAX, 0);
        for (index, seeds) in seeds.chunks(BLOCK).enumerate() {
            let lowest = seeds.iter().map(score).fold(i32::MAX, i32::min);
            if lowest < best {
                (best, block) = (lowest, index * BLOCK);
            }
        }
        let within = seeds[block..].iter().position(|seed| score(seed) == best);
        block + within.unwrap_or(0)
    })
}

/// The same score from 0 to 1 as a bound of its logarithm, times a reciprocal of the weight that was made ahead; the
/// lowest of each block of 32, and the logarithms themselves in blocks that can still win.
#[must_use]
pub fn weighted_rendezvous(n: usize) -> Contender {
    let seeds: Vec<u32> = (0..n).map(|slot| mix(slot as u64) as u32).collect();
    let weights: Vec<f32> = (0..n).map(|slot| f32::from(weight(slot))).collect();
    // -log2(1 - x) is at least x times this.
    let steepness = std::f32::consts::LOG2_E / (1 << 24) as f32;
    let slopes: Vec<f32> = weights.iter().map(|weight| steepness / weight).collect();
    kernel(move |key| {
        let (mask, factor) = (key as u32, key >> 32 | 1);
        let (mut best, mut picked) = (f32::MAX, 0);
        for (block, (seeds, slopes)) in seeds.chunks(BLOCK).zip(slopes.chunks(BLOCK)).enumerate() {
            let mut bounds = [f32::MAX; BLOCK];
            let mut lowest = f32::MAX;
            for ((kept, &seed), &slope) in bounds.iter_mut().zip(seeds).zip(slopes) {
                let product = u64::from(seed ^ mask) * factor;
                let score = ((product >> 32) as u32 ^ product as u32) >> 8;
                // Signed, because the least vectors of x86-64 convert no others.
                *kept = score as i32 as f32 * slope;
                lowest = if *kept < lowest { *kept } else { lowest };
            }
            if lowest >= best {
                continue;
            }
            for (slot, &bound) in (block * BLOCK..).zip(&bounds[..seeds.len()]) {
                if bound < best {
                    let score = bound * weights[slot] / std::f32::consts::LOG2_E;
                    let cost = minus_log2(1.0 - score) / weights[slot];
                    if cost < best {
                        (best, picked) = (cost, slot);
                    }
                }
            }
        }
        picked
    })
}

/// By the exponent and a polynomial, to one part in ten thousand.
fn minus_log2(x: f32) -> f32 {
    const MANTISSA: u32 = (1 << 23) - 1;
    let exponent = (x.to_bits() >> 23) as i32 - 127;
    let m = f32::from_bits(x.to_bits() & MANTISSA | 127 << 23);
    let slope = ((0.059_945_6 * m - 0.467_495) * m + 1.485_086) * m - 2.524_533;
    let log = (slope * m + 2.889_612) * (m - 1.0);
    -(exponent as f32 + log)
}

/// The remainder of the key by the number of entries, a constant here, and one entry of two bytes.
#[must_use]
pub fn maglev(n: usize) -> Contender {
    let table = table(n);
    kernel(move |key| usize::from(table[entry(key)]))
}

/// As Maglev; then the load there against 1.25 times the mean, and the entry of another hash while it is not below;
/// and the two counters of the request that begins and the one that ends.
#[must_use]
pub fn bounded(n: usize) -> Contender {
    let (table, mut fleet) = (table(n), InFlight::new(n));
    let in_flight: u64 = fleet.own.iter().copied().map(u64::from).sum();
    kernel(move |key| {
        let mut hash = key;
        loop {
            let slot = usize::from(table[entry(hash)]);
            // own < ceil(1.25 * (in flight + 1) / n), without the division.
            if 4 * n as u64 * u64::from(fleet.own[slot]) < 5 * (in_flight + 1) {
                return fleet.send(key, slot);
            }
            hash = mix(hash);
        }
    })
}

fn entry(key: u64) -> usize {
    (key % TABLE as u64) as usize
}

/// Every endpoint in turn takes the next free entry of its permutation.
fn table(n: usize) -> Vec<u16> {
    const FREE: u16 = u16::MAX;
    let step = |slot: usize| (mix(slot as u64) >> 32) as usize % (TABLE - 1) + 1;
    let mut at: Vec<usize> = (0..n)
        .map(|slot| mix(slot as u64) as u32 as usize % TABLE)
        .collect();
    let mut table = vec![FREE; TABLE];
    for turn in 0..TABLE {
        let slot = turn % n;
        while table[at[slot]] != FREE {
            at[slot] = (at[slot] + step(slot)) % TABLE;
        }
        table[at[slot]] = slot as u16;
    }
    table
}

/// The first point from the key on, found from an index by the key's highest bits that has an entry for about every
/// point, and the point's endpoint.
#[must_use]
pub fn ring(n: usize) -> Contender {
    let ring = Ring::new(n);
    kernel(move |key| ring.owner((key >> 32) as u32))
}

struct Ring {
    points: Vec<u32>,
    owners: Vec<u16>,
    /// The first point at or above each value of the highest bits.
    starts: Vec<u32>,
    shift: u32,
}

impl Ring {
    fn new(n: usize) -> Self {
        let mut points: Vec<(u32, u16)> = (0..n * POINTS)
            .map(|point| ((mix(point as u64) >> 32) as u32, (point / POINTS) as u16))
            .collect();
        points.sort_unstable();
        let bits = points.len().next_power_of_two().trailing_zeros();
        let shift = u32::BITS - bits;
        let starts = (0..1_u32 << bits)
            .map(|bucket| points.partition_point(|&(hash, _)| hash >> shift < bucket) as u32)
            .collect();
        let (points, owners) = points.into_iter().unzip();
        Self {
            points,
            owners,
            starts,
            shift,
        }
    }

    fn owner(&self, hash: u32) -> usize {
        let start = self.starts[(hash >> self.shift) as usize] as usize;
        let beyond = self.points[start..]
            .iter()
            .take_while(|&&point| point < hash)
            .count();
        usize::from(self.owners.get(start + beyond).copied().unwrap_or(self.owners[0]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_good_enough() {
        for x in [1.0e-7_f32, 0.01, 0.3, 0.5, 0.999, 1.0] {
            assert!((minus_log2(x) + x.log2()).abs() < 2e-4, "{x}");
        }
    }

    #[test]
    fn the_table_is_even() {
        let table = table(100);
        let count = |slot| table.iter().filter(|&&other| other == slot).count();
        assert!((0..100).all(|slot| (655..=656).contains(&count(slot))));
    }

    #[test]
    fn the_ring_finds_what_a_search_finds() {
        let ring = Ring::new(5);
        for key in (0..2_000).map(mix) {
            let hash = (key >> 32) as u32;
            let point = ring.points.partition_point(|&point| point < hash) % ring.points.len();
            assert_eq!(ring.owner(hash), usize::from(ring.owners[point]));
        }
    }
}
