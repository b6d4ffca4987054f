//! A node that listens for edges, and their keys, from the command line.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::{Dir, Node, run};
use lb_tokio::core;
use lb_tokio::core::wire::seal::{DeviceKey, Initiator};

/// The key in what `lb device new` printed.
fn new_device(keys: &str, id: u32, more: &[&str]) -> [u8; 32] {
    let id = id.to_string();
    let made = run(&[&["device", "new", "--keys", keys, "--id", &id], more].concat()).good();
    let text = made.text();
    let hex = text.lines().find_map(|line| line.strip_prefix("key ")).unwrap();
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}

/// Whether the server answers a device with this key.
fn welcomed(key: DeviceKey, server: SocketAddr) -> bool {
    let mut initiator: Initiator = Initiator::new(key, None);
    initiator.start(core::Instant::ZERO, [7; 16]);
    let hello = initiator.poll_transmit(core::Instant::ZERO).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket.send_to(&hello, server).unwrap();
    let mut buffer = [0; 100];
    match socket.recv(&mut buffer) {
        Ok(length) => initiator.handle_welcome(&buffer[..length]).is_ok(),
        Err(_) => false,
    }
}

/// Waits until the server does (or does not) answer a device with this key.
#[track_caller]
fn becomes(welcome: bool, key: &DeviceKey, server: SocketAddr) {
    let began = Instant::now();
    while welcomed(key.clone(), server) != welcome {
        assert!(began.elapsed() < Duration::from_secs(20), "not {welcome}");
    }
}

#[test]
fn a_device_gets_a_key_and_a_node_takes_it_over() {
    let temp = Dir::new();
    let (certs, keys) = (temp.at("certs"), temp.at("devices.toml"));
    run(&["cert", "--cluster", "lab", "--dir", &certs, "--nodes", "1,9"]).good();
    let first = new_device(&keys, 7, &["--name", "north gate"]);
    run(&["device", "new", "--keys", &keys, "--id", "7"]).refused(1, &["device 7 already", "`former`"]);

    let listen = ["--edge-listen", "127.0.0.1:0", "--edge-keys", &keys];
    let node = Node::start(&[&["--id", "1", "--dir", &certs], &listen[..]].concat());
    let edges = node.line.split(" edges=").nth(1).unwrap().parse().unwrap();
    let key = |id, psk: &[u8; 32]| DeviceKey::new(id, psk, "lab");
    becomes(true, &key(7, &first), edges);
    assert!(!welcomed(DeviceKey::new(7, &first, "other"), edges));

    let second = new_device(&keys, 8, &[]);
    node.signal("HUP");
    becomes(true, &key(8, &second), edges);
    // Without a signal, within seconds; and what is wrong changes nothing.
    let mut text = std::fs::read_to_string(&keys).unwrap();
    temp.write("devices.toml", "[[device]]");
    node.signal("HUP");
    becomes(true, &key(8, &second), edges);
    text = text.replace("id = 8", "id = 10");
    temp.write("devices.toml", text);
    // Two in a row: a single one may have been lost.
    becomes(false, &key(8, &second), edges);
    becomes(false, &key(8, &second), edges);
    becomes(true, &key(10, &second), edges);

    let whom = ["--id", "9", "--dir", &certs, "--seed", &node.seed()];
    let shown = run(&[&["status"], &whom[..]].concat()).good().text();
    assert!(shown.contains("edges of 16384 at 127.0.0.1:"), "{shown}");
    assert!(
        shown.contains("north gate") && shown.contains("NO_HEARTBEAT"),
        "{shown}"
    );
    let told = run(&[&["status", "--json"], &whom[..]].concat()).good().text();
    assert!(told.contains("\"welcomes\":"), "{told}");
    node.signal("TERM");
    assert_eq!(node.ended(), Some(0));
}

#[test]
fn mistakes_are_told() {
    let temp = Dir::new();
    let certs = temp.at("certs");
    run(&["cert", "--cluster", "lab", "--dir", &certs, "--nodes", "1"]).good();
    let node = ["node", "--id", "1", "--dir", &certs];
    let with = |more: &[&str]| run(&[&node[..], more].concat());
    with(&["--edge-listen", "127.0.0.1:0"]).refused(1, &["--edge-keys FILE"]);
    let keys = temp.write("shown.toml", "");
    with(&["--edge-listen", "127.0.0.1:0", "--edge-keys", &keys]).refused(1, &["chmod 600", "shown.toml"]);
    let none = temp.at("none.toml");
    with(&["--edge-listen", "127.0.0.1:0", "--edge-keys", &none]).refused(1, &["none.toml", "No such file"]);
    new_device(&none, 1, &[]);
    with(&["--edge-listen", "0.0.0.0:0", "--edge-keys", &none]).refused(1, &["--edge-advertise"]);
    with(&["--tag", "lb.edge=x"]).refused(1, &["lb.edge", "set by the node itself"]);
}
