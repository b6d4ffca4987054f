//! `lb cert`, `node`, `call` and `status` against real processes.

mod common;

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use common::{Dir, Node, lb, run, run_with, wait};
use serde_json::Value;

/// Certificates for nodes 1 to 3 and for the observers 8 and 9.
fn certs() -> Dir {
    let dir = Dir::new();
    run(&[
        "cert",
        "--cluster",
        "test",
        "--dir",
        &dir.at(""),
        "--nodes",
        "1-3,8,9",
    ])
    .good();
    dir
}

/// A worker with quick time-outs.
fn node(dir: &Dir, id: &str, more: &[&str]) -> Node {
    let place = dir.at("");
    let mut args = vec!["--id", id, "--dir", &place, "--heartbeat", "200ms"];
    args.extend(more);
    Node::start(&args)
}

fn with<'a>(args: &[&'a str], join: &[&'a str]) -> Vec<&'a str> {
    args.iter().chain(join).copied().collect()
}

#[test]
fn certificates_are_made_once() {
    let dir = certs();
    let place = dir.at("");
    let cert =
        |cluster: &str, nodes: &str| run(&["cert", "--cluster", cluster, "--dir", &place, "--nodes", nodes]);
    assert!(cert("test", "4").good().text().contains("node-4.key"));
    cert("test", "4,5").refused(1, &["node-4.pem", "never overwritten", "--nodes"]);
    cert("other", "6").refused(1, &["cluster test, not of other"]);
    cert("Test", "6").refused(1, &["--cluster", "a-z"]);
    cert("test", "5-1").refused(2, &["1-5"]);
}

#[test]
fn calls_reach_workers_and_errors_are_told() {
    let dir = certs();
    let key = dir.write("key", "07".repeat(32));
    let place = dir.at("");
    let one = node(&dir, "1", &["--tag", "zone=a", "--key-file", &key]);
    let seed = one.seed();
    let _two = node(&dir, "2", &["--tag", "zone=b", "--seed", &seed]);
    let join = ["--id", "9", "--dir", &place, "--seed", &seed];
    let call = |args: &[&str]| run(&with(args, &join));

    assert_eq!(call(&["call", "echo", "--data", "hello"]).good().stdout, b"hello");
    let file = dir.write("file", [0, 159, 146, 150]);
    assert_eq!(
        call(&["call", "echo", "--file", &file]).good().stdout,
        [0, 159, 146, 150]
    );
    let in_a = with(&["--filter", "zone=a"], &join);
    let sealed = run_with(&with(&["call", "encrypt"], &in_a), b"secret")
        .good()
        .stdout;
    assert_eq!(sealed.len(), 12 + 6 + 16);
    assert_eq!(
        run_with(&with(&["call", "decrypt"], &in_a), &sealed)
            .good()
            .stdout,
        b"secret"
    );
    run_with(&with(&["call", "decrypt"], &in_a), b"short").refused(1, &["not sealed with this key"]);
    assert_eq!(call(&["call", "sleep", "--data", "1"]).good().stdout, b"");

    call(&["call", "encrypt", "--data", "x", "--filter", "zone=b"]).refused(1, &["--key-file"]);
    call(&["call", "sleep", "--data", "soon"]).refused(1, &["milliseconds"]);
    call(&["call", "sleep", "--data", "9000", "--timeout", "1s"])
        .refused(1, &["no answer within 1s", "--timeout"]);
    call(&["call", "fail", "--data", ""]).refused(1, &["asked to fail"]);
    call(&["call", "nothing", "--data", ""]).refused(1, &["no method \"nothing\""]);
    call(&[
        "call",
        "echo",
        "--data",
        "",
        "--filter",
        "zone=c",
        "--timeout",
        "1s",
    ])
    .refused(1, &["no worker matches --filter zone=c", "zone=a", "zone=b"]);
    call(&["call", "echo", "--data", "", "--filter", "=", "--timeout", "1s"]).refused(1, &["filter"]);
    call(&["call", "echo", "--file", "/no/such/file"]).refused(1, &["cannot read /no/such/file"]);
    call(&["call", "echo", "--data", "", "--strategy", "best"]).refused(2, &["corrected"]);
}

#[test]
fn status_shows_the_cluster() {
    let dir = certs();
    let place = dir.at("");
    let one = node(&dir, "1", &["--tag", "zone=a", "--capacity", "7"]);
    let seed = one.seed();
    let two = node(&dir, "2", &["--seed", &seed]);
    // A moment for the two to elect a coordinator.
    std::thread::sleep(Duration::from_secs(1));
    let join = ["--id", "9", "--dir", &place, "--seed", &seed];

    let text = run(&with(&["status"], &join)).good().text();
    assert!(text.contains("cluster test, coordinator 1, term"), "{text}");
    let row = text
        .lines()
        .find(|line| line.contains("zone=a"))
        .expect("worker 1");
    assert!(
        row.contains("1*") && row.contains("COORDINATOR") && row.contains("0/7"),
        "{text}"
    );
    assert!(
        row.contains(&seed) && row.contains(&one.epoch.to_string()),
        "{text}"
    );
    assert!(text.contains(&two.seed()), "{text}");

    let json = run(&with(&["status", "--json"], &join)).good().text();
    let value: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(value["node"], 1);
    assert_eq!(value["members"][1]["id"], 2);
    assert_eq!(value["control"]["balance_messages"], 0);

    let mut watching = lb()
        .args(with(&["status", "--watch", "--json"], &join))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    let id = watching.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(wait(&mut watching, Duration::from_secs(10)), Some(0));
    let lines = common::rest(watching.stdout.take());
    assert!(lines.lines().count() >= 2, "{lines}");
    assert!(
        lines
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{lines}"
    );
}

#[test]
fn a_node_leaves_gracefully_and_rises_again_with_a_higher_epoch() {
    let dir = certs();
    let state = dir.at("state");
    for (signal, name) in [(true, "TERM"), (true, "INT"), (false, "")] {
        let flags = ["--state-dir", &state, "--exit-with-stdin"];
        let first = node(&dir, "1", &flags);
        let epoch = first.epoch;
        assert_eq!(
            first.line,
            format!("listening node=1 addr={} epoch={epoch}", first.addr)
        );
        first.signal("KILL");
        assert_eq!(first.ended(), None);
        let mut second = node(&dir, "1", &flags);
        assert!(second.epoch > epoch);
        if signal {
            second.signal(name);
        } else {
            second.close_stdin();
        }
        assert_eq!(second.ended(), Some(0));
    }
}

#[test]
fn settings_come_from_a_file() {
    let dir = certs();
    let place = dir.at("");
    let file = dir.write(
        "node.toml",
        "id = 1\ndir = \".\"\n[tags]\nzone = \"f\"\n[timers]\nheartbeat = \"200ms\"\n",
    );
    let node = Node::start(&["--config", &file]);
    let status = run(&["status", "--id", "9", "--dir", &place, "--seed", &node.seed()])
        .good()
        .text();
    assert!(status.contains("role=worker,zone=f"), "{status}");

    let file = dir.write("bad.toml", "id = 1\nlisen = \"127.0.0.1:0\"\n");
    run(&["node", "--config", &file]).refused(1, &["bad.toml, line 2, lisen", "unknown field", "listen"]);
    let file = dir.write("timers.toml", "id = 1\ndir = \".\"\n[timers]\nttl = \"1s\"\n");
    run(&["node", "--config", &file])
        .refused(1, &["timers.toml, line 4, timers.ttl", "at least the heartbeat"]);
    run(&["node", "--config", &dir.at("none.toml")])
        .refused(1, &["cannot read the settings file", "none.toml"]);
}

#[test]
fn a_node_that_cannot_start_says_why() {
    let dir = certs();
    let place = dir.at("");
    let node = |more: &[&str]| run(&with(&["node", "--id", "1", "--dir", &place], more));
    node(&["--heartbeat", "10s", "--ttl", "5s"])
        .refused(1, &["--ttl", "at least the heartbeat", "heartbeat 10s"]);
    node(&["--heartbeat", "5"]).refused(2, &["write 5s for seconds"]);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    node(&["--listen", &addr]).refused(1, &[&addr, "in use", "another port"]);
    node(&["--listen", "0.0.0.0:0"]).refused(1, &["--advertise"]);
    node(&["--key-file", &dir.write("short", "00")]).refused(1, &["64 hexadecimal digits"]);
    node(&["--seed", "localhost"]).refused(1, &["localhost:7401"]);
    node(&["--tag", "zone=a b"]).refused(1, &["tag \"zone\""]);
    run(&["node", "--id", "7", "--dir", &place]).refused(1, &["node-7.pem", "No such file"]);
    run(&["node", "--dir", &place]).refused(1, &["--id"]);
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (dir, other) = (certs(), certs());
    let worker = node(&dir, "1", &[]);
    let (place, seed) = (other.at(""), worker.seed());
    let join = ["--id", "9", "--dir", &place, "--seed", &seed, "--timeout", "3s"];
    run(&with(&["call", "echo", "--data", "x"], &join)).refused(1, &[&seed, "TLS identity refused"]);
    run(&with(&["status"], &join)).refused(1, &[&seed, "TLS identity refused"]);

    // A certificate of one authority beside the ca.pem of another.
    std::fs::copy(dir.path().join("ca.pem"), other.path().join("ca.pem")).unwrap();
    run(&with(&["status"], &join)).refused(1, &["node-9.pem", "ca.pem", "would refuse this certificate"]);
}

#[test]
fn help_and_version() {
    let help = run(&["--help"]).good().text();
    for command in ["demo", "node", "call", "status", "cert", "Start here"] {
        assert!(help.contains(command), "{help}");
    }
    for command in ["demo", "node", "call", "status", "cert"] {
        let help = run(&[command, "--help"]).good().text();
        assert!(
            help.contains("Usage: lb") && !help.contains("exit-with-stdin"),
            "{help}"
        );
    }
    let version = run(&["--version"]).good().text();
    assert_eq!(version.trim(), concat!("lb ", env!("CARGO_PKG_VERSION")));
    run(&[]).refused(2, &["Usage: lb"]);
}

#[test]
fn an_experiment_prints_draws_and_repeats_itself() {
    let dir = Dir::new();
    let svg = dir.at("stale.svg");
    let mut args = vec![
        "sim",
        "stale",
        "--policies",
        "random,corrected",
        "--ages",
        "1,10",
        "--clients",
        "10",
    ];
    args.extend([
        "--speeds",
        "equal",
        "--discipline",
        "fifo",
        "--work",
        "exponential",
        "--seeds",
        "2",
    ]);
    args.extend(["--requests", "3000", "--svg", &svg]);
    let table = run(&args).good().text();
    assert!(
        table.contains("2 seeds from 1") && table.contains("corrected"),
        "{table}"
    );
    let drawn = std::fs::read_to_string(&svg).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("corrected"));
    args.push("--json");
    let json = run(&args).good().text();
    assert_eq!(json, run(&args).good().text(), "the same seed, the same bytes");
    let rows: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 4);
    for row in &rows {
        for field in ["clients", "age", "load", "seeds", "mean", "p99"] {
            assert!(
                row[field].as_f64().is_some_and(|value| value > 0.0),
                "{field}: {row}"
            );
        }
    }
    assert!(
        rows[2]["mean"].as_f64() < rows[0]["mean"].as_f64(),
        "corrected beats random"
    );
    args.extend(["--svg", "/nowhere/at/all.svg"]);
    run(&args).refused(2, &["--svg"]);
}

#[test]
fn newcomers_and_zones_are_told_of_and_drawn() {
    let dir = Dir::new();
    let (newcomer, zones) = (dir.at("newcomer.svg"), dir.at("zones.svg"));
    let slowstart =
        "sim slowstart --policies round-robin --aggression off,2 --window 200 --seeds 1 --json --svg";
    let mut slowstart: Vec<&str> = slowstart.split(' ').collect();
    slowstart.push(&newcomer);
    let near =
        "sim zones --scenarios envoy-38758 --policies zone-aware --requests 3000 --seeds 1 --json --svg";
    let mut near: Vec<&str> = near.split(' ').collect();
    near.push(&zones);
    for (args, rows, fields, drawn) in [
        (&slowstart, 24, ["passed", "share", "formula"], &newcomer),
        (&near, 4, ["load", "clients", "local"], &zones),
    ] {
        let json = run(args).good().text();
        let found: Vec<Value> = json
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(found.len(), rows, "{json}");
        for field in fields {
            assert!(
                found[0][field].as_f64().is_some_and(|value| value > 0.0),
                "{field}: {json}"
            );
        }
        assert!(std::fs::read_to_string(drawn).unwrap().starts_with("<svg"));
    }
}
