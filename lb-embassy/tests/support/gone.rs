//! Futures that are dropped on the way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls a future so many times at most, then drops it. `None`: it was dropped.
pub(crate) struct DropAfter<F> {
    future: Option<Pin<Box<F>>>,
    polls: u32,
}

impl<F: Future> Future for DropAfter<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let (Some(future), 1..) = (&mut this.future, this.polls) {
            this.polls -= 1;
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(value));
            }
        }
        if this.polls == 0 {
            this.future = None;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// A future that is dropped after so many polls.
pub(crate) fn drop_after<F: Future>(future: F, polls: u32) -> DropAfter<F> {
    DropAfter {
        future: Some(Box::pin(future)),
        polls,
    }
}
