//! How busy a server is, as its machine would say.

/// Over how long the share is averaged, in service times: about a second, as `LoadMeter` does.
const WINDOW: f64 = 100.0;

/// The share of time in which a server had something to do, averaged.
///
/// Not what `LoadMeter` finds by itself: that is how many places are in use, and a simulated server states more of
/// those than it serves requests at once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Busy {
    /// Whether it has something to do, and since when that is not counted.
    now: bool,
    at: f64,
    /// Busy time since the last look, and when that was.
    time: f64,
    looked: f64,
    share: f64,
}

impl Busy {
    /// From now on it has something to do, or nothing.
    pub(crate) fn turn(&mut self, now: f64, busy: bool) {
        if self.now {
            self.time += now - self.at;
        }
        (self.now, self.at) = (busy, now);
    }

    /// The share, from 0 to 1. What came since the last look counts the more the longer that is ago; additions alone
    /// until then, as there are many requests for a look.
    pub(crate) fn look(&mut self, now: f64) -> f64 {
        self.turn(now, self.now);
        let passed = now - self.looked;
        if passed > 0.0 {
            let share = self.time / passed;
            self.share += (share - self.share) * passed / (passed + WINDOW);
            (self.time, self.looked) = (0.0, now);
        }
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_the_share_of_time() {
        let mut busy = Busy::default();
        let mut share = 0.0;
        for i in 0..1_000 {
            let from = f64::from(i) * 10.0;
            busy.turn(from, true);
            busy.turn(from + 3.0, false);
            share = busy.look(from + 10.0);
        }
        assert!((share - 0.3).abs() < 1e-6, "{share}");
        assert_eq!(busy.look(10_000.0), share, "no time has passed");
    }
}
