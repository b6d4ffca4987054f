//! Rotations: plain, by a smooth schedule, by strides.

use super::kernel;
use crate::input::{slots, weight};
use crate::measure::Contender;

/// A counter that wraps, and a look-up in the list of candidates.
#[must_use]
pub fn round_robin(n: usize) -> Contender {
    walk(slots(n))
}

/// A counter that wraps, and a look-up in a schedule that was made ahead: one period of nginx's smooth order.
#[must_use]
pub fn smooth(n: usize) -> Contender {
    walk(schedule(n))
}

fn walk(list: Vec<u16>) -> Contender {
    let mut next = 0;
    kernel(move |_| {
        let slot = list[next];
        next += 1;
        if next == list.len() {
            next = 0;
        }
        usize::from(slot)
    })
}

/// One period for the weights of `n` endpoints, as nginx makes it; cut off where it would exceed what a rotation
/// of thousands needs.
fn schedule(n: usize) -> Vec<u16> {
    let weights: Vec<i64> = (0..n).map(|slot| weight(slot).into()).collect();
    let total: i64 = weights.iter().sum();
    let mut current = vec![0; n];
    let period = (total as usize).min(32_768);
    (0..period)
        .map(|_| {
            let mut best = 0;
            for slot in 0..n {
                current[slot] += weights[slot];
                if current[slot] > current[best] {
                    best = slot;
                }
            }
            current[best] -= total;
            best as u16
        })
        .collect()
}

/// Rounds over all candidates, each of which takes part in as many as its weight says, by one multiplication and
/// one comparison; those that do not are tried in vain, 1.7 tries for each pick with these weights.
#[must_use]
pub fn stride(n: usize) -> Contender {
    const MOST: u64 = u16::MAX as u64;
    let heaviest = (0..n).map(weight).max().map_or(1, u64::from);
    let scaled: Vec<u64> = (0..n)
        .map(|slot| u64::from(weight(slot)) * MOST / heaviest)
        .collect();
    let (mut slot, mut round) = (0, 0_u64);
    kernel(move |_| {
        loop {
            let (tried, weight) = (slot, scaled[slot]);
            let phase = (weight * round + tried as u64 * (MOST / 2)) % MOST;
            slot += 1;
            if slot == scaled.len() {
                (slot, round) = (0, round.wrapping_add(1) & 0xffff_ffff);
            }
            if phase >= MOST - weight {
                return tried;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_proportional_and_smooth() {
        let order = schedule(3);
        assert_eq!(order.len(), 20);
        let count = |slot| order.iter().filter(|&&other| other == slot).count();
        assert_eq!([0, 1, 2].map(count), [10, 4, 6]);
        assert!(
            order
                .windows(3)
                .all(|picks| picks[0] != picks[1] || picks[1] != picks[2])
        );
    }

    #[test]
    fn strides_are_proportional() {
        let mut kernel = stride(3);
        let mut counts = [0_i32; 3];
        for _ in 0..20_000 {
            counts[kernel.run(&[0])] += 1;
        }
        for (slot, share) in [10_000, 4_000, 6_000].into_iter().enumerate() {
            assert!((counts[slot] - share).abs() < 5, "{counts:?}");
        }
    }
}
