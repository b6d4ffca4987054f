//! What an edge is told at its start.

use core::fmt;

use crate::NodeId;
use crate::health::Timers;
use crate::member::Tags;
use crate::wire::seal::DeviceKey;

/// The shortest datagram an edge can work with, in bytes: a sealed `Join` with short tags, and an acknowledgement
/// that recommends a few servers.
pub const DATAGRAM_BYTES_MIN: u16 = 256;

/// The longest datagram an edge uses unless configured: fits the smallest MTU of IPv6 and most tunnels.
pub const DATAGRAM_BYTES_DEFAULT: u16 = 1_200;

/// An edge's identity and settings.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config<const TAGS: usize> {
    pub(super) newest: DeviceKey,
    pub(super) older: Option<DeviceKey>,
    pub(super) life: u32,
    pub(super) epoch: u32,
    pub(super) tags: Tags<TAGS>,
    pub(super) timers: Timers,
    pub(super) datagram: u16,
    pub(super) seed: u64,
    pub(super) serves: bool,
}

impl<const TAGS: usize> Config<TAGS> {
    /// The device with this key. `life` must be random at each boot: it tells the calls of this boot from those of
    /// earlier ones.
    #[must_use]
    pub fn new(key: DeviceKey, life: u32) -> Self {
        Self {
            newest: key,
            older: None,
            life,
            epoch: 1,
            tags: Tags::new(),
            timers: Timers::default(),
            datagram: DATAGRAM_BYTES_DEFAULT,
            seed: u64::from(life),
            serves: false,
        }
    }

    /// The device's former key, while it is not sure that every server has the new one.
    #[must_use]
    pub fn older_key(mut self, key: DeviceKey) -> Self {
        self.older = Some(key);
        self
    }

    /// The number of this boot, at least 1, where one is kept: shown by the servers, otherwise without meaning.
    #[must_use]
    pub const fn epoch(mut self, epoch: u32) -> Self {
        self.epoch = epoch;
        self
    }

    /// Its tags; with `zone=…` it is recommended servers of its zone first.
    #[must_use]
    pub fn tags(mut self, tags: Tags<TAGS>) -> Self {
        self.tags = tags;
        self
    }

    /// Its time-outs. A server is heartbeated every `heartbeat`.
    #[must_use]
    pub const fn timers(mut self, timers: Timers) -> Self {
        self.timers = timers;
        self
    }

    /// The longest datagram the driver can send and receive, in bytes: its buffers.
    #[must_use]
    pub const fn datagram(mut self, bytes: u16) -> Self {
        self.datagram = bytes;
        self
    }

    /// Seeds phases and ties. Need not be secret.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether it also serves others, as a worker.
    #[must_use]
    pub const fn serves(mut self, serves: bool) -> Self {
        self.serves = serves;
        self
    }

    pub(super) const fn id(&self) -> NodeId {
        NodeId::new(self.newest.id())
    }

    /// Checks that they make sense.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field to change.
    pub fn check(self) -> Result<Checked<TAGS>, ConfigError> {
        if self.epoch == 0 {
            return Err(ConfigError::EpochZero);
        }
        if self.datagram < DATAGRAM_BYTES_MIN {
            return Err(ConfigError::DatagramTooShort);
        }
        Ok(Checked(self))
    }
}

/// Settings that make sense. Apart from [`Config`] so that making an [`super::Edge`] cannot fail: a result that holds
/// one would be copied through the stack of a small device.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Checked<const TAGS: usize>(pub(super) Config<TAGS>);

/// Settings that make no sense; the variant names the field to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum ConfigError {
    /// `epoch` is 0.
    EpochZero,
    /// `datagram` is below [`DATAGRAM_BYTES_MIN`].
    DatagramTooShort,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EpochZero => f.write_str("`epoch` must be at least 1"),
            Self::DatagramTooShort => write!(f, "`datagram` must be at least {DATAGRAM_BYTES_MIN} bytes"),
        }
    }
}

impl core::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let config = || Config::<0>::new(DeviceKey::new(7, &[1; 32], "orchard"), 1);
        let error = |config: Config<0>| config.check().unwrap_err();
        assert_eq!(error(config().epoch(0)), ConfigError::EpochZero);
        assert_eq!(
            error(config().datagram(DATAGRAM_BYTES_MIN - 1)),
            ConfigError::DatagramTooShort
        );
        assert!(config().datagram(DATAGRAM_BYTES_MIN).check().is_ok());
    }
}
