//! Load-balanced calls over a QUIC cluster with mutual TLS.
//!
//! A [`Cluster`] is one node: it knows its peers, detects who fails, and learns everybody's load from
//! messages that are sent anyway. A [`WorkerRegistry`] picks a worker from memory, without a message; a
//! [`ClusterClient`] calls it over the connection that carries the heartbeats, and calls another one when
//! the first is gone before answering. A [`Server`] makes a node a worker.
//!
//! ```
//! use std::time::Duration;
//! use lb_tokio::identity::{ClusterCa, ClusterName};
//! use lb_tokio::{
//!     Cluster, ClusterClient, ClusterClientConfig, LoadBalancingStrategy, NodeId, Server, WorkerRegistry,
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let ca = ClusterCa::generate(&ClusterName::new("demo")?)?;
//! let day = Duration::from_secs(86_400);
//!
//! let worker = Cluster::builder(ca.issue(NodeId::new(1), day)?)
//!     .tag("role", "worker")
//!     .server(Server::new().handler("upper", |request| async move {
//!         Ok(request.body.to_ascii_uppercase().into())
//!     }))
//!     .start()
//!     .await?;
//!
//! let cluster = Cluster::builder(ca.issue(NodeId::new(9), day)?).seeds([worker.local_addr()]).start().await?;
//! cluster.wait_for_workers(1, Some("role=worker"), Duration::from_secs(5)).await?;
//!
//! let registry = WorkerRegistry::new(cluster, LoadBalancingStrategy::Corrected);
//! let client = ClusterClient::new(registry, ClusterClientConfig::default());
//! let answer = client.call_worker("upper", "hello", Some("role=worker")).await?;
//! assert_eq!(answer, "HELLO");
//! # Ok(())
//! # }
//! ```
//!
//! A node can also listen for microcontrollers, see [`edge`]. Picks from many threads, and without a cluster, are in
//! [`pick`].
//!
//! The load-balancing [`guide`] shows the strategies and what is built on them, with every example run as a
//! test.

mod call;
pub mod client;
pub mod cluster;
pub mod edge;
mod error;
mod frame;
pub mod guide;
pub mod identity;
pub mod pick;
pub mod registry;
mod runtime;
pub mod server;
mod transport;

pub use bytes::Bytes;
pub use client::{CallOptions, ClusterClient, ClusterClientConfig};
pub use cluster::{
    Cluster, ClusterBuilder, ClusterStatus, Control, MemberStatus, PEERS_MAX, Simulated, StartError,
};
pub use error::{CallError, JoinError, SelectError};
pub use lb_core as core;
pub use lb_core::NodeId;
pub use lb_core::health::Timers;
pub use lb_core::member::Status;
pub use lb_core::node::Event;
pub use lb_core::pick::StrategyKind as LoadBalancingStrategy;
pub use registry::{Lease, Worker, WorkerRegistry};
pub use runtime::CoalescingRuntime;
pub use server::{HandlerError, Origin, Request, Server};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
