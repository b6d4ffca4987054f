//! The aligned tables.

use crate::row::Row;
use crate::threads;

/// The line above the rows.
#[must_use]
pub fn heading() -> String {
    format!(
        "{:<20}{:>6}{:>11}{:>11}{:>7}{:>8}   {}",
        "strategy", "n", "ours ns", "kernel ns", "ratio", "allocs", "peers, ns (how many times ours)"
    )
}

/// A row, its peers from the fastest to the slowest.
#[must_use]
pub fn line(row: &Row) -> String {
    let mut peers: Vec<_> = row.peers.iter().collect();
    peers.sort_by(|one, other| one.1.total_cmp(other.1));
    let peers: Vec<String> = peers
        .into_iter()
        .map(|(peer, ns)| format!("{peer} {ns:.1} ({:.1}x)", ns / row.ours_ns))
        .collect();
    format!(
        "{:<20}{:>6}{:>11.2}{:>11.2}{:>7.2}{:>8}   {}",
        row.strategy,
        row.n,
        row.ours_ns,
        row.kernel_ns,
        row.ratio,
        row.allocs,
        peers.join(", ")
    )
}

/// The line above the rows of many threads.
#[must_use]
pub fn threads_heading() -> String {
    let (strategy, n, threads, ours, allocs) = ("strategy", "n", "threads", "ours ns", "allocs");
    format!("{strategy:<20}{n:>6}{threads:>9}{ours:>11}{allocs:>8}")
}

/// A row of many threads.
#[must_use]
pub fn threads_line(row: &threads::Row) -> String {
    let threads::Row {
        strategy,
        n,
        threads,
        ours_ns,
        allocs,
    } = row;
    format!("{strategy:<20}{n:>6}{threads:>9}{ours_ns:>11.2}{allocs:>8}")
}
