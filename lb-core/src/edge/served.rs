//! What a server remembers of a device's calls, so that none is executed twice.

use heapless::Vec;

/// How many calls back from the highest one a server can tell whether it saw a call. As many as the replay window
/// of a session, so that no datagram the network held back is older.
pub const CALLS_REMEMBERED: u32 = 64;

/// The calls of one device: which were seen, and the responses of the last ones.
///
/// A caller that misses its response sends the same call again. It is then answered from here: a call is executed at
/// most once, as long as this memory lives. It outlives sessions, so it belongs to the device, not to a session.
///
/// At most `N` calls are remembered with their state; when a new one comes, the oldest answered one goes. Of
/// [`CALLS_REMEMBERED`] it is known that they were seen. Every operation is O(N).
///
/// ```
/// use lb_core::edge::{Admit, Served};
/// let mut served: Served<&str, 4> = Served::new();
/// assert_eq!(served.request(7, 1), Admit::New); // execute it
/// assert_eq!(served.request(7, 1), Admit::Running); // it came again: "working"
/// served.answer(7, 1, "done");
/// assert_eq!(served.request(7, 1), Admit::Replay(&"done")); // the response was lost
/// ```
#[derive(Clone, Debug)]
pub struct Served<R, const N: usize> {
    life: u32,
    highest: u32,
    /// Bit `i`: call `highest - i` was seen.
    seen: u64,
    /// The oldest first.
    calls: Vec<Call<R>, N>,
}

#[derive(Clone, Debug)]
struct Call<R> {
    call: u32,
    state: State<R>,
}

#[derive(Clone, Debug)]
enum State<R> {
    Running,
    Done(R),
    /// It ended without a response worth keeping.
    Over,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Admit<'a, R> {
    /// Execute it; it counts as running until [`Served::answer`] or [`Served::abandon`].
    New,
    /// It is being executed: say that it is worked on.
    Running,
    /// It was executed: send this again.
    Replay(&'a R),
    /// It was executed or is too old to tell, and there is no response any more: say so.
    Forgotten,
    /// As many as can be remembered are running: say that there is no place. It was not executed.
    Busy,
}

impl<R, const N: usize> Default for Served<R, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R, const N: usize> Served<R, N> {
    /// Nothing was seen.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N > 0, "a call must be remembered while it runs") };
        Self {
            life: 0,
            highest: 0,
            seen: 0,
            calls: Vec::new(),
        }
    }

    /// A request came. One of another life than the last one ends all calls of that.
    pub fn request(&mut self, life: u32, call: u32) -> Admit<'_, R> {
        if life != self.life {
            *self = Self { life, ..Self::new() };
        }
        if let Some(at) = self.calls.iter().position(|known| known.call == call) {
            return match self.calls.get(at).map(|known| &known.state) {
                Some(State::Running) => Admit::Running,
                Some(State::Done(response)) => Admit::Replay(response),
                Some(State::Over) | None => Admit::Forgotten,
            };
        }
        let behind = self.highest.saturating_sub(call);
        let bit = 1_u64.checked_shl(behind).unwrap_or(0);
        if bit == 0 || (call <= self.highest && self.seen & bit != 0) {
            return Admit::Forgotten;
        }
        if self.calls.is_full() {
            let answered = |known: &Call<R>| !matches!(known.state, State::Running);
            let Some(oldest) = self.calls.iter().position(answered) else {
                return Admit::Busy;
            };
            self.calls.remove(oldest);
        }
        let ahead = call.saturating_sub(self.highest);
        self.seen = self.seen.checked_shl(ahead).unwrap_or(0) | bit;
        self.highest = self.highest.max(call);
        let state = State::Running;
        let _ = self.calls.push(Call { call, state });
        Admit::New
    }

    /// A running call was answered: keeps the response for when it is asked for again. `false` when the call is not
    /// running any more, because the device began another life or gave it up; the response is of no use then.
    pub fn answer(&mut self, life: u32, call: u32, response: R) -> bool {
        self.end(life, call, State::Done(response))
    }

    /// A running call ended without a response: it was given up. It is not executed again either.
    pub fn abandon(&mut self, life: u32, call: u32) -> bool {
        self.end(life, call, State::Over)
    }

    /// A running call was not executed after all, because there was no place for it: it is as if it had never come,
    /// and may come again. `false` when it is not running.
    pub fn refuse(&mut self, life: u32, call: u32) -> bool {
        let refused = |known: &Call<R>| known.call == call && matches!(known.state, State::Running);
        let Some(at) = self.calls.iter().position(refused).filter(|_| life == self.life) else {
            return false;
        };
        self.calls.remove(at);
        let bit = 1_u64.checked_shl(self.highest.saturating_sub(call)).unwrap_or(0);
        self.seen &= !bit;
        true
    }

    /// Drops the responses that are kept, so that an idle device holds no memory of its calls but that they were.
    pub fn drop_responses(&mut self) {
        for known in &mut self.calls {
            if matches!(known.state, State::Done(_)) {
                known.state = State::Over;
            }
        }
    }

    fn end(&mut self, life: u32, call: u32, state: State<R>) -> bool {
        let mut calls = self.calls.iter_mut();
        let running = calls.find(|known| known.call == call && matches!(known.state, State::Running));
        match running {
            Some(known) if life == self.life => {
                known.state = state;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Memory = Served<u32, 4>;

    #[test]
    fn a_call_is_new_once() {
        let mut served = Memory::new();
        assert_eq!(served.request(1, 5), Admit::New);
        assert_eq!(served.request(1, 5), Admit::Running);
        assert!(served.answer(1, 5, 50));
        assert!(!served.answer(1, 5, 51), "answered once");
        assert_eq!(served.request(1, 5), Admit::Replay(&50));
        served.drop_responses();
        assert_eq!(served.request(1, 5), Admit::Forgotten);
    }

    #[test]
    fn a_given_up_call_is_not_executed_again() {
        let mut served = Memory::new();
        assert_eq!(served.request(1, 1), Admit::New);
        assert!(served.abandon(1, 1));
        assert_eq!(served.request(1, 1), Admit::Forgotten);
        assert!(!served.answer(1, 1, 10));
    }

    #[test]
    fn a_refused_call_may_come_again() {
        let mut served = Memory::new();
        assert_eq!(served.request(1, 1), Admit::New);
        assert_eq!(served.request(1, 2), Admit::New);
        assert!(served.refuse(1, 1) && served.refuse(1, 2));
        assert!(!served.refuse(1, 1) && !served.refuse(2, 2));
        assert_eq!(served.request(1, 1), Admit::New);
        assert_eq!(served.request(1, 2), Admit::New);
        assert_eq!(served.request(1, 2), Admit::Running);
        assert!(served.answer(1, 2, 20));
        assert!(!served.refuse(1, 2), "it was executed");
    }

    #[test]
    fn another_life_begins_anew_and_ends_what_ran() {
        let mut served = Memory::new();
        assert_eq!(served.request(1, 1), Admit::New);
        assert_eq!(served.request(2, 1), Admit::New);
        assert!(!served.answer(1, 1, 10), "that life is over");
        assert!(served.answer(2, 1, 20));
    }

    #[test]
    fn running_calls_are_never_forgotten_for_room() {
        let mut served = Memory::new();
        for call in 1..=4 {
            assert_eq!(served.request(1, call), Admit::New);
        }
        assert_eq!(served.request(1, 5), Admit::Busy);
        assert!(served.answer(1, 3, 30));
        assert_eq!(served.request(1, 5), Admit::New);
        assert_eq!(served.request(1, 3), Admit::Forgotten, "it made room");
        assert_eq!(served.request(1, 1), Admit::Running);
    }

    #[test]
    fn the_memory_reaches_back_so_far_and_no_further() {
        let mut served = Memory::new();
        assert_eq!(served.request(1, 100), Admit::New);
        assert_eq!(served.request(1, 100 - CALLS_REMEMBERED + 1), Admit::New);
        assert_eq!(served.request(1, 100 - CALLS_REMEMBERED), Admit::Forgotten);
        assert!(served.answer(1, 100, 0));
        assert_eq!(
            served.request(1, u32::MAX),
            Admit::New,
            "a leap forgets all before"
        );
        assert_eq!(served.request(1, 99), Admit::Forgotten);
    }

    proptest! {
        /// Whatever is lost, repeated and reordered, each call of a life is executed at most once.
        #[test]
        fn at_most_once(requests in prop::collection::vec((1_u32..200, any::<bool>()), 0..400)) {
            let mut served = Memory::new();
            let mut executed = std::collections::BTreeSet::new();
            for (call, answer) in requests {
                match served.request(9, call) {
                    Admit::New => prop_assert!(executed.insert(call)),
                    Admit::Replay(response) => prop_assert_eq!(*response, call),
                    Admit::Running | Admit::Forgotten | Admit::Busy => {}
                }
                if answer {
                    served.answer(9, call, call);
                }
            }
        }
    }
}
