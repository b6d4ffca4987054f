//! Serving calls: handlers, a concurrency limit, and shedding above it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lb_core::NodeId;
use lb_core::load::LoadReport;
use tokio::time::Instant;

use crate::frame::{self, Outcome, RequestHeader, ResponseHeader, code};

pub use crate::frame::METHOD_BYTES_MAX;

/// Requests served at once unless [`Server::concurrency`] says otherwise.
pub const CONCURRENCY_DEFAULT: u16 = 256;

/// Largest request and response in bytes unless configured: 4 MiB.
pub const BODY_BYTES_DEFAULT: u32 = 4 * 1024 * 1024;

/// Method names that begin so are the library's own.
pub const RESERVED_PREFIX: &str = "lb.";

/// How long a caller may take to send its request header.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a caller may take to read a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest deadline taken over from a caller.
pub(crate) const BUDGET_MAX: Duration = Duration::from_secs(3_600);

/// A call as its handler sees it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Request {
    /// Who calls, as it proved. Nodes and edges have ids of their own: node 1 and edge 1 are strangers, so look
    /// at [`origin`](Self::origin) as well before you trust it.
    pub from: NodeId,
    /// What it proved that with.
    pub origin: Origin,
    /// The method.
    pub method: Arc<str>,
    /// The body.
    pub body: Bytes,
    /// When the caller stops waiting. The handler is dropped then, and when the caller gives up earlier.
    pub deadline: Instant,
}

/// What a caller is, by how it proved who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A node of the cluster: by its certificate.
    Node,
    /// A device at the edge listener: by the pre-shared key with its id.
    Edge,
}

/// A handler's refusal; its text is told to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerError {
    message: String,
}

impl HandlerError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HandlerError {}

type Answer = Pin<Box<dyn Future<Output = Result<Bytes, HandlerError>> + Send>>;
pub(crate) type Handler = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// What a worker serves.
///
/// ```
/// use lb_tokio::{HandlerError, Server};
/// let server = Server::new()
///     .concurrency(64)
///     .handler("echo", |request| async move { Ok(request.body) })
///     .handler("parse", |request| async move {
///         let text = std::str::from_utf8(&request.body).map_err(|e| HandlerError::new(e.to_string()))?;
///         let number: u64 = text.parse().map_err(|_| HandlerError::new("not a number"))?;
///         Ok(number.to_le_bytes().to_vec().into())
///     });
/// # let _ = server;
/// ```
#[derive(Clone)]
pub struct Server {
    handlers: BTreeMap<Arc<str>, Handler>,
    pub(crate) bad_method: Option<String>,
    pub(crate) concurrency: u16,
    pub(crate) max_request: u32,
    pub(crate) max_response: u32,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("methods", &self.handlers.keys().collect::<Vec<_>>())
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

impl Default for Server {
    fn default() -> Self {
        Self::new()
    }
}

impl Server {
    /// No handlers yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            handlers: BTreeMap::new(),
            bad_method: None,
            concurrency: CONCURRENCY_DEFAULT,
            max_request: BODY_BYTES_DEFAULT,
            max_response: BODY_BYTES_DEFAULT,
        }
    }

    /// Serves a method. A name that is taken, empty, longer than [`METHOD_BYTES_MAX`] or begins with
    /// [`RESERVED_PREFIX`] is refused when the node starts.
    #[must_use]
    pub fn handler<F, Fut>(mut self, method: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
    {
        let method = method.into();
        let bad = method.is_empty() || method.len() > METHOD_BYTES_MAX || method.starts_with(RESERVED_PREFIX);
        if bad || self.handlers.contains_key(method.as_str()) {
            self.bad_method.get_or_insert(method);
            return self;
        }
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        self.handlers.insert(method.into(), handler);
        self
    }

    /// How many requests are served at once. Above it, requests are shed with an error that makes the
    /// caller's balancer go elsewhere. 0 is taken as 1.
    #[must_use]
    pub fn concurrency(mut self, limit: u16) -> Self {
        self.concurrency = limit.max(1);
        self
    }

    /// Largest request accepted, in bytes.
    #[must_use]
    pub fn max_request(mut self, bytes: u32) -> Self {
        self.max_request = bytes;
        self
    }

    /// Largest response sent, in bytes.
    #[must_use]
    pub fn max_response(mut self, bytes: u32) -> Self {
        self.max_response = bytes;
        self
    }

    pub(crate) fn find(&self, method: &str) -> Option<(Arc<str>, Handler)> {
        self.handlers
            .get_key_value(method)
            .map(|(name, handler)| (Arc::clone(name), Arc::clone(handler)))
    }
}

/// What the serving code needs of its node.
pub(crate) trait Host: Send + Sync + 'static {
    /// A place under the concurrency limit; dropping it gives it back as work given up.
    type Place: Send;

    fn server(&self) -> &Server;
    fn is_leaving(&self) -> bool;
    /// A place, or in how long there may be one.
    fn enter(self: &Arc<Self>) -> Result<Self::Place, Duration>;
    /// The work is done: counts it and how long it took.
    fn done(&self, place: Self::Place);
    /// A built-in method, answered without taking a place.
    fn builtin(&self, method: &str) -> Option<Bytes>;
    /// The load to report now.
    fn report(&self) -> LoadReport;
}

/// Resets what is still open when the work is dropped, so that half a message never looks whole.
struct Streams {
    send: quinn::SendStream,
    recv: quinn::RecvStream,
    code: quinn::VarInt,
    finished: bool,
}

impl Drop for Streams {
    fn drop(&mut self) {
        if !self.finished {
            let code = if std::thread::panicking() {
                code::PANICKED
            } else {
                self.code
            };
            let _ = self.send.reset(code);
            let _ = self.recv.stop(code);
        }
    }
}

/// Serves one call from its first byte to its last.
pub(crate) async fn serve<H: Host>(
    host: Arc<H>,
    from: NodeId,
    send: quinn::SendStream,
    recv: quinn::RecvStream,
) {
    let mut streams = Streams {
        send,
        recv,
        code: code::MALFORMED,
        finished: false,
    };
    let header = match tokio::time::timeout(HEADER_TIMEOUT, frame::read_header(&mut streams.recv)).await {
        Ok(Ok(header)) => header,
        Ok(Err(_)) | Err(_) => return,
    };
    let Ok(request) = frame::decode::<RequestHeader<'_>>(&header) else {
        return;
    };
    streams.code = code::CANCELLED;
    let deadline = Instant::now() + Duration::from_micros(request.budget_us).min(BUDGET_MAX);
    let gave_up = streams.send.stopped();
    let caller = Caller {
        from,
        origin: Origin::Node,
        deadline,
    };
    let work = answer(&host, request, caller, &mut streams.recv);
    let (outcome, body) = tokio::select! {
        biased;
        // The caller cancelled or is gone: the handler is dropped with this task.
        _ = gave_up => return,
        answer = tokio::time::timeout_at(deadline, work) => {
            answer.unwrap_or((Outcome::Deadline, Bytes::new()))
        }
    };
    let body_len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let Ok(header) = frame::encode(&ResponseHeader {
        outcome,
        body_len,
        load: host.report(),
    }) else {
        return;
    };
    let respond = async {
        streams
            .send
            .write_all_chunks(&mut [header.into(), body])
            .await
            .is_ok()
            && streams.send.finish().is_ok()
    };
    streams.finished = tokio::time::timeout(RESPONSE_TIMEOUT, respond)
        .await
        .unwrap_or(false);
}

async fn answer<H: Host>(
    host: &Arc<H>,
    request: RequestHeader<'_>,
    caller: Caller,
    recv: &mut quinn::RecvStream,
) -> (Outcome, Bytes) {
    if let Some(body) = host.builtin(request.method) {
        return (Outcome::Ok, body);
    }
    let admitted = match admit(host, request.method, request.body_len) {
        Ok(admitted) => admitted,
        Err(outcome) => return (outcome, Bytes::new()),
    };
    let limit = host.server().max_request;
    // A caller that breaks off does not read the answer either.
    let Ok(body) = frame::read_body(recv, request.body_len, limit).await else {
        return (Outcome::Deadline, Bytes::new());
    };
    admitted.run(host, caller, body).await
}

/// Who calls, and until when it waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) from: NodeId,
    pub(crate) origin: Origin,
    pub(crate) deadline: Instant,
}

/// A request that has a handler and a place.
pub(crate) struct Admitted<H: Host> {
    method: Arc<str>,
    handler: Handler,
    place: H::Place,
}

/// Gives a request its place, or says why it has none. Nothing was executed then.
pub(crate) fn admit<H: Host>(host: &Arc<H>, method: &str, body_len: u32) -> Result<Admitted<H>, Outcome> {
    if host.is_leaving() {
        return Err(Outcome::Leaving);
    }
    let server = host.server();
    let (method, handler) = server.find(method).ok_or(Outcome::UnknownMethod)?;
    if body_len > server.max_request {
        return Err(Outcome::RequestTooLarge {
            limit: server.max_request,
        });
    }
    let place = host.enter().map_err(|retry_after| Outcome::Overloaded {
        retry_after_us: u32::try_from(retry_after.as_micros()).unwrap_or(u32::MAX),
    })?;
    Ok(Admitted {
        method,
        handler,
        place,
    })
}

impl<H: Host> Admitted<H> {
    /// Runs the handler.
    pub(crate) async fn run(self, host: &Arc<H>, caller: Caller, body: Bytes) -> (Outcome, Bytes) {
        let Self {
            method,
            handler,
            place,
        } = self;
        let Caller {
            from,
            origin,
            deadline,
        } = caller;
        let result = handler(Request {
            from,
            origin,
            method,
            body,
            deadline,
        })
        .await;
        host.done(place);
        let limit = host.server().max_response;
        match result {
            Err(error) => (Outcome::Handler, error.message.into()),
            Ok(body) if body.len() as u64 > u64::from(limit) => {
                let size = body.len() as u64;
                (Outcome::ResponseTooLarge { size, limit }, Bytes::new())
            }
            Ok(body) => (Outcome::Ok, body),
        }
    }
}
