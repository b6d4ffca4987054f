//! Named metrics of an application, as ORCA has them.

use heapless::{String, Vec};

/// Longest name of a metric in bytes.
pub const METRIC_NAME_MAX: usize = 32;

/// Most metrics in one map.
pub const METRICS_EACH_MAX: usize = 4;

/// Most metrics of all maps.
pub const METRICS_MAX: usize = 3 * METRICS_EACH_MAX;

/// Which map of `xds.data.orca.v3.OrcaLoadReport` a metric is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum MetricMap {
    /// `request_cost`: what the request cost whose response it rides on.
    RequestCost = 0,
    /// `utilization`: shares of resources in use, 1.0 is all.
    Utilization = 1,
    /// `named_metrics`: anything.
    Named = 2,
}

impl MetricMap {
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::RequestCost),
            1 => Some(Self::Utilization),
            2 => Some(Self::Named),
            _ => None,
        }
    }
}

/// One metric. The value is a double as bits (`f64::to_bits`), so that nothing is lost on the way and nothing here
/// computes with floats.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Metric {
    /// The map it is in.
    pub map: MetricMap,
    /// Its name there.
    pub name: String<METRIC_NAME_MAX>,
    /// Its value.
    pub bits: u64,
}

/// The maps of an ORCA report: at most [`METRICS_EACH_MAX`] metrics each. Not part of a [`super::LoadReport`]: who does
/// not use them pays neither memory nor bytes. A driver appends them to messages and responses
/// (`wire::append_metrics`).
///
/// ```
/// use lb_core::load::{MetricMap, Metrics};
/// let mut metrics = Metrics::default();
/// metrics.set(MetricMap::Utilization, "gpu", 0.75_f64.to_bits())?;
/// metrics.set(MetricMap::Named, "queue", 12.0_f64.to_bits())?;
/// assert_eq!(metrics.get(MetricMap::Named, "queue").map(f64::from_bits), Some(12.0));
/// assert_eq!(metrics.highest_milli(MetricMap::Utilization, |_| true), Some(750));
/// # Ok::<(), lb_core::load::MetricsError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Metrics {
    entries: Vec<Metric, METRICS_MAX>,
}

/// A metric that was not taken. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MetricsError {
    /// A name has 1 to [`METRIC_NAME_MAX`] bytes.
    Name,
    /// The map has [`METRICS_EACH_MAX`] others.
    Full,
}

impl core::fmt::Display for MetricsError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Name => write!(f, "the name of a metric has 1 to {METRIC_NAME_MAX} bytes"),
            Self::Full => write!(f, "a map of metrics has at most {METRICS_EACH_MAX} entries"),
        }
    }
}

impl core::error::Error for MetricsError {}

impl Metrics {
    /// Adds a metric, or replaces the one of this name.
    ///
    /// # Errors
    /// [`MetricsError`]; nothing changed.
    pub fn set(&mut self, map: MetricMap, name: &str, bits: u64) -> Result<(), MetricsError> {
        let same = |entry: &&mut Metric| entry.map == map && entry.name == name;
        if let Some(entry) = self.entries.iter_mut().find(same) {
            entry.bits = bits;
            return Ok(());
        }
        if name.is_empty() {
            return Err(MetricsError::Name);
        }
        let name = String::try_from(name).map_err(|_| MetricsError::Name)?;
        if self.entries.iter().filter(|entry| entry.map == map).count() >= METRICS_EACH_MAX {
            return Err(MetricsError::Full);
        }
        let metric = Metric { map, name, bits };
        self.entries.push(metric).map_err(|_| MetricsError::Full)
    }

    /// The value of a metric.
    #[must_use]
    pub fn get(&self, map: MetricMap, name: &str) -> Option<u64> {
        let mut entries = self.entries.iter();
        let entry = entries.find(|entry| entry.map == map && entry.name == name)?;
        Some(entry.bits)
    }

    /// All metrics, in the order they were added in.
    pub fn iter(&self) -> impl Iterator<Item = &Metric> {
        self.entries.iter()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The highest value in a map among those of the wanted names, in thousandths: what gRPC A114 and Envoy take for
    /// the utilization when names are configured. Values that are no numbers, or not above 0, do not count.
    #[must_use]
    pub fn highest_milli(&self, map: MetricMap, wanted: impl Fn(&str) -> bool) -> Option<u32> {
        let of_map = self
            .entries
            .iter()
            .filter(|entry| entry.map == map && wanted(&entry.name));
        of_map.filter_map(|entry| milli(entry.bits)).max()
    }
}

/// A positive double in thousandths, rounded half up, without floating point; `None` when it is not positive.
fn milli(bits: u64) -> Option<u32> {
    const FRACTION: u32 = 52;
    let exponent = (bits >> FRACTION) as u32;
    let fraction = bits & ((1 << FRACTION) - 1);
    match exponent {
        // Subnormal: far below a thousandth.
        0 if fraction > 0 => return Some(0),
        1..0x7ff => {}
        0x7ff if fraction == 0 => return Some(u32::MAX),
        _ => return None,
    }
    // value = mantissa * 2^(exponent - 1075); 53 bits and 10 for the thousand fit in 64.
    let thousandfold = (fraction | 1 << FRACTION).saturating_mul(1_000);
    let Some(right) = 1_075_u32.checked_sub(exponent) else {
        return Some(u32::MAX);
    };
    let half = right.checked_sub(1).and_then(|shift| 1_u64.checked_shl(shift));
    let rounded = thousandfold.saturating_add(half.unwrap_or(0));
    Some(u32::try_from(rounded.checked_shr(right).unwrap_or(0)).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_numbers_have_limits() {
        let mut metrics = Metrics::default();
        let long = "n".repeat(METRIC_NAME_MAX + 1);
        assert_eq!(metrics.set(MetricMap::Named, &long, 0), Err(MetricsError::Name));
        assert_eq!(metrics.set(MetricMap::Named, "", 0), Err(MetricsError::Name));
        assert_eq!(metrics.set(MetricMap::Named, &long[1..], 0), Ok(()));
        for name in ["a", "b", "c"] {
            assert_eq!(metrics.set(MetricMap::Named, name, 1), Ok(()));
        }
        assert_eq!(metrics.set(MetricMap::Named, "d", 1), Err(MetricsError::Full));
        assert_eq!(metrics.set(MetricMap::Named, "a", 7), Ok(()), "replaced");
        for map in [MetricMap::RequestCost, MetricMap::Utilization] {
            for name in ["a", "b", "c", "d"] {
                assert_eq!(metrics.set(map, name, 2), Ok(()), "a map does not fill another");
            }
        }
        assert_eq!(metrics.iter().count(), METRICS_MAX);
        assert_eq!(metrics.get(MetricMap::Named, "a"), Some(7));
        assert_eq!(metrics.get(MetricMap::RequestCost, "a"), Some(2));
        assert_eq!(metrics.get(MetricMap::Named, "d"), None);
    }

    #[test]
    fn what_is_no_number_does_not_count() {
        for value in [0.0, -0.0, -1.0, f64::NAN, f64::NEG_INFINITY, -f64::MIN_POSITIVE] {
            assert_eq!(milli(value.to_bits()), None, "{value}");
        }
        assert_eq!(milli(f64::INFINITY.to_bits()), Some(u32::MAX));
        assert_eq!(milli(f64::MAX.to_bits()), Some(u32::MAX));
        assert_eq!(milli(f64::MIN_POSITIVE.to_bits()), Some(0));
        assert_eq!(milli(1), Some(0));
    }

    proptest! {
        #[test]
        fn thousandths_are_those_of_floating_point(value in prop_oneof![0.000_1..5.0_f64, 0.0..5e6_f64, any::<f64>()]) {
            prop_assume!(value > 0.0);
            let wanted = (value * 1_000.0).round().min(f64::from(u32::MAX));
            let got = f64::from(milli(value.to_bits()).unwrap());
            prop_assert!((got - wanted).abs() <= 1.0, "{value}: {got}, not {wanted}");
        }
    }
}
