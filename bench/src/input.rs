//! What all contenders are given alike: keys, names, weights, and the requests in flight.

use std::mem;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lb_core::load::LoadFigures;

/// The sizes that are measured unless others are asked for.
pub const SIZES: [usize; 6] = [3, 16, 64, 256, 1_024, 4_096];

/// Requests in flight for each endpoint, on average.
const IN_FLIGHT: usize = 2;

/// The keys of 32 768 requests: more than a branch predictor can learn by heart, and few enough, 256 KB, to leave
/// room in the second-level cache.
#[must_use]
pub fn keys() -> Vec<u64> {
    (0..32_768).map(mix).collect()
}

/// `splitmix64`'s output function: a different well-mixed number for every number.
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The slots of `n` candidates.
#[must_use]
pub fn slots(n: usize) -> Vec<u16> {
    (0..n).map(|slot| slot as u16).collect()
}

/// The weight of an endpoint: unequal, five to one at most, 5.8 on average.
#[must_use]
pub const fn weight(slot: usize) -> u16 {
    [10, 4, 6, 2, 8, 5][slot % 6]
}

/// The address of an endpoint, for crates that know no other name.
#[must_use]
pub fn address(slot: usize) -> SocketAddr {
    let [high, low] = (slot as u16).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), 8_080)
}

/// What the last report of an endpoint says: half busy, ten clients, a few milliseconds.
#[must_use]
pub fn report(slot: usize) -> LoadFigures {
    let drawn = mix(slot as u64);
    LoadFigures {
        in_flight: (drawn % 20) as u16,
        capacity: 10 * weight(slot),
        clients: 10,
        rate_milli: 100_000 + (drawn >> 32) as u32 % 900_000,
        latency_us: latency_us(slot),
        ..LoadFigures::default()
    }
}

/// The latency of an endpoint in microseconds: half to eight milliseconds.
#[must_use]
pub const fn latency_us(slot: usize) -> u32 {
    500 + (mix(slot as u64) >> 16) as u32 % 7_500
}

/// The requests in flight: each new one takes the place of another, which ends.
///
/// Which one ends is drawn with the request's key, so that every request has the same chance to be the next: how
/// long they take varies as it would with independent requests, and costs every contender one addition.
#[derive(Debug)]
pub struct Window<T> {
    entries: Vec<T>,
    at: usize,
}

impl<T> Window<T> {
    /// How many requests are in flight among `n` endpoints.
    #[must_use]
    pub const fn size(n: usize) -> usize {
        (IN_FLIGHT * n).next_power_of_two()
    }

    /// A window full of requests, `begin` having begun each.
    pub fn filled(n: usize, begin: impl FnMut(usize) -> T) -> Self {
        Self {
            entries: (0..Self::size(n)).map(begin).collect(),
            at: 0,
        }
    }

    /// The new request begins; the one that ends comes back.
    pub fn exchange(&mut self, key: u64, begun: T) -> T {
        self.at = self.at.wrapping_add(key as usize) & (self.entries.len() - 1);
        mem::replace(&mut self.entries[self.at], begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_ends_some_time() {
        let mut window = Window::filled(64, |entry| entry);
        for &key in keys().iter().cycle().take(4_096) {
            window.exchange(key, usize::MAX);
        }
        assert!(window.entries.iter().all(|&entry| entry == usize::MAX));
    }

    #[test]
    fn endpoints_are_told_apart() {
        let addresses: std::collections::HashSet<_> = (0..4_096).map(address).collect();
        assert_eq!(addresses.len(), 4_096);
    }
}
