//! Picking among the peers a node knows.

use super::{Node, Phase};
use crate::id::NodeId;
use crate::load::{Ended, LoadCache};
use crate::member::{Admission, Filter, Liveness, Role, Table};
use crate::pick::{Found, Load, PickError, Pool, SlotSet, Strategy, Tabled};
use crate::time::Instant;

/// Units of work that a pick spends on the strategy's table when the candidates have changed.
const UPDATE_BUDGET: u32 = 64;

/// Which peers may be picked.
///
/// ```
/// use lb_core::NodeId;
/// use lb_core::member::Filter;
/// use lb_core::node::Request;
/// let filter = Filter::parse("role=worker").unwrap();
/// let tried = [NodeId::new(3)];
/// let request = Request::new(&filter).exclude(&tried).include_self(true);
/// # let _ = request;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    filter: &'a Filter,
    exclude: &'a [NodeId],
    include_self: bool,
    key: Option<u64>,
}

impl<'a> Request<'a> {
    /// Any worker whose tags match.
    #[must_use]
    pub const fn new(filter: &'a Filter) -> Self {
        Self {
            filter,
            exclude: &[],
            include_self: false,
            key: None,
        }
    }

    /// But none of these: they were tried already.
    #[must_use]
    pub const fn exclude(mut self, tried: &'a [NodeId]) -> Self {
        self.exclude = tried;
        self
    }

    /// Together with requests of the same key, as far as the strategy is an affine one.
    #[must_use]
    pub const fn key(mut self, key: u64) -> Self {
        self.key = Some(key);
        self
    }

    /// Whether the node itself is a candidate, with the load it has stated.
    #[must_use]
    pub const fn include_self(mut self, include: bool) -> Self {
        self.include_self = include;
        self
    }
}

/// A request in flight. Give it back with [`Node::finish`], however the request ended; it counts as load
/// until then.
#[derive(Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "a ticket that is not finished counts as load for ever"]
pub struct Ticket {
    id: NodeId,
}

impl Ticket {
    /// The endpoint that was picked.
    #[must_use]
    pub const fn id(&self) -> NodeId {
        self.id
    }
}

/// The peers and, in the slot behind them, the node itself.
struct Candidates<'a, const PEERS: usize, const TAGS: usize> {
    cache: &'a LoadCache<PEERS>,
    table: &'a Table<PEERS, TAGS>,
    class: &'a Class,
    now: Instant,
    own: (NodeId, Load),
}

impl<const PEERS: usize, const TAGS: usize> Pool for Candidates<'_, PEERS, TAGS> {
    fn len(&self) -> usize {
        self.class.matching.len()
    }

    fn slot(&self, index: usize) -> usize {
        self.class.matching.nth(index)
    }

    fn slots(&self) -> impl Iterator<Item = usize> {
        self.class.matching.iter()
    }

    fn admits(&self, slot: usize) -> bool {
        self.class.open.contains(slot)
    }

    fn load(&self, slot: usize) -> Load {
        if self.table.get(slot).is_some() {
            Load::cached(self.cache, slot, self.now)
        } else {
            self.own.1
        }
    }

    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        let id = self.table.get(slot).map_or(self.own.0, |member| member.id);
        id.get().to_be_bytes()
    }

    /// A digest of who is in which slot, so that nothing has to be told of changes. O(candidates).
    fn version(&self) -> u32 {
        self.slots().fold(0, |digest: u32, slot| {
            let id = self.table.get(slot).map_or(self.own.0, |member| member.id);
            let entry = id.get().wrapping_mul(0x9e37_79b1) ^ (slot as u32);
            (digest.rotate_left(5) ^ entry).wrapping_mul(0x85eb_ca6b)
        })
    }
}

/// The matching workers of one kind, and those of them that have a place and were not tried.
#[derive(Default)]
struct Class {
    matching: SlotSet,
    open: SlotSet,
}

#[derive(Default)]
struct Classes {
    alive: Class,
    suspect: Class,
    found: Found,
}

impl<const PEERS: usize, const TAGS: usize> Node<PEERS, TAGS> {
    /// Picks a worker for one request and counts the request as in flight there until the ticket is given
    /// back with [`Node::finish`].
    ///
    /// Workers that are alive and open come first; if there is none, suspected ones are better than nothing.
    /// O(peers x tags) for the filter, plus the strategy's own cost. Keep one strategy per filter. A strategy with a
    /// table brings it up to date here, a step at each pick.
    ///
    /// # Errors
    /// [`PickError`] saying what is missing.
    pub fn pick<S: Strategy + Tabled>(
        &mut self,
        now: Instant,
        request: &Request<'_>,
        strategy: &mut S,
    ) -> Result<Ticket, PickError> {
        // After a sleep of the node its peers are forgiven first: they are as good as they were.
        self.advance(now);
        let classes = self.classify(request);
        // Suspected ones only when there is no other.
        let class = if classes.alive.open.is_empty() {
            &classes.suspect
        } else {
            &classes.alive
        };
        let own = Load {
            report: Some(self.load.figures()),
            own_in_flight: self.own_in_flight,
            own_at_report: self.own_in_flight,
            own_latency_us: self.own_latency.latency_us(self.now),
            failing: self.own_latency.failing(self.now),
            age_ms: 0,
        };
        let pool = Candidates {
            cache: &self.cache,
            table: &self.table,
            class,
            now: self.now,
            own: (self.id, own),
        };
        strategy.update(&pool, UPDATE_BUDGET);
        let picked = strategy.pick(&pool, request.key, &mut self.rng);
        let slot = picked.ok_or(classes.found.missing())?;
        let id = match self.table.get(slot) {
            Some(member) => {
                self.cache.begin(slot);
                member.id
            }
            None => {
                self.own_in_flight = self.own_in_flight.saturating_add(1);
                self.id
            }
        };
        self.counters.picks = self.counters.picks.saturating_add(1);
        Ok(Ticket { id })
    }

    /// Takes a request to a particular peer into account, without picking. `None` for an unknown peer.
    pub fn begin(&mut self, id: NodeId) -> Option<Ticket> {
        if id == self.id {
            self.own_in_flight = self.own_in_flight.saturating_add(1);
        } else {
            self.cache.begin(self.table.slot_of(id)?);
        }
        Some(Ticket { id })
    }

    /// The request ended, and how. O(peers).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a ticket is used up, so that it counts once"
    )]
    pub fn finish(&mut self, now: Instant, ticket: Ticket, ended: Ended) {
        let Ticket { id } = ticket;
        let now = now.max(self.now);
        if id == self.id {
            self.own_in_flight = self.own_in_flight.saturating_sub(1);
            self.own_latency.record(now, ended);
        } else if let Some(slot) = self.table.slot_of(id) {
            self.cache.finish(slot, now, ended);
        }
    }

    /// States how many requests are in flight at each peer, for a driver that picks and counts itself. Peers are
    /// asked for in the order of [`Node::peers`]. O(peers).
    pub fn set_own_in_flight(&mut self, mut count: impl FnMut(NodeId) -> u32) {
        for (slot, member) in self.table.members().iter().enumerate() {
            self.cache.set_own_in_flight(slot, count(member.id));
        }
    }

    fn self_is_candidate(&self, request: &Request<'_>) -> bool {
        request.include_self && self.role == Role::Worker && self.phase == Phase::Running && !self.draining
    }

    fn classify(&self, request: &Request<'_>) -> Classes {
        let mut classes = Classes::default();
        let mut consider = |slot, id, matches: bool, full: bool, suspect: bool| {
            let tried = request.exclude.contains(&id);
            let found = &mut classes.found;
            found.workers = true;
            found.matching |= matches;
            found.untried |= matches && !tried;
            found.open |= matches && !tried && !full;
            let class = if suspect {
                &mut classes.suspect
            } else {
                &mut classes.alive
            };
            if matches {
                class.matching.insert(slot);
            }
            if matches && !tried && !full {
                class.open.insert(slot);
            }
        };
        let members = self.table.members().iter();
        for (slot, (member, endpoint)) in members.zip(self.cache.endpoints()).enumerate() {
            let liveness = member.liveness(self.now, &self.timers);
            let there = matches!(liveness, Liveness::Alive | Liveness::Suspect);
            // Until a worker's tags are known it matches nothing, not even "everything".
            let known = there && member.meta > 0;
            if member.role == Role::Worker && member.admission == Admission::Open && known {
                let matches = request.filter.matches(&member.tags);
                let full = endpoint.is_full(self.now);
                consider(slot, member.id, matches, full, liveness == Liveness::Suspect);
            }
        }
        if self.self_is_candidate(request) {
            let full = self.load.capacity > 0 && self.load.in_flight >= self.load.capacity;
            let slot = self.table.members().len();
            consider(slot, self.id, request.filter.matches(&self.tags), full, false);
        }
        classes
    }
}
