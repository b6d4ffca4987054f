//! A NUCLEO-H743ZI: an edge that sends readings to the best server of a cluster.
#![no_std]
#![no_main]

mod device;

use core::net::{Ipv4Addr, SocketAddrV4};

use defmt::{info, unwrap, warn};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::StackResources;
use embassy_stm32::eth::{self, Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::peripherals::{ETH, ETH_SMA, RNG};
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, HSIPrescaler, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk, VoltageScale,
};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::{Config, bind_interrupts};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::{Duration, Timer};
use lb_core::edge;
use lb_embassy::{Edge, EdgeHandle, EdgeStorage};
use panic_probe as _;
use static_cell::{ConstStaticCell, StaticCell};

/// Locally administered; give each board its own.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];

/// The cluster this board belongs to, and one of its servers: where an `lb node --edge-listen` listens.
const CLUSTER: &str = "orchard";
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 1, 10), 7500);

/// 16 servers known, sessions with four, two calls at once, 16 bytes of tags, datagrams of 512 bytes.
type Storage = EdgeStorage<NoopRawMutex, 16, 4, 2, 16, 512>;

bind_interrupts!(struct Irqs {
    ETH => eth::InterruptHandler;
    RNG => rng::InterruptHandler<RNG>;
});

type Device = Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>;

#[embassy_executor::task]
async fn run_network(mut runner: embassy_net::Runner<'static, Device>) -> ! {
    runner.run().await
}

/// 400 MHz from the internal oscillator, half of that for the buses, half again for the peripherals.
fn clocks() -> Config {
    let mut config = Config::default();
    let rcc = &mut config.rcc;
    rcc.hsi = Some(HSIPrescaler::DIV1);
    rcc.csi = true;
    // For the random numbers.
    rcc.hsi48 = Some(Default::default());
    rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        fracn: None,
        divp: Some(PllDiv::DIV2),
        divq: None,
        divr: None,
    });
    rcc.sys = Sysclk::PLL1_P;
    rcc.ahb_pre = AHBPrescaler::DIV2;
    rcc.apb1_pre = APBPrescaler::DIV2;
    rcc.apb2_pre = APBPrescaler::DIV2;
    rcc.apb3_pre = APBPrescaler::DIV2;
    rcc.apb4_pre = APBPrescaler::DIV2;
    rcc.voltage_scale = VoltageScale::Scale1;
    config
}

#[embassy_executor::task]
async fn run_edge(mut edge: Edge<'static, Storage, Rng<'static, RNG>>) -> ! {
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
    let board = embassy_stm32::init(clocks());
    let mut random = Rng::new(board.RNG, Irqs);

    static FRAMES: StaticCell<PacketQueue<4, 4>> = StaticCell::new();
    let device = Ethernet::new(
        FRAMES.init_with(PacketQueue::new),
        board.ETH,
        Irqs,
        board.PA1,
        board.PA7,
        board.PC4,
        board.PC5,
        board.PG13,
        board.PB13,
        board.PG11,
        MAC,
        board.ETH_SMA,
        board.PA2,
        board.PC1,
    );

    static RESOURCES: ConstStaticCell<StackResources<2>> = ConstStaticCell::new(StackResources::new());
    let config = embassy_net::Config::dhcpv4(Default::default());
    let (network, runner) = embassy_net::new(device, config, RESOURCES.take(), random.next_u64());
    spawner.spawn(unwrap!(run_network(runner)));
    let Some(key) = device::key(CLUSTER) else {
        defmt::panic!("this board has no key: see src/device.rs");
    };
    static STORAGE: ConstStaticCell<Storage> = ConstStaticCell::new(Storage::new());
    let config = edge::Config::new(key, random.next_u32());
    let mut edge = unwrap!(Edge::new(network, STORAGE.take(), config, random));
    unwrap!(edge.add_seed(SERVER.into()));
    spawner.spawn(unwrap!(measure(edge.handle())));
    spawner.spawn(unwrap!(run_edge(edge)));
}
