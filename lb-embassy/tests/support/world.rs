//! Tasks on virtual time, polled by hand in a fixed order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use embassy_net::{Config, Ipv4Address, Ipv4Cidr, Stack, StackResources, StaticConfigV4};

use super::clock;
use super::hub::Hub;

/// So many polls at one moment are a busy loop, not work.
const BUSY: u32 = 10_000;

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Task {
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    flag: Arc<Flag>,
}

/// A task, for [`World::kill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskId(usize);

/// Everything there is in one test.
pub(crate) struct World {
    pub(crate) hub: Hub,
    tasks: Vec<Task>,
    pub(crate) polls: u64,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        clock::reset();
        Self {
            hub: Hub::new(seed),
            tasks: Vec::new(),
            polls: 0,
        }
    }

    /// A network stack at 10.0.0.`host`, and fd00::`host`, and the port of the hub it is plugged into.
    pub(crate) fn stack(&mut self, host: u8) -> (Stack<'static>, usize) {
        let cable = self.hub.plug_in();
        let port = cable.port();
        #[cfg_attr(not(feature = "proto-ipv6"), expect(unused_mut))]
        let mut config = Config::ipv4_static(StaticConfigV4 {
            address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 0, host), 24),
            gateway: None,
            dns_servers: Default::default(),
        });
        #[cfg(feature = "proto-ipv6")]
        {
            let address = std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host.into());
            config.ipv6 = embassy_net::ConfigV6::Static(embassy_net::StaticConfigV6 {
                address: embassy_net::Ipv6Cidr::new(address, 64),
                gateway: None,
                dns_servers: Default::default(),
            });
        }
        let resources = Box::leak(Box::new(StackResources::<4>::new()));
        let (stack, mut runner) = embassy_net::new(cable, config, resources, u64::from(host));
        self.spawn(async move { runner.run().await });
        (stack, port)
    }

    pub(crate) fn spawn(&mut self, future: impl Future<Output = ()> + 'static) -> TaskId {
        self.tasks.push(Task {
            future: Some(Box::pin(future)),
            flag: Arc::new(Flag(AtomicBool::new(true))),
        });
        TaskId(self.tasks.len() - 1)
    }

    /// Drops a task's future where it stands.
    pub(crate) fn kill(&mut self, task: TaskId) {
        if let Some(task) = self.tasks.get_mut(task.0) {
            task.future = None;
        }
    }

    pub(crate) fn is_done(&self, task: TaskId) -> bool {
        self.tasks.get(task.0).is_none_or(|task| task.future.is_none())
    }

    /// Polls whoever is woken, until nobody is.
    pub(crate) fn settle(&mut self) {
        let mut polls = 0;
        while self.poll_round(&mut polls) {}
    }

    fn poll_round(&mut self, polls: &mut u32) -> bool {
        let mut any = false;
        for task in &mut self.tasks {
            let Some(future) = &mut task.future else {
                continue;
            };
            if !task.flag.0.swap(false, Ordering::Relaxed) {
                continue;
            }
            any = true;
            *polls += 1;
            self.polls += 1;
            assert!(*polls < BUSY, "the tasks wake each other without end");
            let waker = Waker::from(Arc::clone(&task.flag));
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                task.future = None;
            }
        }
        any
    }

    /// Moves on to whatever is next, at most to `until`.
    fn step(&mut self, until: u64) {
        let next = [clock::next(), self.hub.next()].into_iter().flatten().min();
        clock::advance(next.unwrap_or(until).min(until));
        self.hub.deliver(clock::now());
    }

    /// Runs for `millis` milliseconds of virtual time.
    pub(crate) fn run_for(&mut self, millis: u64) {
        self.run_until(millis, || false);
    }

    /// Runs until `done`, at most for `millis` milliseconds; whether it was done.
    pub(crate) fn run_until(&mut self, millis: u64, mut done: impl FnMut() -> bool) -> bool {
        let until = clock::now() + millis * 1000;
        loop {
            self.settle();
            if done() {
                return true;
            }
            if clock::now() >= until {
                return false;
            }
            self.step(until);
        }
    }

    /// Runs until the future is ready, at most for `millis` milliseconds; then it is dropped.
    pub(crate) fn wait<T: 'static>(
        &mut self,
        millis: u64,
        future: impl Future<Output = T> + 'static,
    ) -> Option<T> {
        let result = std::rc::Rc::new(std::cell::RefCell::new(None));
        let slot = std::rc::Rc::clone(&result);
        let task = self.spawn(async move {
            let value = future.await;
            slot.replace(Some(value));
        });
        self.run_until(millis, || result.borrow().is_some());
        self.kill(task);
        result.take()
    }

    /// Polls a future once, on behalf of nobody.
    pub(crate) fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}
