//! Handshakes over a network that loses, repeats and reorders.

use lb_core::Instant;
use lb_core::rng::{Rng, Sfc32};
use lb_core::wire::seal::{Initiator, Peek, Seat, Session, peek, verify_hello};

use crate::ends::{key, seal};

/// A handshake over a network that loses, repeats and reorders, with an attacker who replays what it saw.
/// Returns the seconds until both ends were sure.
fn simulate(seed: u64, loss: u32, replays: bool) -> u64 {
    let mut rng = Sfc32::new(seed);
    let mut seat: Seat = Seat::new();
    let mut initiator = Initiator::new(key(2), Some(key(1)));
    // Some servers have only the old key yet.
    let store = if rng.below(2) == 0 {
        vec![key(1)]
    } else {
        vec![key(2), key(1)]
    };
    let mut session: Option<(Session, Instant)> = None;
    let mut network: Vec<(Instant, bool, Vec<u8>)> = Vec::new();
    let mut recorded: Vec<Vec<u8>> = Vec::new();
    let mut tag = 0;
    let random = |rng: &mut Sfc32| core::array::from_fn(|_| rng.next_u32() as u8);
    let first = random(&mut rng);
    initiator.start(Instant::ZERO, first);

    for step in 0..200_000_u64 {
        let now = Instant::from_millis(step * 100);
        let mut send = |rng: &mut Sfc32, up: bool, bytes: &[u8]| {
            for _ in 0..=rng.below(2) {
                if rng.below(100) >= loss {
                    let slowest = if rng.below(4) == 0 { 3_000 } else { 200 };
                    let delay = u64::from(rng.below(slowest));
                    network.push((Instant::from_millis(step * 100 + delay), up, bytes.to_vec()));
                }
            }
            if up {
                recorded.push(bytes.to_vec());
            }
        };
        if let Some(hello) = initiator.poll_transmit(now) {
            send(&mut rng, true, &hello);
        }
        if let Some((live, since)) = &mut session {
            if live.is_confirmed() {
                return step / 10;
            }
            if step % 10 == 0 {
                send(&mut rng, true, &seal(live, b"heartbeat"));
            }
            if now.since(*since) > lb_core::Duration::from_secs(10) {
                session = None;
                let fresh = random(&mut rng);
                initiator.start(now, fresh);
            }
        }
        if replays && step % 50 == 0 && !recorded.is_empty() {
            let old = recorded[rng.below(recorded.len() as u32) as usize].clone();
            network.push((now, true, old));
        }
        let (arrived, later) = network.drain(..).partition::<Vec<_>, _>(|(due, ..)| *due <= now);
        network = later;
        for (_, up, mut bytes) in arrived {
            let mut back: Option<Vec<u8>> = None;
            match (up, peek(&bytes).expect("only ours are on this network")) {
                (true, Peek::Hello { .. }) => {
                    if let Ok(hello) = verify_hello(store.as_slice(), &bytes) {
                        tag += 1;
                        let fresh = random(&mut rng);
                        back = seat
                            .hello(&hello, tag, &fresh)
                            .map(|answer| answer.welcome.to_vec());
                    }
                }
                (true, _) => {
                    if seat.open(&mut bytes).is_ok() {
                        back = seat.session().map(|session| seal(session, b"ack"));
                    }
                }
                (false, Peek::Welcome { .. }) => {
                    if let Ok(live) = initiator.handle_welcome(&bytes) {
                        session = Some((live, now));
                    }
                }
                (false, _) => {
                    if let Some((live, _)) = &mut session {
                        let _ = live.open(&mut bytes);
                    }
                }
            }
            if let Some(back) = back
                && rng.below(100) >= loss
            {
                let delay = u64::from(rng.below(300));
                network.push((Instant::from_millis(step * 100 + delay), false, back));
            }
        }
    }
    panic!("seed {seed}: not established after 20 000 s");
}

#[test]
fn a_handshake_ends_established_whatever_the_network() {
    for seed in 0..300 {
        assert!(simulate(seed, 0, false) <= 60, "seed {seed}, no loss");
        simulate(seed, 30, false);
        simulate(seed, 70, true);
    }
}
