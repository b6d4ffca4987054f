//! The load-balancing guide.
