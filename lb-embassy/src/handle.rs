//! What tasks use an edge with.

use core::fmt;
use core::future::poll_fn;

use lb_core::edge::{Choice, Counters, PickError, ServerView, Status};
use lb_core::load::LoadReport;
use lb_core::member::{Filter, TagsError};

use crate::call::Call;
use crate::clock;
use crate::storage::{Shared, Storage};

/// Uses an [`crate::Edge`] from any task. Copy it to wherever it is needed.
pub struct EdgeHandle<'a, S: Storage> {
    shared: &'a S::Shared,
}

impl<'a, S: Storage> EdgeHandle<'a, S> {
    pub(crate) const fn new(shared: &'a S::Shared) -> Self {
        Self { shared }
    }

    /// Calls a method of the server that is best at the moment, and of another one if that fails, until there is an
    /// answer or the time is over. While no server is known, or as many calls as there is room for are under way, it
    /// waits.
    ///
    /// `body` is the request, up to what a datagram takes; it stays where it is until the call is over. The answer is
    /// written to `out`. [`Call::filter`] and [`Call::no_fail_over`] are to be said before awaiting.
    pub fn call<'b>(
        &self,
        method: &'b str,
        body: &'b [u8],
        out: &'b mut [u8],
        within: embassy_time::Duration,
    ) -> Call<'a, 'b, S> {
        Call::new(self.shared, method, body, out, clock::span(within))
    }

    /// Waits until a server has confirmed a session.
    pub async fn wait_attached(&self) {
        poll_fn(|cx| self.shared.poll_attached(cx)).await;
    }

    /// Which server would be called now, and why. Looks only.
    ///
    /// # Errors
    /// [`PickError`] saying what is missing.
    pub fn pick(&self, filter: &Filter) -> Result<Choice, PickError> {
        self.shared.pick(filter)
    }

    /// How the edge is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.counters()
    }

    /// The servers it knows, in no particular order; the age of a load is as of [`crate::now`]. One that comes or goes meanwhile may be missed or told twice.
    pub fn servers(&self) -> impl Iterator<Item = ServerView> + use<'a, S> {
        let shared = self.shared;
        (0..).map_while(|index| shared.server(index))
    }

    /// States the edge's own load, which rides on its next messages.
    pub fn set_load(&self, load: LoadReport) {
        self.shared.set_load(load);
    }

    /// Changes the edge's own tags, in the form `zone=a,kind=sensor`, and tells its servers.
    ///
    /// # Errors
    /// [`TagsError`]: what is wrong with them, or that they are longer than `TAGS`. Nothing changed.
    pub fn set_tags(&self, tags: &str) -> Result<(), TagsError> {
        self.shared.set_tags(tags)
    }

    /// Says goodbye to the servers. The edge does nothing any more, for good.
    pub fn leave(&self) {
        self.shared.leave();
    }
}

impl<S: Storage> Clone for EdgeHandle<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: Storage> Copy for EdgeHandle<'_, S> {}

impl<S: Storage> fmt::Debug for EdgeHandle<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeHandle").finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<S: Storage> defmt::Format for EdgeHandle<'_, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "EdgeHandle");
    }
}
