//! The peer table: everything a node knows of another, but its load.

use core::fmt;

use heapless::Vec;

use super::addr::Addr;
use super::status::{Admission, Liveness, Role, Status};
use super::tags::Tags;
use crate::health::{Detector, Timers, Verdict};
use crate::id::NodeId;
use crate::time::{Duration, Instant};

/// Most peers a table can have: one slot below [`crate::pick::SLOTS_MAX`] is the node itself.
pub const PEERS_MAX: usize = crate::pick::SLOTS_MAX - 1;

/// What a peer is still to be sent: bits, so that nothing queues up.
pub(crate) mod pending {
    pub(crate) const HEARTBEAT: u8 = 1;
    pub(crate) const ACK: u8 = 1 << 1;
    pub(crate) const JOIN: u8 = 1 << 2;
    pub(crate) const INTRODUCE: u8 = 1 << 3;
    pub(crate) const LEAVE: u8 = 1 << 4;
    /// The next acknowledgement says that the peer's epoch is taken.
    pub(crate) const EPOCH_TAKEN: u8 = 1 << 5;
}

/// Another node as seen from here.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Member<const B: usize> {
    pub(crate) id: NodeId,
    pub(crate) addr: Addr,
    pub(crate) role: Role,
    /// 0 until it was heard.
    pub(crate) epoch: u32,
    /// Version of the address and tags we have; 0 when we have none.
    pub(crate) meta: u32,
    pub(crate) tags: Tags<B>,
    pub(crate) detector: Detector,
    pub(crate) admission: Admission,
    pub(crate) left: bool,
    /// A message came from this life after somebody had confirmed its epoch. Until then we confirm it.
    pub(crate) established: bool,
    /// Configured, not hearsay: never forgotten.
    pub(crate) pinned: bool,
    pub(crate) pending: u8,
    pub(crate) next_heartbeat: Instant,
    /// When a message last came, rather than a request or response.
    pub(crate) last_message: Instant,
    /// When it became known, or gone.
    pub(crate) since: Instant,
    /// The last status an event told of.
    pub(crate) reported: Option<(u32, Status)>,
}

impl<const B: usize> Member<B> {
    pub(crate) const fn new(now: Instant, id: NodeId, addr: Addr, pinned: bool) -> Self {
        Self {
            id,
            addr,
            role: Role::Worker,
            epoch: 0,
            meta: 0,
            tags: Tags::new(),
            detector: Detector::new(),
            admission: Admission::Open,
            left: false,
            established: false,
            pinned,
            pending: 0,
            next_heartbeat: now,
            last_message: now,
            since: now,
            reported: None,
        }
    }

    /// Who it is.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> Addr {
        self.addr
    }

    /// Whether it serves; a peer never heard of is taken for a worker.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Its life; 0 until it was heard.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Its tags; none until it joined.
    #[must_use]
    pub const fn tags(&self) -> &Tags<B> {
        &self.tags
    }

    /// Whether it introduced itself, so that its address and tags are known.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.meta > 0
    }

    /// Whether it takes new requests.
    #[must_use]
    pub const fn admission(&self) -> Admission {
        self.admission
    }

    /// When it was last heard.
    #[must_use]
    pub const fn last_heard(&self) -> Option<Instant> {
        self.detector.last_heard()
    }

    /// Is it there?
    #[must_use]
    pub fn liveness(&self, now: Instant, timers: &Timers) -> Liveness {
        match self.detector.verdict(now, timers) {
            _ if self.left => Liveness::Left,
            Verdict::Unheard => Liveness::Unheard,
            Verdict::Alive => Liveness::Alive,
            Verdict::Suspect => Liveness::Suspect,
            Verdict::Failed => Liveness::Failed,
        }
    }

    /// Whether the life we know left or fell silent; that we slept meanwhile does not excuse it here.
    pub(crate) fn is_over(&self, now: Instant, timers: &Timers) -> bool {
        let silent = |heard| now.since(heard) > timers.stale();
        self.left || self.detector.last_heard().is_none_or(silent)
    }

    /// A higher epoch: everything said of the former life is void.
    pub(crate) fn begin_life(&mut self, epoch: u32) {
        self.epoch = epoch;
        self.meta = 0;
        self.tags = Tags::new();
        self.detector = Detector::new();
        self.admission = Admission::Open;
        self.left = false;
        self.established = false;
    }

    /// Whether it gets heartbeats: workers do. One that left does when it is configured: it may come back
    /// and know nobody, and others may know nobody but it.
    pub(crate) fn is_probed(&self) -> bool {
        self.role == Role::Worker && (!self.left || self.pinned)
    }

    /// A response came: it stands in for a heartbeat, but only for so long. A new worker, another coordinator
    /// and other tags are told in messages alone.
    pub(crate) fn postpone_heartbeat(&mut self, now: Instant, timers: &Timers) {
        let latest = now.saturating_add(timers.heartbeat());
        let postponed = latest.min(self.last_message.saturating_add(timers.ttl()));
        self.next_heartbeat = self.next_heartbeat.max(postponed).min(latest);
    }

    /// Somebody hears this peer while we do not: it need not wait for its turn on the slow schedule, as long
    /// as it is not tried more often than every heartbeat.
    pub(crate) fn hasten_heartbeat(&mut self, now: Instant, timers: &Timers) {
        let (wait, heartbeat) = (self.next_heartbeat.since(now), timers.heartbeat());
        if wait > heartbeat {
            let slowed = self.heartbeat_interval(now, timers).saturating_sub(heartbeat);
            self.next_heartbeat = now.saturating_add(wait.saturating_sub(slowed));
        }
    }

    /// How long until the next heartbeat. The gone and the long unheard of are tried eight times less often, so
    /// that a healed partition is found and a dead address costs little. Who missed one is asked again four
    /// times as often until it is heard or failed, so that a lost message is not taken for silence.
    pub(crate) fn heartbeat_interval(&self, now: Instant, timers: &Timers) -> Duration {
        let heartbeat = timers.heartbeat();
        match self.liveness(now, timers) {
            Liveness::Unheard if now.since(self.since) <= timers.failed() => heartbeat,
            Liveness::Unheard | Liveness::Failed | Liveness::Left => heartbeat.saturating_mul(8),
            Liveness::Alive | Liveness::Suspect => {
                let silence = self.detector.silence(now).unwrap_or_default();
                let quarter = Duration::from_micros(heartbeat.as_micros() >> 2);
                if silence > heartbeat.saturating_add(quarter) {
                    quarter
                } else {
                    heartbeat
                }
            }
        }
    }
}

/// There was no room and nobody who may be forgotten. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TableFull;

impl fmt::Display for TableFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("peer table full of live peers: use a larger capacity")
    }
}

impl core::error::Error for TableFull {}

/// At most `N` peers with at most `B` bytes of tags each. Look-ups are O(N).
///
/// **Eviction.** When the table is full, a new peer displaces, in this order: one that left, one that
/// failed, hearsay that was never heard of; among equals the one in that state for longest. Never: a live or
/// suspected peer, a configured one, the coordinator, or one with own requests in flight.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Table<const N: usize, const B: usize> {
    members: Vec<Member<B>, N>,
}

impl<const N: usize, const B: usize> Default for Table<N, B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize, const B: usize> Table<N, B> {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N <= PEERS_MAX, "a table has at most PEERS_MAX peers") };
        Self { members: Vec::new() }
    }

    /// The peers; the index is the slot. Slots move when a peer is removed.
    #[must_use]
    pub fn members(&self) -> &[Member<B>] {
        &self.members
    }

    pub(crate) fn members_mut(&mut self) -> &mut [Member<B>] {
        &mut self.members
    }

    /// Where a peer is now.
    #[must_use]
    pub fn slot_of(&self, id: NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.id == id)
    }

    /// Whether there is no free slot.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.members.is_full()
    }

    pub(crate) fn get(&self, slot: usize) -> Option<&Member<B>> {
        self.members.get(slot)
    }

    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut Member<B>> {
        self.members.get_mut(slot)
    }

    pub(crate) fn push(&mut self, member: Member<B>) -> Result<usize, TableFull> {
        self.members.push(member).map_err(|_| TableFull)?;
        Ok(self.members.len().saturating_sub(1))
    }

    pub(crate) fn remove(&mut self, slot: usize) {
        if slot < self.members.len() {
            self.members.swap_remove(slot);
        }
    }

    /// Who would be displaced by a new peer, if anybody; `spare` says who must not be.
    pub(crate) fn victim(
        &self,
        now: Instant,
        timers: &Timers,
        spare: impl Fn(usize, &Member<B>) -> bool,
    ) -> Option<usize> {
        self.members
            .iter()
            .enumerate()
            .filter(|(slot, member)| !member.pinned && !spare(*slot, member))
            .filter_map(|(slot, member)| {
                let rank = match member.liveness(now, timers) {
                    Liveness::Left => 0,
                    Liveness::Failed => 1,
                    Liveness::Unheard => 2,
                    Liveness::Alive | Liveness::Suspect => return None,
                };
                let since = member.detector.last_heard().unwrap_or(member.since);
                Some(((rank, since), slot))
            })
            .min()
            .map(|(_, slot)| slot)
    }
}
