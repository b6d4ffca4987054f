//! A node: the sans-I/O composition of membership, detection, load, election and picking.
//!
//! # The driver's contract
//!
//! A driver owns a [`Node`], a clock, randomness for the seed, and a transport that *authenticates*: it
//! knows which node sent a message, whatever the message says. It then does this, in any order, one input at
//! a time:
//!
//! 1. a message arrived: [`Node::handle_message`] with the proven sender; a response to a call arrived:
//!    [`Node::handle_response`]; a request arrived: [`Node::handle_request`]; a connection was made or broke:
//!    [`Node::handle_connect`], [`Node::handle_disconnect`];
//! 2. [`Node::next_deadline`] has come: [`Node::handle_timeout`]. Calling it earlier is harmless;
//! 3. after each input: [`Node::poll_transmit`] until it returns `None`, sending what it yields, and
//!    [`Node::poll_event`] until it returns `None`.
//!
//! Before messages are sent, the driver states the current load with [`Node::set_load`].
//!
//! Time never goes back: an earlier `now` than seen before is taken as the latest seen. When an input comes
//! later than the promised deadline, the *node* was asleep: its peers are forgiven that time, and nobody is
//! accused in that turn. That holds for [`LATE_TURNS_MAX`] late turns with no punctual period in between, so
//! that a driver that is always late still detects failures. A pick is an input in this sense.
//!
//! A driver that picks elsewhere, from many threads, counts the requests in flight itself and states them with
//! [`Node::set_own_in_flight`] before an input, because a peer with requests in flight is never displaced.
//!
//! Transmission may lose, duplicate and reorder; a `reliable` transmit is only a wish. Every input costs
//! O(peers) at most.

mod config;
mod event;
mod receive;
mod select;
#[cfg(test)]
mod tests;
mod timeout;
mod transmit;

use crate::elect::{Claim, Election};
use crate::fmt::warning;
use crate::health::Timers;
use crate::id::NodeId;
use crate::load::{CachedLoad, Endpoint, Freshness, LoadCache, LoadReport, OwnLatency, ReportVersion};
use crate::member::{
    Addr, Admission, Axes, Liveness, Member, Role, Status, TAG_BYTES_MAX, Table, TableFull, Tags, pending,
};
use crate::rng::{Rng, Sfc32};
use crate::time::{Duration, Instant};
use crate::wire;

pub use crate::pick::PickError;
pub use config::{Config, ConfigError, FORGET_DEFAULT};
pub use event::{Counters, Event, Refusal};
pub use select::{Request, Ticket};
pub use transmit::Transmit;

/// How many inputs may come late, with no punctual period in between, before lateness is no longer forgiven.
pub const LATE_TURNS_MAX: u8 = 16;

/// A participant. `PEERS` other nodes at most (up to [`crate::member::PEERS_MAX`]), `TAGS` bytes of tags for
/// each.
///
/// ```
/// use lb_core::load::{Ended, LoadMeter};
/// use lb_core::member::{Addr, Role, Tags};
/// use lb_core::node::{Config, Node, Request};
/// use lb_core::pick::Corrected;
/// use lb_core::{Instant, NodeId, wire};
///
/// // Two nodes, joined by handing over what they transmit.
/// let now = Instant::ZERO;
/// let mut worker: Node<8, 64> =
///     Node::new(now, Config::new(NodeId::new(1), 1, Role::Worker).tags(Tags::parse("role=worker")?))?;
/// let mut client: Node<8, 64> = Node::new(now, Config::new(NodeId::new(2), 1, Role::Observer))?;
/// let mut meter = LoadMeter::new(1, 64);
/// worker.set_load(meter.report(now));
/// client.add_peer(now, NodeId::new(1), Addr::NONE)?;
///
/// let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
/// for _ in 0..3 {
///     while let Some(out) = client.poll_transmit(now, &mut buffer) {
///         worker.handle_message(now, NodeId::new(2), &buffer[..out.len])?;
///     }
///     while let Some(out) = worker.poll_transmit(now, &mut buffer) {
///         client.handle_message(now, NodeId::new(1), &buffer[..out.len])?;
///     }
/// }
///
/// let filter = lb_core::member::Filter::parse("role=worker")?;
/// let ticket = client.pick(now, &Request::new(&filter), &mut Corrected::default())?;
/// assert_eq!(ticket.id(), NodeId::new(1));
/// client.finish(now, ticket, Ended::Abandoned);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Node<const PEERS: usize, const TAGS: usize> {
    id: NodeId,
    epoch: u32,
    role: Role,
    addr: Addr,
    tags: Tags<TAGS>,
    meta: u32,
    draining: bool,
    /// Nobody has confirmed this epoch yet.
    starting: bool,
    /// Until then a higher epoch of ours is a former life that somebody had not known; later, a rival. Long
    /// enough for a peer that sleeps and then hears the last words of that life.
    settled: Instant,
    phase: Phase,
    timers: Timers,
    forget: Duration,
    now: Instant,
    promised: Option<Instant>,
    /// When the last promise was made: what the node believed then, it may have told.
    promised_at: Instant,
    late_turns: u8,
    late_at: Instant,
    next_election: Instant,
    table: Table<PEERS, TAGS>,
    /// Slot for slot parallel to `table`.
    cache: LoadCache<PEERS>,
    load: LoadReport,
    own_in_flight: u32,
    own_latency: OwnLatency,
    election: Election,
    reported_claim: Option<Claim>,
    refused: Option<(NodeId, Refusal)>,
    taken_over: Option<u32>,
    superseded: Option<u32>,
    counters: Counters,
    rng: Sfc32,
    transmit_cursor: usize,
    /// Whether a status may have changed since the last full `poll_event`.
    dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Goodbyes are still to be sent.
    Leaving,
    /// Another process has our id and a higher epoch.
    Superseded,
}

/// What a node knows of one other node, for tables and status pages.
#[derive(Clone, Copy, Debug)]
pub struct PeerView<'a, const TAGS: usize> {
    /// The entry of the peer table.
    pub member: &'a Member<TAGS>,
    /// Its state.
    pub axes: Axes,
    /// The projection operators read.
    pub status: Status,
    /// Its last load report, whatever its age.
    pub load: Option<&'a CachedLoad>,
    /// Our own requests there now.
    pub own_in_flight: u32,
    /// Until when it said that it has no place.
    pub full_until: Instant,
}

impl<const PEERS: usize, const TAGS: usize> Node<PEERS, TAGS> {
    /// A node that knows nobody yet.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field to change.
    pub fn new(now: Instant, config: Config<TAGS>) -> Result<Self, ConfigError> {
        const {
            assert!(
                TAGS <= TAG_BYTES_MAX,
                "a message carries at most TAG_BYTES_MAX bytes of tags"
            );
        };
        config.check()?;
        let timers = config.timers;
        // One period to hear of a coordinator before thinking of becoming one.
        let next_election = now.saturating_add(timers.heartbeat());
        Ok(Self {
            id: config.id,
            epoch: config.epoch,
            role: config.role,
            addr: config.addr,
            tags: config.tags,
            meta: 1,
            draining: false,
            starting: true,
            settled: now.saturating_add(timers.failed().saturating_mul(3)),
            phase: Phase::Running,
            timers,
            forget: config.forget,
            now,
            promised: Some(next_election),
            promised_at: now,
            late_turns: 0,
            late_at: now,
            next_election,
            table: Table::new(),
            cache: LoadCache::new(timers.ttl(), timers.stale()),
            load: LoadReport {
                version: ReportVersion {
                    epoch: config.epoch,
                    seq: 0,
                },
                ..LoadReport::default()
            },
            own_in_flight: 0,
            own_latency: OwnLatency::new(OwnLatency::HALF_LIFE),
            election: Election::new(),
            reported_claim: None,
            refused: None,
            taken_over: None,
            superseded: None,
            counters: Counters::default(),
            rng: Sfc32::new(config.seed ^ u64::from(config.id.get())),
            transmit_cursor: 0,
            dirty: false,
        })
    }

    /// Who this is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Its life. Rises when the node learns that its epoch is taken ([`Event::EpochTaken`]).
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether it serves.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Its own tags.
    #[must_use]
    pub const fn tags(&self) -> &Tags<TAGS> {
        &self.tags
    }

    /// Its time-outs.
    #[must_use]
    pub const fn timers(&self) -> &Timers {
        &self.timers
    }

    /// Its own load as last stated.
    #[must_use]
    pub const fn load(&self) -> &LoadReport {
        &self.load
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The coordinator and its term, as far as known.
    #[must_use]
    pub const fn coordinator(&self) -> Option<Claim> {
        self.election.claim()
    }

    /// Whether this node asked for no new requests.
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.draining
    }

    /// Whether goodbyes were asked for and all are sent.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.phase != Phase::Running && self.table.members().iter().all(|member| member.pending == 0)
    }

    /// The projection of this node's own state.
    #[must_use]
    pub fn own_status(&self) -> Status {
        let axes = Axes {
            liveness: if self.phase == Phase::Running {
                Liveness::Alive
            } else {
                Liveness::Left
            },
            freshness: Freshness::Fresh,
            admission: if self.draining {
                Admission::Draining
            } else {
                Admission::Open
            },
        };
        Status::of(&axes, self.role, self.is_coordinator(self.id))
    }

    /// All peers, in no particular order.
    pub fn peers(&self) -> impl Iterator<Item = PeerView<'_, TAGS>> {
        (0..self.table.members().len()).filter_map(|slot| self.view(slot))
    }

    /// One peer. O(peers).
    #[must_use]
    pub fn peer(&self, id: NodeId) -> Option<PeerView<'_, TAGS>> {
        self.view(self.table.slot_of(id)?)
    }

    /// A peer the user configured: it is contacted at once and never forgotten.
    ///
    /// # Errors
    /// [`TableFull`] when there is no room; nothing changed.
    pub fn add_peer(&mut self, now: Instant, id: NodeId, addr: Addr) -> Result<(), TableFull> {
        self.advance(now);
        if id == self.id {
            return Ok(());
        }
        let slot = match self.table.slot_of(id) {
            Some(slot) => slot,
            None => self.insert(id, addr)?,
        };
        if let Some(member) = self.table.get_mut(slot) {
            member.pinned = true;
            if member.epoch == 0 {
                member.addr = addr;
            }
        }
        self.promise();
        Ok(())
    }

    /// States the node's own load; it rides on every message from now on. Older reports, and those of
    /// another epoch than the node's, are ignored.
    pub fn set_load(&mut self, report: LoadReport) {
        if report.version.epoch == self.epoch && report.version >= self.load.version {
            self.load = report;
        }
    }

    /// Changes the node's tags and tells its peers.
    pub fn set_tags(&mut self, now: Instant, tags: Tags<TAGS>) {
        self.advance(now);
        if self.tags != tags {
            self.tags = tags;
            self.announce_meta();
        }
    }

    /// Changes where the node listens and tells its peers.
    pub fn set_addr(&mut self, now: Instant, addr: Addr) {
        self.advance(now);
        if self.addr != addr {
            self.addr = addr;
            self.announce_meta();
        }
    }

    /// Asks for no new requests, or for requests again, and tells its peers at once.
    pub fn set_draining(&mut self, now: Instant, draining: bool) {
        self.advance(now);
        if self.draining != draining {
            self.draining = draining;
            self.owe_everyone(pending::ACK);
        }
        self.promise();
    }

    /// Says goodbye: [`Node::poll_transmit`] yields a `Leave` to every peer, then nothing any more.
    pub fn leave(&mut self, now: Instant) {
        self.advance(now);
        if self.phase == Phase::Running {
            self.phase = Phase::Leaving;
            let (now, timers) = (self.now, self.timers);
            for member in self.table.members_mut() {
                let there = matches!(member.liveness(now, &timers), Liveness::Alive | Liveness::Suspect);
                member.pending = if there { pending::LEAVE } else { 0 };
            }
        }
        self.promise();
    }

    fn announce_meta(&mut self) {
        self.meta = self.meta.saturating_add(1);
        self.owe_everyone(pending::JOIN);
        self.promise();
    }

    /// Every peer is to be sent this, unless this node has said its last word.
    fn owe_everyone(&mut self, what: u8) {
        if self.phase == Phase::Running {
            for member in self.table.members_mut() {
                member.pending |= what;
            }
        }
    }

    /// A new peer in both tables, displacing somebody if need be.
    fn insert(&mut self, id: NodeId, addr: Addr) -> Result<usize, TableFull> {
        if self.table.is_full() {
            let coordinator = self.election.claim().map(|claim| claim.holder);
            let victim = self.table.victim(self.now, &self.timers, |slot, member| {
                let in_use = self
                    .cache
                    .get(slot)
                    .is_some_and(|endpoint| endpoint.own_in_flight() > 0);
                in_use || Some(member.id) == coordinator
            });
            let Some(victim) = victim else {
                warning!("peer table full");
                return Err(TableFull);
            };
            self.counters.evicted = self.counters.evicted.saturating_add(1);
            self.remove(victim);
        }
        let mut member = Member::new(self.now, id, addr, false);
        if self.phase == Phase::Running {
            member.pending = pending::JOIN;
        }
        // A phase of its own for every peer, so that a cluster started at once does not beat in step.
        let phase = self
            .rng
            .below(u32::try_from(self.timers.heartbeat().as_micros()).unwrap_or(u32::MAX));
        member.next_heartbeat = self
            .now
            .saturating_add(self.timers.heartbeat())
            .saturating_add(Duration::from_micros(u64::from(phase >> 1)));
        let slot = self.table.push(member)?;
        // Cannot fail: it has the table's capacity and the same entries.
        if self.cache.insert(self.now, id) != Ok(slot) {
            self.table.remove(slot);
            return Err(TableFull);
        }
        self.dirty = true;
        Ok(slot)
    }

    fn remove(&mut self, slot: usize) {
        self.table.remove(slot);
        self.cache.remove(slot);
    }

    fn is_coordinator(&self, id: NodeId) -> bool {
        self.election.claim().is_some_and(|claim| claim.holder == id)
    }

    fn view(&self, slot: usize) -> Option<PeerView<'_, TAGS>> {
        let member = self.table.get(slot)?;
        let axes = Axes {
            liveness: member.liveness(self.now, &self.timers),
            freshness: self.cache.freshness(slot, self.now),
            admission: member.admission,
        };
        Some(PeerView {
            member,
            axes,
            status: Status::of(&axes, member.role, self.is_coordinator(member.id)),
            load: self.cache.get(slot).and_then(Endpoint::cached),
            own_in_flight: self.cache.get(slot).map_or(0, Endpoint::own_in_flight),
            full_until: self.cache.get(slot).map_or(Instant::ZERO, Endpoint::full_until),
        })
    }

    /// Digest of the workers this node hears, itself included. Hearsay and the silent do not count: no
    /// introduction could make the views of two nodes agree on them.
    fn view_digest(&self) -> u32 {
        let own = (self.role == Role::Worker).then_some(self.id);
        let peers = self.table.members().iter().filter(|member| {
            member.role == Role::Worker
                && matches!(
                    member.liveness(self.now, &self.timers),
                    Liveness::Alive | Liveness::Suspect
                )
        });
        wire::view_digest(peers.map(|member| member.id).chain(own))
    }
}
