//! The program `echo` in QEMU: datagrams to a socket of this process and back, with the cable pulled meanwhile.

use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cargo::Builder;
use crate::line::number;
use crate::qemu::{Guest, Qemu};
use crate::target::Target;

/// Datagrams sent, a few milliseconds apart.
const COUNT: u32 = 200;
const WITHIN: Duration = Duration::from_secs(30);

/// Runs it and returns how deep its stack has been.
pub(crate) fn run(qemu: &Qemu, builder: &Builder<'_>, target: Target) -> Result<u32> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("cannot bind a port")?;
    let port = socket.local_addr()?.port();
    socket.set_read_timeout(Some(WITHIN))?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        // Ends when the guest has been silent for long.
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // One that is lost is missed by the guest.
            let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), from);
        }
    });

    let arguments = [port.to_string(), COUNT.to_string()];
    let mut guest = Guest::boot(
        qemu,
        target,
        &builder.artifact(target, "echo"),
        "echo",
        &arguments,
    )?;
    // The driver sees the cable being pulled and plugged in again.
    let until = Instant::now() + WITHIN;
    expect(&mut guest, "link up", until)?;
    guest.set_link(false)?;
    expect(&mut guest, "link down", until)?;
    guest.set_link(true)?;
    expect(&mut guest, "link up", until)?;

    let mut last = None;
    while let Some(line) = guest.line(until) {
        last = Some(line);
    }
    let status = guest.wait(until)?;
    ensure!(
        status.success(),
        "echo on {} failed ({status}):{}",
        target.triple,
        guest.last_lines()
    );
    let last = last.context("echo prints nothing")?;
    number(&last, "stack").with_context(|| format!("no stack in: {last}"))
}

fn expect(guest: &mut Guest, wanted: &str, until: Instant) -> Result<()> {
    let line = guest.line(until);
    ensure!(
        line.as_deref() == Some(wanted),
        "expected '{wanted}', got {line:?}"
    );
    Ok(())
}
