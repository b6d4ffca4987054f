//! Who matches a filter, frozen: what picks read instead of the table of endpoints.

use std::sync::Arc;

use lb_core::NodeId;
use lb_core::member::Filter;

use super::endpoint::{Endpoint, Standing};

/// All endpoints by slot, as they were described at some moment.
#[derive(Default)]
pub(super) struct Roster {
    pub(super) version: u64,
    pub(super) endpoints: Vec<Option<Arc<Endpoint>>>,
    /// By id.
    pub(super) by_id: Vec<(NodeId, usize)>,
}

impl Roster {
    pub(super) fn get(&self, slot: usize) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(slot)?.as_ref()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Arc<Endpoint>)> {
        let with_slots = self.endpoints.iter().enumerate();
        with_slots.filter_map(|(slot, endpoint)| Some((slot, endpoint.as_ref()?)))
    }

    pub(super) fn slot_of(&self, id: NodeId) -> Option<usize> {
        let index = self.by_id.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        self.by_id.get(index).map(|&(_, slot)| slot)
    }

    /// Whether anybody can be picked at all.
    pub(super) fn has_open(&self) -> bool {
        self.iter()
            .any(|(_, endpoint)| endpoint.get_standing() != Standing::Closed)
    }
}

/// Slots, ascending, and the same as bits.
#[derive(Default, PartialEq)]
pub(super) struct Set {
    slots: Box<[u16]>,
    bits: Box<[u64]>,
}

impl Set {
    fn new(slots: Vec<u16>) -> Self {
        let words = slots.last().map_or(0, |&last| usize::from(last) / 64 + 1);
        let mut bits = vec![0; words].into_boxed_slice();
        for &slot in &slots {
            if let Some(word) = bits.get_mut(usize::from(slot) / 64) {
                *word |= 1 << (slot % 64);
            }
        }
        Self {
            slots: slots.into(),
            bits,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    #[inline]
    pub(super) fn slots(&self) -> &[u16] {
        &self.slots
    }

    #[inline]
    pub(super) fn contains(&self, slot: usize) -> bool {
        let word = self.bits.get(slot / 64);
        word.is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }
}

/// What a compiled filter makes of a roster. Load never changes it.
pub(super) struct View {
    pub(super) roster: Arc<Roster>,
    /// The candidates: the open ones that match, or the suspected ones when there is no open one.
    pub(super) candidates: Set,
    /// Suspected ones beside open candidates, for when none of those can be picked.
    pub(super) spare: Set,
    /// By slot.
    pub(super) weights: Box<[u16]>,
    /// [`lb_core::pick::Pool::version`]: another one when the candidates are others, or have other names or
    /// weights.
    pub(super) version: u32,
}

impl View {
    /// Takes as long as matching the filter against every endpoint.
    pub(super) fn new(roster: Arc<Roster>, filter: &Filter, former: Option<&Self>) -> Self {
        let matching = |standing| {
            let matching = roster.iter().filter(|(_, endpoint)| {
                endpoint.get_standing() == standing && filter.matches(endpoint.get_tags())
            });
            // A board has no more slots than 65 535.
            Set::new(matching.map(|(slot, _)| slot as u16).collect())
        };
        let (open, suspect) = (matching(Standing::Open), matching(Standing::Suspect));
        let (candidates, spare) = if open.is_empty() {
            (suspect, Set::default())
        } else {
            (open, suspect)
        };
        let weight = |endpoint: &Option<Arc<Endpoint>>| endpoint.as_ref().map_or(1, |it| it.get_weight());
        let mut view = Self {
            weights: roster.endpoints.iter().map(weight).collect(),
            roster,
            candidates,
            spare,
            version: 0,
        };
        if let Some(former) = former {
            view.version = former.version.wrapping_add(u32::from(!view.is_alike(former)));
        }
        view
    }

    /// Whether a table of the other's candidates is one of this one's.
    fn is_alike(&self, other: &Self) -> bool {
        let what = |view: &Self, slot: u16| {
            let endpoint = view.roster.get(usize::from(slot)).cloned();
            endpoint.map(|endpoint| (endpoint.get_name().to_vec(), endpoint.get_weight()))
        };
        let mut slots = self.candidates.slots.iter();
        self.candidates == other.candidates && slots.all(|&slot| what(self, slot) == what(other, slot))
    }

    pub(super) fn endpoint(&self, slot: usize) -> Option<&Arc<Endpoint>> {
        self.roster.get(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_core::member::Tags;

    fn roster(endpoints: &[(u32, &str, Standing)]) -> Arc<Roster> {
        let endpoints = endpoints.iter().map(|&(id, tags, standing)| {
            let endpoint = Endpoint::new(NodeId::new(id)).tags(Tags::parse(tags).unwrap());
            (id > 0).then(|| Arc::new(endpoint.standing(standing)))
        });
        Arc::new(Roster {
            version: 1,
            endpoints: endpoints.collect(),
            by_id: Vec::new(),
        })
    }

    #[test]
    fn open_ones_come_first_and_suspected_ones_are_better_than_none() {
        use Standing::{Closed, Open, Suspect};
        let mut endpoints = vec![(0, "", Open); 70];
        endpoints[1] = (1, "a=", Open);
        endpoints[3] = (2, "b=", Open);
        endpoints[64] = (3, "a=", Suspect);
        endpoints[65] = (4, "a=", Closed);
        endpoints[69] = (5, "a=", Open);
        let filter = Filter::parse("a").unwrap();
        let view = View::new(roster(&endpoints), &filter, None);
        assert_eq!(
            (view.candidates.slots(), view.spare.slots()),
            (&[1, 69][..], &[64][..])
        );
        assert!(view.candidates.contains(69) && !view.candidates.contains(3));
        assert!(!view.candidates.contains(70) && !view.candidates.contains(9_999));
        endpoints[1].2 = Closed;
        endpoints[69].2 = Suspect;
        let view = View::new(roster(&endpoints), &filter, None);
        assert_eq!(view.candidates.slots(), [64, 69]);
        assert!(view.spare.slots().is_empty());
        let nothing = View::new(roster(&[]), &filter, None);
        assert!(nothing.candidates.slots().is_empty() && !nothing.candidates.contains(0));
    }

    #[test]
    fn the_version_is_that_of_the_candidates_alone() {
        let filter = Filter::parse("a").unwrap();
        let endpoints = [(1, "a=", Standing::Open), (2, "b=", Standing::Open)];
        let first = View::new(roster(&endpoints), &filter, None);
        let mut other = endpoints;
        other[1] = (3, "b=,c=", Standing::Closed);
        other[0].1 = "a=,x=";
        let second = View::new(roster(&other), &filter, Some(&first));
        assert_eq!(second.version, first.version, "nothing that a table is made of");
        other[0].0 = 9;
        let third = View::new(roster(&other), &filter, Some(&second));
        assert_ne!(third.version, second.version, "another name");
    }
}
