//! The endpoint a request was told to go to, as long as it is there.

use super::{Pool, Strategy};
use crate::rng::Rng;

/// What to do when the hint cannot be followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Fallback {
    /// Pick any other; the next hint will be that one.
    #[default]
    Any,
    /// Pick none: only that endpoint has what the request needs.
    None,
}

/// A slot, and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Stuck {
    /// The hint was followed.
    Hit(usize),
    /// It could not be; the strategy picked another one.
    Missed(usize),
    /// There was no hint; the strategy picked.
    Free(usize),
}

impl Stuck {
    /// The slot.
    #[must_use]
    pub const fn slot(self) -> usize {
        match self {
            Self::Hit(slot) | Self::Missed(slot) | Self::Free(slot) => slot,
        }
    }
}

/// The slot of this name, for hints that outlive slots, such as cookies. O(candidates).
#[must_use]
pub fn find<P: Pool + ?Sized>(pool: &P, name: &[u8]) -> Option<usize> {
    pool.slots().find(|&slot| pool.name(slot).as_ref() == name)
}

/// Picks the hinted slot if it is admitted, else what the strategy picks, if the fallback allows. O(1) and the strategy.
///
/// *Source*: gRFC A55, Envoy's override host.
///
/// ```
/// use lb_core::pick::{Fallback, Random, SlicePool, Stuck, find, sticky};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1],
///     admitted: &[0b11],
///     names: &[b"one", b"two"],
///     ..SlicePool::default()
/// };
/// let hint = find(&pool, b"two");
/// assert_eq!(sticky(&mut Random, &pool, hint, Fallback::Any, None, &mut Sfc32::new(1)), Some(Stuck::Hit(1)));
/// let gone = SlicePool { admitted: &[0b01], ..pool };
/// assert_eq!(sticky(&mut Random, &gone, hint, Fallback::Any, None, &mut Sfc32::new(1)), Some(Stuck::Missed(0)));
/// assert_eq!(sticky(&mut Random, &gone, hint, Fallback::None, None, &mut Sfc32::new(1)), None);
/// ```
pub fn sticky<S: Strategy, P: Pool + ?Sized, R: Rng + ?Sized>(
    strategy: &mut S,
    pool: &P,
    hint: Option<usize>,
    fallback: Fallback,
    key: Option<u64>,
    rng: &mut R,
) -> Option<Stuck> {
    match hint {
        Some(slot) if pool.admits(slot) => Some(Stuck::Hit(slot)),
        Some(_) if fallback == Fallback::None => None,
        Some(_) => strategy.pick(pool, key, rng).map(Stuck::Missed),
        None => strategy.pick(pool, key, rng).map(Stuck::Free),
    }
}

#[cfg(test)]
mod tests {
    use super::super::StrategyKind;
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;

    #[test]
    fn around_every_strategy() {
        let mut table = Table::new(5);
        for kind in StrategyKind::ALL {
            table.up.insert(3);
            let (mut strategy, mut rng) = (table.strategy(kind), Sfc32::new(1));
            let mut pick = |table: &Table, hint, fallback| {
                sticky(&mut strategy, table, hint, fallback, Some(9), &mut rng)
            };
            assert_eq!(pick(&table, Some(3), Fallback::None), Some(Stuck::Hit(3)));
            assert!(matches!(pick(&table, None, Fallback::None), Some(Stuck::Free(_))));
            table.up.remove(3);
            assert_eq!(pick(&table, Some(3), Fallback::None), None);
            let missed = pick(&table, Some(3), Fallback::Any).unwrap();
            assert!(matches!(missed, Stuck::Missed(slot) if slot != 3 && slot == missed.slot()));
        }
        assert_eq!(find(&table, b"4"), Some(4));
        assert_eq!(find(&table, b"5"), None);
    }
}
