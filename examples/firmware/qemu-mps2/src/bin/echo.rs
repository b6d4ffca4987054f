//! Tells when the link goes and comes, then sends datagrams to a port of the host and counts those that come back: the smallest program that uses all of
//! the board support. The command line is `echo PORT COUNT`.
#![no_std]
#![no_main]

use embassy_executor::Spawner;
use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{Runner, Stack, StackResources};
use embassy_time::{Duration, with_timeout};
use qemu_mps2::host::Random;
use qemu_mps2::lan9118::{self, Lan9118};
use qemu_mps2::print::say;
use qemu_mps2::{HOST, executor, host, stack};
use rand_core::RngCore;
use static_cell::ConstStaticCell;

#[cortex_m_rt::entry]
fn main() -> ! {
    static RESOURCES: ConstStaticCell<StackResources<1>> = ConstStaticCell::new(StackResources::new());
    let (network, runner) = qemu_mps2::init(RESOURCES.take(), Random.next_u32());
    executor::run(|spawner: Spawner| {
        spawner.spawn(run_network(runner).unwrap_or_else(|_| host::fail("spawn")));
        spawner.spawn(run(network).unwrap_or_else(|_| host::fail("spawn")));
    })
}

#[embassy_executor::task]
async fn run_network(mut runner: Runner<'static, Lan9118>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn run(network: Stack<'static>) {
    let mut line = [0; 64];
    let mut words = host::command_line(&mut line).split(' ').skip(1);
    let mut number = || words.next().and_then(|word| word.parse::<u16>().ok());
    let (Some(port), Some(count)) = (number(), number()) else {
        host::fail("the command line is not: echo PORT COUNT");
    };

    // The host pulls the cable and plugs it in again, to see that it is noticed.
    network.wait_link_up().await;
    say!("link up");
    network.wait_link_down().await;
    say!("link down");
    network.wait_link_up().await;
    say!("link up");

    let (mut received, mut sent) = ([0; 512], [0; 512]);
    let (mut received_meta, mut sent_meta) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 2]);
    let mut socket = UdpSocket::new(
        network,
        &mut received_meta,
        &mut received,
        &mut sent_meta,
        &mut sent,
    );
    if socket.bind(0).is_err() {
        host::fail("bind");
    }

    let mut answered: u16 = 0;
    let mut buffer = [0; 64];
    for number in 0..count {
        let message = [number.to_be_bytes(); 20];
        if socket
            .send_to(message.as_flattened(), (HOST, port))
            .await
            .is_err()
        {
            host::fail("send");
        }
        if let Ok(Ok((length, _))) = with_timeout(Duration::from_secs(1), socket.recv_from(&mut buffer)).await
            && buffer.get(..length) == Some(message.as_flattened())
        {
            answered += 1;
        }
    }
    say!(
        "echo sent=",
        count,
        " answered=",
        answered,
        " dropped=",
        lan9118::dropped(),
        " stack=",
        stack::high_water()
    );
    if answered != count {
        host::fail("not all came back");
    }
    host::succeed()
}
