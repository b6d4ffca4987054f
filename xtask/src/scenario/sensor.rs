//! A guest that runs the firmware `sensor`, and what it prints.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::cluster::{Cluster, HEARTBEAT, NAME};
use crate::cargo::Builder;
use crate::line::{number, value};
use crate::qemu::{Guest, Qemu};
use crate::target::Target;

/// How long a guest may take to boot and find a server, and between two lines. Generous: the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What guests are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) qemu: &'a Qemu,
    pub(crate) builder: &'a Builder<'a>,
    pub(crate) target: Target,
}

/// A call, as the sensor tells of it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) took: Duration,
    /// Who answered; `None` if nobody did.
    pub(crate) server: Option<u32>,
    /// A server was silent for too long, or thought to be gone.
    pub(crate) accuses: bool,
    pub(crate) line: String,
}

impl Call {
    fn parse(line: &str) -> Option<Self> {
        let took = Duration::from_micros(number(line, "us")?.into());
        Some(Self {
            number: number(line, "call")?,
            took,
            server: number(line, "server"),
            accuses: number(line, "suspect").or(number(line, "failed")).is_some(),
            line: line.to_owned(),
        })
    }
}

/// A running sensor.
#[derive(Debug)]
pub(crate) struct Sensor {
    pub(crate) guest: Guest,
    /// The deepest its stack has been.
    pub(crate) stack: u32,
}

impl Sensor {
    /// Boots a sensor as this device, which makes `calls` calls, one each `period`.
    pub(crate) fn boot(
        parts: Parts<'_>,
        cluster: &Cluster,
        device: u32,
        calls: u32,
        period: Duration,
    ) -> Result<Self> {
        let mut arguments = vec![
            device.to_string(),
            cluster.key(device)?.to_owned(),
            NAME.to_owned(),
            calls.to_string(),
            period.as_millis().to_string(),
            HEARTBEAT.as_millis().to_string(),
        ];
        arguments.extend(cluster.seeds());
        let program = parts.builder.artifact(parts.target, "sensor");
        let guest = Guest::boot(parts.qemu, parts.target, &program, "sensor", &arguments)?;
        Ok(Self { guest, stack: 0 })
    }

    /// The next line that is not about the stack.
    fn line(&mut self, until: Instant) -> Result<Option<String>> {
        while let Some(line) = self.guest.line(until) {
            if line.starts_with("FAILED") {
                bail!("the firmware gave up: {line}");
            }
            match line.strip_prefix("stack=") {
                Some(bytes) => self.stack = self.stack.max(bytes.parse()?),
                None => return Ok(Some(line)),
            }
        }
        Ok(None)
    }

    /// Waits until it has found a server, which it says once after each boot.
    pub(crate) fn attached(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while let Some(line) = self.line(until)? {
            if line.starts_with("attached ") {
                return Ok(());
            }
        }
        bail!("no server found within {PATIENCE:?}")
    }

    /// Its next call.
    pub(crate) fn call(&mut self) -> Result<Call> {
        let line = self.line(Instant::now() + PATIENCE)?;
        let line = line.with_context(|| format!("no line for {PATIENCE:?}"))?;
        ensure!(!line.starts_with("attached "), "it has rebooted");
        Call::parse(&line).with_context(|| format!("not a call: {line}"))
    }

    /// Its next calls, all of which must be answered.
    pub(crate) fn answered(&mut self, count: usize) -> Result<Vec<Call>> {
        (0..count).map(|_| good(self.call()?)).collect()
    }

    /// Its calls for a while, all of which must be answered.
    pub(crate) fn answered_for(&mut self, span: Duration) -> Result<Vec<Call>> {
        let until = Instant::now() + span;
        let mut calls = Vec::new();
        while Instant::now() < until {
            calls.push(good(self.call()?)?);
        }
        Ok(calls)
    }

    /// Waits until so many calls in a row were answered, whatever happens before.
    pub(crate) fn recovered(&mut self, count: usize) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        let mut row = 0;
        while row < count {
            let call = self.call()?;
            row = if call.server.is_some() { row + 1 } else { 0 };
            ensure!(
                row > 0 || Instant::now() < until,
                "no {count} answered calls in a row within {PATIENCE:?}"
            );
        }
        Ok(())
    }

    /// Leaves out what it has printed so far.
    pub(crate) fn skip(&mut self) -> Result<()> {
        while self.line(Instant::now())?.is_some() {}
        Ok(())
    }

    /// Waits for the end, and returns the calls answered and failed.
    pub(crate) fn finish(&mut self) -> Result<(u32, u32)> {
        let until = Instant::now() + PATIENCE;
        let mut done = None;
        while let Some(line) = self.line(until)? {
            if value(&line, "call").is_none() {
                done = Some(line);
            }
        }
        let status: ExitStatus = self.guest.wait(until)?;
        ensure!(status.success(), "the firmware failed ({status})");
        let done = done.context("it ended without a word")?;
        let counts = number(&done, "ok").zip(number(&done, "failed"));
        counts.with_context(|| format!("not the last line: {done}"))
    }
}

fn good(call: Call) -> Result<Call> {
    ensure!(call.server.is_some(), "a call was not answered: {}", call.line);
    Ok(call)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_failed_is_no_accusation() {
        let call = Call::parse("call=3 at_ms=9 us=2000000 error=deadline best=2 of=3").unwrap();
        assert!(call.server.is_none() && !call.accuses);
        assert_eq!((call.number, call.took), (3, Duration::from_secs(2)));
        let call = Call::parse("call=4 at_ms=9 us=900 server=2 best=2 of=2 suspect=1").unwrap();
        assert!(call.server == Some(2) && call.accuses);
    }
}
