//! A NUCLEO-H743ZI: brings the network up and echoes datagrams.
#![no_std]
#![no_main]

use defmt::{info, unwrap, warn};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::StackResources;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_stm32::eth::{self, Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::peripherals::{ETH, ETH_SMA, RNG};
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, HSIPrescaler, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk, VoltageScale,
};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::{Config, bind_interrupts};
use panic_probe as _;
use static_cell::{ConstStaticCell, StaticCell};

/// Locally administered; give each board its own.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
const PORT: u16 = 7;

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
    network.wait_config_up().await;

    let (mut received, mut sent) = ([0; 1024], [0; 1024]);
    let (mut received_meta, mut sent_meta) = ([PacketMetadata::EMPTY; 4], [PacketMetadata::EMPTY; 4]);
    let mut socket = UdpSocket::new(
        network,
        &mut received_meta,
        &mut received,
        &mut sent_meta,
        &mut sent,
    );
    unwrap!(socket.bind(PORT));
    info!("echoing on port {}", PORT);
    let mut buffer = [0; 512];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            warn!("dropped a datagram larger than {} bytes", buffer.len());
            continue;
        };
        if socket
            .send_to(buffer.get(..length).unwrap_or(&[]), from)
            .await
            .is_err()
        {
            warn!("no route back");
        }
    }
}
