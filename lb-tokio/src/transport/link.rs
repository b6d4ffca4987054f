//! One connection to one peer.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lb_core::NodeId;
use quinn::{ConnectionError, VarInt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::{Inbox, Traffic, Transport, lock};
use crate::frame::code;

/// Messages waiting for the control stream. What does not fit is dropped: all of it is repeated when it
/// matters.
const OUTBOX: usize = 64;

/// Longest message taken from a control stream: more than ours have, for what a newer version appends.
const CONTROL_BYTES_MAX: usize = 1_200;

/// How long a replaced connection stays after the last call on it.
const LINGER: Duration = Duration::from_secs(1);

const _: () = assert!(lb_core::wire::MESSAGE_BYTES_MAX <= CONTROL_BYTES_MAX);

/// A datagram of this one byte only makes the peer's QUIC stack acknowledge it; no message begins with 0.
const PROBE: &[u8] = &[0];

pub(super) enum Outgoing {
    Message(Bytes),
    /// Finish the stream and say when it is delivered.
    Flush(oneshot::Sender<()>),
}

/// A connection with its counters. Its tasks end when the connection does.
#[derive(Debug)]
pub(crate) struct Link {
    number: u64,
    peer: NodeId,
    connection: quinn::Connection,
    dialled: bool,
    since: Instant,
    outbox: mpsc::Sender<Outgoing>,
    /// Our calls in flight on it.
    calls: AtomicU32,
    /// The peer's calls in flight on it.
    served: AtomicU32,
    pub(super) calls_began: Notify,
    /// Microseconds after `since` of the peer's last request, plus one; 0 when there was none.
    last_request: AtomicU64,
    closed_by_us: Mutex<Option<VarInt>>,
    /// The life of the process behind it, as its last message said; 0 before the first.
    epoch: AtomicU32,
}

/// A call of ours on a link; it counts until dropped.
#[derive(Debug)]
pub(crate) struct CallOnLink {
    link: Arc<Link>,
}

impl Drop for CallOnLink {
    fn drop(&mut self) {
        self.link.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call of the peer's on a link; it counts until dropped.
#[derive(Debug)]
pub(crate) struct ServedOnLink {
    link: Arc<Link>,
}

impl Drop for ServedOnLink {
    fn drop(&mut self) {
        self.link.served.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Link {
    pub(super) fn new(
        number: u64,
        peer: NodeId,
        connection: quinn::Connection,
        dialled: bool,
    ) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        let (outbox, inlet) = mpsc::channel(OUTBOX);
        let link = Self {
            number,
            peer,
            connection,
            dialled,
            since: Instant::now(),
            outbox,
            calls: AtomicU32::new(0),
            served: AtomicU32::new(0),
            calls_began: Notify::new(),
            last_request: AtomicU64::new(0),
            closed_by_us: Mutex::new(None),
            epoch: AtomicU32::new(0),
        };
        (Arc::new(link), inlet)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn peer(&self) -> NodeId {
        self.peer
    }

    pub(super) fn dialled(&self) -> bool {
        self.dialled
    }

    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    pub(super) fn closed_by_us(&self) -> Option<VarInt> {
        *lock(&self.closed_by_us)
    }

    pub(super) async fn closed(&self) {
        self.connection.closed().await;
    }

    pub(super) fn close(&self, code: VarInt, reason: &[u8]) {
        lock(&self.closed_by_us).get_or_insert(code);
        self.connection.close(code, reason);
    }

    pub(super) fn datagrams_sent(&self) -> u64 {
        self.connection.stats().frame_tx.datagram
    }

    pub(super) fn datagrams_received(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    pub(super) fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The life of the peer that speaks over this connection; 0 before it spoke.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub(crate) fn set_epoch(&self, epoch: u32) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// A request came from the peer; keep what is returned until it is answered.
    pub(crate) fn asked(self: &Arc<Self>) -> ServedOnLink {
        let micros = u64::try_from(self.age().as_micros()).unwrap_or(u64::MAX);
        self.last_request
            .store(micros.saturating_add(1), Ordering::Relaxed);
        self.served.fetch_add(1, Ordering::Relaxed);
        ServedOnLink {
            link: Arc::clone(self),
        }
    }

    pub(super) fn asked_within(&self, window: Duration) -> bool {
        match self.last_request.load(Ordering::Relaxed) {
            0 => false,
            micros => self.age().saturating_sub(Duration::from_micros(micros)) <= window,
        }
    }

    /// Sends a control message: what is small and may be lost as a datagram.
    pub(super) fn send(&self, traffic: &Traffic, message: Bytes, reliable: bool) {
        let fits = self
            .connection
            .max_datagram_size()
            .is_some_and(|limit| message.len() <= limit);
        if !reliable && fits {
            if self.connection.send_datagram(message).is_ok() {
                traffic.control_datagrams.fetch_add(1, Ordering::Relaxed);
            }
        } else if self.outbox.try_send(Outgoing::Message(message)).is_err() {
            tracing::debug!(peer = %self.peer, "control stream is full or closed; message dropped");
        }
    }

    /// Makes the peer's QUIC stack answer, if it lives.
    pub(super) fn probe(&self, traffic: &Traffic) {
        if self.connection.send_datagram(Bytes::from_static(PROBE)).is_ok() {
            traffic.probes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the stream of a call. Waits for ever at the peer's stream limit: bound it.
    pub(crate) async fn open_call(
        self: &Arc<Self>,
        traffic: &Traffic,
    ) -> Result<(CallOnLink, quinn::SendStream, quinn::RecvStream), ConnectionError> {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            self.calls_began.notify_one();
        }
        let call = CallOnLink {
            link: Arc::clone(self),
        };
        let (send, recv) = self.connection.open_bi().await?;
        traffic.streams.fetch_add(1, Ordering::Relaxed);
        traffic.calls.fetch_add(1, Ordering::Relaxed);
        Ok((call, send, recv))
    }

    /// Waits until what was written to the control stream has arrived.
    pub(super) async fn flush(&self) {
        let (done, delivered) = oneshot::channel();
        if self.outbox.send(Outgoing::Flush(done)).await.is_ok() {
            let _ = delivered.await;
        }
    }

    /// Lets the calls on a replaced connection finish, ours and the peer's, at most `within`; then closes it.
    pub(super) async fn retire(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut idle = Instant::now();
        // What was answered last is still to be delivered, and what is on its way to be taken in.
        while idle.elapsed() < LINGER && Instant::now() < deadline && !self.is_closed() {
            tokio::time::sleep(LINGER / 10).await;
            if self.calls() > 0 || self.served.load(Ordering::Relaxed) > 0 {
                idle = Instant::now();
            }
        }
        self.close(code::REPLACED, b"replaced");
    }

    /// Takes in what the peer sends until the connection ends; returns why it did.
    pub(super) async fn receive(self: &Arc<Self>, inbox: &Arc<dyn Inbox>) -> ConnectionError {
        loop {
            tokio::select! {
                biased;
                datagram = self.connection.read_datagram() => match datagram {
                    Ok(datagram) if datagram == PROBE => {}
                    Ok(datagram) => inbox.message(self, &datagram),
                    Err(error) => return error,
                },
                stream = self.connection.accept_bi() => match stream {
                    Ok((send, recv)) => Arc::clone(inbox).call(Arc::clone(self), send, recv),
                    Err(error) => return error,
                },
                stream = self.connection.accept_uni() => match stream {
                    Ok(control) => {
                        tokio::spawn(Self::read_control(Arc::clone(self), Arc::clone(inbox), control));
                    }
                    Err(error) => return error,
                },
            }
        }
    }

    /// Messages on the peer's control stream, each behind its length, until it ends or breaks the rules.
    pub(super) async fn read_control(self: Arc<Self>, inbox: Arc<dyn Inbox>, mut control: quinn::RecvStream) {
        loop {
            let mut length = [0; 2];
            if control.read_exact(&mut length).await.is_err() {
                return;
            }
            let length = usize::from(u16::from_be_bytes(length));
            let mut message = [0; CONTROL_BYTES_MAX];
            let Some(message) = message.get_mut(..length) else {
                tracing::warn!(peer = %self.peer, length, "control message too long");
                self.close(code::MALFORMED, b"control message too long");
                return;
            };
            if control.read_exact(message).await.is_err() {
                return;
            }
            if !message.is_empty() {
                inbox.message(&self, message);
            }
        }
    }

    /// Opens our control stream and writes what comes out of the outbox.
    pub(super) async fn write_control(
        self: Arc<Self>,
        transport: Arc<Transport>,
        mut outbox: mpsc::Receiver<Outgoing>,
    ) {
        let traffic = transport.traffic_counters();
        let Ok(mut stream) = self.connection.open_uni().await else {
            return;
        };
        traffic.streams.fetch_add(1, Ordering::Relaxed);
        traffic.control_streams.fetch_add(1, Ordering::Relaxed);
        // An empty message: the sign that this side has accepted the connection.
        if stream.write_all(&[0, 0]).await.is_err() {
            return;
        }
        loop {
            let outgoing = tokio::select! {
                biased;
                outgoing = outbox.recv() => outgoing,
                // The outbox lives as long as the link, which this task keeps alive.
                _ = self.connection.closed() => return,
            };
            match outgoing {
                None => return,
                Some(Outgoing::Message(message)) => {
                    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
                    let framed = [&length.to_be_bytes(), &message[..]].concat();
                    if stream.write_all(&framed).await.is_err() {
                        return;
                    }
                    traffic.control_framed.fetch_add(1, Ordering::Relaxed);
                }
                Some(Outgoing::Flush(done)) => {
                    let _ = stream.finish();
                    let _ = stream.stopped().await;
                    let _ = done.send(());
                    return;
                }
            }
        }
    }
}
