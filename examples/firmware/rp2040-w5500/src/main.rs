//! A W5500-EVB-Pico, or an RP2040 with a W5500 on the same pins: an edge that sends readings to the best server of a cluster.
#![no_std]
#![no_main]

mod device;

use core::net::{Ipv4Addr, SocketAddrV4};

use defmt::{info, unwrap, warn};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::StackResources;
use embassy_net_wiznet::chip::W5500;
use embassy_net_wiznet::{Device, Runner, State};
use embassy_rp::clocks::RoscRng;
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, SPI0};
use embassy_rp::spi::{self, Async, Spi};
use embassy_rp::{bind_interrupts, dma};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::{Delay, Duration, Timer};
use embedded_hal_bus::spi::ExclusiveDevice;
use lb_core::edge;
use lb_embassy::{Edge, EdgeHandle, EdgeStorage};
use panic_probe as _;
use static_cell::{ConstStaticCell, StaticCell};

/// Locally administered; give each board its own.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The cluster this board belongs to, and one of its servers: where an `lb node --edge-listen` listens.
const CLUSTER: &str = "orchard";
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 10), 7500);

/// 16 servers known, sessions with four, two calls at once, 16 bytes of tags, datagrams of 512 bytes.
type Storage = EdgeStorage<NoopRawMutex, 16, 4, 2, 16, 512>;

bind_interrupts!(struct Irqs {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
});

type Chip = ExclusiveDevice<Spi<'static, SPI0, Async>, Output<'static>, Delay>;

#[embassy_executor::task]
async fn run_chip(runner: Runner<'static, W5500, Chip, Input<'static>, Output<'static>>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn run_network(mut runner: embassy_net::Runner<'static, Device<'static>>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn run_edge(mut edge: Edge<'static, Storage, RoscRng>) -> ! {
    edge.run().await
}

/// Sends a reading every 10 s to whichever server is best.
#[embassy_executor::task]
async fn measure(edge: EdgeHandle<'static, Storage>) {
    let mut answer = [0; 64];
    loop {
        let asked = edge.call("echo", b"21.5 C", &mut answer, Duration::from_secs(2));
        match asked.await {
            Ok(answered) => info!("{} bytes from server {}", answered.len, answered.server),
            Err(error) => warn!("{}", error),
        }
        Timer::after_secs(10).await;
    }
}

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let board = embassy_rp::init(Default::default());

    let mut config = spi::Config::default();
    config.frequency = 33_000_000;
    let bus = Spi::new(
        board.SPI0,
        board.PIN_18,
        board.PIN_19,
        board.PIN_16,
        board.DMA_CH0,
        board.DMA_CH1,
        Irqs,
        config,
    );
    let chip = unwrap!(ExclusiveDevice::new(
        bus,
        Output::new(board.PIN_17, Level::High),
        Delay
    ));
    // Three frames each way: 9 KB of RAM.
    static STATE: StaticCell<State<3, 3>> = StaticCell::new();
    let (device, runner) = unwrap!(
        embassy_net_wiznet::new(
            MAC,
            STATE.init_with(State::new),
            chip,
            Input::new(board.PIN_21, Pull::Up),
            Output::new(board.PIN_20, Level::High),
        )
        .await
    );
    spawner.spawn(unwrap!(run_chip(runner)));

    static RESOURCES: ConstStaticCell<StackResources<2>> = ConstStaticCell::new(StackResources::new());
    let config = embassy_net::Config::dhcpv4(Default::default());
    let seed = u64::from(RoscRng.next_u32());
    let (network, runner) = embassy_net::new(device, config, RESOURCES.take(), seed);
    spawner.spawn(unwrap!(run_network(runner)));
    let Some(key) = device::key(CLUSTER) else {
        defmt::panic!("this board has no key: see src/device.rs");
    };
    static STORAGE: ConstStaticCell<Storage> = ConstStaticCell::new(Storage::new());
    let config = edge::Config::new(key, RoscRng.next_u32());
    let mut edge = unwrap!(Edge::new(network, STORAGE.take(), config, RoscRng));
    unwrap!(edge.add_seed(SERVER.into()));
    spawner.spawn(unwrap!(measure(edge.handle())));
    spawner.spawn(unwrap!(run_edge(edge)));
}
