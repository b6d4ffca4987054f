//! Picking endpoints from many threads at once.
//!
//! A [`Picker`] is a compiled filter with a strategy. It picks from any thread without a lock, and every pick
//! is a [`Lease`]: a request in flight, counted until it ends. Every [`Cluster`](crate::Cluster) has pickers of
//! its workers, see [`WorkerRegistry::picker`](crate::WorkerRegistry::picker); a [`Balancer`] makes them for
//! endpoints of your own, reached over a transport of your own.
//!
//! How it works: what picks read is either atomic or frozen. The loads of all endpoints are words of a board
//! that is written when a report arrives and when a request begins or ends. Who may be picked is a view, made
//! anew only when endpoints come, go or change, and never for load; threads notice a new one by its version. A
//! strategy's own state (a rotation, random numbers) belongs to one thread.

mod ask;
mod balancer;
mod board;
mod endpoint;
mod explain;
mod lease;
mod picker;
mod pool;
mod seat;
mod table;
#[cfg(test)]
mod tests;
mod view;

pub use ask::Ask;
pub(crate) use balancer::Edit;
pub use balancer::{Balancer, BalancerConfig, BalancerFull, ENDPOINTS_MAX, Known};
pub use endpoint::{Endpoint, Standing};
pub use explain::Explained;
pub use lease::Lease;
pub(crate) use lease::Tally;
pub use picker::Picker;
