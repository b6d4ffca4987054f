//! What an edge knows of one server, and the session it has there.

use crate::NodeId;
use crate::health::{Detector, Timers, Verdict};
use crate::member::{Addr, Tags};
use crate::time::{Duration, Instant};
use crate::wire::seal::{Cipher, Session};

use super::ServerState;
use super::kept::Kept;
use super::rtt::Rtt;

/// The pause after a failed handshake; it doubles up to a heartbeat.
const PAUSE_FIRST: Duration = Duration::from_millis(250);

/// A server, or room for one.
#[derive(Clone, Debug)]
pub(super) struct Place<const TAGS: usize> {
    pub(super) used: bool,
    /// Configured: never forgotten.
    pub(super) seed: bool,
    /// Its id is known: it was heard, or recommended by another server.
    pub(super) known: bool,
    pub(super) draining: bool,
    /// Handshakes in a row that were not answered.
    pub(super) fails: u8,
    pub(super) reported: Option<ServerState>,
    pub(super) addr: Addr,
    pub(super) rtt: Rtt,
    /// Means something if `known`.
    id: NodeId,
    pub(super) load: Kept,
    pub(super) detector: Detector,
    /// No handshake before, after failed ones; no call before, after it said that it is full.
    pub(super) not_before: Instant,
    /// Recommended until then, unless it is said again.
    pub(super) listed_until: Instant,
    pub(super) tags: Tags<TAGS>,
}

impl<const TAGS: usize> Place<TAGS> {
    pub(super) const FREE: Self = Self {
        used: false,
        seed: false,
        known: false,
        draining: false,
        fails: 0,
        reported: None,
        addr: Addr::NONE,
        rtt: Rtt::UNKNOWN,
        id: NodeId::new(0),
        load: Kept::NOTHING,
        detector: Detector::new(),
        not_before: Instant::ZERO,
        listed_until: Instant::ZERO,
        tags: Tags::new(),
    };

    pub(super) fn new(addr: Addr) -> Self {
        Self {
            used: true,
            addr,
            ..Self::FREE
        }
    }

    pub(super) fn id(&self) -> Option<NodeId> {
        self.known.then_some(self.id)
    }

    pub(super) fn is(&self, id: NodeId) -> bool {
        self.used && self.id() == Some(id)
    }

    pub(super) fn set_id(&mut self, id: NodeId) {
        if self.id() != Some(id) {
            self.load.clear();
        }
        self.known = true;
        self.id = id;
    }

    /// Nobody answered: it rests for a while, longer each time.
    pub(super) fn failed(&mut self, now: Instant, timers: &Timers) {
        let pause = PAUSE_FIRST.saturating_mul(1 << self.fails.min(8));
        self.fails = self.fails.saturating_add(1);
        self.not_before = now.saturating_add(pause.min(timers.heartbeat()));
    }

    /// Its session was let go: it is as if it had not been heard, and may have stopped draining meanwhile.
    pub(super) fn rest(&mut self, now: Instant, timers: &Timers) {
        if self.draining {
            self.draining = false;
            self.not_before = now.saturating_add(timers.heartbeat());
        }
        self.detector = Detector::new();
    }

    /// The state to show.
    pub(super) fn state(&self, now: Instant, timers: &Timers) -> ServerState {
        if self.draining {
            return ServerState::Draining;
        }
        match self.detector.verdict(now, timers) {
            Verdict::Unheard => ServerState::Unheard,
            Verdict::Alive => ServerState::Alive,
            Verdict::Suspect => ServerState::Suspect,
            Verdict::Failed => ServerState::Failed,
        }
    }
}

/// What is still to be sent in a session: bits, so that nothing queues up.
pub(super) mod owed {
    pub(in super::super) const LEAVE: u8 = 1;
    pub(in super::super) const JOIN: u8 = 1 << 1;
    pub(in super::super) const HEARTBEAT: u8 = 1 << 2;
}

/// A session with the server in a place.
pub(super) struct Link<C: Cipher> {
    pub(super) slot: u8,
    /// Heartbeated even when it is not used.
    pub(super) home: bool,
    /// The server knows our tags and what we can keep.
    pub(super) joined: bool,
    pub(super) owes: u8,
    pub(super) session: Session<C>,
    /// Messages sent since it was last heard.
    pub(super) unanswered: u8,
    /// When something was last opened in it, or it was made.
    pub(super) last_heard: Instant,
    /// When a call last used it.
    pub(super) last_call: Instant,
    pub(super) next_heartbeat: Instant,
    /// When the one heartbeat that waits for its answer was sent.
    pub(super) asked: Option<Instant>,
}

impl<C: Cipher> Link<C> {
    pub(super) fn new(now: Instant, slot: u8, session: Session<C>) -> Self {
        Self {
            slot,
            home: false,
            joined: false,
            owes: owed::JOIN,
            session,
            unanswered: 0,
            last_heard: now,
            last_call: now,
            next_heartbeat: now,
            asked: None,
        }
    }
}
