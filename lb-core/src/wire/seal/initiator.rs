//! The edge's side of the handshake.

use core::fmt;
use core::marker::PhantomData;

use super::cipher::{ChaCha20Poly1305, Cipher};
use super::key::{DeviceKey, RANDOM_BYTES};
use super::layout::{HELLO_BYTES, ReadError, SEAL_VERSION, Welcome, hello};
use super::session::{Agreed, End, Session};
use crate::time::{Duration, Instant};

/// The first `HELLO` is repeated after this time, or up to half as much more.
pub const RETRY_FIRST: Duration = Duration::from_millis(500);

/// The time between two `HELLO`s doubles up to this (and up to half as much more).
pub const RETRY_MOST: Duration = Duration::from_secs(16);

/// With two keys, this many `HELLO`s since the last `WELCOME` use the newest one before the older one has its turn; from then on they
/// alternate.
pub const NEWEST_FIRST: u32 = 3;

/// Makes sessions with one server. Sans-I/O: it has neither clock nor socket nor random.
///
/// The driver calls [`Initiator::start`], sends what [`Initiator::poll_transmit`] gives whenever
/// [`Initiator::deadline`] has come, and hands every `WELCOME` to [`Initiator::handle_welcome`], until that
/// returns a [`Session`]. Then it seals its first datagram at once: only that gives the server the session.
/// If the session is not [`Session::is_confirmed`] in time, it starts again. A former session stays usable
/// beside an attempt.
///
/// An example is on the page of [`Session`].
pub struct Initiator<C: Cipher = ChaCha20Poly1305> {
    newest: DeviceKey,
    older: Option<DeviceKey>,
    attempt: Option<Attempt>,
    /// `HELLO`s since the last `WELCOME`, over all attempts.
    sent: u32,
    cipher: PhantomData<C>,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    random: [u8; RANDOM_BYTES],
    due: Instant,
    wait: Duration,
}

impl<C: Cipher> Initiator<C> {
    /// An initiator with the device's newest key, and the former one while it is not yet sure that every
    /// server has the newest.
    #[must_use]
    pub const fn new(newest: DeviceKey, older: Option<DeviceKey>) -> Self {
        Self {
            newest,
            older,
            attempt: None,
            sent: 0,
            cipher: PhantomData,
        }
    }

    /// Takes a new key; the newest one until now becomes the older one. Ends an attempt; sessions go on.
    pub fn rotate(&mut self, newest: DeviceKey) {
        self.older = Some(core::mem::replace(&mut self.newest, newest));
        self.attempt = None;
        self.sent = 0;
    }

    /// Begins an attempt, in place of the present one if there is one; the first `HELLO` is due now.
    ///
    /// `random` must be 16 fresh bytes of a good source each time: they are what makes a replayed `WELCOME`
    /// worthless, and with it the reuse of an old session's keys.
    pub const fn start(&mut self, now: Instant, random: [u8; RANDOM_BYTES]) {
        self.attempt = Some(Attempt {
            random,
            due: now,
            wait: RETRY_FIRST,
        });
    }

    /// Gives up the attempt, if there is one.
    pub const fn cancel(&mut self) {
        self.attempt = None;
    }

    /// Whether an attempt waits for its `WELCOME`.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        self.attempt.is_some()
    }

    /// When [`Initiator::poll_transmit`] has something next; `None` without an attempt. An attempt does not
    /// end by itself.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        match &self.attempt {
            Some(attempt) => Some(attempt.due),
            None => None,
        }
    }

    /// The `HELLO` to send now, if one is due. The repetitions of an attempt are the same bytes, one set for
    /// each key, so that a late `WELCOME` is as good as a quick one.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<[u8; HELLO_BYTES]> {
        let attempt = self.attempt.as_mut().filter(|attempt| attempt.due <= now)?;
        // Devices that lost power together must not come back in step.
        let [spread, ..] = attempt.random;
        let jitter = (attempt.wait.as_micros() >> 9).saturating_mul(u64::from(spread));
        attempt.due = now
            .saturating_add(attempt.wait)
            .saturating_add(Duration::from_micros(jitter));
        attempt.wait = attempt.wait.saturating_mul(2).min(RETRY_MOST);
        let turn = self.sent.saturating_sub(NEWEST_FIRST);
        let older = self.sent >= NEWEST_FIRST && turn & 1 == 0;
        // The parity must go on even if the count could not.
        self.sent = self.sent.checked_add(1).unwrap_or(NEWEST_FIRST);
        let key = self.older.as_ref().filter(|_| older).unwrap_or(&self.newest);
        Some(hello(C::SUITE, key, &attempt.random))
    }

    /// Takes a `WELCOME`; the session is established on this side, and the attempt is over.
    ///
    /// # Errors
    /// [`WelcomeError`]; nothing changed, the attempt goes on. Whoever sends nonsense cannot end it.
    pub fn handle_welcome(&mut self, bytes: &[u8]) -> Result<Session<C>, WelcomeError> {
        let attempt = self.attempt.as_ref().ok_or(WelcomeError::NotWaiting)?;
        let welcome = Welcome::read(bytes).map_err(|error| match error {
            ReadError::Malformed => WelcomeError::Malformed,
            ReadError::Version(theirs) => WelcomeError::Version(theirs),
        })?;
        if welcome.suite != C::SUITE {
            return Err(WelcomeError::Suite(welcome.suite));
        }
        let mut refused = WelcomeError::ForeignKey(welcome.key_id);
        for key in [Some(&self.newest), self.older.as_ref()].into_iter().flatten() {
            if key.id() != welcome.key_id {
                continue;
            }
            if key.verify(
                welcome.signed,
                &hello(C::SUITE, key, &attempt.random),
                welcome.mac,
            ) {
                let agreed = Agreed {
                    tag: welcome.session,
                    edge_random: &attempt.random,
                    server_random: welcome.random,
                };
                let session = Session::new(End::Edge, C::default(), key, &agreed);
                self.attempt = None;
                self.sent = 0;
                return Ok(session);
            }
            refused = WelcomeError::Forged;
        }
        Err(refused)
    }
}

impl<C: Cipher> fmt::Debug for Initiator<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator")
            .field("newest", &self.newest)
            .field("older", &self.older)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<C: Cipher> defmt::Format for Initiator<C> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Initiator {{ newest: {}, older: {}, deadline: {}, .. }}",
            self.newest,
            self.older,
            self.deadline()
        );
    }
}

/// A `WELCOME` that was refused. The attempt, if there is one, goes on unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WelcomeError {
    /// No attempt waits for it: late, or repeated.
    NotWaiting,
    /// Not a `WELCOME`.
    Malformed,
    /// Another version of the format.
    Version(u8),
    /// The server uses the cipher with this number.
    Suite(u8),
    /// It is for the key with this id.
    ForeignKey(u32),
    /// It does not answer this attempt's `HELLO`, or whoever made it does not have the key.
    Forged,
}

impl fmt::Display for WelcomeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWaiting => f.write_str("no attempt waits for a WELCOME"),
            Self::Malformed => f.write_str("not a WELCOME"),
            Self::Version(theirs) => {
                write!(
                    f,
                    "seal version {theirs} is not spoken here (ours is {SEAL_VERSION})"
                )
            }
            Self::Suite(theirs) => write!(
                f,
                "the server uses cipher suite {theirs}: build both with the same"
            ),
            Self::ForeignKey(id) => write!(f, "for key {id}, which is not ours"),
            Self::Forged => f.write_str("not an authentic answer to this attempt"),
        }
    }
}

impl core::error::Error for WelcomeError {}

#[cfg(test)]
mod tests {
    use super::super::layout::Hello;
    use super::*;

    fn key(byte: u8) -> DeviceKey {
        DeviceKey::new(7, &[byte; 32], "orchard")
    }

    #[test]
    fn repeats_with_backoff_within_bounds() {
        for spread in [0, 255] {
            let mut edge = Initiator::<ChaCha20Poly1305>::new(key(1), None);
            assert_eq!((edge.deadline(), edge.poll_transmit(Instant::ZERO)), (None, None));
            let mut now = Instant::from_secs(5);
            edge.start(now, [spread; 16]);
            let first = edge.poll_transmit(now).unwrap();
            let mut expected = RETRY_FIRST.as_micros();
            for _ in 0..40 {
                assert_eq!(edge.poll_transmit(now), None, "once per deadline");
                let due = edge.deadline().unwrap();
                let wait = due.since(now).as_micros();
                assert!((expected..=expected * 3 / 2).contains(&wait), "{wait} {expected}");
                now = due;
                assert_eq!(edge.poll_transmit(now), Some(first));
                expected = (expected * 2).min(RETRY_MOST.as_micros());
            }
        }
    }

    #[test]
    fn the_newest_key_has_the_first_turns() {
        let mut edge = Initiator::<ChaCha20Poly1305>::new(key(1), None);
        edge.rotate(key(2));
        edge.start(Instant::ZERO, [9; 16]);
        let order: std::vec::Vec<bool> = (0..8)
            .map(|_| {
                let bytes = edge.poll_transmit(edge.deadline().unwrap()).unwrap();
                let read = Hello::read(&bytes).unwrap();
                key(2).verify(read.signed, &[], read.mac)
            })
            .collect();
        assert_eq!(order, [true, true, true, false, true, false, true, false]);
    }
}
