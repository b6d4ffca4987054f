//! The simulated world itself: datagrams arrive, faults happen, the same seed gives the same trace.
#![allow(missing_docs)]

mod support;

use embassy_net::udp::{PacketMetadata, UdpSocket};
use embassy_net::{IpEndpoint, Ipv4Address};
use embassy_time::Timer;

use support::clock;
use support::hub::Faults;
use support::world::World;

fn socket(stack: embassy_net::Stack<'static>, port: u16) -> UdpSocket<'static> {
    let meta = || Box::leak(Box::new([PacketMetadata::EMPTY; 4]));
    let buffer = || Box::leak(Box::new([0; 2048]));
    let mut socket = UdpSocket::new(stack, meta(), buffer(), meta(), buffer());
    socket.bind(port).unwrap();
    socket
}

/// Sends 100 datagrams to an echo; gives how many came back, and the trace.
fn echoes(seed: u64, faults: Faults) -> (usize, (u64, u64)) {
    let mut world = World::new(seed);
    world.hub.set_faults(faults);
    let (near, _) = world.stack(1);
    let (far, _) = world.stack(2);
    world.spawn(async move {
        let socket = socket(far, 7);
        let mut buffer = [0; 64];
        loop {
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&buffer[..len], from).await.unwrap();
        }
    });
    let socket: &UdpSocket<'_> = Box::leak(Box::new(socket(near, 1000)));
    world.spawn(async move {
        let to = IpEndpoint::new(Ipv4Address::new(10, 0, 0, 2).into(), 7);
        for turn in 0..100u8 {
            socket.send_to(&[turn], to).await.unwrap();
            Timer::after_millis(10).await;
        }
    });
    let back = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = std::rc::Rc::clone(&back);
    world.spawn(async move {
        let mut buffer = [0; 64];
        loop {
            socket.recv_from(&mut buffer).await.unwrap();
            count.set(count.get() + 1);
        }
    });
    world.run_for(10_000);
    assert_eq!(clock::now(), 10_000_000);
    (back.get(), world.hub.trace())
}

#[test]
fn datagrams_arrive() {
    let (back, _) = echoes(1, Faults::NONE);
    assert_eq!(back, 100);
}

#[test]
fn faults_happen_and_a_seed_repeats_them() {
    let faults = Faults {
        loss: 200,
        duplication: 50,
        delay: (100, 30_000),
    };
    let (back, trace) = echoes(1, faults);
    assert!((40..95).contains(&back), "{back}");
    assert_eq!(echoes(1, faults), (back, trace));
    assert_ne!(echoes(2, faults).1, trace);
}
