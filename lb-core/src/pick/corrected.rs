//! The corrected estimate: what was reported, and what we have done since.

use super::estimate::Neutral;
use super::least_connections::least;
use super::{Pool, RoundRobin, Strategy};
use crate::rng::Rng;

/// The candidate with the lowest corrected estimate of its load per unit of capacity; ties in rotation.
/// O(candidates), two passes.
///
/// ```text
/// estimate(i) = in_flight(i) + clients(i) * (own in flight now - own in flight when reported)
/// cost(i)     = (estimate(i) + 1) / capacity(i)
/// ```
///
/// Taking the lowest *reported* load herds: everything goes to one slot until the next report. Our own
/// requests since the report are known exactly, and the server's other clients act on the same report as we
/// do, so what we changed is scaled by the number of its active clients; a count of zero clients is taken as
/// one. The estimate may go below zero: where more ended than the report explains, the next request is best sent,
/// and that is how clients come to share servers out among themselves however old the reports are.
///
/// With more than a few clients per server, each of them has too few requests in flight to know by, and all find
/// the same servers good; [`super::Adaptive`] does better there.
///
/// A slot without a usable report is neutral: it is given the mean reported load and capacity of the others,
/// plus its own requests like everyone else. Without any report the rule is least connections.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Corrected {
    ties: RoundRobin,
}

impl Strategy for Corrected {
    fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(
        &mut self,
        pool: &P,
        _key: Option<u64>,
        rng: &mut R,
    ) -> Option<usize> {
        // The means are needed only where something is missing.
        let whole = |slot| pool.load(slot).report.is_some_and(|report| report.capacity > 0);
        let neutral = if pool.slots().all(whole) {
            Neutral::of(core::iter::empty())
        } else {
            Neutral::of(pool.slots().filter_map(|slot| pool.load(slot).report))
        };
        least(pool, &mut self.ties, rng, |slot| {
            neutral.estimate(&pool.load(slot))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::Table;
    use super::*;
    use crate::rng::Sfc32;

    fn spread(table: &mut Table, requests: u32) -> std::vec::Vec<u32> {
        let (mut strategy, mut rng) = (Corrected::default(), Sfc32::new(1));
        for _ in 0..requests {
            let slot = strategy.pick(table, None, &mut rng).unwrap();
            table.loads[slot].own_in_flight += 1;
        }
        table.loads.iter().map(|load| load.own_in_flight).collect()
    }

    #[test]
    fn one_old_report_does_not_herd() {
        let mut table = Table::new(3);
        table.report(0, 10, 100, 1);
        table.report(1, 0, 100, 1);
        table.report(2, 5, 100, 1);
        assert_eq!(spread(&mut table, 30), [5, 15, 10], "levels everyone at 15");
    }

    #[test]
    fn own_requests_count_once_for_every_client() {
        let mut table = Table::new(2);
        table.report(0, 0, 100, 10);
        table.report(1, 50, 100, 10);
        assert_eq!(spread(&mut table, 5), [5, 0]);
        assert_eq!(spread(&mut table, 3), [7, 1], "51 < 60");
    }

    #[test]
    fn what_ended_since_the_report_is_taken_off() {
        let mut table = Table::new(2);
        table.report(0, 20, 100, 2);
        table.report(1, 10, 100, 1);
        table.loads[0].own_at_report = 9;
        table.loads[0].own_in_flight = 1;
        assert_eq!(
            Corrected::default().pick(&table, None, &mut Sfc32::new(1)),
            Some(0),
            "20 - 2 * 8 = 4"
        );
    }

    #[test]
    fn the_unknown_is_neutral_not_best() {
        let mut table = Table::new(3);
        table.report(0, 4, 10, 1);
        table.report(1, 8, 10, 1);
        let (mut strategy, mut rng) = (Corrected::default(), Sfc32::new(1));
        assert_eq!(strategy.pick(&table, None, &mut rng), Some(0), "2 is taken as 6");
        table.up.remove(0);
        table.report(0, 0, 10, 1);
        let mut picks = [(); 2].map(|()| strategy.pick(&table, None, &mut rng));
        picks.sort_unstable();
        assert_eq!(
            picks,
            [Some(1), Some(2)],
            "only 8 is known, so 2 counts as 8: in turn"
        );
    }

    #[test]
    fn without_reports_it_is_least_connections() {
        assert_eq!(spread(&mut Table::new(4), 100), [25; 4]);
    }

    #[test]
    fn capacity_weighs() {
        let mut table = Table::new(2);
        table.report(0, 0, 100, 1);
        table.report(1, 0, 50, 1);
        assert_eq!(spread(&mut table, 30), [20, 10]);
    }

    #[test]
    fn saturated_loads_do_not_overflow() {
        let mut table = Table::new(2);
        for slot in 0..2 {
            table.report(slot, u16::MAX, u16::MAX, u16::MAX);
            table.loads[slot].own_in_flight = u32::MAX;
        }
        assert!(
            Corrected::default()
                .pick(&table, None, &mut Sfc32::new(1))
                .is_some()
        );
    }
}
