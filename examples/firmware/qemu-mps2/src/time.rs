//! `embassy-time` on SysTick, which interrupts every millisecond.
//!
//! Ticks are microseconds nevertheless: the network stack and `lb-core` count in those, and converting would take
//! divisions of 64 bits, more than 1 KB of flash on a Cortex-M0.

use core::cell::RefCell;
use core::task::Waker;

use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::{Driver, TICK_HZ, time_driver_impl};
use embassy_time_queue_utils::Queue;

const CLOCK_HZ: u32 = 25_000_000;
const INTERRUPTS_HZ: u32 = 1_000;

struct Clock {
    ticks: u64,
    next: u64,
    queue: Queue,
}

struct SysTickDriver {
    clock: Mutex<RefCell<Clock>>,
}

time_driver_impl!(static DRIVER: SysTickDriver = SysTickDriver {
    clock: Mutex::new(RefCell::new(Clock { ticks: 0, next: u64::MAX, queue: Queue::new() })),
});

impl Clock {
    /// Wakes who is due. Waking may be repeated: the queue returns a time that has passed meanwhile.
    fn wake_due(&mut self) {
        while self.next <= self.ticks {
            self.next = self.queue.next_expiration(self.ticks);
        }
    }
}

impl SysTickDriver {
    fn with<R>(&self, cs: CriticalSection<'_>, f: impl FnOnce(&mut Clock) -> R) -> R {
        f(&mut self.clock.borrow_ref_mut(cs))
    }
}

impl Driver for SysTickDriver {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.with(cs, |clock| clock.ticks))
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            self.with(cs, |clock| {
                if clock.queue.schedule_wake(at, waker) {
                    clock.next = clock.queue.next_expiration(clock.ticks);
                }
            });
        });
    }
}

/// Starts the clock at 0.
pub(crate) fn start(timer: &mut SYST) {
    timer.set_clock_source(SystClkSource::Core);
    timer.set_reload(CLOCK_HZ / INTERRUPTS_HZ - 1);
    timer.clear_current();
    timer.enable_interrupt();
    timer.enable_counter();
}

#[exception]
fn SysTick() {
    critical_section::with(|cs| {
        DRIVER.with(cs, |clock| {
            clock.ticks += TICK_HZ / INTERRUPTS_HZ as u64;
            clock.wake_due();
        });
    });
}
