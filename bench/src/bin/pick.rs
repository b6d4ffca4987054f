//! Measures what a pick costs. `--help` says how; `bench/README.md` says what it means.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use lb_bench::cases::{CASES, Case};
use lb_bench::input;
use lb_bench::measure::Plan;
use lb_bench::report::{chart, svg, table};
use lb_bench::row::Row;
use lb_bench::threads;
use lb_core::pick::StrategyKind;

/// What a pick costs: ours, a bare kernel, and other crates, in nanoseconds.
#[derive(Debug, Parser)]
struct Options {
    /// Only these strategies, separated by commas
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(CASES.iter().map(|case| case.name)))]
    strategies: Vec<String>,

    /// Numbers of endpoints to pick from
    #[arg(long, value_delimiter = ',', default_values_t = input::SIZES)]
    n: Vec<usize>,

    /// Instead of all that: lb-tokio's picker, from so many threads at once, over a hundred workers
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,

    /// Timed rounds of every contender
    #[arg(long)]
    rounds: Option<usize>,

    /// Few and short rounds, to see whether everything runs
    #[arg(long)]
    quick: bool,

    /// A line of JSON for each strategy and size, and nothing else
    #[arg(long)]
    json: bool,

    /// Write a chart there
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Fail, and say why, if ours takes more than 1.5 times the kernel, allocates, or does not beat a peer
    #[arg(long)]
    check: bool,
}

impl Options {
    fn cases(&self) -> impl Iterator<Item = &'static Case> {
        let wanted =
            |case: &&Case| self.strategies.is_empty() || self.strategies.iter().any(|name| name == case.name);
        CASES.iter().filter(wanted)
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        let plan = if self.quick { Plan::quick() } else { Plan::full() };
        let rounds = self.rounds.unwrap_or(plan.rounds);
        if rounds == 0 {
            bail!("no rounds, no figures");
        }
        if self.threads.contains(&0) {
            bail!("no threads, no figures");
        }
        if self.n.iter().any(|n| !(1..=4_096).contains(n)) {
            bail!("n is from 1 to 4096");
        }
        Ok(Plan { rounds, ..plan })
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let (plan, keys) = (options.plan()?, input::keys());
    if !options.threads.is_empty() {
        return many_threads(&options, plan, &keys);
    }

    if !options.json {
        println!("{}", table::heading());
    }
    let mut rows = Vec::new();
    for case in options.cases() {
        for &n in &options.n {
            let row = Row::measure(case, n, &keys, plan);
            if options.json {
                println!("{}", serde_json::to_string(&row)?);
            } else {
                println!("{}", table::line(&row));
            }
            rows.push(row);
        }
    }

    if !options.json {
        println!("\n{}", chart::chart(&rows));
    }
    if let Some(file) = &options.svg {
        std::fs::write(file, svg::svg(&rows)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let violations: Vec<String> = rows.iter().flat_map(Row::violations).collect();
    if options.check && !violations.is_empty() {
        eprintln!("{}", violations.join("\n"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn many_threads(options: &Options, plan: Plan, keys: &[u64]) -> anyhow::Result<ExitCode> {
    if !options.json {
        println!("{}", table::threads_heading());
    }
    for strategy in StrategyKind::ALL {
        for &count in &options.threads {
            let row = threads::measure(strategy, count, keys, plan)?;
            if options.json {
                println!("{}", serde_json::to_string(&row)?);
            } else {
                println!("{}", table::threads_line(&row));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
