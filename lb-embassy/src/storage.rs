//! The memory of an edge, owned by the caller.

use core::cell::RefCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::task::{Context, Poll};

use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::RawMutex;
use lb_core::Instant;
use lb_core::edge::{Checked, Choice, Counters, DATAGRAM_BYTES_MIN, PickError, ServerView, Status};
use lb_core::load::LoadReport;
use lb_core::member::{Filter, Tags, TagsError};
use lb_core::wire::seal::{ChaCha20Poly1305, Cipher};

use crate::call::{Answer, Asked, CallError};
use crate::clock;
use crate::socket::{SocketBuffers, SocketSlices};
use crate::state::{Core, State};

/// All the memory of an [`crate::Edge`], usually in a `StaticCell`.
///
/// | parameter | is | drives |
/// | --- | --- | --- |
/// | `M` | the mutex between the task and its handles | `NoopRawMutex` while all of them are on one executor |
/// | `SERVERS` | servers known at once, at least the seeds | what the cluster may recommend |
/// | `SESSIONS` | sessions at once, at most `SERVERS` | how many servers share the load: 2 or more |
/// | `CALLS` | calls under way at once | further calls wait for a place |
/// | `TAGS` | bytes of tags for each server, and for the edge itself | what filters can see |
/// | `DATAGRAM` | bytes of the largest datagram, 256 or more | the largest request and response; taken four times |
///
/// A `CriticalSectionRawMutex` lets handles be used from interrupts and other executors, but interrupts are then
/// disabled while a datagram is sealed or opened, which takes up to a millisecond on a small core.
pub struct EdgeStorage<
    M: RawMutex,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher = ChaCha20Poly1305,
> {
    /// Not an `Option`: its `None` is not all zeros, so that unused storage would be in flash instead of `.bss`. The state
    /// is there for good, as the `StaticCell` around it is.
    shared: MaybeUninit<<Self as sealed::Storage>::Shared>,
    socket: SocketBuffers<DATAGRAM>,
}

impl<
    M: RawMutex,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>
{
    pub(crate) const DATAGRAM_BYTES: u16 = {
        assert!(
            DATAGRAM >= DATAGRAM_BYTES_MIN as usize && DATAGRAM <= u16::MAX as usize,
            "DATAGRAM must be at least DATAGRAM_BYTES_MIN and at most 65 535 bytes"
        );
        DATAGRAM as u16
    };

    /// Storage that is not in use yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            shared: MaybeUninit::uninit(),
            socket: SocketBuffers::new(),
        }
    }

    pub(crate) fn fill(
        &mut self,
        now: Instant,
        config: Checked<TAGS>,
    ) -> (&<Self as sealed::Storage>::Shared, SocketSlices<'_>) {
        let state = State::new(Core::new(now, config));
        let shared = self.shared.write(Mutex::new(RefCell::new(state)));
        (shared, self.socket.slices())
    }
}

impl<
    M: RawMutex,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> Default for EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<
    M: RawMutex,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> fmt::Debug for EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EdgeStorage").finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<
    M: RawMutex,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> defmt::Format for EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>
{
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "EdgeStorage");
    }
}

/// [`EdgeStorage`] of any size, so that the types of edges and handles need not repeat its parameters.
pub trait Storage: sealed::Storage {}

impl<
    M: RawMutex,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> Storage for EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>
{
}

mod sealed {
    pub trait Storage {
        type Shared: super::Shared;
    }
}

impl<
    M: RawMutex,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> sealed::Storage for EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>
{
    type Shared = Mutex<M, RefCell<State<SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>>>;
}

/// The state under its lock, whatever its size. Nothing that is done under the lock calls the user's code.
pub trait Shared {
    fn poll_call(&self, asked: &mut Asked<'_>, cx: &mut Context<'_>) -> Poll<Result<Answer, CallError>>;
    fn give_up(&self, asked: &mut Asked<'_>);
    fn poll_attached(&self, cx: &mut Context<'_>) -> Poll<()>;
    fn pick(&self, filter: &Filter) -> Result<Choice, PickError>;
    fn status(&self) -> Status;
    fn counters(&self) -> Counters;
    fn server(&self, index: usize) -> Option<ServerView>;
    fn set_load(&self, load: LoadReport);
    fn set_tags(&self, tags: &str) -> Result<(), TagsError>;
    fn leave(&self);
}

impl<
    M: RawMutex,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> Shared for Mutex<M, RefCell<State<SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>>>
{
    fn poll_call(&self, asked: &mut Asked<'_>, cx: &mut Context<'_>) -> Poll<Result<Answer, CallError>> {
        with(self, |state| state.poll_call(clock::now(), asked, cx))
    }

    fn give_up(&self, asked: &mut Asked<'_>) {
        with(self, |state| state.give_up(clock::now(), asked));
    }

    fn poll_attached(&self, cx: &mut Context<'_>) -> Poll<()> {
        with(self, |state| {
            if state.core.status().attached {
                return Poll::Ready(());
            }
            state.wait(clock::now(), Instant::from_micros(u64::MAX), cx);
            Poll::Pending
        })
    }

    fn pick(&self, filter: &Filter) -> Result<Choice, PickError> {
        with(self, |state| state.core.pick(clock::now(), filter))
    }

    fn status(&self) -> Status {
        with(self, |state| state.core.status())
    }

    fn counters(&self) -> Counters {
        with(self, |state| *state.core.counters())
    }

    fn server(&self, index: usize) -> Option<ServerView> {
        with(self, |state| state.core.servers().nth(index))
    }

    fn set_load(&self, load: LoadReport) {
        with(self, |state| state.core.set_load(load));
    }

    fn set_tags(&self, tags: &str) -> Result<(), TagsError> {
        let tags = Tags::parse(tags)?;
        with(self, |state| {
            state.core.set_tags(clock::now(), tags);
            state.runner.wake();
        });
        Ok(())
    }

    fn leave(&self) {
        with(self, |state| {
            state.core.leave(clock::now());
            state.runner.wake();
            state.changed();
        });
    }
}

/// Runs `f` with the state.
pub(crate) fn with<S, M: RawMutex, R>(shared: &Mutex<M, RefCell<S>>, f: impl FnOnce(&mut S) -> R) -> R {
    shared.lock(|state| f(&mut state.borrow_mut()))
}
