//! The coordinator: lowest hybrid score, 20 % hysteresis, a term that only rises.
//!
//! Every node scores the workers it knows. A node claims the role *for itself* only, with a term above any
//! it has seen; claims ride on every message and the highest one wins everywhere, so all nodes that can talk
//! agree after one exchange. The term is a fencing token: what a coordinator orders carries it.
//!
//! This is advisory, not mutual exclusion: two sides of a partition can each have a coordinator (of
//! different terms) until it heals.

use crate::id::NodeId;

/// A challenger must score below this share of the incumbent's score, in percent: 20 % hysteresis.
pub const HYSTERESIS_PERCENT: u32 = 80;
/// And be better by at least this much (thousandths), so that noise near an idle cluster's zero changes
/// nothing.
pub const MARGIN_MIN: u32 = 50;
/// In this many evaluations in a row.
pub const CONFIRMATIONS: u8 = 2;
/// After this many evaluations without a coordinator the lowest id claims, whatever the scores: views of the
/// load differ, and each node may think another one better.
pub const VACANT_ROUNDS_MAX: u8 = 3;

/// Who coordinates, since which term. Ordered by term; within a term the lower id wins.
///
/// Merging by maximum is idempotent, commutative and associative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Claim {
    /// Rises with every change of coordinator; the fencing token.
    pub term: u32,
    /// The coordinator.
    pub holder: NodeId,
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.term.cmp(&other.term).then(other.holder.cmp(&self.holder))
    }
}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A worker that may coordinate, with its hybrid score (0..=1000, lower is better).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Candidate {
    /// Which worker.
    pub id: NodeId,
    /// Its score.
    pub score: u32,
}

/// The election as one node sees it.
///
/// ```
/// use lb_core::NodeId;
/// use lb_core::elect::{Candidate, Election};
///
/// let me = NodeId::new(1);
/// let mut election = Election::new();
/// let scores = [Candidate { id: me, score: 100 }, Candidate { id: NodeId::new(2), score: 300 }];
/// let claim = election.evaluate(Some(me), scores.iter().copied()).expect("nobody held it");
/// assert_eq!((claim.term, claim.holder), (1, me));
/// ```
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Election {
    claim: Option<Claim>,
    better: u8,
    vacant: u8,
}

impl Election {
    /// No coordinator is known.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            claim: None,
            better: 0,
            vacant: 0,
        }
    }

    /// The highest claim known.
    #[must_use]
    pub const fn claim(&self) -> Option<Claim> {
        self.claim
    }

    /// A claim was heard. Whether it is now the highest.
    pub fn heard(&mut self, claim: Claim) -> bool {
        let higher = self.claim.is_none_or(|known| claim > known);
        if higher {
            self.claim = Some(claim);
            self.better = 0;
            self.vacant = 0;
        }
        higher
    }

    /// Looks at the healthy workers once per period and claims for `me` when `me` should coordinate; returns
    /// the new claim. `me` is `None` for a node that may not coordinate (an observer, or one that drains).
    /// `candidates` must include `me`. O(candidates).
    pub fn evaluate(
        &mut self,
        me: Option<NodeId>,
        candidates: impl Iterator<Item = Candidate>,
    ) -> Option<Claim> {
        let holder = self.claim.map(|claim| claim.holder);
        let (mut best, mut incumbent, mut lowest): (Option<Candidate>, _, Option<NodeId>) =
            (None, None, None);
        for candidate in candidates {
            if best.is_none_or(|best| (candidate.score, candidate.id) < (best.score, best.id)) {
                best = Some(candidate);
            }
            if Some(candidate.id) == holder {
                incumbent = Some(candidate);
            }
            lowest = Some(lowest.map_or(candidate.id, |lowest| lowest.min(candidate.id)));
        }
        let should_claim = match incumbent {
            Some(incumbent) => {
                self.vacant = 0;
                let better = me.is_some()
                    && best.is_some_and(|best| Some(best.id) == me && beats(best.score, incumbent.score));
                self.better = if better { self.better.saturating_add(1) } else { 0 };
                self.better >= CONFIRMATIONS
            }
            None => {
                self.better = 0;
                self.vacant = self.vacant.saturating_add(1);
                let by_score = best.is_some_and(|best| Some(best.id) == me);
                me.is_some() && (by_score || (self.vacant >= VACANT_ROUNDS_MAX && lowest == me))
            }
        };
        let me = me.filter(|_| should_claim)?;
        let term = self.claim.map_or(0, |claim| claim.term).checked_add(1)?;
        let claim = Claim { term, holder: me };
        self.heard(claim).then_some(claim)
    }
}

/// Whether a challenger's score is enough better than the incumbent's.
fn beats(challenger: u32, incumbent: u32) -> bool {
    challenger.saturating_mul(100) < incumbent.saturating_mul(HYSTERESIS_PERCENT)
        && incumbent.saturating_sub(challenger) >= MARGIN_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> NodeId {
        NodeId::new(n)
    }

    fn view(scores: &[(u32, u32)]) -> impl Iterator<Item = Candidate> {
        scores.iter().map(|&(n, score)| Candidate { id: id(n), score })
    }

    #[test]
    fn the_lowest_score_claims_and_only_for_itself() {
        let mut election = Election::new();
        assert_eq!(election.evaluate(Some(id(1)), view(&[(1, 200), (2, 100)])), None);
        let claim = election
            .evaluate(Some(id(2)), view(&[(1, 200), (2, 100)]))
            .unwrap();
        assert_eq!(
            claim,
            Claim {
                term: 1,
                holder: id(2)
            }
        );
    }

    #[test]
    fn twenty_percent_twice_in_a_row_deposes() {
        let mut election = Election::new();
        election.heard(Claim {
            term: 7,
            holder: id(2),
        });
        let me = Some(id(1));
        assert_eq!(
            election.evaluate(me, view(&[(1, 400), (2, 500)])),
            None,
            "exactly 20 %"
        );
        assert_eq!(election.evaluate(me, view(&[(1, 399), (2, 500)])), None, "once");
        assert_eq!(
            election.evaluate(me, view(&[(1, 450), (2, 500)])),
            None,
            "interrupted"
        );
        assert_eq!(
            election.evaluate(me, view(&[(1, 399), (2, 500)])),
            None,
            "once again"
        );
        let claim = election.evaluate(me, view(&[(1, 399), (2, 500)])).unwrap();
        assert_eq!(
            claim,
            Claim {
                term: 8,
                holder: id(1)
            }
        );
    }

    #[test]
    fn noise_near_zero_deposes_nobody() {
        let mut election = Election::new();
        election.heard(Claim {
            term: 1,
            holder: id(2),
        });
        for _ in 0..10 {
            assert_eq!(election.evaluate(Some(id(1)), view(&[(1, 0), (2, 49)])), None);
        }
    }

    #[test]
    fn a_vacancy_is_filled_even_when_views_differ() {
        let mut election = Election::new();
        election.heard(Claim {
            term: 4,
            holder: id(9),
        });
        // Node 1 thinks node 2 better; node 2 (not shown) thinks the opposite. 9 is gone.
        let scores = [(1, 200), (2, 100)];
        assert_eq!(election.evaluate(Some(id(1)), view(&scores)), None);
        assert_eq!(election.evaluate(Some(id(1)), view(&scores)), None);
        let claim = election.evaluate(Some(id(1)), view(&scores)).unwrap();
        assert_eq!(
            claim,
            Claim {
                term: 5,
                holder: id(1)
            }
        );
    }

    #[test]
    fn observers_never_claim_and_terms_do_not_wrap() {
        let mut election = Election::new();
        assert_eq!(election.evaluate(None, view(&[(1, 0)])), None);
        election.heard(Claim {
            term: u32::MAX,
            holder: id(9),
        });
        assert_eq!(election.evaluate(Some(id(1)), view(&[(1, 0)])), None);
    }

    #[test]
    fn higher_term_wins_then_lower_id() {
        let claim = |term, n| Claim { term, holder: id(n) };
        assert!(claim(2, 9) > claim(1, 1));
        assert!(claim(2, 1) > claim(2, 9));
        let mut election = Election::new();
        assert!(election.heard(claim(2, 9)));
        assert!(!election.heard(claim(2, 9)));
        assert!(election.heard(claim(2, 1)));
        assert!(!election.heard(claim(1, 1)));
    }
}
