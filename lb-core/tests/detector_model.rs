//! The detector against a list of what happened.

use lb_core::health::{Detector, Timers, TimersError, Verdict};
use lb_core::{Duration, Instant};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Happened {
    Heard(u64),
    Doubted,
    Forgiven(u64),
}

/// What the documentation says, from the whole history: time does not go back, a sound ends doubt, and what
/// was forgiven lasts until time has moved past it.
fn verdict(history: &[Happened], now: u64, timers: &Timers) -> Verdict {
    let (mut heard, mut excused, mut doubted) = (None, 0_u64, false);
    for event in history {
        match *event {
            Happened::Heard(at) => {
                let latest = heard.map_or(at, |before: u64| before.max(at));
                // Nobody is silent for longer because it was heard.
                excused = heard.map_or(0, |before| (before + excused).saturating_sub(latest));
                (heard, doubted) = (Some(latest), false);
            }
            Happened::Doubted => doubted = true,
            Happened::Forgiven(pause) => excused += pause,
        }
    }
    let Some(heard) = heard else {
        return Verdict::Unheard;
    };
    let silence = now.saturating_sub(heard + excused);
    if silence > timers.failed().as_micros() {
        Verdict::Failed
    } else if doubted || silence > timers.stale().as_micros() {
        Verdict::Suspect
    } else {
        Verdict::Alive
    }
}

fn happened() -> impl Strategy<Value = Happened> {
    prop_oneof![
        3 => (0..100_000_000_u64).prop_map(Happened::Heard),
        1 => Just(Happened::Doubted),
        1 => (0..40_000_000_u64).prop_map(Happened::Forgiven),
    ]
}

proptest! {
    #[test]
    fn verdicts_and_deadlines_follow_the_history(
        history in prop::collection::vec(happened(), 0..20),
        times in prop::collection::vec(0..200_000_000_u64, 1..8),
        scale in 1..6_000_u64,
    ) {
        let timers = Timers::scaled(Duration::from_millis(scale)).unwrap();
        let mut detector = Detector::new();
        for (index, event) in history.iter().enumerate() {
            match *event {
                Happened::Heard(at) => detector.heard(Instant::from_micros(at)),
                Happened::Doubted => detector.doubt(),
                Happened::Forgiven(pause) => detector.forgive(Duration::from_micros(pause)),
            }
            for &now in &times {
                let at = Instant::from_micros(now);
                let expected = verdict(&history[..=index], now, &timers);
                prop_assert_eq!(detector.verdict(at, &timers), expected);
                match detector.deadline(at, &timers) {
                    Some(deadline) => {
                        let first = deadline.as_micros();
                        prop_assert!(first > now);
                        prop_assert_eq!(detector.verdict(Instant::from_micros(first - 1), &timers), expected);
                        prop_assert_ne!(detector.verdict(deadline, &timers), expected);
                    }
                    None => prop_assert!(matches!(expected, Verdict::Unheard | Verdict::Failed)),
                }
            }
        }
    }

    #[test]
    fn a_sound_never_makes_it_worse(history in prop::collection::vec(happened(), 0..20), at in 0..100_000_000_u64, now in 0..200_000_000_u64) {
        let timers = Timers::default();
        let mut detector = Detector::new();
        for event in &history {
            match *event {
                Happened::Heard(at) => detector.heard(Instant::from_micros(at)),
                Happened::Doubted => detector.doubt(),
                Happened::Forgiven(pause) => detector.forgive(Duration::from_micros(pause)),
            }
        }
        let now = Instant::from_micros(now);
        let before = detector.verdict(now, &timers);
        detector.heard(Instant::from_micros(at));
        prop_assert!(before == Verdict::Unheard || detector.verdict(now, &timers) <= before);
    }

    #[test]
    fn timers_accept_exactly_what_makes_sense(times in prop::array::uniform4(prop_oneof![
        0..5_u64, 995..1_005_u64, 0..100_000_u64, 86_399_999_998..86_400_000_003_u64,
    ])) {
        let [heartbeat, ttl, stale, failed] = times;
        let result = Timers::new(
            Duration::from_micros(heartbeat), Duration::from_micros(ttl),
            Duration::from_micros(stale), Duration::from_micros(failed),
        );
        let sensible = heartbeat >= 1_000 && heartbeat <= ttl && ttl <= stale && stale < failed
            && failed <= 86_400_000_000;
        prop_assert_eq!(result.is_ok(), sensible);
        if let Err(error) = result {
            let wrong = match error {
                TimersError::HeartbeatTooShort => heartbeat < 1_000,
                TimersError::TtlBelowHeartbeat => ttl < heartbeat,
                TimersError::StaleBelowTtl => stale < ttl,
                TimersError::FailedNotAboveStale => failed <= stale,
                TimersError::FailedTooLong => failed > 86_400_000_000,
                _ => false,
            };
            prop_assert!(wrong, "{}", error);
        }
    }
}
