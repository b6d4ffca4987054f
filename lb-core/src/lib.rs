//! Load balancing, failure detection and membership as `no_std`, allocation-free state machines.
#![cfg_attr(not(any(test, feature = "std")), no_std)]

mod id;

pub use id::NodeId;
