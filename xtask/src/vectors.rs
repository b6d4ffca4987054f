//! The program `vectors` in QEMU: the golden vectors of the specifications on the microcontroller.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cargo::Builder;
use crate::line::number;
use crate::qemu::{Guest, Qemu};
use crate::target::Target;

/// As many as there are in `WIRE.md` for frames and messages, and in `SEAL.md` for an edge with each cipher.
const COUNT: u32 = 20;
const WITHIN: Duration = Duration::from_secs(30);

/// Runs it.
pub(crate) fn run(qemu: &Qemu, builder: &Builder<'_>, target: Target) -> Result<()> {
    let image = builder.artifact(target, "vectors");
    let mut guest = Guest::boot(qemu, target, &image, "vectors", &[])?;
    let until = Instant::now() + WITHIN;
    let line = guest.line(until);
    let status = guest.wait(until)?;
    ensure!(
        status.success(),
        "vectors on {} failed ({status}):{}",
        target.triple,
        guest.last_lines()
    );
    let line = line.context("vectors prints nothing")?;
    ensure!(
        number(&line, "vectors") == Some(COUNT),
        "{COUNT} vectors were to be checked: {line}"
    );
    eprintln!("{}: {COUNT} golden vectors", target.triple);
    Ok(())
}
