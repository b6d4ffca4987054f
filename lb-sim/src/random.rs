//! Random numbers of the simulated world: what arrives, when, and how much work it is.

use lb_core::rng::Rng;

use crate::math;

/// xoshiro256++ (Blackman and Vigna, 2018), seeded by SplitMix64.
///
/// A world draws arrivals, work, clients and heartbeats from sources of their own, so that a policy that draws more
/// often meets the same requests as the others: differences between policies are then those of the policies.
///
/// ```
/// use lb_sim::Source;
/// let (mut a, mut b) = (Source::new(7, 0), Source::new(7, 0));
/// assert_eq!(a.exponential(), b.exponential());
/// assert_ne!(a.uniform(), Source::new(7, 1).uniform(), "another stream");
/// ```
#[derive(Clone, Debug)]
pub struct Source {
    state: [u64; 4],
}

impl Source {
    /// The source number `stream` of this seed.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut z = seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self {
            state: std::array::from_fn(|_| {
                z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
                mix(z)
            }),
        }
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.state;
        let out = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let t = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= t;
        *d = d.rotate_left(45);
        out
    }

    /// A number in `0 <= x < 1`, 53 bits fine.
    pub fn uniform(&mut self) -> f64 {
        (self.word() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// Exponentially distributed with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -math::ln(1.0 - self.uniform())
    }

    /// Normally distributed with mean 0 and deviation 1 (Marsaglia's polar method).
    pub fn normal(&mut self) -> f64 {
        loop {
            let (u, v) = (2.0 * self.uniform() - 1.0, 2.0 * self.uniform() - 1.0);
            let s = u * u + v * v;
            if s > 0.0 && s < 1.0 {
                return u * (-2.0 * math::ln(s) / s).sqrt();
            }
        }
    }
}

impl Rng for Source {
    fn next_u32(&mut self) -> u32 {
        (self.word() >> 32) as u32
    }
}

/// SplitMix64's mixing function: every bit of the result depends on every bit of `z`.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_right() {
        let mut source = Source::new(3, 0);
        let n = 400_000;
        let mut sums = [0.0; 6];
        for _ in 0..n {
            let (u, e, g) = (source.uniform(), source.exponential(), source.normal());
            for (sum, value) in sums.iter_mut().zip([u, u * u, e, e * e, g, g * g]) {
                *sum += value;
            }
        }
        let expected = [0.5, 1.0 / 3.0, 1.0, 2.0, 0.0, 1.0];
        for (sum, expected) in sums.iter().zip(expected) {
            assert!((sum / f64::from(n) - expected).abs() < 0.015, "{sums:?}");
        }
    }
}
