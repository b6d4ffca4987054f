//! Tells the balancer what the core knows of its peers, and the core what the balancer counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lb_core::NodeId;
use lb_core::member::{Admission, Liveness, Role, Status, TAG_BYTES_MAX, Tags};
use lb_core::node::PeerView;

use super::CoreNode;
use crate::pick::{Balancer, Edit, Endpoint, Standing};

/// The tag that says how much a worker gets compared with the others.
pub(crate) const WEIGHT_TAG: &str = "weight";

/// The peers as the balancer knows them, in the order of the core's table.
#[derive(Default)]
pub(super) struct Feed {
    told: Vec<Told>,
    /// The weight of workers that state none: the mean of the others.
    neutral: u16,
}

struct Told {
    id: NodeId,
    /// Workers have one.
    slot: Option<usize>,
    epoch: u32,
    standing: Standing,
    addr: Option<SocketAddr>,
    status: Status,
    tags: Tags<TAG_BYTES_MAX>,
    /// By its tag.
    tagged: Option<u16>,
    /// By its tag or its capacity.
    stated: Option<u16>,
    weight: u16,
}

impl Feed {
    /// Before the core decides whom it may forget.
    pub(super) fn count(&self, node: &mut CoreNode, balancer: &Balancer) {
        let mut told = self.told.iter();
        node.set_own_in_flight(|id| {
            // The core's table has not changed since it was told of.
            let slot = told
                .next()
                .filter(|told| told.id == id)
                .and_then(|told| told.slot);
            slot.map_or(0, |slot| balancer.own_in_flight(slot))
        });
    }

    /// After any input; whether picks have to look anew.
    pub(super) fn tell(&mut self, node: &CoreNode, balancer: &Balancer) -> bool {
        balancer.edit(|edit| {
            self.align(node, edit);
            for (told, peer) in self.told.iter_mut().zip(node.peers()) {
                told.update(&peer, self.neutral, edit);
            }
            let neutral = self.mean();
            if neutral != self.neutral {
                self.neutral = neutral;
                for (told, peer) in self.told.iter_mut().zip(node.peers()) {
                    told.update(&peer, neutral, edit);
                }
            }
            edit.changed()
        })
    }

    /// After an input that concerns one peer alone.
    pub(super) fn tell_of(&mut self, id: NodeId, node: &CoreNode, balancer: &Balancer) -> bool {
        let Some(index) = self.told.iter().position(|told| told.id == id) else {
            return false;
        };
        let Some(peer) = node.peer(id) else { return false };
        balancer.edit(|edit| {
            if let Some(told) = self.told.get_mut(index) {
                told.update(&peer, self.neutral, edit);
            }
            edit.changed()
        })
    }

    /// Whether it is a worker that is not quite there, so that a sign of life matters.
    pub(super) fn doubts(&self, id: NodeId) -> bool {
        let told = self.told.iter().find(|told| told.id == id);
        told.is_some_and(|told| told.slot.is_some() && told.standing != Standing::Open)
    }

    /// One entry for each peer, in the same order.
    fn align(&mut self, node: &CoreNode, edit: &mut Edit<'_>) {
        let same = node.peers().map(|peer| peer.member.id());
        if self.told.iter().map(|told| told.id).eq(same) {
            return;
        }
        let told = std::mem::take(&mut self.told).into_iter();
        let mut known: BTreeMap<NodeId, Told> = told.map(|told| (told.id, told)).collect();
        let entry = |peer: PeerView<'_, TAG_BYTES_MAX>| {
            let id = peer.member.id();
            known.remove(&id).unwrap_or_else(|| Told::new(id))
        };
        self.told = node.peers().map(entry).collect();
        for id in known.into_keys() {
            edit.remove(id);
        }
    }

    fn mean(&self) -> u16 {
        let stated = self.told.iter().filter(|told| told.slot.is_some());
        let (sum, count) = stated
            .filter_map(|told| told.stated)
            .fold((0_u32, 0_u32), |(sum, count), weight| {
                (sum + u32::from(weight), count + 1)
            });
        let mean = sum.checked_div(count).unwrap_or(1).max(1);
        u16::try_from(mean).unwrap_or(u16::MAX)
    }
}

impl Told {
    fn new(id: NodeId) -> Self {
        Self {
            id,
            slot: None,
            epoch: 0,
            standing: Standing::Closed,
            addr: None,
            status: Status::NoHeartbeat,
            tags: Tags::new(),
            tagged: None,
            stated: None,
            weight: 0,
        }
    }

    fn update(&mut self, view: &PeerView<'_, TAG_BYTES_MAX>, neutral: u16, edit: &mut Edit<'_>) {
        let member = view.member;
        if member.role() != Role::Worker {
            if self.slot.take().is_some() {
                edit.remove(self.id);
            }
            return;
        }
        let retagged = self.tags != *member.tags();
        if retagged {
            self.tags = member.tags().clone();
            self.tagged = self.tags.get(WEIGHT_TAG).and_then(|text| text.parse().ok());
        }
        let capacity = view.load.map_or(0, |cached| cached.report().capacity);
        self.stated = self.tagged.or((capacity > 0).then_some(capacity));
        let weight = self.stated.unwrap_or(neutral);
        let now = (standing(view), member.addr().socket(), view.status, weight);
        let told = (self.standing, self.addr, self.status, self.weight);
        if retagged || self.slot.is_none() || told != now {
            (self.standing, self.addr, self.status, self.weight) = now;
            let endpoint = Endpoint::new(self.id)
                .tags(self.tags.clone())
                .weight(weight)
                .standing(self.standing)
                .addr(self.addr)
                .data(self.status);
            self.slot = edit.put(endpoint).ok();
            if self.slot.is_none() {
                tracing::warn!(peer = %self.id, "no room to count its requests: it is not picked");
            }
        }
        let Some(slot) = self.slot else { return };
        if self.epoch != member.epoch() {
            self.epoch = member.epoch();
            edit.renew(slot);
        }
        edit.observe(slot, view.load);
        edit.set_full_until(slot, view.full_until);
    }
}

/// Until a worker's tags are known it matches nothing, not even "everything".
fn standing<const TAGS: usize>(view: &PeerView<'_, TAGS>) -> Standing {
    let open = view.member.is_known() && view.axes.admission == Admission::Open;
    match view.axes.liveness {
        Liveness::Alive if open => Standing::Open,
        Liveness::Suspect if open => Standing::Suspect,
        _ => Standing::Closed,
    }
}
