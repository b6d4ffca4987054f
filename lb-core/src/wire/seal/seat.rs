//! A device's place at a server: its session, and those that may replace it.

use core::fmt;

use heapless::Vec;

use super::cipher::{ChaCha20Poly1305, Suites};
use super::key::RANDOM_BYTES;
use super::layout::{Peek, WELCOME_BYTES, peek};
use super::responder::{Hello, PendingSession};
use super::session::{OpenError, Session};

/// What a server keeps for one device: the established session and at most `P` pending ones.
///
/// The rules, so that whoever replays or repeats `HELLO`s gains nothing:
///
/// * A `HELLO` never touches the established session. It gets a pending one; the same `HELLO` again gets the same
///   `WELCOME` again; the `HELLO` of the established session gets nothing.
/// * The first datagram that opens under a pending session makes it the established one. The former one ends,
///   and so do the pending ones older than it; younger ones may be the device after a reboot, and stay.
/// * When there is no room, the oldest pending session goes.
///
/// A server keeps a table of these by key id, and finds the one for a sealed datagram by its tag. Made for several
/// suites (`AnyCipher`), a seat is still one place: the rules hold across them.
///
/// ```
/// use lb_core::Instant;
/// use lb_core::wire::seal::*;
///
/// let key = || DeviceKey::new(7, &[0x42; 32], "orchard");
/// let mut seat: Seat = Seat::new();
/// let mut edge: Initiator = Initiator::new(key(), None);
/// edge.start(Instant::ZERO, [1; 16]);
/// let datagram = edge.poll_transmit(Instant::ZERO).unwrap();
///
/// let store = [key()];
/// let hello = verify_hello::<ChaCha20Poly1305>(&store, &datagram)?;
/// let answer = seat.hello(&hello, 9, &[2; 16]).unwrap();
/// let mut edge = edge.handle_welcome(&answer.welcome)?;
/// assert!(seat.session().is_none(), "the HELLO may have been a replay");
///
/// let mut sealed = [0; 64];
/// let length = edge.seal(b"here I am", &mut sealed)?;
/// let opened = seat.open(&mut sealed[..length])?;
/// assert_eq!((opened.payload, opened.established), (b"here I am".as_slice(), true));
/// assert!(seat.session().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Seat<C: Suites = ChaCha20Poly1305, const P: usize = 2> {
    established: Option<Established<C>>,
    /// The oldest first.
    pending: Vec<PendingSession<C>, P>,
}

struct Established<C: Suites> {
    session: Session<C>,
    edge_random: [u8; RANDOM_BYTES],
}

/// What to send for a `HELLO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Answer {
    /// The `WELCOME`, to be sent to where the `HELLO` came from.
    pub welcome: [u8; WELCOME_BYTES],
    /// The tag of the pending session: the given one, unless the `HELLO` was a repetition.
    pub tag: u32,
    /// The tag of the pending session that had to go for it.
    pub evicted: Option<u32>,
}

/// A datagram that was opened.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Opened<'a> {
    /// What was sealed.
    pub payload: &'a [u8],
    /// Whether its session was established by it: a new life of the device, or a new key. The tags in use have
    /// changed, see [`Seat::tags`].
    pub established: bool,
}

impl<C: Suites, const P: usize> Seat<C, P> {
    const SOME: () = assert!(P > 0, "a seat needs room for a pending session");

    /// A seat of a device that was not heard yet.
    #[must_use]
    pub const fn new() -> Self {
        let () = Self::SOME;
        Self {
            established: None,
            pending: Vec::new(),
        }
    }

    /// Takes a `HELLO` of this seat's device; `tag` and `server_random` as for [`Hello::accept`].
    ///
    /// `None`: the `HELLO` is that of the established session, so it is a replay. Drop it in silence.
    pub fn hello(
        &mut self,
        hello: &Hello<'_, C>,
        tag: u32,
        server_random: &[u8; RANDOM_BYTES],
    ) -> Option<Answer> {
        if self
            .established
            .as_ref()
            .is_some_and(|known| hello.made(&known.session, &known.edge_random))
        {
            return None;
        }
        if let Some(known) = self.pending.iter().find(|known| known.answers(hello)) {
            return Some(Answer {
                welcome: *known.welcome(),
                tag: known.tag(),
                evicted: None,
            });
        }
        let evicted = if self.pending.is_full() && !self.pending.is_empty() {
            Some(self.pending.remove(0).tag())
        } else {
            None
        };
        let pending = hello.accept(tag, server_random);
        let welcome = *pending.welcome();
        self.pending.push(pending).ok()?;
        Some(Answer {
            welcome,
            tag,
            evicted,
        })
    }

    /// Opens a sealed datagram of this device, in whichever session it is.
    ///
    /// # Errors
    /// [`OpenError`]: nothing changed; drop the datagram in silence. What it then holds is unspecified.
    pub fn open<'a>(&mut self, datagram: &'a mut [u8]) -> Result<Opened<'a>, OpenError> {
        let tag = match peek(datagram) {
            Some(Peek::ToServer { session }) => session,
            Some(Peek::ToEdge { .. }) => return Err(OpenError::WrongDirection),
            _ => return Err(OpenError::Malformed),
        };
        if let Some(known) = self
            .established
            .as_mut()
            .filter(|known| known.session.tag() == tag)
        {
            return known.session.open(datagram).map(|payload| Opened {
                payload,
                established: false,
            });
        }
        let at = self
            .pending
            .iter()
            .position(|pending| pending.tag() == tag)
            .ok_or(OpenError::ForeignSession(tag))?;
        let pending = self.pending.get_mut(at).ok_or(OpenError::ForeignSession(tag))?;
        let payload = pending.open(datagram)?;
        for _ in 0..at {
            drop(self.pending.remove(0));
        }
        let pending = self.pending.remove(0);
        self.established = Some(Established {
            edge_random: *pending.edge_random(),
            session: pending.into_session(),
        });
        Ok(Opened {
            payload,
            established: true,
        })
    }

    /// The established session, to seal in.
    pub const fn session(&mut self) -> Option<&mut Session<C>> {
        match &mut self.established {
            Some(known) => Some(&mut known.session),
            None => None,
        }
    }

    /// The tags in use here, for the server's index; the established session's comes first.
    pub fn tags(&self) -> impl Iterator<Item = u32> + '_ {
        let established = self.established.iter().map(|known| known.session.tag());
        established.chain(self.pending.iter().map(PendingSession::tag))
    }

    /// Forgets the pending sessions, such as when their `HELLO`s are long past.
    pub fn clear_pending(&mut self) {
        self.pending.clear();
    }
}

impl<C: Suites, const P: usize> Default for Seat<C, P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: Suites, const P: usize> fmt::Debug for Seat<C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field(
                "established",
                &self.established.as_ref().map(|known| &known.session),
            )
            .field("pending", &self.pending)
            .finish()
    }
}

#[cfg(feature = "defmt")]
impl<C: Suites, const P: usize> defmt::Format for Seat<C, P> {
    fn format(&self, f: defmt::Formatter<'_>) {
        let session = self.established.as_ref().map(|known| &known.session);
        defmt::write!(
            f,
            "Seat {{ established: {}, pending: {} }}",
            session,
            self.pending.len()
        );
    }
}
