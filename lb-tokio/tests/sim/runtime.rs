//! Virtual time, for the test and for quinn.

use std::{io, pin::Pin, sync::Arc, time::Instant};

use quinn::{AsyncTimer, AsyncUdpSocket, EndpointConfig, Runtime, TokioRuntime};

use super::prng::Prng;

/// Runs a test on a runtime of its own whose clock jumps from timer to timer.
pub fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing from the system")
        .block_on(test)
}

/// What quinn runs on. Its clock and timers are tokio's, so they pause with it.
pub fn runtime() -> Arc<dyn Runtime> {
    Arc::new(SimRuntime)
}

/// The endpoint settings that make quinn's own choices follow a seed.
pub fn endpoint_config(seed: u64) -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.rng_seed(Some(rng_seed(seed)));
    config
}

/// A seed in the form quinn takes.
pub fn rng_seed(seed: u64) -> [u8; 32] {
    let mut prng = Prng::new(seed);
    let mut bytes = [0; 32];
    for word in bytes.chunks_exact_mut(8) {
        word.copy_from_slice(&prng.next().to_le_bytes());
    }
    bytes
}

/// quinn's tokio runtime without the way to real sockets.
#[derive(Debug)]
struct SimRuntime;

impl Runtime for SimRuntime {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        TokioRuntime.spawn(task);
    }

    fn wrap_udp_socket(&self, _: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a simulated endpoint has no real sockets: bind one of the net",
        ))
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
