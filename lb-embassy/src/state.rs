//! What the task and the handles share.

use embassy_sync::waitqueue::WakerRegistration;
use lb_core::edge::{self, CallId, Transmit};
use lb_core::wire::seal::Cipher;
use lb_core::{Instant, NodeId};

use crate::call::Outcome;
use crate::line::Line;
use crate::wakers::Wakers;

/// Tasks that wait for something other than an answer: to be attached, or for a place for a call. One more looks again
/// every [`crate::call::LOOK_AGAIN`].
const WAITERS: usize = 4;

pub(crate) type Core<const SERVERS: usize, const SESSIONS: usize, const CALLS: usize, const TAGS: usize, C> =
    edge::Edge<SERVERS, SESSIONS, CALLS, TAGS, C>;

/// The core, one datagram each way, and who waits.
///
/// It is consistent whenever its lock is free, so a future that is dropped leaves at most a datagram that nobody takes.
#[expect(missing_debug_implementations, reason = "it cannot be named outside")]
pub struct State<
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> {
    pub(crate) core: Core<SERVERS, SESSIONS, CALLS, TAGS, C>,
    /// What `inbox` speaks of, in the clear.
    pub(crate) received: [u8; DATAGRAM],
    /// The answer in `received` that its call has not taken yet. Nothing else is received meanwhile.
    pub(crate) inbox: Option<Delivery>,
    /// What `outbox` speaks of, sealed.
    pub(crate) sealed: [u8; DATAGRAM],
    /// The datagram in `sealed` that the task has not sent yet.
    pub(crate) outbox: Option<Transmit>,
    /// When the core was last told that something is due.
    pub(crate) kept: Instant,
    /// The task.
    pub(crate) runner: WakerRegistration,
    /// The calls under way. There are as many places as calls.
    pub(crate) callers: Wakers<CALLS>,
    pub(crate) waiters: Wakers<WAITERS>,
    /// The calls that wait for a place.
    pub(crate) line: Line,
}

/// An answer on its way from the receive buffer to the call's own.
pub(crate) struct Delivery {
    pub(crate) call: CallId,
    pub(crate) server: NodeId,
    pub(crate) outcome: Outcome,
    /// Where in `received` its bytes are.
    pub(crate) start: usize,
    pub(crate) len: usize,
    /// By then it is to be taken.
    pub(crate) until: Instant,
    /// Its call was woken once more, because nothing was polled meanwhile and that may not be the call's fault.
    pub(crate) reminded: bool,
}

impl<
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> State<SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>
{
    // Inlined, so that it is made where it is to be.
    #[inline(always)]
    pub(crate) const fn new(core: Core<SERVERS, SESSIONS, CALLS, TAGS, C>) -> Self {
        Self {
            core,
            received: [0; DATAGRAM],
            inbox: None,
            sealed: [0; DATAGRAM],
            outbox: None,
            kept: Instant::ZERO,
            runner: WakerRegistration::new(),
            callers: Wakers::new(),
            waiters: Wakers::new(),
            line: Line::new(),
        }
    }

    /// The core had an input: whoever waits looks what has become of it.
    pub(crate) fn changed(&mut self) {
        self.callers.wake();
        self.waiters.wake();
    }
}
