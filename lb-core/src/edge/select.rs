//! Picking a server, by the strategy every picker uses.

use super::Edge;
use super::place::Place;
use crate::NodeId;
use crate::health::Verdict;
use crate::load::LoadFigures;
use crate::member::{Addr, Filter};
use crate::pick::{Load, Pool, Strategy};
use crate::time::{Duration, Instant};
use crate::wire::seal::Cipher;

pub use crate::node::PickError;

/// A server and what spoke for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Choice {
    /// Who it is; `None` for a configured server that was not heard yet.
    pub server: Option<NodeId>,
    /// Where it listens.
    pub addr: Addr,
    /// Among how many.
    pub candidates: u8,
    /// What its last report says; used for picking only within the time to live.
    pub load: Option<LoadFigures>,
    /// How old that is.
    pub age: Option<Duration>,
    /// Our own calls there now.
    pub own_in_flight: u32,
}

/// The places as a pool: a mask and what is known of each.
struct Candidates<'a, const TAGS: usize> {
    places: &'a [Place<TAGS>],
    eligible: u32,
    now: Instant,
    ttl: Duration,
}

impl<'a, const TAGS: usize> Candidates<'a, TAGS> {
    const fn new(places: &'a [Place<TAGS>], eligible: u32, now: Instant, ttl: Duration) -> Self {
        Self {
            places,
            eligible,
            now,
            ttl,
        }
    }
}

impl<const TAGS: usize> Pool for Candidates<'_, TAGS> {
    fn len(&self) -> usize {
        self.eligible.count_ones() as usize
    }

    fn slot(&self, index: usize) -> usize {
        self.slots().nth(index).unwrap_or(usize::MAX)
    }

    fn slots(&self) -> impl Iterator<Item = usize> {
        let mut left = self.eligible;
        core::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left.wrapping_sub(1);
            Some(bit)
        })
    }

    fn admits(&self, slot: usize) -> bool {
        u32::try_from(slot)
            .ok()
            .and_then(|bit| self.eligible.checked_shr(bit))
            .is_some_and(|bits| bits & 1 == 1)
    }

    fn load(&self, slot: usize) -> Load {
        let place = self.places.get(slot);
        place.map_or_else(Load::default, |place| place.load.load(self.now, self.ttl))
    }

    fn name(&self, slot: usize) -> impl AsRef<[u8]> {
        let id = self.places.get(slot).and_then(Place::id);
        id.map_or(0, NodeId::get).to_be_bytes()
    }
}

/// Who could be asked, best class first, as bits by place.
#[derive(Default)]
struct Classes {
    good: u32,
    poor: u32,
    servers: bool,
    matching: bool,
    untried: bool,
}

impl<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C: Cipher>
    Edge<SERVERS, SESSIONS, CALLS, TAGS, C>
{
    /// Who would be asked now, and why. Looks only: nothing changes and nothing is sent.
    ///
    /// # Errors
    /// [`PickError`] saying what is missing.
    pub fn pick(&self, now: Instant, filter: &Filter) -> Result<Choice, PickError> {
        let (mut strategy, mut rng) = (self.strategy.clone(), self.rng.clone());
        let now = now.max(self.now);
        let (eligible, candidates) = self.classify(now, filter, 0)?;
        let pool = Candidates::new(&self.places, eligible, now, self.timers.ttl());
        let slot = strategy
            .pick(&pool, None, &mut rng)
            .ok_or(PickError::AllAtCapacity)?;
        let slot = u8::try_from(slot).unwrap_or(u8::MAX);
        self.explain(slot, candidates).ok_or(PickError::NoWorkers)
    }

    /// A place for a call, and among how many.
    pub(super) fn select(&mut self, filter: &Filter, tried: u32) -> Result<(u8, u8), PickError> {
        let (eligible, candidates) = self.classify(self.now, filter, tried)?;
        let pool = Candidates::new(&self.places, eligible, self.now, self.timers.ttl());
        let slot = self
            .strategy
            .pick(&pool, None, &mut self.rng)
            .ok_or(PickError::AllAtCapacity)?;
        Ok((u8::try_from(slot).unwrap_or(u8::MAX), candidates))
    }

    pub(super) fn explain(&self, slot: u8, candidates: u8) -> Option<Choice> {
        let place = self.place(slot)?;
        Some(Choice {
            server: place.id(),
            addr: place.addr,
            candidates,
            load: place.load.figures(),
            age: place.load.age(self.now),
            own_in_flight: place.load.own_in_flight(),
        })
    }

    fn classify(&self, now: Instant, filter: &Filter, tried: u32) -> Result<(u32, u8), PickError> {
        let mut classes = Classes::default();
        // A session for each recommended server; when all are taken, those that have one come first.
        let room = self.links.iter().any(Option::is_none);
        for (slot, place) in self.slots() {
            let verdict = place.detector.verdict(now, &self.timers);
            let linked = self.link(slot).is_some();
            let reachable = linked || (place.not_before <= now && verdict != Verdict::Failed);
            if place.draining || !reachable {
                continue;
            }
            let bit = 1_u32.checked_shl(u32::from(slot)).unwrap_or(0);
            let matches = filter.matches(&place.tags);
            let untried = matches && tried & bit == 0;
            classes.servers = true;
            classes.matching |= matches;
            classes.untried |= untried;
            if !untried || place.load.is_full() || now < place.not_before {
                continue;
            }
            let alive = matches!(verdict, Verdict::Alive | Verdict::Unheard);
            if alive && (linked || room) {
                classes.good |= bit;
            } else {
                classes.poor |= bit;
            }
        }
        let eligible = if classes.good == 0 {
            classes.poor
        } else {
            classes.good
        };
        match classes {
            _ if eligible != 0 => Ok((eligible, u8::try_from(eligible.count_ones()).unwrap_or(u8::MAX))),
            Classes { servers: false, .. } => Err(PickError::NoWorkers),
            Classes { matching: false, .. } => Err(PickError::NoMatch),
            Classes { untried: false, .. } => Err(PickError::AllTried),
            _ => Err(PickError::AllAtCapacity),
        }
    }
}
