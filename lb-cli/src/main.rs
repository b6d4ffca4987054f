//! `lb`: run, call, watch and demonstrate a load-balanced cluster.

mod call;
mod cert;
mod cli;
mod config;
mod crypto;
mod demo;
mod device;
mod edges;
mod join;
mod node;
mod signals;
mod sim;
mod status;
mod table;
mod temp;
mod units;

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, DeviceCommand};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logs(&cli.command);
    match dispatch(cli.command) {
        Ok(code) => code,
        // Whoever read the output has seen enough, as in `lb status | head -1`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lb: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    if let Command::Cert(args) = &command {
        cert::run(args, &mut io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Device(DeviceCommand::New(args)) = &command {
        device::new(args, &mut io::stdout().lock())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Sim(command) = &command {
        sim::run(command)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        match command {
            Command::Demo(args) => demo::run(args).await,
            Command::Node(args) => node::run(*args).await,
            Command::Call(args) => call::run(args).await.map(|()| ExitCode::SUCCESS),
            Command::Status(args) => status::run(args).await.map(|()| ExitCode::SUCCESS),
            Command::Cert(_) | Command::Device(_) | Command::Sim(_) => Ok(ExitCode::SUCCESS),
        }
    });
    // A thread that reads a slow disk must not delay the end.
    runtime.shutdown_background();
    result
}

/// Logs go to standard error: those of a node always, those of other commands when asked for.
fn start_logs(command: &Command) {
    let default = if matches!(command, Command::Node(_)) {
        "info"
    } else {
        "off"
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(console::colors_enabled_stderr())
        .init();
}

/// The error and its causes; a cause that the text before it tells already is left out.
fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text.extend([separator, &cause]);
        }
    }
    text
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let cause = || io::Error::other("disk on fire");
        let told = anyhow::Error::new(cause()).context("cannot read x: disk on fire; check it");
        assert_eq!(explain(&told), "cannot read x: disk on fire; check it");
        let untold = anyhow::Error::new(cause()).context("cannot read x");
        assert_eq!(explain(&untold), "cannot read x: disk on fire");
    }
}
