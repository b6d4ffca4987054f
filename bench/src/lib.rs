//! What a pick costs: each strategy of lb-core beside the least code that could do the same, and beside every other
//! crate that does it, in one run.
//!
//! * [`measure`] times contenders in turns and takes medians; [`input`] is what all of them are given.
//! * [`ours`] has the strategies, [`kernels`] a bare loop for each of them, [`peers`] the other crates.
//! * [`cases`] puts them together, one case for each strategy; a [`row`] is what came out, [`report`] shows it.
//!
//! [`threads`] measures picks from many threads at once.
//!
//! `cargo run --release -p lb-bench --bin pick` runs it; `README.md` says how to read it.

pub mod cases;
pub mod input;
pub mod kernels;
pub mod measure;
pub mod ours;
pub mod peers;
pub mod report;
pub mod row;
pub mod threads;
