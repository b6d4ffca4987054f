//! What a node says of its own load, and the order of what it says.

use crate::time::Duration;

/// Orders everything a node says of its load: first by life, then by sequence within that life.
///
/// Plain integer comparison, no wrap-around: serial-number arithmetic is not transitive, so it would not be
/// an order. At a million reports a second a `u64` lasts 584 000 years; an epoch is one life of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ReportVersion {
    /// The life of the node (boot number).
    pub epoch: u32,
    /// Counts the reports of that life.
    pub seq: u64,
}

/// A node's load as it said it.
///
/// Every field saturates at its type's maximum. A superset of what gRPC's ORCA reports need will grow here
/// under the rules of the wire specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LoadReport {
    /// Which report this is.
    pub version: ReportVersion,
    /// How old the sample was when it was sent, in milliseconds. Relays add the time they kept it.
    pub age_ms: u32,
    /// Requests accepted and not yet answered, queued ones included.
    pub in_flight: u16,
    /// Of those, the ones still waiting for a place.
    pub queued: u16,
    /// How many requests the node serves at once; 0 when it does not say.
    pub capacity: u16,
    /// How many clients sent it requests lately; 0 when it does not say.
    pub clients: u16,
    /// Requests answered in this epoch.
    pub completed: u64,
    /// Requests answered lately, in thousandths per second (mean over [`crate::load::RATE_WINDOW`]).
    pub rate_milli: u32,
    /// Smoothed service time in microseconds; 0 before the first answer.
    pub latency_us: u32,
}

/// What a report says that a pick depends on: 16 bytes of the 48.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LoadFigures {
    /// [`LoadReport::in_flight`].
    pub in_flight: u16,
    /// [`LoadReport::queued`].
    pub queued: u16,
    /// [`LoadReport::capacity`].
    pub capacity: u16,
    /// [`LoadReport::clients`].
    pub clients: u16,
    /// [`LoadReport::rate_milli`].
    pub rate_milli: u32,
    /// [`LoadReport::latency_us`].
    pub latency_us: u32,
}

impl LoadReport {
    /// What a pick depends on.
    #[must_use]
    pub const fn figures(&self) -> LoadFigures {
        LoadFigures {
            in_flight: self.in_flight,
            queued: self.queued,
            capacity: self.capacity,
            clients: self.clients,
            rate_milli: self.rate_milli,
            latency_us: self.latency_us,
        }
    }

    /// The sample's age when it was sent.
    #[must_use]
    pub const fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_outranks_sequence() {
        let old = ReportVersion {
            epoch: 1,
            seq: u64::MAX,
        };
        let new = ReportVersion { epoch: 2, seq: 0 };
        assert!(new > old);
    }
}
