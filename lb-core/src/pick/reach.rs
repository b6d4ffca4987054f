//! Among how many servers a picker should choose.

/// Requests that are added to both sides of the share, so that a moment without any says nothing.
const DOUBT: u64 = ONE / 4;
/// Means have 16 fraction bits.
const ONE: u64 = 1 << 16;
/// The mean goes over 2^6 notes once there were so many.
const GAIN: u32 = 6;
/// Notes between two looks at the share.
const PERIOD: u32 = 4;
/// `reach = FEW * sqrt(servers per client)`.
const FEW: u32 = 11;
/// `reach >= COVER * servers per client`.
const COVER: u32 = 6;

/// Finds the reach: how many servers, of its own order of them, a picker chooses among.
///
/// A picker that is one of `C` clients of `N` servers has its share of the requests in flight, `1/C`. The fewer
/// clients share a server, the more each of them knows of it by its own requests; the more servers it chooses
/// among, the likelier an idle one is among them. Simulated (`lb sim stale`), the best compromise is near
///
/// ```text
/// reach = max(11 * sqrt(N / C), 6 * N / C), at least 2 and at most N
/// ```
///
/// where the second term sees to it that every server is within the reach of half a dozen clients. `N / C` is
/// measured: of the servers within reach, our own requests over all that are reported, times the reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Our own requests at the servers within reach, and all requests there.
    own: u64,
    all: u64,
    /// Servers per client, with 12 fraction bits.
    per_client: u32,
    samples: u32,
    /// 0: not found yet.
    reach: u32,
}

impl Reach {
    pub(super) const fn new() -> Self {
        Self {
            own: 0,
            all: 0,
            per_client: u32::MAX,
            samples: 0,
            reach: 0,
        }
    }

    /// Among how many of these to choose.
    #[inline]
    pub(super) fn of(&self, candidates: usize) -> usize {
        match self.reach {
            0 => candidates,
            reach => (reach as usize).min(candidates),
        }
    }

    /// Servers per client, with 12 fraction bits.
    pub(super) const fn per_client(&self) -> u32 {
        self.per_client
    }

    /// Our own requests and all requests at the servers chosen among.
    pub(super) const fn requests(&self) -> (u32, u32) {
        ((self.own >> 16) as u32, (self.all >> 16) as u32)
    }

    /// How many times our own requests the servers within reach have; at least 1.
    pub(super) fn multiple(&self) -> u32 {
        let (own, all) = scaled(self.own.saturating_add(DOUBT), self.all.saturating_add(DOUBT));
        all.checked_div(own).unwrap_or(1).max(1)
    }

    /// What a pick saw: our own and all requests at the servers it chose among, judging by those it looked at.
    #[inline]
    pub(super) fn note(&mut self, own: u32, all: u32, among: usize, candidates: usize) {
        self.samples = self.samples.saturating_add(1);
        let gain = self.samples.ilog2().min(GAIN);
        self.own = mean(self.own, own, gain);
        self.all = mean(self.all, all, gain);
        if self.samples.is_multiple_of(PERIOD) {
            self.decide(among, candidates);
        }
    }

    fn decide(&mut self, among: usize, candidates: usize) {
        let now = self.of(candidates) as u32;
        let (own, all) = scaled(
            self.own.saturating_add(DOUBT),
            self.all.max(self.own).saturating_add(DOUBT),
        );
        let share = own.saturating_mul(1 << 12).checked_div(all).unwrap_or(1 << 12);
        self.per_client = share.saturating_mul(among as u32);
        // 11 * sqrt(x) with x in 4096ths: the root of (121 * x / 16), over 16.
        let root = root((self.per_client >> 4).saturating_mul(FEW.saturating_mul(FEW))) >> 4;
        let cover = self.per_client.saturating_mul(COVER) >> 12;
        let wanted = root.max(cover).clamp(2, (candidates as u32).max(2));
        // A little more or less is not worth a change of places.
        let (more, less) = (now.saturating_mul(5) >> 2, now.saturating_mul(4) / 5);
        if wanted > more || wanted < less || wanted as usize >= candidates {
            self.reach = wanted;
        }
    }
}

fn mean(old: u64, sample: u32, gain: u32) -> u64 {
    let sample = u64::from(sample).saturating_mul(ONE);
    old.saturating_sub(old >> gain).saturating_add(sample >> gain)
}

/// Two numbers in the same proportion, of at most 19 bits.
fn scaled(one: u64, other: u64) -> (u32, u32) {
    let shift = 45_u32.saturating_sub(one.max(other).leading_zeros().min(45));
    (((one >> shift) as u32).max(1), ((other >> shift) as u32).max(1))
}

/// The square root, rounded down, bit by bit.
fn root(value: u32) -> u32 {
    let (mut rest, mut root, mut bit) = (value, 0_u32, 1_u32 << 30);
    while bit > 0 {
        let trial = root.saturating_add(bit);
        root >>= 1;
        if rest >= trial {
            rest = rest.saturating_sub(trial);
            root = root.saturating_add(bit);
        }
        bit >>= 2;
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reach after many picks of a client that has this share of `in_flight` requests a server.
    fn settled(candidates: usize, clients: u32, in_flight: u32) -> usize {
        let mut reach = Reach::new();
        let mut owed = 0;
        for _ in 0..4_000 {
            let within = reach.of(candidates) as u32;
            let all = in_flight * candidates as u32 * 16 / clients;
            // The client has all its requests within its reach.
            owed = owed % 16 + all;
            reach.note(owed / 16, in_flight * within, within as usize, candidates);
        }
        reach.of(candidates)
    }

    #[test]
    fn the_more_clients_the_fewer_servers() {
        assert_eq!(settled(100, 1, 2), 100);
        assert!(
            (50..=70).contains(&settled(100, 10, 2)),
            "{}",
            settled(100, 10, 2)
        );
        assert!(
            (8..=14).contains(&settled(100, 100, 2)),
            "{}",
            settled(100, 100, 2)
        );
        assert!(
            (2..=7).contains(&settled(100, 1_000, 2)),
            "{}",
            settled(100, 1_000, 2)
        );
        assert_eq!(settled(3, 2, 2), 3);
    }

    #[test]
    fn every_server_is_within_the_reach_of_several_clients() {
        for clients in [2, 5, 10, 30, 100] {
            let reach = settled(1_000, clients, 2) as u32;
            assert!(reach * clients >= 4_000 || reach == 1_000, "{clients}: {reach}");
        }
    }

    #[test]
    fn an_idle_client_knows_nothing_and_keeps_all() {
        assert_eq!(settled(100, 1, 0), 100);
    }

    #[test]
    fn roots_are_exact() {
        for value in [0, 1, 2, 3, 4, 15, 16, 99, 1 << 20, u32::MAX] {
            let found = u64::from(root(value));
            assert!(found * found <= u64::from(value) && (found + 1) * (found + 1) > u64::from(value));
        }
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut reach = Reach::new();
        for _ in 0..1_000 {
            reach.note(u32::MAX, u32::MAX, 65_535, 65_535);
            reach.note(0, u32::MAX, 9, 65_535);
            reach.note(u32::MAX, 0, 1, 1);
        }
        assert!(reach.of(7) <= 7 && reach.multiple() >= 1);
    }
}
