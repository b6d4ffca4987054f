//! Cargo, set up to build for microcontrollers.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run;
use crate::place;
use crate::sysroot::Sysroot;
use crate::target::Target;
use crate::toolchain::Toolchain;

/// The caller's settings, which are for host builds.
const NOT_OURS: [&str; 6] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
];

/// Cargo with this compiler and none of the caller's settings.
pub(crate) fn command(toolchain: &Toolchain) -> Command {
    // Within `cargo xtask`, this is the cargo that runs it.
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    set_up(&mut command, toolchain);
    command
}

fn set_up(command: &mut Command, toolchain: &Toolchain) {
    for name in NOT_OURS {
        command.env_remove(name);
    }
    command.env("RUSTC", &toolchain.rustc);
}

/// Builds for microcontrollers.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    toolchain: &'a Toolchain,
    sysroot: &'a Sysroot,
    folder: PathBuf,
}

impl<'a> Builder<'a> {
    /// Cargo does not notice another `core` behind the same path, so what was built with it goes.
    pub(crate) fn new(toolchain: &'a Toolchain, sysroot: &'a Sysroot) -> Result<Self> {
        let folder = place::built();
        let (mark, id) = (folder.join("sysroot-id"), sysroot.id()?);
        if fs::read_to_string(&mark).ok().as_ref() != Some(&id) {
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
            }
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            fs::write(&mark, id)?;
        }
        Ok(Self {
            toolchain,
            sysroot,
            folder,
        })
    }

    /// Builds in release mode what `arguments` say, in the workspace at `workspace`.
    pub(crate) fn build(&self, workspace: &Path, target: Target, arguments: &[&str]) -> Result<()> {
        let mut cargo = command(self.toolchain);
        cargo.arg("build");
        self.run(cargo, workspace, target, arguments)
    }

    /// Has clippy look at it. Warnings are errors.
    pub(crate) fn lint(&self, workspace: &Path, target: Target, arguments: &[&str]) -> Result<()> {
        // Not through cargo, which would start the clippy of another toolchain.
        let mut clippy = Command::new(&self.toolchain.clippy);
        clippy.arg("clippy");
        set_up(&mut clippy, self.toolchain);
        self.run(clippy, workspace, target, arguments)
    }

    /// The flags go to code for the target only, and add to those of the workspace's `.cargo/config.toml`.
    fn run(&self, mut cargo: Command, workspace: &Path, target: Target, arguments: &[&str]) -> Result<()> {
        let flags = [
            format!("--sysroot={}", self.sysroot.path.display()),
            format!("-Clinker={}", self.toolchain.linker.display()),
            "-Dwarnings".to_owned(),
        ];
        cargo.current_dir(workspace).env("CARGO_TARGET_DIR", &self.folder);
        let own_flags = format!(
            "CARGO_TARGET_{}_RUSTFLAGS",
            target.triple.to_uppercase().replace('-', "_")
        );
        cargo.env_remove(own_flags);
        cargo
            .args(["--locked", "--release", "--target", target.triple])
            .args(arguments);
        cargo
            .arg("--config")
            .arg(format!("target.{}.rustflags={flags:?}", target.triple));
        run(&mut cargo)
    }

    /// The file that a build has left.
    pub(crate) fn artifact(&self, target: Target, name: &str) -> PathBuf {
        self.folder.join(target.triple).join("release").join(name)
    }
}
