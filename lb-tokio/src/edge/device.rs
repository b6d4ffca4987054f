//! What is kept of one edge.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use lb_core::edge::{Admit, Served};
use lb_core::health::{Detector, Timers, Verdict};
use lb_core::load::{CachedLoad, Freshness};
use lb_core::member::{Admission, Axes, Liveness, Role, Status};
use lb_core::wire::seal::{AnyCipher, Seat};
use lb_core::wire::{self, Body, Flags, Interest, Message, Outcome};
use lb_core::{Duration, Instant, NodeId};
use tokio::sync::Notify;

use super::status::EdgeStatus;

/// Requests of one edge that are worked on at once, and responses kept for it. A call whose response was lost again and
/// again is forgotten when so many newer ones were made meanwhile.
const CALLS: usize = 16;

/// How long a response is kept in case it was lost.
pub(super) const RESPONSES_KEPT: Duration = Duration::from_secs(60);

/// The largest datagram sent to an edge, in bytes, however large it says it takes them: what an Ethernet frame
/// carries over IPv4.
pub const DATAGRAM_MAX: usize = 1_472;

/// What is taken of an edge that has not said what it can keep. Its requests say how long a response may be.
const INTEREST_DEFAULT: Interest = Interest {
    places: 0,
    tag_bytes: 0,
    datagram: u16::MAX,
};

/// A call's end, kept to be told again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) body: Bytes,
}

/// A request that is worked on.
struct Running {
    life: u32,
    call: u32,
    stop: Arc<Notify>,
}

/// What to do with a request.
#[derive(Debug)]
pub(super) enum Taken {
    /// Work on it until it is done or this is notified.
    New(Arc<Notify>),
    Working,
    Replay(Ended),
    Forgotten,
    Busy,
}

pub(super) struct Device {
    id: u32,
    name: Option<Arc<str>>,
    pub(super) seat: Seat<AnyCipher>,
    /// The tag of each session of the seat, and the fingerprint of the key it was made with.
    pub(super) sessions: Vec<(u32, u64)>,
    pub(super) sessions_made: u64,
    addr: Option<SocketAddr>,
    /// The next counter that is newer than all before, in the established session.
    newest: u64,
    since: Instant,
    pub(super) greeted: Instant,
    detector: Detector,
    left: bool,
    epoch: u32,
    /// The version of its tags as it says, and as its `Join` in this session said; 0 without one.
    meta: u32,
    joined: u32,
    flags: Flags,
    load: Option<CachedLoad>,
    zone: Option<Arc<str>>,
    interest: Interest,
    /// Boxed, because most edges seldom call. Once there it stays: it is what makes a call happen only once.
    served: Option<Box<Served<Ended, CALLS>>>,
    running: Vec<Running>,
    called: Instant,
    calls: u64,
}

impl Device {
    pub(super) fn new(now: Instant, id: u32, name: Option<Arc<str>>) -> Self {
        Self {
            id,
            name,
            seat: Seat::new(),
            sessions: Vec::new(),
            sessions_made: 0,
            addr: None,
            newest: 0,
            since: now,
            greeted: now,
            detector: Detector::new(),
            left: false,
            epoch: 0,
            meta: 0,
            joined: 0,
            flags: Flags::OBSERVER,
            load: None,
            zone: None,
            interest: INTEREST_DEFAULT,
            served: None,
            running: Vec::new(),
            called: now,
            calls: 0,
        }
    }

    pub(super) fn set_name(&mut self, name: Option<Arc<str>>) {
        self.name = name;
    }

    /// Where its last datagram came from.
    pub(super) fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Its life, as last heard.
    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether its tags and its interest are not known, or not the present ones.
    pub(super) fn wants_join(&self) -> bool {
        self.joined != self.meta || self.joined == 0
    }

    pub(super) fn interest(&self) -> Interest {
        self.interest
    }

    pub(super) fn zone(&self) -> Option<Arc<str>> {
        self.zone.clone()
    }

    /// The largest datagram it is sent, in bytes.
    pub(super) fn datagram(&self) -> usize {
        usize::from(self.interest.datagram).min(DATAGRAM_MAX)
    }

    /// An authentic datagram came; `established`: in a session that was new.
    ///
    /// It moves the edge to where it came from only if it is the newest one: who holds a datagram back and lets it
    /// go from another address moves nobody.
    pub(super) fn heard(&mut self, now: Instant, from: SocketAddr, counter: u64, established: bool) {
        self.detector.heard(now);
        if established {
            self.newest = 0;
            self.sessions_made = self.sessions_made.saturating_add(1);
            // It may be another life: its reports are not comparable, and its tags may be others.
            self.load = None;
            self.joined = 0;
        }
        if counter >= self.newest {
            self.newest = counter.saturating_add(1);
            self.addr = Some(from);
            self.left = false;
        }
    }

    /// Takes in what a message says; `false` when it claims to be of somebody else.
    pub(super) fn message(&mut self, now: Instant, message: &Message<'_>, bytes: &[u8]) -> bool {
        if message.header.from != NodeId::new(self.id) {
            return false;
        }
        self.epoch = message.header.epoch;
        self.meta = message.header.meta;
        self.flags = message.header.flags;
        let load = CachedLoad::new(now, message.load);
        match &mut self.load {
            Some(known) => {
                known.merge(load);
            }
            none => *none = Some(load),
        }
        if let Body::Join { tags, .. } = &message.body {
            let mut pairs = tags.split(',').filter_map(|pair| pair.split_once('='));
            self.zone = pairs.find(|(key, _)| *key == "zone").map(|(_, zone)| zone.into());
            self.interest = wire::interest(bytes).unwrap_or(INTEREST_DEFAULT);
            self.joined = self.meta;
        }
        if matches!(message.body, Body::Leave) {
            self.left = true;
            self.stop_calls();
        }
        true
    }

    /// A request came.
    pub(super) fn request(&mut self, now: Instant, life: u32, call: u32) -> Taken {
        self.called = now;
        let taken = match self.served.get_or_insert_default().request(life, call) {
            Admit::New => Taken::New(Arc::new(Notify::new())),
            Admit::Running => Taken::Working,
            Admit::Replay(ended) => Taken::Replay(ended.clone()),
            Admit::Forgotten => Taken::Forgotten,
            Admit::Busy => Taken::Busy,
        };
        if let Taken::New(stop) = &taken {
            // The edge has begun another life: nobody waits for the calls of the former one.
            self.running.retain(|running| {
                if running.life != life {
                    running.stop.notify_one();
                }
                running.life == life
            });
            self.running.push(Running {
                life,
                call,
                stop: Arc::clone(stop),
            });
            self.calls = self.calls.saturating_add(1);
        }
        taken
    }

    /// A call ended; `None`: it was given up. Whether the edge may still wait for it.
    pub(super) fn ended(&mut self, now: Instant, life: u32, call: u32, ended: Option<&Ended>) -> bool {
        self.called = now;
        self.running.retain(|it| (it.life, it.call) != (life, call));
        let Some(served) = &mut self.served else {
            return false;
        };
        match ended {
            Some(ended) => served.answer(life, call, ended.clone()),
            None => served.abandon(life, call),
        }
    }

    /// A request that was taken up was not executed after all.
    pub(super) fn refused(&mut self, life: u32, call: u32) {
        self.running.retain(|it| (it.life, it.call) != (life, call));
        if let Some(served) = &mut self.served {
            served.refuse(life, call);
        }
    }

    /// The edge gave a call up; whether it was worked on.
    pub(super) fn cancel(&mut self, life: u32, call: u32) -> bool {
        let running = self.running.iter().find(|it| (it.life, it.call) == (life, call));
        running.inspect(|it| it.stop.notify_one()).is_some()
    }

    /// Gives up all of its calls.
    pub(super) fn stop_calls(&mut self) {
        for running in self.running.drain(..) {
            running.stop.notify_one();
        }
    }

    /// Lets go of what an idle edge needs not hold.
    pub(super) fn tidy(&mut self, now: Instant) {
        if now.since(self.called) >= RESPONSES_KEPT
            && let Some(served) = &mut self.served
        {
            served.drop_responses();
        }
    }

    /// Nothing authentic was ever heard.
    pub(super) fn is_unheard(&self) -> bool {
        self.detector.last_heard().is_none()
    }

    pub(super) fn is_alive(&self, now: Instant, timers: &Timers) -> bool {
        self.liveness(now, timers) == Liveness::Alive
    }

    /// How long it is silent, or known without having been heard.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        self.detector.silence(now).unwrap_or(now.since(self.since))
    }

    fn liveness(&self, now: Instant, timers: &Timers) -> Liveness {
        match self.detector.verdict(now, timers) {
            Verdict::Unheard => Liveness::Unheard,
            _ if self.left => Liveness::Left,
            Verdict::Alive => Liveness::Alive,
            Verdict::Suspect => Liveness::Suspect,
            Verdict::Failed => Liveness::Failed,
        }
    }

    pub(super) fn status(&self, now: Instant, timers: &Timers) -> EdgeStatus {
        let age = self.load.map(|load| load.age(now));
        let report = self.load.map(|load| *load.report()).unwrap_or_default();
        let axes = Axes {
            liveness: self.liveness(now, timers),
            freshness: match age {
                Some(age) if age <= timers.ttl() => Freshness::Fresh,
                Some(age) if age <= timers.stale() => Freshness::Aging,
                _ => Freshness::Stale,
            },
            admission: if self.flags.has(Flags::DRAINING) {
                Admission::Draining
            } else {
                Admission::Open
            },
        };
        let role = if self.flags.has(Flags::OBSERVER) {
            Role::Observer
        } else {
            Role::Worker
        };
        EdgeStatus {
            id: self.id,
            name: self.name.as_deref().map(str::to_owned),
            addr: self.addr,
            status: Status::of(&axes, role, false).to_string(),
            heard_ms: self.detector.last_heard().map(|at| now.since(at).as_millis()),
            load_age_ms: age.map(Duration::as_millis),
            in_flight: report.in_flight.into(),
            capacity: report.capacity.into(),
            calls: self.calls,
            sessions: self.sessions_made,
            zone: self.zone.as_deref().map(str::to_owned),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("id", &self.id)
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_let_go_and_calls_are_not_forgotten() {
        let mut device = Device::new(Instant::ZERO, 1, None);
        assert!(matches!(device.request(Instant::ZERO, 7, 1), Taken::New(_)));
        let ended = Ended {
            outcome: Outcome::Ok,
            body: Bytes::from_static(b"done"),
        };
        assert!(device.ended(Instant::ZERO, 7, 1, Some(&ended)));
        device.tidy(Instant::from_secs(59));
        let again = device.request(Instant::from_secs(59), 7, 1);
        assert!(matches!(again, Taken::Replay(kept) if kept == ended));
        device.tidy(Instant::from_secs(118));
        assert!(matches!(
            device.request(Instant::from_secs(118), 7, 1),
            Taken::Replay(_)
        ));
        device.tidy(Instant::from_secs(178));
        assert!(matches!(
            device.request(Instant::from_secs(178), 7, 1),
            Taken::Forgotten
        ));
    }

    #[test]
    fn another_life_stops_the_calls_of_the_former() {
        let mut device = Device::new(Instant::ZERO, 1, None);
        let Taken::New(stop) = device.request(Instant::ZERO, 7, 1) else {
            panic!("new")
        };
        assert!(matches!(device.request(Instant::ZERO, 8, 1), Taken::New(_)));
        let mut stopped = std::pin::pin!(stop.notified());
        assert!(stopped.as_mut().enable(), "told");
        assert!(!device.cancel(7, 1) && device.cancel(8, 1));
        assert!(!device.ended(Instant::ZERO, 7, 1, None));
    }

    #[test]
    fn the_newest_datagram_says_where_it_is() {
        let [home, away] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut device = Device::new(Instant::ZERO, 1, None);
        device.heard(Instant::ZERO, home, 5, true);
        device.heard(Instant::ZERO, away, 4, false);
        assert_eq!(device.addr(), Some(home));
        device.heard(Instant::ZERO, away, 6, false);
        assert_eq!(device.addr(), Some(away));
        device.heard(Instant::ZERO, home, 0, true);
        assert_eq!(device.addr(), Some(home), "a new session counts from 0");
    }
}
