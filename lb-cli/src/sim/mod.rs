//! `lb sim`: what-if experiments with the strategies, in virtual time.

mod args;

use std::fs;
use std::io::{self, Write};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lb_sim::experiment::{Findings, bins, mixed, ramp, sinkhole, slowstart, stale, supermarket, zones};

use args::OutputArgs;
pub(crate) use args::SimCommand;

/// Runs an experiment and prints what it found.
pub(crate) fn run(command: &SimCommand) -> Result<()> {
    let bar = progress_bar();
    let progress = |done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let (findings, output) = match command {
        SimCommand::Stale(args) => (stale::findings(&args.grid(), &progress), &args.output),
        SimCommand::Mixed(args) => (mixed::findings(&args.grid(), &progress), &args.output),
        SimCommand::Sinkhole(args) => (sinkhole::findings(&args.grid(), &progress), &args.output),
        SimCommand::Ramp(args) => (ramp::findings(&args.grid(), &progress), &args.output),
        SimCommand::Slowstart(args) => (slowstart::findings(&args.grid(), &progress), &args.output),
        SimCommand::Zones(args) => (zones::findings(&args.grid(), &progress), &args.output),
        SimCommand::Supermarket(args) => (supermarket::findings(&args.grid(), &progress), &args.output),
        SimCommand::Bins(args) => (bins::findings(&args.grid(), &progress), &args.output),
    };
    bar.finish_and_clear();
    print(&findings, output, &mut io::stdout().lock())
}

/// On standard error, and only for someone who watches.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} runs, {eta} left");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}

fn print(findings: &Findings, output: &OutputArgs, out: &mut impl Write) -> Result<()> {
    if let Some(file) = &output.svg {
        fs::write(file, findings.chart.svg()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if output.json {
        write!(out, "{}", findings.table.json())?;
    } else {
        write!(out, "{}\n\n{}", findings.heading, findings.table)?;
    }
    Ok(out.flush()?)
}
