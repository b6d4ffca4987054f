//! A runtime for quinn that puts many small writes into one UDP datagram.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use quinn::{AsyncTimer, AsyncUdpSocket, Runtime, TokioRuntime};

/// A [`quinn::Runtime`] on tokio that lets a connection gather what all ready tasks write before it sends.
///
/// Each QUIC connection is driven by a task of its own, and every write to a stream wakes it. Tokio's
/// multi-thread runtime runs a task that was woken by another task next, before anything else that is ready
/// (its LIFO slot). With stock quinn the driver therefore runs after every single write and sends one
/// datagram per call, however many calls are ready to write; that costs most of the CPU time of small calls.
///
/// Under this runtime a driver that is woken goes once to the end of the queue before it runs. By then the
/// tasks that were ready have written, and their frames share packets. Nothing waits for a timer: on an idle
/// runtime the driver runs at once. Timers, sockets and the clock are those of [`TokioRuntime`]; the
/// current-thread runtime, which has no LIFO slot, works as before.
///
/// Like [`TokioRuntime`], it has to be used within a tokio runtime.
///
/// ```
/// use std::sync::Arc;
/// use lb_tokio::CoalescingRuntime;
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
/// let endpoint =
///     quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, Arc::new(CoalescingRuntime))?;
/// assert!(endpoint.local_addr()?.ip().is_loopback());
/// # Ok::<(), std::io::Error>(())
/// # })?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CoalescingRuntime;

impl Runtime for CoalescingRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    #[track_caller]
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        tokio::spawn(LastInLine {
            future,
            queued: false,
        });
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}

/// Polls a future every second time it is polled itself, and sees to it that there is a second time.
///
/// Why no wake-up is lost: the first poll of a pair wakes its own task, so the second always comes, and
/// whatever happened before the second is seen by the future's own poll then. A wake-up during or after the
/// second poll schedules the task again and so starts a new pair. Why it does not spin: the first poll of a
/// pair happens only after a wake-up, so there are at most two polls per wake-up. (A task that wakes itself
/// while it runs goes to the end of tokio's queue, never into the LIFO slot; that is the whole trick.)
struct LastInLine<F> {
    future: F,
    /// Whether this task has been to the end of the queue since it was woken.
    queued: bool,
}

impl<F> fmt::Debug for LastInLine<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastInLine")
            .field("queued", &self.queued)
            .finish_non_exhaustive()
    }
}

impl<F: Future<Output = ()> + Unpin> Future for LastInLine<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.queued {
            self.queued = false;
            Pin::new(&mut self.future).poll(cx)
        } else {
            self.queued = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use lb_core::NodeId;
    use quinn::{Connection, Endpoint, EndpointConfig};
    use tokio::sync::{Notify, oneshot};

    use super::*;
    use crate::identity::{ClusterCa, ClusterName, dial_name};

    const LONG: Duration = Duration::from_secs(30);

    fn multi_thread() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    }

    fn current_thread() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    /// Runs `test` on both kinds of runtime, bounded in time.
    fn on_both<Fut: Future<Output = ()>>(test: impl Fn() -> Fut) {
        for runtime in [multi_thread(), current_thread()] {
            runtime.block_on(async { tokio::time::timeout(LONG, test()).await.expect("hangs") });
        }
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn two_polls_per_wake_up_and_no_more() {
        let wakes = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let cx = &mut Context::from_waker(&waker);
        let polls = Arc::new(AtomicUsize::new(0));
        let inner = {
            let polls = Arc::clone(&polls);
            Box::pin(poll_fn(move |_| {
                if polls.fetch_add(1, SeqCst) == 2 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            }))
        };
        let mut task = LastInLine {
            future: inner,
            queued: false,
        };
        for round in 0..3 {
            assert!(Pin::new(&mut task).poll(cx).is_pending());
            assert_eq!((wakes.0.load(SeqCst), polls.load(SeqCst)), (round + 1, round));
            let second = Pin::new(&mut task).poll(cx);
            // The second poll wakes nobody by itself.
            assert_eq!((wakes.0.load(SeqCst), polls.load(SeqCst)), (round + 1, round + 1));
            assert_eq!(second.is_ready(), round == 2);
        }
    }

    #[test]
    fn many_wake_ups_from_elsewhere_complete() {
        on_both(|| async {
            const N: u64 = 10_000;
            let (notify, count, (done, finished)) = (
                Arc::new(Notify::new()),
                Arc::new(AtomicU64::new(0)),
                oneshot::channel(),
            );
            let (heard, seen) = (Arc::clone(&notify), Arc::clone(&count));
            let driver_polls = Arc::new(AtomicU64::new(0));
            let polls = Arc::clone(&driver_polls);
            CoalescingRuntime.spawn(Box::pin(async move {
                let mut wait = Box::pin(async {
                    while seen.load(SeqCst) < N {
                        heard.notified().await;
                    }
                });
                poll_fn(|cx| {
                    polls.fetch_add(1, SeqCst);
                    wait.as_mut().poll(cx)
                })
                .await;
                let _ = done.send(());
            }));
            for i in 0..N {
                count.fetch_add(1, SeqCst);
                notify.notify_one();
                if i % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            finished.await.unwrap();
            assert!(driver_polls.load(SeqCst) <= N + 1, "polled more often than woken");
        });
    }

    #[test]
    fn wake_up_during_the_poll_is_not_lost() {
        on_both(|| async {
            let (done, finished) = oneshot::channel();
            CoalescingRuntime.spawn(Box::pin(async move {
                // By the task itself, and by another thread while the poll goes on.
                for by_itself in [true, false].into_iter().cycle().take(200) {
                    let mut woken = false;
                    poll_fn(|cx| {
                        if woken {
                            return Poll::Ready(());
                        }
                        woken = true;
                        if by_itself {
                            cx.waker().wake_by_ref();
                        } else {
                            let waker = cx.waker().clone();
                            std::thread::spawn(move || waker.wake()).join().unwrap();
                        }
                        Poll::Pending
                    })
                    .await;
                }
                let _ = done.send(());
            }));
            finished.await.unwrap();
        });
    }

    #[test]
    fn many_tasks_and_others_beside_them_all_finish() {
        on_both(|| async {
            let left = Arc::new(AtomicUsize::new(200));
            let all = Arc::new(Notify::new());
            for i in 0..200_usize {
                let (left, all) = (Arc::clone(&left), Arc::clone(&all));
                let work = async move {
                    for n in 0..50 {
                        if n % 10 == i % 10 {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        } else {
                            tokio::task::yield_now().await;
                        }
                    }
                    if left.fetch_sub(1, SeqCst) == 1 {
                        all.notify_one();
                    }
                };
                if i % 2 == 0 {
                    CoalescingRuntime.spawn(Box::pin(work));
                } else {
                    tokio::spawn(work);
                }
            }
            all.notified().await;
        });
    }

    #[test]
    fn a_driver_that_never_rests_starves_nobody() {
        on_both(|| async {
            CoalescingRuntime.spawn(Box::pin(poll_fn(|cx| {
                cx.waker().wake_by_ref();
                Poll::Pending
            })));
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                tokio::spawn(tokio::task::yield_now()).await.unwrap();
            }
        });
    }

    #[test]
    fn timers_keep_the_paused_clock() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let start = CoalescingRuntime.now();
            let mut timer = CoalescingRuntime.new_timer(start + Duration::from_secs(3600));
            let (done, finished) = oneshot::channel();
            CoalescingRuntime.spawn(Box::pin(async move {
                poll_fn(|cx| timer.as_mut().poll(cx)).await;
                let _ = done.send(CoalescingRuntime.now());
            }));
            let took = finished.await.unwrap() - start;
            assert!((3600..3601).contains(&took.as_secs()), "{took:?}");
        });
    }

    #[test]
    fn shutdown_drops_a_waiting_driver() {
        struct OnDrop(Option<oneshot::Sender<()>>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                let _ = self.0.take().unwrap().send(());
            }
        }
        for runtime in [multi_thread(), current_thread()] {
            let (dropped, gone) = oneshot::channel();
            let guard = OnDrop(Some(dropped));
            runtime.block_on(async {
                CoalescingRuntime.spawn(Box::pin(async move {
                    let _guard = guard;
                    std::future::pending::<()>().await;
                }));
            });
            drop(runtime);
            gone.blocking_recv().unwrap();
        }
    }

    /// Two nodes on the loopback interface; the accepting one echoes every stream in a task of its own.
    async fn pair(runtime: Arc<dyn Runtime>) -> (Endpoint, Endpoint, Connection) {
        let cluster = ClusterName::new("a").unwrap();
        let ca = ClusterCa::generate(&cluster).unwrap();
        let node = |id| ca.issue(NodeId::new(id), Duration::from_secs(3600)).unwrap();
        let (one, two) = (node(1), node(2));

        let mut transport = quinn::TransportConfig::default();
        transport.max_concurrent_bidi_streams(256_u32.into());
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(one.server_crypto().unwrap()));
        server.transport_config(Arc::new(transport));
        let client = quinn::ClientConfig::new(Arc::new(two.client_crypto().unwrap()));

        let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listening =
            Endpoint::new(one.endpoint_config(), Some(server), bind(), Arc::clone(&runtime)).unwrap();
        let dialling = Endpoint::new(EndpointConfig::default(), None, bind(), runtime).unwrap();
        let addr = listening.local_addr().unwrap();
        let accepting = listening.clone();
        tokio::spawn(async move {
            let conn = accepting.accept().await.unwrap().await.unwrap();
            while let Ok((mut send, mut recv)) = conn.accept_bi().await {
                tokio::spawn(async move {
                    let request = recv.read_to_end(1024).await.unwrap();
                    send.write_all(&request).await.unwrap();
                    send.finish().unwrap();
                });
            }
        });
        let conn = dialling
            .connect_with(client, addr, &dial_name(&cluster, NodeId::new(1)))
            .unwrap()
            .await
            .unwrap();
        (listening, dialling, conn)
    }

    async fn call(conn: &Connection) {
        let (mut send, mut recv) = conn.open_bi().await.unwrap();
        send.write_all(&[7; 64]).await.unwrap();
        send.finish().unwrap();
        assert_eq!(recv.read_to_end(1024).await.unwrap(), [7; 64]);
    }

    /// UDP datagrams that the dialling side sends per call, with 128 calls in flight.
    fn datagrams_per_call(runtime: Arc<dyn Runtime>) -> f64 {
        const IN_FLIGHT: u32 = 128;
        const EACH: u32 = 40;
        multi_thread().block_on(async {
            let run = async {
                let (_listening, _dialling, conn) = pair(runtime).await;
                call(&conn).await;
                let before = conn.stats().udp_tx.datagrams;
                let tasks: Vec<_> = (0..IN_FLIGHT)
                    .map(|_| {
                        let conn = conn.clone();
                        tokio::spawn(async move {
                            for _ in 0..EACH {
                                call(&conn).await;
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
                let sent = conn.stats().udp_tx.datagrams - before;
                f64::from(u32::try_from(sent).unwrap()) / f64::from(IN_FLIGHT * EACH)
            };
            tokio::time::timeout(LONG, run).await.expect("hangs")
        })
    }

    #[test]
    fn calls_share_datagrams() {
        // Counts, not times. A busy machine can only make the stock runtime gather more, or ours less, for a
        // while.
        let mut seen = Vec::new();
        for _ in 0..5 {
            let stock = datagrams_per_call(Arc::new(TokioRuntime));
            let ours = datagrams_per_call(Arc::new(CoalescingRuntime));
            seen.push((stock, ours));
            if ours < stock / 2.0 {
                println!("datagrams per call (stock, coalescing): {seen:.3?}");
                return;
            }
        }
        panic!("datagrams per call (stock, coalescing): {seen:.3?}");
    }

    #[test]
    fn calls_work_on_the_current_thread_runtime() {
        current_thread().block_on(async {
            let (_listening, _dialling, conn) = pair(Arc::new(CoalescingRuntime)).await;
            for _ in 0..100 {
                tokio::time::timeout(LONG, call(&conn)).await.expect("hangs");
            }
        });
    }
}
