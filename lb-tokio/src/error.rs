//! Why a worker could not be selected or called. Every text says what to do.

use std::net::SocketAddr;
use std::time::Duration;

use lb_core::NodeId;
use lb_core::member::FilterError;

/// No worker could be selected. Nothing was sent and nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// The filter does not compile.
    #[error("filter: {0}")]
    Filter(#[from] FilterError),
    /// No worker is alive and takes requests.
    #[error("no workers: none is alive and open; start one or check the seeds")]
    NoWorkers,
    /// There are workers, but none with matching tags.
    #[error("no worker matches the filter {filter:?}: check the tags of the workers")]
    NoMatch {
        /// The filter.
        filter: String,
    },
    /// Every matching worker was tried already.
    #[error("every matching worker was tried already")]
    AllTried,
    /// Every matching worker is full.
    #[error("all workers at capacity: retry later or add workers")]
    AllAtCapacity,
    /// The node asked for by id is no worker that could be called.
    #[error("node {id} is no worker that takes requests: unknown, gone or draining; choose another")]
    NotThere {
        /// The node asked for.
        id: NodeId,
    },
    /// The one worker that would do cannot be picked now, and no other was allowed.
    #[error(
        "worker {id} cannot be picked: unknown, gone, full, excluded or not matching; allow others or retry later"
    )]
    Unavailable {
        /// The worker asked for.
        id: NodeId,
    },
}

/// A call that got no answer, or not the one hoped for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No worker could be selected; nothing was sent.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The deadline passed. The worker may or may not have done the work.
    #[error("no answer within the deadline of {timeout:?}: raise the timeout or find out what is slow")]
    Deadline {
        /// The time the call had.
        timeout: Duration,
    },
    /// The handler answered with an error.
    #[error("worker {id}: handler error: {message}")]
    Handler {
        /// Which worker.
        id: NodeId,
        /// What the handler said.
        message: String,
    },
    /// The worker has no handler of that name.
    #[error("worker {id} has no method {method:?}: check the name, or the filter that chose this worker")]
    UnknownMethod {
        /// Which worker.
        id: NodeId,
        /// The method asked for.
        method: String,
    },
    /// The worker sheds load, and so did every other one that was tried.
    #[error("worker {id} is at its concurrency limit: retry in {retry_after:?} or add workers")]
    Overloaded {
        /// The last worker that refused.
        id: NodeId,
        /// When it expects to have a place.
        retry_after: Duration,
    },
    /// The request is larger than this client or the worker accepts.
    #[error("request of {size} bytes is larger than the limit of {limit}: split it or raise max_request")]
    RequestTooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The response is larger than this client or the worker accepts.
    #[error("response of {size} bytes is larger than the limit of {limit}: raise max_response")]
    ResponseTooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// One side did not accept the other's certificate.
    #[error("node {id}: TLS identity refused: {reason}; check that both certificates are of one cluster")]
    IdentityRefused {
        /// Which node was dialled.
        id: NodeId,
        /// What TLS said.
        reason: String,
    },
    /// The worker could not be reached, or was gone before it answered, and so was every other one tried.
    #[error("worker {id} is unreachable: {reason}")]
    Unreachable {
        /// The last worker tried.
        id: NodeId,
        /// What happened.
        reason: String,
    },
    /// The worker answered with something that is no response.
    #[error("worker {id} broke the protocol: {reason}")]
    Protocol {
        /// Which worker.
        id: NodeId,
        /// What was wrong.
        reason: &'static str,
    },
    /// The name of the method is empty or longer than [`METHOD_BYTES_MAX`](crate::server::METHOD_BYTES_MAX).
    #[error("a method name has 1 to {} bytes", crate::server::METHOD_BYTES_MAX)]
    MethodName,
}

/// The cluster was not joined in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The filter does not compile.
    #[error("filter: {0}")]
    Filter(#[from] FilterError),
    /// Too few workers appeared.
    #[error("{found} of {wanted} workers after {within:?}: start more, or check the seeds and the tags")]
    TooFew {
        /// How many are there.
        found: usize,
        /// How many were asked for.
        wanted: usize,
        /// How long was waited.
        within: Duration,
    },
    /// Nobody appeared, and dialling a seed failed.
    #[error("no workers after {within:?}: seed {seed}: {reason}")]
    Seed {
        /// The seed that failed last.
        seed: SocketAddr,
        /// Why.
        reason: String,
        /// How long was waited.
        within: Duration,
    },
}
