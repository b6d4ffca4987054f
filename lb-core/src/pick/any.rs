//! A strategy chosen at run time.

use core::{fmt, str::FromStr};

use super::{Corrected, Hybrid, LeastConnections, Pool, Random, RoundRobin, Strategy};
use crate::rng::Rng;

/// The names of the strategies.
///
/// ```
/// use lb_core::pick::StrategyKind;
/// assert_eq!("least-connections".parse(), Ok(StrategyKind::LeastConnections));
/// assert_eq!(StrategyKind::default().to_string(), "corrected");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum StrategyKind {
    /// [`RoundRobin`].
    RoundRobin,
    /// [`Random`].
    Random,
    /// [`LeastConnections`].
    LeastConnections,
    /// [`Hybrid`].
    Hybrid,
    /// [`Corrected`].
    #[default]
    Corrected,
}

impl StrategyKind {
    /// Every strategy.
    pub const ALL: [Self; 5] = [
        Self::RoundRobin,
        Self::Random,
        Self::LeastConnections,
        Self::Hybrid,
        Self::Corrected,
    ];

    /// Its name on the command line and in configuration.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::LeastConnections => "least-connections",
            Self::Hybrid => "hybrid",
            Self::Corrected => "corrected",
        }
    }
}

impl fmt::Display for StrategyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for StrategyKind {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or(UnknownStrategy)
    }
}

/// No strategy has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct UnknownStrategy;

impl fmt::Display for UnknownStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown strategy; use one of")?;
        for (index, kind) in StrategyKind::ALL.iter().enumerate() {
            f.write_str(if index == 0 { " " } else { ", " })?;
            f.write_str(kind.as_str())?;
        }
        Ok(())
    }
}

impl core::error::Error for UnknownStrategy {}

/// A strategy whose kind is known only at run time. Costs one match per pick.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum AnyStrategy {
    /// [`RoundRobin`].
    RoundRobin(RoundRobin),
    /// [`Random`].
    Random(Random),
    /// [`LeastConnections`].
    LeastConnections(LeastConnections),
    /// [`Hybrid`].
    Hybrid(Hybrid),
    /// [`Corrected`].
    Corrected(Corrected),
}

impl AnyStrategy {
    /// A fresh strategy of this kind.
    #[must_use]
    pub fn new(kind: StrategyKind) -> Self {
        match kind {
            StrategyKind::RoundRobin => Self::RoundRobin(RoundRobin::default()),
            StrategyKind::Random => Self::Random(Random),
            StrategyKind::LeastConnections => Self::LeastConnections(LeastConnections::default()),
            StrategyKind::Hybrid => Self::Hybrid(Hybrid::default()),
            StrategyKind::Corrected => Self::Corrected(Corrected::default()),
        }
    }
}

impl Strategy for AnyStrategy {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(strategy) => strategy.pick(pool, key, rng),
            Self::Random(strategy) => strategy.pick(pool, key, rng),
            Self::LeastConnections(strategy) => strategy.pick(pool, key, rng),
            Self::Hybrid(strategy) => strategy.pick(pool, key, rng),
            Self::Corrected(strategy) => strategy.pick(pool, key, rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_the_error_lists_them() {
        for kind in StrategyKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        let error = "best".parse::<StrategyKind>().unwrap_err().to_string();
        assert!(
            error.contains("round-robin, random, least-connections, hybrid, corrected"),
            "{error}"
        );
    }
}
