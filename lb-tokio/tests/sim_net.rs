//! The simulated network keeps its promises.

mod sim;

use std::{future::poll_fn, io::IoSliceMut, net::SocketAddr, sync::Arc, time::Duration};

use quinn::{
    AsyncUdpSocket,
    udp::{EcnCodepoint, RecvMeta, Transmit},
};
use sim::{Fate, Net};
use tokio::time::{Instant, sleep, timeout};

type Socket = Arc<dyn AsyncUdpSocket>;

fn addr(node: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node], 4433))
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn send(socket: &Socket, destination: SocketAddr, contents: &[u8]) {
    let transmit = Transmit {
        destination,
        ecn: Some(EcnCodepoint::Ect0),
        contents,
        segment_size: None,
        src_ip: None,
    };
    socket.try_send(&transmit).expect("sending never fails");
}

async fn receive(socket: &Socket) -> (SocketAddr, Vec<u8>) {
    let mut buf = [0; 2_000];
    let mut meta = [RecvMeta::default()];
    let received = poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buf)], &mut meta)).await;
    assert_eq!(received.expect("receiving never fails"), 1);
    assert_eq!(meta[0].ecn, Some(EcnCodepoint::Ect0));
    (meta[0].addr, buf[..meta[0].len].to_vec())
}

/// Everything that arrives within the next second.
async fn drain(socket: &Socket) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut all = Vec::new();
    while let Ok(one) = timeout(ms(1_000), receive(socket)).await {
        all.push(one);
    }
    all
}

#[test]
fn latency_stays_in_its_range_and_fills_it() {
    sim::run(async {
        let net = Net::new(1);
        net.set_latency(ms(20)..=ms(29));
        let (a, b) = (net.bind(addr(1)), net.bind(addr(2)));
        let mut seen = [0_u32; 10];
        for round in 0..500_u32 {
            let sent = Instant::now();
            send(&a, addr(2), &round.to_le_bytes());
            assert_eq!(receive(&b).await, (addr(1), round.to_le_bytes().to_vec()));
            let took = sent.elapsed();
            assert!((ms(20)..=ms(29)).contains(&took), "{took:?}");
            seen[took.as_millis() as usize - 20] += 1;
        }
        // Deliveries wait for the next millisecond, so only an exact draw makes the lowest.
        assert!(seen[1..].iter().all(|count| *count > 25), "{seen:?}");
    });
}

#[test]
fn arrivals_follow_their_times_then_their_order_of_sending() {
    sim::run(async {
        let net = Net::new(1);
        net.keep_events();
        net.set_latency(ms(5)..=ms(5));
        let (a, b, c) = (net.bind(addr(1)), net.bind(addr(2)), net.bind(addr(3)));
        for number in 0..100 {
            send(if number % 2 == 0 { &a } else { &b }, addr(3), &[number]);
        }
        net.set_latency(ms(2)..=ms(2));
        send(&a, addr(3), b"overtakes");
        let got: Vec<_> = drain(&c).await.into_iter().map(|(_, data)| data).collect();
        let expected: Vec<_> = std::iter::once(b"overtakes".to_vec())
            .chain((0..100).map(|number| vec![number]))
            .collect();
        assert_eq!(got, expected);
        assert_eq!(net.trace().1, 101);
        let last = net.events().pop().expect("events were kept");
        assert_eq!((last.at, last.fate), (ms(5), Fate::Delivered));
    });
}

#[test]
fn loss_and_duplication_come_near_their_chances_and_can_change() {
    sim::run(async {
        let net = Net::new(9);
        net.set_queue(100_000);
        net.set_loss(100);
        net.set_duplication(50);
        let (a, b) = (net.bind(addr(1)), net.bind(addr(2)));
        for _ in 0..10_000 {
            send(&a, addr(2), b"x");
        }
        let (lost, doubled) = (net.count(Fate::Lost), net.count(Fate::Duplicated));
        assert!((900..1_100).contains(&lost), "{lost}");
        assert!((380..520).contains(&doubled), "{doubled}");
        assert_eq!(drain(&b).await.len() as u64, 10_000 - lost + doubled);

        net.set_loss(0);
        net.set_duplication(1_000);
        send(&a, addr(2), b"twice");
        assert_eq!(drain(&b).await.len(), 2);
        net.set_loss(1_000);
        send(&a, addr(2), b"never");
        assert!(drain(&b).await.is_empty());
    });
}

#[test]
fn a_partition_separates_groups_until_healed_and_a_cut_is_one_way() {
    sim::run(async {
        let net = Net::new(3);
        let sockets: Vec<_> = (0..5).map(|node| net.bind(addr(node))).collect();
        let heard = async || {
            for (from, socket) in sockets.iter().enumerate() {
                for to in (0..5).filter(|to| *to != from) {
                    send(socket, addr(to as u8), b"hello");
                }
            }
            let mut heard = Vec::new();
            for socket in &sockets {
                let mut from: Vec<_> = drain(socket).await.into_iter().map(|(src, _)| src).collect();
                from.sort();
                heard.push(
                    from.iter()
                        .map(|src| (0..5).find(|n| addr(*n) == *src))
                        .collect::<Vec<_>>(),
                );
            }
            heard
        };
        let nodes = |list: &[u8]| list.iter().map(|n| Some(*n)).collect::<Vec<_>>();

        // Node 4 is in no group.
        net.partition(&[&[addr(0), addr(1)], &[addr(2)], &[addr(3)]]);
        let expected = [&[1, 4][..], &[0, 4], &[4], &[4], &[0, 1, 2, 3]].map(nodes);
        assert_eq!(heard().await, expected);

        net.heal();
        net.cut(addr(0), addr(1));
        let expected = [
            &[1, 2, 3, 4][..],
            &[2, 3, 4],
            &[0, 1, 3, 4],
            &[0, 1, 2, 4],
            &[0, 1, 2, 3],
        ]
        .map(nodes);
        assert_eq!(heard().await, expected);

        net.mend(addr(0), addr(1));
        assert!(heard().await.iter().all(|from| from.len() == 4));
    });
}

#[test]
fn an_address_is_lost_when_dropped_and_works_when_bound_again() {
    sim::run(async {
        let net = Net::new(4);
        net.set_latency(ms(10)..=ms(10));
        let (a, b) = (net.bind(addr(1)), net.bind(addr(2)));
        send(&a, addr(2), b"lost with the queue");
        sleep(ms(20)).await;
        send(&a, addr(2), b"lost on arrival");
        drop(b);
        sleep(ms(20)).await;
        assert_eq!(net.count(Fate::Unbound), 1);

        send(&a, addr(2), b"meets the next one");
        let b = net.bind(addr(2));
        assert_eq!(drain(&b).await, [(addr(1), b"meets the next one".to_vec())]);
        send(&b, addr(1), b"answer");
        assert_eq!(receive(&a).await, (addr(2), b"answer".to_vec()));

        send(&a, addr(99), b"nobody");
        sleep(ms(20)).await;
        assert_eq!(net.count(Fate::Unbound), 2);
    });
}

#[test]
fn an_unplugged_socket_is_mute_deaf_and_harmless_to_its_successor() {
    sim::run(async {
        let net = Net::new(4);
        let (a, old) = (net.bind(addr(1)), net.bind(addr(2)));
        net.unplug(addr(2));
        let new = net.bind(addr(2));
        send(&old, addr(1), b"from the grave");
        send(&a, addr(2), b"to the living");
        assert!(drain(&old).await.is_empty());
        assert!(drain(&a).await.is_empty());
        drop(old);
        assert_eq!(receive(&new).await, (addr(1), b"to the living".to_vec()));
        send(&a, addr(2), b"again");
        assert_eq!(receive(&new).await, (addr(1), b"again".to_vec()));
    });
}

#[test]
#[should_panic(expected = "10.0.0.1:4433 is in use")]
fn two_living_sockets_cannot_share_an_address() {
    sim::run(async {
        let net = Net::new(4);
        let _first = net.bind(addr(1));
        let _second = net.bind(addr(1));
    });
}

#[test]
fn queues_and_lengths_are_bounded() {
    sim::run(async {
        let net = Net::new(5);
        net.set_queue(3);
        let (a, b) = (net.bind(addr(1)), net.bind(addr(2)));
        for _ in 0..5 {
            send(&a, addr(2), b"x");
        }
        sleep(ms(20)).await;
        assert_eq!(drain(&b).await.len(), 3);
        assert_eq!(net.count(Fate::Overflowed), 2);

        send(&a, addr(2), &[0; 1_472]);
        send(&a, addr(2), &[0; 1_473]);
        net.set_mtu(1_200);
        send(&a, addr(2), &[0; 1_201]);
        assert_eq!(drain(&b).await.len(), 1);
        assert_eq!(net.count(Fate::TooLong), 2);
    });
}

#[test]
fn changing_one_fault_does_not_move_the_others() {
    let latencies = |loss| {
        sim::run(async {
            let net = Net::new(6);
            net.keep_events();
            let (a, _b) = (net.bind(addr(1)), net.bind(addr(2)));
            net.set_loss(loss);
            for _ in 0..50 {
                send(&a, addr(2), b"first");
            }
            sleep(ms(100)).await;
            net.set_loss(0);
            for number in 0..50 {
                send(&a, addr(2), &vec![0; 100 + number]);
            }
            sleep(ms(100)).await;
            let mut events = net.events();
            events.retain(|event| event.at > ms(100));
            events
        })
    };
    let events = latencies(0);
    assert_eq!(events.len(), 50);
    assert_eq!(events, latencies(500));
}

#[test]
fn real_sockets_are_refused() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a loopback port");
    let refused = sim::runtime()
        .wrap_udp_socket(socket)
        .expect_err("there is no real I/O");
    assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported);
}

#[test]
fn the_carrier_ends_with_its_net() {
    sim::run(async {
        let net = Net::new(7);
        let socket = net.bind(addr(1));
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        sleep(ms(1)).await;
        assert_eq!(tasks(), 1);
        drop(net);
        sleep(ms(1)).await;
        assert_eq!(tasks(), 1, "a socket keeps the net alive");
        send(&socket, addr(1), b"to itself");
        assert_eq!(receive(&socket).await.0, addr(1));
        drop(socket);
        sleep(ms(1)).await;
        assert_eq!(tasks(), 0);
    });
}
