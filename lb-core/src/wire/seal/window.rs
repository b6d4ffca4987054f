//! The replay window: which counters were already seen.

/// Counters remembered behind the highest one. Reordering further back than this is refused.
pub const WINDOW: u64 = u64::BITS as u64;

/// Why a counter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Replayed,
    TooOld,
}

/// A sliding window of 64 counters (RFC 4303, 3.4.3; RFC 6479 gives the reasons).
///
/// Bit `i` of `seen` stands for the counter `next - 1 - i`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    /// One past the highest counter seen.
    next: u64,
    seen: u64,
}

impl Window {
    /// Whether the counter may be taken. Asks only: what is not yet authentic must leave no trace.
    pub(super) const fn check(&self, counter: u64) -> Result<(), Refused> {
        if counter >= self.next {
            return Ok(());
        }
        let back = self.next.saturating_sub(counter).saturating_sub(1);
        if back >= WINDOW {
            Err(Refused::TooOld)
        } else if self.seen & (1_u64 << back) != 0 {
            Err(Refused::Replayed)
        } else {
            Ok(())
        }
    }

    /// Takes a counter that [`Window::check`] allowed and whose datagram is authentic.
    pub(super) fn take(&mut self, counter: u64) {
        if counter >= self.next {
            let ahead = counter.saturating_sub(self.next).saturating_add(1);
            self.seen = u32::try_from(ahead)
                .ok()
                .and_then(|ahead| self.seen.checked_shl(ahead))
                .unwrap_or(0)
                | 1;
            self.next = counter.saturating_add(1);
        } else {
            let back = self.next.saturating_sub(counter).saturating_sub(1);
            self.seen |= u32::try_from(back)
                .ok()
                .and_then(|back| 1_u64.checked_shl(back))
                .unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Rng, Sfc32};

    #[test]
    fn agrees_with_a_set() {
        for seed in 0..200 {
            let mut rng = Sfc32::new(seed);
            let mut window = Window::default();
            let mut seen = std::collections::BTreeSet::new();
            let mut top = 0_u64;
            for _ in 0..400 {
                let reach = [4, 64, 70, 200][rng.below(4) as usize];
                let counter = (top + u64::from(rng.below(reach))).saturating_sub(u64::from(rng.below(reach)));
                let expected = if seen.contains(&counter) && counter + WINDOW > top {
                    Err(Refused::Replayed)
                } else if !seen.is_empty() && counter + WINDOW <= top {
                    Err(Refused::TooOld)
                } else {
                    Ok(())
                };
                assert_eq!(window.check(counter), expected, "{counter} with {top} on top");
                if expected.is_ok() {
                    window.take(counter);
                    seen.insert(counter);
                    top = top.max(counter);
                }
            }
        }
    }

    #[test]
    fn jumps_of_any_length_clear_it() {
        for jump in [63, 64, 65, 1 << 31, 1 << 32, (1 << 32) + 1, u64::MAX - 2] {
            let mut window = Window::default();
            window.take(0);
            window.take(jump);
            assert_eq!(window.check(jump), Err(Refused::Replayed));
            let expected = if jump < WINDOW {
                Refused::Replayed
            } else {
                Refused::TooOld
            };
            assert_eq!(window.check(0), Err(expected), "{jump}");
            assert_eq!(window.check(jump - 1), Ok(()));
        }
    }
}
