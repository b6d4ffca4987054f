//! Instructions, by SysTick: with QEMU's `-icount shift=0` each takes a nanosecond.

use core::arch::asm;

use cortex_m::Peripherals;
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use qemu_mps2::host;

/// SysTick runs at 25 MHz.
const PER_TICK: u32 = 40;
const MASK: u32 = 0x00ff_ffff;

/// Rounds of the loop that is timed first.
const ROUNDS: u32 = 10_000;

/// Starts it, and sees whether it counts instructions.
pub(crate) fn start() {
    let Some(mut core) = Peripherals::take() else {
        host::fail("start was called twice");
    };
    core.SYST.set_clock_source(SystClkSource::Core);
    core.SYST.set_reload(MASK);
    core.SYST.clear_current();
    core.SYST.enable_counter();
    let instructions = count(|| {
        // SAFETY: two instructions that change a register of their own and the flags.
        unsafe { asm!("0: subs {0}, #1", "bne 0b", inout(reg) ROUNDS => _, options(nomem, nostack)) };
    });
    if instructions.abs_diff(2 * ROUNDS) > 2 * PER_TICK {
        host::fail("time is not that of instructions: run it with -icount shift=0");
    }
}

/// How many instructions this takes, to 40 of them; less than 600 million.
pub(crate) fn count(work: impl FnOnce()) -> u32 {
    let before = SYST::get_current();
    work();
    // It counts down.
    (before.wrapping_sub(SYST::get_current()) & MASK).saturating_mul(PER_TICK)
}
