//! Weights from reports: who does more with less should get more.

use super::report::LoadFigures;
use super::score::per_mille;
use crate::time::{Duration, Instant};

/// The mean of the weights, and the weight of an endpoint nothing is known of.
pub const WEIGHT_MEAN: u16 = 4_096;

/// No weight is higher: ten times the mean.
pub const WEIGHT_MAX: u16 = 10 * WEIGHT_MEAN;

/// No weight is lower: a hundredth of the mean.
pub const WEIGHT_MIN: u16 = WEIGHT_MEAN.div_ceil(100);

/// Shortest time between two updates.
const PERIOD_MIN: Duration = Duration::from_millis(100);

/// Fraction bits of a quotient, gained ten at a time.
const DIGIT: u32 = 10;

/// How reports become weights. The defaults are gRPC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WeightRules {
    /// An endpoint must have reported for so long before its weight counts: one that just came is not measured yet.
    pub blackout: Duration,
    /// The last report counts for so long. After it, `blackout` begins anew.
    pub expiry: Duration,
    /// The time between two updates, at least 100 ms.
    pub period: Duration,
    /// What an error rate of 1 adds to the utilization, in thousandths.
    pub error_penalty: u16,
    /// Weights that together differ by less than this from those in use, in thousandths, are left as they are; so is a
    /// single one that differs by less than four times as much. Each change costs the owner new tables.
    pub margin: u16,
}

impl Default for WeightRules {
    /// 10 s, 3 min, 1 s, a penalty of 1.0; a margin of 50.
    fn default() -> Self {
        Self {
            blackout: Duration::from_secs(10),
            expiry: Duration::from_secs(180),
            period: Duration::from_secs(1),
            error_penalty: 1_000,
            margin: 50,
        }
    }
}

impl WeightRules {
    /// `rate / (utilization + errors / rate * penalty)`, in 2^-20ths; 0 when rate or utilization are not stated.
    fn raw(&self, figures: &LoadFigures) -> u64 {
        if figures.utilization == 0 {
            return 0;
        }
        let failing = per_mille(figures.errors_milli, figures.rate_milli.max(1));
        let penalty = failing.saturating_mul(self.error_penalty.into()) / 1_000;
        // At most 17 bits, so that a remainder has room for a digit.
        let used = u32::from(figures.utilization).saturating_add(penalty);
        let divide = |by: u32| by.checked_div(used).unwrap_or(0);
        let rest = |by: u32| by.checked_rem(used).unwrap_or(0) << DIGIT;
        let first = rest(figures.rate_milli);
        let quotient = u64::from(divide(figures.rate_milli));
        (quotient << DIGIT | u64::from(divide(first))) << DIGIT | u64::from(divide(rest(first)))
    }
}

/// What a [`Weigher`] remembers of one endpoint: 16 bytes. Put the default in place of it when its slot gets another
/// endpoint, or the endpoint a new life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Weighed {
    /// Its last weight that said something.
    raw: u64,
    /// When that was reported, and since when there are reports; in ticks, 0 for never.
    updated: u32,
    since: u32,
}

/// 65.5 ms, from 1 on.
fn tick(at: Instant) -> u32 {
    let ticks = u32::try_from(at.as_micros() >> 16).unwrap_or(u32::MAX);
    ticks.saturating_add(1)
}

/// Rounded up.
fn ticks(span: Duration) -> u32 {
    u32::try_from(span.as_micros().saturating_add(0xffff) >> 16).unwrap_or(u32::MAX)
}

impl Weighed {
    fn update(&mut self, now: u32, rules: &WeightRules, report: Option<(LoadFigures, Duration)>) {
        if let Some((figures, age)) = report {
            let raw = rules.raw(&figures);
            let at = now.saturating_sub(ticks(age)).max(1);
            // A report that says nothing does not end what the last one said.
            if raw > 0 && at >= self.updated {
                self.raw = raw;
                self.updated = at;
                if self.since == 0 {
                    self.since = at;
                }
            }
        }
        if now.saturating_sub(self.updated) >= ticks(rules.expiry) {
            self.since = 0;
        }
    }

    /// 0: nothing that may be used.
    fn usable(&self, now: u32, rules: &WeightRules) -> u64 {
        let proven = self.since > 0 && now.saturating_sub(self.since) >= ticks(rules.blackout);
        if proven { self.raw } else { 0 }
    }
}

/// What an update found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Weights {
    /// How many endpoints have a weight of their own. With less than two, all have the same.
    pub usable: u32,
    /// Whether the weights were written, because they differ enough from what was there.
    pub changed: bool,
}

/// Makes weights of reports, as gRPC's `weighted_round_robin` does (gRFC A58): for all strategies that read
/// [`crate::pick::Pool::weight`].
///
/// ```text
/// weight = rate / (utilization + errors / rate * penalty)     relative to the mean, which is 4096
/// ```
///
/// An endpoint that did not report for long enough, or whose report expired, gets the mean. No weight is above ten times
/// the mean, nor below a hundredth of it. An update is O(endpoints), in integers, with no 64-bit division.
///
/// ```
/// use lb_core::load::{LoadFigures, WEIGHT_MEAN, Weighed, Weigher, WeightRules};
/// use lb_core::{Duration, Instant};
///
/// let reports = [(30_000, 500), (10_000, 500)].map(|(rate_milli, utilization)| LoadFigures {
///     rate_milli,
///     utilization,
///     ..LoadFigures::default()
/// });
/// let mut weigher = Weigher::new(WeightRules::default());
/// let (mut memory, mut weights) = ([Weighed::default(); 2], [0; 2]);
/// for second in 0..=11 {
///     let now = Instant::from_secs(second);
///     let report = |slot: usize| Some((*reports.get(slot)?, Duration::ZERO));
///     if weigher.update(now, report, &mut memory, &mut weights).is_some_and(|found| found.changed) {
///         // Count the pool's version up, so that tables are made anew.
///     }
/// }
/// assert_eq!(weights, [3 * WEIGHT_MEAN / 2, WEIGHT_MEAN / 2], "known for long enough: three times as much");
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Weigher {
    rules: WeightRules,
    due: Instant,
}

impl Weigher {
    /// One that is due at once.
    #[must_use]
    pub const fn new(rules: WeightRules) -> Self {
        Self {
            rules,
            due: Instant::ZERO,
        }
    }

    /// Due again, whatever the period: endpoints came or went.
    pub const fn hurry(&mut self) {
        self.due = Instant::ZERO;
    }

    /// When the next update is due.
    #[must_use]
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Brings the weights up to date, by slot: `report` says what a slot's endpoint reported and how long ago, whether
    /// fresh enough for a pick or not; `None` also for a slot without an endpoint. The shorter of both slices counts.
    /// `None` when it is not due.
    pub fn update(
        &mut self,
        now: Instant,
        report: impl Fn(usize) -> Option<(LoadFigures, Duration)>,
        memory: &mut [Weighed],
        weights: &mut [u16],
    ) -> Option<Weights> {
        if now < self.due {
            return None;
        }
        self.due = now.saturating_add(self.rules.period.max(PERIOD_MIN));
        let (rules, now) = (self.rules, tick(now));
        let (mut sum, mut usable) = (0_u64, 0_u32);
        let count = memory.len().min(weights.len());
        for (slot, weighed) in memory.iter_mut().take(count).enumerate() {
            weighed.update(now, &rules, report(slot));
            let raw = weighed.usable(now, &rules);
            sum = sum.saturating_add(raw);
            usable = usable.saturating_add((raw > 0).into());
        }
        let mean = divide(sum, usable);
        let weight = |weighed: &Weighed| match weighed.usable(now, &rules) {
            0 => WEIGHT_MEAN,
            _ if usable < 2 => WEIGHT_MEAN,
            raw => relative(raw, mean),
        };
        let margin = u64::from(rules.margin);
        let (mut total, mut before, mut single) = (0_u64, 0_u64, false);
        for (weighed, &weight_before) in memory.iter().zip(&*weights) {
            let difference = u64::from(weight(weighed).abs_diff(weight_before)).saturating_mul(1_000);
            let weight_before = u64::from(weight_before);
            total = total.saturating_add(difference);
            before = before.saturating_add(weight_before);
            single |= difference > weight_before.saturating_mul(margin).saturating_mul(4);
        }
        let changed = single || total > before.saturating_mul(margin);
        if changed {
            for (weighed, place) in memory.iter().zip(weights) {
                *place = weight(weighed);
            }
        }
        Some(Weights { usable, changed })
    }
}

/// By at most 2^16, in digits of 16 bits; 0 by 0.
fn divide(value: u64, by: u32) -> u64 {
    let mut rest = 0_u32;
    let mut quotient = 0_u64;
    for shift in [48, 32, 16, 0] {
        let digit = rest << 16 | (value >> shift) as u32 & 0xffff;
        quotient = quotient << 16 | u64::from(digit.checked_div(by).unwrap_or(0));
        rest = digit.checked_rem(by).unwrap_or(0);
    }
    quotient
}

/// `raw / mean` in units of the mean weight, within its limits.
fn relative(raw: u64, mean: u64) -> u16 {
    // The mean to 16 bits, so that ten times as much in 4096ths fits in 32.
    let shift = 48_u32.saturating_sub(mean.leading_zeros());
    let raw = raw.min(mean.saturating_mul(10)) >> shift;
    let mean = (mean >> shift).max(1) as u32;
    let scaled = (raw as u32).saturating_mul(WEIGHT_MEAN.into());
    let weight = scaled.saturating_add(mean >> 1).checked_div(mean).unwrap_or(0);
    (weight as u16).clamp(WEIGHT_MIN, WEIGHT_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn figures(rate_milli: u32, utilization: u16, errors_milli: u32) -> LoadFigures {
        LoadFigures {
            rate_milli,
            errors_milli,
            utilization,
            ..LoadFigures::default()
        }
    }

    /// Without blackout or margin.
    fn at_once(reports: &[LoadFigures]) -> (std::vec::Vec<u16>, Weights) {
        let rules = WeightRules {
            blackout: Duration::ZERO,
            margin: 0,
            ..WeightRules::default()
        };
        let mut memory = std::vec![Weighed::default(); reports.len()];
        let mut weights = std::vec![0; reports.len()];
        let report = |slot: usize| Some((reports[slot], Duration::ZERO));
        let found = Weigher::new(rules).update(Instant::from_secs(60), report, &mut memory, &mut weights);
        (weights, found.unwrap())
    }

    #[test]
    fn more_for_less_and_errors_count() {
        let half = WEIGHT_MEAN / 2;
        let (weights, found) = at_once(&[figures(9_000, 300, 0), figures(3_000, 300, 0)]);
        assert_eq!((weights[0], weights[1], found.usable), (3 * half, half, 2));
        // 0.5 + 0.5: two requests of four fail.
        let (weights, _) = at_once(&[figures(4_000, 1_000, 0), figures(4_000, 500, 2_000)]);
        assert_eq!(weights, [WEIGHT_MEAN; 2]);
    }

    #[test]
    fn the_unknown_get_the_mean_and_one_alone_is_not_enough() {
        let (known, unknown) = (figures(9_000, 300, 0), figures(0, 300, 0));
        let (weights, found) = at_once(&[known, unknown, figures(9_000, 0, 0), known]);
        assert_eq!((weights, found.usable), (std::vec![WEIGHT_MEAN; 4], 2));
        let (weights, found) = at_once(&[figures(4_000_000, 1, 0), unknown]);
        assert_eq!((weights, found.usable), (std::vec![WEIGHT_MEAN; 2], 1));
        let (weights, found) = at_once(&[]);
        assert_eq!((weights.len(), found.usable), (0, 0));
    }

    #[test]
    fn extremes_are_cut() {
        let mut reports = std::vec![figures(1_000, 1_000, 0); 40];
        reports[7] = figures(u32::MAX, 1, 0);
        let (weights, _) = at_once(&reports);
        assert_eq!((weights[7], weights[8]), (WEIGHT_MAX, WEIGHT_MIN));
    }

    #[test]
    fn blackout_expiry_and_period() {
        let mut weigher = Weigher::new(WeightRules::default());
        let (mut memory, mut weights) = ([Weighed::default(); 2], [0; 2]);
        let both = |slot: usize| Some((figures([8_000, 2_000][slot], 500, 0), Duration::ZERO));
        let mut update = |secs: u64, report: &dyn Fn(usize) -> Option<(LoadFigures, Duration)>| {
            let found = weigher.update(Instant::from_secs(secs), report, &mut memory, &mut weights);
            (found.map(|found| (found.usable, found.changed)), weights)
        };
        assert_eq!(
            update(1, &both),
            (Some((0, true)), [4_096; 2]),
            "known for no time"
        );
        assert_eq!(update(1, &both).0, None, "not due");
        assert_eq!(update(10, &both), (Some((0, false)), [4_096; 2]));
        assert_eq!(update(12, &both), (Some((2, true)), [6_554, 1_638]));
        let silent = |_: usize| None;
        assert_eq!(update(100, &silent), (Some((2, false)), [6_554, 1_638]));
        let idle = |_: usize| Some((figures(0, 0, 0), Duration::ZERO));
        assert_eq!(
            update(191, &idle),
            (Some((2, false)), [6_554, 1_638]),
            "says nothing"
        );
        assert_eq!(update(193, &idle), (Some((0, true)), [4_096; 2]), "expired");
        let old = |slot: usize| both(slot).map(|(figures, _)| (figures, Duration::from_secs(9)));
        assert_eq!(
            update(200, &old),
            (Some((0, false)), [4_096; 2]),
            "and a blackout again"
        );
        assert_eq!(update(202, &old), (Some((2, true)), [6_554, 1_638]), "since 191");
    }

    #[test]
    fn small_changes_cost_no_tables_but_add_up() {
        let rules = WeightRules {
            blackout: Duration::ZERO,
            ..WeightRules::default()
        };
        let mut weigher = Weigher::new(rules);
        let (mut memory, mut weights) = ([Weighed::default(); 2], [0; 2]);
        let mut changes = 0;
        for second in 0..100_u32 {
            // From 1:1 to 2:1 within 100 s.
            let report = |slot: usize| {
                let rate = if slot == 0 { 1_000 + 10 * second } else { 1_000 };
                Some((figures(rate, 500, 0), Duration::ZERO))
            };
            let now = Instant::from_secs(second.into());
            let found = weigher.update(now, report, &mut memory, &mut weights).unwrap();
            changes += u32::from(found.changed);
        }
        assert!((4..=10).contains(&changes), "{changes}");
        let ratio = f64::from(weights[0]) / f64::from(weights[1]);
        assert!((1.8..2.0).contains(&ratio), "{ratio}");
    }

    proptest! {
        #[test]
        fn as_in_floating_point(
            reports in prop::collection::vec((1_u32..u32::MAX, 0_u32..16, 100_u16..3_000, 0_u32..1_500), 2..60)
        ) {
            let reports: std::vec::Vec<_> = reports
                .into_iter()
                .map(|(rate, shift, used, failing)| {
                    let rate = (rate >> shift).max(1);
                    figures(rate, used, (f64::from(rate) / 1_000.0 * f64::from(failing)) as u32)
                })
                .collect();
            let raw: std::vec::Vec<f64> = reports
                .iter()
                .map(|report| {
                    let failing = f64::from(report.errors_milli) / f64::from(report.rate_milli);
                    f64::from(report.rate_milli) / (f64::from(report.utilization) + 1_000.0 * failing.min(1.0))
                })
                .collect();
            let mean = raw.iter().sum::<f64>() / raw.len() as f64;
            let (weights, found) = at_once(&reports);
            prop_assert_eq!(found.usable as usize, reports.len());
            for (weight, raw) in weights.into_iter().zip(raw) {
                let wanted = (raw / mean * 4_096.0).clamp(41.0, 40_960.0);
                let off = (f64::from(weight) - wanted).abs();
                // An error rate is known to a thousandth, a hundredth of the lowest utilization here; so is the mean.
                prop_assert!(off <= 2.0 + wanted * 0.02, "{weight}, not {wanted}");
                prop_assert!((WEIGHT_MIN..=WEIGHT_MAX).contains(&weight));
            }
        }

        #[test]
        fn long_division_is_division(value: u64, by in 1_u32..=65_536) {
            prop_assert_eq!(divide(value, by), value / u64::from(by));
        }
    }
}
