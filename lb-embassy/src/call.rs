//! A call, as the future that makes it.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use lb_core::edge::{self, CallId, CallPoll, Outgoing, PickError, Refusal};
use lb_core::member::Filter;
use lb_core::wire::seal::{Cipher, OVERHEAD_BYTES};
use lb_core::wire::{METHOD_BYTES_MAX, RESPONSE_OVERHEAD_MAX};
use lb_core::{Duration, Instant, NodeId};

use crate::clock;
use crate::state::{Delivery, State};
use crate::storage::{Shared, Storage};

/// Who waits and found no place among the wakers looks again after this time.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(20);

static EVERYTHING: Filter = Filter::everything();

/// An answered call. What was answered is in the buffer given for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Answer {
    /// How many bytes.
    pub len: usize,
    /// Who answered.
    pub server: NodeId,
}

/// A call that came to nothing. It is over and its place is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum CallError {
    /// No answer in time. A server may or may not have done the work.
    Deadline,
    /// No server could be asked in time: nothing was sent. Says what was missing last.
    NoServer(PickError),
    /// All the time there were `CALLS` others under way: make `CALLS` larger, or call less at once.
    Busy,
    /// The handler refused. Its text is in the buffer, cut off if that is shorter.
    Handler {
        /// How many bytes of the buffer are text.
        len: usize,
    },
    /// The server has no such method: look at the name, or use a filter.
    UnknownMethod,
    /// The request is too long for a datagram, or for the server. It was not executed.
    RequestTooLarge {
        /// The longest request in bytes.
        limit: u32,
    },
    /// The answer does not fit into the buffer or a datagram. The work is done.
    ResponseTooLarge {
        /// The answer's size in bytes.
        size: u32,
    },
    /// The server cannot tell whether it did the work before, and the call was not to go elsewhere.
    Forgotten,
    /// A method has 1 to [`METHOD_BYTES_MAX`] bytes; nothing was sent.
    Method,
    /// The answer came and nobody polled the future, so it had to go: poll a call until it is ready, or drop it.
    NotPolled,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline => f.write_str("no answer within the deadline"),
            Self::NoServer(reason) => write!(f, "no server within the deadline: {reason}"),
            Self::Busy => f.write_str("too many calls at once: wait for one, or use a larger CALLS"),
            Self::Handler { .. } => f.write_str("the handler refused: its text is in the buffer"),
            Self::UnknownMethod => f.write_str("the server has no such method"),
            Self::RequestTooLarge { limit } => {
                write!(f, "the request is longer than {limit} bytes: split it")
            }
            Self::ResponseTooLarge { size } => {
                write!(
                    f,
                    "the answer has {size} bytes: give a larger buffer, up to a datagram"
                )
            }
            Self::Forgotten => f.write_str("the server cannot tell whether it did this before"),
            Self::Method => write!(f, "a method has 1 to {METHOD_BYTES_MAX} bytes"),
            Self::NotPolled => f.write_str("the answer was lost: the call was not polled"),
        }
    }
}

impl core::error::Error for CallError {}

impl From<edge::CallError> for CallError {
    fn from(error: edge::CallError) -> Self {
        match error {
            edge::CallError::NoServer(reason) => Self::NoServer(reason),
            edge::CallError::TooLong { limit } => Self::RequestTooLarge {
                limit: u32::try_from(limit).unwrap_or(u32::MAX),
            },
            edge::CallError::Method => Self::Method,
            // Only the task ends a call behind its future's back.
            edge::CallError::Over => Self::NotPolled,
            edge::CallError::Forgotten => Self::Forgotten,
            edge::CallError::Deadline => Self::Deadline,
        }
    }
}

/// What became of a call, but for its bytes; those are given beside it.
pub(crate) type Outcome = Result<(), CallError>;

pub(crate) fn outcome<'a>(result: Result<&'a [u8], Refusal<'a>>) -> (Outcome, &'a [u8]) {
    let refusal = match result {
        Ok(bytes) => return (Ok(()), bytes),
        Err(Refusal::Handler(text)) => return (Err(CallError::Handler { len: 0 }), text),
        Err(Refusal::UnknownMethod) => CallError::UnknownMethod,
        Err(Refusal::Deadline) => CallError::Deadline,
        Err(Refusal::RequestTooLarge { limit }) => CallError::RequestTooLarge { limit },
        Err(Refusal::ResponseTooLarge { size }) => CallError::ResponseTooLarge { size },
        Err(Refusal::Forgotten) => CallError::Forgotten,
    };
    (Err(refusal), &[])
}

/// A call under way: await it. Made by [`crate::EdgeHandle::call`].
///
/// It begins when it is first polled. Dropping it at any point gives it up: the server is told, and the place is free.
/// One that is not polled keeps its place, and loses the answer if that comes meanwhile.
#[must_use = "a call does nothing unless it is awaited"]
pub struct Call<'a, 'b, S: Storage> {
    shared: &'a S::Shared,
    asked: Asked<'b>,
}

/// What is asked, and how far it has come.
#[derive(Debug)]
pub struct Asked<'b> {
    pub(crate) method: &'b str,
    pub(crate) body: &'b [u8],
    pub(crate) out: &'b mut [u8],
    pub(crate) filter: &'b Filter,
    pub(crate) fail_over: bool,
    pub(crate) within: Duration,
    /// From the first poll on.
    deadline: Option<Instant>,
    /// While it stands in line for a place.
    number: Option<u32>,
    /// While it has a place.
    id: Option<CallId>,
}

impl<'a, 'b, S: Storage> Call<'a, 'b, S> {
    pub(crate) const fn new(
        shared: &'a S::Shared,
        method: &'b str,
        body: &'b [u8],
        out: &'b mut [u8],
        within: Duration,
    ) -> Self {
        Self {
            shared,
            asked: Asked {
                method,
                body,
                out,
                filter: &EVERYTHING,
                fail_over: true,
                within,
                deadline: None,
                number: None,
                id: None,
            },
        }
    }

    /// Asks only servers whose tags match.
    pub const fn filter(mut self, filter: &'b Filter) -> Self {
        self.asked.filter = filter;
        self
    }

    /// Asks no second server unless it is certain that the first one did not do the work. For work that must not be
    /// done twice.
    pub const fn no_fail_over(mut self) -> Self {
        self.asked.fail_over = false;
        self
    }
}

impl<S: Storage> Future for Call<'_, '_, S> {
    type Output = Result<Answer, CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.shared.poll_call(&mut this.asked, cx)
    }
}

impl<S: Storage> Drop for Call<'_, '_, S> {
    fn drop(&mut self) {
        if self.asked.id.is_some() || self.asked.number.is_some() {
            self.shared.give_up(&mut self.asked);
        }
    }
}

impl<S: Storage> fmt::Debug for Call<'_, '_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.asked.method)
            .field("id", &self.asked.id)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<S: Storage> defmt::Format for Call<'_, '_, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "Call {{ method: {}, id: {} }}",
            self.asked.method,
            self.asked.id
        );
    }
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
    const RESPONSE_MAX: usize = DATAGRAM.saturating_sub(OVERHEAD_BYTES + RESPONSE_OVERHEAD_MAX);

    pub(crate) fn poll_call(
        &mut self,
        now: Instant,
        asked: &mut Asked<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Answer, CallError>> {
        let deadline = *asked
            .deadline
            .get_or_insert_with(|| now.saturating_add(asked.within));
        let id = match asked.id {
            Some(id) => id,
            None => match self.begin(now, deadline, asked) {
                Some(id) => *asked.id.insert(id),
                None if now >= deadline => {
                    self.leave_line(asked);
                    return Poll::Ready(Err(CallError::Busy));
                }
                None => {
                    self.wait(now, deadline, cx);
                    return Poll::Pending;
                }
            },
        };
        let over = if let Some(delivery) = self.inbox.take_if(|delivery| delivery.call == id) {
            Some(self.take(&delivery, asked.out))
        } else {
            self.bring_forward(now, id, deadline, asked, cx).map(Err)
        };
        match over {
            Some(result) => {
                asked.id = None;
                self.end(now, id);
                Poll::Ready(result)
            }
            None => Poll::Pending,
        }
    }

    /// Takes a place if it is the call's turn; otherwise it stands in line.
    fn begin(&mut self, now: Instant, deadline: Instant, asked: &mut Asked<'_>) -> Option<CallId> {
        let turn = match asked.number {
            Some(number) => self.line.is_first(number),
            None => self.line.is_empty(),
        };
        let budget = deadline.since(now);
        if turn && let Ok(id) = self.core.call(now, budget, asked.fail_over) {
            self.leave_line(asked);
            return Some(id);
        }
        if asked.number.is_none() {
            asked.number = self.line.join();
        }
        None
    }

    fn leave_line(&mut self, asked: &mut Asked<'_>) {
        if let Some(number) = asked.number.take() {
            self.line.leave(number);
            // There may be a place for the next one, too.
            self.waiters.wake();
        }
    }

    /// The future is dropped.
    pub(crate) fn give_up(&mut self, now: Instant, asked: &mut Asked<'_>) {
        self.leave_line(asked);
        if let Some(id) = asked.id.take() {
            self.end(now, id);
        }
    }

    /// Gives the call's place back; if nobody answered, its server will be told.
    pub(crate) fn end(&mut self, now: Instant, id: CallId) {
        self.inbox.take_if(|delivery| delivery.call == id);
        self.core.finish(now, id);
        self.runner.wake();
        // Whoever waited with this call's future has no place here any more.
        self.changed();
    }

    /// Waits for a change, not for an answer.
    pub(crate) fn wait(&mut self, now: Instant, until: Instant, cx: &mut Context<'_>) {
        let registered = self.waiters.register(cx.waker());
        sleep(now, until, registered, cx);
    }

    /// Copies an answer from where it was received to where it is wanted.
    fn take(&self, delivery: &Delivery, out: &mut [u8]) -> Result<Answer, CallError> {
        let bytes = self.received.get(delivery.start..).unwrap_or_default();
        let bytes = bytes.get(..delivery.len).unwrap_or_default();
        let len = bytes.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        match delivery.outcome {
            Ok(()) if len < bytes.len() => Err(CallError::ResponseTooLarge {
                size: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            }),
            Ok(()) => Ok(Answer {
                len,
                server: delivery.server,
            }),
            Err(CallError::Handler { .. }) => Err(CallError::Handler { len }),
            Err(error) => Err(error),
        }
    }

    /// Has the core do what is to be done for the call; an error ends it.
    fn bring_forward(
        &mut self,
        now: Instant,
        id: CallId,
        deadline: Instant,
        asked: &Asked<'_>,
        cx: &mut Context<'_>,
    ) -> Option<CallError> {
        let mut wake_at = deadline;
        // Without room for a datagram the core cannot be asked; it is when there is.
        if self.outbox.is_none() {
            let outgoing = Outgoing {
                method: asked.method,
                body: asked.body,
                response_max: u16::try_from(asked.out.len().min(Self::RESPONSE_MAX)).unwrap_or(u16::MAX),
                filter: asked.filter,
            };
            match self.core.poll_call(now, id, &outgoing, &mut self.sealed) {
                CallPoll::Transmit(transmit) => {
                    self.outbox = Some(transmit);
                    self.runner.wake();
                }
                CallPoll::Wait(until) => wake_at = until,
                CallPoll::Failed(error) => return Some(error.into()),
            }
        }
        if now >= deadline {
            return Some(CallError::Deadline);
        }
        let registered = self.callers.register(cx.waker());
        sleep(now, wake_at, registered, cx);
        None
    }
}

/// Until then, or for a short while if nobody will wake it.
fn sleep(now: Instant, until: Instant, registered: bool, cx: &mut Context<'_>) {
    let look_again = now.saturating_add(LOOK_AGAIN);
    clock::wake_at(cx, if registered { until } else { until.min(look_again) });
}
