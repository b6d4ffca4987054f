//! The load-balancing guide: which strategy and when, what is built on top, and what to look at when load
//! goes where it should not.
//!
//! It is about [`WorkerRegistry`](crate::WorkerRegistry), [`LoadBalancingStrategy`](crate::LoadBalancingStrategy)
//! and [`ClusterClient`](crate::ClusterClient); the strategies themselves are in
//! [`core::pick`](crate::core::pick).
//!
#![doc = include_str!("../docs/guide.md")]
