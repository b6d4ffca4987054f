//! How much is known.

use super::Pool;

/// The share of the candidates whose report may still be used, in thousandths; 0 without candidates. O(candidates), to be
/// taken now and then: below about 900 the load of the rest is a guess.
///
/// ```
/// use lb_core::load::LoadFigures;
/// use lb_core::pick::{Load, SlicePool, coverage};
///
/// let known = Load { report: Some(LoadFigures::default()), ..Load::default() };
/// let pool = SlicePool {
///     candidates: &[0, 1, 2],
///     loads: &[known, Load::default(), known],
///     ..SlicePool::default()
/// };
/// assert_eq!(coverage(&pool), 666);
/// assert_eq!(coverage(&SlicePool::default()), 0);
/// ```
#[must_use]
pub fn coverage<P: Pool + ?Sized>(pool: &P) -> u16 {
    let (mut all, mut known) = (0_u32, 0_u32);
    for slot in pool.slots() {
        all = all.saturating_add(1);
        known = known.saturating_add(pool.load(slot).report.is_some().into());
    }
    known.saturating_mul(1_000).checked_div(all).unwrap_or(0) as u16
}
