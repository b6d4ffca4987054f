//! The compiler, the linker and the tools around them.
//!
//! A compiler builds `core` for a microcontroller only from the library source of its very own version. rustup's
//! has it with the component `rust-src`; Debian's comes as `rustc-web` and `rust-web-src`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{exists, output, run, text};
use crate::place;

/// What compiles and links.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) rustc: PathBuf,
    /// `rustc -vV`.
    pub(crate) version: String,
    pub(crate) linker: PathBuf,
    /// `cargo-clippy` of the same version.
    pub(crate) clippy: PathBuf,
}

impl Toolchain {
    /// Finds it, or installs it.
    pub(crate) fn find() -> Result<Self> {
        let rustc = match with_library() {
            Some(rustc) => rustc,
            None => {
                apt(&["rustc-web", "rust-web-src"]).context(
                    "no compiler with its library source: either 'rustup component add rust-src', or Debian's \
                     rustc-web and rust-web-src",
                )?;
                with_library()
                    .context("rustc-web and rust-web-src are installed, yet have no library source")?
            }
        };
        if !exists("arm-none-eabi-size") {
            apt(&["binutils-arm-none-eabi"])
                .context("arm-none-eabi-size is missing: install binutils-arm-none-eabi")?;
        }
        let version = text(Command::new(&rustc).arg("-vV"))?;
        let linker = linker(&rustc)?;
        let clippy = rustc.with_file_name("cargo-clippy");
        if !clippy.is_file() {
            apt(&["rust-web-clippy"]).context(
                "no clippy beside the compiler: either 'rustup component add clippy', or Debian's rust-web-clippy",
            )?;
        }
        Ok(Self {
            rustc,
            version,
            linker,
            clippy,
        })
    }

    /// The first line of the version.
    pub(crate) fn name(&self) -> &str {
        self.version.lines().next().unwrap_or("rustc")
    }
}

/// Installs Debian packages.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    run(Command::new(place::root().join(".ci/apt")).args(packages))
}

/// rustup's compilers, and the system's.
fn compilers() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for arguments in [&["which", "--toolchain", "mcu", "rustc"][..], &["which", "rustc"]] {
        if let Ok(output) = output(Command::new("rustup").args(arguments))
            && output.status.success()
        {
            found.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()));
        }
    }
    found.push(PathBuf::from("/usr/bin/rustc"));
    found.retain(|rustc| rustc.is_file());
    found
}

fn root_of(rustc: &Path) -> Result<PathBuf> {
    Ok(text(Command::new(rustc).args(["--print", "sysroot"]))?.into())
}

fn with_library() -> Option<PathBuf> {
    compilers().into_iter().find(|rustc| {
        let library = root_of(rustc).map(|root| root.join("lib/rustlib/src/rust/library/Cargo.lock"));
        library.is_ok_and(|library| library.is_file())
    })
}

/// Debian's compiler comes without rust-lld; any version of it will do.
fn linker(rustc: &Path) -> Result<PathBuf> {
    let host = text(Command::new(rustc).args(["--print", "host-tuple"]))?;
    for rustc in compilers() {
        let linker = root_of(&rustc)?
            .join("lib/rustlib")
            .join(&host)
            .join("bin/rust-lld");
        if linker.is_file() {
            return Ok(linker);
        }
    }
    bail!("rust-lld is missing: install a toolchain with rustup (https://rustup.rs)")
}
