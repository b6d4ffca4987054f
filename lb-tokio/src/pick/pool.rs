//! What a strategy sees: a view, the board, and what this one pick rules out.

use std::cell::Cell;

use lb_core::NodeId;
use lb_core::pick::{Glance, Load, Pool};

use super::board::Board;
use super::view::{Set, View};

/// The time as the picks of one thread see it: read only when a strategy asks, and not for every pick.
///
/// Reading a clock costs more than a pick. While picks follow each other within [`PACE`], most of them take
/// over the moment that one of them read; so what they think of as now has passed by little, or was pushed on
/// by the last input of the board's owner. That makes reports a little younger than they are, for a few picks.
#[derive(Default)]
pub(super) struct Clock {
    /// What this pick saw; 0 until it looked.
    seen: Cell<u64>,
    read: Cell<u64>,
    /// How many more picks may take over what was read.
    left: Cell<u8>,
}

/// The clock was read this long before, at most, if it is not read again, in microseconds.
const PACE: u64 = 1_000;

/// How many picks share a reading.
const SHARED: u8 = 16;

impl Clock {
    /// Another pick begins.
    #[inline]
    pub(super) fn forget(&self) {
        self.seen.set(0);
    }

    /// The next pick must know the time.
    pub(super) fn doubt(&self) {
        self.left.set(0);
    }

    #[inline]
    fn now(&self, board: &Board) -> u64 {
        let seen = self.seen.get();
        if seen > 0 { seen } else { self.look(board) }
    }

    #[cold]
    fn look(&self, board: &Board) -> u64 {
        let (read, left, passed) = (self.read.get(), self.left.get(), board.passed());
        let now = if left > 0 && passed < read.saturating_add(PACE) {
            self.left.set(left - 1);
            read.max(passed)
        } else {
            let now = board.now();
            let brisk = now.saturating_sub(read) < PACE;
            self.left.set(if brisk { SHARED } else { 0 });
            self.read.set(now);
            now
        };
        // The origin itself counts as the first microsecond.
        let now = now.max(1);
        self.seen.set(now);
        now
    }
}

/// One set of a view at this moment.
pub(super) struct Candidates<'a> {
    pub(super) board: &'a Board,
    pub(super) view: &'a View,
    pub(super) set: &'a Set,
    pub(super) exclude: &'a [NodeId],
    pub(super) clock: &'a Clock,
}

impl Candidates<'_> {
    fn is_excluded(&self, slot: usize) -> bool {
        let endpoint = self.view.endpoint(slot);
        endpoint.is_some_and(|endpoint| self.exclude.contains(&endpoint.id()))
    }
}

impl Pool for Candidates<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.set.slots().len()
    }

    #[inline]
    fn slot(&self, index: usize) -> usize {
        let slot = self.set.slots().get(index);
        slot.map_or(usize::MAX, |&slot| usize::from(slot))
    }

    #[inline]
    fn slots(&self) -> impl Iterator<Item = usize> {
        self.set.slots().iter().map(|&slot| usize::from(slot))
    }

    #[inline]
    fn admits(&self, slot: usize) -> bool {
        self.set.contains(slot)
            && (self.exclude.is_empty() || !self.is_excluded(slot))
            && !self.board.is_full(slot, || self.clock.now(self.board))
    }

    // A load has many parts and a strategy reads few: what it does not read need not be made.
    #[inline(always)]
    fn load(&self, slot: usize) -> Load {
        self.board.load(slot, || self.clock.now(self.board))
    }

    #[inline(always)]
    fn glance(&self, slot: usize) -> Glance {
        self.board.glance(slot, || self.clock.now(self.board))
    }

    #[inline]
    fn own_in_flight(&self, slot: usize) -> u32 {
        self.board.own_in_flight(slot)
    }

    #[inline]
    fn weight(&self, slot: usize) -> u16 {
        self.view.weights.get(slot).copied().unwrap_or(1)
    }

    #[inline]
    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        self.view
            .endpoint(slot)
            .map_or(&[][..], |endpoint| endpoint.get_name())
    }

    #[inline]
    fn version(&self) -> u32 {
        self.view.version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::Instant as Moment;
    use std::time::Duration;
    use tokio::time::{Instant, advance};

    #[tokio::test(start_paused = true)]
    async fn brisk_picks_share_a_reading_and_slow_ones_do_not() {
        let board = Board::new(1, Instant::now(), Duration::from_secs(1));
        let clock = Clock::default();
        let pick = || {
            clock.forget();
            clock.now(&board)
        };
        for millis in [10, 20, 30] {
            advance(Duration::from_millis(10)).await;
            assert_eq!(pick(), millis * 1_000, "slow ones read each time");
        }
        advance(Duration::from_micros(900)).await;
        assert_eq!(pick(), 30_900, "read, because only now they are brisk");
        advance(Duration::from_secs(1)).await;
        for _ in 0..SHARED {
            assert_eq!(pick(), 30_900);
        }
        assert_eq!(pick(), 1_030_900);
        advance(Duration::from_micros(500)).await;
        assert_eq!(pick(), 1_031_400);
        advance(Duration::from_secs(1)).await;
        board.pass(Moment::from_micros(1_032_000));
        assert_eq!(pick(), 1_032_000, "pushed on by an input");
        board.pass(Moment::from_micros(2_031_000));
        assert_eq!(pick(), 2_031_400, "an input much later: read again");
        advance(Duration::from_micros(1)).await;
        clock.doubt();
        assert_eq!(pick(), 2_031_401);
    }
}
