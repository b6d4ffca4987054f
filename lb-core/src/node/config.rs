//! What a node is told at its start.

use core::fmt;

use crate::health::Timers;
use crate::id::NodeId;
use crate::member::{Addr, Role, Tags};
use crate::time::Duration;

/// How long a peer that failed, left or was never heard stays in the table by default: ten minutes.
pub const FORGET_DEFAULT: Duration = Duration::from_secs(600);

/// A node's identity and settings.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config<const TAGS: usize> {
    pub(super) id: NodeId,
    pub(super) epoch: u32,
    pub(super) role: Role,
    pub(super) addr: Addr,
    pub(super) tags: Tags<TAGS>,
    pub(super) timers: Timers,
    pub(super) forget: Duration,
    pub(super) seed: u64,
}

impl<const TAGS: usize> Config<TAGS> {
    /// A node in this life (its boot number, at least 1), with the default time-outs and no tags.
    ///
    /// Where no boot counter is kept, seconds since some fixed date do: should a node start with an epoch
    /// that its former life had already reached, it learns so from the first answer and takes a higher one.
    #[must_use]
    pub fn new(id: NodeId, epoch: u32, role: Role) -> Self {
        Self {
            id,
            epoch,
            role,
            addr: Addr::NONE,
            tags: Tags::new(),
            timers: Timers::default(),
            forget: FORGET_DEFAULT,
            seed: 0,
        }
    }

    /// Where it listens; without it, others can only answer.
    #[must_use]
    pub const fn addr(mut self, addr: Addr) -> Self {
        self.addr = addr;
        self
    }

    /// Its tags.
    #[must_use]
    pub fn tags(mut self, tags: Tags<TAGS>) -> Self {
        self.tags = tags;
        self
    }

    /// Its time-outs.
    #[must_use]
    pub const fn timers(mut self, timers: Timers) -> Self {
        self.timers = timers;
        self
    }

    /// How long a peer that failed, left or was never heard is kept; at least the `failed` time-out.
    #[must_use]
    pub const fn forget(mut self, forget: Duration) -> Self {
        self.forget = forget;
        self
    }

    /// Seeds heartbeat phases and random picks. The same seed and inputs give the same run; different nodes
    /// should have different seeds.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.epoch == 0 {
            return Err(ConfigError::EpochZero);
        }
        if self.forget < self.timers.failed() {
            return Err(ConfigError::ForgetBelowFailed);
        }
        Ok(())
    }
}

/// Settings that make no sense; the variant names the field to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConfigError {
    /// `epoch` is 0, which stands for "unknown" in messages.
    EpochZero,
    /// `forget` is below the `failed` time-out: peers would vanish before they are reported.
    ForgetBelowFailed,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EpochZero => "`epoch` must be at least 1",
            Self::ForgetBelowFailed => "`forget` must be at least the `failed` time-out",
        })
    }
}

impl core::error::Error for ConfigError {}
