//! Time: the deadline promised, what is due when it comes, and what it means to come late.

use super::{LATE_TURNS_MAX, Node, Phase};
use crate::elect::Candidate;
use crate::fmt::debug;
use crate::health::Verdict;
use crate::load::{CachedLoad, HybridWeights, SCORE_MAX};
use crate::member::{Admission, Liveness, Member, Role, pending};
use crate::time::{Duration, Instant};

impl<const PEERS: usize, const TAGS: usize> Node<PEERS, TAGS> {
    /// When [`Node::handle_timeout`] is to be called next, if nothing else happens before.
    #[must_use]
    pub const fn next_deadline(&self) -> Option<Instant> {
        self.promised
    }

    /// Does what time makes due: heartbeats, verdicts, election, forgetting.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        if self.phase == Phase::Running {
            self.schedule_heartbeats();
            self.elect();
            self.forget_the_gone();
        }
        self.dirty = true;
        self.promise();
    }

    /// Takes in the time. If the node slept through its promise, its peers are forgiven that time.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let Some(promised) = self.promised else { return };
        let late = self.now.since(promised);
        // A quarter of a period is ordinary scheduling noise.
        if late.saturating_mul(4) <= self.timers.heartbeat() {
            // What follows a late input at once is no proof of punctuality.
            if self.now.since(self.late_at) > self.timers.heartbeat() {
                self.late_turns = 0;
            }
            return;
        }
        debug!("late by {} us: peers are forgiven that time", late.as_micros());
        self.counters.late = self.counters.late.saturating_add(1);
        self.late_turns = self.late_turns.saturating_add(1);
        self.promised = Some(self.now);
        self.late_at = self.now;
        self.settled = self.settled.saturating_add(late);
        if self.late_turns > LATE_TURNS_MAX {
            return;
        }
        let timers = self.timers;
        // And the noise on top: whose time was up just then is not accused before what waits is handled.
        let pause = late.saturating_add(Duration::from_micros(timers.heartbeat().as_micros() >> 2));
        for member in self.table.members_mut() {
            // Only whoever was not given up before: the dead do not rise because we slept.
            if member.detector.verdict(self.promised_at, &timers) < Verdict::Failed {
                member.detector.forgive(pause);
            }
        }
    }

    /// Works out the next deadline; every `handle_*` ends with it.
    pub(super) fn promise(&mut self) {
        self.promised_at = self.now;
        if self.phase != Phase::Running {
            self.promised = None;
            return;
        }
        let mut earliest = self.next_election;
        for member in self.table.members() {
            if member.is_probed() {
                earliest = earliest.min(member.next_heartbeat);
            }
            if let Some(deadline) = member.detector.deadline(self.now, &self.timers) {
                earliest = earliest.min(deadline);
            }
        }
        self.promised = Some(earliest.max(self.now));
    }

    fn schedule_heartbeats(&mut self) {
        let (now, timers) = (self.now, self.timers);
        for member in self.table.members_mut() {
            if !member.is_probed() || now < member.next_heartbeat {
                continue;
            }
            member.pending |= if member.epoch == 0 {
                pending::JOIN
            } else {
                pending::HEARTBEAT
            };
            member.next_heartbeat = now.saturating_add(member.heartbeat_interval(now, &timers));
        }
    }

    fn elect(&mut self) {
        if self.now < self.next_election {
            return;
        }
        self.next_election = self.now.saturating_add(self.timers.heartbeat());
        let me = (self.role == Role::Worker && !self.draining).then_some(self.id);
        let (now, timers) = (self.now, self.timers);
        let reports = |slot| self.cache.fresh(slot, now).map(CachedLoad::report);
        let fit = |member: &Member<TAGS>| {
            member.role == Role::Worker
                && member.admission == Admission::Open
                && member.liveness(now, &timers) == Liveness::Alive
        };
        let slots = || {
            self.table
                .members()
                .iter()
                .enumerate()
                .filter(move |(_, member)| fit(member))
        };
        let max_rate = slots()
            .filter_map(|(slot, _)| reports(slot))
            .chain(me.map(|_| &self.load))
            .fold(0, |max, report| max.max(report.rate_milli));
        let weights = HybridWeights::default();
        let others = slots().map(|(slot, member)| Candidate {
            id: member.id,
            score: reports(slot).map_or(SCORE_MAX / 2, |report| weights.score(&report.figures(), max_rate)),
        });
        let own = me.map(|id| Candidate {
            id,
            score: weights.score(&self.load.figures(), max_rate),
        });
        // The claim rides on the next messages; `poll_event` tells of it.
        self.election.evaluate(me, others.chain(own));
    }

    fn forget_the_gone(&mut self) {
        let mut slot = 0;
        while let Some(member) = self.table.get(slot) {
            let gone = match member.liveness(self.now, &self.timers) {
                Liveness::Left | Liveness::Failed => {
                    let since = member.detector.last_heard().unwrap_or(member.since);
                    self.now.since(since) > self.forget
                }
                Liveness::Unheard => self.now.since(member.since) > self.forget,
                Liveness::Alive | Liveness::Suspect => false,
            };
            let in_use = self
                .cache
                .get(slot)
                .is_some_and(|endpoint| endpoint.own_in_flight() > 0);
            if gone && !member.pinned && !in_use {
                self.remove(slot);
            } else {
                slot = slot.saturating_add(1);
            }
        }
    }
}
