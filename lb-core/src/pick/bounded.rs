//! Bounded loads: affinity that gives way before anybody has much more than its share.

use super::affine::{self, Affine};
use super::xxh64::avalanche;
use super::{Pool, Strategy, Tabled};
use crate::rng::Rng;

/// Jumps before the candidates are asked in turn.
const JUMPS: u64 = 16;

/// Where a request goes whose home is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Overflow {
    /// To where a hash of the key and a counter is at home, and so on: what overflows is spread over all.
    #[default]
    Jump,
    /// Onward in the key's order: for a ring to the next point, as HAProxy does. A key that overflows lands where
    /// it would if its home were gone, so caches stay warmer; but who comes after a full one is filled next.
    Forward,
}

/// An affine strategy that passes over whoever has more than a bounded share of our requests in flight.
///
/// With `percent` 125, nobody gets a request that would take it above 1.25 times its share of all our own requests
/// in flight, by weight, this one included and rounded up: `ceil(1.25 * (all + 1) * weight / weights)`. That is a
/// law as long as anybody admitted has room; if nobody has, the least loaded by weight gets it.
///
/// Choose it when some keys are much hotter than others. It bounds what *this* client has in flight; others' load it
/// does not see. Close to 100 % gives even load and sends many keys astray, 125 to 200 is usual, and at 65 535
/// only the affinity is left. A pick costs the strategy's, twice or so when homes are full, and the sum of all requests in
/// flight: pools that keep it (see [`Pool::total_in_flight`]) make that O(1), others O(candidates).
///
/// Sources: Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", arXiv 1608.01350; jumps: Chen,
/// Coleman and Shrivastava, "Revisiting Consistent Hashing with Bounded Loads", arXiv 1908.08762.
///
/// ```
/// use lb_core::pick::{Bounded, Overflow, Rendezvous, SlicePool, Strategy, Tabled, key_hash};
/// use lb_core::rng::Sfc32;
///
/// let rendezvous = Rendezvous::new([0_u32; Rendezvous::words(3)], 3).unwrap();
/// let mut bounded = Bounded::new(rendezvous, 125, Overflow::Jump);
/// let mut in_flight = [0; 3];
/// let names: [&[u8]; 3] = [b"a:80", b"b:80", b"c:80"];
/// for _ in 0..9 {
///     let pool = SlicePool {
///         candidates: &[0, 1, 2],
///         admitted: &[0b111],
///         names: &names,
///         own_in_flight: &in_flight,
///         ..SlicePool::default()
///     };
///     while !bounded.update(&pool, 100) {}
///     let slot = bounded.pick(&pool, Some(key_hash(b"hot")), &mut Sfc32::new(1)).unwrap();
///     in_flight[slot] += 1;
/// }
/// assert!(in_flight.iter().all(|&count| count <= 4));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Bounded<A> {
    inner: A,
    percent: u16,
    overflow: Overflow,
}

impl<A> Bounded<A> {
    /// Bounds an affine strategy: `Rendezvous`, `Maglev`, `Ring` or `Ketama`. Less than 100 percent is 100.
    pub const fn new(inner: A, percent: u16, overflow: Overflow) -> Self {
        Self {
            inner,
            percent: if percent < 100 { 100 } else { percent },
            overflow,
        }
    }

    /// The strategy within.
    pub const fn inner(&self) -> &A {
        &self.inner
    }

    /// The same around another strategy, or the same in another kind of memory.
    pub fn map<B>(self, change: impl FnOnce(A) -> B) -> Bounded<B> {
        Bounded {
            inner: change(self.inner),
            percent: self.percent,
            overflow: self.overflow,
        }
    }
}

/// The bound of this moment. `load < ceil(x)` is `load < x` for whole loads, so nothing is divided.
#[derive(Clone, Copy)]
struct Bound {
    /// `percent * (all requests + 1)`.
    allowed: u64,
    /// `100 * sum of weights`.
    weights: u64,
    /// Whether nobody has weight, which counts as 1 each.
    even: bool,
}

impl Bound {
    fn weight<P: Pool + ?Sized>(self, pool: &P, slot: usize) -> u64 {
        if self.even {
            1
        } else {
            u64::from(pool.weight(slot))
        }
    }

    fn has_room<P: Pool + ?Sized>(self, pool: &P, slot: usize) -> bool {
        let load = u128::from(pool.own_in_flight(slot)).wrapping_mul(u128::from(self.weights));
        load < u128::from(self.allowed).wrapping_mul(u128::from(self.weight(pool, slot)))
    }
}

impl<A: Affine> Bounded<A> {
    fn bound<P: Pool + ?Sized>(&self, pool: &P) -> Bound {
        let (weights, even) = match self.inner.total_weight() {
            Some((total, even)) => (total, even),
            None => affine::total_weight(pool),
        };
        Bound {
            allowed: u64::from(pool.total_in_flight())
                .wrapping_add(1)
                .wrapping_mul(u64::from(self.percent)),
            weights: u64::from(weights).wrapping_mul(100),
            even,
        }
    }

    #[inline(never)]
    fn overflow<P: Pool + ?Sized>(&self, pool: &P, key: u64, bound: Bound) -> Option<usize> {
        let room = |slot: usize| pool.admits(slot) && bound.has_room(pool, slot);
        let next = match self.overflow {
            Overflow::Forward => self.inner.walk(pool, key, room),
            Overflow::Jump => (1..=JUMPS)
                .filter_map(|jump| self.inner.home(pool, jumped(key, jump)))
                .find(|&slot| room(slot)),
        };
        next.or_else(|| affine::elsewhere(pool, key, room))
            .or_else(|| least(pool, key, bound))
    }
}

/// A key's key for a jump.
const fn jumped(key: u64, jump: u64) -> u64 {
    avalanche(key ^ jump.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// The admitted candidate with the least load for its weight; of equals, the one that comes first for the key.
fn least<P: Pool + ?Sized>(pool: &P, key: u64, bound: Bound) -> Option<usize> {
    pool.slots()
        .filter(|&slot| pool.admits(slot))
        .map(|slot| {
            let load = u64::from(pool.own_in_flight(slot)).wrapping_add(1);
            (
                slot,
                load,
                bound.weight(pool, slot),
                affine::rank(pool, slot, key),
            )
        })
        .reduce(|best, other| {
            let (mine, others) = (best.1.wrapping_mul(other.2), other.1.wrapping_mul(best.2));
            let equal = mine == others && (best.3, other.0) > (other.3, best.0);
            if mine < others || equal || (other.2 == 0 && best.2 > 0) {
                best
            } else {
                other
            }
        })
        .map(|(slot, ..)| slot)
}

impl<A: Affine> Strategy for Bounded<A> {
    #[inline]
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        let key = key.unwrap_or_else(|| affine::draw(rng));
        let bound = self.bound(pool);
        match self.inner.home(pool, key) {
            Some(slot) if pool.admits(slot) && bound.has_room(pool, slot) => Some(slot),
            _ => self.overflow(pool, key, bound),
        }
    }
}

impl<A: Tabled> Tabled for Bounded<A> {
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        self.inner.update(pool, budget)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Rendezvous, SlicePool};
    use super::*;
    use crate::rng::Sfc32;

    const NAMES: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];

    fn picks(weights: &[u16], in_flight: &[u32; 4], admitted: u32, overflow: Overflow) -> Option<usize> {
        let pool = SlicePool {
            candidates: &[0, 1, 2, 3],
            admitted: &[admitted],
            names: &NAMES,
            weights,
            own_in_flight: in_flight,
            ..SlicePool::default()
        };
        let rendezvous = Rendezvous::new([0; Rendezvous::words(4)], 4).unwrap();
        let mut bounded = Bounded::new(rendezvous, 100, overflow);
        let untabled = bounded.pick(&pool, Some(6), &mut Sfc32::new(1));
        while !bounded.update(&pool, 10) {}
        let tabled = bounded.pick(&pool, Some(6), &mut Sfc32::new(1));
        assert_eq!(untabled.is_some(), tabled.is_some());
        tabled
    }

    #[test]
    fn full_ones_are_passed_over() {
        for overflow in [Overflow::Jump, Overflow::Forward] {
            for only in 0..4 {
                let mut in_flight = [3; 4];
                in_flight[only] = 2;
                assert_eq!(picks(&[], &in_flight, 15, overflow), Some(only));
            }
            assert_eq!(
                picks(&[1, 2, 3, 4], &[2, 3, 6, 8], 15, overflow),
                Some(1),
                "by weight"
            );
            assert_eq!(picks(&[0; 4], &[9, 9, 8, 9], 15, overflow), Some(2), "weightless");
        }
    }

    #[test]
    fn when_all_are_full_the_least_loaded_gets_it() {
        for overflow in [Overflow::Jump, Overflow::Forward] {
            // Those with room are not admitted.
            assert_eq!(picks(&[], &[9, 0, 7, 0], 0b101, overflow), Some(2));
            assert_eq!(picks(&[4, 9, 3, 9], &[9, 0, 7, 0], 0b101, overflow), Some(0));
            assert_eq!(picks(&[0, 9, 3, 9], &[0, 0, 99, 0], 0b101, overflow), Some(2));
            assert_eq!(picks(&[0, 9, 0, 9], &[0, 0, 0, 0], 0b100, overflow), Some(2));
            assert_eq!(picks(&[], &[u32::MAX; 4], 15, overflow).map(|_| ()), Some(()));
            assert_eq!(picks(&[], &[0; 4], 0, overflow), None);
        }
    }
}
