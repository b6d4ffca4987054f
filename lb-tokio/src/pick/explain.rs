//! Why a picker picks as it does.

use lb_core::NodeId;
use lb_core::pick::{Considered, Explanation, Reason, Rung, StrategyKind};

use super::view::View;

/// What a picker would do for a request now, and why: see [`Picker::explain`](super::Picker::explain).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explained {
    /// Who would be picked; nobody if nobody has a place.
    pub picked: Option<NodeId>,
    /// The strategy.
    pub strategy: StrategyKind,
    /// How it chose, if it knows several ways.
    pub rung: Option<Rung>,
    /// Why so.
    pub reason: Option<Reason>,
    /// How many endpoints match the filter and are open.
    pub candidates: u16,
    /// Among how many of them it chose.
    pub reach: u16,
    /// Who was looked at, and what was known of them.
    pub considered: Vec<(NodeId, Considered)>,
}

impl Explained {
    pub(super) fn new(view: &View, strategy: StrategyKind, explanation: &Explanation) -> Self {
        let id = |slot: u16| view.endpoint(slot.into()).map(|endpoint| endpoint.id());
        let considered = explanation.considered.iter();
        Self {
            picked: explanation.picked.and_then(id),
            strategy,
            rung: explanation.rung,
            reason: explanation.reason,
            candidates: explanation.candidates,
            reach: explanation.reach,
            considered: considered.filter_map(|it| Some((id(it.slot)?, *it))).collect(),
        }
    }
}
