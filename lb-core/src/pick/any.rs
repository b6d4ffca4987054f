//! A strategy chosen at run time.

use core::{fmt, str::FromStr};

use super::{
    Adaptive, Bias, Bounded, By, Choices, Corrected, Explanation, FirstFit, HotCold, Hybrid, Ketama,
    LeastConnections, Maglev, MemoryTooSmall, Overflow, PeakEwma, Pool, Random, Rendezvous, Ring, RingSize,
    RoundRobin, SmoothWeighted, StaticStride, Strategy, Tabled, WeightedLeast, WeightedRandom,
};
use crate::rng::Rng;

/// Points of a ring, and of ketama, for each slot there is memory for.
const POINTS: usize = 160;
/// Turns of a schedule for each slot there is memory for.
const TURNS: usize = 8;
/// Pools of at most this many slots get the small Maglev table.
const SMALL_POOL: usize = 16;
/// Entries of that: 1.6 % of imbalance at 16 candidates of equal weight.
const SMALL_TABLE: u32 = 1_021;
/// Bound of the bounded strategies, in percent of a fair share.
const BOUND: u16 = 125;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// The names of the strategies.
        ///
        /// ```
        /// use lb_core::pick::StrategyKind;
        /// assert_eq!("least-connections".parse(), Ok(StrategyKind::LeastConnections));
        /// assert_eq!(StrategyKind::default().to_string(), "adaptive");
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        pub enum StrategyKind {
            $($(#[$doc])* $kind,)*
        }

        impl StrategyKind {
            /// Every strategy.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// Its name on the command line and in configuration.
            #[must_use]
            pub const fn as_str(&self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// [`Adaptive`].
    #[default]
    Adaptive = "adaptive",
    /// [`RoundRobin`].
    RoundRobin = "round-robin",
    /// [`Random`].
    Random = "random",
    /// [`SmoothWeighted`].
    SmoothWeighted = "smooth-weighted",
    /// [`StaticStride`].
    StaticStride = "static-stride",
    /// [`WeightedRandom`].
    WeightedRandom = "weighted-random",
    /// [`LeastConnections`].
    LeastConnections = "least-connections",
    /// [`WeightedLeast`] with the default bias.
    WeightedLeast = "weighted-least",
    /// [`Choices`] of two, by our own requests.
    TwoChoices = "two-choices",
    /// [`Choices`] of two, by the reported load.
    TwoReported = "two-reported",
    /// [`Choices`] of two, by the corrected estimate.
    TwoCorrected = "two-corrected",
    /// [`PeakEwma`].
    PeakEwma = "peak-ewma",
    /// [`HotCold`].
    HotCold = "hot-cold",
    /// [`Corrected`].
    Corrected = "corrected",
    /// [`Hybrid`].
    Hybrid = "hybrid",
    /// [`FirstFit`].
    FirstFit = "first-fit",
    /// [`Rendezvous`].
    Rendezvous = "rendezvous",
    /// [`Maglev`].
    Maglev = "maglev",
    /// [`Ring`], with Envoy's points.
    Ring = "ring",
    /// [`Ketama`].
    Ketama = "ketama",
    /// [`Bounded`] [`Rendezvous`], at 125 %.
    BoundedRendezvous = "bounded-rendezvous",
    /// [`Bounded`] [`Maglev`], at 125 %.
    BoundedMaglev = "bounded-maglev",
    /// [`Bounded`] [`Ring`], at 125 %.
    BoundedRing = "bounded-ring",
}

impl StrategyKind {
    /// Whether equal keys go to the same endpoint.
    #[must_use]
    pub const fn is_affine(self) -> bool {
        matches!(
            self,
            Self::Rendezvous
                | Self::Maglev
                | Self::Ring
                | Self::Ketama
                | Self::BoundedRendezvous
                | Self::BoundedMaglev
                | Self::BoundedRing
        )
    }

    /// Whether it picks better if it is [told](Strategy::ended) where requests end; the others need not be.
    #[must_use]
    pub const fn learns_from_ends(self) -> bool {
        matches!(self, Self::Adaptive)
    }

    /// Words of memory that it needs for at most that many slots.
    ///
    /// Maglev's table has 65 537 entries (1021 for at most 16 slots); rings have 160 points for each slot, ketama for
    /// each unit of weight up to the number of slots.
    #[must_use]
    pub const fn words(self, slots: usize) -> usize {
        let slots = at_least_one(slots);
        match self {
            Self::Adaptive => Adaptive::words(slots),
            Self::SmoothWeighted => SmoothWeighted::<()>::words(slots, slots.saturating_mul(TURNS)),
            Self::StaticStride => StaticStride::<()>::words(slots),
            Self::WeightedRandom => WeightedRandom::<()>::words(slots),
            Self::WeightedLeast => WeightedLeast::<()>::words(slots),
            Self::Rendezvous | Self::BoundedRendezvous => Rendezvous::words(slots),
            Self::Maglev | Self::BoundedMaglev => Maglev::words(slots, entries(slots)),
            Self::Ring | Self::BoundedRing => Ring::words(slots, points(slots)),
            Self::Ketama => Ketama::words(slots, slots as u32),
            _ => 0,
        }
    }
}

/// Tables have room for one slot even where there is none.
const fn at_least_one(slots: usize) -> usize {
    if slots == 0 { 1 } else { slots }
}

const fn entries(slots: usize) -> u32 {
    if slots <= SMALL_POOL {
        SMALL_TABLE
    } else {
        Maglev::ENVOY
    }
}

const fn points(slots: usize) -> u32 {
    slots.saturating_mul(POINTS) as u32
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
///
/// Tables are kept in the caller's memory, of [`StrategyKind::words`].
///
/// ```
/// use lb_core::pick::{AnyStrategy, SlicePool, Strategy, StrategyKind, Tabled};
/// use lb_core::rng::Sfc32;
///
/// let kind: StrategyKind = "smooth-weighted".parse()?;
/// let mut strategy = AnyStrategy::new(kind, vec![0; kind.words(8)], 8, 42)?;
/// let pool = SlicePool {
///     candidates: &[0, 1],
///     admitted: &[0b11],
///     weights: &[3, 1],
///     version: 1,
///     ..SlicePool::default()
/// };
/// while !strategy.update(&pool, 64) {}
/// let (mut rng, mut counts) = (Sfc32::new(1), [0; 2]);
/// for _ in 0..400 {
///     counts[strategy.pick(&pool, None, &mut rng).unwrap()] += 1;
/// }
/// assert_eq!(counts, [300, 100]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AnyStrategy<S> {
    kind: StrategyKind,
    any: Any<S>,
}

macro_rules! any {
    ($($name:ident($strategy:ty),)* ; tabled $($tabled:ident($table:ty),)* ; bounded $($bounded:ident($inner:ty),)*) => {
        #[derive(Clone, Debug)]
        enum Any<S> {
            $($name($strategy),)*
            $($tabled($table),)*
            $($bounded(Bounded<$inner>),)*
        }

        impl<S> AnyStrategy<S> {
            /// The same strategy in another kind of memory, which must hold the same words.
            #[must_use]
            pub fn map<T>(self, change: impl FnOnce(S) -> T) -> AnyStrategy<T> {
                let any = match self.any {
                    $(Any::$name(strategy) => Any::$name(strategy),)*
                    $(Any::$tabled(strategy) => Any::$tabled(strategy.map(change)),)*
                    $(Any::$bounded(strategy) => Any::$bounded(strategy.map(|inner| inner.map(change))),)*
                };
                AnyStrategy { kind: self.kind, any }
            }
        }

        impl<S: AsRef<[u32]> + AsMut<[u32]>> Strategy for AnyStrategy<S> {
            fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
                &mut self,
                pool: &P,
                key: Option<u64>,
                rng: &mut R,
            ) -> Option<usize> {
                match &mut self.any {
                    $(Any::$name(strategy) => strategy.pick(pool, key, rng),)*
                    $(Any::$tabled(strategy) => strategy.pick(pool, key, rng),)*
                    $(Any::$bounded(strategy) => strategy.pick(pool, key, rng),)*
                }
            }

            fn ended(&mut self, slot: usize) {
                match &mut self.any {
                    $(Any::$name(strategy) => strategy.ended(slot),)*
                    $(Any::$tabled(strategy) => strategy.ended(slot),)*
                    $(Any::$bounded(strategy) => strategy.ended(slot),)*
                }
            }
        }

        impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for AnyStrategy<S> {
            fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
                match &mut self.any {
                    $(Any::$name(strategy) => strategy.update(pool, budget),)*
                    $(Any::$tabled(strategy) => strategy.update(pool, budget),)*
                    $(Any::$bounded(strategy) => strategy.update(pool, budget),)*
                }
            }
        }
    };
}

any! {
    RoundRobin(RoundRobin),
    Random(Random),
    LeastConnections(LeastConnections),
    Choices(Choices),
    PeakEwma(PeakEwma),
    HotCold(HotCold),
    Corrected(Corrected),
    Hybrid(Hybrid),
    FirstFit(FirstFit),
    ; tabled
    Adaptive(Adaptive<S>),
    SmoothWeighted(SmoothWeighted<S>),
    StaticStride(StaticStride<S>),
    WeightedRandom(WeightedRandom<S>),
    WeightedLeast(WeightedLeast<S>),
    Rendezvous(Rendezvous<S>),
    Maglev(Maglev<S>),
    Ring(Ring<S>),
    Ketama(Ketama<S>),
    ; bounded
    BoundedRendezvous(Rendezvous<S>),
    BoundedMaglev(Maglev<S>),
    BoundedRing(Ring<S>),
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> AnyStrategy<S> {
    /// A fresh strategy of this kind for at most that many slots. The seed should differ between clients: it decides
    /// which of many endpoints [`Adaptive`] keeps to.
    ///
    /// # Errors
    /// [`MemoryTooSmall`] when there is less than [`StrategyKind::words`].
    pub fn new(kind: StrategyKind, memory: S, slots: usize, seed: u64) -> Result<Self, MemoryTooSmall> {
        let slots = at_least_one(slots);
        let needed = kind.words(slots);
        if memory.as_ref().len() < needed {
            return Err(MemoryTooSmall { needed });
        }
        let maglev =
            |memory| Maglev::new(memory, slots, entries(slots)).map_err(|_| MemoryTooSmall { needed });
        let ring = |memory| {
            let size = RingSize::Envoy {
                at_least: points(slots),
                at_most: points(slots),
            };
            Ring::new(memory, slots, size)
        };
        let any = match kind {
            StrategyKind::Adaptive => Any::Adaptive(Adaptive::new(memory, seed)?),
            StrategyKind::RoundRobin => Any::RoundRobin(RoundRobin::default()),
            StrategyKind::Random => Any::Random(Random),
            StrategyKind::SmoothWeighted => Any::SmoothWeighted(SmoothWeighted::new(memory, slots)?),
            StrategyKind::StaticStride => Any::StaticStride(StaticStride::new(memory)?),
            StrategyKind::WeightedRandom => Any::WeightedRandom(WeightedRandom::new(memory)?),
            StrategyKind::LeastConnections => Any::LeastConnections(LeastConnections::default()),
            StrategyKind::WeightedLeast => Any::WeightedLeast(WeightedLeast::new(memory, Bias::default())?),
            StrategyKind::TwoChoices => Any::Choices(Choices::new(2, By::OwnRequests)),
            StrategyKind::TwoReported => Any::Choices(Choices::new(2, By::Reported)),
            StrategyKind::TwoCorrected => Any::Choices(Choices::new(2, By::Corrected)),
            StrategyKind::PeakEwma => Any::PeakEwma(PeakEwma::default()),
            StrategyKind::HotCold => Any::HotCold(HotCold::default()),
            StrategyKind::Corrected => Any::Corrected(Corrected::default()),
            StrategyKind::Hybrid => Any::Hybrid(Hybrid::default()),
            StrategyKind::FirstFit => Any::FirstFit(FirstFit::new()),
            StrategyKind::Rendezvous => Any::Rendezvous(Rendezvous::new(memory, slots)?),
            StrategyKind::Maglev => Any::Maglev(maglev(memory)?),
            StrategyKind::Ring => Any::Ring(ring(memory)?),
            StrategyKind::Ketama => Any::Ketama(Ketama::new(memory, slots)?),
            StrategyKind::BoundedRendezvous => Any::BoundedRendezvous(Bounded::new(
                Rendezvous::new(memory, slots)?,
                BOUND,
                Overflow::Jump,
            )),
            StrategyKind::BoundedMaglev => {
                Any::BoundedMaglev(Bounded::new(maglev(memory)?, BOUND, Overflow::Jump))
            }
            StrategyKind::BoundedRing => {
                Any::BoundedRing(Bounded::new(ring(memory)?, BOUND, Overflow::Forward))
            }
        };
        Ok(Self { kind, any })
    }

    /// A pick, and what there was to choose from; why so, if the strategy knows several ways.
    pub fn explain<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Explanation {
        match &mut self.any {
            Any::Adaptive(strategy) => strategy.explain(pool, rng),
            _ => {
                let picked = self.pick(pool, key, rng);
                Explanation::of(pool, picked)
            }
        }
    }

    /// Which one it is.
    #[must_use]
    pub const fn kind(&self) -> StrategyKind {
        self.kind
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
            error.contains("use one of adaptive, round-robin, random,"),
            "{error}"
        );
    }

    #[test]
    fn every_strategy_tells_what_it_had() {
        let mut table = super::super::pool::tests::Table::new(3);
        table.report(1, 7, 10, 2);
        for kind in StrategyKind::ALL {
            let why = table
                .strategy(kind)
                .explain(&table, Some(5), &mut crate::rng::Sfc32::new(1));
            assert_eq!((why.candidates, why.considered.len()), (3, 3), "{kind}");
            assert!(why.picked.is_some_and(|slot| slot < 3), "{kind}");
            assert_eq!(why.rung.is_some(), kind == StrategyKind::Adaptive);
            let it = why.considered.iter().find(|it| it.slot == 1).unwrap();
            assert_eq!((it.reported, it.estimate), (Some((7, 0)), 7), "{kind}");
        }
    }

    #[test]
    fn its_words_are_just_enough() {
        for kind in StrategyKind::ALL {
            for slots in [0, 1, 2, 16, 17, 100] {
                let words = kind.words(slots);
                let strategy = AnyStrategy::new(kind, std::vec![0; words], slots, 1).unwrap();
                assert_eq!(strategy.kind(), kind);
                if let Some(less) = words.checked_sub(1) {
                    let error = AnyStrategy::new(kind, std::vec![0; less], slots, 1).unwrap_err();
                    assert_eq!(error, MemoryTooSmall { needed: words }, "{kind}");
                }
            }
        }
    }
}
