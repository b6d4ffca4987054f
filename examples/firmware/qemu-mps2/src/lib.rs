//! Board support for QEMU's MPS2 machines (`mps2-an385`, a Cortex-M3 that also runs Cortex-M0 code, and
//! `mps2-an386`, a Cortex-M4F): network, time, an executor that sleeps, and output on the host's terminal.
#![no_std]

pub mod executor;
pub mod host;
pub mod lan9118;
#[cfg(feature = "small-copies")]
mod memory;
pub mod print;
pub mod stack;
mod time;

use cortex_m::Peripherals;
use cortex_m_rt::exception;
use embassy_net::{Config, Ipv4Address, Ipv4Cidr, Runner, Stack, StackResources, StaticConfigV4};
use static_cell::ConstStaticCell;

use crate::lan9118::{Buffers, Lan9118};

/// This machine's address in QEMU's user network, and that of the host.
pub const ADDRESS: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
pub const HOST: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);

/// Not given to anybody: locally administered.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Starts the clock and the network: `SOCKETS` sockets. Hand the runner to a task.
///
/// `seed` chooses the first local port. It has 32 bits because a division of 64 would cost 1 KB of flash.
/// Call it once, first; ends the program if there is no network controller.
#[inline(never)]
pub fn init<const SOCKETS: usize>(
    resources: &'static mut StackResources<SOCKETS>,
    seed: u32,
) -> (Stack<'static>, Runner<'static, Lan9118>) {
    let Some(mut core) = Peripherals::take() else {
        host::fail("init was called twice");
    };
    time::start(&mut core.SYST);
    static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::new());
    let Ok(driver) = Lan9118::start(MAC, BUFFERS.take()) else {
        host::fail("no LAN9118");
    };
    lan9118::unmask();
    let config = Config::ipv4_static(StaticConfigV4 {
        address: Ipv4Cidr::new(ADDRESS, 24),
        gateway: Some(HOST),
        dns_servers: Default::default(),
    });
    embassy_net::new(driver, config, resources, u64::from(seed))
}

/// All interrupts of the board come here, since there is no table of its devices.
///
/// # Safety
/// To be called by the hardware only.
#[exception]
unsafe fn DefaultHandler(number: i16) {
    if number == lan9118::INTERRUPT {
        lan9118::on_interrupt();
    }
}

/// Without the message: formatting it would cost 10 KB of flash.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    host::fail("panic")
}
