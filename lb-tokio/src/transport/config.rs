//! Settings of the QUIC endpoint.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use lb_core::health::Timers;
use quinn::{AckFrequencyConfig, TransportConfig, VarInt};

use crate::cluster::Simulated;
use crate::identity::{IdentityError, NodeIdentity};
use crate::runtime::CoalescingRuntime;

/// Calls that may be open at once on one connection, in each direction. quinn allocates per possible
/// stream (52 KiB an idle connection at 256, 710 KiB at 10 000), so this is not to be raised lightly.
pub(crate) const STREAMS_MAX: u32 = 256;

/// Control streams a peer may have open: one, and one that is just being replaced.
const CONTROL_STREAMS_MAX: u32 = 2;

/// First guess of the round-trip time; the standard's 333 ms makes a lost first packet cost a second.
const INITIAL_RTT: Duration = Duration::from_millis(20);

/// Unsent and unread datagrams kept per connection, in bytes. Heartbeats that old are of no use.
const DATAGRAM_BUFFER: usize = 16 * 1024;

/// Acknowledge every tenth packet: a fifth less CPU for small calls.
const ACK_THRESHOLD: u32 = 10;

/// Time-outs of the transport, derived from the failure detector's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long a handshake may take.
    pub(crate) dial_timeout: Duration,
    /// The longest pause between two attempts to dial the same peer.
    pub(crate) backoff_max: Duration,
    /// With calls in flight, how long a connection may be without a sign of life.
    pub(crate) silence: Duration,
    /// When a connection without a sign of life is dropped.
    pub(crate) idle: Duration,
}

impl Settings {
    pub(crate) fn new(timers: &Timers) -> Self {
        let heartbeat = Duration::from(timers.heartbeat());
        let failed = Duration::from(timers.failed());
        Self {
            // Below the default heartbeat, so that the next heartbeat finds the attempt ended.
            dial_timeout: failed.clamp(Duration::from_secs(1), Duration::from_secs(3)),
            backoff_max: heartbeat.clamp(Duration::from_millis(200), Duration::from_secs(5)),
            silence: (heartbeat * 2 / 5).clamp(Duration::from_secs(1), Duration::from_secs(2)),
            // A peer paused for less than the failure time-out keeps its connection.
            idle: (failed + heartbeat).max(Duration::from_secs(3)),
        }
    }
}

/// The endpoint could not be made.
#[derive(Debug)]
pub(crate) enum BindError {
    Io(io::Error),
    Identity(IdentityError),
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<IdentityError> for BindError {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

/// Binds the endpoint that both dials and accepts.
pub(crate) fn bind(
    listen: SocketAddr,
    identity: &NodeIdentity,
    settings: &Settings,
    simulated: Option<Simulated>,
) -> Result<(quinn::Endpoint, quinn::ClientConfig), BindError> {
    let transport = Arc::new(transport_config(settings));
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(identity.server_crypto()?));
    server
        .transport_config(Arc::clone(&transport))
        .migration(false)
        .max_incoming(1_024);
    let mut client = quinn::ClientConfig::new(Arc::new(identity.client_crypto()?));
    client.transport_config(transport);
    let mut config = identity.endpoint_config();
    let endpoint = match simulated {
        Some(Simulated {
            socket,
            runtime,
            seed,
        }) => {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            config.rng_seed(Some(bytes));
            quinn::Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime)?
        }
        None => {
            let socket = UdpSocket::bind(listen)?;
            quinn::Endpoint::new(config, Some(server), socket, Arc::new(CoalescingRuntime))?
        }
    };
    Ok((endpoint, client))
}

fn transport_config(settings: &Settings) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_THRESHOLD));
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(CONTROL_STREAMS_MAX))
        .max_idle_timeout(settings.idle.try_into().ok())
        .initial_rtt(INITIAL_RTT)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .ack_frequency_config(Some(acks));
    config
}
