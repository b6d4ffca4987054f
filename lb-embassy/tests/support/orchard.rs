//! Servers and edges in a world, ready to use.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use embassy_net::Stack;
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_time::Duration;
use lb_core::NodeId;
use lb_core::edge::{Config, Gate};
use lb_core::health::Timers;
use lb_core::member::Tags;
use lb_embassy::{
    Answer, CallError, Edge, EdgeHandle, EdgeStorage, Refusal, Request, Worker, WorkerConfig, WorkerStorage,
};
use rand_core::{CryptoRng, RngCore, impls};

use super::server::{self, Log, Settings, addr, key};
use super::world::{TaskId, World};

pub(crate) const CALLS: usize = 3;
pub(crate) const DATAGRAM: usize = 512;
pub(crate) type Storage = EdgeStorage<NoopRawMutex, 6, 3, CALLS, 32, DATAGRAM>;
pub(crate) const GUESTS: usize = 2;
type WorkerMemory = WorkerStorage<GUESTS, 4, 128, DATAGRAM>;
pub(crate) type TestWorker = Worker<'static, Gate<GUESTS, 4, 128>, TestRng>;
pub(crate) type Handle = EdgeHandle<'static, Storage>;

/// Randomness for tests: never the same twice, and the same for the same seed.
pub(crate) struct TestRng(u64);

impl TestRng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl RngCore for TestRng {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }

    // Steele et al., SplitMix64.
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        impls::fill_bytes_via_next(self, bytes);
    }
}

impl CryptoRng for TestRng {}

/// A server in the world.
pub(crate) struct ServerSite {
    pub(crate) host: u8,
    pub(crate) port: usize,
    pub(crate) task: TaskId,
}

/// An edge in the world, with its task running.
pub(crate) struct EdgeSite {
    pub(crate) stack: Stack<'static>,
    pub(crate) handle: Handle,
    pub(crate) port: usize,
    /// The one way to the edge itself: its task holds it while it runs.
    pub(crate) edge: Rc<RefCell<Edge<'static, Storage, TestRng>>>,
    pub(crate) task: TaskId,
}

/// A worker in the world, with its task running.
pub(crate) struct WorkerSite {
    pub(crate) port: usize,
    pub(crate) worker: Rc<RefCell<TestWorker>>,
    pub(crate) task: TaskId,
}

pub(crate) struct Orchard {
    pub(crate) world: World,
    pub(crate) log: Rc<RefCell<Log>>,
    pub(crate) servers: Vec<ServerSite>,
}

impl Orchard {
    /// Servers on hosts 1 and up; each recommends all others.
    pub(crate) fn new(seed: u64, servers: u8, tags: &[&'static str]) -> Self {
        let mut orchard = Self {
            world: World::new(seed),
            log: Rc::default(),
            servers: Vec::new(),
        };
        let tags_of = |host: u8| tags.get(usize::from(host) - 1).copied().unwrap_or_default();
        for host in 1..=servers {
            let recommends = (1..=servers)
                .filter(|other| *other != host)
                .map(|other| (other, tags_of(other)))
                .collect();
            orchard.add_server(host, recommends);
        }
        orchard
    }

    fn add_server(&mut self, host: u8, recommends: Vec<(u8, &'static str)>) {
        let (stack, port) = self.world.stack(host);
        let settings = Settings {
            host,
            recommends,
            in_flight: 0,
            log: Rc::clone(&self.log),
        };
        let task = self.world.spawn(server::serve(stack, settings));
        self.servers.push(ServerSite { host, port, task });
    }

    /// A microcontroller that serves, at this host.
    pub(crate) fn worker(&mut self, host: u8) -> WorkerSite {
        let (stack, port) = self.world.stack(host);
        let storage: &'static mut WorkerMemory = Box::leak(Box::new(WorkerMemory::new()));
        let config = WorkerConfig {
            id: NodeId::new(host.into()),
            epoch: 1,
            port: server::PORT,
            timers: Timers::default(),
        };
        let keys: &'static [_; 3] = Box::leak(Box::new([key(101), key(102), key(103)]));
        let rng = TestRng::new(0x1000 + u64::from(host));
        let worker = Rc::new(RefCell::new(Worker::new(stack, storage, config, keys, rng)));
        let task = self.serve(host, &worker);
        WorkerSite { port, worker, task }
    }

    /// Runs a worker, whose former task must be gone.
    pub(crate) fn serve(&mut self, host: u8, worker: &Rc<RefCell<TestWorker>>) -> TaskId {
        let (worker, log) = (Rc::clone(worker), Rc::clone(&self.log));
        let mut handler = move |request: Request<'_>, out: &mut [u8]| {
            // Edges number their requests in the body.
            let number = request
                .body
                .first_chunk()
                .map_or(0, |bytes| u32::from_be_bytes(*bytes));
            log.borrow_mut().executed.push((host, request.from.get(), number));
            match request.method {
                "who" => {
                    *out.first_mut().ok_or(Refusal::TooLarge(1))? = host;
                    Ok(1)
                }
                "big" => out
                    .get(..number as usize)
                    .map_or(Err(Refusal::TooLarge(number as usize)), |out| Ok(out.len())),
                "refuse" => Err(Refusal::Because("no, thank you")),
                _ => Err(Refusal::UnknownMethod),
            }
        };
        #[expect(
            clippy::await_holding_refcell_ref,
            reason = "the task is its only user while it runs"
        )]
        self.world
            .spawn(async move { worker.borrow_mut().run(&mut handler).await })
    }

    /// A device on host 50, 51 or 52 that knows these servers.
    pub(crate) fn edge(&mut self, index: u8, seeds: &[u8]) -> EdgeSite {
        let seeds: Vec<_> = seeds.iter().copied().map(addr).collect();
        self.edge_of(index, &seeds)
    }

    pub(crate) fn edge_of(&mut self, index: u8, seeds: &[SocketAddr]) -> EdgeSite {
        let (stack, port) = self.world.stack(50 + index);
        let storage: &'static mut Storage = Box::leak(Box::new(Storage::new()));
        let id = 101 + u32::from(index);
        let config = Config::new(key(id), 0x5eed_0000 + id).tags(Tags::parse("zone=a").unwrap());
        let mut edge = Edge::new(stack, storage, config, TestRng::new(u64::from(id))).unwrap();
        for seed in seeds {
            edge.add_seed(*seed).unwrap();
        }
        let handle = edge.handle();
        let edge = Rc::new(RefCell::new(edge));
        let task = self.run(&edge);
        EdgeSite {
            stack,
            handle,
            port,
            edge,
            task,
        }
    }

    /// Runs an edge, whose former task must be gone.
    pub(crate) fn run(&mut self, edge: &Rc<RefCell<Edge<'static, Storage, TestRng>>>) -> TaskId {
        let edge = Rc::clone(edge);
        #[expect(
            clippy::await_holding_refcell_ref,
            reason = "the task is its only user while it runs"
        )]
        self.world.spawn(async move { edge.borrow_mut().run().await })
    }

    /// Two servers, an edge, and the edge attached to both.
    pub(crate) fn attached(seed: u64) -> (Self, EdgeSite) {
        let mut orchard = Self::new(seed, 2, &[]);
        let site = orchard.edge(0, &[1]);
        assert!(orchard.attach(&site, 10_000), "it does not attach");
        // smoltcp asks for one neighbour a second.
        orchard.world.run_for(5_000);
        (orchard, site)
    }

    pub(crate) fn attach(&mut self, site: &EdgeSite, millis: u64) -> bool {
        let handle = site.handle;
        self.world
            .wait(millis, async move { handle.wait_attached().await })
            .is_some()
    }

    /// A call with what it answers, given up after its deadline and a little more.
    pub(crate) fn call(
        &mut self,
        site: &EdgeSite,
        method: &'static str,
        body: &[u8],
        millis: u64,
    ) -> Result<(Vec<u8>, Answer), CallError> {
        let (handle, body) = (site.handle, body.to_vec());
        self.world
            .wait(millis + 100, async move {
                let mut out = [0; 400];
                let within = Duration::from_millis(millis);
                let answer = handle.call(method, &body, &mut out, within).await?;
                Ok((out[..answer.len].to_vec(), answer))
            })
            .expect("a call outlived its deadline")
    }

    pub(crate) fn pull(&mut self, port: usize, up: bool) {
        self.world.hub.set_link(port, up);
    }
}

/// Every place is free, nothing counts as under way, and calls are answered.
pub(crate) fn check(orchard: &mut Orchard, site: &EdgeSite, after: &str) {
    let done = Rc::new(Cell::new(0));
    for _ in 0..CALLS {
        let (handle, done) = (site.handle, Rc::clone(&done));
        orchard.world.spawn(async move {
            let mut out = [0; 8];
            // Shorter than waiting for a place that was lost.
            let asked = handle.call("slow", &[0, 50], &mut out, Duration::from_millis(900));
            match asked.await {
                Ok(_) => done.set(done.get() + 1),
                Err(error) => panic!("{error}"),
            }
        });
    }
    orchard.world.run_for(45);
    let under_way: u32 = site.handle.servers().map(|server| server.own_in_flight).sum();
    assert_eq!(under_way as usize, CALLS, "{after}");
    assert!(orchard.world.run_until(1_000, || done.get() == CALLS), "{after}");
    let under_way: u32 = site.handle.servers().map(|server| server.own_in_flight).sum();
    assert_eq!(under_way, 0, "{after}");
}
