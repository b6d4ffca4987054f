//! Draws: even, and by weight.

use lb_core::rng::{Rng, Sfc32};

use super::{below, kernel};
use crate::input::{slots, weight};
use crate::measure::Contender;

/// One draw, a multiply and a shift, and a look-up in the list of candidates.
#[must_use]
pub fn random(n: usize) -> Contender {
    let (list, mut rng) = (slots(n), Sfc32::new(1));
    kernel(move |_| usize::from(list[below(&mut rng, list.len())]))
}

/// One draw that is both the entry and the position within it, one entry of four bytes, and which of its two
/// endpoints it is.
#[must_use]
pub fn alias(n: usize) -> Contender {
    let (table, mut rng) = (Alias::table(n), Sfc32::new(1));
    kernel(move |_| {
        let drawn = u64::from(rng.next_u32()) * table.len() as u64;
        let (entry, within) = ((drawn >> 32) as usize, (drawn as u32 >> 16) as u16);
        let Alias { share, other } = table[entry];
        if within < share { entry } else { usize::from(other) }
    })
}

/// An entry of Walker's table: up to `share` in 65 536 it is its own endpoint, above another.
#[derive(Clone, Copy, Debug)]
struct Alias {
    share: u16,
    other: u16,
}

impl Alias {
    /// Vose's way to make the table.
    fn table(n: usize) -> Vec<Self> {
        const WHOLE: u64 = 1 << 16;
        let total: u64 = (0..n).map(|slot| u64::from(weight(slot))).sum();
        let mut shares: Vec<u64> = (0..n)
            .map(|slot| u64::from(weight(slot)) * n as u64 * WHOLE / total)
            .collect();
        let mut table: Vec<Self> = slots(n)
            .into_iter()
            .map(|other| Self {
                share: u16::MAX,
                other,
            })
            .collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&slot| shares[slot] < WHOLE);
        while let (Some(few), Some(&many)) = (small.pop(), large.last()) {
            table[few] = Self {
                share: shares[few] as u16,
                other: many as u16,
            };
            shares[many] -= WHOLE - shares[few];
            if shares[many] < WHOLE {
                large.pop();
                small.push(many);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_proportional_to_weights() {
        let mut kernel = alias(3);
        let mut counts = [0_i32; 3];
        for _ in 0..20_000 {
            counts[kernel.run(&[0])] += 1;
        }
        for (slot, share) in [10_000, 4_000, 6_000].into_iter().enumerate() {
            assert!((counts[slot] - share).abs() < 400, "{counts:?}");
        }
    }
}
