//! What an edge tells its driver, and what it counts.

use super::Edge;
use crate::NodeId;
use crate::health::Verdict;
use crate::load::LoadFigures;
use crate::member::Addr;
use crate::time::Duration;
use crate::wire::seal::Cipher;

/// A change worth telling. Derived from state, not queued: what changed twice is told once, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Event {
    /// A server has confirmed a session: calls can be made.
    Attached,
    /// No session is left whose server is there.
    Detached,
    /// A server's state changed.
    Server {
        /// Who it is, if that is known.
        id: Option<NodeId>,
        /// Where it listens.
        addr: Addr,
        /// The state told before; `None` for a new one.
        from: Option<ServerState>,
        /// The state now.
        to: ServerState,
    },
}

/// What an edge thinks of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ServerState {
    /// Configured or recommended, not heard by this edge yet.
    Unheard,
    /// Heard lately.
    Alive,
    /// It did not answer a call or a handshake, or was silent for longer than `stale`.
    Suspect,
    /// Silent for longer than `failed`.
    Failed,
    /// It takes no new calls, or said goodbye.
    Draining,
}

impl ServerState {
    /// The state in lower case, for logs that have no formatting.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unheard => "unheard",
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Failed => "failed",
            Self::Draining => "draining",
        }
    }
}

/// How an edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Status {
    /// Whether a server has confirmed a session and is there.
    pub attached: bool,
    /// Servers known.
    pub servers: u8,
    /// Sessions, confirmed or not.
    pub sessions: u8,
}

/// What an edge knows of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ServerView {
    /// Who it is, if that is known.
    pub id: Option<NodeId>,
    /// Where it listens.
    pub addr: Addr,
    /// Its state.
    pub state: ServerState,
    /// Whether there is a session.
    pub session: bool,
    /// What its last report says, whatever its age, but for `rate_milli`.
    pub load: Option<LoadFigures>,
    /// How old that is.
    pub age: Option<Duration>,
    /// Our own calls there now.
    pub own_in_flight: u32,
    /// The smoothed time it takes to answer, in microseconds; 0 when unknown.
    pub rtt_us: u32,
}

/// Counts since the start; they saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Counters {
    /// Datagrams sent beside requests.
    pub sent: u32,
    /// Requests sent, repetitions included.
    pub requests: u32,
    /// Datagrams taken in.
    pub received: u32,
    /// Datagrams dropped: foreign, not authentic, repeated, or not understood.
    pub dropped: u32,
    /// Handshakes begun.
    pub handshakes: u32,
    /// Of those, the ones no server answered.
    pub handshakes_failed: u32,
    /// Calls begun.
    pub calls: u32,
    /// Calls answered.
    pub answered: u32,
    /// Times a call went to another server.
    pub moved: u32,
    /// Inputs that came later than promised.
    pub late: u32,
}

impl<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C: Cipher>
    Edge<SERVERS, SESSIONS, CALLS, TAGS, C>
{
    /// The next change to tell of, or `None` when all is told.
    pub fn poll_event(&mut self) -> Option<Event> {
        if !self.dirty {
            return None;
        }
        let attached = self.is_attached();
        if attached != self.reported_attached {
            self.reported_attached = attached;
            return Some(if attached {
                Event::Attached
            } else {
                Event::Detached
            });
        }
        let (now, timers) = (self.now, self.timers);
        for place in self.places.iter_mut().filter(|place| place.used) {
            let to = place.state(now, &timers);
            let from = place.reported.replace(to);
            if from != Some(to) {
                return Some(Event::Server {
                    id: place.id(),
                    addr: place.addr,
                    from,
                    to,
                });
            }
        }
        self.dirty = false;
        None
    }

    /// How the edge is.
    #[must_use]
    pub fn status(&self) -> Status {
        let count = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        Status {
            attached: self.is_attached(),
            servers: count(self.slots().count()),
            sessions: count(self.links.iter().flatten().count()),
        }
    }

    /// The servers it knows, in no particular order.
    pub fn servers(&self) -> impl Iterator<Item = ServerView> + '_ {
        self.slots().map(|(slot, place)| ServerView {
            id: place.id(),
            addr: place.addr,
            state: place.state(self.now, &self.timers),
            session: self.link(slot).is_some(),
            load: place.load.figures(),
            age: place.load.age(self.now),
            own_in_flight: place.load.own_in_flight(),
            rtt_us: place.rtt.smoothed_us(),
        })
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    fn is_attached(&self) -> bool {
        self.links.iter().flatten().any(|link| {
            link.session.is_confirmed()
                && self.place(link.slot).is_some_and(|place| {
                    place.detector.verdict(self.now, &self.timers) == Verdict::Alive && !place.draining
                })
        })
    }
}
