//! Zones: near by as long as that is no worse.

use super::Shares;
use super::shares::{SHARES_WHOLE, spread};
use crate::time::Duration;

/// Who is in one zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ZoneCounts {
    /// Healthy clients: those that make the same choice as we do.
    pub clients: u32,
    /// Healthy candidates.
    pub endpoints: u32,
}

/// When to prefer the own zone. The defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ZoneRules {
    /// With fewer candidates than this in all zones, zones are ignored.
    pub endpoints_min: u32,
    /// With fewer than this in the own zone, likewise.
    pub local_min: u32,
    /// Everything stays in the own zone whatever the others do, if it has `local_min`.
    pub force_local: bool,
}

impl Default for ZoneRules {
    /// 6, 1, `false`.
    fn default() -> Self {
        Self {
            endpoints_min: 6,
            local_min: 1,
            force_local: false,
        }
    }
}

/// How a client in zone `local` shares its requests among zones, so that each candidate anywhere gets as much and as
/// little as possible crosses zones. Made when the membership changes, in O(zones).
///
/// ```text
/// share(local) = min(1, endpoints% of local / clients% of local)
/// the rest     in proportion to max(0, endpoints% - clients%) of the others
/// ```
///
/// Assumes that every client sends as much; where that does not hold, use [`load_aware`].
///
/// *Source*: Envoy's zone aware routing; the minimum of a zone and forcing are its issues 38561 and 38758.
///
/// ```
/// use lb_core::pick::{Shares, ZoneCounts, ZoneRules, zone_aware};
///
/// // Clients in two of three zones: a third of their requests goes where there are none.
/// let zones = [(3, 2), (3, 2), (0, 2)].map(|(clients, endpoints)| ZoneCounts { clients, endpoints });
/// let shares: Shares<3> = zone_aware(0, &zones, ZoneRules::default());
/// assert_eq!(shares.iter().collect::<Vec<_>>(), [6_666, 0, 3_334]);
/// ```
#[must_use]
pub fn zone_aware<const N: usize>(local: usize, zones: &[ZoneCounts], rules: ZoneRules) -> Shares<N> {
    let zones = zones.get(..N).unwrap_or(zones);
    let sum = |of: fn(&ZoneCounts) -> u32| {
        let counts = zones.iter().map(|zone| u64::from(of(zone)));
        counts.fold(0, u64::saturating_add)
    };
    let (clients, endpoints) = (sum(|zone| zone.clients), sum(|zone| zone.endpoints));
    let own = zones.get(local).copied().unwrap_or_default();
    let ignored = endpoints < u64::from(rules.endpoints_min) && !rules.force_local;
    if ignored || own.endpoints < rules.local_min {
        return Shares::spread(zones.iter().map(|zone| zone.endpoints.into()));
    }
    // Percentages with one denominator: what a zone can take and what its clients send.
    let taken = |zone: &ZoneCounts| u64::from(zone.endpoints).saturating_mul(clients);
    let sent = |zone: &ZoneCounts| u64::from(zone.clients).saturating_mul(endpoints);
    let mut shares = [0; N];
    let kept = if rules.force_local || taken(&own) >= sent(&own) {
        SHARES_WHOLE
    } else {
        // Of what it sends, what it can take stays.
        let parts = [taken(&own), sent(&own).saturating_sub(taken(&own))];
        let mut split = [0; 2];
        spread(SHARES_WHOLE, parts.into_iter(), &mut split);
        let [kept, _] = split;
        let room = zones.iter().enumerate().map(|(index, zone)| {
            if index == local {
                0
            } else {
                taken(zone).saturating_sub(sent(zone))
            }
        });
        spread(SHARES_WHOLE.saturating_sub(kept), room, &mut shares);
        kept
    };
    if let Some(share) = shares.get_mut(local) {
        *share = if own.endpoints > 0 { kept } else { 0 };
    }
    Shares::of(&shares, zones.len())
}

/// What is known of the load of one zone: the smoothed mean utilization of those of its candidates that reported lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ZoneLoad {
    endpoints: u32,
    /// In 16ths of thousandths.
    utilization: u32,
    /// There was a sample.
    known: bool,
    /// There was none at the last update.
    stale: bool,
}

/// Fraction bits of the smoothed utilization.
const SMOOTHED: u32 = 4;

impl ZoneLoad {
    /// How many candidates there are, and what they reported: the utilization in thousandths and its age. To be called once
    /// a second or so: each sample moves the mean by 3/16, a time constant of 5 s; the first counts whole. Reports older
    /// than `expiry` do not count; without any, the mean is kept, but its zone is judged by its size. O(reports).
    pub fn update(
        &mut self,
        endpoints: u32,
        reports: impl Iterator<Item = (u16, Duration)>,
        expiry: Duration,
    ) {
        let (mut sum, mut count) = (0_u32, 0_u32);
        for (utilization, _) in reports.filter(|&(_, age)| age <= expiry) {
            sum = sum.saturating_add(utilization.into());
            count = count.saturating_add(1);
        }
        self.endpoints = endpoints;
        self.stale = count == 0;
        let Some(mean) = sum.checked_div(count) else {
            return;
        };
        let sample = mean << SMOOTHED;
        let step = (self.utilization.abs_diff(sample).saturating_mul(3)).saturating_add(15) >> 4;
        self.utilization = if !self.known {
            sample
        } else if sample > self.utilization {
            self.utilization.saturating_add(step)
        } else {
            self.utilization.saturating_sub(step)
        };
        self.known = true;
    }

    /// The smoothed utilization in thousandths; 0 as long as nobody reported.
    #[must_use]
    pub const fn utilization(&self) -> u32 {
        self.utilization >> SMOOTHED
    }

    /// Candidates times what they have left, in thousandths.
    fn headroom(&self) -> u64 {
        let left = if self.stale {
            1_000
        } else {
            1_000_u32.saturating_sub(self.utilization())
        };
        u64::from(self.endpoints).saturating_mul(left.into())
    }
}

/// When to leave the own zone. The defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SpillRules {
    /// Everything stays while the own zone's utilization is at most so much above the mean of the others, in thousandths.
    pub margin: u16,
    /// So much leaves in any case, in thousandths, so that the others' reports stay fresh. 0 where reports come by
    /// themselves, as they do on heartbeats.
    pub probe: u16,
}

impl Default for SpillRules {
    /// 0.1 and 3 %.
    fn default() -> Self {
        Self {
            margin: 100,
            probe: 30,
        }
    }
}

/// How a client in zone `local` shares its requests among zones by their load: all stay while the own zone is about as
/// busy as the others, else each zone gets in proportion to candidates times what they have left. `local` may be no
/// zone of these. Made after each [`ZoneLoad::update`], in O(zones).
///
/// *Source*: Envoy's `load_aware_locality`.
#[must_use]
pub fn load_aware<const N: usize>(local: usize, zones: &[ZoneLoad], rules: SpillRules) -> Shares<N> {
    let zones = zones.get(..N).unwrap_or(zones);
    let sizes = zones.iter().map(|zone| u64::from(zone.endpoints));
    if zones.iter().all(|zone| zone.headroom() == 0) {
        return Shares::spread(sizes);
    }
    let mut shares = [0; N];
    spread(SHARES_WHOLE, zones.iter().map(ZoneLoad::headroom), &mut shares);
    let remote = |index: usize, size: u64| if index == local { 0 } else { size };
    let sizes = sizes.enumerate().map(|(index, size)| remote(index, size));
    let others = sizes.clone().fold(0, u64::saturating_add);
    let own = zones.get(local).filter(|zone| zone.endpoints > 0 && others > 0);
    if let Some(own) = own {
        // The mean of the others plus the margin, times their number, against the own times it.
        let busy = zones.iter().zip(sizes.clone());
        let busy = busy.map(|(zone, size)| size.saturating_mul(zone.utilization().into()));
        let allowed = others.saturating_mul(rules.margin.into());
        let allowed = busy.fold(allowed, u64::saturating_add);
        if others.saturating_mul(own.utilization().into()) <= allowed {
            shares = [0; N];
            if let Some(share) = shares.get_mut(local) {
                *share = SHARES_WHOLE;
            }
        }
        probe(local, sizes, rules.probe, &mut shares);
    }
    Shares::of(&shares, zones.len())
}

/// Sees to it that `thousandths` leave the zone, shared by size: not by load, of which too little may be known.
fn probe(local: usize, sizes: impl Iterator<Item = u64> + Clone, thousandths: u16, shares: &mut [u16]) {
    let floor = thousandths.min(1_000).saturating_mul(SHARES_WHOLE / 1_000);
    let Some(own) = shares.get_mut(local) else { return };
    let taken = floor.saturating_sub(SHARES_WHOLE.saturating_sub(*own)).min(*own);
    *own = own.saturating_sub(taken);
    // In place, one end after the other.
    let whole = sizes.clone().fold(0, u64::saturating_add);
    let (mut sum, mut before) = (0_u64, 0_u16);
    for (share, size) in shares.iter_mut().zip(sizes) {
        sum = sum.saturating_add(size);
        let mut split = [0; 2];
        spread(taken, [sum, whole.saturating_sub(sum)].into_iter(), &mut split);
        let [end, _] = split;
        *share = share.saturating_add(end.saturating_sub(before));
        before = end.max(before);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(zones: &[(u32, u32)]) -> std::vec::Vec<ZoneCounts> {
        let count = |&(clients, endpoints)| ZoneCounts { clients, endpoints };
        zones.iter().map(count).collect()
    }

    fn near(local: usize, zones: &[(u32, u32)], rules: ZoneRules) -> std::vec::Vec<u16> {
        let shares: Shares<4> = zone_aware(local, &counts(zones), rules);
        shares.iter().collect()
    }

    fn load(endpoints: u32, utilization: u16) -> ZoneLoad {
        let mut load = ZoneLoad::default();
        let report = (utilization, Duration::ZERO);
        load.update(endpoints, core::iter::once(report), Duration::from_secs(180));
        load
    }

    fn spilled(local: usize, zones: &[ZoneLoad], rules: SpillRules) -> std::vec::Vec<u16> {
        let shares: Shares<4> = load_aware(local, zones, rules);
        shares.iter().collect()
    }

    #[test]
    fn the_example_of_envoy_38758() {
        let zones = [(10, 10), (10, 10), (0, 10)];
        let rules = ZoneRules::default();
        assert_eq!(near(0, &zones, rules), [6_666, 0, 3_334]);
        assert_eq!(near(1, &zones, rules), [0, 6_666, 3_334]);
        let forced = ZoneRules {
            force_local: true,
            ..rules
        };
        assert_eq!(near(0, &zones, forced), [10_000, 0, 0]);
        assert_eq!(near(3, &zones, forced), [3_333, 3_333, 3_334], "no such zone");
    }

    /// The example in the comments of its source: 40, 40, 20 % of clients and 25, 50, 25 % of endpoints.
    #[test]
    fn the_rest_goes_where_there_is_room() {
        let zones = [(40, 25), (40, 50), (20, 25)];
        let shares = near(0, &zones, ZoneRules::default());
        assert_eq!(shares, [6_250, 2_500, 1_250], "25/40 stay, the rest as 10 to 5");
        assert_eq!(near(1, &zones, ZoneRules::default()), [0, 10_000, 0]);
    }

    #[test]
    fn small_ones_are_not_worth_it() {
        let rules = ZoneRules::default();
        assert_eq!(near(0, &[(1, 2), (1, 3)], rules), [4_000, 6_000]);
        assert_eq!(near(0, &[(1, 3), (1, 3)], rules), [10_000, 0]);
        let larger = ZoneRules {
            local_min: 4,
            ..rules
        };
        assert_eq!(near(0, &[(1, 3), (1, 3)], larger), [5_000, 5_000]);
        assert_eq!(near(0, &[(1, 0), (1, 6)], rules), [0, 10_000]);
        assert_eq!(near(0, &[], rules), []);
    }

    #[test]
    fn the_example_of_load_aware_locality() {
        let zones = [load(10, 700), load(10, 300), load(10, 400)];
        let shares = spilled(0, &zones, SpillRules::default());
        assert_eq!(shares, [1_875, 4_375, 3_750], "19, 44 and 37 %");
        let level = [load(10, 450); 3];
        assert_eq!(spilled(0, &level, SpillRules::default()), [9_700, 150, 150]);
        let cool = [load(10, 100), load(30, 900), load(10, 800)];
        assert_eq!(spilled(0, &cool, SpillRules::default()), [9_700, 225, 75]);
        let quiet = SpillRules {
            probe: 0,
            ..SpillRules::default()
        };
        assert_eq!(spilled(0, &cool, quiet), [10_000, 0, 0]);
        assert_eq!(spilled(9, &zones, quiet), [1_875, 4_375, 3_750], "no own zone");
    }

    #[test]
    fn full_and_unknown_zones_count_by_size() {
        let full = [load(10, 1_000), load(30, 1_200)];
        assert_eq!(spilled(0, &full, SpillRules::default()), [2_500, 7_500]);
        let mut zones = [load(10, 900), load(10, 400)];
        zones[1].update(10, core::iter::empty(), Duration::from_secs(180));
        assert_eq!(zones[1].utilization(), 400, "kept");
        let shares = spilled(0, &zones, SpillRules::default());
        assert_eq!(shares, [909, 9_091], "100 to 1000");
        let nothing = [ZoneLoad::default(); 2];
        assert_eq!(spilled(0, &nothing, SpillRules::default()), [0, 0]);
        assert_eq!(
            spilled(0, &[load(5, 100), load(0, 0)], SpillRules::default()),
            [10_000, 0]
        );
    }

    #[test]
    fn samples_are_smoothed_and_expire() {
        let mut zone = ZoneLoad::default();
        let expiry = Duration::from_secs(180);
        let reports = |utilization: u16, age: u64| [(utilization, Duration::from_secs(age)), (0, expiry)];
        zone.update(2, reports(1_000, 0).into_iter(), expiry);
        assert_eq!(zone.utilization(), 500, "the first counts whole");
        zone.update(2, reports(800, 181).into_iter(), expiry);
        assert_eq!(zone.utilization(), 406, "3/16 of the way to 0");
        for _ in 0..40 {
            zone.update(2, reports(0, 0).into_iter(), expiry);
        }
        assert_eq!(zone.utilization(), 0);
    }

    proptest! {
        #[test]
        fn zone_aware_is_even(zones in prop::collection::vec((0..50_u32, 0..50_u32), 1..6)) {
            let zones = counts(&zones);
            let (clients, endpoints): (u32, u32) = (zones.iter().map(|z| z.clients).sum(), zones.iter().map(|z| z.endpoints).sum());
            prop_assume!(clients > 0 && endpoints >= 6);
            let mut received = std::vec![0.0; zones.len()];
            let mut aware = true;
            for (local, zone) in zones.iter().enumerate() {
                let shares: Shares<6> = zone_aware(local, &zones, ZoneRules::default());
                prop_assert_eq!(shares.iter().map(u32::from).sum::<u32>(), 10_000);
                for (index, share) in shares.iter().enumerate() {
                    prop_assert!(zones[index].endpoints > 0 || share == 0, "nothing to the empty");
                    received[index] += f64::from(zone.clients) * f64::from(share) / 10_000.0;
                }
                aware &= zone.endpoints > 0 || zone.clients == 0;
            }
            for (zone, received) in zones.iter().zip(received) {
                let wanted = f64::from(clients) * f64::from(zone.endpoints) / f64::from(endpoints);
                prop_assert!(!aware || (received - wanted).abs() < 0.02 * wanted + 0.05, "{} at {:?}, not {}", received, zone, wanted);
            }
        }

        #[test]
        fn load_aware_laws(
            zones in prop::collection::vec((0..50_u32, 0..1_500_u16, any::<bool>()), 1..6), local in 0..7_usize, probe in 0..300_u16
        ) {
            let rules = SpillRules { probe, ..SpillRules::default() };
            let mut zones: std::vec::Vec<_> = zones.into_iter().map(|(endpoints, utilization, stale)| ZoneLoad {
                stale,
                ..load(endpoints, utilization)
            }).collect();
            let shares: Shares<6> = load_aware(local, &zones, rules);
            let any = zones.iter().any(|zone| zone.endpoints > 0);
            prop_assert_eq!(shares.iter().map(u32::from).sum::<u32>(), if any { 10_000 } else { 0 });
            for (zone, share) in zones.iter().zip(shares.iter()) {
                prop_assert!(zone.endpoints > 0 || share == 0, "nothing to the empty");
            }
            let others = zones.iter().enumerate().any(|(index, zone)| index != local && zone.endpoints > 0);
            if others && zones.iter().any(|zone| zone.headroom() > 0) {
                let left = 10_000 - u32::from(shares.share(local));
                prop_assert!(left >= u32::from(probe) * 10, "the floor");
            }
            // The busier the own zone, the less stays.
            if let Some(own) = zones.get_mut(local) {
                *own = ZoneLoad { stale: own.stale, ..load(own.endpoints, own.utilization() as u16 + 100) };
                let busier: Shares<6> = load_aware(local, &zones, rules);
                prop_assert!(busier.share(local) <= shares.share(local) || zones.iter().all(|zone| zone.headroom() == 0));
            }
        }
    }
}
