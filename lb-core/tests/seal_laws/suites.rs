//! The laws of a seat whose device speaks one suite today and another tomorrow.

use lb_core::wire::seal::{
    AnyCipher, Ascon128, ChaCha20Poly1305, Cipher, HELLO_BYTES, HelloError, Initiator, OpenError, Seat,
    Session, WELCOME_BYTES, verify_hello,
};
use proptest::prelude::*;

use crate::ends::{hello, key, open, seal};

/// The edge's end of a session, of whichever suite.
trait Edge {
    fn up(&mut self) -> Vec<u8>;
    fn takes(&mut self, datagram: &[u8]) -> bool;
}

impl<C: Cipher> Edge for Session<C> {
    fn up(&mut self) -> Vec<u8> {
        seal(self, b"up")
    }

    fn takes(&mut self, datagram: &[u8]) -> bool {
        open(self, datagram).as_deref() == Ok(b"down")
    }
}

/// A session as the edge has it; without an end when it was made by a replay.
struct Life {
    tag: u32,
    hello: [u8; HELLO_BYTES],
    welcome: [u8; WELCOME_BYTES],
    edge: Option<Box<dyn Edge>>,
}

/// A seat and what it must be like.
#[derive(Default)]
struct Model {
    seat: Seat<AnyCipher>,
    established: Option<Life>,
    pending: Vec<Life>,
    ended: Vec<Life>,
    recorded: Vec<[u8; HELLO_BYTES]>,
    next: u8,
}

impl Model {
    fn number(&mut self) -> u8 {
        self.next += 1;
        self.next
    }

    fn reboot<C: Cipher + 'static>(&mut self) {
        let (mut edge, sent) = hello::<C>(key(1), self.number());
        self.recorded.push(sent);
        self.greet(&sent, |welcome| Some(made(&mut edge, welcome)));
    }

    fn replay(&mut self, which: prop::sample::Index) {
        if !self.recorded.is_empty() {
            let sent = *which.get(&self.recorded);
            self.greet(&sent, |_| None);
        }
    }

    fn greet(
        &mut self,
        sent: &[u8; HELLO_BYTES],
        edge: impl FnOnce(&[u8; WELCOME_BYTES]) -> Option<Box<dyn Edge>>,
    ) {
        let (store, number) = ([key(1)], self.number());
        let hello = verify_hello(&store, sent).unwrap();
        let answer = self.seat.hello(&hello, number.into(), &[number; 16]);
        if self
            .established
            .as_ref()
            .is_some_and(|known| known.hello == *sent)
        {
            return assert!(answer.is_none(), "the HELLO of the established session");
        }
        let answer = answer.unwrap();
        if let Some(known) = self.pending.iter().find(|known| known.hello == *sent) {
            assert_eq!((answer.tag, answer.evicted), (known.tag, None));
            return assert_eq!(answer.welcome, known.welcome);
        }
        let evicted = (self.pending.len() == 2).then(|| self.pending.remove(0));
        assert_eq!(
            (answer.tag, answer.evicted),
            (number.into(), evicted.as_ref().map(|life| life.tag))
        );
        self.ended.extend(evicted);
        self.pending.push(Life {
            tag: answer.tag,
            hello: *sent,
            welcome: answer.welcome,
            edge: edge(&answer.welcome),
        });
    }

    fn first_datagram(&mut self, which: prop::sample::Index) {
        if self.pending.is_empty() {
            return;
        }
        let at = which.index(self.pending.len());
        let Some(edge) = &mut self.pending[at].edge else {
            return;
        };
        let mut datagram = edge.up();
        let opened = self.seat.open(&mut datagram).unwrap();
        assert_eq!((opened.payload, opened.established), (&b"up"[..], true));
        let mut older: Vec<Life> = self.pending.drain(..=at).collect();
        let former = std::mem::replace(&mut self.established, older.pop());
        self.ended.extend(older);
        self.ended.extend(former);
    }

    /// What must hold whatever came.
    fn check(&mut self) {
        if let Some(edge) = self.established.as_mut().and_then(|life| life.edge.as_mut()) {
            let mut datagram = edge.up();
            assert_eq!(
                self.seat.open(&mut datagram).map(|opened| opened.established),
                Ok(false)
            );
            let down = seal(self.seat.session().unwrap(), b"down");
            assert!(edge.takes(&down));
            for other in self.pending.iter_mut().chain(&mut self.ended) {
                assert!(other.edge.as_mut().is_none_or(|edge| !edge.takes(&down)));
            }
        }
        // The latest will do: none comes back.
        self.ended.drain(..self.ended.len().saturating_sub(4));
        for life in &mut self.ended {
            if let Some(edge) = &mut life.edge {
                assert_eq!(
                    self.seat.open(&mut edge.up()),
                    Err(OpenError::ForeignSession(life.tag))
                );
            }
        }
        let lives = self.established.iter().chain(&self.pending);
        assert_eq!(
            self.seat.tags().collect::<Vec<_>>(),
            lives.map(|life| life.tag).collect::<Vec<_>>()
        );
    }
}

fn made<C: Cipher + 'static>(edge: &mut Initiator<C>, welcome: &[u8]) -> Box<dyn Edge> {
    Box::new(edge.handle_welcome(welcome).unwrap())
}

proptest! {
    #[test]
    fn a_seat_is_one_place_for_all_suites(steps in prop::collection::vec((0..6_u8, any::<prop::sample::Index>()), 0..80)) {
        let mut model = Model::default();
        for (step, which) in steps {
            match step {
                0 => model.reboot::<ChaCha20Poly1305>(),
                1 => model.reboot::<Ascon128>(),
                2..=3 => model.replay(which),
                _ => model.first_datagram(which),
            }
            model.check();
        }
    }
}

#[test]
fn the_same_random_in_another_suite_is_another_hello() {
    let mut seat: Seat<AnyCipher> = Seat::new();
    let store = [key(1)];
    let (mut chacha, first) = hello::<ChaCha20Poly1305>(key(1), 2);
    let (mut ascon, second) = hello::<Ascon128>(key(1), 2);
    let mut greet = |sent: &[u8], tag| {
        let hello = verify_hello(&store, sent).unwrap();
        let answer = seat.hello(&hello, tag, &[9; 16]).unwrap();
        assert_eq!(answer.tag, tag, "a session of its own");
        answer.welcome
    };
    // Even with the same server random the keys differ: the suite is in them.
    let (one, two) = (greet(&first, 10), greet(&second, 11));
    assert!(ascon.handle_welcome(&one).is_err() && chacha.handle_welcome(&two).is_err());
    let mut chacha = chacha.handle_welcome(&one).unwrap();
    let mut ascon = ascon.handle_welcome(&two).unwrap();
    let [mut up, mut other] = [seal(&mut chacha, b"up"), seal(&mut ascon, b"up")];
    // Put under the other's tag, a datagram is one of nobody.
    let mut moved = up.clone();
    moved[2..6].copy_from_slice(&other[2..6]);
    assert_eq!(seat.open(&mut moved), Err(OpenError::Forged));
    assert!(seat.open(&mut up).unwrap().established);
    assert!(seat.open(&mut other).unwrap().established);
    assert_eq!(seat.tags().collect::<Vec<_>>(), [11]);
}

#[test]
fn a_suite_that_is_not_spoken_or_was_changed_is_refused() {
    let store = [key(1)];
    let refusal = |sent: &[u8]| verify_hello::<AnyCipher>(&store, sent).unwrap_err();
    for (sent, other) in [
        (hello::<ChaCha20Poly1305>(key(1), 2).1, 2),
        (hello::<Ascon128>(key(1), 2).1, 1),
    ] {
        assert!(verify_hello::<AnyCipher>(&store, &sent).is_ok());
        for suite in [0, 3, 255] {
            let mut changed = sent;
            changed[2] = suite;
            assert_eq!(refusal(&changed), HelloError::Suite(suite));
        }
        let mut changed = sent;
        changed[2] = other;
        assert_eq!(refusal(&changed), HelloError::Forged);
    }
}
