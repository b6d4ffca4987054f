//! Making connections: one at a time per peer, with backoff.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lb_core::NodeId;
use lb_core::rng::Rng;
use quinn::ConnectionError;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Link, Transport, lock};
use crate::frame::code;
use crate::identity::{any_name, dial_name, peer_id};

/// The pause after the first failure; it doubles with every further one.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("TLS identity refused: {0}")]
    Identity(String),
    #[error("{0}")]
    Unreachable(String),
    /// The address is our own.
    #[error("this is the node itself")]
    Itself,
}

impl DialError {
    fn from_connection(error: &ConnectionError) -> Self {
        // TLS alerts are QUIC transport errors 0x100..=0x1ff.
        let crypto = |code: quinn::TransportErrorCode| (0x100..=0x1ff).contains(&u64::from(code));
        match error {
            ConnectionError::TransportError(inner) if crypto(inner.code) => {
                Self::Identity(format!("we do not accept theirs ({})", inner.reason))
            }
            ConnectionError::ConnectionClosed(inner) if crypto(inner.error_code) => {
                Self::Identity(format!("they do not accept ours ({inner})"))
            }
            ConnectionError::ApplicationClosed(close) if close.error_code == code::SELF => Self::Itself,
            ConnectionError::TimedOut => Self::Unreachable("no answer".to_owned()),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

type Outcome = watch::Receiver<Option<Result<(), DialError>>>;

impl Transport {
    /// The connection in use, or a new one. Whoever else asks meanwhile waits for the same attempt; after a
    /// failure the same error comes back at once until the pause is over.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        peer: NodeId,
        addr: SocketAddr,
    ) -> Result<Arc<Link>, DialError> {
        if let Some(link) = self.current(peer) {
            return Ok(link);
        }
        let mut outcome = self.start_dialling(peer, addr)?;
        let result = match outcome.wait_for(Option::is_some).await {
            Ok(result) => result.clone(),
            Err(_) => None,
        };
        result.unwrap_or_else(|| Err(DialError::Unreachable("the node is shutting down".to_owned())))?;
        self.current(peer)
            .ok_or_else(|| DialError::Unreachable("the connection broke at once".to_owned()))
    }

    /// Begins an attempt, or joins the one under way.
    pub(super) fn start_dialling(
        self: &Arc<Self>,
        peer: NodeId,
        addr: SocketAddr,
    ) -> Result<Outcome, DialError> {
        let mut links = self.links();
        let entry = links.peers.entry(peer).or_default();
        if let Some(outcome) = &entry.dialling {
            return Ok(outcome.clone());
        }
        if let Some((at, error)) = &entry.next_dial
            && Instant::now() < *at
        {
            return Err(error.clone());
        }
        let (report, outcome) = watch::channel(None);
        entry.dialling = Some(outcome.clone());
        drop(links);
        let transport = Arc::clone(self);
        tokio::spawn(async move {
            let result = transport.dial(Some(peer), addr).await.map(|_| ());
            if let Err(error) = &result {
                tracing::debug!(%peer, %addr, %error, "dialling failed");
            }
            let pause = transport.dialled(peer, result.as_ref().err());
            tracing::trace!(%peer, ?pause, "next attempt");
            report.send_replace(Some(result));
        });
        Ok(outcome)
    }

    /// Connects to whoever listens at a seed's address; its certificate says who it is.
    pub(crate) async fn connect_seed(self: &Arc<Self>, addr: SocketAddr) -> Result<NodeId, DialError> {
        self.dial(None, addr).await.map(|link| link.peer())
    }

    /// Notes the end of an attempt; returns the pause before the next one.
    fn dialled(&self, peer: NodeId, error: Option<&DialError>) -> Duration {
        let random = lock(&self.jitter).next_u32();
        let mut links = self.links();
        let entry = links.peers.entry(peer).or_default();
        entry.dialling = None;
        let Some(error) = error else { return Duration::ZERO };
        let doubled = BACKOFF_MIN.saturating_mul(1 << entry.failures.min(16));
        entry.failures = entry.failures.saturating_add(1);
        // Between half and the whole of it, so that those who lost the same peer do not return in step.
        let whole = doubled.min(self.settings.backoff_max);
        let pause = whole / 2 + whole.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0);
        entry.next_dial = Some((Instant::now() + pause, error.clone()));
        pause
    }

    async fn dial(
        self: &Arc<Self>,
        expected: Option<NodeId>,
        addr: SocketAddr,
    ) -> Result<Arc<Link>, DialError> {
        let name = match expected {
            Some(peer) => dial_name(&self.cluster, peer),
            None => any_name(&self.cluster),
        };
        let handshake = async {
            let connecting = self
                .endpoint
                .connect_with(self.client.clone(), addr, &name)
                .map_err(|error| DialError::Unreachable(error.to_string()))?;
            let connection = connecting
                .await
                .map_err(|error| DialError::from_connection(&error))?;
            // The dialler is done before the acceptor has checked its certificate: only the acceptor's
            // control stream shows that it agreed.
            let control = connection
                .accept_uni()
                .await
                .map_err(|error| DialError::from_connection(&error))?;
            Ok((connection, control))
        };
        let (connection, control) = tokio::time::timeout(self.settings.dial_timeout, handshake)
            .await
            .map_err(|_| {
                DialError::Unreachable(format!("no answer in {:?}", self.settings.dial_timeout))
            })??;
        let peer =
            peer_id(&connection, &self.cluster).map_err(|error| DialError::Identity(error.to_string()))?;
        if peer == self.me {
            connection.close(code::SELF, b"dialled itself");
            return Err(DialError::Itself);
        }
        let link = self.establish(connection, peer, true);
        if let Some(inbox) = self.inbox() {
            tokio::spawn(Link::read_control(Arc::clone(&link), inbox, control));
        }
        Ok(link)
    }
}
