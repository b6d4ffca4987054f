//! The firmware `sensor` in QEMU against three real nodes, and what may happen to all of them.

mod cluster;
mod sensor;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

pub(crate) use self::cluster::build;
use self::cluster::{Cluster, DEVICES, HEARTBEAT, NODES};
pub(crate) use self::sensor::Parts;
use self::sensor::{Call, PATIENCE, Sensor};

/// What a sensor gives a call.
const DEADLINE: Duration = Duration::from_secs(2);

/// Between the end of a call and the next one.
const PERIOD: Duration = Duration::from_millis(20);

/// Long enough for everybody to have heard of everything, heartbeats and verdicts.
const SETTLE: Duration = HEARTBEAT.saturating_mul(6);

/// What has been seen of a target.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) joined: bool,
    /// Calls while at least one server could be reached.
    pub(crate) calls_ok: u32,
    pub(crate) calls_failed: u32,
    /// The longest call when the server in use was killed.
    pub(crate) failover_ms: u32,
    /// The deepest stack of all guests.
    pub(crate) stack: u32,
}

impl Outcome {
    fn count(&mut self, calls: &[Call]) {
        self.calls_ok += u32::try_from(calls.len()).unwrap_or(u32::MAX);
    }
}

/// Runs all of it. The first failure ends it, with the last lines of whoever was concerned.
pub(crate) fn run(parts: Parts<'_>, lb: &Path) -> Result<Outcome> {
    let mut cluster = Cluster::start(lb)?;
    let mut outcome = Outcome::default();
    one(parts, &mut cluster, &mut outcome)?;
    many(parts, &cluster, &mut outcome)?;
    Ok(outcome)
}

/// What a sensor, its servers and its network live through, one after the other.
const LIFE: [(&str, Step); 9] = [
    ("it joins", joins),
    ("200 calls are answered", calls),
    ("a busy server gets less", follows_load),
    ("its server is killed", fails_over),
    ("the server comes back", uses_who_is_back),
    ("all servers go and come back", attaches_again),
    ("the cable is pulled for 5 s", survives_an_unplugged_cable),
    ("the machine stops for 3 s", accuses_nobody_after_a_pause),
    ("it reboots", begins_anew_after_a_reboot),
];

type Step = fn(&mut Sensor, &mut Cluster, &mut Outcome) -> Result<()>;

fn one(parts: Parts<'_>, cluster: &mut Cluster, outcome: &mut Outcome) -> Result<()> {
    let mut sensor = Sensor::boot(parts, cluster, *DEVICES.start(), u32::MAX, PERIOD)?;
    for (what, step) in LIFE {
        let begun = Instant::now();
        step(&mut sensor, cluster, outcome).with_context(|| {
            format!(
                "{}, {what}; the firmware printed last:{}\nthe nodes:{}",
                parts.target.triple,
                sensor.guest.last_lines(),
                cluster.logs()
            )
        })?;
        eprintln!(
            "{}: {what} ({:.1} s)",
            parts.target.triple,
            begun.elapsed().as_secs_f32()
        );
    }
    outcome.stack = outcome.stack.max(sensor.stack);
    Ok(())
}

fn joins(sensor: &mut Sensor, cluster: &mut Cluster, outcome: &mut Outcome) -> Result<()> {
    sensor.attached()?;
    let calls = sensor.answered(1)?;
    outcome.joined = true;
    outcome.count(&calls);
    wait_for_edges(cluster, 1)
}

fn calls(sensor: &mut Sensor, _: &mut Cluster, outcome: &mut Outcome) -> Result<()> {
    sensor.skip()?;
    let calls = sensor.answered(200)?;
    for (before, after) in calls.iter().zip(calls.iter().skip(1)) {
        ensure!(
            after.number == before.number + 1,
            "after {before:?} comes {after:?}"
        );
    }
    outcome.count(&calls);
    Ok(())
}

fn follows_load(sensor: &mut Sensor, cluster: &mut Cluster, outcome: &mut Outcome) -> Result<()> {
    let busy = *sensor
        .answered(1)?
        .first()
        .and_then(|call| call.server.as_ref())
        .context("no server")?;
    let _callers = cluster.keep_busy(busy)?;
    // The sensor hears of it with the next heartbeats.
    outcome.count(&sensor.answered_for(SETTLE)?);
    let calls = sensor.answered(60)?;
    let there = calls.iter().filter(|call| call.server == Some(busy)).count();
    ensure!(
        there * 10 < calls.len(),
        "node {busy} is busy, and still gets {there} of {} calls",
        calls.len()
    );
    outcome.count(&calls);
    Ok(())
}

fn fails_over(sensor: &mut Sensor, cluster: &mut Cluster, outcome: &mut Outcome) -> Result<()> {
    sensor.skip()?;
    let used = sensor.answered(1)?;
    let server = used.first().and_then(|call| call.server).context("no server")?;
    cluster.kill(server)?;
    let calls = sensor.answered_for(SETTLE)?;
    let longest = calls.iter().map(|call| call.took).max().unwrap_or_default();
    ensure!(
        longest < DEADLINE,
        "a call took {longest:?} when node {server} was killed"
    );
    let last = calls.last().context("no calls")?;
    ensure!(
        last.server != Some(server),
        "a dead server answers: {}",
        last.line
    );
    outcome.failover_ms = u32::try_from(longest.as_millis()).unwrap_or(u32::MAX);
    outcome.count(&calls);
    Ok(())
}

fn uses_who_is_back(sensor: &mut Sensor, cluster: &mut Cluster, outcome: &mut Outcome) -> Result<()> {
    cluster.start_missing()?;
    let until = Instant::now() + PATIENCE;
    let mut seen = [false; NODES as usize];
    sensor.skip()?;
    while seen.contains(&false) {
        let calls = sensor.answered(1)?;
        for server in calls.iter().filter_map(|call| call.server) {
            let place = (server as usize)
                .checked_sub(1)
                .and_then(|place| seen.get_mut(place));
            *place.context("a server nobody knows")? = true;
        }
        outcome.count(&calls);
        ensure!(
            Instant::now() < until,
            "not all servers are used within {PATIENCE:?}"
        );
    }
    Ok(())
}

fn attaches_again(sensor: &mut Sensor, cluster: &mut Cluster, outcome: &mut Outcome) -> Result<()> {
    cluster.kill_all();
    let until = Instant::now() + PATIENCE;
    sensor.skip()?;
    // It notices, and is given time to conclude that there is nobody.
    while sensor.call()?.server.is_some() {
        ensure!(Instant::now() < until, "calls are answered by nobody");
    }
    let _ = sensor.call()?;
    cluster.start_missing()?;
    sensor.recovered(20)?;
    outcome.count(&sensor.answered(50)?);
    Ok(())
}

fn survives_an_unplugged_cable(sensor: &mut Sensor, _: &mut Cluster, outcome: &mut Outcome) -> Result<()> {
    sensor.guest.set_link(false)?;
    thread::sleep(Duration::from_secs(5));
    sensor.skip()?;
    sensor.guest.set_link(true)?;
    sensor.recovered(20)?;
    outcome.count(&sensor.answered(50)?);
    Ok(())
}

fn accuses_nobody_after_a_pause(sensor: &mut Sensor, _: &mut Cluster, outcome: &mut Outcome) -> Result<()> {
    // From before the pause, nobody is accused either.
    thread::sleep(SETTLE);
    sensor.skip()?;
    sensor.guest.stop()?;
    thread::sleep(Duration::from_secs(3));
    sensor.guest.go_on()?;
    let calls = sensor.answered_for(SETTLE)?;
    if let Some(call) = calls.iter().find(|call| call.accuses) {
        anyhow::bail!("a server that lives is accused: {}", call.line);
    }
    outcome.count(&calls);
    Ok(())
}

fn begins_anew_after_a_reboot(
    sensor: &mut Sensor,
    cluster: &mut Cluster,
    outcome: &mut Outcome,
) -> Result<()> {
    let device = *DEVICES.start();
    let before = sessions(&cluster.edges()?, device);
    sensor.guest.reset()?;
    sensor.attached()?;
    let calls = sensor.answered(20)?;
    ensure!(
        calls.first().is_some_and(|call| call.number == 1),
        "it went on where it was"
    );
    outcome.count(&calls);
    let edges = cluster.edges()?;
    let after = sessions(&edges, device);
    ensure!(
        after > before,
        "{after} sessions after the reboot, {before} before"
    );
    // A node knows the device once, so its former sessions are gone.
    ensure!(
        edges.len() <= NODES as usize,
        "the device is there more than once: {edges:?}"
    );
    Ok(())
}

fn sessions(edges: &[Value], device: u32) -> u64 {
    let own = edges.iter().filter(|edge| edge["id"] == device);
    own.filter_map(|edge| edge["sessions"].as_u64()).sum()
}

/// All devices at once.
fn many(parts: Parts<'_>, cluster: &Cluster, outcome: &mut Outcome) -> Result<()> {
    const CALLS: u32 = 60;
    let (begun, period) = (Instant::now(), Duration::from_millis(100));
    let mut sensors = Vec::new();
    for device in DEVICES {
        sensors.push((device, Sensor::boot(parts, cluster, device, CALLS, period)?));
    }
    for (device, sensor) in &mut sensors {
        sensor
            .attached()
            .with_context(|| failure(parts, *device, sensor, cluster))?;
    }
    wait_for_edges(cluster, sensors.len())?;
    for (device, sensor) in &mut sensors {
        let counts = sensor.finish();
        let (ok, failed) = counts.with_context(|| failure(parts, *device, sensor, cluster))?;
        outcome.calls_ok += ok;
        outcome.calls_failed += failed;
        ensure!(
            (ok, failed) == (CALLS, 0),
            "{}",
            failure(parts, *device, sensor, cluster)
        );
        outcome.stack = outcome.stack.max(sensor.stack);
    }
    eprintln!(
        "{}: {} sensors at once ({:.1} s)",
        parts.target.triple,
        sensors.len(),
        begun.elapsed().as_secs_f32()
    );
    Ok(())
}

fn failure(parts: Parts<'_>, device: u32, sensor: &Sensor, cluster: &Cluster) -> String {
    format!(
        "{}, {} sensors at once: device {device} printed last:{}\nthe nodes:{}",
        parts.target.triple,
        DEVICES.count(),
        sensor.guest.last_lines(),
        cluster.logs()
    )
}

/// Waits until the nodes list so many devices, heard lately and with their load.
fn wait_for_edges(cluster: &Cluster, wanted: usize) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let edges = cluster.edges()?;
        let mut there: Vec<u64> = edges
            .iter()
            .filter(|edge| is_current(edge))
            .filter_map(|edge| edge["id"].as_u64())
            .collect();
        there.sort_unstable();
        there.dedup();
        if there.len() == wanted {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "lb status lists {there:?} with their load, of {wanted} devices: {edges:?}"
        );
    }
}

/// A sensor says that it does one thing at a time.
fn is_current(edge: &Value) -> bool {
    let young = |key: &str| edge[key].as_u64().is_some_and(|ms| ms <= 10_000);
    young("heard_ms") && young("load_age_ms") && edge["capacity"] == 1 && edge["status"] == "Observer"
}
