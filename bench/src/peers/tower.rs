//! `tower`'s balancer: the better of two services by their load, tracked by handles in the responses.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ::tower::Service;
use ::tower::balance::p2c::Balance;
use ::tower::discover::ServiceList;
use ::tower::load::{CompleteOnResponse, Load, PeakEwma, PendingRequests};

use super::peer;
use crate::input::Window;
use crate::measure::Contender;

/// A service that answers at once with its slot.
#[derive(Clone, Copy, Debug)]
struct Server(usize);

impl Service<()> for Server {
    type Response = usize;
    type Error = Infallible;
    type Future = Ready<Result<usize, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.0))
    }
}

/// `poll_ready` and `call`; a call is in flight until its future is dropped.
fn balance<S>(what: &str, n: usize, tracked: impl Fn(Server) -> S) -> Contender
where
    S: Service<(), Error = Infallible> + Load + 'static,
    S::Metric: std::fmt::Debug,
{
    let services: Vec<S> = (0..n).map(|slot| tracked(Server(slot))).collect();
    let mut balance = Balance::new(ServiceList::new::<()>(services));
    let mut begin = move || {
        let mut context = Context::from_waker(Waker::noop());
        let ready = balance.poll_ready(&mut context);
        assert!(matches!(ready, Poll::Ready(Ok(()))), "all services are ready");
        balance.call(())
    };
    let mut window = Window::filled(n, |_| begin());
    peer("tower", what, move |key| {
        let begun = begin();
        drop(window.exchange(key, begun));
        key as usize
    })
}

/// By requests in flight.
#[must_use]
pub fn pending_requests(n: usize) -> Contender {
    balance("Balance<PendingRequests>", n, |server| {
        PendingRequests::new(server, CompleteOnResponse::default())
    })
}

/// By latency times requests in flight.
#[must_use]
pub fn peak_ewma(n: usize) -> Contender {
    let decay = Duration::from_secs(10).as_nanos() as f64;
    balance("Balance<PeakEwma>", n, move |server| {
        PeakEwma::new(
            server,
            Duration::from_millis(1),
            decay,
            CompleteOnResponse::default(),
        )
    })
}
