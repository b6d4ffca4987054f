//! A cluster of real nodes under a virtual clock, a bad network and bad luck, all from one number.
//!
//! The network loses, duplicates, delays and reorders; machines crash, restart with any epoch, leave, sleep
//! and have their clocks set. It keeps two promises of every authenticated transport: the sender is who it
//! is said to be, and what was sent to a process that has ended does not reach the next one.

pub(crate) mod actions;
pub(crate) mod chance;
pub(crate) mod host;
mod settled;

use std::collections::BTreeMap;

use chance::{Chance, Trace};
use host::Host;
use lb_core::member::Role;
use lb_core::node::Event;
use lb_core::{Instant, NodeId, wire};

/// A broken promise, in words.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) String);

macro_rules! ensure {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err($crate::cluster::Fault(format!($($words)+)));
        }
    };
}
pub(crate) use ensure;

pub(crate) const SECOND: u64 = 1_000_000;
/// No node sends more in a heartbeat period, whatever happens: a storm would be thousands.
const BURST_MAX: u64 = 400;

macro_rules! counters {
    ($($name:ident),+ $(,)?) => {
        /// How often what happened: the proof that the run was not a quiet one.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(crate) struct Stats { $(pub(crate) $name: u64),+ }

        impl Stats {
            pub(crate) fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)+
            }

            pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),+]
            }
        }
    };
}

counters! {
    sent, delivered, refused, lost, duplicated, reordered, cut, session_ended, truncated, crashes, leaves,
    restarts_higher, restarts_equal, restarts_lower, rejoins, takeovers, pauses, late_turns,
    jumps_forward, jumps_back, partitions, picks, pick_errors, finished, disconnects, overloads, drains,
    retags, coordinators, failed_verdicts, left_verdicts, shared_epochs,
}

#[derive(Clone, Debug)]
struct Envelope {
    from: u32,
    to: u32,
    to_life: u32,
    bytes: Vec<u8>,
}

/// What is handed to a node.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    Message(NodeId, &'a [u8]),
    Timeout,
    Pick,
    Other,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) now: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) chance: Chance,
    pub(crate) stats: Stats,
    pub(crate) trace: Trace,
    /// Which side of the partition each host is on.
    sides: Vec<u8>,
    loss: u64,
    calm: bool,
    /// Whether to print what happens.
    loud: bool,
    mail: BTreeMap<(u64, u64), Envelope>,
    posted: u64,
    /// Per host: the current heartbeat period and what was sent in it.
    bursts: Vec<(u64, u64)>,
    /// Processes per host and epoch.
    lives: BTreeMap<(u32, u32), std::collections::BTreeSet<u32>>,
}

impl Cluster {
    pub(crate) fn new(seed: u64, loud: bool) -> Result<Self, Fault> {
        let mut chance = Chance::new(seed);
        let count = chance.between(3, 6) as u32;
        let everyone_is_configured = chance.percent(40);
        let observer = chance.percent(30).then_some(count);
        let hosts: Vec<Host> = (1..=count)
            .map(|n| {
                let role = if observer == Some(n) {
                    Role::Observer
                } else {
                    Role::Worker
                };
                let seeds = (1..=count)
                    .filter(|&other| other != n && (everyone_is_configured || other <= 2))
                    .collect();
                Host::new(n, role, seeds)
            })
            .collect();
        let mut cluster = Self {
            now: 0,
            sides: vec![0; hosts.len()],
            bursts: vec![(0, 0); hosts.len()],
            hosts,
            chance,
            stats: Stats::default(),
            trace: Trace::START,
            loss: 5,
            calm: false,
            loud,
            mail: BTreeMap::new(),
            posted: 0,
            lives: BTreeMap::new(),
        };
        for index in 0..cluster.hosts.len() {
            let epoch = cluster.chance.between(1, 5) as u32;
            cluster.start(index, epoch)?;
        }
        Ok(cluster)
    }

    pub(crate) fn say(&self, words: &str) {
        if self.loud {
            println!("{:12} {words}", self.now);
        }
    }

    pub(crate) fn connected(&self, from: usize, to: usize) -> bool {
        self.sides[from] == self.sides[to]
    }

    /// Runs everything that becomes due in the next `span`.
    pub(crate) fn advance(&mut self, span: u64) -> Result<(), Fault> {
        let end = self.now + span;
        loop {
            let mail = self.mail.keys().next().map(|&(at, _)| at);
            let (due, index) = self
                .hosts
                .iter()
                .enumerate()
                .filter_map(|(index, host)| Some((host.due(self.now)?, index)))
                .min()
                .map_or((None, 0), |(due, index)| (Some(due), index));
            match (mail, due) {
                (Some(at), due) if at <= end && due.is_none_or(|due| at <= due) => self.deliver()?,
                (_, Some(due)) if due <= end => {
                    self.now = self.now.max(due);
                    self.timeout(index)?;
                }
                _ => break,
            }
        }
        self.now = end;
        Ok(())
    }

    fn timeout(&mut self, index: usize) -> Result<(), Fault> {
        self.turn(index, &Input::Timeout, |_, _| {})?;
        let host = &self.hosts[index];
        if let Some(process) = &host.process
            && let Some(deadline) = process.node.next_deadline()
        {
            ensure!(
                deadline > process.latest,
                "node {}: the deadline did not move: a busy loop",
                host.id
            );
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), Fault> {
        let Some(((at, _), envelope)) = self.mail.pop_first() else {
            return Ok(());
        };
        self.now = self.now.max(at);
        let (from, to) = (envelope.from as usize - 1, envelope.to as usize - 1);
        let host = &self.hosts[to];
        let Some(process) = &host.process else {
            self.stats.session_ended += 1;
            return Ok(());
        };
        if host.life != envelope.to_life {
            self.stats.session_ended += 1;
            return Ok(());
        }
        if process.paused_until > self.now {
            // It waits in the machine's buffer.
            let later = process.paused_until + self.chance.below(3);
            self.post(later, envelope);
            return Ok(());
        }
        let sender = self.hosts[from].id;
        if !self.calm && self.chance.percent(1) {
            self.stats.truncated += 1;
            let short = self.chance.below(envelope.bytes.len() as u64) as usize;
            return self.turn(to, &Input::Message(sender, &envelope.bytes[..short]), |_, _| {});
        }
        self.stats.delivered += 1;
        self.say(&format!(
            "{} gets from {}: {:?}",
            envelope.to,
            envelope.from,
            wire::decode(&envelope.bytes).map(|message| message.header)
        ));
        self.turn(to, &Input::Message(sender, &envelope.bytes), |_, _| {})
    }

    fn post(&mut self, at: u64, envelope: Envelope) {
        self.posted += 1;
        self.mail.insert((at, self.posted), envelope);
    }

    /// One input to one node, and all that follows from it.
    pub(crate) fn turn(
        &mut self,
        index: usize,
        input: &Input<'_>,
        act: impl FnOnce(&mut host::Process, Instant),
    ) -> Result<(), Fault> {
        let now = self.now;
        let host = &mut self.hosts[index];
        let (id, local) = (host.id, host.clock(now));
        let Some(process) = &mut host.process else {
            return Ok(());
        };
        if self.loud && !matches!(input, Input::Message(..)) {
            println!("{now:12} {id} at {} {input:?}", local.as_micros());
        }
        let was = process.node.counters().late;
        let handled = !matches!(input, Input::Pick);
        let (late, forgiven) = process.lateness(local);
        self.stats.late_turns += u64::from(late);
        match input {
            Input::Message(from, bytes) => {
                if process.node.handle_message(local, *from, bytes).is_err() {
                    self.stats.refused += 1;
                }
            }
            Input::Timeout => process.node.handle_timeout(local),
            Input::Pick | Input::Other => {}
        }
        act(process, local);
        let lives = self.lives.entry((id.get(), process.node.epoch())).or_default();
        lives.insert(host.life);
        ensure!(
            process.node.counters().late == was + u64::from(late),
            "node {id}: late {late}, counted {}",
            process.node.counters().late - was
        );
        process.check(id, forgiven, handled)?;
        let load = process.meter.report(local);
        process.node.set_load(load);
        self.drain_events(index, forgiven)?;
        self.drain_transmits(index, local)?;
        if let Some(process) = &mut self.hosts[index].process {
            process.check(id, forgiven, handled)?;
        }
        Ok(())
    }

    fn drain_events(&mut self, index: usize, forgiven: bool) -> Result<(), Fault> {
        let id = self.hosts[index].id;
        for round in 0.. {
            let Some(process) = &mut self.hosts[index].process else {
                return Ok(());
            };
            ensure!(round < 64, "node {id}: events without end");
            let Some(event) = process.node.poll_event() else {
                break;
            };
            let told = format!("{id}: {event:?}");
            self.say(&told);
            self.trace.number(self.now);
            self.trace.bytes(told.as_bytes());
            match event {
                Event::EpochTaken { epoch } => {
                    self.stats.takeovers += 1;
                    if let Some(process) = &mut self.hosts[index].process {
                        process.meter.set_epoch(epoch);
                    }
                }
                Event::Superseded { epoch } => {
                    ensure!(
                        false,
                        "node {id} gave way to epoch {epoch}, but there is no other process"
                    );
                }
                Event::Coordinator(_) => self.stats.coordinators += 1,
                Event::Peer { to, id: peer, .. } => {
                    let failed = to == lb_core::member::Status::Failed;
                    ensure!(
                        !(failed && forgiven),
                        "node {id} was late and accused {peer} in that turn"
                    );
                    self.stats.failed_verdicts += u64::from(failed);
                    self.stats.left_verdicts += u64::from(to == lb_core::member::Status::Left);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn drain_transmits(&mut self, index: usize, local: Instant) -> Result<(), Fault> {
        let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
        let id = self.hosts[index].id;
        loop {
            let Some(process) = &mut self.hosts[index].process else {
                return Ok(());
            };
            let Some(out) = process.node.poll_transmit(local, &mut buffer) else {
                return Ok(());
            };
            let bytes = &buffer[..out.len];
            if self.loud {
                println!("{:12} {id} to {}: {:?}", self.now, out.to, wire::decode(bytes));
            }
            self.trace.bytes(bytes);
            self.stats.sent += 1;
            let message = wire::decode(bytes).map_err(|error| Fault(format!("node {id}: {error}")))?;
            ensure!(message.header.from == id, "node {id}: another sender");
            ensure!(
                message.header.epoch == process.node.epoch(),
                "node {id}: another epoch"
            );
            ensure!(
                !process.leaving || message.body == wire::Body::Leave,
                "node {id} says {:?} after its goodbye",
                message.body
            );
            ensure!(out.to != id, "node {id}: a message to itself");
            let period = self.now / (5 * SECOND);
            let burst = &mut self.bursts[index];
            *burst = (period, if burst.0 == period { burst.1 + 1 } else { 1 });
            ensure!(burst.1 <= BURST_MAX, "node {id}: a storm of messages");
            let to = out.to.get() as usize - 1;
            ensure!(to < self.hosts.len(), "node {id}: a ghost {}", out.to);
            let envelope = Envelope {
                from: id.get(),
                to: out.to.get(),
                to_life: self.hosts[to].life,
                bytes: bytes.to_vec(),
            };
            self.send(index, to, &envelope);
        }
    }

    fn send(&mut self, from: usize, to: usize, envelope: &Envelope) {
        if !self.connected(from, to) {
            self.stats.cut += 1;
            return;
        }
        if !self.calm && self.chance.percent(self.loss) {
            self.stats.lost += 1;
            return;
        }
        let copies = if !self.calm && self.chance.percent(8) {
            2
        } else {
            1
        };
        self.stats.duplicated += copies - 1;
        for _ in 0..copies {
            let mut delay = self.chance.between(200, 20_000);
            if !self.calm && self.chance.percent(10) {
                self.stats.reordered += 1;
                delay = self.chance.between(20_000, 4 * SECOND);
            }
            self.post(self.now + delay, envelope.clone());
        }
    }
}
