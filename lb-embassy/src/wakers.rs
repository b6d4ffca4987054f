//! Who waits for a change.

use core::task::Waker;

/// At most `N` tasks that wait for the same.
///
/// When all places are taken, another waiter is told so and looks again by itself after a while: no waiter displaces
/// another, because two that do would wake each other without end.
#[derive(Debug)]
pub(crate) struct Wakers<const N: usize>([Option<Waker>; N]);

impl<const N: usize> Wakers<N> {
    pub(crate) const fn new() -> Self {
        Self([const { None }; N])
    }

    /// Whether there was a place. A task has one, however often it registers.
    #[must_use]
    pub(crate) fn register(&mut self, waker: &Waker) -> bool {
        let mut free = None;
        for place in &mut self.0 {
            match place {
                Some(known) if known.will_wake(waker) => return true,
                Some(_) => {}
                None => free = Some(place),
            }
        }
        match free {
            Some(place) => {
                *place = Some(waker.clone());
                true
            }
            None => false,
        }
    }

    /// Wakes all, and forgets them: who still waits registers when it is polled.
    pub(crate) fn wake(&mut self) {
        for place in &mut self.0 {
            if let Some(waker) = place.take() {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), count.into())
    }

    #[test]
    fn wakes_each_task_once_and_displaces_nobody() {
        let (first, first_waker) = counter();
        let (second, second_waker) = counter();
        let (third, third_waker) = counter();
        let mut wakers = Wakers::<2>::new();
        assert!(wakers.register(&first_waker));
        assert!(wakers.register(&first_waker.clone()), "one task, one place");
        assert!(wakers.register(&second_waker));
        assert!(!wakers.register(&third_waker), "there is no third place");
        wakers.wake();
        wakers.wake();
        let woken = [&first, &second, &third].map(|count| count.0.load(Ordering::Relaxed));
        assert_eq!(woken, [1, 1, 0]);
        assert!(wakers.register(&third_waker), "the places are free again");
    }
}
