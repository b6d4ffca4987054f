//! The three axes of a peer's state, and the one word operators read.

use core::fmt;

use crate::load::Freshness;

/// Whether a node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// Serves requests, may coordinate, is heartbeated.
    Worker,
    /// Only picks.
    Observer,
}

/// Is it there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Liveness {
    /// Known from configuration or hearsay; nothing was ever heard from it.
    Unheard,
    /// Heard lately.
    Alive,
    /// Silent for too long, or its transport broke; not picked.
    Suspect,
    /// Silent past the failure time-out; not picked.
    Failed,
    /// Said goodbye. Final for this epoch.
    Left,
}

/// May it get requests?
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Admission {
    /// Yes.
    Open,
    /// It asked for no new ones; it is still a member.
    Draining,
}

/// The three axes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Axes {
    /// Is it there?
    pub liveness: Liveness,
    /// How old is its load?
    pub freshness: Freshness,
    /// May it get requests?
    pub admission: Admission,
}

/// The operator's one word: a projection of the axes and the coordinator's role.
///
/// ```
/// use lb_core::load::Freshness;
/// use lb_core::member::{Admission, Axes, Liveness, Role, Status};
/// let axes = Axes {
///     liveness: Liveness::Alive,
///     freshness: Freshness::Fresh,
///     admission: Admission::Open,
/// };
/// assert_eq!(Status::of(&axes, Role::Worker, true).to_string(), "COORDINATOR");
/// assert_eq!(Status::of(&axes, Role::Worker, false).to_string(), "Worker");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Status {
    /// `COORDINATOR`: a healthy worker that holds the current term.
    Coordinator,
    /// `Worker`: alive, with load that is not stale.
    Worker,
    /// `Observer`: alive, does not serve.
    Observer,
    /// `STALE`: silent or without news of its load for longer than the stale time-out, not yet failed.
    Stale,
    /// `NO_HEARTBEAT`: never heard of.
    NoHeartbeat,
    /// `FAILED`: silent past the failure time-out.
    Failed,
    /// `DRAINING`: alive, takes no new requests.
    Draining,
    /// `LEFT`: said goodbye.
    Left,
}

impl Status {
    /// The projection. Liveness outranks admission, admission outranks freshness and role.
    #[must_use]
    pub const fn of(axes: &Axes, role: Role, coordinator: bool) -> Self {
        match (axes.liveness, axes.admission, axes.freshness, role) {
            (Liveness::Unheard, ..) => Self::NoHeartbeat,
            (Liveness::Left, ..) => Self::Left,
            (Liveness::Failed, ..) => Self::Failed,
            (Liveness::Suspect, ..) => Self::Stale,
            (Liveness::Alive, Admission::Draining, ..) => Self::Draining,
            (Liveness::Alive, _, _, Role::Observer) => Self::Observer,
            (Liveness::Alive, _, Freshness::Stale, _) => Self::Stale,
            (Liveness::Alive, ..) if coordinator => Self::Coordinator,
            (Liveness::Alive, ..) => Self::Worker,
        }
    }

    /// The word.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Coordinator => "COORDINATOR",
            Self::Worker => "Worker",
            Self::Observer => "Observer",
            Self::Stale => "STALE",
            Self::NoHeartbeat => "NO_HEARTBEAT",
            Self::Failed => "FAILED",
            Self::Draining => "DRAINING",
            Self::Left => "LEFT",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projection_row_by_row() {
        use Freshness::{Aging, Fresh, Stale};
        use Liveness::{Alive, Failed, Left, Suspect, Unheard};
        let word = |liveness, freshness, admission, role, coordinator| {
            Status::of(
                &Axes {
                    liveness,
                    freshness,
                    admission,
                },
                role,
                coordinator,
            )
            .as_str()
        };
        let (open, draining) = (Admission::Open, Admission::Draining);
        assert_eq!(word(Unheard, Stale, open, Role::Worker, false), "NO_HEARTBEAT");
        assert_eq!(word(Alive, Fresh, open, Role::Worker, false), "Worker");
        assert_eq!(word(Alive, Aging, open, Role::Worker, false), "Worker");
        assert_eq!(word(Alive, Fresh, open, Role::Worker, true), "COORDINATOR");
        assert_eq!(word(Alive, Stale, open, Role::Worker, true), "STALE");
        assert_eq!(word(Alive, Stale, open, Role::Observer, false), "Observer");
        assert_eq!(word(Suspect, Fresh, draining, Role::Worker, false), "STALE");
        assert_eq!(word(Failed, Stale, draining, Role::Worker, true), "FAILED");
        assert_eq!(word(Alive, Fresh, draining, Role::Worker, true), "DRAINING");
        assert_eq!(word(Left, Fresh, draining, Role::Worker, false), "LEFT");
    }
}
