//! The candidates in an order of this picker's own.

use super::halves::Halves;
use super::heapsort::{Heapsort, Items};
use super::xxh64::xxh64;
use super::{MemoryTooSmall, Pool};

/// The candidates sorted by a hash of the picker's seed and their names: every picker has another order, and who
/// comes or goes moves nobody else in it (rendezvous hashing; gRPC A68 takes its subsets so).
#[derive(Clone, Debug)]
pub(super) struct Order<S> {
    tables: Halves<S>,
    seed: u64,
    len: usize,
    /// Of the candidates in use; 0 when none has weight.
    heaviest: u16,
    lightest: u16,
    version: Option<u32>,
    build: Option<Build>,
}

#[derive(Clone, Copy, Debug)]
struct Build {
    version: u32,
    len: usize,
    heaviest: u16,
    lightest: u16,
    sort: Option<Heapsort>,
}

impl<S> Order<S> {
    pub(super) fn map<T>(self, change: impl FnOnce(S) -> T) -> Order<T> {
        Order {
            tables: self.tables.map(change),
            seed: self.seed,
            len: self.len,
            heaviest: self.heaviest,
            lightest: self.lightest,
            version: self.version,
            build: self.build,
        }
    }

    /// How many candidates the order has; 0 when there is none yet.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The highest weight among them; 1 if [all are equal](Self::is_even), since then it does not matter.
    #[inline]
    pub(super) const fn heaviest(&self) -> u16 {
        if self.is_even() { 1 } else { self.heaviest }
    }

    /// Whether all weigh the same.
    #[inline]
    pub(super) const fn is_even(&self) -> bool {
        self.len > 0 && self.heaviest == self.lightest
    }
}

/// Memory for this many slots.
pub(super) const fn words(slots: usize) -> usize {
    slots.saturating_mul(2)
}

impl<S: AsRef<[u32]>> Order<S> {
    pub(super) fn new(memory: S, seed: u64) -> Result<Self, MemoryTooSmall> {
        let len = memory.as_ref().len() / 2;
        Ok(Self {
            tables: Halves::new(memory, len, 0)?,
            seed,
            len: 0,
            heaviest: 0,
            lightest: 0,
            version: None,
            build: None,
        })
    }

    /// The slot at this place.
    #[inline]
    pub(super) fn slot(&self, at: usize) -> Option<usize> {
        let entry = self.tables.used().get(at)?;
        Some(usize::from(*entry as u16))
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Order<S> {
    /// As [`super::Tabled::update`]. Candidates that do not fit into the memory are left out.
    pub(super) fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        let version = pool.version();
        if self.version == Some(version) && self.build.is_none() {
            return true;
        }
        let mut build = self
            .build
            .filter(|build| build.version == version)
            .unwrap_or(Build {
                version,
                len: 0,
                heaviest: 0,
                lightest: u16::MAX,
                sort: None,
            });
        let (table, _) = self.tables.spare();
        let mut done = false;
        for _ in 0..budget {
            done = build.step(pool, table, self.seed);
            if done {
                break;
            }
        }
        self.build = Some(build);
        if done {
            self.tables.flip();
            self.len = build.len;
            (self.heaviest, self.lightest) = (build.heaviest, build.lightest);
            (self.version, self.build) = (Some(version), None);
        }
        done
    }
}

impl Build {
    fn step<P: Pool + ?Sized>(&mut self, pool: &P, table: &mut [u32], seed: u64) -> bool {
        let sort = match &mut self.sort {
            Some(sort) => sort,
            none => {
                let slot = u16::try_from(pool.slot(self.len)).ok();
                let (Some(entry), Some(slot)) = (table.get_mut(self.len), slot) else {
                    *none = Some(Heapsort::new(self.len));
                    return false;
                };
                let hash = xxh64(pool.name(usize::from(slot)).as_ref(), seed);
                *entry = (hash as u32) & 0xFFFF_0000 | u32::from(slot);
                let weight = pool.weight(usize::from(slot));
                self.heaviest = self.heaviest.max(weight);
                self.lightest = self.lightest.min(weight);
                self.len = self.len.saturating_add(1);
                return false;
            }
        };
        sort.step(&mut Entries(table), self.len)
    }
}

struct Entries<'a>(&'a mut [u32]);

impl Items for Entries<'_> {
    fn less(&self, left: usize, right: usize) -> bool {
        self.0.get(left) < self.0.get(right)
    }

    fn swap(&mut self, left: usize, right: usize) {
        super::affine::swap(self.0, left, right);
    }
}

#[cfg(test)]
mod tests {
    use super::super::SlicePool;
    use super::*;
    use std::vec::Vec;

    fn order_of(names: &[&[u8]], seed: u64, budget: u32) -> Vec<usize> {
        let slots: Vec<u16> = (0..names.len() as u16).collect();
        let pool = SlicePool {
            candidates: &slots,
            names,
            version: 7,
            ..SlicePool::default()
        };
        let mut order = Order::new([0_u32; 64], seed).unwrap();
        let mut calls = 0;
        while !order.update(&pool, budget) {
            calls += 1;
            assert!(calls < 1_000);
        }
        assert_eq!(order.heaviest(), u16::from(!names.is_empty()));
        (0..order.len()).map(|at| order.slot(at).unwrap()).collect()
    }

    const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];

    #[test]
    fn every_seed_has_an_order_of_its_own_whatever_the_steps() {
        let one = order_of(&NAMES, 1, 1);
        assert_eq!(one, order_of(&NAMES, 1, u32::MAX));
        assert_ne!(one, order_of(&NAMES, 2, u32::MAX));
        let mut sorted = one;
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5]);
        assert_eq!(order_of(&[], 1, 5), [0; 0]);
    }

    #[test]
    fn who_leaves_moves_nobody() {
        let all = order_of(&NAMES, 3, 4);
        let without: Vec<usize> = order_of(&NAMES[..5], 3, 4);
        let expected: Vec<usize> = all.into_iter().filter(|&slot| slot != 5).collect();
        assert_eq!(without, expected);
    }
}
