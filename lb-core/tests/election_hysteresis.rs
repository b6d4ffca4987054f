//! Who coordinates changes for a reason, and everybody learns of it.

use lb_core::NodeId;
use lb_core::elect::{CONFIRMATIONS, Candidate, Claim, Election, MARGIN_MIN, VACANT_ROUNDS_MAX};
use proptest::prelude::*;

fn candidates(scores: &[u32]) -> impl Iterator<Item = Candidate> + '_ {
    (1..).zip(scores).map(|(n, &score)| Candidate {
        id: NodeId::new(n),
        score,
    })
}

fn claim() -> impl Strategy<Value = Claim> {
    (0..6_u32, 0..5_u32).prop_map(|(term, holder)| Claim {
        term,
        holder: NodeId::new(holder),
    })
}

/// All the nodes look once; what one claims all others hear.
fn round(elections: &mut [Election], scores: &[u32]) {
    for index in 0..elections.len() {
        let me = NodeId::new(index as u32 + 1);
        if let Some(claim) = elections[index].evaluate(Some(me), candidates(scores)) {
            elections.iter_mut().for_each(|election| {
                election.heard(claim);
            });
        }
    }
}

proptest! {
    #[test]
    fn nothing_changes_while_scores_stay_within_20_percent(
        low in 0..800_u32, rounds in prop::collection::vec(prop::collection::vec(0..=100_u32, 4), 1..60)
    ) {
        let mut elections = vec![Election::new(); 4];
        let high = (low * 100 / 80).max(low + MARGIN_MIN - 1);
        let mut first = None;
        for shares in rounds {
            let scores: Vec<u32> = shares.iter().map(|share| low + (high - low) * share / 100).collect();
            round(&mut elections, &scores);
            let claim = elections[0].claim();
            prop_assert!(claim.is_some(), "the best one claims at once");
            prop_assert_eq!(claim, *first.get_or_insert(claim));
        }
    }

    #[test]
    fn a_clearly_better_one_takes_over_in_time_and_not_before(incumbent in 63..=1_000_u32, better in 0..1_000_u32) {
        let challenger = better % incumbent;
        let enough = challenger * 100 < incumbent * 80 && incumbent - challenger >= MARGIN_MIN;
        let mut elections = vec![Election::new(); 2];
        round(&mut elections, &[1_000, 0]);
        let first = Claim { term: 1, holder: NodeId::new(2) };
        prop_assert_eq!(elections[0].claim(), Some(first));
        for looks in 1..=CONFIRMATIONS + 1 {
            round(&mut elections, &[challenger, incumbent]);
            let expected = if enough && looks >= CONFIRMATIONS {
                Claim { term: 2, holder: NodeId::new(1) }
            } else {
                first
            };
            prop_assert_eq!(elections[0].claim(), Some(expected));
            prop_assert_eq!(elections[1].claim(), Some(expected));
        }
    }

    #[test]
    fn terms_only_rise(inputs in prop::collection::vec((any::<bool>(), claim(), prop::collection::vec(0..=1_000_u32, 0..4)), 0..80)) {
        let mut election = Election::new();
        for (hears, claim, scores) in inputs {
            let before = election.claim();
            if hears {
                let higher = election.heard(claim);
                prop_assert_eq!(higher, before.is_none_or(|known| claim > known));
                prop_assert_eq!(election.claim(), before.max(Some(claim)));
            } else if let Some(made) = election.evaluate(Some(NodeId::new(1)), candidates(&scores)) {
                prop_assert_eq!(made.holder, NodeId::new(1), "only for itself");
                prop_assert_eq!(made.term, before.map_or(0, |known| known.term) + 1);
                prop_assert_eq!(election.claim(), Some(made));
            } else {
                prop_assert_eq!(election.claim(), before);
            }
        }
    }

    #[test]
    fn all_agree_whatever_the_order(
        orders in prop::collection::vec(claim(), 1..10).prop_flat_map(|claims| {
            let twice = [claims.clone(), claims].concat();
            prop::collection::vec(Just(twice).prop_shuffle(), 3)
        })
    ) {
        let found: Vec<Option<Claim>> = orders.iter().map(|order| {
            let mut election = Election::new();
            order.iter().for_each(|&claim| { election.heard(claim); });
            election.claim()
        }).collect();
        // The highest term; of its holders the lowest id.
        let term = orders[0].iter().map(|claim| claim.term).max().unwrap();
        let holder = orders[0].iter().filter(|claim| claim.term == term).map(|claim| claim.holder).min().unwrap();
        let expected = Some(Claim { term, holder });
        prop_assert_eq!(found, vec![expected; 3]);
    }

    #[test]
    fn a_vacancy_is_filled_whatever_each_one_sees(views in prop::collection::vec(prop::collection::vec(0..=1_000_u32, 3), 3)) {
        let mut elections = vec![Election::new(); 3];
        for election in &mut elections {
            election.heard(Claim { term: 9, holder: NodeId::new(7) });
        }
        for _ in 0..VACANT_ROUNDS_MAX {
            for index in 0..3 {
                let me = NodeId::new(index as u32 + 1);
                if let Some(claim) = elections[index].evaluate(Some(me), candidates(&views[index])) {
                    elections.iter_mut().for_each(|election| { election.heard(claim); });
                }
            }
        }
        let claim = elections[0].claim().unwrap();
        prop_assert!(claim.term > 9 && claim.holder != NodeId::new(7));
        prop_assert!(elections.iter().all(|election| election.claim() == Some(claim)));
    }
}
