//! Subsetting: which few endpoints a client deals with at all, when there are too many to know each.
//!
//! Both functions work on the pool's candidates, need no memory but the caller's buffer, and depend on names alone:
//! every client that knows the same names works out the same, whatever slots it keeps them in.

use super::Pool;
use super::affine::push_in;
use super::xxh64::xxh64;

/// A client's part of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Portion {
    /// The endpoint's slot.
    pub slot: u16,
    /// How much of it is this client's, compared with the other portions; for [`Pool::weight`].
    pub weight: u16,
}

/// The candidates that come first in an order of the client's own, into `subset`, the first one first; how many.
///
/// Choose it when clients do not know of each other. A client's `seed` should be its own and stay the same, such as
/// the hash of its name. When an endpoint comes or goes, at most one of a client's changes. How many clients an endpoint
/// gets varies like any random choice: by `sqrt(clients * subset / endpoints)`.
///
/// The order is that of `XXH64(name, seed)`, as in gRPC's random subsetting. O(candidates * subset) at worst.
///
/// Source: gRPC A68.
///
/// ```
/// use lb_core::pick::{SlicePool, subset};
/// let names: [&[u8]; 4] = [b"a:80", b"b:80", b"c:80", b"d:80"];
/// let pool = SlicePool { candidates: &[0, 1, 2, 3], names: &names, ..SlicePool::default() };
/// let mut mine = [0; 2];
/// assert_eq!(subset::by_rendezvous(&pool, 17, &mut mine), 2);
/// ```
pub fn by_rendezvous<P: Pool + ?Sized>(pool: &P, seed: u64, subset: &mut [u16]) -> usize {
    first(pool, &|slot| hash(pool, slot, seed), subset)
}

/// A client's slice of the endpoints, into `slice`; how many. For client `client` of `clients`, counted from 0.
///
/// All endpoints stand in a circle in the order of their hashes, each with an arc of the same length, and so do all
/// clients. A client's slice begins where its own arc does, and is the fewest whole client arcs that make `at_least`
/// endpoints. So every point of the circle is in the same number of slices: with the portions as weights,
/// endpoints get *exactly* equal shares of the clients, unlike with any choice of whole endpoints (Google SRE's
/// deterministic subsetting leaves `clients % (endpoints / subset)` over, and reshuffles everything when the number of
/// endpoints changes). When an endpoint comes or goes, a slice shifts by less than one endpoint at either end.
///
/// Choose it when clients are numbered, such as the replicas of a service, and each sends about as much as
/// the others. `slice` should have room for `at_least + endpoints / clients + 2`; what does not fit is left out, and fairness
/// with it. No clients, or a client that is not one of them: nothing.
///
/// Needs no memory: the first endpoint of the slice is found by bisecting the hashes, 64 times O(candidates).
///
/// Source: Finagle, deterministic aperture.
///
/// ```
/// use lb_core::pick::{SlicePool, subset::{Portion, by_aperture}};
/// let names: [&[u8]; 3] = [b"a:80", b"b:80", b"c:80"];
/// let pool = SlicePool { candidates: &[0, 1, 2], names: &names, ..SlicePool::default() };
/// // Two clients share three endpoints: one and a half each.
/// let mut slices = [[Portion::default(); 4]; 2];
/// for (client, slice) in (0..).zip(&mut slices) {
///     assert_eq!(by_aperture(&pool, client, 2, 1, slice), 2);
/// }
/// assert_eq!(slices[0][1].slot, slices[1][0].slot);
/// assert_eq!(slices[0][0].weight, 2 * slices[0][1].weight);
/// ```
pub fn by_aperture<P: Pool + ?Sized>(
    pool: &P,
    client: u16,
    clients: u16,
    at_least: u16,
    slice: &mut [Portion],
) -> usize {
    let endpoints = u32::try_from(pool.len()).unwrap_or(0).min(1 << 16);
    if client >= clients || endpoints == 0 {
        return 0;
    }
    // The circle is `clients * endpoints` long: an endpoint's arc is `clients`, a client's `endpoints`.
    let arc = u32::from(clients);
    let wanted = u32::from(at_least).min(endpoints).max(1).saturating_mul(arc);
    let arcs = wanted.div_ceil(endpoints);
    let start = u32::from(client).saturating_mul(endpoints);
    let first = start.checked_div(arc).unwrap_or(0);
    let mut skipped = start.saturating_sub(first.saturating_mul(arc));
    let mut left = u64::from(arcs).wrapping_mul(u64::from(endpoints));
    let hash = |slot| hash(pool, slot, 0);
    let mut after = nth(pool, &hash, first as usize);
    let mut found = 0_usize;
    for portion in slice.iter_mut() {
        let Some(slot) = after.filter(|_| left > 0) else {
            break;
        };
        // The last endpoint may be the first one again, from its other side.
        let here = u64::from(arc.saturating_sub(skipped)).min(left);
        *portion = Portion {
            slot: slot as u16,
            weight: u16::try_from(here).unwrap_or(u16::MAX),
        };
        left = left.saturating_sub(here);
        skipped = 0;
        found = found.saturating_add(1);
        after = next(pool, &hash, slot);
    }
    found
}

fn hash<P: Pool + ?Sized>(pool: &P, slot: usize, seed: u64) -> u64 {
    xxh64(pool.name(slot).as_ref(), seed)
}

/// Whether a candidate comes before another: by hash, then by name.
fn before<P: Pool + ?Sized>(pool: &P, hash: &impl Fn(usize) -> u64, slot: usize, other: usize) -> bool {
    let (mine, others) = (hash(slot), hash(other));
    if mine != others {
        return mine < others;
    }
    let (name, other_name) = (pool.name(slot), pool.name(other));
    (name.as_ref(), slot) < (other_name.as_ref(), other)
}

/// The first candidates by hash.
fn first<P: Pool + ?Sized>(pool: &P, hash: &impl Fn(usize) -> u64, subset: &mut [u16]) -> usize {
    let mut found = 0_usize;
    for slot in pool.slots() {
        let worse = |other: &u16| before(pool, hash, slot, usize::from(*other));
        let full = found == subset.len();
        if full && !subset.last().is_some_and(worse) {
            continue;
        }
        let place = subset
            .get(..found)
            .unwrap_or_default()
            .partition_point(|other| !worse(other));
        if !full {
            found = found.saturating_add(1);
        }
        push_in(subset.get_mut(place..found).unwrap_or_default(), slot as u16);
    }
    found
}

/// The `n`-th candidate by hash.
fn nth<P: Pool + ?Sized>(pool: &P, hash: &impl Fn(usize) -> u64, n: usize) -> Option<usize> {
    // The highest hash that at most `n` candidates are below of.
    let mut bound = 0_u64;
    for bit in (0..u64::BITS).rev() {
        let higher = bound | 1 << bit;
        if pool.slots().filter(|&slot| hash(slot) < higher).count() <= n {
            bound = higher;
        }
    }
    let below = pool.slots().filter(|&slot| hash(slot) < bound).count();
    let mut slot = pool
        .slots()
        .filter(|&slot| hash(slot) >= bound)
        .reduce(|best, slot| {
            if before(pool, hash, slot, best) {
                slot
            } else {
                best
            }
        })?;
    for _ in below..n {
        slot = next(pool, hash, slot)?;
    }
    Some(slot)
}

/// The candidate after this one by hash, around the circle.
fn next<P: Pool + ?Sized>(pool: &P, hash: &impl Fn(usize) -> u64, slot: usize) -> Option<usize> {
    let lowest = |best: usize, slot: usize| {
        if before(pool, hash, slot, best) {
            slot
        } else {
            best
        }
    };
    pool.slots()
        .filter(|&other| before(pool, hash, slot, other))
        .reduce(lowest)
        .or_else(|| pool.slots().reduce(lowest))
}

#[cfg(test)]
mod tests {
    use super::super::SlicePool;
    use super::super::affine::tests::names;
    use super::*;
    use std::vec::Vec;

    fn with<T>(count: usize, run: impl FnOnce(&SlicePool<'_>) -> T) -> T {
        let names = names(count);
        let names: Vec<&[u8]> = names.iter().map(std::string::String::as_bytes).collect();
        let candidates: Vec<u16> = (0..count as u16).collect();
        run(&SlicePool {
            candidates: &candidates,
            names: &names,
            ..SlicePool::default()
        })
    }

    #[test]
    fn every_endpoint_gets_exactly_its_share() {
        for (clients, endpoints, at_least) in [
            (100, 10, 5),
            (7, 13, 3),
            (3, 64, 1),
            (16, 16, 16),
            (1, 5, 2),
            (5, 1, 3),
            (11, 4, 9),
        ] {
            with(endpoints, |pool| {
                let mut totals = std::vec![0_u64; endpoints];
                for client in 0..clients {
                    let mut slice = [Portion::default(); 80];
                    let found = by_aperture(pool, client, clients, at_least, &mut slice);
                    let slots: std::collections::HashSet<u16> =
                        slice[..found].iter().map(|p| p.slot).collect();
                    assert!(slots.len() >= usize::from(at_least).min(endpoints));
                    assert!(
                        found <= usize::from(at_least) + endpoints / usize::from(clients) + 2,
                        "{found}"
                    );
                    for portion in &slice[..found] {
                        totals[usize::from(portion.slot)] += u64::from(portion.weight);
                    }
                }
                assert!(
                    totals.iter().all(|&total| total == totals[0] && total > 0),
                    "{totals:?}"
                );
            });
        }
        assert_eq!(
            with(4, |pool| by_aperture(pool, 3, 3, 1, &mut [Portion::default(); 4])),
            0
        );
        assert_eq!(
            with(4, |pool| by_aperture(pool, 0, 0, 1, &mut [Portion::default(); 4])),
            0
        );
        assert_eq!(
            with(0, |pool| by_aperture(pool, 0, 1, 1, &mut [Portion::default(); 4])),
            0
        );
    }

    #[test]
    fn one_leaving_changes_one() {
        with(50, |pool| {
            let left: Vec<u16> = (0..50).filter(|&slot| slot != 20).collect();
            let fewer = SlicePool {
                candidates: &left,
                ..*pool
            };
            for seed in 0..200 {
                let (mut one, mut two) = ([0; 8], [0; 8]);
                assert_eq!(
                    (
                        by_rendezvous(pool, seed, &mut one),
                        by_rendezvous(&fewer, seed, &mut two)
                    ),
                    (8, 8)
                );
                let changed = one.iter().filter(|slot| !two.contains(slot)).count();
                assert_eq!(changed, usize::from(one.contains(&20)));
            }
            for client in 0..40 {
                let (mut one, mut two) = ([Portion::default(); 16], [Portion::default(); 16]);
                let (before, after) = (
                    by_aperture(pool, client, 40, 8, &mut one),
                    by_aperture(&fewer, client, 40, 8, &mut two),
                );
                let stayed = |portion: &&Portion| two[..after].iter().any(|other| other.slot == portion.slot);
                let changed = before - one[..before].iter().filter(stayed).count();
                assert!(changed <= 2, "{changed}");
            }
        });
    }

    #[test]
    fn takes_all_when_there_are_few() {
        with(3, |pool| {
            let mut all = [9; 5];
            assert_eq!(by_rendezvous(pool, 1, &mut all), 3);
            assert_eq!(by_rendezvous(pool, 1, &mut []), 0);
            let mut two = [9; 2];
            by_rendezvous(pool, 1, &mut two);
            assert_eq!(two, all[..2]);
        });
    }

    /// Endpoints of equal hash are told apart by name.
    #[test]
    fn equal_hashes() {
        with(5, |pool| {
            let same = |_: usize| 7_u64;
            let mut subset = [0; 5];
            assert_eq!(first(pool, &same, &mut subset), 5);
            assert_eq!(subset, [0, 1, 2, 3, 4]);
            assert_eq!(
                [0, 1, 4].map(|n| nth(pool, &same, n)),
                [Some(0), Some(1), Some(4)]
            );
            assert_eq!(next(pool, &same, 4), Some(0));
        });
    }
}
