//! Policies by name: the strategies of `lb-core`, and a few that exist only to be compared with.

use std::fmt;
use std::sync::Arc;

use lb_core::Duration;
use lb_core::load::Ended;
use lb_core::pick::{Strategy, Tabled};
use lb_core::rng::Sfc32;

use crate::names::Unknown;
use crate::reference::{self, WeightedRotation};
use crate::strategies;
use crate::view::View;

/// What picks for one client of the simulated world. Every [`Strategy`] is one; put one with a table into [`Kept`].
pub trait Picker: Send {
    /// A server, or `None` if none is admitted.
    fn choose(&mut self, view: &View<'_>, key: Option<u64>, rng: &mut Sfc32) -> Option<usize>;

    /// Servers came, left or changed: called before the first pick and whenever the pool's version has changed.
    fn renew(&mut self, view: &View<'_>) {
        let _ = view;
    }

    /// A request to a server ended, so long after it began: for policies that keep counts of their own.
    fn ended(&mut self, server: usize, after: Duration, ended: Ended) {
        let _ = (server, after, ended);
    }
}

impl<S: Strategy + Send> Picker for S {
    fn choose(&mut self, view: &View<'_>, key: Option<u64>, rng: &mut Sfc32) -> Option<usize> {
        self.pick(view, key, rng)
    }

    fn ended(&mut self, server: usize, _: Duration, _: Ended) {
        Strategy::ended(self, server);
    }
}

/// A strategy with a table, which is built anew whenever servers come or leave.
#[derive(Clone, Debug)]
pub struct Kept<S>(pub S);

impl<S: Strategy + Tabled + Send> Picker for Kept<S> {
    fn choose(&mut self, view: &View<'_>, key: Option<u64>, rng: &mut Sfc32) -> Option<usize> {
        self.0.pick(view, key, rng)
    }

    fn ended(&mut self, server: usize, _: Duration, _: Ended) {
        self.0.ended(server);
    }

    fn renew(&mut self, view: &View<'_>) {
        while !self.0.update(view, u32::MAX) {}
    }
}

/// What a picker may know of the world it is made for.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The true speeds of the servers. Only policies for comparison may look at them.
    pub speeds: &'a [f64],
    /// How many clients there are.
    pub clients: usize,
    /// Another one for every client, the same in every run with the same seed.
    pub seed: u64,
}

type Make = dyn Fn(&Setup<'_>) -> Box<dyn Picker> + Send + Sync;

/// A policy under test: a name, and how to make the picker of each client.
///
/// One under research is a type that implements [`Strategy`]:
///
/// ```
/// use lb_core::pick::{Pool, Strategy};
/// use lb_core::rng::Rng;
/// use lb_sim::{Policy, Scenario, run};
///
/// /// The first server there is.
/// #[derive(Default)]
/// struct First;
///
/// impl Strategy for First {
///     fn pick<P: Pool + ?Sized, R: Rng + ?Sized>(&mut self, pool: &P, _: Option<u64>, _: &mut R) -> Option<usize> {
///         pool.slots().find(|&slot| pool.admits(slot))
///     }
/// }
///
/// let scenario = Scenario { speeds: vec![1.0; 2], load: 0.3, requests: 2_000, ..Scenario::default() };
/// let outcome = run(&scenario, &Policy::of("first", First::default), 1);
/// assert_eq!(outcome.shares()[0], 1.0);
/// ```
#[derive(Clone)]
pub struct Policy {
    name: String,
    reference: bool,
    reads_reports: bool,
    reads_latency: bool,
    make: Arc<Make>,
}

impl Policy {
    /// A policy with a strategy of its own for every client.
    pub fn of<S, F>(name: &str, make: F) -> Self
    where
        S: Picker + 'static,
        F: Fn() -> S + Send + Sync + 'static,
    {
        Self::made(name, move |_| Box::new(make()))
    }

    /// A policy whose pickers depend on the world.
    pub fn made(name: &str, make: impl Fn(&Setup<'_>) -> Box<dyn Picker> + Send + Sync + 'static) -> Self {
        Self {
            name: name.to_owned(),
            reference: false,
            reads_reports: true,
            reads_latency: true,
            make: Arc::new(make),
        }
    }

    /// It exists only to be compared with.
    #[must_use]
    fn reference(mut self) -> Self {
        self.reference = true;
        self
    }

    /// It picks the same whatever servers report, so that no report need be made for it.
    #[must_use]
    pub fn without_reports(mut self) -> Self {
        self.reads_reports = false;
        self
    }

    /// It picks the same however long its requests take, so that nobody need measure it.
    #[must_use]
    pub fn without_latency(mut self) -> Self {
        self.reads_latency = false;
        self
    }

    /// The same, but given everything there is to read.
    #[cfg(test)]
    pub(crate) fn reading_all(&self) -> Self {
        Self {
            reads_reports: true,
            reads_latency: true,
            ..self.clone()
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it exists only to be compared with.
    #[must_use]
    pub const fn is_reference(&self) -> bool {
        self.reference
    }

    /// Whether it looks at what servers report.
    #[must_use]
    pub const fn reads_reports(&self) -> bool {
        self.reads_reports
    }

    /// Whether it looks at how long its own requests took, or failed.
    #[must_use]
    pub const fn reads_latency(&self) -> bool {
        self.reads_latency
    }

    /// A picker for one client.
    #[must_use]
    pub fn picker(&self, setup: &Setup<'_>) -> Box<dyn Picker> {
        (self.make)(setup)
    }

    /// Every policy that has a name: the strategies of `lb-core`, then those for comparison.
    #[must_use]
    pub fn all() -> Vec<Self> {
        strategies::all().into_iter().chain(Self::references()).collect()
    }

    /// All but the affine ones: requests here have no keys, and without they only pick at random.
    #[must_use]
    pub fn usual() -> Vec<Self> {
        let mut all = Self::all();
        all.retain(|policy| !strategies::is_affine(&policy.name));
        all
    }

    fn references() -> Vec<Self> {
        let least_own = Self::of("least-own", || reference::LeastOwn).without_reports();
        let rotation = Self::made("weighted-rotation", |setup| {
            Box::new(WeightedRotation::new(setup.speeds))
        });
        let all = [
            Self::of("least-reported", || reference::LeastReported),
            Self::of("delta", || reference::Delta),
            Self::of("fastest-own", reference::FastestOwn::default).without_reports(),
            least_own,
            rotation.without_reports(),
        ];
        all.map(|policy| policy.reference().without_latency()).to_vec()
    }

    /// The policies with these names.
    ///
    /// # Errors
    /// [`Unknown`], with all names there are.
    pub fn find<S: AsRef<str>>(names: &[S]) -> Result<Vec<Self>, Unknown> {
        let all = Self::all();
        let find = |name: &S| {
            let policy = all.iter().find(|policy| policy.name == name.as_ref());
            policy.cloned().ok_or_else(|| Unknown {
                kind: "policy",
                name: name.as_ref().to_owned(),
                known: all.iter().map(|policy| policy.name.clone()).collect(),
            })
        };
        names.iter().map(find).collect()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Policy").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_told_all_names() {
        let error = Policy::find(&["random", "best"]).unwrap_err().to_string();
        assert!(error.contains("unknown policy 'best'"), "{error}");
        assert!(
            error.contains("corrected") && error.contains("least-reported"),
            "{error}"
        );
    }
}
