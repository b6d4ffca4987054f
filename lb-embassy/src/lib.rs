//! Microcontrollers as edges of an lb cluster: [`lb_core::edge`] over embassy-net UDP, without a heap.
#![no_std]

#[cfg(all(feature = "defmt", feature = "log"))]
compile_error!("the features `defmt` and `log` of lb-embassy are exclusive: enable one of them");

mod fmt;

mod call;
mod clock;
mod edge;
mod handle;
mod socket;
mod state;
mod step;
mod storage;
mod wakers;

pub use call::{Answer, Call, CallError};
pub use edge::Edge;
pub use handle::{EdgeHandle, Server};
pub use storage::{EdgeStorage, Storage};
