//! The hybrid score: 70 % load, 30 % work done.
//!
//! ```text
//! load(i)  = 1000 * in_flight(i) / capacity(i)          thousandths, at most 1000; capacity 0 counts as 1
//! work(i)  = 1000 * rate(i) / max over all j of rate(j) thousandths; 0 when nobody works
//! score(i) = (load_percent * load(i) + work_percent * work(i)) / 100
//! ```
//!
//! The lowest score wins. Both terms have the same unit and range, and the work term decays with
//! [`RATE_WINDOW`](super::RATE_WINDOW), so a restarted node does not attract everything until it has
//! caught up. It suits slow decisions (who coordinates); for picks, prefer the corrected estimate.

use core::fmt;

use super::report::LoadFigures;

/// The highest (worst) score.
pub const SCORE_MAX: u32 = 1_000;

/// Weights of the hybrid score, in percent.
///
/// ```
/// use lb_core::load::{HybridWeights, LoadFigures};
/// let weights = HybridWeights::default();
/// let busy = LoadFigures { in_flight: 5, capacity: 10, rate_milli: 2_000, ..LoadFigures::default() };
/// // 70 % of 500 and 30 % of 1000
/// assert_eq!(weights.score(&busy, 2_000), 650);
/// assert!(HybridWeights::new(70, 40).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct HybridWeights {
    load_percent: u8,
    work_percent: u8,
}

impl Default for HybridWeights {
    /// 70 % load, 30 % work done.
    fn default() -> Self {
        Self {
            load_percent: 70,
            work_percent: 30,
        }
    }
}

impl HybridWeights {
    /// Weights in percent, which must sum to 100.
    ///
    /// # Errors
    /// [`WeightsError`] when they do not.
    pub const fn new(load_percent: u8, work_percent: u8) -> Result<Self, WeightsError> {
        match load_percent.checked_add(work_percent) {
            Some(100) => Ok(Self {
                load_percent,
                work_percent,
            }),
            _ => Err(WeightsError {
                load_percent,
                work_percent,
            }),
        }
    }

    /// The score of a report among nodes of which the busiest answers `max_rate_milli`; 0..=[`SCORE_MAX`].
    #[must_use]
    pub fn score(&self, report: &LoadFigures, max_rate_milli: u32) -> u32 {
        let load = per_mille(u32::from(report.in_flight), u32::from(report.capacity));
        let work = if max_rate_milli == 0 {
            0
        } else {
            per_mille(report.rate_milli, max_rate_milli)
        };
        let weighted = load
            .saturating_mul(u32::from(self.load_percent))
            .saturating_add(work.saturating_mul(u32::from(self.work_percent)));
        weighted.saturating_add(50) / 100
    }
}

/// `1000 * part / whole`, at most 1000, in 32-bit arithmetic.
pub(super) fn per_mille(part: u32, whole: u32) -> u32 {
    // At most 22 bits each: the product fits 32 bits and the ratio keeps 21.
    let bits = 32_u32.saturating_sub(part.max(whole).leading_zeros());
    let shift = bits.saturating_sub(22);
    let (part, whole) = (part >> shift, (whole >> shift).max(1));
    part.saturating_mul(SCORE_MAX)
        .checked_div(whole)
        .unwrap_or(SCORE_MAX)
        .min(SCORE_MAX)
}

/// Weights that do not sum to 100 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WeightsError {
    /// The load weight given.
    pub load_percent: u8,
    /// The work weight given.
    pub work_percent: u8,
}

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "hybrid weights {} % load and {} % work must sum to 100 %",
            self.load_percent, self.work_percent
        )
    }
}

impl core::error::Error for WeightsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(in_flight: u16, capacity: u16, rate_milli: u32) -> LoadFigures {
        LoadFigures {
            in_flight,
            capacity,
            rate_milli,
            ..LoadFigures::default()
        }
    }

    #[test]
    fn both_terms_have_the_same_unit() {
        let weights = HybridWeights::default();
        assert_eq!(weights.score(&report(0, 10, 0), 0), 0);
        assert_eq!(weights.score(&report(10, 10, 7), 7), SCORE_MAX);
        assert_eq!(weights.score(&report(10, 10, 0), 7), 700);
        assert_eq!(weights.score(&report(0, 10, 7), 7), 300);
    }

    #[test]
    fn edges_stay_in_range() {
        let weights = HybridWeights::default();
        assert_eq!(weights.score(&report(u16::MAX, 1, u32::MAX), 1), SCORE_MAX);
        assert_eq!(weights.score(&report(3, 0, 0), 0), 700);
        assert_eq!(weights.score(&report(0, 0, u32::MAX), u32::MAX), 300);
    }

    #[test]
    fn per_mille_is_close_at_every_size() {
        for whole in [1_u32, 3, 1_000, 4_194_303, 4_194_304, 1_000_000_007, u32::MAX] {
            for part in [0, 1, whole / 3, whole / 2, whole] {
                let exact = u64::from(part) * 1_000 / u64::from(whole);
                let got = u64::from(per_mille(part, whole));
                assert!(got.abs_diff(exact) <= 1, "{part}/{whole}: {got}, exactly {exact}");
            }
        }
    }

    #[test]
    fn weights_must_sum_to_100() {
        assert!(HybridWeights::new(100, 0).is_ok());
        assert_eq!(
            HybridWeights::new(200, 100),
            Err(WeightsError {
                load_percent: 200,
                work_percent: 100
            })
        );
    }
}
