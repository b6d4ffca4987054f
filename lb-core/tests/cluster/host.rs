//! One machine of the simulated cluster: a node, its own clock, its work, and what it was seen to believe.

use std::collections::BTreeMap;

use lb_core::elect::Claim;
use lb_core::health::Timers;
use lb_core::load::{LoadMeter, ReportVersion};
use lb_core::member::{Addr, Liveness, Role, Tags};
use lb_core::node::{Config, LATE_TURNS_MAX, Node, Ticket};
use lb_core::pick::{AnyStrategy, StrategyKind};
use lb_core::{Instant, NodeId};

use super::{Fault, ensure};

pub(crate) type SimNode = Node<8, 64>;

/// Room for clocks to be set back without meeting the origin, in microseconds.
const CLOCK_BASE: u64 = 1_000_000_000;

/// What an observer believed of a peer after its last turn.
#[derive(Clone, Copy, Debug)]
struct Belief {
    epoch: u32,
    liveness: Liveness,
    load: Option<ReportVersion>,
}

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) node: SimNode,
    pub(crate) meter: LoadMeter,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) strategy: AnyStrategy<Vec<u32>>,
    /// The latest time the node was given.
    pub(crate) latest: Instant,
    /// The simulation's time until which it is not run.
    pub(crate) paused_until: u64,
    pub(crate) leaving: bool,
    late_turns: u32,
    late_at: Instant,
    beliefs: BTreeMap<u32, Belief>,
    claim: Option<Claim>,
}

/// A machine; its process comes and goes.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) role: Role,
    pub(crate) process: Option<Process>,
    /// Counts processes: a message is for one of them, as sessions end with their process.
    pub(crate) life: u32,
    pub(crate) last_epoch: u32,
    /// Clock minus the simulation's time.
    pub(crate) offset: i64,
    pub(crate) seeds: Vec<u32>,
}

pub(crate) fn addr(n: u32) -> Addr {
    Addr::from(core::net::SocketAddr::from(([10, 0, 0, n as u8], 4_433)))
}

impl Host {
    pub(crate) fn new(n: u32, role: Role, seeds: Vec<u32>) -> Self {
        Self {
            id: NodeId::new(n),
            role,
            process: None,
            life: 0,
            last_epoch: 0,
            offset: 0,
            seeds,
        }
    }

    /// Whether a process runs here that has not said goodbye.
    pub(crate) fn is_member(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.leaving)
    }

    pub(crate) fn clock(&self, now: u64) -> Instant {
        Instant::from_micros((CLOCK_BASE + now).saturating_add_signed(self.offset))
    }

    /// When the simulation must run the process next.
    pub(crate) fn due(&self, now: u64) -> Option<u64> {
        let process = self.process.as_ref()?;
        let deadline = process.node.next_deadline()?.as_micros();
        let at = deadline
            .saturating_add_signed(-self.offset)
            .saturating_sub(CLOCK_BASE);
        Some(at.max(now).max(process.paused_until))
    }

    pub(crate) fn start(&mut self, now: u64, epoch: u32, seed: u64, kind: StrategyKind) -> Result<(), Fault> {
        let local = self.clock(now);
        let tags = Tags::parse(&format!("zone=z{},life=l{}", self.id.get() % 2, self.life))
            .map_err(|error| Fault(error.to_string()))?;
        let config = Config::new(self.id, epoch, self.role)
            .addr(addr(self.id.get()))
            .tags(tags)
            .seed(seed);
        let mut node = SimNode::new(local, config).map_err(|error| Fault(error.to_string()))?;
        ensure!(node.next_deadline().is_some(), "a new node has something to do");
        for &n in &self.seeds {
            node.add_peer(local, NodeId::new(n), addr(n))
                .map_err(|error| Fault(error.to_string()))?;
        }
        self.life += 1;
        self.process = Some(Process {
            node,
            meter: LoadMeter::new(epoch, 16),
            tickets: Vec::new(),
            strategy: AnyStrategy::new(kind, vec![0; kind.words(16)], 16, u64::from(self.id.get())).unwrap(),
            latest: local,
            paused_until: 0,
            leaving: false,
            late_turns: 0,
            late_at: local,
            beliefs: BTreeMap::new(),
            claim: None,
        });
        Ok(())
    }
}

impl Process {
    /// Whether an input at this moment comes late, by the contract's words; and whether that is forgiven.
    pub(crate) fn lateness(&mut self, local: Instant) -> (bool, bool) {
        self.latest = self.latest.max(local);
        let Some(promised) = self.node.next_deadline() else {
            return (false, false);
        };
        let heartbeat = Timers::default().heartbeat();
        let late = self.latest.since(promised).as_micros() > heartbeat.as_micros() / 4;
        if late {
            self.late_turns += 1;
            self.late_at = self.latest;
        } else if self.latest.since(self.late_at) > heartbeat {
            self.late_turns = 0;
        }
        (late, late && self.late_turns <= u32::from(LATE_TURNS_MAX))
    }

    /// Everything that must hold after every turn.
    pub(crate) fn check(&mut self, id: NodeId, forgiven: bool, handled: bool) -> Result<(), Fault> {
        if let Some(deadline) = self.node.next_deadline() {
            // A pick takes in the time but does not do what is due.
            ensure!(
                deadline >= self.latest || !handled,
                "node {id}: deadline in the past"
            );
        }
        let claim = self.node.coordinator();
        ensure!(
            claim >= self.claim,
            "node {id}: claim {claim:?} after {:?}",
            self.claim
        );
        self.claim = claim;
        let mut now_believed = BTreeMap::new();
        for view in self.node.peers() {
            let peer = view.member.id();
            ensure!(peer != id, "node {id} is its own peer");
            let belief = Belief {
                epoch: view.member.epoch(),
                liveness: view.axes.liveness,
                load: view.load.map(|load| load.report().version),
            };
            let held = self.tickets.iter().filter(|ticket| ticket.id() == peer).count();
            ensure!(
                view.own_in_flight as usize == held,
                "node {id}: {} in flight at {peer}, {held} tickets",
                view.own_in_flight
            );
            if let Some(version) = belief.load {
                ensure!(
                    version.epoch == belief.epoch,
                    "node {id}: load of {peer} is of epoch {}, the peer of {}",
                    version.epoch,
                    belief.epoch
                );
            }
            let mut keep = belief;
            if let Some(before) = self.beliefs.get(&peer.get()) {
                ensure!(
                    belief.epoch >= before.epoch,
                    "node {id}: epoch of {peer} went back: {before:?}, {belief:?}"
                );
                let same_life = belief.epoch == before.epoch;
                ensure!(
                    !same_life || before.liveness != Liveness::Left || belief.liveness == Liveness::Left,
                    "node {id}: {peer} left and came back in the same epoch"
                );
                ensure!(
                    belief.load.is_none() || belief.load >= before.load,
                    "node {id}: load of {peer} went back: {before:?}, {belief:?}"
                );
                ensure!(
                    belief.load.is_some() || before.load.is_none() || !same_life,
                    "node {id}: load of {peer} was forgotten"
                );
                ensure!(
                    !(forgiven && belief.liveness == Liveness::Failed && before.liveness != Liveness::Failed),
                    "node {id} was late and accused {peer} in that turn"
                );
                keep.load = belief.load.max(before.load);
            }
            now_believed.insert(peer.get(), keep);
        }
        let homeless = self
            .tickets
            .iter()
            .find(|ticket| ticket.id() != id && !now_believed.contains_key(&ticket.id().get()));
        ensure!(
            homeless.is_none(),
            "node {id}: a peer in use was removed: {homeless:?}"
        );
        self.beliefs = now_believed;
        Ok(())
    }
}
