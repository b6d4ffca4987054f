//! How much of the requests each group of candidates gets.

use heapless::Vec;

use crate::rng::Rng;

/// The sum of all shares: they are in hundredths of a percent.
pub const SHARES_WHOLE: u16 = 10_000;

/// The shares of at most `N` groups, such as zones. They sum to [`SHARES_WHOLE`] exactly, or are all 0; a
/// group of weight 0 gets nothing.
///
/// Made when the membership changes, in O(groups); a group is drawn per pick, without bias, in O(groups) comparisons.
///
/// ```
/// use lb_core::pick::Shares;
/// use lb_core::rng::Sfc32;
///
/// let shares: Shares<4> = Shares::proportional(&[3, 7, 0, 6]);
/// assert_eq!(shares.iter().collect::<Vec<_>>(), [1_875, 4_375, 0, 3_750]);
/// assert_ne!(shares.draw(&mut Sfc32::new(1)), Some(2));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Shares<const N: usize> {
    /// Where each share ends, the first beginning at 0.
    ends: Vec<u16, N>,
}

impl<const N: usize> Shares<N> {
    /// In proportion to weights; those past the `N`-th get nothing.
    #[must_use]
    pub fn proportional(weights: &[u32]) -> Self {
        Self::spread(weights.iter().map(|&weight| weight.into()))
    }

    /// The same of wider weights.
    pub(super) fn spread(weights: impl Iterator<Item = u64> + Clone) -> Self {
        let mut shares = [0; N];
        spread(SHARES_WHOLE, weights.clone(), &mut shares);
        Self::of(&shares, weights.count())
    }

    /// These shares, the first `count` of them.
    pub(super) fn of(shares: &[u16; N], count: usize) -> Self {
        let ends = shares.iter().take(count).scan(0_u16, |end, &share| {
            *end = end.saturating_add(share);
            Some(*end)
        });
        Self { ends: ends.collect() }
    }

    /// A group's share; 0 when there is no such group.
    #[must_use]
    pub fn share(&self, group: usize) -> u16 {
        let end = self.ends.get(group).copied().unwrap_or(0);
        let before = group.checked_sub(1).and_then(|group| self.ends.get(group));
        end.saturating_sub(before.copied().unwrap_or(0))
    }

    /// The shares.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        (0..self.ends.len()).map(|group| self.share(group))
    }

    /// How many groups there are, empty ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether no group gets anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.last().copied().unwrap_or(0) == 0
    }

    /// A group, with the probability of its share; `None` when none gets anything.
    pub fn draw<R: Rng + ?Sized>(&self, rng: &mut R) -> Option<usize> {
        let last = self.ends.last().copied()?;
        let point = rng.below(last.into());
        self.ends.iter().position(|&end| point < u32::from(end))
    }

    /// All groups: one that is drawn, and then, for when nobody of it is admitted, the others in their order.
    pub fn order<R: Rng + ?Sized>(&self, rng: &mut R) -> impl Iterator<Item = usize> + use<R, N> {
        let drawn = self.draw(rng);
        let others = (0..self.ends.len()).filter(move |&group| Some(group) != drawn);
        drawn.into_iter().chain(others)
    }
}

/// Spreads `total` in proportion to weights, exactly: each gets what the rounded sum up to it is above that before it.
pub(super) fn spread(total: u16, weights: impl Iterator<Item = u64> + Clone, shares: &mut [u16]) {
    let weights = weights.take(shares.len());
    let sum = weights.clone().fold(0, u64::saturating_add);
    // So that the sum times `total` fits 32 bits; 16 bits of proportion are left.
    let shift = 48_u32.saturating_sub(sum.leading_zeros());
    let part = |weight: u64| (weight >> shift) as u32;
    let whole = weights.clone().map(part).fold(0, u32::saturating_add);
    let (mut sum, mut before) = (0_u32, 0_u32);
    for (share, weight) in shares.iter_mut().zip(weights) {
        sum = sum.saturating_add(part(weight));
        let end = sum.saturating_mul(total.into()).checked_div(whole).unwrap_or(0);
        *share = end.saturating_sub(before) as u16;
        before = end;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Sfc32;

    #[test]
    fn draws_follow_the_shares() {
        let shares: Shares<4> = Shares::proportional(&[1, 0, 2, 7]);
        let (mut rng, mut counts) = (Sfc32::new(5), [0_u32; 4]);
        for _ in 0..100_000 {
            counts[shares.draw(&mut rng).unwrap()] += 1;
        }
        assert_eq!(counts[1], 0);
        for (count, share) in counts.into_iter().zip(shares.iter()) {
            assert!(
                count.abs_diff(u32::from(share) * 10) < 600,
                "{count}, not {share}"
            );
        }
    }

    #[test]
    fn the_others_come_after_the_one_drawn() {
        let shares: Shares<4> = Shares::proportional(&[0, 0, 5]);
        let order: std::vec::Vec<_> = shares.order(&mut Sfc32::new(1)).collect();
        assert_eq!(order, [2, 0, 1]);
        let shares: Shares<4> = Shares::proportional(&[0, 0]);
        let order: std::vec::Vec<_> = shares.order(&mut Sfc32::new(1)).collect();
        assert_eq!(order, [0, 1]);
    }

    #[test]
    fn nothing_is_drawn_from_nothing() {
        for weights in [&[][..], &[0, 0]] {
            let shares: Shares<4> = Shares::proportional(weights);
            assert!(shares.is_empty());
            assert_eq!(shares.draw(&mut Sfc32::new(1)), None);
        }
        let shares: Shares<2> = Shares::proportional(&[1, 1, 8]);
        assert_eq!((shares.len(), shares.share(0), shares.share(2)), (2, 5_000, 0));
    }

    proptest! {
        #[test]
        fn shares_sum_exactly_and_are_proportional(weights in prop::collection::vec(prop_oneof![any::<u32>(), 0..9_u32], 0..12)) {
            let shares: Shares<12> = Shares::proportional(&weights);
            let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let whole: u32 = shares.iter().map(u32::from).sum();
            prop_assert_eq!(whole, if sum > 0.0 { 10_000 } else { 0 });
            for (share, weight) in shares.iter().zip(weights) {
                let wanted = if sum > 0.0 { f64::from(weight) / sum * 10_000.0 } else { 0.0 };
                prop_assert!((f64::from(share) - wanted).abs() < 3.0, "{}, not {}", share, wanted);
                prop_assert!(weight > 0 || share == 0);
            }
        }
    }
}
