//! QEMU: finding it, running firmware in it, and doing to it what happens to devices.

mod guest;
mod install;
mod qmp;

pub(crate) use guest::{Guest, HOST};
pub(crate) use install::Qemu;
