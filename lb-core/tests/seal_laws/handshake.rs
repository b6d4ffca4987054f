//! The laws of the handshake: strangers, replays, reboots, keys that change.

use lb_core::Instant;
use lb_core::wire::seal::{
    ChaCha20Poly1305, DeviceKey, HELLO_BYTES, HelloError, Initiator, OpenError, WELCOME_BYTES, WelcomeError,
    accept_hello, verify_hello,
};
use std::slice::from_ref;

use crate::ends::{CLUSTER, Pair, answer, hello, key, seal};

#[test]
fn no_answer_is_longer_than_its_question() {
    let (_, sent) = hello::<ChaCha20Poly1305>(key(1), 2);
    let (welcome, _) = accept_hello::<ChaCha20Poly1305>(&[key(1)], &sent, 9, &[3; 16]).unwrap();
    assert!(welcome.len() <= sent.len());
    assert_eq!((sent.len(), welcome.len()), (HELLO_BYTES, WELCOME_BYTES));
}

#[test]
fn forged_welcomes_do_not_end_an_attempt() {
    let (mut edge, sent) = hello::<ChaCha20Poly1305>(key(1), 2);
    let before = format!("{edge:?}");
    let refusals = [
        // Made with another key, for another attempt, for another device.
        (
            accept(&key(9), &hello::<ChaCha20Poly1305>(key(9), 2).1),
            WelcomeError::Forged,
        ),
        (
            accept(&key(1), &hello::<ChaCha20Poly1305>(key(1), 5).1),
            WelcomeError::Forged,
        ),
        (
            accept(
                &DeviceKey::new(8, &[1; 32], CLUSTER),
                &hello::<ChaCha20Poly1305>(DeviceKey::new(8, &[1; 32], CLUSTER), 2).1,
            ),
            WelcomeError::ForeignKey(8),
        ),
    ];
    for (welcome, refusal) in refusals {
        assert_eq!(edge.handle_welcome(&welcome).unwrap_err(), refusal);
    }
    assert_eq!(edge.handle_welcome(&sent).unwrap_err(), WelcomeError::Malformed);
    assert_eq!(
        edge.handle_welcome(&[2; WELCOME_BYTES]).unwrap_err(),
        WelcomeError::Version(2)
    );
    assert_eq!(format!("{edge:?}"), before);
    assert!(edge.handle_welcome(&accept(&key(1), &sent)).is_ok());
}

fn accept(key: &DeviceKey, hello: &[u8]) -> [u8; WELCOME_BYTES] {
    accept_hello::<ChaCha20Poly1305>(from_ref(key), hello, 9, &[3; 16])
        .expect("the key is known")
        .0
}

#[test]
fn hellos_that_prove_nothing_leave_no_trace() {
    let store = [key(1)];
    let refusal = |key: DeviceKey| {
        let (_, sent) = hello::<ChaCha20Poly1305>(key, 2);
        verify_hello::<ChaCha20Poly1305>(&store, &sent).unwrap_err()
    };
    assert_eq!(refusal(key(2)), HelloError::Forged);
    assert_eq!(refusal(DeviceKey::new(7, &[1; 32], "other")), HelloError::Forged);
    assert_eq!(
        refusal(DeviceKey::new(8, &[1; 32], CLUSTER)),
        HelloError::UnknownKey(8)
    );
    assert_eq!(
        verify_hello::<ChaCha20Poly1305>(&store, &[]).unwrap_err(),
        HelloError::Malformed
    );
    assert_eq!(
        verify_hello::<ChaCha20Poly1305>(&store, &[9; 48]).unwrap_err(),
        HelloError::Version(9)
    );
}

#[test]
fn replayed_hellos_do_not_disturb_a_session() {
    let mut pair = Pair::new();
    for _ in 0..3 {
        pair.reboot();
        assert_eq!(pair.send(), Ok(true));
    }
    assert!(
        answer(&mut pair.seat, &pair.recorded[3].clone(), 99).is_none(),
        "its own HELLO"
    );
    for round in 0..100_u8 {
        let replayed = pair.recorded[usize::from(round) % 3];
        assert!(answer(&mut pair.seat, &replayed, 100 + round).is_some());
        assert_eq!(pair.send(), Ok(false));
        assert_eq!(pair.receive(), Ok(b"down".to_vec()));
        assert!(pair.seat.tags().count() <= 3, "bounded");
    }
}

#[test]
fn a_repeated_hello_gets_the_same_welcome() {
    let mut pair = Pair::new();
    let (mut edge, sent) = hello(key(1), 50);
    let first = answer(&mut pair.seat, &sent, 50);
    assert_eq!(answer(&mut pair.seat, &sent, 51), first);
    assert_eq!(pair.seat.tags().count(), 2);
    pair.edge = edge.handle_welcome(&first.unwrap()).unwrap();
    assert_eq!(pair.send(), Ok(true));
    assert_eq!(pair.receive(), Ok(b"down".to_vec()));
}

#[test]
fn a_reboot_ends_the_former_life() {
    let mut pair = Pair::new();
    let mut held_back = seal(&mut pair.edge, b"late");
    let old_tag = pair.edge.tag();
    pair.reboot();
    assert!(
        pair.seat.open(&mut held_back.clone()).is_ok(),
        "the old session holds until then"
    );
    assert_eq!(pair.send(), Ok(true));
    assert_eq!(
        pair.seat.open(&mut held_back),
        Err(OpenError::ForeignSession(old_tag))
    );
}

#[test]
fn a_first_datagram_held_back_cannot_bring_back_an_older_session() {
    let mut pair = Pair::new();
    pair.reboot();
    let mut held_back = seal(&mut pair.edge, b"never arrived");
    pair.reboot();
    assert_eq!(pair.send(), Ok(true));
    assert!(matches!(
        pair.seat.open(&mut held_back),
        Err(OpenError::ForeignSession(_))
    ));
    assert_eq!(pair.receive(), Ok(b"down".to_vec()));

    // The other way round, the younger one still has its turn.
    pair.reboot();
    let mut first = seal(&mut pair.edge, b"slow");
    pair.reboot();
    assert_eq!(
        pair.seat.open(&mut first).map(|opened| opened.established),
        Ok(true)
    );
    assert_eq!(pair.send(), Ok(true));
    assert_eq!(pair.receive(), Ok(b"down".to_vec()));
}

#[test]
fn keys_can_be_changed_without_a_gap() {
    let accepts = |store: &[DeviceKey], hello: &[u8]| {
        accept_hello::<ChaCha20Poly1305>(store, hello, 9, &[3; 16]).map(|(welcome, _)| welcome)
    };
    let (old, new) = (key(1), key(2));

    // The server has both: devices with either are welcome, and it knows which they used.
    let store = [new.clone(), old.clone()];
    for (key, newest) in [(&new, true), (&old, false)] {
        let (mut edge, sent) = hello::<ChaCha20Poly1305>(key.clone(), 2);
        let verified = verify_hello::<ChaCha20Poly1305>(&store, &sent).unwrap();
        assert_eq!((verified.key_id(), verified.is_newest_key()), (7, newest));
        assert!(edge.handle_welcome(&accepts(&store, &sent).unwrap()).is_ok());
    }

    // The device has both, the server only the old one yet: the device falls back.
    let mut edge = Initiator::<ChaCha20Poly1305>::new(new, Some(old.clone()));
    edge.start(Instant::ZERO, [5; 16]);
    let mut tries = 0;
    let welcome = loop {
        let now = edge.deadline().unwrap();
        tries += 1;
        match accepts(from_ref(&old), &edge.poll_transmit(now).unwrap()) {
            Ok(welcome) => break welcome,
            Err(error) => assert_eq!(error, HelloError::Forged),
        }
    };
    assert_eq!(tries, 4);
    assert!(edge.handle_welcome(&welcome).is_ok());
}

/// The price of a bounded table: it can be filled by replays within a handshake's round trip. The established
/// session does not notice, and the next attempt makes up for it.
#[test]
fn a_pending_session_can_be_pushed_out_and_is_made_again() {
    let mut pair = Pair::new();
    for _ in 0..2 {
        pair.reboot();
        assert_eq!(pair.send(), Ok(true));
    }
    let (mut edge, sent) = hello(key(1), 60);
    let welcome = answer(&mut pair.seat, &sent, 60).unwrap();
    let store = [key(1)];
    for (number, expected) in [(0, None), (1, Some(60))] {
        let replayed = verify_hello(&store, &pair.recorded[number]).unwrap();
        let answer = pair.seat.hello(&replayed, 70 + number as u32, &[70; 16]).unwrap();
        assert_eq!(
            answer.evicted, expected,
            "the oldest goes, and the server learns its tag"
        );
    }
    assert_eq!(pair.seat.tags().collect::<Vec<_>>(), [3, 70, 71]);
    assert_eq!((pair.send(), pair.receive()), (Ok(false), Ok(b"down".to_vec())));

    pair.edge = edge.handle_welcome(&welcome).unwrap();
    assert_eq!(pair.send(), Err(OpenError::ForeignSession(60)));
    assert!(
        !pair.edge.is_confirmed(),
        "by which the edge knows that it must try again"
    );
    pair.reboot();
    assert_eq!((pair.send(), pair.receive()), (Ok(true), Ok(b"down".to_vec())));
    assert!(pair.edge.is_confirmed());
    assert_eq!(pair.seat.tags().count(), 1, "what was older is gone");
}
