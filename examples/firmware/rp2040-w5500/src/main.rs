//! A W5500-EVB-Pico, or an RP2040 with a W5500 on the same pins: brings the network up and echoes datagrams.
#![no_std]
#![no_main]

use defmt::{info, unwrap, warn};
use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::StackResources;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net_wiznet::chip::W5500;
use embassy_net_wiznet::{Device, Runner, State};
use embassy_rp::clocks::RoscRng;
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, SPI0};
use embassy_rp::spi::{self, Async, Spi};
use embassy_rp::{bind_interrupts, dma};
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use panic_probe as _;
use static_cell::{ConstStaticCell, StaticCell};

/// Locally administered; give each board its own.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PORT: u16 = 7;

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
