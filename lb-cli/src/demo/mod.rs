//! `lb demo`: a small cluster that encrypts files while one of its workers is killed.

mod files;
mod load;
mod stage;
mod summary;
mod view;
mod worker;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use console::Style;
use lb_tokio::Timers;

use self::files::{Input, Reader};
use self::load::Load;
use self::stage::{LOOK, REQUEST, Stage, member, serves, words};
use self::summary::{Meter, Report, millis, rounded};
use self::view::Screen;
use self::worker::Worker;
use crate::cli::DemoArgs;
use crate::signals::Stop;
use crate::temp::TempDir;
use crate::units::{bytes, plural, span};

/// Heartbeat under `--quick-timers`.
const QUICK: lb_tokio::core::Duration = lb_tokio::core::Duration::from_millis(200);

/// How long the load is up before a worker is killed.
const WARM_UP: Duration = Duration::from_secs(2);

/// How long the worker that came back is watched at work.
const AFTER: Duration = Duration::from_secs(1);

/// How long the cluster may take to form, and a restarted worker to be back.
const JOINING: Duration = Duration::from_secs(20);

pub(crate) async fn run(args: DemoArgs) -> Result<ExitCode> {
    let mut stop = Stop::listen().context("cannot listen for signals")?;
    let report = tokio::select! {
        report = demo(&args) => report?,
        code = stop.asked() => {
            // The demo was dropped: its workers are killed and its directory is gone.
            eprintln!("interrupted; the workers are stopped");
            return Ok(ExitCode::from(code));
        }
    };
    if args.json {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out).and_then(|()| out.flush())?;
    }
    Ok(ExitCode::from(u8::from(!report.is_good())))
}

/// Runs it all; an error is something that kept it from starting.
async fn demo(args: &DemoArgs) -> Result<Report> {
    let paths = args.paths.clone();
    let input = tokio::task::spawn_blocking(move || Input::gather(&paths)).await??;
    // Declared before whatever uses it, so that it goes last.
    let temp = TempDir::new("lb-demo").with_context(|| {
        let place = std::env::temp_dir();
        format!(
            "cannot make a directory in {}; name another with TMPDIR",
            place.display()
        )
    })?;
    let mut screen = Screen::new(args.json);
    screen.line(&format!(
        "lb demo: {}, {}; {}, {}; {} of {} in flight",
        plural(input.files.len() as u64, "file"),
        bytes(input.bytes),
        plural(args.workers.into(), "worker"),
        args.strategy,
        plural(args.concurrency.into(), "chunk"),
        round(&bytes(args.chunk as u64)),
    ));
    note_skipped(&screen, &input.skipped);

    let timers = if args.quick_timers {
        Timers::scaled(QUICK)?
    } else {
        Timers::default()
    };
    let (mut stage, sealer) = Stage::set(args, temp.path(), timers, &mut screen).await?;
    form(&mut stage).await?;

    let (reader, chunks, news) = Reader::start(input.files.clone(), args.chunk)?;
    stage.news = Some(news);
    stage.input_bytes = input.bytes;
    stage.load_began = Instant::now();
    let client = stage.client.clone();
    let load = Load::start(args.concurrency, chunks, &sealer, &stage.tally, move |body| {
        let client = client.clone();
        async move {
            let answer = client.call_worker("encrypt", body, Some("role=worker")).await;
            answer.map_err(|error| error.to_string())
        }
    });

    let mut report = Report {
        strategy: args.strategy.to_string(),
        workers: args.workers,
        concurrency: args.concurrency,
        chunk_bytes: args.chunk,
        input_files: input.files.len(),
        input_bytes: input.bytes,
        ..Report::default()
    };
    let fate = kill_and_return(&mut stage, &mut report).await;
    let fate = match fate {
        Ok(()) => {
            let until = stage.load_began.elapsed() + AFTER;
            see_through(&mut stage, until.max(Duration::from_secs(args.seconds))).await
        }
        failed => failed,
    };
    if let Err(error) = fate {
        report.problems.push(format!("{error:#}"));
    }

    reader.stop();
    stage.now_doing("waiting for the last answers", None);
    stage.tick();
    if !load.finish(REQUEST).await {
        report
            .problems
            .push(format!("requests were still unanswered after {}", span(REQUEST)));
    }
    report.seconds = rounded(stage.load_began.elapsed().as_secs_f64(), 2);
    report.skipped_files = input.skipped.len() + stage.skipped;
    stage.conclude(&mut report).await;
    present(&screen, &report);
    Ok(report)
}

fn note_skipped(screen: &Screen, skipped: &[String]) {
    if let Some(first) = skipped.first() {
        let more = match skipped.len() {
            1 => String::new(),
            n => format!(", and {}", plural(n as u64 - 1, "other")),
        };
        screen.line(&format!("left out because unreadable: {first}{more}"));
    }
}

/// Waits until everybody knows everybody and the coordinator; from then on messages are counted.
async fn form(stage: &mut Stage<'_>) -> Result<()> {
    let began = Instant::now();
    let wanted = stage.fleet.len();
    loop {
        stage.look()?;
        if let Some(views) = stage.agreement(wanted).await {
            stage.meter = Meter::default();
            for view in &views {
                stage.meter.begin(view.node, view.epoch, view.into());
            }
            break;
        }
        if began.elapsed() > JOINING {
            bail!(
                "the cluster did not form within {}:\n{}",
                span(JOINING),
                stage.logs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    let coordinator = stage.cluster.status().coordinator.map_or(0, |(id, _)| id);
    let text = format!("everybody knows everybody; worker {coordinator} coordinates");
    stage.screen.event(&text);
    stage.words = words(&stage.cluster.status());
    Ok(())
}

/// Kills the busiest worker under load, waits until that is noticed, and brings it back.
async fn kill_and_return(stage: &mut Stage<'_>, report: &mut Report) -> Result<()> {
    stage.now_doing("encrypting; next, a worker is killed", None);
    stage
        .until("every worker was picked", WARM_UP * 5, |stage| {
            let picked = stage.registry.picks().len() >= stage.fleet.len();
            picked && stage.load_began.elapsed() >= WARM_UP
        })
        .await?;
    for id in stage.fleet.keys().copied().collect::<Vec<_>>() {
        stage.read_counts(id).await;
    }
    stage
        .until("a request was in flight", JOINING, |stage| {
            stage.busiest().is_some_and(|(_, in_flight)| in_flight > 0)
        })
        .await?;
    let (id, in_flight) = stage.busiest().context("no worker serves")?;
    stage.victim = Some(id);
    let worker = stage.fleet.get_mut(&id).context("no such worker")?;
    let (addr, before) = (worker.addr, worker.epoch);
    let killed = Instant::now();
    worker.kill().await?;
    report.killed = Some(id.get());
    report.in_flight_when_killed = Some(in_flight);
    report.epoch_before = Some(before);
    stage.screen.event(&format!(
        "killed worker {id} (SIGKILL) with {} in flight",
        plural(in_flight.into(), "request")
    ));

    let failed: Duration = stage.spec.timers.failed().into();
    let waiting = format!("waiting for the failure time-out of {}", round(&span(failed)));
    stage.screen.note(&waiting);
    stage.now_doing(&waiting, Some(killed));
    let limit = failed * 2 + Duration::from_secs(10);
    let word = |stage: &Stage<'_>| member(&stage.cluster.status(), id).map(|member| member.status);
    stage
        .until_since("the killed worker was called FAILED", limit, killed, |stage| {
            word(stage).as_deref() == Some("FAILED")
        })
        .await?;
    let detected = killed.elapsed();
    report.failed_detected_ms = Some(millis(detected));
    stage.words.insert(id.get(), "FAILED".to_owned());
    stage.screen.event(&format!(
        "worker {id} is FAILED, {} after the kill",
        span(detected)
    ));

    let picks_before = stage.picks(id);
    let restarted = Instant::now();
    let seeds: Vec<_> = stage
        .fleet
        .values()
        .filter(|worker| worker.id != id)
        .map(|worker| worker.addr)
        .collect();
    let worker = Worker::start(&stage.spec, id, addr, &seeds).await?;
    let after = worker.epoch;
    stage.fleet.insert(id, worker);
    stage.victim = None;
    stage
        .screen
        .event(&format!("started worker {id} again on its port"));

    stage.now_doing(&format!("waiting for worker {id} to come back"), Some(restarted));
    let back = |stage: &Stage<'_>| {
        let status = stage.cluster.status();
        member(&status, id).filter(|member| serves(member) && member.epoch > before)
    };
    stage
        .until("the restarted worker was back", JOINING, |stage| {
            back(stage).is_some()
        })
        .await?;
    let (rejoined, now) = (restarted.elapsed(), back(stage));
    report.rejoined_ms = Some(millis(rejoined));
    report.epoch_after = Some(now.map_or(after, |member| member.epoch));
    stage.screen.event(&format!(
        "worker {id} is back, {} after its restart",
        span(rejoined)
    ));
    stage
        .until("the restarted worker was picked", JOINING, |stage| {
            stage.picks(id) > picks_before
        })
        .await?;
    stage.screen.event(&format!("worker {id} is picked again"));
    Ok(())
}

/// Keeps the load up until a whole pass is verified and the time is over.
async fn see_through(stage: &mut Stage<'_>, at_least: Duration) -> Result<()> {
    loop {
        let time_left = at_least.saturating_sub(stage.load_began.elapsed());
        let counts = stage.tally.counts();
        let verified = stage
            .first_chunks
            .is_some_and(|all| counts.first_chunks + counts.failed >= all);
        if verified && time_left.is_zero() {
            return Ok(());
        }
        let left = format!("keeping the load up for another {}", span(time_left));
        let doing = if verified {
            &left
        } else {
            "going through the rest of the input"
        };
        stage.now_doing(doing, None);
        stage.look()?;
        tokio::time::sleep(LOOK).await;
    }
}

/// A figure that is round anyway.
fn round(figure: &str) -> String {
    figure.replace(".0 ", " ")
}

/// The summary, and the verdict.
fn present(screen: &Screen, report: &Report) {
    screen.line("");
    for line in report.to_string().lines() {
        screen.line(line);
    }
    if report.is_good() {
        let text = "ok         every byte came back as it was sent; no request failed";
        screen.line(&screen.paint(text, Style::new().green().bold()));
    }
    for problem in &report.problems {
        screen.line(&screen.paint(&format!("PROBLEM    {problem}"), Style::new().red().bold()));
    }
}
