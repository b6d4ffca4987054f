//! The time-outs of the detector and of the load cache, and what makes sense together.

use core::fmt;

use crate::time::Duration;

/// Time-outs, each measured from the last thing heard of a peer.
///
/// The defaults are the contract most users start from: heartbeat 5 s, time to live 10 s, stale 15 s,
/// failed 20 s. A load entry must survive a lost heartbeat, so `ttl` is at least the heartbeat, and two of
/// them is better.
///
/// ```
/// use lb_core::Duration;
/// use lb_core::health::{Timers, TimersError};
///
/// let timers = Timers::default();
/// assert_eq!(timers.heartbeat(), Duration::from_secs(5));
/// let quick = Timers::scaled(Duration::from_millis(200))?;
/// assert_eq!(quick.failed(), Duration::from_millis(800));
///
/// let s = Duration::from_secs;
/// assert_eq!(Timers::new(s(5), s(4), s(15), s(20)), Err(TimersError::TtlBelowHeartbeat));
/// # Ok::<(), TimersError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Timers {
    heartbeat: Duration,
    ttl: Duration,
    stale: Duration,
    failed: Duration,
}

/// The shortest heartbeat accepted.
pub const HEARTBEAT_MIN: Duration = Duration::from_millis(1);
/// The longest time-out accepted (a day); keeps every deadline far from saturation.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);

impl Default for Timers {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(5),
            ttl: Duration::from_secs(10),
            stale: Duration::from_secs(15),
            failed: Duration::from_secs(20),
        }
    }
}

impl Timers {
    /// Checked time-outs: `heartbeat <= ttl <= stale < failed`, heartbeat at least 1 ms, failed at most a day.
    ///
    /// # Errors
    /// [`TimersError`] naming the field that is wrong.
    pub const fn new(
        heartbeat: Duration,
        ttl: Duration,
        stale: Duration,
        failed: Duration,
    ) -> Result<Self, TimersError> {
        if heartbeat.as_micros() < HEARTBEAT_MIN.as_micros() {
            return Err(TimersError::HeartbeatTooShort);
        }
        if ttl.as_micros() < heartbeat.as_micros() {
            return Err(TimersError::TtlBelowHeartbeat);
        }
        if stale.as_micros() < ttl.as_micros() {
            return Err(TimersError::StaleBelowTtl);
        }
        if failed.as_micros() <= stale.as_micros() {
            return Err(TimersError::FailedNotAboveStale);
        }
        if failed.as_micros() > TIMEOUT_MAX.as_micros() {
            return Err(TimersError::FailedTooLong);
        }
        Ok(Self {
            heartbeat,
            ttl,
            stale,
            failed,
        })
    }

    /// The default proportions (1 : 2 : 3 : 4) for another heartbeat.
    ///
    /// # Errors
    /// As [`Timers::new`].
    pub const fn scaled(heartbeat: Duration) -> Result<Self, TimersError> {
        Self::new(
            heartbeat,
            heartbeat.saturating_mul(2),
            heartbeat.saturating_mul(3),
            heartbeat.saturating_mul(4),
        )
    }

    /// Time between two heartbeats to the same peer.
    #[must_use]
    pub const fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// How old a load sample may be to be used for picking.
    #[must_use]
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Silence after which a peer is suspected and its load called stale.
    #[must_use]
    pub const fn stale(&self) -> Duration {
        self.stale
    }

    /// Silence after which a peer is declared failed.
    #[must_use]
    pub const fn failed(&self) -> Duration {
        self.failed
    }
}

/// Time-outs that make no sense together; the variant names the field to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TimersError {
    /// `heartbeat` is zero or below 1 ms.
    HeartbeatTooShort,
    /// `ttl` is below `heartbeat`: every entry would expire before it can be refreshed.
    TtlBelowHeartbeat,
    /// `stale` is below `ttl`: an entry would be stale while it is still used.
    StaleBelowTtl,
    /// `failed` is not above `stale`: a peer would fail before it is suspected.
    FailedNotAboveStale,
    /// `failed` is above a day.
    FailedTooLong,
}

impl TimersError {
    /// The name of the field to change.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::HeartbeatTooShort => "heartbeat",
            Self::TtlBelowHeartbeat => "ttl",
            Self::StaleBelowTtl => "stale",
            Self::FailedNotAboveStale | Self::FailedTooLong => "failed",
        }
    }
}

impl fmt::Display for TimersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HeartbeatTooShort => "timer `heartbeat` must be at least 1 ms",
            Self::TtlBelowHeartbeat => "timer `ttl` must be at least the heartbeat (twice is better)",
            Self::StaleBelowTtl => "timer `stale` must be at least `ttl`",
            Self::FailedNotAboveStale => "timer `failed` must be above `stale`",
            Self::FailedTooLong => "timer `failed` must be at most one day",
        })
    }
}

impl core::error::Error for TimersError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_nonsense_and_names_the_field() {
        let s = Duration::from_secs;
        let field = |heartbeat, ttl, stale, failed| {
            Timers::new(heartbeat, ttl, stale, failed).map_err(|error| error.field())
        };
        assert_eq!(field(s(0), s(10), s(15), s(20)), Err("heartbeat"));
        assert_eq!(field(s(5), s(4), s(15), s(20)), Err("ttl"));
        assert_eq!(field(s(5), s(0), s(0), s(0)), Err("ttl"));
        assert_eq!(field(s(5), s(10), s(9), s(20)), Err("stale"));
        assert_eq!(field(s(5), s(10), s(15), s(14)), Err("failed"));
        assert_eq!(field(s(5), s(10), s(15), s(15)), Err("failed"));
        assert_eq!(field(s(5), s(10), s(15), s(86_401)), Err("failed"));
    }

    #[test]
    fn the_edges_are_accepted() {
        let ms = Duration::from_millis;
        assert!(Timers::new(ms(1), ms(1), ms(1), ms(2)).is_ok());
        assert!(Timers::new(ms(1), ms(1), ms(1), TIMEOUT_MAX).is_ok());
        assert_eq!(Timers::scaled(Duration::from_secs(5)), Ok(Timers::default()));
    }
}
