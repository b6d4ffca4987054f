//! The default: the lowest corrected estimate within reach.

use super::estimate::corrected;
use super::explain::{Considered, Explanation, Nobody, Reason, Rung, Witness};
use super::order::{self, Order};
use super::reach::Reach;
use super::{Load, MemoryTooSmall, Pool, Strategy, Tabled, pool};
use crate::rng::Rng;

/// Candidates that a pick looks at in turn; so many are remembered as well.
const WINDOW: usize = 8;
/// Below this reach all of it is looked at every time.
const WHOLE: usize = 2 * WINDOW;
/// Picks between two that learn.
const LEARN: u8 = 4;
/// No slot.
const NONE: u16 = u16::MAX;
/// Servers per client, in 4096ths: below the first, own requests and old reports tell too little; from the second on
/// they tell enough again.
const SPARSE: (u32, u32) = (768, 1_024);
/// Answers of a server since its report, in sixteenths: from the first on the report counts as old in that case;
/// below the second it is young again. (The lower one comes into use once the rotation has begun.)
const YOUNG: (u32, u32) = (128, 64);
/// What is smoothed goes over 2^4 picks that learn.
const SMOOTH: u32 = 4;
/// Candidates the rotation passes over before any that is admitted is taken.
const PASSES: usize = 64;
/// A share of failures of 255 costs 63 requests.
const FAILING_SHIFT: u32 = 2;

/// The lowest corrected estimate of the load per unit of weight, among as many servers as this client can know:
/// near-optimal whatever the age of the reports and the number of clients. O(1): at most 16 candidates are looked
/// at in a pick, whatever their number.
///
/// ```text
/// estimate(i) = in_flight(i) + clients(i) * (own in flight now - own in flight when reported)
/// cost(i)     = (estimate(i) + 1 + failing(i)) / weight(i)
/// ```
///
/// Three ideas make it work where the lowest report, and even the lowest estimate of all, herd:
///
/// * **Reach.** Each client chooses within a part of the servers, the first few of an order of its own
///   (rendezvous hashing, as gRPC A68 has it), and the more clients there are the smaller that part is. So
///   everyone has enough requests of its own at its servers to know them by, and no two clients
///   find the same ones good. The number of servers per client is measured, from our own share of the requests in
///   flight; nothing is configured. Parts overlap, so load is levelled across all servers.
/// * **Own requests tell most**, and stay true when reports do not: where a request of ours has just ended, the
///   next one is best sent. The estimate is a balance kept per server, not a guess that ages.
/// * **A sweep and a memory.** A pick looks at the next few servers of the order in turn, and at the best
///   that earlier picks saw or that [`ended`](Strategy::ended) told of. That finds what a scan of all would, at a
///   constant price.
///
/// The rung of [`Explanation`] says how a pick was made, by what is known:
///
/// 1. `Whole` or `Part`: as above; with few clients or servers the reach is all of them.
/// 2. `OwnRequests`: nobody within reach reports; then the estimate is our own requests alone.
/// 3. `Rotation`: clients outnumber servers many times and reports are old, or nobody reports and we have
///    almost nothing in flight: then nothing is known, and a rotation by weight does least harm.
///
/// A candidate without a report is taken to have the mean of the others. A candidate that failed us lately costs up to
/// 64 requests more.
///
/// Measured against every other strategy in `lb sim stale`: docs/strategies.md has the table. The estimate
/// goes back to Dahlin's "Interpreting stale load information" (2000) and Mitzenmacher's "How useful is old
/// information?" (2000); the memory to Mitzenmacher, Prabhakar and Shah, "Load balancing with memory" (2002).
///
/// Needs `words` of memory for its order. With less, candidates beyond it are only used when none within is
/// admitted; with none at all, the order is that of the pool.
///
/// ```
/// use lb_core::pick::{Adaptive, SlicePool, Strategy, Tabled};
/// use lb_core::rng::Sfc32;
///
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     admitted: &[0b111],
///     own_in_flight: &[4, 0, 2],
///     version: 1,
///     ..SlicePool::default()
/// };
/// let mut strategy = Adaptive::new([0_u32; Adaptive::words(3)], 42).unwrap();
/// while !strategy.update(&pool, 64) {}
/// assert_eq!(strategy.pick(&pool, None, &mut Sfc32::new(1)), Some(1));
/// ```
#[derive(Clone, Debug)]
pub struct Adaptive<S = [u32; 0]> {
    order: Order<S>,
    reach: Reach,
    neutral: Neutral,
    /// Picks until the next that learns.
    rest: u8,
    /// Where the sweep goes on.
    turn: usize,
    /// Where the rotation is, and in which round.
    next: usize,
    round: u16,
    remembered: [u16; WINDOW],
    /// The next of `remembered` that makes room.
    oldest: u8,
    /// Whether there are reports, and how many answers each is old, in sixteenths; smoothed.
    reports: u32,
    since: u32,
    rung: Rung,
}

/// A cost and where it was found, in one number, so that the best is found by comparing numbers.
type Rank = i64;
/// Bits of a rank that say where: in the order, so far behind the turn, or behind [`WHOLE`] in the memory.
const PLACE: Rank = 2 * WHOLE as Rank - 1;
/// The rank of nobody.
const NOBODY: Rank = Rank::MAX;
/// Reciprocals of weights have that many bits.
const SCALE: u32 = 20;

/// What a look at a candidate found.
struct Look {
    /// The corrected estimate, one for the request to be sent, and what failures cost.
    load: i32,
    /// Each of its clients may have one more that ended since it reported: there, the next request is best sent.
    owed: i32,
    weight: u16,
}

impl Look {
    #[inline]
    fn rank(&self, place: usize, reciprocals: &mut Reciprocals) -> Rank {
        let cost = i64::from(self.load).wrapping_mul(reciprocals.of(self.weight).into());
        cost << PLACE.count_ones() | place as Rank
    }
}

/// The last weight, and its reciprocal: mostly all are equal.
struct Reciprocals {
    weight: u16,
    reciprocal: u32,
}

impl Reciprocals {
    #[inline]
    fn of(&mut self, weight: u16) -> u32 {
        if weight != self.weight {
            self.weight = weight;
            self.reciprocal = (1_u32 << SCALE).checked_div(weight.into()).unwrap_or(0);
        }
        self.reciprocal
    }
}

/// What a pick saw in its window.
#[derive(Default)]
struct Seen {
    own: u32,
    all: u32,
    reports: u32,
    /// Answers since the report, in sixteenths.
    since: u32,
}

impl Seen {
    #[inline]
    fn note(&mut self, load: &Load) {
        self.own = self.own.saturating_add(load.own_in_flight);
        let Some(report) = load.report else { return };
        self.reports = self.reports.saturating_add(1);
        self.all = self.all.saturating_add(u32::from(report.in_flight));
        // Milliseconds times thousandths per second is millionths; 2^20 is near enough.
        let answers = u64::from(load.age_ms).wrapping_mul(u64::from(report.rate_milli)) >> 16;
        self.since = self
            .since
            .saturating_add(u32::try_from(answers).unwrap_or(u32::MAX));
    }
}

/// What is assumed of a candidate that does not report.
#[derive(Clone, Copy, Debug)]
struct Neutral {
    in_flight: u32,
    clients: u32,
}

impl Adaptive {
    /// Memory for this many candidates, in words.
    #[must_use]
    pub const fn words(slots: usize) -> usize {
        order::words(slots)
    }
}

impl<S> Adaptive<S> {
    /// The same in another kind of memory.
    #[must_use]
    pub fn map<T>(self, change: impl FnOnce(S) -> T) -> Adaptive<T> {
        Adaptive {
            order: self.order.map(change),
            reach: self.reach,
            neutral: self.neutral,
            rest: self.rest,
            turn: self.turn,
            next: self.next,
            round: self.round,
            remembered: self.remembered,
            oldest: self.oldest,
            reports: self.reports,
            since: self.since,
            rung: self.rung,
        }
    }

    /// How the last pick was made.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        self.rung
    }
}

impl<S: AsRef<[u32]>> Adaptive<S> {
    /// In this memory; the seed decides this picker's order of the candidates and should differ between clients.
    ///
    /// # Errors
    /// None at present: memory that is too small is used as far as it goes.
    pub fn new(memory: S, seed: u64) -> Result<Self, MemoryTooSmall> {
        Ok(Self {
            order: Order::new(memory, seed)?,
            reach: Reach::new(),
            neutral: Neutral {
                in_flight: 0,
                clients: 1,
            },
            rest: 0,
            turn: 0,
            next: seed as u16 as usize,
            round: (seed >> 16) as u16,
            remembered: [NONE; WINDOW],
            oldest: 0,
            reports: 0,
            since: 0,
            rung: Rung::Whole,
        })
    }

    /// A pick, and why.
    pub fn explain<P: Pool + ?Sized, R: Rng + ?Sized>(&mut self, pool: &P, rng: &mut R) -> Explanation {
        let mut explanation = Explanation::new(pool);
        let slot = self.choose(pool, rng, &mut explanation);
        explanation.close(slot, self.rung, self.reason(), self.reach.of(self.len(pool)));
        explanation
    }

    fn reason(&self) -> Reason {
        match self.rung {
            Rung::Whole => Reason::FewClients,
            Rung::Part => Reason::ManyClients,
            Rung::OwnRequests => Reason::NoReports,
            _ if self.reports == 0 => Reason::NothingKnown,
            _ => Reason::OldReports,
        }
    }

    #[inline]
    fn len<P: Pool + ?Sized>(&self, pool: &P) -> usize {
        match self.order.len() {
            0 => pool.len(),
            len => len,
        }
    }

    #[inline]
    fn slot<P: Pool + ?Sized>(&self, pool: &P, at: usize) -> usize {
        match self.order.len() {
            0 => pool.slot(at),
            _ => self.order.slot(at).unwrap_or(usize::MAX),
        }
    }

    #[inline]
    fn choose<P, R, W>(&mut self, pool: &P, rng: &mut R, witness: &mut W) -> Option<usize>
    where
        P: Pool + ?Sized,
        R: Rng + ?Sized,
        W: Witness,
    {
        let len = self.len(pool);
        match self.rest.checked_sub(1) {
            Some(rest) => self.rest = rest,
            None => self.learn(pool, len),
        }
        let picked = if self.rung == Rung::Rotation {
            self.rotate(pool, len)
        } else {
            let reach = self.reach.of(len);
            // Hardly ever is the best one full or tried, so that is not asked of all that are looked at.
            let best = self.search(pool, reach, witness, W::WATCHES);
            best.filter(|&slot| pool.admits(slot))
                .or_else(|| self.search_admitted(pool, reach, witness))
        };
        picked.or_else(|| {
            let count = u32::try_from(pool.len()).unwrap_or(u32::MAX);
            pool::scan_from(pool, rng.below(count) as usize)
        })
    }

    #[cold]
    fn search_admitted<P: Pool + ?Sized, W: Witness>(
        &mut self,
        pool: &P,
        reach: usize,
        witness: &mut W,
    ) -> Option<usize> {
        self.search(pool, reach, witness, true)
    }

    /// The best of the next of the order and of those remembered, or of those of them that are admitted.
    #[inline]
    fn search<P: Pool + ?Sized, W: Witness>(
        &mut self,
        pool: &P,
        reach: usize,
        witness: &mut W,
        admitted: bool,
    ) -> Option<usize> {
        let window = if reach <= WHOLE { reach } else { WINDOW };
        let heaviest = self.order.heaviest();
        let mut reciprocals = Reciprocals {
            weight: 1,
            reciprocal: 1 << SCALE,
        };
        let from = if self.turn < reach { self.turn } else { 0 };
        let (mut at, mut swept) = (from, NOBODY);
        for place in 0..window {
            let slot = self.slot(pool, at);
            at = next(at, reach);
            if admitted && !pool.admits(slot) {
                continue;
            }
            let Some(look) = self.look(pool, slot, witness) else {
                continue;
            };
            if look.load <= look.owed && look.weight >= heaviest {
                self.turn = at;
                return Some(slot);
            }
            swept = swept.min(look.rank(place, &mut reciprocals));
        }
        let mut best = swept;
        if reach > WHOLE {
            for (place, &slot) in (WHOLE..).zip(&self.remembered) {
                if slot == NONE || admitted && !pool.admits(slot.into()) {
                    continue;
                }
                if let Some(look) = self.look(pool, slot.into(), witness) {
                    best = best.min(look.rank(place, &mut reciprocals));
                }
            }
        }
        self.turn = at;
        if best == NOBODY {
            return None;
        }
        // Where the best of the sweep is; the sweep goes on behind whom it chose, so that equals get requests in turn.
        let place = |rank: Rank| (rank & PLACE) as usize;
        let swept_at = around(from.saturating_add(place(swept)), reach);
        let Some(index) = place(best).checked_sub(WHOLE) else {
            self.turn = next(swept_at, reach);
            return Some(self.slot(pool, swept_at));
        };
        // The memory is used up where it was best, and keeps the best of the sweep instead.
        let entry = self.remembered.get_mut(index)?;
        let picked = usize::from(*entry);
        *entry = NONE;
        if swept != NOBODY {
            let slot = self.slot(pool, swept_at);
            if let Some(entry) = self.remembered.get_mut(index) {
                *entry = u16::try_from(slot).unwrap_or(NONE);
            }
        }
        Some(picked)
    }

    // Called sixteen times a pick, from two places.
    #[inline(always)]
    fn look<P: Pool + ?Sized, W: Witness>(&self, pool: &P, slot: usize, witness: &mut W) -> Option<Look> {
        let weight = if self.order.is_even() {
            1
        } else {
            match pool.weight(slot) {
                0 if self.order.heaviest() > 0 => return None,
                weight => weight.max(1),
            }
        };
        let glance = pool.glance(slot);
        let (in_flight, clients, at_report) = match glance.reported {
            Some((in_flight, clients)) => (
                in_flight.into(),
                self.neutral.clients.max(clients.into()),
                glance.own_at_report,
            ),
            None => (self.neutral.in_flight, self.neutral.clients, 0),
        };
        let estimate = corrected(in_flight, clients, glance.own_in_flight, at_report);
        witness.saw(|| Considered::new(slot, &pool.load(slot), estimate, weight));
        let penalty = i32::from(glance.failing >> FAILING_SHIFT).wrapping_add(1);
        Some(Look {
            load: estimate.saturating_add(penalty),
            owed: 2_i32.wrapping_sub(clients.min(1 << 30) as i32),
            weight,
        })
    }

    /// Looks at the next of the order for what all depends on: our share of the requests, and how old reports are.
    #[inline(never)]
    fn learn<P: Pool + ?Sized>(&mut self, pool: &P, len: usize) {
        self.rest = LEARN.wrapping_sub(1);
        let among = match self.rung {
            Rung::Rotation => len,
            _ => self.reach.of(len),
        };
        let window = if among <= WHOLE { among } else { WINDOW };
        if window == 0 {
            return;
        }
        // The rotation has a turn of its own.
        let mut at = match self.rung {
            Rung::Rotation => around(self.next, among),
            _ if self.turn < among => self.turn,
            _ => 0,
        };
        let mut seen = Seen::default();
        for _ in 0..window {
            seen.note(&pool.load(self.slot(pool, at)));
            at = next(at, among);
        }
        let scale = |sum: u32| {
            if window == among {
                return sum;
            }
            let scaled = u64::from(sum).saturating_mul(among as u64) >> WINDOW.ilog2();
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        self.reach.note(scale(seen.own), scale(seen.all), among, len);
        smooth(&mut self.reports, u32::from(seen.reports > 0));
        let mean = seen.since.checked_div(seen.reports).unwrap_or(0);
        smooth(&mut self.since, mean.min(u32::from(u16::MAX)));
        let (_, all) = self.reach.requests();
        self.neutral = Neutral {
            in_flight: all.checked_div(among as u32).unwrap_or(0),
            // Ours are the more of all the requests the fewer clients there are. Too many is better than too few.
            clients: if self.reports == 0 {
                1
            } else {
                self.reach.multiple()
            },
        };
        self.climb(len);
    }

    /// Which rung the next pick is made on.
    fn climb(&mut self, len: usize) {
        let (own, _) = self.reach.requests();
        let rotates = self.rung == Rung::Rotation;
        let bound = |(lower, upper): (u32, u32), value: u32| value < if rotates { upper } else { lower };
        self.rung = if self.reports == 0 {
            // Own requests tell something where there are some.
            let few = if rotates { len / 4 } else { len / 8 };
            if (own as usize) < few {
                Rung::Rotation
            } else {
                Rung::OwnRequests
            }
        } else if bound(SPARSE, self.reach.per_client()) && !bound(YOUNG, self.since >> SMOOTH) {
            Rung::Rotation
        } else if self.reach.of(len) < len {
            Rung::Part
        } else {
            Rung::Whole
        };
    }

    /// The next by weight: static stride scheduling (gRPC A58), over the order of this picker.
    fn rotate<P: Pool + ?Sized>(&mut self, pool: &P, len: usize) -> Option<usize> {
        let heaviest = u32::from(self.order.heaviest());
        for _ in 0..PASSES {
            self.next = next(self.next, len);
            if self.next == 0 {
                self.round = self.round.wrapping_add(1);
            }
            let slot = self.slot(pool, self.next);
            if !pool.admits(slot) {
                continue;
            }
            let weight = u32::from(pool.weight(slot));
            let turn = u32::from(self.round)
                .saturating_mul(weight)
                .saturating_add(self.next as u32);
            let phase = turn.checked_rem(heaviest).unwrap_or(0);
            if phase >= heaviest.saturating_sub(weight) {
                return Some(slot);
            }
        }
        None
    }
}

/// The next of so many, around.
const fn next(at: usize, among: usize) -> usize {
    let next = at.saturating_add(1);
    if next < among { next } else { 0 }
}

/// A place of so many, if it is less than twice that.
const fn around(at: usize, among: usize) -> usize {
    if at < among { at } else { at.saturating_sub(among) }
}

/// A mean over 2^`SMOOTH` picks, with as many fraction bits.
fn smooth(mean: &mut u32, sample: u32) {
    *mean = mean.saturating_sub(*mean >> SMOOTH).saturating_add(sample);
}

impl<S: AsRef<[u32]>> Strategy for Adaptive<S> {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        self.choose(pool, rng, &mut Nobody)
    }

    fn ended(&mut self, slot: usize) {
        if let (Ok(slot), Some(entry)) = (
            u16::try_from(slot),
            self.remembered.get_mut(usize::from(self.oldest)),
        ) {
            *entry = slot;
        }
        self.oldest = self.oldest.wrapping_add(1) & (WINDOW as u8).wrapping_sub(1);
    }
}

impl<S: AsRef<[u32]> + AsMut<[u32]>> Tabled for Adaptive<S> {
    fn update<P: Pool + ?Sized>(&mut self, pool: &P, budget: u32) -> bool {
        self.order.update(pool, budget)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;
    use std::vec::Vec;

    /// A strategy that has made its order.
    fn ready(table: &Table) -> Adaptive<Vec<u32>> {
        let mut strategy = Adaptive::new(std::vec![0; Adaptive::words(table.loads.len())], 7).unwrap();
        while !strategy.update(table, 16) {}
        strategy
    }

    /// Picks that stay in flight.
    fn spread(table: &mut Table, requests: u32) -> Vec<u32> {
        let (mut strategy, mut rng) = (ready(table), Sfc32::new(1));
        for _ in 0..requests {
            let slot = strategy.pick(table, None, &mut rng).unwrap();
            table.loads[slot].own_in_flight += 1;
        }
        table.loads.iter().map(|load| load.own_in_flight).collect()
    }

    /// Picks that are answered at once.
    fn counts(table: &Table, strategy: &mut Adaptive<Vec<u32>>, requests: usize) -> Vec<usize> {
        let (mut rng, mut counts) = (Sfc32::new(1), std::vec![0; table.loads.len()]);
        for _ in 0..requests {
            let slot = strategy.pick(table, None, &mut rng).unwrap();
            strategy.ended(slot);
            counts[slot] += 1;
        }
        counts
    }

    #[test]
    fn one_request_at_a_time_goes_to_each_in_turn() {
        for slots in [1, 3, 16, 17, 100] {
            let mut table = Table::new(slots);
            for slot in 0..slots {
                table.report(slot, 0, 8, 1);
            }
            let counts = counts(&table, &mut ready(&table), slots * 20);
            assert!(
                counts.iter().all(|&count| (19..=21).contains(&count)),
                "{slots}: {counts:?}"
            );
        }
    }

    #[test]
    fn one_old_report_does_not_herd() {
        let mut table = Table::new(3);
        for (slot, in_flight) in [(0, 10), (1, 0), (2, 5)] {
            table.report(slot, in_flight, 100, 1);
        }
        assert_eq!(spread(&mut table, 30), [5, 15, 10], "levels everyone at 15");
    }

    #[test]
    fn the_unknown_is_neutral_not_best() {
        let mut table = Table::new(3);
        table.report(0, 4, 8, 1);
        table.report(1, 40, 8, 1);
        let mut strategy = ready(&table);
        assert_eq!(counts(&table, &mut strategy, 50), [50, 0, 0], "2 counts as 22");
    }

    #[test]
    fn weights_count() {
        let mut table = Table::new(3);
        for (slot, weight) in [200, 100, 0].into_iter().enumerate() {
            table.report(slot, 0, 100, 1);
            table.weights.push(weight);
            assert_eq!(table.weight(slot), weight);
        }
        assert_eq!(spread(&mut table, 30), [20, 10, 0]);
        table.weights = std::vec![0; 3];
        assert_eq!(spread(&mut table, 3).iter().sum::<u32>(), 33);
    }

    #[test]
    fn without_reports_own_requests_count() {
        assert_eq!(spread(&mut Table::new(4), 100), [25; 4]);
    }

    #[test]
    fn what_fails_is_passed_over() {
        let mut table = Table::new(4);
        for slot in 0..4 {
            table.report(slot, 5, 8, 1);
        }
        table.report(2, 0, 8, 1);
        table.loads[2].failing = 255;
        assert_eq!(counts(&table, &mut ready(&table), 300)[2], 0);
    }

    /// A hundred servers with two requests each, of which ours are one in fifty.
    fn crowd(age_ms: u32) -> Table {
        let mut table = Table::new(100);
        for slot in 0..100 {
            table.report(slot, 2, 8, 50);
            table.loads[slot].age_ms = age_ms;
            table.loads[slot].report.as_mut().unwrap().rate_milli = 100_000;
        }
        table
    }

    #[test]
    fn one_of_many_clients_keeps_to_its_part() {
        let table = crowd(10);
        let mut strategy = ready(&table);
        counts(&table, &mut strategy, 2_000);
        assert_eq!(strategy.rung(), Rung::Part);
        let used = counts(&table, &mut strategy, 1_000)
            .iter()
            .filter(|&&count| count > 0)
            .count();
        assert!((2..=20).contains(&used), "{used}");
    }

    #[test]
    fn where_nothing_can_be_known_it_rotates_by_weight() {
        let mut table = Table::new(4);
        for (slot, weight) in [1, 2, 3, 4].into_iter().enumerate() {
            table.report(slot, 500, 800, 1_000);
            table.loads[slot].age_ms = 5_000;
            table.loads[slot].report.as_mut().unwrap().rate_milli = 100_000;
            table.weights.push(weight);
        }
        let mut strategy = ready(&table);
        counts(&table, &mut strategy, 2_000);
        assert_eq!(strategy.rung(), Rung::Rotation);
        assert_eq!(counts(&table, &mut strategy, 100), [10, 20, 30, 40]);
        assert_eq!(
            strategy.explain(&table, &mut Sfc32::new(1)).reason,
            Some(Reason::OldReports)
        );
        for load in &mut table.loads {
            load.age_ms = 5;
        }
        counts(&table, &mut strategy, 500);
        assert_ne!(strategy.rung(), Rung::Rotation, "reports are young again");
    }

    #[test]
    fn explains_itself() {
        let mut table = Table::new(3);
        for (slot, in_flight) in [(0, 9), (1, 4), (2, 7)] {
            table.report(slot, in_flight, 16, 2);
            table.loads[slot].age_ms = 30;
        }
        let why = ready(&table).explain(&table, &mut Sfc32::new(1));
        assert_eq!((why.picked, why.rung), (Some(1), Some(Rung::Whole)));
        assert_eq!(why.reason, Some(Reason::FewClients));
        assert_eq!((why.candidates, why.reach, why.considered.len()), (3, 3, 3));
        let it = why.considered.iter().find(|it| it.slot == 1).unwrap();
        assert_eq!((it.reported, it.estimate, it.weight), (Some((4, 30)), 4, 1));
        assert_eq!(
            ready(&Table::new(0))
                .explain(&Table::new(0), &mut Sfc32::new(1))
                .picked,
            None
        );
    }

    #[test]
    fn with_too_little_memory_it_uses_what_it_has() {
        let table = Table::new(5);
        let mut strategy = Adaptive::new([0_u32; 4], 1).unwrap();
        while !strategy.update(&table, 1) {}
        let mut rng = Sfc32::new(1);
        assert!(strategy.pick(&table, None, &mut rng).is_some());
        let mut none = Adaptive::new([0_u32; 0], 1).unwrap();
        let mut picks: Vec<_> = (0..5).filter_map(|_| none.pick(&table, None, &mut rng)).collect();
        picks.sort_unstable();
        assert_eq!(picks, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn saturated_loads_do_not_overflow() {
        let mut table = Table::new(20);
        for slot in 0..20 {
            table.report(slot, u16::MAX, u16::MAX, u16::MAX);
            table.loads[slot].own_in_flight = u32::MAX * (slot as u32 % 2);
            table.loads[slot].own_at_report = u32::MAX * (slot as u32 / 2 % 2);
            table.loads[slot].age_ms = u32::MAX;
            table.loads[slot].report.as_mut().unwrap().rate_milli = u32::MAX;
        }
        let mut strategy = ready(&table);
        assert!((0..3_000).all(|_| strategy.pick(&table, None, &mut Sfc32::new(1)).is_some()));
    }
}
