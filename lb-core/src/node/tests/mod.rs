//! Two or three nodes talking over a perfect wire; trouble is for the property tests.

mod lives;
mod membership;
mod picks;
mod sleep;

use std::collections::BTreeMap;
use std::vec::Vec;

use super::*;
use crate::load::{Ended, LoadMeter};
use crate::member::Filter;
use crate::pick::{Corrected, LeastConnections};
use crate::wire::Contact;

type TestNode = Node<8, 64>;

const MS: u64 = 1_000;

fn id(n: u32) -> NodeId {
    NodeId::new(n)
}

fn addr(n: u32) -> Addr {
    Addr::from(core::net::SocketAddr::from(([127, 0, 0, 1], 4_000 + n as u16)))
}

/// Nodes that get each other's messages at once.
struct Cluster {
    now: Instant,
    nodes: BTreeMap<u32, TestNode>,
    cut: Vec<u32>,
    /// Pairs, the lower id first.
    blocked: Vec<(u32, u32)>,
    sent: u64,
}

impl Cluster {
    fn new(ids: &[u32]) -> Self {
        let mut cluster = Self {
            now: Instant::from_secs(1_000),
            nodes: BTreeMap::new(),
            cut: Vec::new(),
            blocked: Vec::new(),
            sent: 0,
        };
        for &n in ids {
            cluster.start(n, 1, Role::Worker);
        }
        cluster
    }

    fn start(&mut self, n: u32, epoch: u32, role: Role) {
        let tags = Tags::parse(if role == Role::Worker { "role=worker" } else { "" }).unwrap();
        let config = Config::new(id(n), epoch, role)
            .addr(addr(n))
            .tags(tags)
            .seed(u64::from(n));
        let mut node = Node::new(self.now, config).unwrap();
        node.set_load(LoadMeter::new(epoch, 10).report(self.now));
        for &other in self.nodes.keys().filter(|&&other| other != n) {
            node.add_peer(self.now, id(other), addr(other)).unwrap();
        }
        self.nodes.insert(n, node);
    }

    fn deliver(&mut self) {
        let mut buffer = [0; wire::MESSAGE_BYTES_MAX];
        loop {
            let mut wires = Vec::new();
            for (&from, node) in &mut self.nodes {
                while let Some(out) = node.poll_transmit(self.now, &mut buffer) {
                    wires.push((from, out.to.get(), buffer[..out.len].to_vec()));
                }
            }
            if wires.is_empty() {
                return;
            }
            self.sent += wires.len() as u64;
            for (from, to, bytes) in wires {
                let blocked = self.blocked.contains(&(from.min(to), from.max(to)));
                if blocked || self.cut.contains(&from) || self.cut.contains(&to) {
                    continue;
                }
                if let Some(node) = self.nodes.get_mut(&to) {
                    let _ = node.handle_message(self.now, id(from), &bytes);
                }
            }
        }
    }

    fn run(&mut self, span: Duration) {
        let end = self.now.saturating_add(span);
        self.deliver();
        loop {
            let due = self.nodes.values().filter_map(TestNode::next_deadline).min();
            let Some(next) = due.filter(|&due| due <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for node in self.nodes.values_mut() {
                if node.next_deadline().is_some_and(|due| due <= self.now) {
                    node.handle_timeout(self.now);
                }
            }
            self.deliver();
        }
        self.now = end;
        for node in self.nodes.values_mut() {
            node.handle_timeout(self.now);
        }
        self.deliver();
    }

    fn status(&self, at: u32, of: u32) -> Status {
        self.nodes[&at].peer(id(of)).unwrap().status
    }

    fn events(&mut self, at: u32) -> Vec<Event> {
        core::iter::from_fn(|| self.nodes.get_mut(&at).unwrap().poll_event()).collect()
    }
}

fn secs(s: u64) -> Duration {
    Duration::from_secs(s)
}
