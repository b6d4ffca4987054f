//! How much work datagrams that prove nothing yet may cause.
//!
//! A `HELLO` costs an HMAC or two, and some more when its MAC is right; a datagram of a session that comes from
//! another address than the device's costs an AEAD. Established sessions at their known address never come here,
//! so no flood can take their share.
//!
//! One bucket bounds the work of all strangers together. Who is turned away when it runs low depends on the
//! source: those that exceed their own bucket first, then those never heard of, last those where a device was
//! heard lately. So a flood from one source (or in one's name) costs that source's devices nothing as long as the
//! machine keeps up, and no stranger anything at all; a flood from invented sources leaves devices that come
//! back from where they were what they need. Nothing is remembered of a refused datagram, so the next attempt of
//! an honest device, half a second later, is as good as the first.
//!
//! Sources are IPv4 addresses and IPv6 networks of 64 bits, hashed with a secret into a table of fixed size. Two
//! that collide share a bucket.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use lb_core::{Duration, Instant};

/// Sources told apart; 16 bytes each.
const SLOTS: usize = 1 << 15;

/// What a source may do without being behind others: so many attempts at once, and one in each period.
const SOURCE_BURST: u64 = 64;
const SOURCE_PERIOD: Duration = Duration::from_millis(125);

/// What all strangers together may do: 50 000 a second, some 5 to 10 % of a core, and half a second's worth at once.
const TOTAL_PERIOD: Duration = Duration::from_micros(20);
const TOTAL_BURST: u64 = 25_000;

/// How long a source is known for a device that was heard there.
const PROVEN: Duration = Duration::from_secs(3_600);

/// A token bucket kept as the moment at which it will be full again (the generic cell rate algorithm).
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// How many periods of debt there are.
    fn debt(self, now: Instant, period: Duration) -> u64 {
        self.full_at.since(now).as_micros() / period.as_micros().max(1)
    }

    fn take(&mut self, now: Instant, period: Duration) {
        self.full_at = self.full_at.max(now).saturating_add(period);
    }

    fn give_back(&mut self, tokens: u32, period: Duration) {
        let micros = period.as_micros().saturating_mul(tokens.into());
        self.full_at = Instant::from_micros(self.full_at.as_micros().saturating_sub(micros));
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    bucket: Bucket,
    /// Which of the sources of this slot is known for a device, and until when, in seconds.
    proven: u32,
    proven_until: u32,
}

/// See the [module](self).
pub(super) struct Limiter {
    slots: Box<[Slot]>,
    total: Bucket,
    hasher: RandomState,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self {
            slots: vec![Slot::default(); SLOTS].into_boxed_slice(),
            total: Bucket::default(),
            hasher: RandomState::new(),
        }
    }

    /// Whether there is a token for a datagram from here that proves nothing yet; takes it.
    pub(super) fn admit(&mut self, now: Instant, source: IpAddr) -> bool {
        let debt = self.total.debt(now, TOTAL_PERIOD);
        let Some((slot, mark)) = self.slot(source) else {
            return false;
        };
        let share = if slot.bucket.debt(now, SOURCE_PERIOD) >= SOURCE_BURST {
            TOTAL_BURST / 2
        } else if slot.proven == mark && seconds(now) < slot.proven_until {
            TOTAL_BURST
        } else {
            TOTAL_BURST * 3 / 4
        };
        if debt >= share {
            return false;
        }
        // A source in debt does not get deeper into it: it must not stay behind for long after a flood.
        if slot.bucket.debt(now, SOURCE_PERIOD) < SOURCE_BURST {
            slot.bucket.take(now, SOURCE_PERIOD);
        }
        self.total.take(now, TOTAL_PERIOD);
        true
    }

    /// A device was heard here: the tokens it took are given back, and the source is known.
    pub(super) fn proven(&mut self, now: Instant, source: IpAddr, tokens: u32) {
        let Some((slot, mark)) = self.slot(source) else {
            return;
        };
        slot.bucket.give_back(tokens, SOURCE_PERIOD);
        slot.proven = mark;
        slot.proven_until = seconds(now.saturating_add(PROVEN));
    }

    fn slot(&mut self, source: IpAddr) -> Option<(&mut Slot, u32)> {
        let network = match source.to_canonical() {
            IpAddr::V4(v4) => (4_u8, u64::from(u32::from(v4))),
            // The other half is the host's to choose.
            IpAddr::V6(v6) => (6_u8, (u128::from(v6) >> 64) as u64),
        };
        let hash = self.hasher.hash_one(network);
        let at = usize::try_from(hash & (SLOTS as u64 - 1)).ok()?;
        let mark = (hash >> 32) as u32;
        self.slots.get_mut(at).map(|slot| (slot, mark))
    }
}

fn seconds(at: Instant) -> u32 {
    u32::try_from(at.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter")
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(n))
    }

    fn flood(limiter: &mut Limiter, now: Instant, sources: impl Iterator<Item = u32>) -> u64 {
        sources.map(|n| u64::from(limiter.admit(now, v4(n)))).sum()
    }

    const NOW: Instant = Instant::from_secs(1_000);

    #[test]
    fn one_source_cannot_take_the_share_of_others() {
        let mut limiter = Limiter::new();
        let taken = flood(&mut limiter, NOW, (0..1_000_000).map(|_| 1));
        assert_eq!(taken, TOTAL_BURST / 2);
        assert!(limiter.admit(NOW, v4(2)), "a stranger elsewhere");
        assert!(!limiter.admit(NOW, v4(1)));
        let soon = NOW.saturating_add(Duration::from_millis(500));
        assert!(
            limiter.admit(soon, v4(1)),
            "half a second later it has another attempt"
        );
    }

    #[test]
    fn invented_sources_leave_the_known_ones_their_share() {
        let mut limiter = Limiter::new();
        let home = v4(u32::MAX);
        limiter.proven(NOW, home, 0);
        let taken = flood(&mut limiter, NOW, 0..1_000_000);
        assert!(
            (TOTAL_BURST / 2..=TOTAL_BURST * 3 / 4).contains(&taken),
            "{taken}"
        );
        assert!(limiter.admit(NOW, home));
        let later = NOW.saturating_add(PROVEN).saturating_add(Duration::from_secs(1));
        flood(&mut limiter, later, 0..1_000_000);
        assert!(!limiter.admit(later, home), "known for a time only");
    }

    #[test]
    fn a_flood_is_bounded_in_the_long_run() {
        let mut limiter = Limiter::new();
        let mut taken = 0;
        for tick in 0..1_000 {
            let now = NOW.saturating_add(Duration::from_millis(tick * 10));
            taken += flood(&mut limiter, now, (0..1_000).map(|n| n * 7919));
        }
        let most = TOTAL_BURST + 10_000_000 / TOTAL_PERIOD.as_micros();
        assert!(taken <= most, "{taken} of {most}");
        assert!(taken > most / 2, "and is not turned away wholesale: {taken}");
    }

    #[test]
    fn many_devices_behind_one_address_all_get_in() {
        let mut limiter = Limiter::new();
        for n in 0..10_000 {
            assert!(limiter.admit(NOW, v4(9)), "{n}");
            limiter.proven(NOW, v4(9), 1);
        }
        let (slot, _) = limiter.slot(v4(9)).unwrap();
        assert_eq!(slot.bucket.debt(NOW, SOURCE_PERIOD), 0);
    }

    #[test]
    fn an_ipv6_network_is_one_source() {
        let mut limiter = Limiter::new();
        let host = |net: u16, host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host));
        let (one, mark) = limiter
            .slot(host(1, 1))
            .map(|(slot, mark)| (std::ptr::from_mut(slot), mark))
            .unwrap();
        assert_eq!(
            limiter
                .slot(host(1, 2))
                .map(|(slot, mark)| (std::ptr::from_mut(slot), mark)),
            Some((one, mark))
        );
        assert_ne!(limiter.slot(host(2, 1)).map(|(_, mark)| mark), Some(mark));
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let (_, mapped) = limiter.slot(mapped).unwrap();
        assert_eq!(
            limiter
                .slot(IpAddr::V4(Ipv4Addr::LOCALHOST))
                .map(|(_, mark)| mark),
            Some(mapped)
        );
    }
}
