//! What a strategy makes of a view ahead of picks, shared by all threads.

use std::sync::Arc;

use lb_core::pick::{AnyStrategy, StrategyKind, Tabled};

use super::board::Board;
use super::pool::{Candidates, Clock};
use super::view::View;

/// The words of a table. Threads share them until one writes: most strategies never do when they pick, and the
/// others keep what they write to themselves.
#[derive(Clone, Debug)]
pub(super) struct Words(Arc<[u32]>);

impl AsRef<[u32]> for Words {
    #[inline]
    fn as_ref(&self) -> &[u32] {
        &self.0
    }
}

impl AsMut<[u32]> for Words {
    fn as_mut(&mut self) -> &mut [u32] {
        Arc::make_mut(&mut self.0)
    }
}

/// A strategy as each thread begins with it.
pub(super) struct Table {
    /// The view's version; of no matter to a strategy without a table.
    made_of: u32,
    strategy: AnyStrategy<Words>,
}

impl Table {
    /// Takes microseconds for most strategies, a few milliseconds for a hash table with 65 537 entries.
    pub(super) fn new(kind: StrategyKind, seed: u64, board: &Board, view: &View) -> Self {
        let candidates = Candidates {
            board,
            view,
            set: &view.candidates,
            exclude: &[],
            clock: &Clock::default(),
        };
        let slots = match kind {
            // It keeps a word by slot, all others by candidate.
            StrategyKind::WeightedLeast => view.candidates.slots().last().map_or(0, |&last| last + 1).into(),
            _ => view.candidates.slots().len(),
        };
        let memory = vec![0; kind.words(slots)];
        let mut strategy = AnyStrategy::new(kind, memory, slots, seed)
            .expect("it has the memory that it says it needs for so many slots");
        while !strategy.update(&candidates, u32::MAX) {}
        Self {
            made_of: view.version,
            strategy: strategy.map(|words| Words(words.into())),
        }
    }

    pub(super) fn is_of(&self, view: &View) -> bool {
        self.made_of == view.version || !has_table(self.strategy.kind())
    }

    pub(super) fn strategy(&self) -> AnyStrategy<Words> {
        self.strategy.clone()
    }
}

fn has_table(kind: StrategyKind) -> bool {
    kind.words(1) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shared_until_somebody_writes() {
        let one = Words(vec![1, 2].into());
        let mut other = one.clone();
        assert!(Arc::ptr_eq(&one.0, &other.0));
        other.as_mut()[0] = 9;
        assert_eq!((one.as_ref(), other.as_ref()), (&[1, 2][..], &[9, 2][..]));
    }
}
