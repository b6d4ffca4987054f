//! The demo's load: a fixed number of requests in flight, every answer verified.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lb_tokio::Bytes;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;

use super::files::Chunk;
use crate::crypto::Sealer;

/// How long a slot rests after a failure, so that a broken cluster is not hammered.
const REST: Duration = Duration::from_millis(50);

/// Different error texts kept.
const REASONS_MAX: usize = 5;

/// What has been sent and what came back.
#[derive(Debug)]
pub(crate) struct Tally {
    requests: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    verified_bytes: AtomicU64,
    /// Of the first pass: chunks and bytes verified.
    first_chunks: AtomicU64,
    first_bytes: AtomicU64,
    latency: Mutex<Histogram<u64>>,
    reasons: Mutex<BTreeMap<String, u64>>,
}

/// A [`Tally`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) verified_bytes: u64,
    pub(crate) first_chunks: u64,
    pub(crate) first_bytes: u64,
}

/// Latencies of the requests that were answered, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            requests: AtomicU64::new(0),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            verified_bytes: AtomicU64::new(0),
            first_chunks: AtomicU64::new(0),
            first_bytes: AtomicU64::new(0),
            // Any latency in three digits.
            latency: Mutex::new(Histogram::new(3).unwrap_or_else(|_| unreachable!("3 digits are allowed"))),
            reasons: Mutex::default(),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            requests: self.requests.load(Relaxed),
            ok: self.ok.load(Relaxed),
            failed: self.failed.load(Relaxed),
            verified_bytes: self.verified_bytes.load(Relaxed),
            first_chunks: self.first_chunks.load(Relaxed),
            first_bytes: self.first_bytes.load(Relaxed),
        }
    }

    pub(crate) fn latency(&self) -> Latency {
        let latency = lock(&self.latency);
        Latency {
            p50_us: latency.value_at_quantile(0.5),
            p99_us: latency.value_at_quantile(0.99),
            max_us: latency.max(),
        }
    }

    /// Why requests failed, and how many for each reason.
    pub(crate) fn reasons(&self) -> Vec<(String, u64)> {
        lock(&self.reasons)
            .iter()
            .map(|(reason, count)| (reason.clone(), *count))
            .collect()
    }

    fn succeeded(&self, chunk: &Chunk, took: Duration) {
        let bytes = chunk.body.len() as u64;
        self.ok.fetch_add(1, Relaxed);
        self.verified_bytes.fetch_add(bytes, Relaxed);
        if chunk.pass == 0 {
            self.first_bytes.fetch_add(bytes, Relaxed);
            self.first_chunks.fetch_add(1, Relaxed);
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let _ = lock(&self.latency).record(micros);
    }

    fn failed(&self, reason: String) {
        self.failed.fetch_add(1, Relaxed);
        let mut reasons = lock(&self.reasons);
        if reasons.len() < REASONS_MAX || reasons.contains_key(&reason) {
            *reasons.entry(reason).or_default() += 1;
        } else {
            *reasons.entry("other reasons".to_owned()).or_default() += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slots. Dropping them cancels what is in flight.
#[derive(Debug)]
pub(crate) struct Load {
    slots: JoinSet<()>,
}

impl Load {
    /// Keeps `concurrency` chunks in flight for as long as there are chunks. `call` has one encrypted.
    pub(crate) fn start<C, F>(
        concurrency: u16,
        chunks: mpsc::Receiver<Chunk>,
        sealer: &Sealer,
        tally: &Arc<Tally>,
        call: C,
    ) -> Self
    where
        C: Fn(Bytes) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, String>> + Send + 'static,
    {
        let chunks = Arc::new(AsyncMutex::new(chunks));
        let mut slots = JoinSet::new();
        for _ in 0..concurrency {
            let (chunks, sealer, tally, call) = (
                Arc::clone(&chunks),
                sealer.clone(),
                Arc::clone(tally),
                call.clone(),
            );
            slots.spawn(async move {
                loop {
                    let next = chunks.lock().await.recv().await;
                    let Some(chunk) = next else { return };
                    tally.requests.fetch_add(1, Relaxed);
                    let began = Instant::now();
                    let answer = call(chunk.body.clone()).await;
                    let took = began.elapsed();
                    match answer.and_then(|sealed| verify(&sealer, &chunk.body, &sealed)) {
                        Ok(()) => tally.succeeded(&chunk, took),
                        Err(reason) => {
                            tally.failed(reason);
                            tokio::time::sleep(REST).await;
                        }
                    }
                }
            });
        }
        Self { slots }
    }

    /// Waits until every chunk is answered; whether that was in time.
    pub(crate) async fn finish(mut self, within: Duration) -> bool {
        let all = async { while self.slots.join_next().await.is_some() {} };
        tokio::time::timeout(within, all).await.is_ok()
    }
}

/// Whether this is what was sent, encrypted.
fn verify(sealer: &Sealer, plain: &[u8], sealed: &[u8]) -> Result<(), String> {
    match sealer.open(sealed) {
        Some(opened) if opened == plain => Ok(()),
        Some(_) => Err("an answer decrypts to other bytes than were sent".to_owned()),
        None => Err("an answer does not decrypt with the key".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(bodies: &[&'static [u8]]) -> mpsc::Receiver<Chunk> {
        let (send, receive) = mpsc::channel(64);
        for (index, body) in bodies.iter().enumerate() {
            let pass = u64::from(index >= 3);
            let body = Bytes::from_static(body);
            send.try_send(Chunk { pass, body }).unwrap();
        }
        receive
    }

    #[tokio::test]
    async fn counts_what_is_verified_and_what_is_not() {
        let sealer = Sealer::new(&[1; 32]);
        let tally = Arc::new(Tally::new());
        let worker = sealer.clone();
        let input = chunks(&[b"good", b"", b"good", b"good", b"bent", b"other", b"lost"]);
        let load = Load::start(2, input, &sealer, &tally, move |body: Bytes| {
            let worker = worker.clone();
            async move {
                let mut sealed = worker.seal(&body).unwrap();
                match &body[..] {
                    b"lost" => return Err("no answer".to_owned()),
                    b"other" => sealed = worker.seal(b"rehto").unwrap(),
                    b"bent" => sealed[20] ^= 1,
                    _ => {}
                }
                Ok(sealed.into())
            }
        });
        assert!(load.finish(Duration::from_secs(10)).await);
        assert_eq!(
            tally.counts(),
            Counts {
                requests: 7,
                ok: 4,
                failed: 3,
                verified_bytes: 12,
                first_chunks: 3,
                first_bytes: 8,
            }
        );
        let reasons: Vec<String> = tally.reasons().into_iter().map(|(reason, _)| reason).collect();
        assert_eq!(
            reasons,
            [
                "an answer decrypts to other bytes than were sent",
                "an answer does not decrypt with the key",
                "no answer"
            ]
        );
        let latency = tally.latency();
        assert!(latency.p50_us <= latency.p99_us && latency.p99_us <= latency.max_us);
    }

    #[tokio::test]
    async fn gives_up_on_what_never_ends() {
        let sealer = Sealer::new(&[1; 32]);
        let tally = Arc::new(Tally::new());
        let load = Load::start(1, chunks(&[b"x"]), &sealer, &tally, |_| std::future::pending());
        assert!(!load.finish(Duration::from_millis(20)).await);
    }

    #[test]
    fn reasons_do_not_pile_up() {
        let tally = Tally::new();
        for index in 0..100 {
            tally.failed(format!("reason {index}"));
        }
        let reasons = tally.reasons();
        assert_eq!(reasons.len(), REASONS_MAX + 1);
        assert_eq!(reasons.iter().map(|(_, count)| count).sum::<u64>(), 100);
    }
}
