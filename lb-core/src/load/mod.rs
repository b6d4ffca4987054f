//! Load: what a node says of itself, how it is measured, kept and scored.
//!
//! A [`LoadReport`] is made by the node it describes (with a [`LoadMeter`]), rides on messages that are sent
//! anyway, and lands in a [`LoadCache`]. Reports are ordered by (epoch, sequence) and merged so that
//! duplicates, reorderings and relays never move the cache backwards; their age is measured by the
//! receiver's clock alone. A [`Weigher`] makes weights of them. [`Metrics`] are what an application adds.

mod cache;
mod ewma;
mod latency;
mod meter;
mod metrics;
mod report;
mod score;
mod weight;

pub use cache::{CacheFull, CachedLoad, Endpoint, Freshness, LoadCache, Recorded};
pub use ewma::{Ended, OwnLatency};
pub use meter::{Arrival, Finished, LoadMeter, RATE_WINDOW};
pub use metrics::{METRIC_NAME_MAX, METRICS_EACH_MAX, METRICS_MAX, Metric, MetricMap, Metrics, MetricsError};
pub use report::{LoadFigures, LoadReport, ReportVersion};
pub use score::{HybridWeights, SCORE_MAX, WeightsError};
pub use weight::{WEIGHT_MAX, WEIGHT_MEAN, WEIGHT_MIN, Weighed, Weigher, WeightRules, Weights};
