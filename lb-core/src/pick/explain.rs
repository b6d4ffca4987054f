//! Why a pick was made.

use heapless::Vec;

use super::estimate::corrected;
use super::{Load, Pool};

/// Most candidates that an [`Explanation`] lists.
pub const CONSIDERED_MAX: usize = 16;

/// How [`super::Adaptive`] picks, by what is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Rung {
    /// The lowest corrected estimate, among all candidates.
    Whole,
    /// The lowest corrected estimate, among those within reach.
    Part,
    /// The fewest own requests.
    OwnRequests,
    /// In turn, by weight.
    Rotation,
}

impl Rung {
    /// Every rung.
    pub const ALL: [Self; 4] = [Self::Whole, Self::Part, Self::OwnRequests, Self::Rotation];

    /// Its name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Part => "part",
            Self::OwnRequests => "own-requests",
            Self::Rotation => "rotation",
        }
    }
}

/// Why [`super::Adaptive`] is on its rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Reason {
    /// Our own share of the requests tells the load of all.
    FewClients,
    /// Our share is too small to know all servers by.
    ManyClients,
    /// Nobody reports; there are only our own requests to go by.
    NoReports,
    /// Nobody reports, and we have next to nothing in flight.
    NothingKnown,
    /// Clients outnumber servers many times, and reports are old.
    OldReports,
}

/// A candidate as a pick saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Considered {
    /// Where it is.
    pub slot: u16,
    /// Its weight.
    pub weight: u16,
    /// Our own requests there.
    pub own_in_flight: u32,
    /// What it reported to have in flight, and how old that is in milliseconds.
    pub reported: Option<(u16, u32)>,
    /// The corrected estimate of what it has in flight now.
    pub estimate: i32,
    /// Share of our own recent requests there that failed, in 255ths.
    pub failing: u8,
}

impl Considered {
    pub(super) fn new(slot: usize, load: &Load, estimate: i32, weight: u16) -> Self {
        Self {
            slot: u16::try_from(slot).unwrap_or(u16::MAX),
            weight,
            own_in_flight: load.own_in_flight,
            reported: load.report.map(|report| (report.in_flight, load.age_ms)),
            estimate,
            failing: load.failing,
        }
    }
}

/// Why a pick was made: a record of fixed size.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Explanation {
    /// Who was picked.
    pub picked: Option<u16>,
    /// How many candidates there were.
    pub candidates: u16,
    /// Among how many of them the strategy chose.
    pub reach: u16,
    /// How the pick was made; none for a strategy that has one way only.
    pub rung: Option<Rung>,
    /// Why so.
    pub reason: Option<Reason>,
    /// Who was looked at, up to [`CONSIDERED_MAX`].
    pub considered: Vec<Considered, CONSIDERED_MAX>,
}

/// Sees what a pick looks at.
pub(super) trait Witness {
    /// Whether it does.
    const WATCHES: bool;

    fn saw(&mut self, candidate: impl FnOnce() -> Considered);
}

/// Nobody wants to know.
pub(super) struct Nobody;

impl Witness for Nobody {
    const WATCHES: bool = false;

    #[inline]
    fn saw(&mut self, _: impl FnOnce() -> Considered) {}
}

impl Witness for Explanation {
    const WATCHES: bool = true;

    fn saw(&mut self, candidate: impl FnOnce() -> Considered) {
        let _ = self.considered.push(candidate());
    }
}

impl Explanation {
    pub(super) fn new<P: Pool + ?Sized>(pool: &P) -> Self {
        Self {
            picked: None,
            candidates: clamp(pool.len()),
            reach: 0,
            rung: None,
            reason: None,
            considered: Vec::new(),
        }
    }

    /// What a strategy that tells nothing had to choose from: its pick first, then the others in order.
    pub(super) fn of<P: Pool + ?Sized>(pool: &P, picked: Option<usize>) -> Self {
        let mut explanation = Self::new(pool);
        explanation.picked = picked.map(clamp);
        explanation.reach = explanation.candidates;
        let others = pool.slots().filter(|&slot| Some(slot) != picked);
        for slot in picked.into_iter().chain(others).take(CONSIDERED_MAX) {
            let load = pool.load(slot);
            let (in_flight, clients) = load.report.map_or((0, 1), |report| {
                (report.in_flight.into(), report.clients.max(1).into())
            });
            let estimate = corrected(in_flight, clients, load.own_in_flight, load.own_at_report);
            explanation.saw(|| Considered::new(slot, &load, estimate, pool.weight(slot)));
        }
        explanation
    }

    pub(super) fn close(&mut self, picked: Option<usize>, rung: Rung, reason: Reason, reach: usize) {
        self.picked = picked.map(clamp);
        (self.rung, self.reason, self.reach) = (Some(rung), Some(reason), clamp(reach));
    }
}

fn clamp(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}
