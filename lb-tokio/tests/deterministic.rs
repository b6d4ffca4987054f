//! Real quinn endpoints on the simulated network: same seed, same packets.

mod sim;

use std::{
    array,
    collections::BTreeMap,
    error::Error,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, TransportConfig};
use sim::{Authority, Net, Prng};
use tokio::time::{Instant, sleep, sleep_until, timeout};

const NODES: usize = 5;
const END: Duration = Duration::from_secs(60);
const CUT: Duration = Duration::from_secs(20);
const HEALED: Duration = Duration::from_secs(30);
const SEED: u64 = 2026;

/// Set for the child processes that only print their trace.
const CHILD: &str = "LB_SIM_CHILD_SEED";
const MARK: &str = "trace=";

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What was heard over each directed link, and when: (who dialled, who was dialled).
#[derive(Debug, Clone)]
struct Board {
    start: Instant,
    links: Arc<Mutex<BTreeMap<(usize, usize), Link>>>,
}

impl Board {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            links: Arc::default(),
        }
    }

    fn close(&self, net: &Net) -> Run {
        let links = self.links.lock().expect("no task panics with the board").clone();
        let trace = net.trace();
        Run { trace, links }
    }

    fn note(&self, link: (usize, usize), change: impl FnOnce(&mut Link, Duration)) {
        let mut links = self.links.lock().expect("no task panics with the board");
        change(links.entry(link).or_default(), self.start.elapsed());
    }
}

#[derive(Debug, Default, Clone)]
struct Link {
    dials: u32,
    heartbeats: Vec<Duration>,
    replies: Vec<Duration>,
}

#[derive(Debug)]
struct Run {
    trace: (u64, u64),
    links: BTreeMap<(usize, usize), Link>,
}

fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8 + 1], 4433))
}

fn name(node: usize) -> String {
    format!("node-{node}.sim")
}

/// A full mesh in which everybody dials everybody, with 2 % loss and a partition of 2 | 3 for ten seconds.
async fn mesh(seed: u64) -> Run {
    let start = Instant::now();
    let net = Net::new(seed);
    net.set_loss(20);
    let board = Board::new();
    let mut authority = Authority::new(seed);
    let mut seeds = Prng::new(seed);
    for node in 0..NODES {
        let endpoint = open(&net, &mut authority, node, seeds.next());
        tokio::spawn(serve(endpoint.clone(), node, board.clone()));
        for peer in (0..NODES).filter(|peer| *peer != node) {
            let prng = Prng::new(seeds.next());
            tokio::spawn(keep_linked(endpoint.clone(), (node, peer), board.clone(), prng));
        }
    }

    let addrs: [_; NODES] = array::from_fn(addr);
    sleep_until(start + CUT).await;
    net.partition(&[&addrs[..2], &addrs[2..]]);
    sleep_until(start + HEALED).await;
    net.heal();
    sleep_until(start + END).await;
    board.close(&net)
}

fn open(net: &Net, authority: &mut Authority, node: usize, seed: u64) -> Endpoint {
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(1)));
    let idle = Duration::from_secs(5).try_into().expect("five seconds fit");
    transport.max_idle_timeout(Some(idle));
    let transport = Arc::new(transport);
    let identity = authority.issue(&name(node));
    let mut server = identity.server(b"mesh");
    server.transport_config(transport.clone());
    let mut client = identity.client(b"mesh");
    client.transport_config(transport);
    let mut endpoint = Endpoint::new_with_abstract_socket(
        sim::endpoint_config(seed),
        Some(server),
        net.bind(addr(node)),
        sim::runtime(),
    )
    .expect("a simulated endpoint opens");
    endpoint.set_default_client_config(client);
    endpoint
}

async fn serve(endpoint: Endpoint, node: usize, board: Board) {
    while let Some(incoming) = endpoint.accept().await {
        let board = board.clone();
        tokio::spawn(async move {
            // How a connection ends is the dialler's business.
            let _ = serve_connection(incoming, node, board).await;
        });
    }
}

async fn serve_connection(incoming: Incoming, node: usize, board: Board) -> Result<()> {
    let connection = incoming.await?;
    let peer = (0..NODES)
        .find(|peer| addr(*peer) == connection.remote_address())
        .ok_or("a stranger")?;
    loop {
        tokio::select! {
            biased;
            stream = connection.accept_bi() => {
                let (send, recv) = stream?;
                tokio::spawn(async move {
                    // The caller sees the failure too.
                    let _ = echo(send, recv).await;
                });
            }
            heartbeat = connection.read_datagram() => {
                heartbeat?;
                board.note((peer, node), |link, now| link.heartbeats.push(now));
            }
        }
    }
}

async fn echo(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let request = recv.read_to_end(1_024).await?;
    send.write_all(&request).await?;
    send.finish()?;
    Ok(())
}

/// Dials again whenever the connection is lost.
async fn keep_linked(endpoint: Endpoint, link: (usize, usize), board: Board, mut prng: Prng) {
    loop {
        let connecting = endpoint
            .connect(addr(link.1), &name(link.1))
            .expect("the settings are good");
        if let Ok(connection) = connecting.await {
            board.note(link, |link, _| link.dials += 1);
            // Only a lost connection ends this.
            let _ = talk(&connection, link, &board, &mut prng).await;
        }
        sleep(Duration::from_millis(prng.within(&(100..=300)))).await;
    }
}

/// One heartbeat and one call about every 100 ms.
async fn talk(connection: &Connection, link: (usize, usize), board: &Board, prng: &mut Prng) -> Result<()> {
    loop {
        connection.send_datagram(b"heartbeat".as_slice().into())?;
        if let Ok(reply) = timeout(Duration::from_secs(1), call(connection)).await {
            assert_eq!(reply?, [7; 64]);
            board.note(link, |link, now| link.replies.push(now));
        }
        sleep(Duration::from_millis(prng.within(&(80..=110)))).await;
    }
}

async fn call(connection: &Connection) -> Result<Vec<u8>> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&[7; 64]).await?;
    send.finish()?;
    Ok(recv.read_to_end(1_024).await?)
}

fn trace(seed: u64) -> (u64, u64) {
    sim::run(mesh(seed)).trace
}

/// A node that dies without a word and comes back at its address a second later, as another endpoint.
async fn restart(seed: u64) -> Run {
    let net = Net::new(seed);
    let board = Board::new();
    let mut authority = Authority::new(seed);
    let [client, old] = [0, 1].map(|node| open(&net, &mut authority, node, seed + node as u64));
    let old_server = tokio::spawn(serve(old, 1, board.clone()));
    tokio::spawn(keep_linked(client, (0, 1), board.clone(), Prng::new(seed)));
    sleep(Duration::from_secs(5)).await;
    net.unplug(addr(1));
    old_server.abort();
    sleep(Duration::from_secs(1)).await;
    let new = open(&net, &mut authority, 1, seed + 2);
    tokio::spawn(serve(new, 1, board.clone()));
    sleep(Duration::from_secs(14)).await;
    board.close(&net)
}

/// The run the others are compared with.
fn first() -> &'static Run {
    static FIRST: LazyLock<Run> = LazyLock::new(|| sim::run(mesh(SEED)));
    &FIRST
}

#[test]
fn same_seed_same_packets_and_another_seed_others() {
    assert_eq!(first().trace, trace(SEED));
    assert_ne!(first().trace.0, trace(SEED + 1).0);
}

#[test]
fn the_partition_silences_links_and_all_return_after_it() {
    assert_eq!(first().links.len(), NODES * (NODES - 1));
    for ((from, to), link) in &first().links {
        let heard = |times: &[Duration], after: Duration, before: Duration| {
            times.iter().filter(|at| (after..before).contains(*at)).count()
        };
        // What left before the cut has arrived by then.
        let cut = CUT + Duration::from_millis(100);
        let apart = (*from < 2) != (*to < 2);
        for times in [&link.heartbeats, &link.replies] {
            let [before, during, after] = [
                heard(times, Duration::ZERO, CUT),
                heard(times, cut, HEALED),
                heard(times, END - Duration::from_secs(10), END),
            ];
            assert!(before > 100, "{from} -> {to}: {before} before the partition");
            assert_eq!(during == 0, apart, "{from} -> {to}: {during} during it");
            assert!(after > 50, "{from} -> {to}: {after} in the last ten seconds");
        }
        assert_eq!(link.dials, if apart { 2 } else { 1 }, "{from} -> {to}");
    }
}

#[test]
fn a_restarted_node_is_dialled_again() {
    let run = sim::run(restart(SEED));
    let link = &run.links[&(0, 1)];
    assert_eq!(link.dials, 2);
    let heard = |second: u64| link.replies.iter().filter(|at| at.as_secs() == second).count();
    assert_eq!(
        [0, 4, 5, 6, 15, 19].map(|second| heard(second) > 5),
        [true, true, false, false, true, true]
    );
    assert_eq!(run.trace, sim::run(restart(SEED)).trace);
}

#[test]
fn two_processes_send_the_same_packets() {
    let children = [(); 2].map(|()| {
        Command::new(std::env::current_exe().expect("this test has a path"))
            .args(["--exact", "child_trace", "--nocapture"])
            .env(CHILD, SEED.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test runs")
    });
    for child in children {
        let output = child.wait_with_output().expect("the child ends");
        let output = String::from_utf8(output.stdout).expect("the harness prints text");
        let (_, line) = output.split_once(MARK).expect("the child prints its trace");
        assert_eq!(line.lines().next(), Some(&*format!("{:?}", first().trace)));
    }
}

/// Prints its trace for [`two_processes_send_the_same_packets`]; nothing when run with the others.
#[test]
fn child_trace() {
    if let Ok(seed) = std::env::var(CHILD) {
        let seed = seed.parse().expect("the parent passes a number");
        println!("{MARK}{:?}", trace(seed));
    }
}

/// One more seed than the other tests; `LB_SEEDS=50` and a release build to hunt what a few do not show.
#[test]
fn many_seeds_repeat() {
    let seeds = std::env::var("LB_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    for seed in 0..seeds.unwrap_or(1) {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}
