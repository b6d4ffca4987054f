//! The least a product is: an edge with its settings in flash, that asks the best server for something now and then. It
//! prints nothing. What it weighs is what a node weighs, without the command line and the output of `sensor`.
#![no_std]
#![no_main]

use embassy_executor::Spawner;
use embassy_net::{Runner, StackResources};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::{Duration, Timer};
use lb_core::edge::Config;
use lb_core::wire::seal::{Ascon128, DeviceKey};
use lb_embassy::{Edge, EdgeHandle, EdgeStorage};
use qemu_mps2::host::Random;
use qemu_mps2::lan9118::Lan9118;
use qemu_mps2::{executor, host};
use rand_core::RngCore;
use static_cell::ConstStaticCell;

/// As in `sensor`.
type Storage = EdgeStorage<NoopRawMutex, 16, 4, 2, 16, 320, Ascon128>;

// What the core alone takes for 16 servers, a session and a call: 2.5 KB.
const _: () = assert!(size_of::<lb_core::edge::Edge<16, 1, 1, 0, Ascon128>>() <= 2_560);

/// A product reads it from where it was written at the factory.
static PSK: [u8; 32] = [0x42; 32];

#[cortex_m_rt::entry]
fn main() -> ! {
    executor::run(start)
}

#[inline(never)]
fn start(spawner: Spawner) {
    static RESOURCES: ConstStaticCell<StackResources<1>> = ConstStaticCell::new(StackResources::new());
    static STORAGE: ConstStaticCell<Storage> = ConstStaticCell::new(Storage::new());
    let (network, runner) = qemu_mps2::init(RESOURCES.take(), Random.next_u32());
    let config = Config::new(DeviceKey::new(7, &PSK, "orchard"), Random.next_u32());
    let Ok(mut edge) = Edge::new(network, STORAGE.take(), config, Random) else {
        host::fail("the configuration");
    };
    if edge.add_seed(([10, 0, 2, 2], 7_500).into()).is_err() {
        host::fail("too many seeds");
    }
    let handle = edge.handle();
    spawner.spawn(run_network(runner).unwrap_or_else(|_| host::fail("spawn")));
    spawner.spawn(run_edge(edge).unwrap_or_else(|_| host::fail("spawn")));
    spawner.spawn(ask(handle).unwrap_or_else(|_| host::fail("spawn")));
}

#[embassy_executor::task]
async fn run_network(mut runner: Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn run_edge(mut edge: Edge<'static, Storage, Random>) -> ! {
    edge.run().await
}

#[embassy_executor::task]
async fn ask(edge: EdgeHandle<'static, Storage>) {
    let mut answer = [0; 40];
    loop {
        let _ = edge
            .call("echo", b"21.5 C", &mut answer, Duration::from_secs(2))
            .await;
        Timer::after_secs(10).await;
    }
}
