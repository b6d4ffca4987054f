//! A closer look at one server, span by span.

/// Whom to look at more closely, and when: equal spans of time one after the other. Requests that warm the world up
/// count as well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watch {
    /// The server.
    pub server: usize,
    /// When the first span begins.
    pub from: f64,
    /// How long each is.
    pub span: f64,
    /// How many there are.
    pub spans: usize,
}

/// What was seen in one span.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Requests that were sent to any server.
    pub all: u64,
    /// Of those, to the watched one.
    pub sent: u64,
    /// Of those, answered, no matter when.
    pub answered: u64,
    /// How long those took, together.
    pub latency: f64,
}

impl Seen {
    /// Adds what was seen in another run.
    pub fn merge(&mut self, other: &Self) {
        self.all += other.all;
        self.sent += other.sent;
        self.answered += other.answered;
        self.latency += other.latency;
    }

    /// How long the watched server took on average; not a number if it answered nothing.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.latency / self.answered as f64
    }
}

impl Watch {
    /// The span of a moment.
    fn place<'a>(&self, at: f64, seen: &'a mut [Seen]) -> Option<&'a mut Seen> {
        let span = (at - self.from) / self.span;
        if span < 0.0 {
            return None;
        }
        seen.get_mut(span as usize)
    }

    /// A request was sent.
    pub(crate) fn sent(&self, now: f64, server: usize, seen: &mut [Seen]) {
        if let Some(seen) = self.place(now, seen) {
            seen.all += 1;
            seen.sent += u64::from(server == self.server);
        }
    }

    /// A request that was sent then was answered so long after. It counts where it was sent: what is answered
    /// late says how it is to be sent there now.
    pub(crate) fn answered(&self, sent: f64, latency: f64, server: usize, seen: &mut [Seen]) {
        if server == self.server
            && let Some(seen) = self.place(sent, seen)
        {
            seen.answered += 1;
            seen.latency += latency;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_count_in_the_span_in_which_they_were_sent() {
        let watch = Watch {
            server: 1,
            from: 10.0,
            span: 2.0,
            spans: 2,
        };
        let mut seen = [Seen::default(); 2];
        for (at, server) in [(9.9, 1), (10.0, 1), (11.9, 0), (12.0, 1), (13.0, 1), (14.0, 1)] {
            watch.sent(at, server, &mut seen);
            watch.answered(at, 3.0, server, &mut seen);
        }
        assert_eq!(
            seen.map(|seen| (seen.all, seen.sent, seen.answered)),
            [(2, 1, 1), (2, 2, 2)]
        );
        let [first, mut second] = seen;
        second.merge(&first);
        assert_eq!((second.all, second.mean()), (4, 3.0));
    }
}
