//! Policies that ease newcomers in: slow start around a strategy, driven as its owner would.

use lb_core::load::Ended;
use lb_core::pick::{AnyStrategy, Pool, SlowStart, SlowStarting, Strategy, StrategyKind, Tabled};
use lb_core::rng::Sfc32;
use lb_core::{Duration, Instant};

use crate::policy::{Picker, Policy};
use crate::strategies::{ENOUGH, spared};
use crate::view::View;

/// Servers that may warm up at a time.
const WARMING: usize = 4;
/// Steps in which shares grow over the window. `SlowStarting` asks for a hundred or so; with those, what grows with the
/// fourth root is behind by some hundredths in the beginning, and it is the strategies that are to be measured here.
const STEPS: u64 = 1_000;

/// A strategy by its name, with slow start around it. Without a window it is the strategy alone, but for the way to
/// it, so that with and without are compared alike.
pub(crate) fn eased(kind: StrategyKind, rules: SlowStart) -> Policy {
    let policy = Policy::made(kind.as_str(), move |setup| {
        let slots = setup.speeds.len();
        let memory = vec![0_u32; kind.words(slots)];
        let strategy = AnyStrategy::new(kind, memory, slots, setup.seed).expect(ENOUGH);
        Box::new(Eased {
            strategy: SlowStarting::new(strategy, rules),
            step: Duration::from_micros(rules.window.as_micros() / STEPS),
            due: Instant::ZERO,
            known: Vec::new(),
        })
    });
    spared(kind, policy)
}

struct Eased {
    strategy: SlowStarting<AnyStrategy<Vec<u32>>, WARMING>,
    step: Duration,
    /// When shares are to be brought up to date.
    due: Instant,
    /// The servers there were; empty at first, when all are old.
    known: Vec<usize>,
}

impl Eased {
    fn progress(&mut self, view: &View<'_>) {
        self.strategy.progress(view.now(), view.len());
        self.due = view.now().saturating_add(self.step);
    }
}

impl Picker for Eased {
    fn choose(&mut self, view: &View<'_>, key: Option<u64>, rng: &mut Sfc32) -> Option<usize> {
        if self.strategy.warming() > 0 && view.now() >= self.due {
            self.progress(view);
        }
        self.strategy.pick(view, key, rng)
    }

    fn renew(&mut self, view: &View<'_>) {
        if !self.known.is_empty() {
            for slot in view.slots().filter(|slot| !self.known.contains(slot)) {
                self.strategy.start(slot, view.now());
            }
        }
        self.known = view.slots().collect();
        self.progress(view);
        while !self.strategy.update(view, u32::MAX) {}
    }

    fn ended(&mut self, server: usize, _: Duration, _: Ended) {
        // What is around it does not pass that on.
        Strategy::ended(&mut self.strategy, server);
    }
}
