//! Calling workers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lb_core::NodeId;
use lb_core::load::LoadReport;
use tokio::time::Instant;

use crate::cluster::{Cluster, Shared};
use crate::error::{CallError, SelectError};
use crate::frame::{self, Outcome, ReadError, RequestHeader, ResponseHeader, code};
use crate::registry::{Held, WorkerRegistry};
use crate::server::{BODY_BYTES_DEFAULT, METHOD_BYTES_MAX};
use crate::transport::DialError;

/// How long a call waits for a free stream before it takes the worker for saturated.
const STREAM_WAIT: Duration = Duration::from_secs(1);

/// For how long a worker without a free stream is passed over.
const SATURATED: lb_core::Duration = lb_core::Duration::from_millis(50);

/// Settings of a [`ClusterClient`].
///
/// ```
/// use std::time::Duration;
/// use lb_tokio::ClusterClientConfig;
/// let config = ClusterClientConfig::default().timeout(Duration::from_secs(2)).retries(2);
/// # let _ = config;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ClusterClientConfig {
    timeout: Duration,
    retries: u32,
    max_request: u32,
    max_response: u32,
}

impl Default for ClusterClientConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            retries: 1,
            max_request: BODY_BYTES_DEFAULT,
            max_response: BODY_BYTES_DEFAULT,
        }
    }
}

impl ClusterClientConfig {
    /// The time a call has, retries included. 30 s by default. It travels: the worker stops when it is over.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How often a call goes to another worker when one was gone before it answered, or shed the request.
    /// One by default. A worker that is gone may have done the work: with 0, a call is made at most once.
    pub const fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Largest request sent, in bytes; 4 MiB by default.
    pub const fn max_request(mut self, bytes: u32) -> Self {
        self.max_request = bytes;
        self
    }

    /// Largest response accepted, in bytes; 4 MiB by default.
    pub const fn max_response(mut self, bytes: u32) -> Self {
        self.max_response = bytes;
        self
    }
}

/// Calls workers picked by a [`WorkerRegistry`]. Clones share its connections and counts.
#[derive(Clone, Debug)]
pub struct ClusterClient {
    registry: WorkerRegistry,
    config: ClusterClientConfig,
}

/// How one attempt failed.
struct Failure {
    error: CallError,
    /// Another worker may answer.
    elsewhere: bool,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self {
            error,
            elsewhere: false,
        }
    }
}

impl ClusterClient {
    /// A client of these workers.
    #[must_use]
    pub fn new(registry: WorkerRegistry, config: ClusterClientConfig) -> Self {
        Self { registry, config }
    }

    /// The registry it picks from.
    #[must_use]
    pub fn registry(&self) -> &WorkerRegistry {
        &self.registry
    }

    /// Calls a method of a worker whose tags match the filter (`None`: any).
    ///
    /// The worker is picked, and the request counted there, before anything is awaited. Dropping the future
    /// cancels the call: the count is taken back and the worker's handler is dropped.
    ///
    /// # Errors
    /// [`CallError`]; its texts say what to do.
    pub async fn call_worker(
        &self,
        method: &str,
        request: impl Into<Bytes>,
        filter: Option<&str>,
    ) -> Result<Bytes, CallError> {
        let request = request.into();
        self.check(method, &request)?;
        let deadline = Instant::now() + self.config.timeout;
        let mut tried: Vec<NodeId> = Vec::new();
        let mut last = None;
        for _ in 0..=self.config.retries {
            let held = match self.registry.select(filter, &tried) {
                Ok(held) => held,
                // What the tried one said is more telling than that there is no other.
                Err(error) => return Err(last.unwrap_or(CallError::Select(error))),
            };
            tried.push(held.id);
            let attempt = attempt(held, method, &request, deadline, self.config.max_response);
            match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(Failure {
                    error,
                    elsewhere: true,
                })) => last = Some(error),
                Ok(Err(Failure { error, .. })) => return Err(self.named(error)),
                Err(_) => {
                    return Err(CallError::Deadline {
                        timeout: self.config.timeout,
                    });
                }
            }
        }
        Err(last.unwrap_or(CallError::Select(SelectError::NoWorkers)))
    }

    /// Calls a method of this worker and of no other: for a choice of your own, from
    /// [`WorkerRegistry::candidates`]. Made at most once, whatever the configured retries; otherwise as
    /// [`call_worker`](Self::call_worker).
    ///
    /// # Errors
    /// [`CallError`]; [`SelectError::NotThere`] in it when the worker is unknown, gone or draining.
    pub async fn call_node(
        &self,
        id: NodeId,
        method: &str,
        request: impl Into<Bytes>,
    ) -> Result<Bytes, CallError> {
        let request = request.into();
        self.check(method, &request)?;
        let deadline = Instant::now() + self.config.timeout;
        let held = self.registry.hold(id)?;
        let attempt = attempt(held, method, &request, deadline, self.config.max_response);
        match tokio::time::timeout_at(deadline, attempt).await {
            Ok(answer) => answer.map_err(|failure| self.named(failure.error)),
            Err(_) => Err(CallError::Deadline {
                timeout: self.config.timeout,
            }),
        }
    }

    fn check(&self, method: &str, request: &Bytes) -> Result<(), CallError> {
        if method.is_empty() || method.len() > METHOD_BYTES_MAX {
            return Err(CallError::MethodName);
        }
        let (size, limit) = (request.len() as u64, u64::from(self.config.max_request));
        if size > limit {
            return Err(CallError::RequestTooLarge { size, limit });
        }
        Ok(())
    }

    /// A deadline that passed on the worker is told as ours.
    fn named(&self, error: CallError) -> CallError {
        match error {
            CallError::Deadline { .. } => CallError::Deadline {
                timeout: self.config.timeout,
            },
            other => other,
        }
    }
}

/// One call to a particular node, which need not be a worker.
pub(crate) async fn call_node(
    cluster: &Cluster,
    id: NodeId,
    method: &str,
    timeout: Duration,
    max_response: u32,
) -> Result<Bytes, CallError> {
    let shared = cluster.shared();
    let addr = shared
        .lock()
        .node
        .peer(id)
        .and_then(|peer| peer.member.addr().socket());
    let deadline = Instant::now() + timeout;
    let nothing = Bytes::new();
    let call = exchange(shared, id, addr, method, &nothing, deadline, max_response);
    match tokio::time::timeout_at(deadline, call).await {
        Ok(Ok(Response { result, .. })) => result.map_err(|failure| failure.error),
        Ok(Err(failure)) => Err(failure.error),
        Err(_) => Err(CallError::Deadline { timeout }),
    }
}

/// One attempt at the worker that is held. The hold ends before the response's load is recorded, so that
/// this request is in neither side of the comparison.
async fn attempt(
    held: Held,
    method: &str,
    request: &Bytes,
    deadline: Instant,
    max_response: u32,
) -> Result<Bytes, Failure> {
    let (shared, id) = (Arc::clone(held.shared()), held.id);
    let result = exchange(&shared, id, held.addr, method, request, deadline, max_response).await;
    drop(held);
    let Response { load, result } = result?;
    shared.input(|state, now| {
        state.node.handle_response(now, id, load);
        if let Err(Failure {
            error: CallError::Overloaded { retry_after, .. },
            ..
        }) = &result
        {
            state.node.handle_overloaded(now, id, (*retry_after).into());
        }
    });
    result
}

/// What a worker answered, and its load when it did.
struct Response {
    load: LoadReport,
    result: Result<Bytes, Failure>,
}

async fn exchange(
    shared: &Arc<Shared>,
    id: NodeId,
    addr: Option<std::net::SocketAddr>,
    method: &str,
    request: &Bytes,
    deadline: Instant,
    max_response: u32,
) -> Result<Response, Failure> {
    let gone = |reason: String| Failure {
        error: CallError::Unreachable { id, reason },
        elsewhere: true,
    };
    let transport = shared.transport();
    let link = match (transport.current(id), addr) {
        (Some(link), _) => link,
        (None, None) => return Err(gone("no connection and no address".to_owned())),
        (None, Some(addr)) => transport.connect(id, addr).await.map_err(|error| match error {
            DialError::Identity(reason) => Failure {
                error: CallError::IdentityRefused { id, reason },
                elsewhere: true,
            },
            other => {
                shared.input(|state, now| state.node.handle_disconnect(now, id));
                gone(other.to_string())
            }
        })?,
    };
    let opening = link.open_call(transport.traffic_counters());
    let (_call, send, recv) = match tokio::time::timeout(STREAM_WAIT, opening).await {
        Ok(opened) => opened.map_err(|error| gone(error.to_string()))?,
        Err(_) => {
            shared.input(|state, now| state.node.handle_overloaded(now, id, SATURATED));
            let error = CallError::Overloaded {
                id,
                retry_after: SATURATED.into(),
            };
            return Err(Failure {
                error,
                elsewhere: true,
            });
        }
    };
    let mut sending = ResetOnDrop {
        send,
        finished: false,
    };
    let budget = deadline.saturating_duration_since(Instant::now());
    let header = frame::encode(&RequestHeader {
        budget_us: u64::try_from(budget.as_micros()).unwrap_or(u64::MAX),
        body_len: u32::try_from(request.len()).unwrap_or(u32::MAX),
        method,
    })
    .map_err(|_| CallError::MethodName)?;
    match sending
        .send
        .write_all_chunks(&mut [header.into(), request.clone()])
        .await
    {
        Ok(()) => sending.finished = sending.send.finish().is_ok(),
        // It answered without reading everything: hear what it says.
        Err(quinn::WriteError::Stopped(_)) => {}
        Err(error) => return Err(gone(error.to_string())),
    }
    read_response(recv, id, method, request, max_response).await
}

/// Resets a request that is not wholly sent, so that the worker does not take half of it for all.
struct ResetOnDrop {
    send: quinn::SendStream,
    finished: bool,
}

impl Drop for ResetOnDrop {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.send.reset(code::CANCELLED);
        }
    }
}

async fn read_response(
    mut recv: quinn::RecvStream,
    id: NodeId,
    method: &str,
    request: &Bytes,
    max_response: u32,
) -> Result<Response, Failure> {
    let failed = |error: ReadError| match error {
        ReadError::Stream(quinn::ReadExactError::ReadError(quinn::ReadError::Reset(reset)))
            if reset == code::PANICKED =>
        {
            CallError::Handler {
                id,
                message: "the handler panicked".to_owned(),
            }
            .into()
        }
        ReadError::Stream(error) => Failure {
            error: CallError::Unreachable {
                id,
                reason: format!("gone before it answered: {error}"),
            },
            elsewhere: true,
        },
        ReadError::Malformed(reason) => CallError::Protocol { id, reason }.into(),
        ReadError::TooLarge { size, limit } => CallError::ResponseTooLarge { size, limit }.into(),
    };
    let header = frame::read_header(&mut recv).await.map_err(failed)?;
    let header: ResponseHeader = frame::decode(&header).map_err(failed)?;
    let body = frame::read_body(&mut recv, header.body_len, max_response)
        .await
        .map_err(failed)?;
    let elsewhere = |error| Failure {
        error,
        elsewhere: true,
    };
    let failure = match header.outcome {
        Outcome::Ok => {
            return Ok(Response {
                load: header.load,
                result: Ok(body),
            });
        }
        Outcome::Handler => {
            let message = String::from_utf8_lossy(&body).into_owned();
            CallError::Handler { id, message }.into()
        }
        Outcome::UnknownMethod => CallError::UnknownMethod {
            id,
            method: method.to_owned(),
        }
        .into(),
        Outcome::Overloaded { retry_after_us } => {
            let retry_after = Duration::from_micros(retry_after_us.into());
            elsewhere(CallError::Overloaded { id, retry_after })
        }
        Outcome::Deadline => CallError::Deadline {
            timeout: Duration::ZERO,
        }
        .into(),
        Outcome::RequestTooLarge { limit } => {
            let (size, limit) = (request.len() as u64, u64::from(limit));
            CallError::RequestTooLarge { size, limit }.into()
        }
        Outcome::ResponseTooLarge { size, limit } => CallError::ResponseTooLarge {
            size,
            limit: limit.into(),
        }
        .into(),
        Outcome::Leaving => elsewhere(CallError::Unreachable {
            id,
            reason: "it is leaving the cluster".to_owned(),
        }),
    };
    Ok(Response {
        load: header.load,
        result: Err(failure),
    })
}
