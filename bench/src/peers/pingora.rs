//! `pingora-load-balancing`: a selector behind an atomic pointer, over backends with health.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pingora_load_balancing::discovery::Static;
use pingora_load_balancing::selection::{BackendIter, BackendSelection, Consistent, Random, RoundRobin};
use pingora_load_balancing::{Backend, Backends, LoadBalancer};

use super::peer;
use crate::input::{address, weight};
use crate::measure::Contender;

/// As in pingora's examples.
const MAX_ITERATIONS: usize = 256;

fn select<S>(what: &str, n: usize, weight: impl Fn(usize) -> u16) -> Contender
where
    S: BackendSelection + 'static,
    S::Iter: BackendIter,
{
    let backends: BTreeSet<Backend> = (0..n)
        .map(|slot| Backend::new_with_weight(&address(slot).to_string(), weight(slot).into()))
        .collect::<Result<_, _>>()
        .expect("addresses are valid");
    let balancer = LoadBalancer::<S>::from_backends(Backends::new(Static::new(backends)));
    let updated = pin!(balancer.update()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(
        matches!(updated, Poll::Ready(Ok(()))),
        "a static list is there at once"
    );
    peer("pingora-load-balancing", what, move |key| {
        let backend = balancer.select(&key.to_le_bytes(), MAX_ITERATIONS);
        backend.expect("all are healthy").weight
    })
}

/// Each in turn.
#[must_use]
pub fn round_robin(n: usize) -> Contender {
    select::<RoundRobin>("RoundRobin", n, |_| 1)
}

/// Each in turn, as often in a row as its weight says.
#[must_use]
pub fn weighted_round_robin(n: usize) -> Contender {
    select::<RoundRobin>("RoundRobin, weighted", n, weight)
}

/// Any of them.
#[must_use]
pub fn random(n: usize) -> Contender {
    select::<Random>("Random", n, |_| 1)
}

/// By weight, at random.
#[must_use]
pub fn weighted_random(n: usize) -> Contender {
    select::<Random>("Random, weighted", n, weight)
}

/// nginx's ring, as the balancer uses it.
#[must_use]
pub fn consistent(n: usize) -> Contender {
    select::<Consistent>("Consistent", n, |_| 1)
}
