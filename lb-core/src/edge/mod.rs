//! An edge: a microcontroller that uses the servers of a cluster over sealed datagrams. Feature `edge`.
//!
//! Where a [`crate::Node`] is a member that everybody knows, an [`Edge`] is known to the servers it talks to and to
//! nobody else, so that any number of edges costs the cluster nothing. It has a session with a few servers, hears from
//! them which others are worth using, picks one for each call by the same corrected load as everybody, and moves a call
//! to another server when the first falls silent.
//!
//! [`Gate`] is the other side for microcontrollers that serve; [`Served`] is its memory of calls, for other servers too. The bytes are specified in `WIRE.md` (*Edges*) and
//! `SEAL.md`.
//!
//! # The driver's contract
//!
//! A driver owns an [`Edge`], a clock, a UDP socket, randomness and the callers. One input at a time, it calls
//!
//! 1. [`Edge::handle_datagram`] with each datagram and where it came from;
//! 2. [`Edge::handle_timeout`] when [`Edge::next_deadline`] has come (earlier is harmless);
//! 3. [`Edge::call`] when somebody wants something, [`Edge::finish`] when it is over;
//! 4. [`Edge::handle_link`] when the network cable or radio comes or goes;
//!
//! and after each input [`Edge::poll_transmit`] until it returns `None`, [`Edge::poll_event`] likewise, and
//! [`Edge::poll_call`] for every call that waits. The edge keeps no bodies: the driver shows the same [`Outgoing`] again
//! until the call is over, and takes the answer out of the datagram it came in.
//!
//! Time never goes back. An input that comes later than promised shifts all verdicts by that time, as in
//! [`crate::node`]: who slept accuses nobody. Every input costs O(servers) at most, plus the cipher.

mod attach;
mod call;
mod config;
mod event;
mod gate;
mod kept;
mod place;
mod receive;
mod rtt;
mod select;
mod served;
mod transmit;

use core::fmt;

use heapless::Vec;

use crate::NodeId;
use crate::health::Timers;
use crate::load::LoadReport;
use crate::member::{Addr, Tags};
use crate::pick::Corrected;
use crate::rng::{Rng, Sfc32};
use crate::time::{Duration, Instant};
use crate::wire::seal::{ChaCha20Poly1305, Cipher, Initiator};

use place::{Link, Place, owed};

pub use call::{CALLS_MAX, CallError, CallId, CallPoll, CallsFull, Outgoing};
pub use config::{Checked, Config, ConfigError, DATAGRAM_BYTES_DEFAULT, DATAGRAM_BYTES_MIN};
pub use event::{Counters, Event, ServerState, ServerView, Status};
pub use gate::{Gate, GateCounters, Heard, Random, Unwelcome, Work, WorkId};
pub use receive::{Answer, Dropped, Received, Refusal};
pub use select::{Choice, PickError};
pub use served::{Admit, CALLS_REMEMBERED, Served};
pub use transmit::Transmit;

/// Most servers an edge can keep.
pub const SERVERS_MAX: usize = 32;

/// How many servers are heartbeated although they are not used, so that one is always known to be there.
pub const HOMES: usize = 2;

/// How late an input may be, in periods, before lateness is no longer forgiven in a row; as
/// [`crate::node::LATE_TURNS_MAX`].
const LATE_TURNS_MAX: u8 = crate::node::LATE_TURNS_MAX;

/// Nothing is due.
const NEVER: Instant = Instant::from_micros(u64::MAX);

/// The edge itself: room for `SERVERS` servers, sessions with `SESSIONS` of them, `CALLS` calls at once and `TAGS` bytes
/// of tags for each server.
///
/// ```
/// use lb_core::edge::{Config, Edge};
/// use lb_core::member::Addr;
/// use lb_core::wire::seal::DeviceKey;
/// use lb_core::Instant;
///
/// let key = DeviceKey::new(7, &[0x42; 32], "orchard");
/// let random_at_boot = 0x1234_5678; // from hardware
/// let mut edge: Edge<8, 4, 2, 16> = Edge::new(Instant::ZERO, Config::new(key, random_at_boot).check()?);
/// let server: core::net::SocketAddr = "10.0.0.7:7500".parse()?;
/// edge.add_seed(Instant::ZERO, server.into())?;
///
/// edge.handle_timeout(Instant::ZERO, &mut || [7; 16]); // fresh each time, from hardware
/// let mut buffer = [0; 1_200];
/// let hello = edge.poll_transmit(Instant::ZERO, &mut buffer).unwrap();
/// assert_eq!((hello.addr, hello.len), (Addr::from(server), 48));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Edge<
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    C: Cipher = ChaCha20Poly1305,
> {
    id: NodeId,
    life: u32,
    epoch: u32,
    tags: Tags<TAGS>,
    /// Rises when the tags change.
    meta: u32,
    timers: Timers,
    datagram: u16,
    serves: bool,
    leaving: bool,
    link_up: bool,
    link_changed: Instant,
    now: Instant,
    /// Or [`NEVER`], which is half as large as an option.
    promised: Instant,
    late_turns: u8,
    late_at: Instant,
    load: LoadReport,
    /// A slot stays where it is; a free one is used again.
    places: Vec<Place<TAGS>, SERVERS>,
    links: [Option<Link<C>>; SESSIONS],
    initiator: Initiator<C>,
    /// Whose `WELCOME` is awaited, and until when.
    attempt: Option<(u8, Instant)>,
    calls: [call::Call; CALLS],
    next_call: u32,
    strategy: Corrected,
    rng: Sfc32,
    reported_attached: bool,
    dirty: bool,
    counters: Counters,
}

impl<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C: Cipher>
    Edge<SERVERS, SESSIONS, CALLS, TAGS, C>
{
    const SIZES: () = {
        assert!(
            SERVERS >= 1 && SERVERS <= SERVERS_MAX,
            "an edge has room for 1 to SERVERS_MAX servers"
        );
        assert!(
            SESSIONS >= 1 && SESSIONS <= SERVERS,
            "at least one session, at most one per server"
        );
        assert!(CALLS >= 1 && CALLS <= CALLS_MAX, "1 to CALLS_MAX calls at once");
        assert!(
            TAGS <= crate::member::TAG_BYTES_MAX,
            "a message carries at most TAG_BYTES_MAX bytes of tags"
        );
    };

    /// An edge that knows no server yet: give it one with [`Edge::add_seed`].
    // Inlined, so that it is not copied once more on its way to where it is to be.
    #[inline(always)]
    #[must_use]
    pub fn new(now: Instant, Checked(config): Checked<TAGS>) -> Self {
        let () = Self::SIZES;
        let id = config.id();
        Self {
            id,
            life: config.life,
            epoch: config.epoch,
            tags: config.tags,
            meta: 1,
            timers: config.timers,
            datagram: config.datagram,
            serves: config.serves,
            leaving: false,
            link_up: true,
            link_changed: now,
            now,
            promised: now,
            late_turns: 0,
            late_at: now,
            load: LoadReport::default(),
            places: Vec::new(),
            links: [const { None }; SESSIONS],
            initiator: Initiator::new(config.newest, config.older),
            attempt: None,
            calls: [call::Call::FREE; CALLS],
            next_call: 1,
            strategy: Corrected::default(),
            rng: Sfc32::new(config.seed ^ u64::from(id.get())),
            reported_attached: false,
            dirty: false,
            counters: Counters::default(),
        }
    }

    /// Who this is: its key id, as a node id in the edges' own namespace.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// A server to start from, by the address of its edge listener. One that is reachable is enough: it tells of
    /// others. Given twice it is there once.
    ///
    /// # Errors
    /// [`SeedsFull`] when there is no room; nothing changed.
    pub fn add_seed(&mut self, now: Instant, addr: Addr) -> Result<(), SeedsFull> {
        self.advance(now);
        let slot = match self.slot_at(addr) {
            Some(slot) => slot,
            None => self.insert(addr).ok_or(SeedsFull)?,
        };
        if let Some(place) = self.places.get_mut(usize::from(slot)) {
            place.seed = true;
        }
        self.urge();
        Ok(())
    }

    /// States the edge's own load; it rides on every message from now on. The version is the edge's business.
    pub fn set_load(&mut self, load: LoadReport) {
        let version = self.load.version;
        self.load = LoadReport { version, ..load };
    }

    /// Changes the edge's own tags and tells its servers.
    pub fn set_tags(&mut self, now: Instant, tags: Tags<TAGS>) {
        self.advance(now);
        if self.tags != tags {
            self.tags = tags;
            self.meta = self.meta.saturating_add(1);
            for link in self.links.iter_mut().flatten() {
                link.joined = false;
                link.owes |= owed::JOIN;
            }
        }
    }

    /// Says goodbye to its servers: [`Edge::poll_transmit`] yields that, then nothing any more.
    pub fn leave(&mut self, now: Instant) {
        self.advance(now);
        self.leaving = true;
        self.give_up_attempt();
        for link in self.links.iter_mut().flatten() {
            link.owes = owed::LEAVE;
        }
    }

    /// The network link came or went. While it is down nothing is sent and nobody is accused; when it is back every
    /// server is asked at once.
    pub fn handle_link(&mut self, now: Instant, up: bool) {
        self.advance(now);
        if up == self.link_up {
            return;
        }
        let outage = self.now.since(self.link_changed);
        self.link_changed = self.now;
        self.link_up = up;
        if !up {
            self.give_up_attempt();
            return;
        }
        self.forgive(outage);
        for place in &mut self.places {
            place.not_before = Instant::ZERO;
            place.fails = 0;
        }
        for link in self.links.iter_mut().flatten() {
            link.owes |= owed::HEARTBEAT;
            link.unanswered = 0;
            link.asked = None;
        }
        self.urge();
    }

    /// Ends the attempt, without judging the server.
    fn give_up_attempt(&mut self) {
        self.attempt = None;
        self.initiator.cancel();
    }

    /// Something is to be done at once: makes the driver call `handle_timeout`.
    fn urge(&mut self) {
        self.dirty = true;
        self.urge_at(self.now);
    }

    /// The same, then or earlier.
    #[cfg_attr(target_os = "none", inline(never))]
    fn urge_at(&mut self, at: Instant) {
        if self.link_up && !self.leaving {
            self.promised = self.promised.min(at).max(self.now);
        }
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn place(&self, slot: u8) -> Option<&Place<TAGS>> {
        self.places.get(usize::from(slot)).filter(|place| place.used)
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn place_mut(&mut self, slot: u8) -> Option<&mut Place<TAGS>> {
        self.places.get_mut(usize::from(slot)).filter(|place| place.used)
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn link(&self, slot: u8) -> Option<&Link<C>> {
        self.links.iter().flatten().find(|link| link.slot == slot)
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn link_mut(&mut self, slot: u8) -> Option<&mut Link<C>> {
        self.links.iter_mut().flatten().find(|link| link.slot == slot)
    }

    fn slots(&self) -> impl Iterator<Item = (u8, &Place<TAGS>)> {
        (0_u8..).zip(&self.places).filter(|(_, place)| place.used)
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn slot_at(&self, addr: Addr) -> Option<u8> {
        let mut slots = self.slots();
        slots.find(|(_, place)| place.addr == addr).map(|(slot, _)| slot)
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn slot_of(&self, id: NodeId) -> Option<u8> {
        let mut slots = self.slots();
        slots.find(|(_, place)| place.is(id)).map(|(slot, _)| slot)
    }

    /// A free place for a server at this address.
    fn insert(&mut self, addr: Addr) -> Option<u8> {
        let free = self.places.iter().position(|place| !place.used);
        let slot = free.unwrap_or(self.places.len());
        if free.is_none() {
            self.places.push(Place::FREE).ok()?;
        }
        *self.places.get_mut(slot)? = Place::new(addr);
        u8::try_from(slot).ok()
    }

    fn drop_link(&mut self, slot: u8) {
        for link in &mut self.links {
            if link.as_ref().is_some_and(|link| link.slot == slot) {
                *link = None;
            }
        }
    }

    /// A quarter of a period: ordinary scheduling noise, and the pause between repeated heartbeats.
    #[cfg_attr(target_os = "none", inline(never))]
    const fn quarter(&self) -> Duration {
        Duration::from_micros(self.timers.heartbeat().as_micros() >> 2)
    }

    /// A random part of a period.
    fn phase(&mut self) -> Duration {
        let period = u32::try_from(self.timers.heartbeat().as_micros()).unwrap_or(u32::MAX);
        Duration::from_micros(u64::from(self.rng.below(period)))
    }
}

impl<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C: Cipher> fmt::Debug
    for Edge<SERVERS, SESSIONS, CALLS, TAGS, C>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("id", &self.id)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// There is no room for another seed. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SeedsFull;

impl fmt::Display for SeedsFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no room for another server: use a larger SERVERS")
    }
}

impl core::error::Error for SeedsFull {}
