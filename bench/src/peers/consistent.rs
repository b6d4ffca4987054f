//! Crates that keep equal keys together: tables, rings, rendezvous hashing, and two that need no names.

use std::hash::RandomState;

use anchorhash::AnchorHash;
use hashring::HashRing;
use jumphash::JumpHasher;
use maglev::{ConsistentHasher, Maglev};
use maglev_hash::MaglevTable;
use pingora_ketama::{Bucket, Continuum};
use rendezvous_hash::{DefaultNodeHasher, IdNode, RendezvousNodes};

use super::peer;
use crate::input::{address, mix};
use crate::measure::Contender;

/// Entries of a Maglev table, or the next prime.
const TABLE: usize = 65_537;

/// Points for each server on a ring.
const POINTS: usize = 160;

fn names(n: usize) -> impl Iterator<Item = u64> {
    (0..n).map(|slot| mix(slot as u64))
}

/// A table of 65 537 entries, made from the whole permutation of every server: half a megabyte each.
#[must_use]
pub fn maglev(n: usize) -> Contender {
    let table: Maglev<u64> = Maglev::with_capacity(names(n), TABLE);
    peer("maglev", "", move |key| {
        *table.get(&key).expect("not empty") as usize
    })
}

/// A table of 65 537 entries.
#[must_use]
pub fn maglev_hash(n: usize) -> Contender {
    let table = MaglevTable::with_capacity(names(n).collect(), TABLE);
    peer("maglev-hash", "", move |key| {
        *table.get(&key).expect("not empty") as usize
    })
}

/// Steps through removed buckets, of which there are none.
#[must_use]
pub fn anchor(n: usize) -> Contender {
    let table: AnchorHash<u64, u64, RandomState> = names(n).collect();
    peer("anchorhash", "", move |key| {
        *table.get_resource(key).expect("not empty") as usize
    })
}

/// Jumps over ever larger numbers of buckets.
#[must_use]
pub fn jump(n: usize) -> Contender {
    let (hasher, count) = (JumpHasher::new_with_keys(1, 2), n as u32);
    peer("jumphash", "", move |key| hasher.slot(&key, count) as usize)
}

/// The order of all servers for a key, of which the first is taken.
#[must_use]
pub fn rendezvous(n: usize) -> Contender {
    let mut nodes = RendezvousNodes::new(DefaultNodeHasher::new());
    nodes.extend(names(n).map(IdNode::new));
    peer("rendezvous_hash", "", move |key| {
        let first = nodes.calc_candidates(&key).next();
        **first.expect("not empty") as usize
    })
}

/// A ring of 160 points for each server, which it knows as so many nodes, as its documentation has it.
#[must_use]
pub fn hashring(n: usize) -> Contender {
    let mut ring = HashRing::new();
    let nodes = names(n).flat_map(|name| (0..POINTS).map(move |point| (name, point)));
    ring.batch_add(nodes.collect());
    peer("hashring", "", move |key| {
        ring.get(&key).expect("not empty").0 as usize
    })
}

/// A ring of 160 points for each server; they are inserted one by one, in quadratic time.
#[must_use]
pub fn consistent_hash_ring(n: usize) -> Contender {
    let ring = consistent_hash_ring::RingBuilder::default()
        .vnodes(POINTS)
        .nodes_iter(names(n))
        .build();
    peer("consistent_hash_ring", "", move |key| *ring.get(key) as usize)
}

/// A ring of 160 points for each server, in a tree.
#[must_use]
pub fn hash_rings(n: usize) -> Contender {
    // The ring borrows its names, so they must outlive every contender.
    let names: &'static [u64] = Box::leak(names(n).collect());
    let mut ring = hash_rings::consistent::Ring::new();
    for name in names {
        ring.insert_node(name, POINTS);
    }
    peer("hash-rings", "consistent", move |key| {
        *ring.get_node(&key) as usize
    })
}

/// nginx's ring, 160 points for each server.
#[must_use]
pub fn ketama(n: usize) -> Contender {
    let buckets: Vec<Bucket> = (0..n).map(|slot| Bucket::new(address(slot), 1)).collect();
    let ring = Continuum::new(&buckets);
    peer("pingora-ketama", "Continuum", move |key| {
        let server = ring.node(&key.to_le_bytes()).expect("the ring is not empty");
        usize::from(server.port())
    })
}
