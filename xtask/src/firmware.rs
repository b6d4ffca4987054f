//! `cargo xtask firmware`, from the toolchain to the last run.

use anyhow::{Context, Result};
use serde_json::json;

use crate::cargo::Builder;
use crate::qemu::Qemu;
use crate::scenario::{self, Outcome, Parts};
use crate::sizes::{self, Size, Table};
use crate::sysroot::Sysroot;
use crate::target::{self, Target, V6M, V7EM};
use crate::toolchain::Toolchain;
use crate::{echo, picks, place, proof, vectors};

/// The boards whose programs are built, and not run: there is no machine for them. Nor does clippy look at them: it would
/// compile their hardware libraries once more, which takes minutes.
const BOARDS: [(&str, Target); 2] = [("rp2040-w5500", V6M), ("stm32h7-eth", V7EM)];

/// Runs it all. The first failure ends it, except that sizes are compared in the end, when all are known.
pub(crate) fn run(json: bool) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let sysroot = Sysroot::get(&toolchain)?;
    let qemu = Qemu::get()?;
    let builder = Builder::new(&toolchain, &sysroot)?;
    let mut table = Table::new()?;

    proof::needs_core_only(&builder, &mut table)?;
    proof::embassy_needs_core_only(&builder)?;
    proof::cannot_panic(&builder, &mut table)?;
    for (board, target) in BOARDS {
        build(&builder, board, target)?;
        table.add(board, target, sizes::measure(&builder.artifact(target, board))?);
    }
    let lb = scenario::build()?;
    let (mut results, mut runs) = (Vec::new(), Vec::new());
    for target in target::ARM {
        build(&builder, "qemu-mps2", target)?;
        lint(&builder, "qemu-mps2", target)?;
        build(&builder, "picks", target)?;
        lint(&builder, "picks", target)?;
        let counted = picks::run(&qemu, &builder, target)?;
        let size = sizes::measure(&builder.artifact(target, "echo"))?;
        let stack = Some(echo::run(&qemu, &builder, target)?);
        table.add("echo", target, Size { stack, ..size });
        vectors::run(&qemu, &builder, target)?;

        // What a product weighs: `sensor` without what is there for this program alone.
        table.add("node", target, sizes::measure(&builder.artifact(target, "node"))?);
        let size = sizes::measure(&builder.artifact(target, "sensor"))?;
        let parts = Parts {
            qemu: &qemu,
            builder: &builder,
            target,
        };
        let outcome = scenario::run(parts, &lb)?;
        let stack = Some(outcome.stack);
        let size = Size { stack, ..size };
        table.add("sensor", target, size);
        results.push(result(target, size, outcome, &counted));
        runs.push(counted);
    }

    if json {
        eprint!("{}{}", table.render(), picks::render(&runs, table.picks()));
        results.iter().for_each(|line| println!("{line}"));
    } else {
        print!("{}{}", table.render(), picks::render(&runs, table.picks()));
    }
    table.check()?;
    picks::check(&runs, table.picks())
}

fn build(builder: &Builder<'_>, package: &str, target: Target) -> Result<()> {
    eprintln!("{package}, {}", target.triple);
    let (workspace, arguments) = (place::firmware(), ["--package", package]);
    let built = builder.build(&workspace, target, &arguments);
    built.with_context(|| format!("{package} does not build for {}", target.triple))
}

fn lint(builder: &Builder<'_>, package: &str, target: Target) -> Result<()> {
    let linted = builder.lint(&place::firmware(), target, &["--package", package]);
    linted.with_context(|| format!("clippy complains about {package}"))
}

/// One line for machines.
fn result(target: Target, size: Size, outcome: Outcome, counted: &picks::Run) -> serde_json::Value {
    let Size {
        text,
        data,
        bss,
        stack,
    } = size;
    json!({
        "target": target.triple, "machine": target.machine,
        "text": text, "data": data, "bss": bss, "stack": stack,
        "joined": outcome.joined, "calls_ok": outcome.calls_ok, "calls_failed": outcome.calls_failed,
        "failover_ms": outcome.failover_ms, "picks": counted.json(),
        // Otherwise it does not come to this.
        "panic_free": true,
    })
}
