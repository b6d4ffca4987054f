//! x
#![no_std]
mod clock; mod fmt; mod socket; mod wakers;
