//! Random numbers: the caller's, or a small generator of our own.

/// A source of random 32-bit words.
///
/// Picks need speed and evenness, not secrecy; never draw keys from it.
pub trait Rng {
    /// The next word, each of its bits fair.
    fn next_u32(&mut self) -> u32;

    /// A number in `0..bound`, without bias; 0 when `bound` is 0.
    ///
    /// Multiply and shift with rejection (Lemire, "Fast random integer generation in an interval",
    /// arXiv 1805.10941). At most eight words are drawn, so that a broken source cannot hang the caller.
    #[inline]
    fn below(&mut self, bound: u32) -> u32 {
        let product = u64::from(self.next_u32()).wrapping_mul(u64::from(bound));
        if (product as u32) < bound {
            return fair(self, bound, product);
        }
        (product >> 32) as u32
    }
}

/// The number of this product, or of others until one is fair; apart, because with small bounds there is hardly
/// ever a doubt.
#[cold]
fn fair<R: Rng + ?Sized>(rng: &mut R, bound: u32, mut product: u64) -> u32 {
    let threshold = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
    for _ in 0..7 {
        if (product as u32) >= threshold {
            break;
        }
        product = u64::from(rng.next_u32()).wrapping_mul(u64::from(bound));
    }
    (product >> 32) as u32
}

impl<R: Rng + ?Sized> Rng for &mut R {
    #[inline]
    fn next_u32(&mut self) -> u32 {
        (**self).next_u32()
    }
}

/// Chris Doty-Humphrey's `sfc32` (PractRand): 128 bits of state, additions and shifts only, so it is cheap
/// on cores without a 64-bit multiplier.
///
/// ```
/// use lb_core::rng::{Rng, Sfc32};
/// let mut a = Sfc32::new(7);
/// let mut b = Sfc32::new(7);
/// assert_eq!(a.next_u32(), b.next_u32());
/// assert!(a.below(3) < 3);
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sfc32 {
    a: u32,
    b: u32,
    c: u32,
    counter: u32,
}

impl Sfc32 {
    /// The generator for this seed. The same seed gives the same words on every machine.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Self {
            a: 0,
            b: seed as u32,
            c: (seed >> 32) as u32,
            counter: 1,
        };
        for _ in 0..12 {
            rng.next_u32();
        }
        rng
    }
}

impl Rng for Sfc32 {
    #[inline]
    fn next_u32(&mut self) -> u32 {
        let out = self.a.wrapping_add(self.b).wrapping_add(self.counter);
        self.counter = self.counter.wrapping_add(1);
        self.a = self.b ^ (self.b >> 9);
        self.b = self.c.wrapping_add(self.c << 3);
        self.c = self.c.rotate_left(21).wrapping_add(out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_even() {
        let mut rng = Sfc32::new(1);
        let mut counts = [0_u32; 7];
        for _ in 0..70_000 {
            counts[rng.below(7) as usize] += 1;
        }
        for count in counts {
            assert!((9_500..=10_500).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn below_survives_a_stuck_source_and_a_zero_bound() {
        struct Stuck;
        impl Rng for Stuck {
            fn next_u32(&mut self) -> u32 {
                0
            }
        }
        assert_eq!(Stuck.below(3), 0);
        assert_eq!(Sfc32::new(3).below(0), 0);
        assert_eq!(Sfc32::new(3).below(1), 0);
    }

    #[test]
    fn seeds_differ() {
        let first: [u32; 4] = core::array::from_fn(|_| Sfc32::new(1).next_u32());
        assert_ne!(first[0], Sfc32::new(2).next_u32());
        assert_ne!(Sfc32::new(1 << 32).next_u32(), Sfc32::new(0).next_u32());
    }
}
