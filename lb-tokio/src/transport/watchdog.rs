//! Notices that a peer is gone while calls wait for it, long before its heartbeats are missed.
//!
//! A live peer's QUIC stack acknowledges whatever is sent, however slow its handlers are. So while calls are
//! in flight and nothing arrives, small probes ask for acknowledgements; when those stay away too, the
//! connection is closed, which fails its calls over to other workers. Nothing is sent on a connection
//! without calls, or on one that has traffic anyway.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Link, Transport};
use crate::frame::code;

/// Checks per silence time-out.
const CHECKS: u32 = 4;

pub(super) async fn watch(transport: Arc<Transport>, link: Arc<Link>) {
    let silence = transport.settings.silence;
    let period = silence / CHECKS;
    while !link.is_closed() {
        if link.calls() == 0 {
            tokio::select! {
                biased;
                () = link.calls_began.notified() => {}
                () = link.closed() => return,
            }
        }
        let mut seen = link.datagrams_received();
        let mut alive = Instant::now();
        while link.calls() > 0 && !link.is_closed() {
            let asked = Instant::now();
            tokio::time::sleep(period).await;
            let received = link.datagrams_received();
            // If this check itself is late, the silence may be ours.
            let late = asked.elapsed() > period * 2;
            if received != seen || late {
                (seen, alive) = (received, Instant::now());
            } else if alive.elapsed() >= silence {
                tracing::info!(peer = %link.peer(), ?silence, "no sign of life with calls in flight");
                link.close(code::SILENT, b"silent");
            } else {
                if alive.elapsed() >= silence / 2
                    && let Some(inbox) = transport.inbox()
                {
                    inbox.disconnected(link.peer());
                }
                link.probe(transport.traffic_counters());
            }
        }
    }
}
