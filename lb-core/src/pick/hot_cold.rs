//! Prequal's rule: among those that are not hot, the fastest.

use super::{Load, Pool, Random, Strategy};
use crate::load::LoadFigures;
use crate::rng::Rng;

/// Endpoints compared in a pick.
const POOL: usize = 16;

const LAST: u8 = POOL as u8 - 1;

/// Reports older than this are not used.
const AGE_MAX_MS: u32 = 5_000;

/// Hot-cold lexicographic choice among 16 endpoints: *hot* is who has more requests in flight than a quantile of them
/// have; of the cold ones the one with the lowest reported latency is taken. The quantile is that of the 16, so one is
/// always cold. O(16), whatever the number of candidates.
///
/// Choose it when requests differ widely in cost and endpoints have neighbours that slow them down: latency tells
/// of the neighbours, and the limit on requests in flight keeps the fast ones from being overrun.
///
/// Prequal asks for load with probes of its own; here the reports are used that come anyway. Two candidates drawn at
/// random join the 16 in every pick and take the places of those that were longest among them; an endpoint that was
/// picked so often that its reuse budget is spent makes room at once. So every candidate is considered over time and
/// no report is used for long by everybody. Requests in flight are those reported, and what we sent or
/// saw ended since. A report counts when it is no older than 5 s (see [`age_max`](Self::age_max)); with fewer than two
/// that count the pick is [`Random`], as in Prequal.
///
/// An endpoint that answered nothing yet is taken for the mean latency of the others. One that failed us lately is not
/// faster than what we measured, penalties included, so that failing fast attracts nothing.
///
/// The limit is the quantile 0.63 by default. The paper has 0.84, for probes that are milliseconds old and
/// different for everyone; prequal-rs found that to herd under load and took 0.6. Reports are older still and the same
/// for all, so it has to be near the lower end.
///
/// *Source*: Wydrowski et al., "Load is not what you should balance: Introducing Prequal" (NSDI 2024).
///
/// ```
/// use lb_core::load::LoadFigures;
/// use lb_core::pick::{HotCold, Load, SlicePool, Strategy};
/// use lb_core::rng::Sfc32;
///
/// let loads = [(2, 900), (3, 400), (40, 100)].map(|(in_flight, latency_us)| Load {
///     report: Some(LoadFigures { in_flight, latency_us, ..LoadFigures::default() }),
///     ..Load::default()
/// });
/// let pool = SlicePool { candidates: &[0, 1, 2], admitted: &[0b111], loads: &loads, ..SlicePool::default() };
/// let slot = HotCold::default().pick(&pool, None, &mut Sfc32::new(1));
/// assert_eq!(slot, Some(1), "the fastest that is not hot");
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct HotCold {
    quantile: u8,
    reuse: u8,
    age_max_ms: u32,
    slots: [u16; POOL],
    /// How often each was picked since it is here.
    uses: [u8; POOL],
    known: u8,
    /// Who is replaced next.
    oldest: u8,
}

impl Default for HotCold {
    fn default() -> Self {
        Self::new()
    }
}

impl HotCold {
    /// With the default quantile, a reuse budget of 2, and reports of at most 5 s.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            quantile: 160,
            reuse: 2,
            age_max_ms: AGE_MAX_MS,
            slots: [u16::MAX; POOL],
            uses: [0; POOL],
            known: 0,
            oldest: 0,
        }
    }

    /// Who is above this quantile of requests in flight, in 255ths, is hot. 0 always takes the fewest requests in
    /// flight, 255 always the lowest latency.
    #[must_use]
    pub const fn quantile(mut self, quantile: u8) -> Self {
        self.quantile = quantile;
        self
    }

    /// How often an endpoint is picked before another takes its place among the 16; at least once.
    #[must_use]
    pub const fn reuse(mut self, picks: u8) -> Self {
        self.reuse = picks;
        self
    }

    /// The oldest report used, in milliseconds.
    #[must_use]
    pub const fn age_max(mut self, age_ms: u32) -> Self {
        self.age_max_ms = age_ms;
        self
    }

    /// Another one joins; the longest here goes if there is no room.
    #[inline]
    fn join(&mut self, slot: usize) {
        let slot = u16::try_from(slot).unwrap_or(u16::MAX);
        // All of them, without leaving early: that is a few vector operations.
        if self
            .slots
            .iter()
            .fold(false, |found, &there| found | (there == slot))
        {
            return;
        }
        let known = usize::from(self.known);
        let place = if known < POOL {
            self.known = self.known.wrapping_add(1);
            known
        } else {
            let place = usize::from(self.oldest);
            self.oldest = self.oldest.wrapping_add(1) & LAST;
            place
        };
        self.put(place, slot);
    }

    #[inline]
    fn put(&mut self, place: usize, slot: u16) {
        if let (Some(there), Some(uses)) = (self.slots.get_mut(place), self.uses.get_mut(place)) {
            (*there, *uses) = (slot, 0);
        }
    }

    /// Brings the 16 up to date: all candidates if they fit.
    #[inline]
    fn gather<P: Pool + ?Sized, R: Rng + ?Sized>(&mut self, pool: &P, rng: &mut R) {
        if pool.len() <= POOL {
            self.slots = [u16::MAX; POOL];
            for (place, slot) in self.slots.iter_mut().zip(pool.slots()) {
                *place = u16::try_from(slot).unwrap_or(u16::MAX);
            }
            self.known = pool.len() as u8;
            return;
        }
        let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
        let draws = if usize::from(self.known) < POOL { POOL } else { 2 };
        for _ in 0..draws {
            self.join(pool.slot(rng.below(count) as usize));
        }
    }

    /// A pick of this one is counted; who has used up its budget is the next to be replaced.
    #[inline]
    fn used(&mut self, index: usize) {
        let Some(uses) = self.uses.get_mut(index) else {
            return;
        };
        *uses = uses.saturating_add(1);
        if *uses >= self.reuse.max(1) && usize::from(self.known) == POOL {
            // It is never more than that, which the compiler has to be told.
            let oldest = usize::from(self.oldest & LAST);
            self.slots.swap(index, oldest);
            self.uses.swap(index, oldest);
        }
    }
}

/// What is compared of the usable ones; the others have the highest numbers.
struct View {
    /// Requests in flight, as far as they go into a lane of a vector.
    in_flight: [i16; POOL],
    /// Latency in the high half, then requests in flight, and in the lowest bits the place in the order of this pick.
    cost: [u64; POOL],
    usable: u32,
}

const PLACE: u64 = POOL as u64 - 1;

impl View {
    /// Of equals, the first from `from` on will be taken.
    #[inline]
    fn of<P: Pool + ?Sized>(
        pool: &P,
        slots: &[u16; POOL],
        known: usize,
        age_max_ms: u32,
        from: usize,
    ) -> Self {
        let mut view = Self {
            in_flight: [i16::MAX; POOL],
            cost: [u64::MAX; POOL],
            usable: 0,
        };
        let mut unanswered = false;
        let places = view.in_flight.iter_mut().zip(&mut view.cost);
        for (index, ((in_flight, cost), &slot)) in places.zip(slots).enumerate().take(known) {
            let slot = usize::from(slot);
            let load = pool.load(slot);
            if let Some(report) = load.report
                && load.age_ms <= age_max_ms
                && pool.admits(slot)
            {
                let latency = seen(&report, &load);
                unanswered |= latency == 0;
                let there = compensated(&report, &load);
                *in_flight = i16::try_from(there).unwrap_or(i16::MAX);
                let order = index.wrapping_sub(from) as u64 & PLACE;
                *cost = u64::from(latency) << 32 | u64::from(there.min(u32::MAX >> 4)) << 4 | order;
                view.usable = view.usable.wrapping_add(1);
            }
        }
        if unanswered {
            view.assume_mean();
        }
        view
    }

    /// Who answered nothing yet is taken for the mean of the others.
    #[cold]
    fn assume_mean(&mut self) {
        let (mut sum, mut count) = (0_u32, 0_u32);
        for cost in self
            .cost
            .iter()
            .filter(|&&cost| cost < u64::MAX && cost >> 32 > 0)
        {
            sum = sum.saturating_add((cost >> 32) as u32);
            count = count.saturating_add(1);
        }
        let mean = u64::from(sum.checked_div(count).unwrap_or(0)) << 32;
        for cost in self.cost.iter_mut().filter(|cost| **cost >> 32 == 0) {
            *cost |= mean;
        }
    }

    /// The cold one with the lowest cost. The quantile is one of theirs, so one is always cold.
    #[inline]
    fn choose(&self, limit: i16, from: usize) -> usize {
        // How many have fewer in flight, for all at once.
        let mut below = [0_i16; POOL];
        for other in self.in_flight {
            for (below, &in_flight) in below.iter_mut().zip(&self.in_flight) {
                *below = below.wrapping_add(i16::from(other < in_flight));
            }
        }
        let costs = self.cost.iter().zip(&below);
        let cold = costs.map(|(&cost, &below)| if below > limit { u64::MAX } else { cost });
        let lowest = cold.fold(u64::MAX, u64::min);
        ((lowest & PLACE) as usize).wrapping_add(from) & (POOL - 1)
    }
}

/// Requests in flight as reported, and what we did since.
#[inline]
fn compensated(report: &LoadFigures, load: &Load) -> u32 {
    u32::from(report.in_flight)
        .saturating_add(load.own_in_flight)
        .saturating_sub(load.own_at_report)
        .max(load.own_in_flight)
}

#[inline]
fn seen(report: &LoadFigures, load: &Load) -> u32 {
    if load.failing > 0 {
        report.latency_us.max(load.own_latency_us)
    } else {
        report.latency_us
    }
}

impl Strategy for HotCold {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        self.gather(pool, rng);
        let known = usize::from(self.known);
        // From anywhere, so that the first of equals is anyone.
        let from = rng.below(u32::from(self.known)) as usize;
        let view = View::of(pool, &self.slots, known, self.age_max_ms, from);
        if view.usable < 2 {
            return Random.pick(pool, key, rng);
        }
        // Who has more than this below it is hot.
        let limit = view.usable.wrapping_sub(1).wrapping_mul(u32::from(self.quantile)) / 255;
        let index = view.choose(limit as i16, from);
        let slot = *self.slots.get(index)?;
        self.used(index);
        Some(usize::from(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;

    fn table(loads: &[(u16, u32)]) -> Table {
        let mut table = Table::new(loads.len());
        for (slot, &(in_flight, latency_us)) in loads.iter().enumerate() {
            table.loads[slot].report = Some(LoadFigures {
                in_flight,
                latency_us,
                ..LoadFigures::default()
            });
        }
        table
    }

    fn counts(strategy: &mut HotCold, table: &Table, picks: u32) -> std::vec::Vec<u32> {
        let (mut rng, mut counts) = (Sfc32::new(1), std::vec![0; table.loads.len()]);
        for _ in 0..picks {
            counts[strategy.pick(table, None, &mut rng).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn cold_by_latency_hot_by_requests_in_flight() {
        let loads = table(&[(10, 500), (10, 400), (30, 300), (31, 200), (90, 100)]);
        assert_eq!(counts(&mut HotCold::new(), &loads, 9), [0, 0, 9, 0, 0]);
        assert_eq!(
            counts(&mut HotCold::new().quantile(255), &loads, 9),
            [0, 0, 0, 0, 9]
        );
        assert_eq!(
            counts(&mut HotCold::new().quantile(0), &loads, 9),
            [0, 9, 0, 0, 0]
        );
    }

    #[test]
    fn own_requests_since_the_report_count() {
        let mut table = table(&[(5, 100), (6, 200), (7, 300)]);
        let mut rng = Sfc32::new(1);
        let mut strategy = HotCold::new();
        for _ in 0..9 {
            let slot = strategy.pick(&table, None, &mut rng).unwrap();
            table.loads[slot].own_in_flight += 1;
        }
        let own: std::vec::Vec<u32> = table.loads.iter().map(|load| load.own_in_flight).collect();
        assert!(own[0] < 9 && own[1] > 0, "the fastest becomes hot: {own:?}");
        table.loads[0].own_at_report = table.loads[0].own_in_flight;
        assert_eq!(
            compensated(&table.loads[0].report.unwrap(), &table.loads[0]),
            5.max(own[0])
        );
    }

    #[test]
    fn ties_favour_nobody_and_all_are_considered() {
        let few = counts(&mut HotCold::new(), &table(&[(1, 10); 5]), 5_000);
        assert!(few.iter().all(|&count| count.abs_diff(1_000) < 150), "{few:?}");
        let many = counts(&mut HotCold::new(), &table(&[(1, 10); 100]), 50_000);
        assert!(many.iter().all(|&count| count.abs_diff(500) < 150), "{many:?}");
    }

    #[test]
    fn no_report_carries_more_than_its_budget() {
        let mut loads = [(1, 100); 200];
        loads[7].1 = 10;
        let counts = counts(&mut HotCold::new(), &table(&loads), 20_000);
        // It joins every 100th pick and stays for two.
        assert!((150..=450).contains(&counts[7]), "{}", counts[7]);
    }

    #[test]
    fn without_two_usable_reports_it_is_random() {
        let mut table = table(&[(1, 10), (1, 10), (1, 10)]);
        table.loads[0].age_ms = AGE_MAX_MS + 1;
        table.loads[1].report = None;
        let counts = counts(&mut HotCold::new(), &table, 3_000);
        assert!(
            counts.iter().all(|&count| count.abs_diff(1_000) < 120),
            "{counts:?}"
        );
        assert_eq!(
            HotCold::new().pick(&Table::new(0), None, &mut Sfc32::new(1)),
            None
        );
    }

    #[test]
    fn failing_fast_attracts_nothing_and_the_unanswered_is_neutral() {
        let mut table = table(&[(1, 10), (1, 300), (1, 0)]);
        table.loads[0].failing = 90;
        table.loads[0].own_latency_us = 5_000_000;
        assert_eq!(counts(&mut HotCold::new(), &table, 5), [0, 5, 0]);
        table.loads[1].report.as_mut().unwrap().latency_us = 9_000_000;
        assert_eq!(counts(&mut HotCold::new(), &table, 5), [5, 0, 0]);
    }
}
