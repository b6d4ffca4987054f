//! `lb status`: the cluster as one of its nodes sees it.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lb_tokio::edge::EdgesStatus;
use lb_tokio::{Cluster, ClusterStatus, MemberStatus, NodeId};

use crate::cli::StatusArgs;
use crate::join;
use crate::table::{Align, Table};
use crate::units::{age, grouped, plural, span};

const WATCH_PERIOD: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: StatusArgs) -> Result<()> {
    let seeds = join::resolve(&args.join.seeds)?;
    let cluster = join::observe(&args.join).await?;
    let result = show(&args, &cluster, &seeds).await;
    cluster.leave().await;
    result
}

async fn show(args: &StatusArgs, cluster: &Cluster, seeds: &[SocketAddr]) -> Result<()> {
    cluster.wait_for_workers(1, None, args.join.timeout).await?;
    let mut stop = crate::signals::Stop::listen().context("cannot listen for signals")?;
    let clear = args.watch && !args.json && io::stdout().is_terminal();
    loop {
        let node = whom_to_ask(&cluster.status(), seeds);
        let status = match node {
            Some(node) => cluster.status_of(node).await,
            None => bail!("no node that could be asked is alive any more"),
        };
        let mut text = match status {
            Ok(status) if args.json => serde_json::to_string(&status)? + "\n",
            Ok(status) => render(&status),
            // While watching, a node that is gone is news, not the end; the next one may answer.
            Err(error) if args.watch => format!("{error}\n"),
            Err(error) => return Err(error.into()),
        };
        if clear {
            text.insert_str(0, "\x1b[H\x1b[J");
        } else if args.watch && !args.json {
            text.push('\n');
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
        drop(out);
        if !args.watch {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_PERIOD) => {}
            _ = stop.asked() => return Ok(()),
        }
    }
}

/// The node at a seed's address; if none is known by it, any that is alive.
fn whom_to_ask(status: &ClusterStatus, seeds: &[SocketAddr]) -> Option<NodeId> {
    let alive = || {
        status
            .members
            .iter()
            .filter(|member| !member.is_self && member.liveness == "alive" && member.role == "worker")
    };
    seeds
        .iter()
        .find_map(|seed| alive().find(|member| member.addr == Some(*seed)))
        .or_else(|| alive().next())
        .map(|member| NodeId::new(member.id))
}

fn render(status: &ClusterStatus) -> String {
    let coordinator = match status.coordinator {
        Some((id, term)) => format!("coordinator {id}, term {term}"),
        None => "no coordinator yet".to_owned(),
    };
    let up = span(Duration::from_millis(status.uptime_ms));
    let mut text = format!(
        "cluster {}, {coordinator}; as seen by node {}, up {up}\n\n",
        status.cluster, status.node
    );
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("STATUS", Align::Left),
        ("EPOCH", Align::Right),
        ("ADDRESS", Align::Left),
        ("IN FLIGHT", Align::Right),
        ("DONE", Align::Right),
        ("RATE/S", Align::Right),
        ("LATENCY", Align::Right),
        ("LOAD AGE", Align::Right),
        ("HEARD", Align::Right),
        ("TAGS", Align::Left),
    ]);
    for member in &status.members {
        table.row(row(member));
    }
    text.push_str(&table.to_string());
    if let Some(edges) = &status.edges {
        text.push_str(&render_edges(edges));
    }
    text
}

fn render_edges(edges: &EdgesStatus) -> String {
    let at = edges.addr.map_or_else(String::new, |addr| format!(" at {addr}"));
    let mut text = format!(
        "\n{} of {}{at}",
        plural(edges.total as u64, "edge"),
        edges.capacity
    );
    if edges.edges.len() < edges.total {
        text.push_str(&format!(", the first {}", edges.edges.len()));
    }
    text.push('\n');
    if edges.edges.is_empty() {
        return text;
    }
    let mut table = Table::new(&[
        ("EDGE", Align::Right),
        ("NAME", Align::Left),
        ("STATUS", Align::Left),
        ("ADDRESS", Align::Left),
        ("IN FLIGHT", Align::Right),
        ("CALLS", Align::Right),
        ("SESSIONS", Align::Right),
        ("LOAD AGE", Align::Right),
        ("HEARD", Align::Right),
        ("ZONE", Align::Left),
    ]);
    for edge in &edges.edges {
        table.row(vec![
            edge.id.to_string(),
            edge.name.clone().unwrap_or_else(dash),
            edge.status.clone(),
            edge.addr.map_or_else(dash, |addr| addr.to_string()),
            match edge.capacity {
                0 => edge.in_flight.to_string(),
                capacity => format!("{}/{capacity}", edge.in_flight),
            },
            grouped(edge.calls),
            grouped(edge.sessions),
            edge.load_age_ms.map_or_else(dash, age),
            edge.heard_ms.map_or_else(dash, age),
            edge.zone.clone().unwrap_or_else(dash),
        ]);
    }
    text.push_str(&table.to_string());
    text
}

fn row(member: &MemberStatus) -> Vec<String> {
    let serves = member.role == "worker";
    let age = |millis: Option<u64>| millis.filter(|_| !member.is_self).map_or_else(dash, age);
    let if_serves = |text: String| if serves { text } else { dash() };
    vec![
        format!("{}{}", member.id, if member.is_self { "*" } else { "" }),
        member.status.clone(),
        member.epoch.to_string(),
        member.addr.map_or_else(dash, |addr| addr.to_string()),
        if_serves(match member.capacity {
            0 => member.in_flight.to_string(),
            capacity => format!("{}/{capacity}", member.in_flight),
        }),
        if_serves(grouped(member.completed)),
        if_serves(format!("{:.1}", member.rate_per_s)),
        match member.latency_us {
            0 => dash(),
            micros => span(Duration::from_micros(micros.into())),
        },
        if serves { age(member.load_age_ms) } else { dash() },
        age(member.heard_ms),
        member.tags.clone(),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> ClusterStatus {
        let member = |id: u32, is_self: bool, role: &str, word: &str| {
            format!(
                r#"{{"id":{id},"is_self":{is_self},"role":"{role}","status":"{word}","liveness":"alive",
                "freshness":"fresh","admission":"open","epoch":17,"addr":"127.0.0.1:740{id}","tags":"role=worker",
                "load_age_ms":80,"heard_ms":1200,"in_flight":11,"queued":0,"capacity":256,"clients":1,
                "completed":12345,"rate_per_s":1234.56,"latency_us":1234,"own_in_flight":0}}"#
            )
        };
        let members = [
            member(1, true, "worker", "Worker"),
            member(2, false, "worker", "COORDINATOR"),
            member(9, false, "observer", "Observer"),
        ];
        let text = format!(
            r#"{{"cluster":"lab","node":1,"epoch":17,"uptime_ms":61000,"coordinator":[2,3],"members":[{}],
            "control":{{"messages_sent":1,"heartbeats_sent":1,"acks_sent":0,"messages_received":0,"refused":0,
            "calls_sent":0,"responses_sent":0,"probes_sent":0,"transport_messages":1,"balance_messages":0}}}}"#,
            members.join(",")
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_table_reads_well() {
        let text = render(&status());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "cluster lab, coordinator 2, term 3; as seen by node 1, up 61.0 s"
        );
        assert!(lines[2].starts_with("ID"), "{text}");
        assert!(lines[3].contains("1*") && lines[3].contains("12,345"), "{text}");
        assert!(
            lines[4].contains("COORDINATOR") && lines[4].contains("11/256"),
            "{text}"
        );
        assert!(lines[4].contains("80 ms") && lines[4].contains("1.2 s"), "{text}");
        assert!(!lines[5].contains("12,345"), "an observer serves nothing: {text}");
    }

    #[test]
    fn edges_have_a_table_of_their_own() {
        let mut status = status();
        assert!(!render(&status).contains("EDGE"));
        let edges = r#"{"addr":"127.0.0.1:7500","total":2000,"capacity":16384,"edges":[
            {"id":7,"name":"north","addr":"10.0.0.7:9","status":"Observer","heard_ms":1200,"load_age_ms":80,
            "in_flight":1,"capacity":4,"calls":12345,"sessions":2,"zone":"a"},
            {"id":8,"name":null,"addr":null,"status":"NO_HEARTBEAT","heard_ms":null,"load_age_ms":null,
            "in_flight":0,"capacity":0,"calls":0,"sessions":0,"zone":null}],"counters":{}}"#;
        status.edges = Some(serde_json::from_str(edges).unwrap());
        let text = render(&status);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[7], "2,000 edges of 16384 at 127.0.0.1:7500, the first 2");
        assert!(
            lines[9].contains("north") && lines[9].contains("12,345"),
            "{text}"
        );
        assert!(lines[9].contains("80 ms") && lines[9].contains("1/4"), "{text}");
        assert!(lines[10].contains("NO_HEARTBEAT"), "{text}");
    }

    #[test]
    fn the_seed_is_asked_before_others() {
        let status = status();
        let seed = |text: &str| [text.parse().unwrap()];
        assert_eq!(
            whom_to_ask(&status, &seed("127.0.0.1:7402")),
            Some(NodeId::new(2))
        );
        assert_eq!(
            whom_to_ask(&status, &seed("10.0.0.1:1")),
            Some(NodeId::new(2)),
            "never itself"
        );
        let mut gone = status.clone();
        gone.members.retain(|member| member.id != 2);
        assert_eq!(whom_to_ask(&gone, &seed("127.0.0.1:7402")), None);
    }
}
