//! Time: handshakes, heartbeats, and what silence means.

use super::place::{Link, Place, owed};
use super::{Edge, HOMES, LATE_TURNS_MAX};
use crate::fmt::debug;
use crate::health::Verdict;
use crate::time::{Duration, Instant};
use crate::wire::seal::{Cipher, RANDOM_BYTES, RETRY_FIRST, Session};

/// How long a handshake may take: three `HELLO`s.
const ATTEMPT: Duration = Duration::from_millis(2_200);

/// How long it may take when a call waits for it and could go elsewhere: one `HELLO`.
const ATTEMPT_FOR_CALL: Duration = RETRY_FIRST;

/// How long a session may stay without a word from the server before it is given up.
const UNCONFIRMED: Duration = Duration::from_secs(2);

/// After so many messages without an answer a new handshake is tried.
pub(super) const UNANSWERED_MAX: u8 = 3;

/// The pause before a `Join` that was not answered is sent again.
const JOIN_AGAIN: Duration = Duration::from_millis(500);

impl<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C: Cipher>
    Edge<SERVERS, SESSIONS, CALLS, TAGS, C>
{
    /// When [`Edge::handle_timeout`] is to be called next, if nothing else happens before.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.promised
    }

    /// Does what time makes due. `random` gives 16 fresh bytes of a good source; it is asked once for each handshake.
    pub fn handle_timeout(&mut self, now: Instant, random: &mut dyn FnMut() -> [u8; RANDOM_BYTES]) {
        self.advance(now);
        if !self.leaving && self.link_up {
            self.judge();
            self.end_attempt();
            self.choose_homes();
            self.schedule_heartbeats();
            self.begin_attempt(random);
        }
        self.dirty = true;
        self.promise();
    }

    /// Takes in the time. If the edge slept through its promise, the servers are forgiven that time.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let Some(promised) = self.promised else { return };
        let late = self.now.since(promised);
        if late <= self.quarter() {
            if self.now.since(self.late_at) > self.timers.heartbeat() {
                self.late_turns = 0;
            }
            return;
        }
        debug!("late by {} us: servers are forgiven that time", late.as_micros());
        self.counters.late = self.counters.late.saturating_add(1);
        self.late_turns = self.late_turns.saturating_add(1);
        self.promised = Some(self.now);
        self.late_at = self.now;
        if self.late_turns > LATE_TURNS_MAX {
            return;
        }
        let pause = late.saturating_add(self.quarter());
        for place in &mut self.places {
            place.detector.forgive(pause);
        }
        // Nor does it count against a session or an attempt.
        for link in self.links.iter_mut().flatten() {
            link.last_heard = link.last_heard.saturating_add(late);
        }
        if let Some((_, until)) = &mut self.attempt {
            *until = until.saturating_add(late);
        }
    }

    /// Works out the next deadline; every `handle_*` that changes one ends with it.
    pub(super) fn promise(&mut self) {
        if self.leaving || !self.link_up {
            self.promised = None;
            return;
        }
        let mut earliest = self.now.saturating_add(self.timers.heartbeat());
        if let Some((_, until)) = self.attempt {
            earliest = earliest.min(until);
            if let Some(due) = self.initiator.deadline() {
                earliest = earliest.min(due);
            }
        } else if self.wants_session().is_some() {
            earliest = self.now;
        } else {
            for (slot, place) in self.slots() {
                if place.not_before > self.now && self.link(slot).is_none() {
                    earliest = earliest.min(place.not_before);
                }
            }
        }
        for link in self.links.iter().flatten() {
            if self.is_heartbeated(link) {
                earliest = earliest.min(link.next_heartbeat);
            }
        }
        for (_, place) in self.slots() {
            if let Some(deadline) = place.detector.deadline(self.now, &self.timers) {
                earliest = earliest.min(deadline);
            }
        }
        self.promised = Some(earliest.max(self.now));
    }

    /// Drops sessions that are not worth keeping, and servers that nobody recommends any more.
    fn judge(&mut self) {
        let (now, timers) = (self.now, self.timers);
        for index in 0..SESSIONS {
            let Some(Some(link)) = self.links.get(index) else {
                continue;
            };
            let (slot, heartbeated) = (link.slot, self.is_heartbeated(link));
            let unconfirmed = !link.session.is_confirmed() && now.since(link.last_heard) > UNCONFIRMED;
            let verdict = self
                .place(slot)
                .map_or(Verdict::Failed, |place| place.detector.verdict(now, &timers));
            if unconfirmed || verdict == Verdict::Failed {
                self.drop_link(slot);
                if let Some(place) = self.place_mut(slot) {
                    place.failed(now, &timers);
                }
            } else if !heartbeated && now.since(link.last_heard) > timers.ttl() {
                self.drop_link(slot);
                if let Some(place) = self.place_mut(slot) {
                    place.rest(now, &timers);
                }
            }
        }
        for slot in (0_u8..).take(SERVERS) {
            let Some(place) = self.place(slot) else { continue };
            let idle = place.load.own_in_flight() == 0 && self.link(slot).is_none();
            let target = self.attempt.is_some_and(|(target, _)| target == slot);
            if !place.seed && idle && !target && place.listed_until <= now {
                self.free(slot);
            }
        }
    }

    pub(super) fn free(&mut self, slot: u8) {
        if let Some(place) = self.place_mut(slot) {
            place.used = false;
            place.reported = None;
        }
    }

    pub(super) fn drop_link(&mut self, slot: u8) {
        for link in &mut self.links {
            if link.as_ref().is_some_and(|link| link.slot == slot) {
                *link = None;
            }
        }
    }

    /// A handshake that took too long counts against its server.
    fn end_attempt(&mut self) {
        let Some((slot, until)) = self.attempt else { return };
        // Somebody waits for another server: that comes first.
        let preempted = !self.is_wanted(slot) && self.wanted_by_call().is_some();
        if self.now < until && !preempted {
            return;
        }
        self.give_up_attempt();
        let (now, timers) = (self.now, self.timers);
        if let Some(place) = self.place_mut(slot)
            && now >= until
        {
            place.failed(now, &timers);
            place.detector.doubt();
            self.counters.handshakes_failed = self.counters.handshakes_failed.saturating_add(1);
        }
    }

    /// Keeps up to [`HOMES`] sessions alive, whoever they are with.
    fn choose_homes(&mut self) {
        let (now, timers) = (self.now, self.timers);
        let alive = |link: &Link<C>, places: &[Place<TAGS>]| {
            places.get(usize::from(link.slot)).is_some_and(|place| {
                !place.draining && place.detector.verdict(now, &timers) == Verdict::Alive
            })
        };
        let mut homes = 0_usize;
        for link in self.links.iter_mut().flatten() {
            link.home &= alive(link, &self.places);
            homes = homes.saturating_add(usize::from(link.home));
        }
        for link in self.links.iter_mut().flatten() {
            if homes < HOMES && !link.home && alive(link, &self.places) {
                link.home = true;
                homes = homes.saturating_add(1);
            }
        }
    }

    /// Whether a server is asked every period: it is a home, in use, new, or in doubt. The other sessions are let go.
    fn is_heartbeated(&self, link: &Link<C>) -> bool {
        let in_use = self.now.since(link.last_call) <= self.timers.ttl();
        let joining = !link.joined || !link.session.is_confirmed();
        let doubted = self
            .place(link.slot)
            .is_some_and(|place| place.detector.verdict(self.now, &self.timers) == Verdict::Suspect);
        link.home || in_use || joining || doubted
    }

    fn schedule_heartbeats(&mut self) {
        let (now, heartbeat, quarter) = (self.now, self.timers.heartbeat(), self.quarter());
        for index in 0..SESSIONS {
            let Some(Some(link)) = self.links.get(index) else {
                continue;
            };
            if now < link.next_heartbeat || !self.is_heartbeated(link) {
                continue;
            }
            let Some(Some(link)) = self.links.get_mut(index) else {
                continue;
            };
            let pause = if !link.joined {
                link.owes |= owed::JOIN;
                JOIN_AGAIN.min(heartbeat)
            } else {
                link.owes |= owed::HEARTBEAT;
                if link.unanswered > 0 { quarter } else { heartbeat }
            };
            link.next_heartbeat = now.saturating_add(pause);
        }
    }

    /// Whether a call waits for a session with this server.
    fn is_wanted(&self, slot: u8) -> bool {
        self.link(slot).is_none() && self.calls.iter().any(|call| call.waits_for(slot))
    }

    fn wanted_by_call(&self) -> Option<u8> {
        let mut slots = self.slots();
        slots
            .find(|(slot, place)| place.not_before <= self.now && self.is_wanted(*slot))
            .map(|(slot, _)| slot)
    }

    /// With whom to make a session next: whom a call waits for, then whose session is old or has gone silent, then
    /// somebody to be at home with.
    fn wants_session(&self) -> Option<u8> {
        let wanted = self.wanted_by_call();
        let worn = || {
            let mut links = self.links.iter().flatten();
            let link = links.find(|link| {
                self.place(link.slot).is_some_and(|place| {
                    // It may have forgotten the session, and could not say so.
                    let worn = link.unanswered >= UNANSWERED_MAX || link.session.needs_rekey();
                    place.not_before <= self.now && worn
                })
            });
            link.map(|link| link.slot)
        };
        let home = || {
            let homes = self.links.iter().flatten().filter(|link| link.home).count();
            let joining = self.links.iter().flatten().any(|link| !link.joined);
            if homes >= HOMES.min(SESSIONS) || joining {
                return None;
            }
            let open = self
                .slots()
                .filter(|(slot, place)| place.not_before <= self.now && self.link(*slot).is_none());
            // Whoever failed or drains takes turns behind the others.
            open.min_by_key(|(_, place)| (place.draining, place.fails, place.not_before))
                .map(|(slot, _)| slot)
        };
        wanted.or_else(worn).or_else(home)
    }

    fn begin_attempt(&mut self, random: &mut dyn FnMut() -> [u8; RANDOM_BYTES]) {
        if self.attempt.is_some() {
            return;
        }
        let Some(slot) = self.wants_session() else { return };
        let elsewhere = self.links.iter().flatten().any(|link| link.slot != slot);
        let patience = if elsewhere && self.is_wanted(slot) {
            ATTEMPT_FOR_CALL
        } else {
            ATTEMPT
        };
        self.attempt = Some((slot, self.now.saturating_add(patience)));
        self.initiator.start(self.now, random());
        self.counters.handshakes = self.counters.handshakes.saturating_add(1);
    }

    /// A `WELCOME` came: the session is ours, and is the server's as soon as it hears from us.
    pub(super) fn attach(&mut self, slot: u8, session: Session<C>) {
        let mut link = Link::new(self.now, slot, session);
        // Until the first answer; after it, at a time of its own, so that edges do not beat in step.
        link.next_heartbeat = self.now.saturating_add(JOIN_AGAIN.min(self.timers.heartbeat()));
        if let Some(former) = self.link(slot) {
            link.home = former.home;
            link.last_call = former.last_call;
        }
        if let Some(place) = self.place_mut(slot) {
            place.fails = 0;
            place.not_before = Instant::ZERO;
        }
        let same = |held: &Option<Link<C>>| held.as_ref().is_some_and(|held| held.slot == slot);
        let free = |held: &Option<Link<C>>| held.is_none();
        let index = self
            .links
            .iter()
            .position(same)
            .or_else(|| self.links.iter().position(free))
            .or_else(|| self.idle_link());
        if let Some(held) = index.and_then(|index| self.links.get_mut(index)) {
            *held = Some(link);
        }
    }

    /// The session that was not used for longest, if one is dispensable.
    fn idle_link(&self) -> Option<usize> {
        let links = (0_usize..).zip(&self.links);
        links
            .filter_map(|(index, link)| Some((index, link.as_ref()?)))
            .filter(|(_, link)| {
                self.place(link.slot)
                    .is_none_or(|place| place.load.own_in_flight() == 0)
            })
            .min_by_key(|(_, link)| (link.home, link.last_call))
            .map(|(index, _)| index)
    }
}
