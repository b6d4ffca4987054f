//! The demo, with real processes and a real crash.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Dir, lb, rest, run, wait};
use serde_json::Value;

/// Files of awkward sizes: 200,001 bytes in four visible ones, and some that must not be sent.
fn input() -> Dir {
    let dir = Dir::new();
    dir.write("empty", "");
    dir.write("one", "1");
    dir.write("chunk", vec![7; 65_536]);
    dir.write(
        "more",
        (0..134_464_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>(),
    );
    dir.write(".hidden", "not sent");
    dir.write("ignored.log", "not sent");
    dir.write(".gitignore", "*.log\n");
    dir
}

/// Runs the demo to a good end and returns its figures.
#[track_caller]
fn demo(args: &[&str]) -> Value {
    let mut all = vec!["demo", "--quick-timers", "--json"];
    all.extend(args);
    let outcome = run(&all).good();
    let text = outcome.text();
    assert_eq!(
        text.lines().count(),
        1,
        "only the figures go to standard output: {text}"
    );
    assert!(outcome.stderr.contains("SIGKILL"), "{}", outcome.stderr);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    check(&report);
    report
}

/// What every good run has in common.
#[track_caller]
fn check(report: &Value) {
    let count = |name: &str| {
        report[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name} in {report}"))
    };
    let measure = |name: &str| {
        report[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name} in {report}"))
    };
    assert_eq!(count("failed"), 0, "{report}");
    assert_eq!(count("ok"), count("requests"), "{report}");
    assert!(count("requests") > 0, "{report}");
    assert_eq!(count("balance_messages"), 0, "{report}");
    assert!(
        count("p50_us") <= count("p99_us") && count("p99_us") <= count("max_us"),
        "{report}"
    );
    let picks = report["picks"].as_object().expect("an object");
    assert_eq!(picks.len() as u64, count("workers"), "{report}");
    assert!(picks.values().all(|picked| picked.as_u64() > Some(0)), "{report}");
    let picked: u64 = picks.values().filter_map(Value::as_u64).sum();
    assert_eq!(picked, count("requests") + count("retries"), "{report}");
    assert!(picks.contains_key(&count("killed").to_string()), "{report}");
    assert!(measure("failed_detected_ms") > 300.0, "{report}");
    assert!(measure("rejoined_ms") > 0.0, "{report}");
    assert!(count("epoch_after") > count("epoch_before"), "{report}");
    assert!(measure("control_messages_per_node_per_s") > 0.0, "{report}");
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
}

#[test]
fn every_byte_is_verified_while_a_worker_is_killed() {
    let input = input();
    let report = demo(&["--seconds", "5", input.path().to_str().unwrap()]);
    assert_eq!(report["strategy"], "adaptive");
    assert_eq!(report["workers"], 3);
    assert_eq!(report["input_files"], 4);
    assert_eq!(report["input_bytes"], 200_001);
    assert!(report["verified_bytes"].as_u64() >= Some(200_001), "{report}");
    assert!(report["seconds"].as_f64() >= Some(5.0), "{report}");
}

#[test]
fn other_numbers_of_workers_and_requests() {
    let input = input();
    let path = input.at("more");
    let report = demo(&[
        "--workers",
        "2",
        "--concurrency",
        "1",
        "--chunk",
        "1000",
        "--strategy",
        "round-robin",
        &path,
    ]);
    assert_eq!(report["strategy"], "round-robin");
    assert_eq!(report["workers"], 2);
    assert_eq!(report["input_bytes"], 134_464);
}

#[test]
fn empty_files_are_verified_too() {
    let input = Dir::new();
    let path = input.write("empty", "");
    let report = demo(&[&path]);
    assert_eq!(report["verified_bytes"], 0);
    assert_eq!(report["input_bytes"], 0);
}

#[test]
fn says_what_is_wrong_before_it_starts_anything() {
    let empty = Dir::new();
    let place = empty.path().to_str().unwrap();
    run(&["demo", "/no/such/place"]).refused(1, &["cannot read /no/such/place", "No such file"]);
    run(&["demo", place]).refused(1, &["nothing to encrypt", place]);
    run(&["demo", "/dev/null"]).refused(1, &["/dev/null is neither a file nor a directory"]);
    run(&["demo", "--strategy", "best"]).refused(2, &["best", "adaptive, round-robin, random"]);
    run(&["demo", "--workers", "1"]).refused(2, &["2..=16"]);
    let file = empty.write("file", "x");
    let no_room = lb()
        .args(["demo", &file])
        .env("TMPDIR", "/no/such/place")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&no_room.stderr).into_owned();
    assert!(
        said.contains("/no/such/place") && said.contains("TMPDIR"),
        "{said}"
    );
}

/// A demo that sends requests.
struct Running {
    demo: Child,
    workers: Vec<String>,
    /// What it prints from now on.
    printed: JoinHandle<String>,
}

fn running(tmp: &Dir, input: &Dir) -> Running {
    let mut demo = lb()
        .args(["demo", "--quick-timers", "--seconds", "60"])
        .arg(input.path())
        .env("TMPDIR", tmp.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let formed = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains("everybody knows"));
    assert!(formed, "{}", rest(demo.stderr.take()));
    let printed = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>().join("\n"));
    let workers = children(demo.id());
    assert_eq!(workers.len(), 3);
    Running {
        demo,
        workers,
        printed,
    }
}

fn children(of: u32) -> Vec<String> {
    let listed = Command::new("ps")
        .args(["-o", "pid=", "--ppid", &of.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    text.split_whitespace().map(str::to_owned).collect()
}

#[track_caller]
fn all_end(pids: &[String], within: Duration) {
    let began = Instant::now();
    let alive = |pid: &String| {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
        // The state follows the name in brackets; a zombie has ended.
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    };
    while pids.iter().any(alive) {
        assert!(began.elapsed() < within, "workers outlive the demo");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn leaves_nothing_behind_when_interrupted() {
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let (tmp, input) = (Dir::new(), input());
        let Running {
            mut demo, workers, ..
        } = running(&tmp, &input);
        kill(signal, demo.id());
        assert_eq!(wait(&mut demo, Duration::from_secs(10)), Some(code));
        all_end(&workers, Duration::from_secs(5));
        assert_eq!(
            std::fs::read_dir(tmp.path()).unwrap().count(),
            0,
            "files are left"
        );
        assert!(rest(demo.stderr.take()).contains("interrupted"));
    }
}

#[test]
fn workers_end_even_when_the_demo_is_killed() {
    let (tmp, input) = (Dir::new(), input());
    let Running {
        mut demo, workers, ..
    } = running(&tmp, &input);
    kill("-KILL", demo.id());
    assert_eq!(wait(&mut demo, Duration::from_secs(10)), None);
    all_end(&workers, Duration::from_secs(20));
}

#[test]
fn a_worker_that_dies_by_itself_is_a_problem_told() {
    let (tmp, input) = (Dir::new(), input());
    let Running {
        mut demo,
        workers,
        printed,
    } = running(&tmp, &input);
    kill("-KILL", workers[1].parse().unwrap());
    assert_eq!(wait(&mut demo, Duration::from_secs(60)), Some(1));
    let printed = printed.join().unwrap();
    assert!(
        printed.contains("PROBLEM    worker") && printed.contains("ended by itself"),
        "{printed}"
    );
    all_end(&workers, Duration::from_secs(5));
    assert_eq!(
        std::fs::read_dir(tmp.path()).unwrap().count(),
        0,
        "files are left"
    );
}
