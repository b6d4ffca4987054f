//! The cluster as one node sees it, for tables, status pages and scripts.

use std::net::SocketAddr;

use lb_core::load::Freshness;
use lb_core::member::{Admission, Liveness, Role};
use serde::{Deserialize, Serialize};

use super::CoreNode;
use crate::edge::EdgesStatus;
use crate::transport::TrafficReading;

/// The built-in method that answers with a [`ClusterStatus`] in JSON.
pub(crate) const METHOD: &str = "lb.status";

/// One node's view.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// The cluster's name.
    pub cluster: String,
    /// Whose view this is.
    pub node: u32,
    /// Its life.
    pub epoch: u32,
    /// How long it runs, in milliseconds.
    pub uptime_ms: u64,
    /// The coordinator and its term.
    pub coordinator: Option<(u32, u32)>,
    /// Every node it knows, itself included, by id.
    pub members: Vec<MemberStatus>,
    /// What it sent and received.
    pub control: Control,
    /// Its edges, if it listens for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgesStatus>,
}

/// One node in a [`ClusterStatus`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Which node.
    pub id: u32,
    /// Whether it is the one whose view this is.
    pub is_self: bool,
    /// `worker` or `observer`.
    pub role: String,
    /// The one word: `COORDINATOR`, `Worker`, `Observer`, `STALE`, `NO_HEARTBEAT`, `FAILED`, `DRAINING`, `LEFT`.
    pub status: String,
    /// `unheard`, `alive`, `suspect`, `failed` or `left`.
    pub liveness: String,
    /// `fresh`, `aging` or `stale`.
    pub freshness: String,
    /// `open` or `draining`.
    pub admission: String,
    /// Its life; 0 when it was never heard.
    pub epoch: u32,
    /// Where it listens.
    pub addr: Option<SocketAddr>,
    /// Its tags in text form.
    pub tags: String,
    /// Age of its last load sample in milliseconds.
    pub load_age_ms: Option<u64>,
    /// Time since it was last heard in milliseconds.
    pub heard_ms: Option<u64>,
    /// Requests it said to have in flight.
    pub in_flight: u32,
    /// Of those, the waiting ones.
    pub queued: u32,
    /// How many it serves at once; 0 when it does not say.
    pub capacity: u32,
    /// How many clients it said to have.
    pub clients: u32,
    /// Requests answered in its epoch.
    pub completed: u64,
    /// Requests answered per second lately.
    pub rate_per_s: f64,
    /// Smoothed service time in microseconds.
    pub latency_us: u32,
    /// The viewing node's own requests there now.
    pub own_in_flight: u32,
}

/// Counts since the node's start: counted where messages are sent, not computed from settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Control {
    /// Membership and heartbeat messages sent.
    pub messages_sent: u64,
    /// Of those, heartbeats.
    pub heartbeats_sent: u64,
    /// Of those, acknowledgements.
    pub acks_sent: u64,
    /// Membership and heartbeat messages taken in.
    pub messages_received: u64,
    /// Messages refused, for whatever reason.
    pub refused: u64,
    /// Calls sent.
    pub calls_sent: u64,
    /// Calls answered.
    pub responses_sent: u64,
    /// Probes sent while calls waited on a silent connection.
    pub probes_sent: u64,
    /// Streams opened plus datagrams sent, as QUIC itself counts them.
    pub transport_messages: u64,
    /// Of those, the ones that were no call, no control message and no probe: what balancing costs. 0.
    pub balance_messages: u64,
    /// Connections dialled or accepted since the start.
    #[serde(default)]
    pub connections_made: u64,
}

pub(super) fn read(
    cluster: &str,
    node: &CoreNode,
    local_addr: SocketAddr,
    now: lb_core::Instant,
    traffic: &TrafficReading,
    responses: u64,
    edges: Option<EdgesStatus>,
) -> ClusterStatus {
    let own = MemberStatus {
        id: node.id().get(),
        is_self: true,
        role: role(node.role()).to_owned(),
        status: node.own_status().to_string(),
        liveness: "alive".to_owned(),
        freshness: "fresh".to_owned(),
        admission: admission(if node.is_draining() {
            Admission::Draining
        } else {
            Admission::Open
        })
        .to_owned(),
        epoch: node.epoch(),
        addr: Some(local_addr),
        tags: node.tags().as_str().to_owned(),
        load_age_ms: Some(0),
        heard_ms: Some(0),
        in_flight: node.load().in_flight.into(),
        queued: node.load().queued.into(),
        capacity: node.load().capacity.into(),
        clients: node.load().clients.into(),
        completed: node.load().completed,
        rate_per_s: f64::from(node.load().rate_milli) / 1e3,
        latency_us: node.load().latency_us,
        own_in_flight: 0,
    };
    let peers = node.peers().map(|peer| {
        let load = peer.load.map(|cached| *cached.report()).unwrap_or_default();
        MemberStatus {
            id: peer.member.id().get(),
            is_self: false,
            role: role(peer.member.role()).to_owned(),
            status: peer.status.to_string(),
            liveness: liveness(peer.axes.liveness).to_owned(),
            freshness: freshness(peer.axes.freshness).to_owned(),
            admission: admission(peer.axes.admission).to_owned(),
            epoch: peer.member.epoch(),
            addr: peer.member.addr().socket(),
            tags: peer.member.tags().as_str().to_owned(),
            load_age_ms: peer.load.map(|cached| cached.age(now).as_millis()),
            heard_ms: peer.member.last_heard().map(|heard| now.since(heard).as_millis()),
            in_flight: load.in_flight.into(),
            queued: load.queued.into(),
            capacity: load.capacity.into(),
            clients: load.clients.into(),
            completed: load.completed,
            rate_per_s: f64::from(load.rate_milli) / 1e3,
            latency_us: load.latency_us,
            own_in_flight: peer.own_in_flight,
        }
    });
    let mut members: Vec<MemberStatus> = peers.chain([own]).collect();
    members.sort_by_key(|member| member.id);
    let counters = node.counters();
    ClusterStatus {
        cluster: cluster.to_owned(),
        node: node.id().get(),
        epoch: node.epoch(),
        uptime_ms: now.as_micros() / 1_000,
        coordinator: node.coordinator().map(|claim| (claim.holder.get(), claim.term)),
        members,
        control: Control {
            messages_sent: traffic.control,
            heartbeats_sent: counters.sent_heartbeats,
            acks_sent: counters.sent_acks,
            messages_received: counters.received,
            refused: counters.refused(),
            calls_sent: traffic.calls,
            responses_sent: responses,
            probes_sent: traffic.probes,
            transport_messages: traffic.transport,
            balance_messages: traffic.other,
            connections_made: traffic.connections_made,
        },
        edges,
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Worker => "worker",
        Role::Observer => "observer",
    }
}

fn liveness(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Unheard => "unheard",
        Liveness::Alive => "alive",
        Liveness::Suspect => "suspect",
        Liveness::Failed => "failed",
        Liveness::Left => "left",
    }
}

fn freshness(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Fresh => "fresh",
        Freshness::Aging => "aging",
        Freshness::Stale => "stale",
    }
}

fn admission(admission: Admission) -> &'static str {
    match admission {
        Admission::Open => "open",
        Admission::Draining => "draining",
    }
}
