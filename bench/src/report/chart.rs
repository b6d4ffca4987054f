//! The chart of characters: a bar for every contender at one size, all on one logarithmic scale.

use std::fmt::Write as _;

use crate::row::Row;

/// Characters of a bar for each factor of ten.
const DECADE: f64 = 10.0;

/// A block for each strategy at the size in the middle.
#[must_use]
pub fn chart(rows: &[Row]) -> String {
    let mut sizes: Vec<usize> = rows.iter().map(|row| row.n).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let Some(&n) = sizes.get(sizes.len() / 2) else {
        return String::new();
    };
    let mut chart = format!("ns per pick among {n}; every {DECADE} characters are a factor of ten\n");
    for row in rows.iter().filter(|row| row.n == n) {
        let _ = writeln!(chart, "\n{}", row.strategy);
        for (label, ns) in entries(row) {
            let _ = writeln!(chart, "  {label:<45} {} {ns:.1}", bar(ns));
        }
    }
    chart
}

/// All contenders of a row, ours first.
pub(super) fn entries(row: &Row) -> impl Iterator<Item = (&str, f64)> {
    let peers = row.peers.iter().map(|(label, &ns)| (label.as_str(), ns));
    [("ours", row.ours_ns), ("kernel", row.kernel_ns)]
        .into_iter()
        .chain(peers)
}

/// A tenth of a nanosecond is no bar at all.
fn bar(ns: f64) -> String {
    let length = (ns.max(0.1).log10() + 1.0) * DECADE;
    "#".repeat(length.round() as usize)
}

#[cfg(test)]
mod tests {
    use super::bar;

    #[test]
    fn ten_times_is_ten_characters_more() {
        assert_eq!(
            [0.01, 1.0, 10.0, 1_000.0].map(|ns| bar(ns).len()),
            [0, 10, 20, 40]
        );
    }
}
