//! A pool without some of its candidates, for one pick.

use heapless::Vec;

use super::{Load, Pool};

/// A pool of which some candidates are not admitted: tried already, warming up, too slow for a deadline. They remain
/// candidates, so no table is made anew.
///
/// ```
/// use lb_core::pick::{RoundRobin, SlicePool, Strategy, Tried, Without};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool { candidates: &[0, 1, 2], admitted: &[0b111], ..SlicePool::default() };
/// let (mut strategy, mut rng, mut tried) = (RoundRobin::new(), Sfc32::new(1), Tried::<4>::new());
/// for _ in 0..3 {
///     let rest = Without::new(&pool, |slot| tried.contains(slot));
///     let slot = strategy.pick(&rest, None, &mut rng).unwrap();
///     assert!(tried.insert(slot), "another one each time");
/// }
/// assert_eq!(strategy.pick(&Without::new(&pool, |slot| tried.contains(slot)), None, &mut rng), None);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Without<'a, P: ?Sized, F> {
    pool: &'a P,
    excluded: F,
}

impl<'a, P: Pool + ?Sized, F: Fn(usize) -> bool> Without<'a, P, F> {
    /// Without the slots for which this is true.
    pub const fn new(pool: &'a P, excluded: F) -> Self {
        Self { pool, excluded }
    }
}

impl<P: Pool + ?Sized, F: Fn(usize) -> bool> Pool for Without<'_, P, F> {
    fn len(&self) -> usize {
        self.pool.len()
    }

    fn slot(&self, index: usize) -> usize {
        self.pool.slot(index)
    }

    fn slots(&self) -> impl Iterator<Item = usize> {
        self.pool.slots()
    }

    fn admits(&self, slot: usize) -> bool {
        self.pool.admits(slot) && !(self.excluded)(slot)
    }

    fn load(&self, slot: usize) -> Load {
        self.pool.load(slot)
    }

    fn own_in_flight(&self, slot: usize) -> u32 {
        self.pool.own_in_flight(slot)
    }

    fn weight(&self, slot: usize) -> u16 {
        self.pool.weight(slot)
    }

    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        self.pool.name(slot)
    }

    fn version(&self) -> u32 {
        self.pool.version()
    }
}

/// The slots that were tried for one request, at most `N`: as many as there may be attempts. A [`super::SlotSet`] serves as
/// well, in 128 bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tried<const N: usize> {
    slots: Vec<u16, N>,
}

impl<const N: usize> Tried<N> {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// One more; `false` when it is there already, when there are `N`, or when it is no slot. Then nothing changed.
    pub fn insert(&mut self, slot: usize) -> bool {
        let Ok(slot) = u16::try_from(slot) else {
            return false;
        };
        !self.slots.contains(&slot) && self.slots.push(slot).is_ok()
    }

    /// Whether it was tried.
    #[must_use]
    pub fn contains(&self, slot: usize) -> bool {
        self.slots.iter().any(|&tried| usize::from(tried) == slot)
    }

    /// How many were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::super::{SlotSet, Strategy as _, StrategyKind};
    use super::*;
    use crate::rng::Sfc32;

    #[test]
    fn every_strategy_reaches_the_last_one() {
        let table = Table::new(7);
        for kind in StrategyKind::ALL {
            let (mut strategy, mut rng) = (table.strategy(kind), Sfc32::new(1));
            let mut tried = SlotSet::new();
            for left in (0..7).rev() {
                let rest = Without::new(&table, |slot| tried.contains(slot));
                let slot = strategy.pick(&rest, Some(5), &mut rng).unwrap();
                assert!(tried.insert(slot) && tried.len() == 7 - left, "{kind}");
            }
            let rest = Without::new(&table, |slot| tried.contains(slot));
            assert_eq!(
                (rest.len(), strategy.pick(&rest, None, &mut rng)),
                (7, None),
                "{kind}"
            );
        }
    }

    #[test]
    fn a_list_ends() {
        let mut tried = Tried::<2>::new();
        assert!(tried.insert(3) && !tried.insert(3) && !tried.insert(70_000));
        assert!(tried.insert(65_535) && !tried.insert(4));
        assert!(tried.contains(3) && !tried.contains(4) && !tried.contains(usize::MAX));
        assert_eq!(tried.len(), 2);
    }
}
