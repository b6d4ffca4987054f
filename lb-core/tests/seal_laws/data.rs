//! The laws of sealed datagrams.

#[cfg(feature = "seal-ascon")]
use lb_core::wire::seal::{Ascon128, HelloError};
use lb_core::wire::seal::{
    ChaCha20Poly1305, Cipher, DeviceKey, HEADER_BYTES, OpenError, WINDOW, WelcomeError, accept_hello,
    verify_hello,
};
use proptest::prelude::*;

use crate::ends::{CLUSTER, hello, key, open, seal, session, session_with, state};

fn every_bit(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

/// The laws that hold for every cipher.
fn laws<C: Cipher>() {
    // Both directions, and payloads of every length up to two blocks.
    let (mut edge, mut server) = session::<C>();
    let text: Vec<u8> = (0..130).collect();
    for length in 0..text.len() {
        let up = seal(&mut edge, &text[..length]);
        let down = seal(&mut server, &text[..length]);
        assert!(
            length < 8 || up.windows(length).all(|part| part != &text[..length]),
            "it is encrypted"
        );
        assert_ne!(up[HEADER_BYTES..], down[HEADER_BYTES..]);
        assert_eq!(open(&mut server, &up).as_deref(), Ok(&text[..length]));
        assert_eq!(open(&mut edge, &down).as_deref(), Ok(&text[..length]));
        assert_eq!(open(&mut server, &up), Err(OpenError::Replayed));
        assert_eq!(open(&mut edge, &down), Err(OpenError::Replayed));
        assert_eq!(open(&mut server, &down), Err(OpenError::WrongDirection));
        assert_eq!(open(&mut edge, &up), Err(OpenError::WrongDirection));
    }

    // A flipped bit, a missing or an added byte: refused, and the genuine one still opens.
    let (mut edge, mut server) = session::<C>();
    let datagram = seal(&mut edge, b"reading: 21.5 C");
    let before = state(&server);
    for flipped in every_bit(&datagram) {
        assert!(open(&mut server, &flipped).is_err());
    }
    for short in 0..datagram.len() {
        assert!(open(&mut server, &datagram[..short]).is_err());
    }
    let longer = [datagram.as_slice(), &[0]].concat();
    assert_eq!(open(&mut server, &longer), Err(OpenError::Forged));
    // The other direction's type, as an attacker would have to write it to reflect a datagram.
    let mut reflected = datagram.clone();
    reflected[1] ^= 3 ^ 4;
    assert_eq!(open(&mut edge, &reflected), Err(OpenError::Forged));
    assert_eq!(state(&server), before);
    assert_eq!(
        open(&mut server, &datagram).as_deref(),
        Ok(b"reading: 21.5 C".as_slice())
    );

    // Other keys, clusters, key ids and randoms under the same tag; other tags.
    let (mut edge, mut server) = session::<C>();
    let others = [
        session_with::<C>(&key(2), 9, [2, 3]),
        session_with::<C>(&DeviceKey::new(7, &[1; 32], "orchards"), 9, [2, 3]),
        session_with::<C>(&DeviceKey::new(8, &[1; 32], CLUSTER), 9, [2, 3]),
        session_with::<C>(&key(1), 9, [4, 3]),
        session_with::<C>(&key(1), 9, [2, 4]),
    ];
    for (mut other_edge, mut other_server) in others {
        assert_eq!(
            open(&mut server, &seal(&mut other_edge, b"x")),
            Err(OpenError::Forged)
        );
        assert_eq!(
            open(&mut edge, &seal(&mut other_server, b"x")),
            Err(OpenError::Forged)
        );
    }
    let (mut other_edge, _) = session_with::<C>(&key(1), 10, [2, 3]);
    assert_eq!(
        open(&mut server, &seal(&mut other_edge, b"x")),
        Err(OpenError::ForeignSession(10))
    );
    assert!(!server.is_confirmed() && !edge.is_confirmed());
    assert!(open(&mut server, &seal(&mut edge, b"x")).is_ok() && server.is_confirmed());

    // The handshake: no changed bit, no missing byte.
    let (mut edge, sent) = hello::<C>(key(1), 2);
    let store = [key(1)];
    for bad in every_bit(&sent).chain((0..sent.len()).map(|short| sent[..short].to_vec())) {
        assert!(verify_hello::<C>(&store, &bad).is_err());
    }
    let (welcome, _) = accept_hello::<C>(&store, &sent, 9, &[3; 16]).unwrap();
    for bad in every_bit(&welcome).chain((0..welcome.len()).map(|short| welcome[..short].to_vec())) {
        assert!(edge.handle_welcome(&bad).is_err());
        assert!(edge.is_waiting());
    }
    assert!(edge.handle_welcome(&welcome).is_ok());
    assert_eq!(
        edge.handle_welcome(&welcome).unwrap_err(),
        WelcomeError::NotWaiting
    );
}

#[test]
fn chacha20_poly1305_keeps_the_laws() {
    laws::<ChaCha20Poly1305>();
}

#[cfg(feature = "seal-ascon")]
#[test]
fn ascon_aead128_keeps_the_laws() {
    laws::<Ascon128>();
}

#[cfg(feature = "seal-ascon")]
#[test]
fn ends_with_different_ciphers_do_not_meet() {
    let (mut edge, sent) = hello::<Ascon128>(key(1), 2);
    let store = [key(1)];
    assert_eq!(
        verify_hello::<ChaCha20Poly1305>(&store, &sent).unwrap_err(),
        HelloError::Suite(2)
    );
    let (_, other) = hello::<ChaCha20Poly1305>(key(1), 2);
    let (welcome, _) = accept_hello::<ChaCha20Poly1305>(&store, &other, 9, &[3; 16]).unwrap();
    assert_eq!(edge.handle_welcome(&welcome).unwrap_err(), WelcomeError::Suite(1));
}

#[test]
fn reordering_is_taken_within_the_window_and_not_beyond() {
    let (mut edge, mut server) = session::<ChaCha20Poly1305>();
    let sent: Vec<_> = (0..200).map(|_| seal(&mut edge, b"x")).collect();
    assert!(open(&mut server, &sent[150]).is_ok());
    for (counter, datagram) in sent.iter().enumerate() {
        let expected = match counter as u64 {
            150 => Err(OpenError::Replayed),
            old if old + WINDOW <= 150 => Err(OpenError::TooOld),
            _ => Ok(b"x".to_vec()),
        };
        if counter <= 150 {
            assert_eq!(open(&mut server, datagram), expected, "{counter}");
        }
    }
    // A forged counter far ahead does not move the window.
    let mut ahead = sent[199].clone();
    ahead[HEADER_BYTES - 2] = 200;
    assert_eq!(open(&mut server, &ahead), Err(OpenError::Forged));
    assert!(open(&mut server, &sent[151]).is_ok());
}

proptest! {
    #[test]
    fn any_order_opens_each_at_most_once(
        order in prop::collection::vec(0..100_usize, 0..400), payload in prop::collection::vec(any::<u8>(), 0..64)
    ) {
        let (mut edge, mut server) = session::<ChaCha20Poly1305>();
        let sent: Vec<_> = (0..100).map(|_| seal(&mut edge, &payload)).collect();
        let mut opened = [false; 100];
        let mut top = 0;
        for at in order {
            match open(&mut server, &sent[at]) {
                Ok(text) => {
                    prop_assert_eq!(&text, &payload);
                    prop_assert!(!opened[at]);
                    opened[at] = true;
                    top = top.max(at);
                }
                Err(OpenError::Replayed) => prop_assert!(opened[at]),
                Err(OpenError::TooOld) => prop_assert!(at as u64 + WINDOW <= top as u64),
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
