//! The vectors of `SEAL.md`.

use super::*;
use crate::Instant;

const PSK: [u8; PSK_BYTES] = {
    let mut psk = [0; PSK_BYTES];
    let mut i = 0;
    while i < PSK_BYTES {
        psk[i] = i as u8;
        i += 1;
    }
    psk
};

fn random(first: u8) -> [u8; RANDOM_BYTES] {
    core::array::from_fn(|i| first + i as u8)
}

fn hex(bytes: &[u8]) -> std::string::String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn vector(name: &str) -> &'static str {
    let specification = include_str!("../../../SEAL.md");
    let mut lines = specification.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(is, _)| *is == name)
        .map_or("missing", |(_, hex)| hex)
}

fn check<C: Cipher>(suite: &str) {
    let key = || DeviceKey::new(7, &PSK, "orchard");
    let expect = |name: &str, bytes: &[u8]| {
        assert_eq!(hex(bytes), vector(&format!("{suite}-{name}")), "{suite} {name}");
    };
    let (up, down) = key().session(C::SUITE, 0x0102_0304, &random(0xa0), &random(0xb0));
    expect("to-server-key", up.bytes());
    expect("to-edge-key", down.bytes());

    let mut edge = Initiator::<C>::new(key(), None);
    edge.start(Instant::ZERO, random(0xa0));
    let hello = edge.poll_transmit(Instant::ZERO).unwrap();
    expect("hello", &hello);
    let (welcome, pending) = accept_hello::<C>(&[key()], &hello, 0x0102_0304, &random(0xb0)).unwrap();
    expect("welcome", &welcome);
    let (mut edge, mut server) = (edge.handle_welcome(&welcome).unwrap(), pending.into_session());

    for (name, payload) in [("up-0", b"reading: 21.5 C".as_slice()), ("up-1", b"")] {
        let mut buffer = [0; 64];
        let length = edge.seal(payload, &mut buffer).unwrap();
        expect(name, &buffer[..length]);
        assert_eq!(server.open(&mut buffer[..length]), Ok(payload));
    }
    let payload = b"a longer answer, of more than two blocks";
    let mut buffer = [0; 80];
    let length = server.seal(payload, &mut buffer).unwrap();
    expect("down-0", &buffer[..length]);
    assert_eq!(edge.open(&mut buffer[..length]), Ok(payload.as_slice()));
}

#[test]
fn device_keys() {
    let key = DeviceKey::new(7, &PSK, "orchard");
    let (mac, seed) = key.derived();
    assert_eq!(hex(mac), vector("mac-key"));
    assert_eq!(hex(seed), vector("seed"));
}

#[test]
fn chacha20_poly1305() {
    check::<ChaCha20Poly1305>("chacha");
}

#[cfg(feature = "seal-ascon")]
#[test]
fn ascon_aead128() {
    check::<Ascon128>("ascon");
}
