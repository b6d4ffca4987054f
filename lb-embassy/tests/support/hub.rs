//! A simulated Ethernet: a hub with ports, whose cables lose, repeat and delay frames as a seed says.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::task::{Context, Waker};

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use lb_core::rng::{Rng, Sfc32};

use super::clock;

/// What happens to frames on their way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Of a thousand frames, so many are lost.
    pub(crate) loss: u32,
    /// Of a thousand frames, so many arrive twice.
    pub(crate) duplication: u32,
    /// Shortest and longest delay, in microseconds.
    pub(crate) delay: (u32, u32),
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        loss: 0,
        duplication: 0,
        delay: (100, 200),
    };
}

#[derive(Default)]
struct Port {
    up: bool,
    received: Vec<Vec<u8>>,
    waker: Option<Waker>,
}

impl Port {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct State {
    rng: Sfc32,
    faults: Faults,
    ports: Vec<Port>,
    /// By time of arrival, then in the order they were sent.
    flying: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    sent: u64,
    trace: DefaultHasher,
}

/// The hub, shared by its ports.
#[derive(Clone)]
pub(crate) struct Hub(Rc<RefCell<State>>);

impl Hub {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(State {
            rng: Sfc32::new(seed),
            faults: Faults::NONE,
            ports: Vec::new(),
            flying: BTreeMap::new(),
            sent: 0,
            trace: DefaultHasher::new(),
        })))
    }

    pub(crate) fn plug_in(&self) -> Cable {
        let mut state = self.0.borrow_mut();
        state.ports.push(Port {
            up: true,
            ..Port::default()
        });
        Cable {
            hub: self.clone(),
            port: state.ports.len() - 1,
        }
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// Pulls the cable of a port, or plugs it in again.
    pub(crate) fn set_link(&self, port: usize, up: bool) {
        let mut state = self.0.borrow_mut();
        if let Some(port) = state.ports.get_mut(port) {
            port.up = up;
            port.received.clear();
            port.wake();
        }
    }

    /// How many frames were sent, and a digest of when, where and what.
    pub(crate) fn trace(&self) -> (u64, u64) {
        let state = self.0.borrow();
        (state.sent, state.trace.finish())
    }

    /// When the next frame arrives.
    pub(crate) fn next(&self) -> Option<u64> {
        self.0.borrow().flying.keys().next().map(|(at, _)| *at)
    }

    /// Hands over what has arrived by `now`.
    pub(crate) fn deliver(&self, now: u64) {
        let mut state = self.0.borrow_mut();
        let later = state.flying.split_off(&(now + 1, 0));
        let arrived = std::mem::replace(&mut state.flying, later);
        for (to, frame) in arrived.into_values() {
            if let Some(port) = state.ports.get_mut(to).filter(|port| port.up) {
                port.received.push(frame);
                port.wake();
            }
        }
    }
}

impl State {
    fn chance(&mut self, of_a_thousand: u32) -> bool {
        self.rng.below(1000) < of_a_thousand
    }

    fn send(&mut self, from: usize, frame: &[u8]) {
        let now = clock::now();
        (now, from, frame).hash(&mut self.trace);
        self.sent += 1;
        if !self.ports.get(from).is_some_and(|port| port.up) {
            return;
        }
        for to in (0..self.ports.len()).filter(|&to| to != from) {
            let copies = 1 + u32::from(self.chance(self.faults.duplication));
            for _ in 0..copies {
                let (least, most) = self.faults.delay;
                let delay = least + self.rng.below(most - least + 1);
                if !self.chance(self.faults.loss) {
                    let order = self.sent * 64 + self.flying.len() as u64 % 64;
                    self.flying
                        .insert((now + u64::from(delay), order), (to, frame.to_vec()));
                }
            }
        }
    }
}

/// A port of the hub, as embassy-net drives it.
pub(crate) struct Cable {
    hub: Hub,
    port: usize,
}

impl Cable {
    pub(crate) fn port(&self) -> usize {
        self.port
    }

    fn listen(&self, cx: &Context<'_>) {
        if let Some(port) = self.hub.0.borrow_mut().ports.get_mut(self.port) {
            port.waker = Some(cx.waker().clone());
        }
    }
}

pub(crate) struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(mut self, f: F) -> R {
        f(&mut self.0)
    }
}

pub(crate) struct Sending<'a>(&'a Cable);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.hub.0.borrow_mut().send(self.0.port, &frame);
        result
    }
}

impl Driver for Cable {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Received, Sending<'_>)> {
        self.listen(cx);
        let frame = {
            let mut state = self.hub.0.borrow_mut();
            let port = state.ports.get_mut(self.port)?;
            (!port.received.is_empty()).then(|| port.received.remove(0))?
        };
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Sending<'_>> {
        self.listen(cx);
        Some(Sending(self))
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        self.listen(cx);
        match self.hub.0.borrow().ports.get(self.port) {
            Some(port) if port.up => LinkState::Up,
            _ => LinkState::Down,
        }
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = 1514;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet([2, 0, 0, 0, 0, self.port as u8 + 1])
    }
}
