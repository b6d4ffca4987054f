//! A queueing simulator for the strategies of `lb-core`.
//!
//! Servers, clients, heartbeats and requests are simulated; the strategies, the load reports and their order are the
//! production code, unchanged. A [`Scenario`] says what the world is like, a [`Policy`] picks, [`run()`] plays it to
//! its end in virtual time and tells what came of it as an [`Outcome`].
//!
//! Time is counted in mean service times, and so is latency: 1 is what a request takes at an idle server of speed 1.
#![forbid(unsafe_code)]

mod board;
mod busy;
mod calendar;
mod chart;
mod eased;
mod engine;
pub mod experiment;
mod heartbeats;
mod histogram;
mod math;
mod names;
mod outcome;
mod placing;
mod policy;
mod queue;
mod random;
mod reference;
mod scenario;
mod server;
mod strategies;
mod svg;
mod sweep;
mod table;
mod view;
mod watch;
mod work;
mod zoned;

/// A strategy of `lb-core` by its name.
pub use lb_core::pick::StrategyKind;

pub use chart::{Axis, Chart, Panel, Series};
pub use engine::run;
pub use histogram::Histogram;
pub use names::Unknown;
pub use outcome::{Estimate, Outcome};
pub use placing::Placing;
pub use policy::{Kept, Picker, Policy, Setup};
pub use queue::Discipline;
pub use random::Source;
pub use scenario::{Count, Event, PLACES, Reports, SERVICE_TIME_US, Scenario, Split, Stated, What};
pub use sweep::{Progress, Seeds, Summary, sweep};
pub use table::{Cell, Table};
pub use view::View;
pub use watch::{Seen, Watch};
pub use work::Work;
