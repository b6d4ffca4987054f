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
/// Every field saturates at its type's maximum. It says more than ORCA's `xds.data.orca.v3.OrcaLoadReport`, what gRPC
/// and Envoy report, and maps to it both ways. ORCA's numbers are doubles with 0 for "not stated"; the maps that name
/// metrics of the application are in [`super::Metrics`], which most do without.
///
/// | ORCA | here | to ORCA | from ORCA |
/// | --- | --- | --- | --- |
/// | `application_utilization` | [`utilization`](Self::utilization) | / 1000 | * 1000, rounded, at most 65.535 |
/// | `cpu_utilization` | [`cpu`](Self::cpu) | / 1000 | likewise |
/// | `mem_utilization` | [`memory`](Self::memory) | / 1000 | likewise |
/// | `rps_fractional` | [`rate_milli`](Self::rate_milli) | / 1000 | * 1000, rounded, at most 4.29 million |
/// | `eps` | [`errors_milli`](Self::errors_milli) | / 1000 | likewise |
/// | `request_cost`, `utilization`, `named_metrics` | [`super::Metrics`] | as they are | as they are, names of at most 32 bytes |
///
/// A bridge that turns an ORCA report into one of these counts `version.seq` itself and states no capacity.
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
    /// Typical service time at the present number of requests in flight, in microseconds; 0 before the first answer.
    pub latency_us: u32,
    /// Smoothed share of the capacity in use, in thousandths: above 1000 when requests wait, or when the application
    /// says so. 0 when not stated.
    pub utilization: u16,
    /// Share of the processor in use, in thousandths; 0 when not stated.
    pub cpu: u16,
    /// Share of the memory in use, in thousandths; 0 when not stated.
    pub memory: u16,
    /// Requests lately answered with an error, in thousandths per second; [`rate_milli`](Self::rate_milli) has them too.
    pub errors_milli: u32,
}

/// What a report says that a pick depends on: 24 bytes of the 56.
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
    /// [`LoadReport::errors_milli`].
    pub errors_milli: u32,
    /// [`LoadReport::utilization`], or [`LoadReport::cpu`] when that is not stated.
    pub utilization: u16,
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
            errors_milli: self.errors_milli,
            utilization: if self.utilization > 0 {
                self.utilization
            } else {
                self.cpu
            },
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
    fn they_are_as_small_as_they_say() {
        assert_eq!((size_of::<LoadReport>(), size_of::<LoadFigures>()), (56, 24));
    }

    #[test]
    fn the_processor_stands_in_for_the_application() {
        let cpu = LoadReport {
            cpu: 300,
            ..LoadReport::default()
        };
        assert_eq!(cpu.figures().utilization, 300);
        let both = LoadReport {
            utilization: 900,
            ..cpu
        };
        assert_eq!(both.figures().utilization, 900);
    }

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
