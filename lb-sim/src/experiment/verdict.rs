//! How one policy does beside the best of the others, cell by cell.

use super::stale::Row;
use crate::table::Table;

/// One cell: a policy, the best of the others there, and a rotation by true speed.
#[derive(Clone, Debug)]
pub struct Verdict<'a> {
    /// What is judged.
    pub ours: &'a Row,
    /// The best of the others, if there is another.
    pub best: Option<&'a Row>,
    /// The rotation, if it was run.
    pub rotation: Option<&'a Row>,
}

impl Verdict<'_> {
    /// Our mean latency over the best one's; below 1 when ours is the best.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        over(self.ours, self.best)
    }

    /// Our mean latency over the rotation's.
    #[must_use]
    pub fn to_rotation(&self) -> f64 {
        over(self.ours, self.rotation)
    }
}

fn over(ours: &Row, theirs: Option<&Row>) -> f64 {
    theirs.map_or(f64::NAN, |theirs| {
        ours.summary.mean.mean / theirs.summary.mean.mean
    })
}

/// Every cell in which this policy was run, in order.
#[must_use]
pub fn verdicts<'a>(rows: &'a [Row], policy: &str) -> Vec<Verdict<'a>> {
    let ours = rows.iter().filter(|row| row.policy == policy);
    ours.map(|ours| {
        let others = || {
            rows.iter()
                .filter(|row| row.policy != policy && same_cell(row, ours))
        };
        let mean = |row: &&Row| row.summary.mean.mean;
        Verdict {
            ours,
            best: others().min_by(|a, b| mean(a).total_cmp(&mean(b))),
            rotation: others().find(|row| row.policy == "weighted-rotation"),
        }
    })
    .collect()
}

fn same_cell(row: &Row, other: &Row) -> bool {
    row.clients == other.clients
        && row.age == other.age
        && row.speeds == other.speeds
        && row.discipline == other.discipline
        && row.work == other.work
}

/// The verdicts as a table.
#[must_use]
pub fn table(verdicts: &[Verdict<'_>]) -> Table {
    let mut table = Table::new(&[
        "speeds",
        "discipline",
        "work",
        "clients",
        "age",
        "policy",
        "mean",
        "margin",
        "p99",
        "best other",
        "its mean",
        "its p99",
        "ratio",
        "to rotation",
    ]);
    for verdict in verdicts {
        let (ours, best) = (verdict.ours, verdict.best);
        let of_best = |of: fn(&Row) -> f64| best.map_or(f64::NAN, of);
        table.row(vec![
            ours.speeds.to_string().into(),
            ours.discipline.as_str().into(),
            ours.work.as_str().into(),
            ours.clients.into(),
            ours.age.into(),
            ours.policy.clone().into(),
            ours.summary.mean.mean.into(),
            ours.summary.mean.margin.into(),
            ours.summary.p99.mean.into(),
            best.map_or("-", |best| &best.policy).into(),
            of_best(|row| row.summary.mean.mean).into(),
            of_best(|row| row.summary.p99.mean).into(),
            verdict.ratio().into(),
            verdict.to_rotation().into(),
        ]);
    }
    table
}

/// The worst ratios, in a line.
#[must_use]
pub fn summary(verdicts: &[Verdict<'_>]) -> String {
    let worst =
        |ratios: &mut dyn Iterator<Item = f64>| ratios.filter(|ratio| ratio.is_finite()).fold(0.0, f64::max);
    let best = verdicts.iter().filter(|verdict| verdict.ratio() < 1.0).count();
    format!(
        "best in {best} of {} cells; at worst {:.2} times the best of the others, and {:.2} times a rotation by true speed",
        verdicts.len(),
        worst(&mut verdicts.iter().map(Verdict::ratio)),
        worst(&mut verdicts.iter().map(Verdict::to_rotation))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Fleet, stale};
    use crate::policy::Policy;
    use crate::sweep::Seeds;

    #[test]
    fn finds_the_best_of_the_others_in_each_cell() {
        let grid = stale::Grid {
            fleet: Fleet {
                policies: Policy::find(&["random", "adaptive", "weighted-rotation"]).unwrap(),
                servers: 10,
                requests: 4_000,
                seeds: Seeds {
                    count: 1,
                    ..Seeds::default()
                },
            },
            ages: vec![1.0, 10.0],
            clients: vec![2],
            speeds: vec![crate::experiment::Speeds::equal()],
            disciplines: vec![crate::queue::Discipline::Fifo],
            works: vec![crate::work::Work::Exponential],
            ..stale::Grid::default()
        };
        let rows = stale::run(&grid, &|_, _| {});
        let verdicts = verdicts(&rows, "adaptive");
        assert_eq!(verdicts.len(), 2);
        for verdict in &verdicts {
            assert_eq!(
                verdict.best.unwrap().policy,
                "weighted-rotation",
                "better than random"
            );
            assert!(verdict.ratio() < 1.0 && verdict.ratio() == verdict.to_rotation());
        }
        assert!(summary(&verdicts).starts_with("best in 2 of 2 cells"));
        assert!(table(&verdicts).to_string().contains("weighted-rotation"));
    }
}
