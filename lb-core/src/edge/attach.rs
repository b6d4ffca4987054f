//! Time: handshakes, heartbeats, and what silence means.

use super::place::{Link, owed};
use super::{Edge, HOMES, LATE_TURNS_MAX, NEVER};
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

/// After so many messages without an answer a new handshake is tried: the server may have forgotten the session, and
/// could not say so.
pub(super) const UNANSWERED_MAX: u8 = 3;

/// The pause before a `Join` that was not answered is sent again.
const JOIN_AGAIN: Duration = Duration::from_millis(500);

/// Why a handshake is due, the most urgent first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// A call waits for it.
    Call,
    /// The session is used up, or its server silent.
    Worn,
    /// There are too few homes.
    Home,
}

impl<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C: Cipher>
    Edge<SERVERS, SESSIONS, CALLS, TAGS, C>
{
    /// When [`Edge::handle_timeout`] is to be called next, if nothing else happens before. It may turn out that there was
    /// nothing to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        (self.promised != NEVER).then_some(self.promised)
    }

    /// Does what time makes due. `random` gives 16 fresh bytes of a good source; it is asked once for each handshake.
    pub fn handle_timeout(&mut self, now: Instant, random: &mut dyn FnMut() -> [u8; RANDOM_BYTES]) {
        self.advance(now);
        self.promised = NEVER;
        self.dirty = true;
        if self.leaving || !self.link_up {
            return;
        }
        self.urge_at(self.now.saturating_add(self.timers.heartbeat()));
        let homeless = self.tend_links();
        self.end_attempt();
        self.tend_places(homeless, random);
        if let (Some((_, until)), Some(due)) = (self.attempt, self.initiator.deadline()) {
            // A `HELLO` that is due now waits in `poll_transmit`.
            self.urge_at(if due > self.now { until.min(due) } else { until });
        }
    }

    /// Takes in the time. If the edge slept through its promise, the servers are forgiven that time.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.promised == NEVER {
            return;
        }
        let late = self.now.since(self.promised);
        if late <= self.quarter() {
            if self.now.since(self.late_at) > self.timers.heartbeat() {
                self.late_turns = 0;
            }
            return;
        }
        debug!("late by {} us: servers are forgiven that time", late.as_micros());
        self.counters.late = self.counters.late.saturating_add(1);
        self.late_turns = self.late_turns.saturating_add(1);
        self.promised = self.now;
        self.late_at = self.now;
        if self.late_turns > LATE_TURNS_MAX {
            return;
        }
        self.forgive(late.saturating_add(self.quarter()));
        // Nor does it count against an attempt.
        if let Some((_, until)) = &mut self.attempt {
            *until = until.saturating_add(late);
        }
    }

    /// The edge itself was away: that is no silence of its servers.
    pub(super) fn forgive(&mut self, pause: Duration) {
        for place in &mut self.places {
            place.detector.forgive(pause);
        }
        for link in self.links.iter_mut().flatten() {
            link.last_heard = link.last_heard.saturating_add(pause);
        }
    }

    /// Sends heartbeats, chooses homes, drops sessions that are not worth keeping; whether there are too few homes.
    fn tend_links(&mut self) -> bool {
        let (now, timers, quarter) = (self.now, self.timers, self.quarter());
        let (mut homes, mut next) = (0_usize, now.saturating_add(timers.heartbeat()));
        for held in &mut self.links {
            let Some(link) = held else { continue };
            let Some(place) = self.places.get_mut(usize::from(link.slot)) else {
                continue;
            };
            let verdict = place.detector.verdict(now, &timers);
            link.home = homes < HOMES && verdict == Verdict::Alive && !place.draining;
            homes = homes.saturating_add(link.home.into());
            let in_use = now.since(link.last_call) <= timers.ttl();
            let silence = now.since(link.last_heard);
            if verdict == Verdict::Failed || (!link.session.is_confirmed() && silence > UNCONFIRMED) {
                place.failed(now, &timers);
                *held = None;
                continue;
            }
            if link.home || in_use || !link.joined || verdict == Verdict::Suspect {
                if now >= link.next_heartbeat {
                    link.owes |= if link.joined { owed::HEARTBEAT } else { owed::JOIN };
                    let pause = match link {
                        Link { joined: false, .. } => JOIN_AGAIN.min(timers.heartbeat()),
                        Link { unanswered: 0, .. } => timers.heartbeat(),
                        _ => quarter,
                    };
                    link.next_heartbeat = now.saturating_add(pause);
                }
                next = next.min(link.next_heartbeat);
            } else if silence > timers.ttl() {
                place.rest(now, &timers);
                *held = None;
                continue;
            }
            if let Some(deadline) = place.detector.deadline(now, &timers) {
                next = next.min(deadline);
            }
        }
        self.urge_at(next);
        homes < HOMES.min(SESSIONS)
    }

    /// Forgets servers that nobody recommends any more, and begins the most urgent handshake.
    fn tend_places(&mut self, homeless: bool, random: &mut dyn FnMut() -> [u8; RANDOM_BYTES]) {
        let now = self.now;
        let joining = self.links.iter().flatten().any(|link| !link.joined);
        let target = self.attempt.map(|(target, _)| target);
        let (mut best, mut others, mut next) = (None, false, None);
        for slot in (0_u8..).take(SERVERS) {
            let wanted = self.calls.iter().any(|call| call.waits_for(slot));
            let asked = self.calls.iter().any(|call| call.may_hear(slot));
            let link = self.link(slot);
            let worn = link.map(|link| link.unanswered >= UNANSWERED_MAX || link.session.needs_rekey());
            let Some(place) = self.places.get_mut(usize::from(slot)) else {
                continue;
            };
            if !place.used {
                continue;
            }
            let need = match worn {
                Some(true) => Some(Need::Worn),
                Some(false) => None,
                None if wanted => Some(Need::Call),
                None if homeless && !joining => Some(Need::Home),
                None => None,
            };
            let unlisted = !place.seed && place.listed_until <= now;
            let idle = place.load.own_in_flight() == 0 && !asked && target != Some(slot);
            if unlisted && worn.is_none() && idle {
                *place = super::Place::FREE;
                continue;
            }
            let Some(need) = need else {
                others |= worn.is_some();
                continue;
            };
            if place.not_before > now {
                next = Some(next.unwrap_or(place.not_before).min(place.not_before));
                continue;
            }
            // Whoever failed or drains takes turns behind the others.
            let key = (need, place.draining, place.fails, slot);
            others |= best.is_some();
            best = Some(best.unwrap_or(key).min(key));
        }
        if let Some(next) = next {
            self.urge_at(next);
        }
        if self.attempt.is_none()
            && let Some((need, _, _, slot)) = best
        {
            let patience = if need == Need::Call && others {
                ATTEMPT_FOR_CALL
            } else {
                ATTEMPT
            };
            self.attempt = Some((slot, now.saturating_add(patience)));
            self.initiator.start(now, random());
            self.counters.handshakes = self.counters.handshakes.saturating_add(1);
        }
    }

    /// A handshake that took too long counts against its server. One that nobody waits for makes way.
    fn end_attempt(&mut self) {
        let Some((slot, until)) = self.attempt else { return };
        let waits = |slot| self.calls.iter().any(|call| call.waits_for(slot));
        let startable = |slot| {
            let rested = self.place(slot).is_some_and(|place| place.not_before <= self.now);
            rested && self.link(slot).is_none()
        };
        let mut wanted = (0_u8..).take(SERVERS).filter(|slot| waits(*slot));
        let preempted = !waits(slot) && wanted.any(startable);
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

    /// A `WELCOME` came: the session is ours, and is the server's as soon as it hears from us.
    pub(super) fn attach(&mut self, slot: u8, session: Session<C>) {
        let mut link = Link::new(self.now, slot, session);
        // Until the first answer.
        link.next_heartbeat = self.now.saturating_add(JOIN_AGAIN.min(self.timers.heartbeat()));
        // Nobody else could answer a `HELLO` so. And others may wait for their turn.
        self.heard(slot);
        self.urge();
        if let Some(place) = self.place_mut(slot) {
            place.fails = 0;
            place.not_before = Instant::ZERO;
        }
        // The one it replaces, a free one, or the one that was not used for longest.
        let rank = |held: &Option<Link<C>>| match held {
            Some(held) if held.slot == slot => Some((0, Instant::ZERO)),
            None => Some((1, Instant::ZERO)),
            Some(held) => {
                let place = self.places.get(usize::from(held.slot))?;
                let idle = place.load.own_in_flight() == 0;
                idle.then_some((2_u8.saturating_add(held.home.into()), held.last_call))
            }
        };
        let ranked = self.links.iter().enumerate();
        let ranked = ranked.filter_map(|(index, held)| Some((rank(held)?, index)));
        let chosen = ranked.min().and_then(|(_, index)| self.links.get_mut(index));
        if let Some(held) = chosen {
            *held = Some(link);
        }
    }
}
