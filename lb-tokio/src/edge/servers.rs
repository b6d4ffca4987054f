//! Which servers are recommended to an edge.
//!
//! Servers of the edge's zone come before others. Within that, each edge has an order of its own, by weighted
//! rendezvous hashing: a server is among the first of as many edges as its share of the spare capacity, so
//! ten thousand edges do not all turn to the one that happened to be idle, and when a server comes or goes, or its
//! load changes, only those edges are told something else that must be. The server that answers is always among
//! them, if it serves: that is how the edge learns its tags.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lb_core::load::LoadReport;
use lb_core::member::Addr;
use lb_core::wire::{Interest, ServerEntry};
use lb_core::{Duration, Instant, NodeId};

/// The tag by which a server tells where its listener is.
pub(crate) const TAG: &str = "lb.edge";

/// How long a list is used.
const PERIOD: Duration = Duration::from_millis(250);

/// The servers among which those of one edge are chosen; of a larger cluster, the ones with most room.
const CANDIDATES_MAX: usize = 64;

/// Zones for which a list is kept at a time; edges may name any.
const ZONES_MAX: usize = 64;

/// Steps of spare capacity that are told apart. Few, so that a list does not change with every request.
const STEPS: u32 = 8;

/// A server that may be recommended.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) id: NodeId,
    pub(crate) addr: SocketAddr,
    /// As old as it is at the time of reading.
    pub(crate) load: LoadReport,
    /// All but the reserved ones.
    pub(crate) tags: String,
    pub(crate) zone: Option<String>,
}

/// The value of [`TAG`].
pub(crate) fn to_tag(addr: SocketAddr) -> String {
    format!("{}@{}", addr.ip(), addr.port())
}

pub(crate) fn from_tag(value: &str) -> Option<SocketAddr> {
    let (ip, port) = value.rsplit_once('@')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port))
}

/// The lists, made anew each period and for each zone that is asked for.
#[derive(Debug, Default)]
pub(super) struct Servers {
    read_at: Option<Instant>,
    all: Vec<Candidate>,
    by_zone: HashMap<String, Arc<List>>,
}

/// The candidates of one zone.
#[derive(Debug)]
pub(super) struct List {
    read_at: Instant,
    candidates: Vec<Weighed>,
}

#[derive(Debug)]
struct Weighed {
    server: Candidate,
    near: bool,
    weight: f64,
}

impl Servers {
    /// The list for a zone; reads the servers if the last reading is too old.
    pub(super) fn list(
        &mut self,
        now: Instant,
        zone: &str,
        sender: NodeId,
        read: impl FnOnce() -> Vec<Candidate>,
    ) -> Arc<List> {
        if self.read_at.is_none_or(|at| now.since(at) >= PERIOD) {
            self.read_at = Some(now);
            self.all = read();
            self.by_zone.clear();
        }
        // A zone nobody is in has the same list as no zone.
        let known = self.all.iter().any(|server| server.zone.as_deref() == Some(zone));
        let zone = if known { zone } else { "" };
        if let Some(list) = self.by_zone.get(zone) {
            return Arc::clone(list);
        }
        let list = Arc::new(List::new(self.read_at.unwrap_or(now), zone, &self.all, sender));
        if self.by_zone.len() < ZONES_MAX {
            self.by_zone.insert(zone.to_owned(), Arc::clone(&list));
        }
        list
    }
}

impl List {
    fn new(read_at: Instant, zone: &str, all: &[Candidate], sender: NodeId) -> Self {
        let mut candidates: Vec<Weighed> = all
            .iter()
            .map(|server| Weighed {
                near: !zone.is_empty() && server.zone.as_deref() == Some(zone),
                weight: weight(&server.load),
                server: server.clone(),
            })
            .collect();
        candidates.sort_by(|a, b| {
            let order = b.near.cmp(&a.near).then(b.weight.total_cmp(&a.weight));
            order.then(a.server.id.cmp(&b.server.id))
        });
        let own = candidates.iter().position(|it| it.server.id == sender);
        if let Some(at) = own.filter(|at| *at >= CANDIDATES_MAX) {
            candidates.swap(CANDIDATES_MAX - 1, at);
        }
        candidates.truncate(CANDIDATES_MAX);
        Self { read_at, candidates }
    }

    /// The servers for this edge, best first, as many as it can keep; `sender` is the one that answers.
    pub(super) fn entries(
        &self,
        now: Instant,
        edge: u32,
        interest: Interest,
        sender: NodeId,
    ) -> impl Iterator<Item = ServerEntry<'_>> {
        let mut order: Vec<(bool, f64, &Candidate)> = self
            .candidates
            .iter()
            .map(|it| (it.near, rank(edge, it.server.id, it.weight), &it.server))
            .collect();
        order.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.total_cmp(&b.1)));
        let places = usize::from(interest.places);
        if let Some(at) = order.iter().position(|(_, _, server)| server.id == sender)
            && at >= places
        {
            order.swap(places.saturating_sub(1), at);
        }
        let age = u32::try_from(now.since(self.read_at).as_millis()).unwrap_or(u32::MAX);
        order
            .into_iter()
            .take(places)
            .map(move |(_, _, server)| ServerEntry {
                id: server.id,
                addr: Addr::from(server.addr),
                load: LoadReport {
                    age_ms: server.load.age_ms.saturating_add(age),
                    ..server.load
                },
                tags: tags_for(server, usize::from(interest.tag_bytes)),
            })
    }
}

/// What an edge with so much room is told of the tags.
fn tags_for(server: &Candidate, room: usize) -> &str {
    if server.tags.len() <= room {
        return &server.tags;
    }
    let mut pairs = server.tags.split(',');
    let zone = pairs.find(|pair| pair.starts_with("zone="));
    zone.filter(|zone| zone.len() <= room).unwrap_or_default()
}

/// Spare capacity in steps of an eighth. A full server still has a little weight: it is better than none.
fn weight(load: &LoadReport) -> f64 {
    let (capacity, busy) = (u32::from(load.capacity), u32::from(load.in_flight));
    // It does not say: taken for a server of the usual size.
    let size = if capacity == 0 {
        u32::from(crate::server::CONCURRENCY_DEFAULT)
    } else {
        capacity
    };
    let spare = size.saturating_sub(busy);
    let steps = (spare * STEPS).div_ceil(size);
    f64::from(size) * f64::from(steps.max(1)) / f64::from(STEPS) * if spare == 0 { 0.01 } else { 1.0 }
}

/// The lower the better: exponentially distributed with the weight as its rate, so the chance of being the lowest
/// is the share of the weight (Efraimidis and Spirakis; weighted rendezvous hashing).
fn rank(edge: u32, server: NodeId, weight: f64) -> f64 {
    let mut hash = (u64::from(edge) << 32) | u64::from(server.get());
    // The finalizer of SplitMix64.
    hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    // In (0, 1): the upper 32 bits and a half.
    let uniform = (f64::from((hash >> 32) as u32) + 0.5) / 4_294_967_296.0;
    -uniform.ln() / weight
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTEREST: Interest = Interest {
        places: 3,
        tag_bytes: 64,
        datagram: 1_200,
    };

    fn server(id: u32, zone: &str, in_flight: u16, capacity: u16) -> Candidate {
        Candidate {
            id: NodeId::new(id),
            addr: SocketAddr::from(([10, 0, 0, 1], 7_500)),
            load: LoadReport {
                in_flight,
                capacity,
                age_ms: 100,
                ..LoadReport::default()
            },
            tags: format!("role=worker,zone={zone}"),
            zone: Some(zone.to_owned()),
        }
    }

    const NOBODY: NodeId = NodeId::new(0);

    fn ids(list: &List, edge: u32) -> Vec<u32> {
        list.entries(Instant::ZERO, edge, INTEREST, NOBODY)
            .map(|entry| entry.id.get())
            .collect()
    }

    fn first_counts(list: &List) -> HashMap<u32, u32> {
        let mut counts = HashMap::new();
        for edge in 0..10_000 {
            *counts.entry(ids(list, edge)[0]).or_default() += 1;
        }
        counts
    }

    #[test]
    fn addresses_in_tags() {
        for addr in ["10.0.2.2:7500", "[2001:db8::1]:65535"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(from_tag(&to_tag(addr)), Some(addr));
            let mut tags: lb_core::member::Tags<255> = lb_core::member::Tags::new();
            tags.set(TAG, &to_tag(addr)).unwrap();
        }
        for bad in [
            "",
            "10.0.2.2",
            "10.0.2.2@",
            "10.0.2.2@0",
            "10.0.2.2@65536",
            "host@1",
            "[::1]@1",
        ] {
            assert_eq!(from_tag(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_own_zone_comes_first_and_others_fill_the_rest() {
        let all = [
            server(1, "a", 0, 64),
            server(2, "b", 60, 64),
            server(3, "a", 0, 64),
            server(4, "b", 64, 64),
        ];
        let list = List::new(Instant::ZERO, "b", &all, NOBODY);
        for edge in 0..100 {
            let ids = ids(&list, edge);
            assert_eq!(ids.len(), 3);
            assert!([2, 4].contains(&ids[0]) && [2, 4].contains(&ids[1]), "{ids:?}");
        }
    }

    #[test]
    fn whoever_answers_is_always_among_them() {
        let mut all: Vec<Candidate> = (1..=100).map(|id| server(id, "a", 0, 64)).collect();
        all.push(server(200, "b", 64, 64));
        let list = List::new(Instant::ZERO, "a", &all, NodeId::new(200));
        for edge in 0..100 {
            let told = list.entries(Instant::ZERO, edge, INTEREST, NodeId::new(200));
            let told: Vec<u32> = told.map(|entry| entry.id.get()).collect();
            assert_eq!((told.len(), told[2]), (3, 200));
            assert_eq!(told[..2], ids(&list, edge)[..2]);
        }
        let none = Interest {
            places: 0,
            ..INTEREST
        };
        assert_eq!(list.entries(Instant::ZERO, 1, none, NodeId::new(200)).count(), 0);
    }

    #[test]
    fn ten_thousand_edges_spread_by_spare_capacity() {
        let all: Vec<Candidate> = (1..=10).map(|id| server(id, "a", 0, 64)).collect();
        let counts = first_counts(&List::new(Instant::ZERO, "a", &all, NOBODY));
        for id in 1..=10 {
            assert!((900..1_100).contains(&counts[&id]), "{counts:?}");
        }
        let all = [
            server(1, "a", 0, 64),
            server(2, "a", 0, 192),
            server(3, "a", 64, 64),
        ];
        let counts = first_counts(&List::new(Instant::ZERO, "a", &all, NOBODY));
        assert!((7_200..7_800).contains(&counts[&2]), "{counts:?}");
        assert!(counts.get(&3).is_none_or(|full| *full < 50), "{counts:?}");
    }

    #[test]
    fn little_changes_when_a_server_goes() {
        let all: Vec<Candidate> = (1..=10).map(|id| server(id, "a", 0, 64)).collect();
        let before = List::new(Instant::ZERO, "a", &all, NOBODY);
        let after = List::new(Instant::ZERO, "a", &all[1..], NOBODY);
        for edge in 0..1_000 {
            let kept: Vec<u32> = ids(&before, edge).into_iter().filter(|id| *id != 1).collect();
            assert_eq!(ids(&after, edge)[..kept.len()], kept);
        }
    }

    #[test]
    fn tags_that_do_not_fit_shrink_to_the_zone() {
        let one = server(1, "north", 0, 64);
        assert_eq!(tags_for(&one, 255), "role=worker,zone=north");
        assert_eq!(tags_for(&one, 20), "zone=north");
        assert_eq!(tags_for(&one, 9), "");
    }

    #[test]
    fn lists_are_kept_for_a_period_and_their_loads_age() {
        let mut servers = Servers::default();
        let read = || vec![server(1, "a", 0, 64)];
        let list = servers.list(Instant::ZERO, "a", NOBODY, read);
        let again = servers.list(Instant::from_millis(200), "a", NOBODY, || panic!("read too soon"));
        assert!(Arc::ptr_eq(&list, &again));
        let entry = again
            .entries(Instant::from_millis(200), 1, INTEREST, NOBODY)
            .next()
            .unwrap();
        assert_eq!(entry.load.age_ms, 300);
        for zone in 0..1_000 {
            servers.list(Instant::from_millis(200), &format!("z{zone}"), NOBODY, Vec::new);
        }
        assert!(servers.by_zone.len() <= 2, "zones nobody is in share a list");
        assert!(!Arc::ptr_eq(
            &list,
            &servers.list(Instant::from_millis(250), "a", NOBODY, read)
        ));
    }
}
