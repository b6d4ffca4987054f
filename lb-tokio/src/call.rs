//! One exchange with one node: a request on a stream of its own, and the answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lb_core::NodeId;
use lb_core::load::LoadReport;
use tokio::time::Instant;

use crate::error::CallError;
use crate::frame::{self, Outcome, ReadError, RequestHeader, ResponseHeader, code};
use crate::transport::{DialError, Link, Transport};

/// How long a call waits for a free stream before it takes the node for saturated.
const STREAM_WAIT: Duration = Duration::from_secs(1);

/// For how long a node without a free stream is passed over.
const SATURATED: Duration = Duration::from_millis(50);

/// What is asked of whom.
pub(crate) struct Call<'a> {
    pub(crate) id: NodeId,
    pub(crate) addr: Option<SocketAddr>,
    pub(crate) method: &'a str,
    pub(crate) request: &'a Bytes,
    pub(crate) deadline: Instant,
    pub(crate) max_response: u32,
}

/// What came back, and the node's load when it answered, if it did.
pub(crate) struct Answer {
    pub(crate) load: Option<LoadReport>,
    pub(crate) result: Result<Bytes, Failure>,
}

/// How an exchange failed.
pub(crate) struct Failure {
    pub(crate) error: CallError,
    /// Another node may answer.
    pub(crate) elsewhere: bool,
    pub(crate) evidence: Evidence,
}

/// What a failure says of the node.
pub(crate) enum Evidence {
    None,
    /// It could not be dialled.
    Unreachable,
    /// It has no place for that long.
    Full(Duration),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self {
            error,
            elsewhere: false,
            evidence: Evidence::None,
        }
    }
}

impl Failure {
    fn elsewhere(error: CallError) -> Self {
        Self {
            error,
            elsewhere: true,
            evidence: Evidence::None,
        }
    }

    fn gone(id: NodeId, reason: impl Into<String>) -> Self {
        Self::elsewhere(CallError::Unreachable {
            id,
            reason: reason.into(),
        })
    }

    fn full(id: NodeId, retry_after: Duration) -> Self {
        Self {
            evidence: Evidence::Full(retry_after),
            ..Self::elsewhere(CallError::Overloaded { id, retry_after })
        }
    }
}

impl Call<'_> {
    /// Sends the request and reads the answer. Waits for as long as the node lives: bound it by the deadline.
    pub(crate) async fn exchange(&self, transport: &Arc<Transport>) -> Answer {
        match self.try_exchange(transport).await {
            Ok(answer) => answer,
            Err(failure) => Answer {
                load: None,
                result: Err(failure),
            },
        }
    }

    async fn try_exchange(&self, transport: &Arc<Transport>) -> Result<Answer, Failure> {
        let id = self.id;
        let link = self.link(transport).await?;
        let opening = link.open_call(transport.traffic_counters());
        let (_call, send, recv) = match tokio::time::timeout(STREAM_WAIT, opening).await {
            Ok(opened) => opened.map_err(|error| Failure::gone(id, error.to_string()))?,
            Err(_) => return Err(Failure::full(id, SATURATED)),
        };
        let mut sending = ResetOnDrop {
            send,
            finished: false,
        };
        let budget = self.deadline.saturating_duration_since(Instant::now());
        let header = frame::encode(&RequestHeader {
            budget_us: u64::try_from(budget.as_micros()).unwrap_or(u64::MAX),
            body_len: u32::try_from(self.request.len()).unwrap_or(u32::MAX),
            method: self.method,
        })
        .map_err(|_| CallError::MethodName)?;
        match sending
            .send
            .write_all_chunks(&mut [header.into(), self.request.clone()])
            .await
        {
            Ok(()) => sending.finished = sending.send.finish().is_ok(),
            // It answered without reading everything: hear what it says.
            Err(quinn::WriteError::Stopped(_)) => {}
            Err(error) => return Err(Failure::gone(id, error.to_string())),
        }
        self.read_answer(recv).await
    }

    async fn link(&self, transport: &Arc<Transport>) -> Result<Arc<Link>, Failure> {
        let id = self.id;
        if let Some(link) = transport.current(id) {
            return Ok(link);
        }
        let addr = self
            .addr
            .ok_or_else(|| Failure::gone(id, "no connection and no address"))?;
        transport.connect(id, addr).await.map_err(|error| match error {
            DialError::Identity(reason) => Failure::elsewhere(CallError::IdentityRefused { id, reason }),
            other => Failure {
                evidence: Evidence::Unreachable,
                ..Failure::gone(id, other.to_string())
            },
        })
    }

    async fn read_answer(&self, mut recv: quinn::RecvStream) -> Result<Answer, Failure> {
        let id = self.id;
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
            ReadError::Stream(error) => Failure::gone(id, format!("gone before it answered: {error}")),
            ReadError::Malformed(reason) => CallError::Protocol { id, reason }.into(),
            ReadError::TooLarge { size, limit } => CallError::ResponseTooLarge { size, limit }.into(),
        };
        let header = frame::read_header(&mut recv).await.map_err(failed)?;
        let header: ResponseHeader = frame::decode(&header).map_err(failed)?;
        let body = frame::read_body(&mut recv, header.body_len, self.max_response)
            .await
            .map_err(failed)?;
        let result = self.judge(header.outcome, body);
        Ok(Answer {
            load: Some(header.load),
            result,
        })
    }

    fn judge(&self, outcome: Outcome, body: Bytes) -> Result<Bytes, Failure> {
        let id = self.id;
        Err(match outcome {
            Outcome::Ok => return Ok(body),
            Outcome::Handler => {
                let message = String::from_utf8_lossy(&body).into_owned();
                CallError::Handler { id, message }.into()
            }
            Outcome::UnknownMethod => CallError::UnknownMethod {
                id,
                method: self.method.to_owned(),
            }
            .into(),
            Outcome::Overloaded { retry_after_us } => {
                Failure::full(id, Duration::from_micros(retry_after_us.into()))
            }
            // The caller knows the time-out it had asked for.
            Outcome::Deadline => CallError::Deadline {
                timeout: Duration::ZERO,
            }
            .into(),
            Outcome::RequestTooLarge { limit } => {
                let size = self.request.len() as u64;
                CallError::RequestTooLarge {
                    size,
                    limit: limit.into(),
                }
                .into()
            }
            Outcome::ResponseTooLarge { size, limit } => CallError::ResponseTooLarge {
                size,
                limit: limit.into(),
            }
            .into(),
            Outcome::Leaving => Failure::gone(id, "it is leaving the cluster"),
        })
    }
}

/// Resets a request that is not wholly sent, so that the node does not take half of it for all.
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
