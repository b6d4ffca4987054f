//! The other side: a device that serves edges, so that microcontrollers need no other servers.

use core::fmt;
use core::future::poll_fn;
use core::mem::MaybeUninit;
use core::task::{Context, Poll};

use embassy_net::Stack;
use lb_core::edge::{Gate, Heard, Transmit, Work};
use lb_core::health::Timers;
use lb_core::wire::seal::{ChaCha20Poly1305, Cipher, KeyStore, OVERHEAD_BYTES, RANDOM_BYTES};
use lb_core::wire::{Outcome, RESPONSE_OVERHEAD_MAX};
use lb_core::{Duration, Instant, NodeId};
use rand_core::CryptoRng;

use crate::clock;
use crate::socket::{Datagrams, Network, Socket, SocketBuffers, SocketSlices};
use crate::step::{STEPS, Step, send, stuck_at};

/// A request to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct Request<'a> {
    /// Who asks: the id of its key.
    pub from: NodeId,
    /// What is asked.
    pub method: &'a str,
    /// The body.
    pub body: &'a [u8],
    /// How long the caller waits.
    pub within: Duration,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refusal {
    /// There is no such method.
    UnknownMethod,
    /// This is why. The caller gets it as an error, and asks nobody else.
    Because(&'static str),
    /// The answer would have so many bytes, more than there is room for.
    TooLarge(usize),
}

/// Answers requests, one at a time, in the worker's task: other edges wait meanwhile, and so does the rest of the executor.
pub trait Handler {
    /// Writes the answer to `out`, which is as long as the caller can take, and gives its length.
    ///
    /// # Errors
    /// [`Refusal`]: what the caller is told instead.
    fn handle(&mut self, request: Request<'_>, out: &mut [u8]) -> Result<usize, Refusal>;
}

impl<F: FnMut(Request<'_>, &mut [u8]) -> Result<usize, Refusal>> Handler for F {
    fn handle(&mut self, request: Request<'_>, out: &mut [u8]) -> Result<usize, Refusal> {
        self(request, out)
    }
}

/// All the memory of a [`Worker`], usually in a `StaticCell`: `GUESTS` edges at once, the last `CALLS` calls of each
/// remembered with `RESPONSE` bytes of response, datagrams of `DATAGRAM` bytes.
///
/// A longer response is sent, but not repeated when it was lost: its call fails. `RESPONSE` counts up to 78 bytes beside
/// the answer. A guest takes 360 bytes and `CALLS × RESPONSE`; `DATAGRAM` is taken five times.
pub struct WorkerStorage<
    const GUESTS: usize,
    const CALLS: usize,
    const RESPONSE: usize,
    const DATAGRAM: usize,
    C: Cipher = ChaCha20Poly1305,
> {
    gate: MaybeUninit<Gate<GUESTS, CALLS, RESPONSE, C>>,
    socket: SocketBuffers<DATAGRAM>,
    received: [u8; DATAGRAM],
    answer: [u8; DATAGRAM],
    sealed: [u8; DATAGRAM],
}

impl<const GUESTS: usize, const CALLS: usize, const RESPONSE: usize, const DATAGRAM: usize, C: Cipher>
    WorkerStorage<GUESTS, CALLS, RESPONSE, DATAGRAM, C>
{
    /// Storage that is not in use yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            gate: MaybeUninit::uninit(),
            socket: SocketBuffers::new(),
            received: [0; DATAGRAM],
            answer: [0; DATAGRAM],
            sealed: [0; DATAGRAM],
        }
    }
}

impl<const GUESTS: usize, const CALLS: usize, const RESPONSE: usize, const DATAGRAM: usize, C: Cipher> Default
    for WorkerStorage<GUESTS, CALLS, RESPONSE, DATAGRAM, C>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const GUESTS: usize, const CALLS: usize, const RESPONSE: usize, const DATAGRAM: usize, C: Cipher>
    fmt::Debug for WorkerStorage<GUESTS, CALLS, RESPONSE, DATAGRAM, C>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerStorage").finish_non_exhaustive()
    }
}

/// Who a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct WorkerConfig {
    /// Its id, of its own among the servers its edges use.
    pub id: NodeId,
    /// Higher at each boot, or random.
    pub epoch: u32,
    /// The UDP port edges send to.
    pub port: u16,
    /// How long a silent edge keeps its place: `failed`.
    pub timers: Timers,
}

/// A device that serves edges: the one task that has to run is [`Worker::run`].
///
/// It recommends no other workers: give every edge the addresses of all. Workers and edges of one device run side by
/// side, with a socket each.
pub struct Worker<'a, G, R> {
    stack: Stack<'a>,
    buffers: SocketSlices<'a>,
    port: u16,
    keys: &'a dyn KeyStore,
    rng: R,
    inner: Inner<'a, G>,
}

/// What is between the socket and the handler.
struct Inner<'a, G> {
    gate: &'a mut G,
    received: &'a mut [u8],
    answer: &'a mut [u8],
    sealed: &'a mut [u8],
    /// The datagram in `sealed` that was not sent yet. Nothing is received meanwhile.
    outbox: Option<Transmit>,
}

impl<'a, const GUESTS: usize, const CALLS: usize, const RESPONSE: usize, C: Cipher, R: CryptoRng>
    Worker<'a, Gate<GUESTS, CALLS, RESPONSE, C>, R>
{
    /// A worker on this network stack, for the edges whose keys are in `keys`. It needs one socket of the stack's.
    pub fn new<const DATAGRAM: usize>(
        stack: Stack<'a>,
        storage: &'a mut WorkerStorage<GUESTS, CALLS, RESPONSE, DATAGRAM, C>,
        config: WorkerConfig,
        keys: &'a dyn KeyStore,
        rng: R,
    ) -> Self {
        // It answers one after the other.
        let gate = Gate::new(config.id, config.epoch, 1, config.timers);
        Self {
            stack,
            buffers: storage.socket.slices(),
            port: config.port,
            keys,
            rng,
            inner: Inner {
                gate: storage.gate.write(gate),
                received: &mut storage.received,
                answer: &mut storage.answer,
                sealed: &mut storage.sealed,
                outbox: None,
            },
        }
    }

    /// Serves, for ever. The future may be dropped and `run` called again: no edge notices but for the pause.
    pub async fn run(&mut self, handler: &mut impl Handler) -> ! {
        let Self {
            stack,
            buffers,
            port,
            keys,
            rng,
            inner,
        } = self;
        let mut random = || {
            let mut bytes = [0; RANDOM_BYTES];
            rng.fill_bytes(&mut bytes);
            bytes
        };
        loop {
            let mut datagrams = Datagrams::NONE;
            let socket = Socket::open(*stack, &mut datagrams, buffers, port);
            let mut blocked = None;
            poll_fn(|cx| {
                let now = clock::now();
                for _ in 0..STEPS {
                    match inner.step(cx, now, &socket, &mut blocked, *keys, &mut random, handler) {
                        Step::Again => {}
                        Step::Done => return Poll::Pending,
                        Step::Stuck => return Poll::Ready(()),
                    }
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            // Whoever it is for does not answer to ARP, so it would wait until the next one, and all others behind it.
            inner.outbox = None;
        }
    }
}

impl<const GUESTS: usize, const CALLS: usize, const RESPONSE: usize, C: Cipher>
    Inner<'_, Gate<GUESTS, CALLS, RESPONSE, C>>
{
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a worker, borrowed one by one"
    )]
    fn step(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        network: &impl Network,
        blocked: &mut Option<Instant>,
        keys: &dyn KeyStore,
        random: &mut dyn FnMut() -> [u8; RANDOM_BYTES],
        handler: &mut impl Handler,
    ) -> Step {
        if send(cx, now, network, self.sealed, &mut self.outbox, blocked) {
            return Step::Again;
        }
        if let Some(at) = stuck_at(*blocked) {
            if at <= now {
                return Step::Stuck;
            }
            clock::wake_at(cx, at);
            return Step::Done;
        }
        let Poll::Ready(received) = network.poll_receive(cx, self.received) else {
            return Step::Done;
        };
        let Some((len, from)) = received else {
            return Step::Again;
        };
        let datagram = self.received.get_mut(..len).unwrap_or_default();
        let heard = self
            .gate
            .handle_datagram(now, from, datagram, keys, random, self.sealed);
        self.outbox = match heard {
            Ok(Heard::Reply(transmit)) => Some(transmit),
            Ok(Heard::Request(work)) => {
                let (outcome, len) = answer(handler, &work, self.answer);
                let done = clock::now();
                let body = self.answer.get(..len).unwrap_or_default();
                self.gate
                    .respond(done, work.id, outcome, body, done.since(now), self.sealed)
            }
            Ok(Heard::Nothing | Heard::Cancelled(_)) | Err(_) => None,
        };
        Step::Again
    }
}

/// Has the handler answer into `out`; how many bytes it is.
fn answer(handler: &mut impl Handler, work: &Work<'_>, out: &mut [u8]) -> (Outcome, usize) {
    let room = out
        .len()
        .saturating_sub(OVERHEAD_BYTES + RESPONSE_OVERHEAD_MAX)
        .min(work.response_max.into());
    let out = out.get_mut(..room).unwrap_or_default();
    let request = Request {
        from: work.from,
        method: work.method,
        body: work.body,
        within: work.budget,
    };
    match handler.handle(request, out) {
        Ok(len) if len <= room => (Outcome::Ok, len),
        Ok(size) | Err(Refusal::TooLarge(size)) => {
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            (Outcome::ResponseTooLarge { size }, 0)
        }
        Err(Refusal::UnknownMethod) => (Outcome::UnknownMethod, 0),
        Err(Refusal::Because(text)) => {
            let len = text.floor_char_boundary(room);
            if let (Some(to), Some(from)) = (out.get_mut(..len), text.as_bytes().get(..len)) {
                to.copy_from_slice(from);
            }
            (Outcome::Handler, len)
        }
    }
}

impl<G, R> fmt::Debug for Worker<'_, G, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<G, R> defmt::Format for Worker<'_, G, R> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Worker {{ port: {} }}", self.port);
    }
}

#[cfg(feature = "defmt")]
impl<const GUESTS: usize, const CALLS: usize, const RESPONSE: usize, const DATAGRAM: usize, C: Cipher>
    defmt::Format for WorkerStorage<GUESTS, CALLS, RESPONSE, DATAGRAM, C>
{
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "WorkerStorage");
    }
}
