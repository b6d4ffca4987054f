//! Chores of this repository. `cargo xtask firmware` is everything about microcontrollers that must pass.

mod cargo;
mod command;
mod echo;
mod firmware;
mod line;
mod picks;
mod place;
mod proof;
mod qemu;
mod scenario;
mod sizes;
mod sysroot;
mod target;
mod toolchain;
mod vectors;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Chores of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    Firmware(FirmwareArgs),
}

/// Build the firmware and the crates it is made of, compare its sizes with their ceilings, prove that the core
/// cannot panic, and run the firmware in QEMU.
///
/// Installs what it needs on a Debian machine. `core` for the targets is compiled once into a cache
/// (`LB_BARE_METAL_CACHE`, default ~/.cache/lb-bare-metal); the default toolchain is left as it is.
#[derive(Debug, Args)]
struct FirmwareArgs {
    /// Print one JSON object a target on standard output; everything else goes to standard error
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Chore::Firmware(args) = Cli::parse().chore;
    match firmware::run(args.json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
