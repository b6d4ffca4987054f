//! Timing: many short, interleaved rounds, and their medians.

use std::hint::black_box;
use std::time::Duration;

use cpu_time::ThreadTime;

/// Something that picks once for each key it is handed.
pub struct Contender {
    label: String,
    picks: Picks,
}

/// One pick for each key; the sum of the slots.
type Picks = Box<dyn FnMut(&[u64]) -> usize>;

impl std::fmt::Debug for Contender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Contender").field(&self.label).finish()
    }
}

impl Contender {
    /// A contender whose `pick` is compiled into the loop over the keys, as it would be into a caller.
    ///
    /// What it returns passes through [`black_box`], so that no pick is left out: it must be the slot, or depend on
    /// it. So does its state before each pick: nothing stays in a register from one pick to the next, is computed
    /// ahead or for several picks at once, because a program does something else between picks.
    pub fn new(label: impl Into<String>, mut pick: impl FnMut(u64) -> usize + 'static) -> Self {
        let picks = move |keys: &[u64]| {
            keys.iter().fold(0_usize, |sum, &key| {
                let pick = black_box(&mut pick);
                sum.wrapping_add(black_box(pick(key)))
            })
        };
        Self {
            label: label.into(),
            picks: Box::new(picks),
        }
    }

    /// What it is called in the output.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// One pick for each of these keys; the sum of the slots.
    pub fn run(&mut self, keys: &[u64]) -> usize {
        (self.picks)(keys)
    }

    /// Allocations during one pick for each of these keys.
    pub fn allocations(&mut self, keys: &[u64]) -> u64 {
        let counted = allocation_counter::measure(|| {
            black_box(self.run(keys));
        });
        counted.count_total
    }
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Timed rounds of every contender.
    pub rounds: usize,
    /// How long a round should take.
    pub round: Duration,
}

impl Plan {
    /// An eighth of a second for each contender: some minutes altogether.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            rounds: 61,
            round: Duration::from_millis(1),
        }
    }

    /// To see whether everything runs.
    #[must_use]
    pub const fn quick() -> Self {
        Self {
            rounds: 11,
            round: Duration::from_micros(300),
        }
    }
}

/// Nanoseconds per pick of each contender: medians over rounds that take turns, so that whatever else this
/// machine does slows all of them alike.
#[must_use]
pub fn contest(contenders: &mut [Contender], keys: &[u64], plan: Plan) -> Vec<f64> {
    let paces: Vec<Pace> = contenders
        .iter_mut()
        .map(|contender| Pace::find(contender, keys, plan.round))
        .collect();
    let mut figures = vec![Vec::with_capacity(plan.rounds); contenders.len()];
    for round in 0..plan.rounds {
        // Whoever follows another finds the caches as that one left them, so each has an untimed round first; and the
        // order changes.
        for turn in 0..contenders.len() {
            let which = (round + turn) % contenders.len();
            let (contender, pace) = (&mut contenders[which], paces[which]);
            pace.run(contender, keys, round + 1);
            let took = pace.run(contender, keys, round);
            figures[which].push(took.as_nanos() as f64 / pace.picks() as f64);
        }
    }
    figures.iter_mut().map(|figures| median(figures)).collect()
}

/// How many picks make a round.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Keys handed over at a time, and how often.
    chunk: usize,
    chunks: usize,
}

impl Pace {
    const LEAST: usize = 16;

    fn find(contender: &mut Contender, keys: &[u64], round: Duration) -> Self {
        let mut pace = Self {
            chunk: Self::LEAST,
            chunks: 1,
        };
        // What is slow is not run four times too long only to find out.
        while pace.run(contender, keys, pace.chunks) < round / 4 {
            pace = Self::of(pace.picks() * 2, keys.len());
        }
        let took = pace.run(contender, keys, 0).max(Duration::from_nanos(1));
        let picks = round.as_nanos() as f64 / took.as_nanos() as f64 * pace.picks() as f64;
        Self::of(picks as usize, keys.len())
    }

    fn of(picks: usize, keys: usize) -> Self {
        let chunk = picks.clamp(Self::LEAST, keys);
        Self {
            chunk,
            chunks: (picks / chunk).max(1),
        }
    }

    fn picks(self) -> usize {
        self.chunk * self.chunks
    }

    /// Other keys in other rounds, for contenders that are too slow for all of them in one.
    fn run(self, contender: &mut Contender, keys: &[u64], round: usize) -> Duration {
        let start = round * self.chunk % (keys.len() - self.chunk + 1);
        let keys = &keys[start..start + self.chunk];
        // The thread's own time: it does not pass while other processes have the processor.
        let started = ThreadTime::now();
        for _ in 0..self.chunks {
            black_box(contender.run(black_box(keys)));
        }
        started.elapsed()
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_picked_for_once() {
        let mut seen = Contender::new("sum", |key| key as usize);
        assert_eq!(seen.run(&[1, 20, 300]), 321);
    }

    #[test]
    fn allocations_are_counted() {
        let mut frugal = Contender::new("frugal", |key| key as usize);
        let mut wasteful = Contender::new("wasteful", |key| *black_box(Box::new(key as usize)));
        assert_eq!(frugal.allocations(&[1; 100]), 0);
        assert_eq!(wasteful.allocations(&[1; 100]), 100);
    }

    #[test]
    fn the_pace_fits_the_keys() {
        for (picks, keys) in [(1, 2_048), (100, 2_048), (5_000, 2_048), (1 << 22, 2_048)] {
            let pace = Pace::of(picks, keys);
            assert!(pace.chunk <= keys && pace.chunk >= Pace::LEAST && pace.chunks > 0);
        }
    }

    #[test]
    fn a_contest_has_a_figure_for_everyone() {
        let plan = Plan {
            rounds: 3,
            round: Duration::from_micros(20),
        };
        let mut contenders = [
            Contender::new("a", |key| key as usize),
            Contender::new("b", |_| 1),
        ];
        let figures = contest(&mut contenders, &[7; 64], plan);
        assert_eq!(figures.len(), 2);
        assert!(figures.iter().all(|figure| figure.is_finite()));
    }
}
