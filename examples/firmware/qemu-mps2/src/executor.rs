//! An executor that sleeps with WFI. The one of `embassy-executor` uses WFE, which QEMU takes for a yield: it
//! would keep a processor of the host busy.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};
use static_cell::StaticCell;

static PENDING: AtomicBool = AtomicBool::new(false);

#[unsafe(export_name = "__pender")]
fn pender(_: *mut ()) {
    PENDING.store(true, Ordering::Relaxed);
}

/// Runs tasks for ever; `start` spawns the first ones. Call it once.
pub fn run(start: impl FnOnce(Spawner)) -> ! {
    static EXECUTOR: StaticCell<raw::Executor> = StaticCell::new();
    let executor = EXECUTOR.init(raw::Executor::new(core::ptr::null_mut()));
    start(executor.spawner());
    loop {
        // SAFETY: polled from here only, which nothing polled can reach.
        unsafe { executor.poll() };
        // With interrupts off: one that comes after the look at PENDING still ends the WFI.
        cortex_m::interrupt::disable();
        if !PENDING.load(Ordering::Relaxed) {
            cortex_m::asm::wfi();
        }
        PENDING.store(false, Ordering::Relaxed);
        // SAFETY: no critical section is open here.
        unsafe { cortex_m::interrupt::enable() };
    }
}
