//! The failure detector of one peer: a deadline on silence.

use super::timers::Timers;
use crate::time::{Duration, Instant};

/// What silence says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Verdict {
    /// Nothing was ever heard of it.
    Unheard,
    /// Heard within the `stale` time-out.
    Alive,
    /// Silent for longer than `stale`, or its transport broke.
    Suspect,
    /// Silent for longer than `failed`.
    Failed,
}

/// Watches one peer.
///
/// The verdict is a pure function of what was heard and the time, so there is no timer to lose: ask again at
/// [`Detector::deadline`]. When the *observer* slept, that time does not count as silence of the peer
/// ([`Detector::forgive`]; compare the local-pause checks of Cassandra and Orleans).
///
/// ```
/// use lb_core::Instant;
/// use lb_core::health::{Detector, Timers, Verdict};
///
/// let timers = Timers::default();
/// let mut peer = Detector::new();
/// peer.heard(Instant::from_secs(100));
/// assert_eq!(peer.verdict(Instant::from_secs(115), &timers), Verdict::Alive);
/// assert_eq!(peer.deadline(Instant::from_secs(115), &timers), Some(Instant::from_micros(115_000_001)));
/// assert_eq!(peer.verdict(Instant::from_micros(115_000_001), &timers), Verdict::Suspect);
/// assert_eq!(peer.verdict(Instant::from_micros(120_000_001), &timers), Verdict::Failed);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Detector {
    /// Means something unless `Unheard`.
    heard: Instant,
    forgiven: Duration,
    belief: Belief,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Belief {
    #[default]
    Unheard,
    Heard,
    Doubted,
}

/// The first moment past a time-out.
const JUST_PAST: Duration = Duration::from_micros(1);

impl Detector {
    /// A peer of whom nothing was heard.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heard: Instant::ZERO,
            forgiven: Duration::ZERO,
            belief: Belief::Unheard,
        }
    }

    /// Something authentic came from the peer itself: it ends doubt. Time does not go back: an earlier moment
    /// than the last one does not count, and what was forgiven lasts until time has moved past it, so that a
    /// sound never makes a verdict worse.
    pub fn heard(&mut self, now: Instant) {
        let before = self.last_heard();
        let excused = before.map_or(now, |before| before.saturating_add(self.forgiven));
        let latest = before.unwrap_or(now).max(now);
        self.heard = latest;
        self.forgiven = excused.since(latest);
        self.belief = Belief::Heard;
    }

    /// The transport to the peer broke: suspect it at once, until it is heard again.
    pub const fn doubt(&mut self) {
        if let Belief::Heard = self.belief {
            self.belief = Belief::Doubted;
        }
    }

    /// The observer itself slept for `pause`: it does not count as silence of the peer.
    pub const fn forgive(&mut self, pause: Duration) {
        self.forgiven = self.forgiven.saturating_add(pause);
    }

    /// When the peer was last heard.
    #[must_use]
    pub const fn last_heard(&self) -> Option<Instant> {
        match self.belief {
            Belief::Unheard => None,
            Belief::Heard | Belief::Doubted => Some(self.heard),
        }
    }

    /// The time since the peer was last heard, less what was forgiven.
    #[must_use]
    pub fn silence(&self, now: Instant) -> Option<Duration> {
        self.last_heard()
            .map(|heard| now.since(heard).saturating_sub(self.forgiven))
    }

    /// The verdict at this moment.
    #[must_use]
    pub fn verdict(&self, now: Instant, timers: &Timers) -> Verdict {
        match self.silence(now) {
            None => Verdict::Unheard,
            Some(silence) if silence > timers.failed() => Verdict::Failed,
            Some(silence) if self.belief == Belief::Doubted || silence > timers.stale() => Verdict::Suspect,
            Some(_) => Verdict::Alive,
        }
    }

    /// When the verdict will change if nothing is heard; `None` when it will not.
    #[must_use]
    pub fn deadline(&self, now: Instant, timers: &Timers) -> Option<Instant> {
        let from = self
            .last_heard()?
            .saturating_add(self.forgiven)
            .saturating_add(JUST_PAST);
        match self.verdict(now, timers) {
            Verdict::Alive => Some(from.saturating_add(timers.stale())),
            Verdict::Suspect => Some(from.saturating_add(timers.failed())),
            Verdict::Unheard | Verdict::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    #[test]
    fn a_broken_transport_is_suspect_until_heard() {
        let timers = Timers::default();
        let mut peer = Detector::new();
        peer.doubt();
        assert_eq!(peer.verdict(s(1), &timers), Verdict::Unheard);
        peer.heard(s(1));
        peer.doubt();
        assert_eq!(peer.verdict(s(1), &timers), Verdict::Suspect);
        assert_eq!(
            peer.deadline(s(1), &timers),
            Some(Instant::from_micros(21_000_001))
        );
        peer.heard(s(2));
        assert_eq!(peer.verdict(s(2), &timers), Verdict::Alive);
    }

    #[test]
    fn forgiveness_ends_with_a_sound() {
        let timers = Timers::default();
        let mut peer = Detector::new();
        peer.heard(s(0));
        peer.forgive(Duration::from_secs(60));
        assert_eq!(peer.silence(s(70)), Some(Duration::from_secs(10)));
        assert_eq!(peer.verdict(s(75), &timers), Verdict::Alive);
        assert_eq!(peer.verdict(s(81), &timers), Verdict::Failed);
        peer.heard(s(90));
        assert_eq!(peer.verdict(s(106), &timers), Verdict::Suspect);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut peer = Detector::new();
        peer.heard(s(50));
        peer.heard(s(10));
        assert_eq!(peer.last_heard(), Some(s(50)));
    }
}
