//! The memory of an edge, owned by the caller.

use core::cell::RefCell;
use core::fmt;

use embassy_sync::blocking_mutex::Mutex;
use embassy_sync::blocking_mutex::raw::RawMutex;
use lb_core::edge::DATAGRAM_BYTES_MIN;
use lb_core::wire::seal::{ChaCha20Poly1305, Cipher};

use crate::socket::{SocketBuffers, SocketSlices};
use crate::state::{Core, Shared, State};

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
    shared: Option<Shared<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>>,
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
            shared: None,
            socket: SocketBuffers::new(),
        }
    }

    pub(crate) fn fill(
        &mut self,
        core: Core<SERVERS, SESSIONS, CALLS, TAGS, C>,
    ) -> (
        &Shared<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>,
        SocketSlices<'_>,
    ) {
        let shared = self.shared.insert(Mutex::new(RefCell::new(State::new(core))));
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
        f.debug_struct("EdgeStorage")
            .field("used", &self.shared.is_some())
            .finish_non_exhaustive()
    }
}

mod sealed {
    pub trait Sealed {
        type Shared;
    }
}

/// [`EdgeStorage`] of any size, so that the types of edges and handles need not repeat its parameters.
pub trait Storage: sealed::Sealed {}

impl<
    M: RawMutex,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> sealed::Sealed for EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>
{
    type Shared = Shared<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>;
}

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

pub(crate) use sealed::Sealed;
