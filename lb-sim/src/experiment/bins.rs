//! Balls into bins: the fullest of n bins after n balls, each put into the emptiest of d.

use lb_core::pick::By;
use lb_core::rng::Sfc32;
use lb_core::{Duration, Instant};

use super::{Findings, best_of};
use crate::board::Board;
use crate::chart::{Axis, Chart};
use crate::policy::{Policy, Setup};
use crate::random::Source;
use crate::sweep::{Progress, Seeds, parallel};
use crate::table::Table;
use crate::view::{Candidates, Seat, View};

/// The grid.
#[derive(Clone, Debug)]
pub struct Bins {
    /// Numbers of bins, at most 65 535, and of balls.
    pub sizes: Vec<usize>,
    /// With which seeds.
    pub seeds: Seeds,
}

impl Default for Bins {
    fn default() -> Self {
        Self {
            sizes: vec![256, 4_096, 65_535],
            seeds: Seeds { first: 1, count: 40 },
        }
    }
}

/// Balls in the fullest of `size` bins after as many picks.
fn fullest(policy: &Policy, size: usize, seed: u64) -> u32 {
    let candidates = Candidates::all(vec![1; size]);
    let board = Board::new(size, 0.0, Duration::ZERO, 0);
    let mut seats = vec![Seat::default(); size];
    let speeds = vec![1.0; size];
    let mut picker = policy.picker(&Setup {
        speeds: &speeds,
        clients: 1,
        seed,
    });
    let mut rng = Sfc32::new(Source::new(seed, 4).word());
    for ball in 0..size {
        let view = View {
            now: Instant::ZERO,
            client: 0,
            candidates: &candidates,
            seats: &seats,
            measured: &[],
            board: &board,
        };
        if ball == 0 {
            picker.renew(&view);
        }
        if let Some(bin) = picker.choose(&view, None, &mut rng) {
            seats[bin].begin(0);
        }
    }
    seats.iter().map(Seat::own).max().unwrap_or(0)
}

/// Runs the grid and presents it.
#[must_use]
pub fn findings(grid: &Bins, progress: &Progress<'_>) -> Findings {
    let mut cells = Vec::new();
    for d in [1, 2, 3] {
        for &size in &grid.sizes {
            cells.push((d, best_of(d, By::OwnRequests), size));
        }
    }
    let runs: Vec<(&Policy, usize, u64)> = cells
        .iter()
        .flat_map(|(_, policy, size)| {
            (0..u64::from(grid.seeds.count)).map(move |i| (policy, *size, grid.seeds.first.wrapping_add(i)))
        })
        .collect();
    let all = parallel(&runs, progress, |(policy, size, seed)| {
        fullest(policy, *size, *seed)
    });

    let mut table = Table::new(&["choices", "bins", "seeds", "fullest", "least", "most"]);
    let mut chart = Chart {
        title: "The fullest of n bins after n balls".to_owned(),
        subtitle: format!(
            "each ball into the emptiest of d bins at random; mean of {} runs",
            grid.seeds.count
        ),
        x: Axis::log("bins"),
        y: Axis::linear("balls in the fullest"),
        columns: 1,
        panels: Vec::new(),
        dashed: Vec::new(),
    };
    for ((d, _, size), found) in cells.iter().zip(all.chunks((grid.seeds.count as usize).max(1))) {
        let mean = found.iter().sum::<u32>() as f64 / found.len() as f64;
        table.row(vec![
            u64::from(*d).into(),
            (*size).into(),
            u64::from(grid.seeds.count).into(),
            mean.into(),
            u64::from(found.iter().copied().min().unwrap_or(0)).into(),
            u64::from(found.iter().copied().max().unwrap_or(0)).into(),
        ]);
        chart.point("", &format!("d = {d}"), (*size as f64, mean));
    }
    Findings {
        heading: "Balls in the fullest bin, after as many balls as bins, each put into the emptiest of d bins at random."
            .to_owned(),
        table,
        chart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ln n / ln ln n for one choice, ln ln n / ln d and a constant for more; the figures are those of the handbook.
    #[test]
    fn two_choices_are_exponentially_better_than_one() {
        let fullest = |d| -> Vec<u32> {
            (1..=8)
                .map(|seed| fullest(&best_of(d, By::OwnRequests), 65_535, seed))
                .collect()
        };
        assert!(
            fullest(1).iter().all(|most| (7..=10).contains(most)),
            "{:?}",
            fullest(1)
        );
        assert!(
            fullest(2).iter().all(|most| (3..=4).contains(most)),
            "{:?}",
            fullest(2)
        );
        assert!(fullest(3).iter().all(|most| *most == 3), "{:?}", fullest(3));
    }
}
