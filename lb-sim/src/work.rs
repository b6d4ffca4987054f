//! How much work a request is: distributions with mean 1.

use std::fmt;
use std::str::FromStr;

use crate::math;
use crate::names::{Unknown, find};
use crate::random::Source;

/// A distribution of work with mean 1: one unit is what a server of speed 1 does in one mean service time.
///
/// ```
/// use lb_sim::{Source, Work};
/// let mut source = Source::new(1, 0);
/// let work = Work::Bimodal.draw(&mut source);
/// assert!(work == 0.5 || work == 5.5);
/// assert_eq!("heavy-tailed".parse(), Ok(Work::HeavyTailed));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Work {
    /// Always 1.
    Constant,
    /// Exponential: squared coefficient of variation 1.
    #[default]
    Exponential,
    /// 0.5 in 90 % of requests, 5.5 in 10 %: squared coefficient of variation 2.25.
    Bimodal,
    /// Exponential with mean 0.5 in 90 % of requests, 5.5 in 10 %: squared coefficient of variation 5.5.
    Hyperexponential,
    /// Bounded Pareto with exponent 1.5 from 0.344 to 344 (1 : 1000): squared coefficient of variation 9.9. The
    /// largest 1 % of the requests are a fifth of the work.
    HeavyTailed,
    /// Normal with deviation equal to its mean, what is below 0 drawn again: squared coefficient of variation 0.38.
    /// What Prequal's test bed uses (NSDI 2024).
    Normal,
}

const PARETO_EXPONENT: f64 = 1.5;
/// Largest by smallest work.
const PARETO_SPAN: f64 = 1_000.0;
/// phi(1) / Phi(1) of the standard normal distribution.
const MILLS: f64 = 0.287_599_970_939_178_4;

impl Work {
    /// Every distribution.
    pub const ALL: [Self; 6] = [
        Self::Constant,
        Self::Exponential,
        Self::Bimodal,
        Self::Hyperexponential,
        Self::HeavyTailed,
        Self::Normal,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Exponential => "exponential",
            Self::Bimodal => "bimodal",
            Self::Hyperexponential => "hyperexponential",
            Self::HeavyTailed => "heavy-tailed",
            Self::Normal => "normal",
        }
    }

    /// The work of one request.
    pub fn draw(self, source: &mut Source) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Exponential => source.exponential(),
            Self::Bimodal => branch(source),
            Self::Hyperexponential => branch(source) * source.exponential(),
            Self::HeavyTailed => {
                let cut = 1.0 - 1.0 / (PARETO_SPAN * PARETO_SPAN.sqrt());
                pareto_smallest() * math::pow(1.0 - source.uniform() * cut, -1.0 / PARETO_EXPONENT)
            }
            Self::Normal => loop {
                let value = 1.0 + source.normal();
                if value > 0.0 {
                    return value / (1.0 + MILLS);
                }
            },
        }
    }

    /// Mean of the square. The mean is 1, so the squared coefficient of variation is one less.
    #[must_use]
    pub fn second_moment(self) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Exponential => 2.0,
            Self::Bimodal => 3.25,
            Self::Hyperexponential => 6.5,
            Self::HeavyTailed => {
                let (smallest, span) = (pareto_smallest(), PARETO_SPAN.sqrt());
                3.0 * smallest * smallest * (span - 1.0) / (1.0 - 1.0 / (PARETO_SPAN * span))
            }
            Self::Normal => (2.0 + MILLS) / ((1.0 + MILLS) * (1.0 + MILLS)),
        }
    }
}

/// 0.5 nine times in ten, else 5.5.
fn branch(source: &mut Source) -> f64 {
    if source.uniform() < 0.9 { 0.5 } else { 5.5 }
}

/// The smallest work for which the mean is 1: the mean is `3 * smallest * (1 - s^-1/2) / (1 - s^-3/2)`.
fn pareto_smallest() -> f64 {
    let span = PARETO_SPAN.sqrt();
    (1.0 - 1.0 / (PARETO_SPAN * span)) / (3.0 * (1.0 - 1.0 / span))
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Work {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        find("work", name, &Self::ALL, Self::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_what_they_are_said_to_be() {
        for work in Work::ALL {
            let mut source = Source::new(5, 0);
            let n = 2_000_000;
            let (mut sum, mut squares) = (0.0, 0.0);
            for _ in 0..n {
                let value = work.draw(&mut source);
                assert!(value > 0.0);
                sum += value;
                squares += value * value;
            }
            let (mean, square) = (sum / f64::from(n), squares / f64::from(n));
            assert!((mean - 1.0).abs() < 0.01, "{work}: mean {mean}");
            let expected = work.second_moment();
            assert!(
                (square / expected - 1.0).abs() < 0.05,
                "{work}: {square} for {expected}"
            );
        }
    }

    #[test]
    fn the_documented_figures_of_the_heavy_tail() {
        assert!((pareto_smallest() - 0.344).abs() < 0.001);
        assert!((Work::HeavyTailed.second_moment() - 10.9).abs() < 0.1);
    }
}
