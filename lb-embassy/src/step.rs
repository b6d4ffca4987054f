//! One step of the task: at most a datagram out, a datagram in, and what is due.

use core::task::{Context, Poll};

use lb_core::edge::{Answer, Received, Transmit};
use lb_core::member::Addr;
use lb_core::wire::seal::{Cipher, RANDOM_BYTES};
use lb_core::{Duration, Instant};

use crate::call::outcome;
use crate::clock;
use crate::fmt::debug;
use crate::socket::Network;
use crate::state::{Delivery, State};

/// A datagram that the stack keeps back for longer is for a neighbour that does not answer, and all others wait behind
/// it. An answer to ARP takes a few milliseconds; one that comes later serves the next datagram.
const STUCK: Duration = Duration::from_millis(100);

/// An answer that its call does not take within twice this time ends it: nobody polls that call, and everybody else
/// waits for the buffer.
const HAND_OVER: Duration = Duration::from_millis(100);

/// Datagrams each way before other tasks have a turn.
pub(crate) const STEPS: u32 = 8;

/// What a step has come to.
pub(crate) enum Step {
    /// Something was done, there may be more.
    Again,
    /// Nothing to do until the task is woken.
    Done,
    /// The socket does not send.
    Stuck,
}

/// When to give up on a socket that has been refusing since then.
pub(crate) fn stuck_at(blocked: Option<Instant>) -> Option<Instant> {
    blocked.map(|since| since.saturating_add(STUCK))
}

/// Sends what is in the outbox. Whether it is gone.
pub(crate) fn send(
    cx: &mut Context<'_>,
    now: Instant,
    network: &impl Network,
    sealed: &[u8],
    outbox: &mut Option<Transmit>,
    blocked: &mut Option<Instant>,
) -> bool {
    let Some(transmit) = outbox else {
        return false;
    };
    let datagram = sealed.get(..transmit.len).unwrap_or_default();
    if network.poll_send(cx, datagram, transmit.addr).is_pending() {
        blocked.get_or_insert(now);
        return false;
    }
    *blocked = None;
    *outbox = None;
    true
}

fn sooner(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl<
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
    C: Cipher,
> State<SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM, C>
{
    pub(crate) fn handle_link(&mut self, now: Instant, up: bool) {
        self.core.handle_link(now, up);
        self.changed();
    }

    /// `blocked` is since when the socket has refused the datagram in the outbox.
    pub(crate) fn step(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        network: &impl Network,
        blocked: &mut Option<Instant>,
        random: &mut impl FnMut() -> [u8; RANDOM_BYTES],
    ) -> Step {
        self.runner.register(cx.waker());
        let mut worked = self.keep_time(now, random);
        worked |= self.send(cx, now, network, blocked);
        worked |= self.receive(cx, now, network);
        while self.core.poll_event().is_some() {}
        if worked {
            return Step::Again;
        }
        let stuck_at = stuck_at(*blocked);
        if stuck_at.is_some_and(|at| at <= now) {
            return Step::Stuck;
        }
        // What is due but finds the outbox full waits for the socket.
        let due = self.core.next_deadline();
        let due = due.filter(|at| *at > now || stuck_at.is_none());
        let expires = self.inbox.as_ref().map(|delivery| delivery.until);
        if let Some(at) = sooner(sooner(due, stuck_at), expires) {
            clock::wake_at(cx, at);
        }
        Step::Done
    }

    #[inline(never)]
    fn keep_time(&mut self, now: Instant, random: &mut impl FnMut() -> [u8; RANDOM_BYTES]) -> bool {
        self.hurry(now);
        // Once at each moment: what is due stays so until it can be sent.
        let due = self.kept < now && self.core.next_deadline().is_some_and(|at| at <= now);
        if due {
            self.kept = now;
            self.core.handle_timeout(now, random);
            self.changed();
        }
        due
    }

    fn hurry(&mut self, now: Instant) {
        let Some(delivery) = self.inbox.as_mut().filter(|delivery| delivery.until <= now) else {
            return;
        };
        if delivery.reminded {
            debug!("an answer was not taken: its call is not polled");
            let call = delivery.call;
            self.end(now, call);
        } else {
            delivery.reminded = true;
            delivery.until = now.saturating_add(HAND_OVER);
            self.callers.wake();
        }
    }

    #[inline(never)]
    fn send(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        network: &impl Network,
        blocked: &mut Option<Instant>,
    ) -> bool {
        if self.outbox.is_none() {
            self.outbox = self.core.poll_transmit(now, &mut self.sealed);
        }
        let sent = send(cx, now, network, &self.sealed, &mut self.outbox, blocked);
        if sent {
            self.callers.wake();
        }
        sent
    }

    fn receive(&mut self, cx: &mut Context<'_>, now: Instant, network: &impl Network) -> bool {
        if self.inbox.is_some() {
            return false;
        }
        let Poll::Ready(received) = network.poll_receive(cx, &mut self.received) else {
            return false;
        };
        if let Some((len, from)) = received {
            self.handle_datagram(now, len, from);
        }
        true
    }

    #[inline(never)]
    fn handle_datagram(&mut self, now: Instant, len: usize, from: Addr) {
        let origin = self.received.as_ptr().addr();
        let datagram = self.received.get_mut(..len).unwrap_or_default();
        match self.core.handle_datagram(now, from, datagram) {
            Err(_) => return,
            Ok(Received::Control) => {}
            Ok(Received::Answer(Answer { call, server, result })) => {
                let (outcome, bytes) = outcome(result);
                self.inbox = Some(Delivery {
                    call,
                    server,
                    outcome,
                    start: bytes.as_ptr().addr().saturating_sub(origin),
                    len: bytes.len(),
                    until: now.saturating_add(HAND_OVER),
                    reminded: false,
                });
            }
        }
        self.changed();
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use core::task::Waker;

    use lb_core::edge::Config;
    use lb_core::wire::seal::{ChaCha20Poly1305, DeviceKey, HELLO_BYTES};

    use super::*;

    type TestState = State<2, 1, 1, 0, 256, ChaCha20Poly1305>;

    const SERVER: &str = "10.0.0.1:7500";

    #[derive(Default)]
    struct Fake {
        /// Lengths of datagrams to receive; `None` does not fit.
        arrived: RefCell<Vec<Option<usize>>>,
        refuses: bool,
        offered: RefCell<Vec<Vec<u8>>>,
    }

    impl Network for Fake {
        fn poll_receive(&self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Option<(usize, Addr)>> {
            match self.arrived.borrow_mut().pop() {
                None => Poll::Pending,
                Some(None) => Poll::Ready(None),
                Some(Some(len)) => {
                    buffer[..len].fill(1);
                    Poll::Ready(Some((len, server())))
                }
            }
        }

        fn poll_send(&self, _: &mut Context<'_>, datagram: &[u8], to: Addr) -> Poll<()> {
            assert_eq!(to, server());
            self.offered.borrow_mut().push(datagram.into());
            if self.refuses {
                return Poll::Pending;
            }
            Poll::Ready(())
        }
    }

    fn server() -> Addr {
        Addr::from(SERVER.parse::<core::net::SocketAddr>().unwrap())
    }

    fn state() -> TestState {
        let config = Config::new(DeviceKey::new(7, &[1; 32], "orchard"), 1).datagram(256);
        let mut core = crate::state::Core::new(Instant::ZERO, config.check().unwrap());
        core.add_seed(Instant::ZERO, server()).unwrap();
        State::new(core)
    }

    /// Steps until there is nothing to do, `millis` milliseconds after the start.
    fn turn(state: &mut TestState, network: &Fake, blocked: &mut Option<Instant>, millis: u64) -> Step {
        let mut cx = Context::from_waker(Waker::noop());
        let now = Instant::from_millis(millis);
        loop {
            match state.step(&mut cx, now, network, blocked, &mut || [7; RANDOM_BYTES]) {
                Step::Again => {}
                step => return step,
            }
        }
    }

    #[test]
    fn a_refused_datagram_is_offered_again_until_the_socket_is_stuck() {
        let (mut state, mut blocked) = (state(), None);
        let network = Fake {
            refuses: true,
            ..Fake::default()
        };
        for (millis, stuck) in [(1, false), (50, false), (100, false), (101, true)] {
            let step = turn(&mut state, &network, &mut blocked, millis);
            assert_eq!(matches!(step, Step::Stuck), stuck, "{millis} ms");
        }
        let offered = network.offered.borrow();
        assert!(offered.iter().all(|datagram| datagram == &offered[0]));
        assert_eq!(offered[0].len(), HELLO_BYTES);

        let (network, mut blocked) = (Fake::default(), None);
        assert!(matches!(
            turn(&mut state, &network, &mut blocked, 102),
            Step::Done
        ));
        assert_eq!(network.offered.borrow()[0], offered[0], "it was not lost");
        assert!(blocked.is_none() && state.outbox.is_none());
    }

    #[test]
    fn what_makes_no_sense_is_dropped_and_the_rest_received() {
        let (mut state, mut blocked) = (state(), None);
        let network = Fake::default();
        network
            .arrived
            .replace(vec![Some(0), None, Some(48), Some(256), Some(1)]);
        turn(&mut state, &network, &mut blocked, 1);
        assert!(network.arrived.borrow().is_empty());
        assert!(state.inbox.is_none());
        assert_eq!(state.core.counters().dropped, 4);
    }
}
