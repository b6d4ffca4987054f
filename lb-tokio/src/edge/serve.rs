//! Requests of edges: each executed at most once, by the handlers that serve nodes, under the same limit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lb_core::wire::seal::OVERHEAD_BYTES;
use lb_core::wire::{self, Outcome, RESPONSE_OVERHEAD_MAX, Request, Response};
use lb_core::{Instant, NodeId};
use tokio::sync::Notify;

use super::device::{Device, Ended, Taken};
use super::listener::{Gate, Listener};
use super::status::EdgeCounters;
use crate::frame;
use crate::server::{self, Admitted, BUDGET_MAX, Caller, Origin};

/// An edge that has as many requests here as it may is told to come back after this time.
const BUSY_RETRY_MS: u32 = 100;

/// Takes a request up, or answers it at once.
pub(super) fn request<G: Gate>(
    listener: &Arc<Listener>,
    gate: &Arc<G>,
    now: Instant,
    id: u32,
    request: &Request<'_>,
) {
    let (taken, room) = {
        let mut state = listener.lock();
        let Some(device) = state.table.get_mut(id) else {
            return;
        };
        let taken = device.request(now, request.life, request.call);
        let room = body_room(device, request.response_max);
        *count(&mut state.counters, &taken) += 1;
        (taken, room)
    };
    let stop = match taken {
        Taken::New(stop) => stop,
        Taken::Working => {
            listener.send_to_edge(id, |out| wire::encode_working(request.call, out).ok());
            return;
        }
        Taken::Replay(ended) => return respond(listener, &**gate, id, request.call, &ended),
        Taken::Forgotten => {
            return respond(listener, &**gate, id, request.call, &bare(Outcome::Forgotten));
        }
        Taken::Busy => {
            let retry_after_ms = BUSY_RETRY_MS;
            let ended = bare(Outcome::Overloaded { retry_after_ms });
            return respond(listener, &**gate, id, request.call, &ended);
        }
    };
    let call = Call {
        listener: Arc::clone(listener),
        gate: Arc::clone(gate),
        id,
        life: request.life,
        call: request.call,
        room,
        over: false,
    };
    let size = u32::try_from(request.body.len()).unwrap_or(u32::MAX);
    match server::admit(gate, request.method, size) {
        Ok(admitted) => {
            let caller = Caller {
                from: NodeId::new(id),
                origin: Origin::Edge,
                deadline: tokio::time::Instant::now()
                    + Duration::from_millis(request.budget_ms.into()).min(BUDGET_MAX),
            };
            let body = Bytes::copy_from_slice(request.body);
            tokio::spawn(work(call, admitted, caller, body, stop));
        }
        Err(outcome) => call.refuse(outcome),
    }
}

async fn work<G: Gate>(call: Call<G>, admitted: Admitted<G>, caller: Caller, body: Bytes, stop: Arc<Notify>) {
    let deadline = caller.deadline;
    let gate = Arc::clone(&call.gate);
    tokio::select! {
        biased;
        // The edge gave it up, or is gone: the handler is dropped, and so is the call.
        () = stop.notified() => {}
        answer = tokio::time::timeout_at(deadline, admitted.run(&gate, caller, body)) => {
            call.end(answer.unwrap_or((frame::Outcome::Deadline, Bytes::new())));
        }
    }
}

/// A request that is worked on. Dropped without [`Call::end`] or [`Call::refuse`], it was given up.
struct Call<G: Gate> {
    listener: Arc<Listener>,
    gate: Arc<G>,
    id: u32,
    life: u32,
    call: u32,
    room: usize,
    over: bool,
}

impl<G: Gate> Call<G> {
    fn end(mut self, (outcome, body): (frame::Outcome, Bytes)) {
        let ended = fit(outcome, body, self.room);
        self.close(Some(&ended));
    }

    /// Nothing was executed, and the edge may ask again.
    fn refuse(mut self, outcome: frame::Outcome) {
        self.over = true;
        let ended = fit(outcome, Bytes::new(), self.room);
        {
            let mut state = self.listener.lock();
            if let Some(device) = state.table.get_mut(self.id) {
                device.refused(self.life, self.call);
            }
            state.counters.shed += u64::from(matches!(ended.outcome, Outcome::Overloaded { .. }));
        }
        respond(&self.listener, &*self.gate, self.id, self.call, &ended);
    }

    fn close(&mut self, ended: Option<&Ended>) {
        self.over = true;
        let now = self.gate.now();
        let mut state = self.listener.lock();
        let Some(device) = state.table.get_mut(self.id) else {
            return;
        };
        let awaited = device.ended(now, self.life, self.call, ended);
        drop(state);
        if let Some(ended) = ended.filter(|_| awaited) {
            respond(&self.listener, &*self.gate, self.id, self.call, ended);
        }
    }
}

impl<G: Gate> Drop for Call<G> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let panicked = std::thread::panicking().then(|| Ended {
            outcome: Outcome::Handler,
            body: Bytes::from_static(b"the handler panicked"),
        });
        self.close(panicked.as_ref());
    }
}

/// What a call came to, as the edge can take it.
fn fit(outcome: frame::Outcome, mut body: Bytes, room: usize) -> Ended {
    let outcome = match outcome {
        frame::Outcome::Ok => Outcome::Ok,
        frame::Outcome::Handler => {
            let text = String::from_utf8_lossy(&body);
            body.truncate(text.floor_char_boundary(room.min(body.len())));
            Outcome::Handler
        }
        frame::Outcome::UnknownMethod => Outcome::UnknownMethod,
        frame::Outcome::Overloaded { retry_after_us } => Outcome::Overloaded {
            retry_after_ms: retry_after_us.div_ceil(1_000),
        },
        frame::Outcome::Deadline => Outcome::Deadline,
        frame::Outcome::RequestTooLarge { limit } => Outcome::RequestTooLarge { limit },
        frame::Outcome::ResponseTooLarge { size, .. } => Outcome::ResponseTooLarge {
            size: u32::try_from(size).unwrap_or(u32::MAX),
        },
        frame::Outcome::Leaving => Outcome::Leaving,
    };
    if body.len() > room {
        let size = u32::try_from(body.len()).unwrap_or(u32::MAX);
        return bare(Outcome::ResponseTooLarge { size });
    }
    Ended { outcome, body }
}

fn bare(outcome: Outcome) -> Ended {
    Ended {
        outcome,
        body: Bytes::new(),
    }
}

/// Bytes of a response's body that fit into the edge's datagram and its buffer.
fn body_room(device: &Device, response_max: u16) -> usize {
    let datagram = device
        .datagram()
        .saturating_sub(OVERHEAD_BYTES + RESPONSE_OVERHEAD_MAX);
    datagram.min(usize::from(response_max))
}

fn respond<G: Gate>(listener: &Listener, gate: &G, id: u32, call: u32, ended: &Ended) {
    let response = Response {
        call,
        outcome: ended.outcome,
        load: gate.load(),
        body: &ended.body,
    };
    listener.send_to_edge(id, |out| response.encode(out).ok());
}

fn count<'a>(counters: &'a mut EdgeCounters, taken: &Taken) -> &'a mut u64 {
    match taken {
        Taken::New(_) => &mut counters.calls,
        Taken::Working => &mut counters.working,
        Taken::Replay(_) => &mut counters.replays,
        Taken::Forgotten => &mut counters.forgotten,
        Taken::Busy => &mut counters.shed,
    }
}
