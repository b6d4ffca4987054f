//! What became of picks, in numbers.

use super::{PickError, Stuck, TierGroup};

/// Counts of a picker since its start; they saturate. Their number is fixed, whatever is picked from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct PickCounters {
    /// Picks that found an endpoint.
    pub picks: u32,
    /// Of those, from another group than the one drawn, since nobody of that was admitted.
    pub fallbacks: u32,
    /// Of those, from a level in panic.
    pub panics: u32,
    /// Of those, from another zone than the own.
    pub spills: u32,
    /// Hints that were followed.
    pub sticky_hits: u32,
    /// Hints that could not be followed.
    pub sticky_misses: u32,
    /// Picks that found none, by reason, in the order of [`PickError::ALL`].
    pub sheds: [u32; PickError::ALL.len()],
}

fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}

impl PickCounters {
    /// An endpoint was picked from this group of a level, or not for it (`fallback`).
    pub fn picked(&mut self, group: TierGroup, fallback: bool, spilled: bool) {
        count(&mut self.picks);
        if group == TierGroup::All {
            count(&mut self.panics);
        }
        if fallback {
            count(&mut self.fallbacks);
        }
        if spilled {
            count(&mut self.spills);
        }
    }

    /// A hint was followed or not; `None`: it could not be, and nothing was picked.
    pub fn hinted(&mut self, stuck: Option<Stuck>) {
        match stuck {
            Some(Stuck::Hit(_)) => count(&mut self.sticky_hits),
            Some(Stuck::Missed(_)) | None => count(&mut self.sticky_misses),
            Some(Stuck::Free(_)) => {}
        }
    }

    /// Nothing was picked.
    pub fn shed(&mut self, reason: PickError) {
        for (counter, known) in self.sheds.iter_mut().zip(PickError::ALL) {
            if known == reason {
                count(counter);
            }
        }
    }

    /// How often nothing was picked for this reason.
    #[must_use]
    pub fn sheds_for(&self, reason: PickError) -> u32 {
        let mut counters = self.sheds.iter().zip(PickError::ALL);
        counters
            .find(|(_, known)| *known == reason)
            .map_or(0, |(count, _)| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own() {
        let mut counters = PickCounters::default();
        for (times, reason) in PickError::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| counters.shed(reason));
        }
        assert_eq!(counters.sheds, [1, 2, 3, 4, 5]);
        assert_eq!(counters.sheds_for(PickError::TooLate), 5);
        counters.sheds = [u32::MAX; 5];
        counters.shed(PickError::NoMatch);
        assert_eq!(counters.sheds, [u32::MAX; 5]);
    }

    #[test]
    fn picks_count_for_what_they_are() {
        let mut counters = PickCounters::default();
        counters.picked(TierGroup::Healthy, false, false);
        counters.picked(TierGroup::All, true, true);
        for stuck in [
            Some(Stuck::Hit(1)),
            Some(Stuck::Missed(1)),
            None,
            Some(Stuck::Free(1)),
        ] {
            counters.hinted(stuck);
        }
        let PickCounters {
            picks,
            fallbacks,
            panics,
            spills,
            sticky_hits,
            sticky_misses,
            ..
        } = counters;
        assert_eq!((picks, fallbacks, panics, spills), (2, 1, 1, 1));
        assert_eq!((sticky_hits, sticky_misses), (1, 2));
    }
}
