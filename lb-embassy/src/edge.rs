//! The task: it moves datagrams between the socket and the core, and keeps the time.

use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;

use embassy_net::Stack;
use embassy_sync::blocking_mutex::raw::RawMutex;
use lb_core::edge::{Config, ConfigError, SeedsFull};
use lb_core::member::Addr;
use lb_core::wire::seal::{Cipher, RANDOM_BYTES};
use rand_core::CryptoRng;

use crate::clock;
use crate::fmt::debug;
use crate::handle::EdgeHandle;
use crate::socket::{Datagrams, Link, Socket, SocketSlices};
use crate::step::{STEPS, Step};
use crate::storage::{EdgeStorage, Storage, with};

/// An edge: the one task that has to run, [`Edge::run`], and where handles come from.
///
/// `S` is the [`EdgeStorage`] it lives in, `R` the source of randomness. A handshake takes 16 bytes of it, and their
/// secrecy rests on them: a hardware generator, or one seeded by it.
pub struct Edge<'a, S: Storage, R> {
    stack: Stack<'a>,
    buffers: SocketSlices<'a>,
    port: u16,
    link: Link,
    rng: R,
    shared: &'a S::Shared,
}

impl<
    'a,
    M: RawMutex,
    R: CryptoRng,
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> Edge<'a, EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>, R>
{
    /// An edge on this network stack. It needs one socket of the stack's.
    ///
    /// `DATAGRAM` of the storage replaces what the configuration says of datagrams. Give it at least one server with
    /// [`Edge::add_seed`], and have [`Edge::run`] run.
    ///
    /// # Errors
    /// [`ConfigError`] naming the field to change.
    pub fn new(
        stack: Stack<'a>,
        storage: &'a mut EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>,
        config: Config<TAGS>,
        rng: R,
    ) -> Result<Self, ConfigError> {
        let config =
            config.datagram(EdgeStorage::<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>::DATAGRAM_BYTES);
        let (shared, buffers) = storage.fill(clock::now(), config.check()?);
        Ok(Self {
            stack,
            buffers,
            port: 0,
            link: Link::new(),
            rng,
            shared,
        })
    }

    /// A server to start from: the address of its edge listener. One that can be reached is enough, it tells of others.
    ///
    /// # Errors
    /// [`SeedsFull`]: there are as many as `SERVERS` already.
    pub fn add_seed(&mut self, server: SocketAddr) -> Result<(), SeedsFull> {
        let now = clock::now();
        with(self.shared, |state| state.core.add_seed(now, Addr::from(server)))
    }

    /// The UDP port to use, 0 for any, which is the default. Takes effect when [`Edge::run`] starts.
    pub const fn set_port(&mut self, port: u16) {
        self.port = port;
    }

    /// What tasks make calls with.
    #[must_use]
    pub const fn handle(
        &self,
    ) -> EdgeHandle<'a, EdgeStorage<M, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>> {
        EdgeHandle::new(self.shared)
    }

    /// Runs the edge, for ever.
    ///
    /// The future may be dropped and `run` called again: sessions and calls go on, as after a pause of the network.
    pub async fn run(&mut self) -> ! {
        let Self {
            stack,
            buffers,
            port,
            link,
            rng,
            shared,
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
                if let Some(up) = link.poll_change(cx, now, *stack) {
                    with(shared, |state| state.handle_link(now, up));
                }
                for _ in 0..STEPS {
                    // The lock is free between the steps, so that interrupts are never off for long.
                    match with(shared, |state| {
                        state.step(cx, now, &socket, &mut blocked, &mut random)
                    }) {
                        Step::Again => {}
                        Step::Done => return Poll::Pending,
                        Step::Stuck => return Poll::Ready(()),
                    }
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            debug!("a neighbour does not answer: dropped what waited for it");
        }
    }
}

impl<S: Storage, R> fmt::Debug for Edge<'_, S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<S: Storage, R> defmt::Format for Edge<'_, S, R> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "Edge {{ port: {} }}", self.port);
    }
}
