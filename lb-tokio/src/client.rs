//! Calling workers.

use std::time::Duration;

use bytes::Bytes;
use lb_core::NodeId;
use lb_core::load::Ended;
use tokio::time::Instant;

use crate::LoadBalancingStrategy;
use crate::call::{Answer, Call, Evidence, Failure};
use crate::error::{CallError, SelectError};
use crate::frame::METHOD_BYTES_MAX;
use crate::pick::{Ask, Lease};
use crate::registry::WorkerRegistry;
use crate::server::BODY_BYTES_DEFAULT;

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

/// Who may be picked for one call, and how; see [`ClusterClient::call_worker_with`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct CallOptions<'a> {
    filter: Option<&'a str>,
    strategy: Option<LoadBalancingStrategy>,
    ask: Ask<'static>,
    exclude: Vec<NodeId>,
}

impl<'a> CallOptions<'a> {
    /// Any worker, by the registry's strategy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only workers whose tags match.
    pub const fn filter(mut self, filter: &'a str) -> Self {
        self.filter = Some(filter);
        self
    }

    /// By this strategy instead of the registry's. Its rotations are its own.
    pub const fn strategy(mut self, strategy: LoadBalancingStrategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// To where other calls with this key go, as far as the strategy is an affine one.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.ask = self.ask.key(key);
        self
    }

    /// None of these, not even in a retry.
    pub fn exclude(mut self, ids: impl IntoIterator<Item = NodeId>) -> Self {
        self.exclude.extend(ids);
        self
    }

    /// To this worker, if it matches and has a place, else to whoever the strategy says.
    pub const fn hint(mut self, id: NodeId) -> Self {
        self.ask = self.ask.hint(id);
        self
    }

    /// To this worker or none: there is nobody to retry with.
    pub const fn only(mut self, id: NodeId) -> Self {
        self.ask = self.ask.only(id);
        self
    }

    fn ask<'t>(&self, tried: &'t [NodeId]) -> Ask<'t> {
        Ask::exclude(self.ask, tried)
    }
}

/// Calls workers picked by a [`WorkerRegistry`]. Clones share its connections and counts.
#[derive(Clone, Debug)]
pub struct ClusterClient {
    registry: WorkerRegistry,
    config: ClusterClientConfig,
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
        let options = CallOptions {
            filter,
            ..CallOptions::new()
        };
        self.call_worker_with(method, request, &options).await
    }

    /// [`call_worker`](Self::call_worker) with more to say about who may be picked.
    ///
    /// ```no_run
    /// # async fn example(client: &lb_tokio::ClusterClient) -> Result<(), lb_tokio::CallError> {
    /// use lb_tokio::{CallOptions, LoadBalancingStrategy, NodeId};
    /// let options = CallOptions::new()
    ///     .filter("role=worker")
    ///     .strategy(LoadBalancingStrategy::LeastConnections)
    ///     .key("user-7")
    ///     .exclude([NodeId::new(3)])
    ///     .hint(NodeId::new(4));
    /// let answer = client.call_worker_with("profile", "user-7", &options).await?;
    /// # let _ = answer;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`CallError`]; its texts say what to do.
    pub async fn call_worker_with(
        &self,
        method: &str,
        request: impl Into<Bytes>,
        options: &CallOptions<'_>,
    ) -> Result<Bytes, CallError> {
        let request = request.into();
        self.check(method, &request)?;
        let strategy = options.strategy.unwrap_or(self.registry.strategy());
        let picker = self.registry.picker_with(strategy, options.filter)?;
        let deadline = Instant::now() + self.config.timeout;
        let mut tried = options.exclude.clone();
        let mut last = None;
        for _ in 0..=self.config.retries {
            let held = match picker.pick(&options.ask(&tried)) {
                Ok(held) => held,
                // What the tried one said is more telling than that there is no other.
                Err(error) => return Err(last.unwrap_or(CallError::Select(error))),
            };
            tried.push(held.id());
            match self.attempt(held, method, &request, deadline).await {
                Ok(response) => return Ok(response),
                Err(Failure {
                    error,
                    elsewhere: true,
                    ..
                }) => last = Some(error),
                Err(Failure { error, .. }) => return Err(self.named(error)),
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
        self.attempt(held, method, &request, deadline)
            .await
            .map_err(|failure| self.named(failure.error))
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

    /// A deadline that passed, on the worker or here, is told as the time-out that was configured.
    fn named(&self, error: CallError) -> CallError {
        match error {
            CallError::Deadline { .. } => CallError::Deadline {
                timeout: self.config.timeout,
            },
            other => other,
        }
    }

    /// One attempt at the worker that is held, until the deadline. The hold ends before the response's load is
    /// recorded, so that this request is in neither side of the comparison.
    async fn attempt(
        &self,
        held: Lease,
        method: &str,
        request: &Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Failure> {
        let shared = self.registry.cluster().shared();
        let id = held.id();
        let call = Call {
            id,
            addr: held.addr(),
            method,
            request,
            deadline,
            max_response: self.config.max_response,
        };
        let start = Instant::now();
        let Ok(answer) = tokio::time::timeout_at(deadline, call.exchange(shared.transport())).await else {
            held.end(Ended::Failed { retry_after: None });
            return Err(CallError::Deadline {
                timeout: self.config.timeout,
            }
            .into());
        };
        let Answer { load, result } = answer;
        held.end(judge(&result, start.elapsed()));
        shared.input_of(id, |state, now| {
            if let Some(load) = load {
                state.node.handle_response(now, id, load);
            }
            match &result {
                Ok(_)
                | Err(Failure {
                    evidence: Evidence::None,
                    ..
                }) => {}
                Err(Failure {
                    evidence: Evidence::Unreachable,
                    ..
                }) => state.node.handle_disconnect(now, id),
                Err(Failure {
                    evidence: Evidence::Full(span),
                    ..
                }) => {
                    state.node.handle_overloaded(now, id, (*span).into());
                }
            }
        });
        result
    }
}

/// How a request ended, as far as it tells how well the worker is. An answer that says no to this very request is
/// an answer; a handler's error is a failure, or a worker that fails at once would look like the fastest.
fn judge(result: &Result<Bytes, Failure>, took: Duration) -> Ended {
    match result {
        Ok(_)
        | Err(Failure {
            error: CallError::RequestTooLarge { .. } | CallError::ResponseTooLarge { .. },
            ..
        }) => Ended::Answered(took.into()),
        Err(Failure {
            evidence: Evidence::Full(span),
            ..
        }) => Ended::Failed {
            retry_after: Some((*span).into()),
        },
        Err(_) => Ended::Failed { retry_after: None },
    }
}
