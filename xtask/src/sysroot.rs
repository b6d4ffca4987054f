//! `core` for microcontrollers, compiled from source into a cache.
//!
//! Nothing but `core` (and the compiler's own helpers): neither `std` nor `alloc` exists for these targets, so if
//! a crate or a dependency of it names either, the build fails.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;
use crate::command::{run, text};
use crate::place::{self, Scratch};
use crate::target::{self, Target};
use crate::toolchain::Toolchain;

const CRATES: [&str; 2] = ["core", "compiler_builtins"];

/// Bitcode is for firmware built with LTO.
const FLAGS: &str = "-Cembed-bitcode=yes";

/// A sysroot for all targets.
#[derive(Debug)]
pub(crate) struct Sysroot {
    pub(crate) path: PathBuf,
}

impl Sysroot {
    /// Takes it from the cache, or makes it.
    pub(crate) fn get(toolchain: &Toolchain) -> Result<Self> {
        let triples = target::ALL.map(|target| target.triple).join(" ");
        // What it is made of: when this text changes, it is made anew.
        let recipe = format!(
            "{}\ntargets: {triples}\ncrates: {}\nflags: {FLAGS}\n",
            toolchain.version,
            CRATES.join(" ")
        );
        let words = toolchain.name().split(|c: char| !c.is_alphanumeric() && c != '.');
        let slug = words
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("-");
        let path = place::cache()?.join(slug);
        let is_current = || fs::read_to_string(path.join("recipe")).is_ok_and(|found| found == recipe);
        if is_current() {
            eprintln!("core for {triples}: {}", path.display());
        } else {
            eprintln!("building core for {triples} with {}", toolchain.name());
            let scratch = Scratch::new("sysroot")?;
            make(toolchain, &scratch, &recipe)?;
            // Fails also if another run has put its own there meanwhile, which is as good.
            if let Err(error) = scratch.rename("sysroot", &path)
                && !is_current()
            {
                return Err(error)
                    .with_context(|| format!("cannot move the new sysroot to {}", path.display()));
            }
        }
        let sysroot = Self { path };
        for target in target::ALL {
            sysroot.holds_core_only(toolchain, target)?;
        }
        Ok(sysroot)
    }

    /// Changes whenever the libraries do.
    pub(crate) fn id(&self) -> Result<String> {
        fs::read_to_string(self.path.join("id"))
            .context("the sysroot has no id; remove it to have it made anew")
    }

    /// The proof of "no heap" rests on `alloc` being absent, so see that it is, and that `core` is not.
    fn holds_core_only(&self, toolchain: &Toolchain, target: Target) -> Result<()> {
        let triple = target.triple;
        let (works, said) = self.compile(toolchain, target, "#![no_std]")?;
        ensure!(
            works,
            "{} has no usable core for {triple}: {said}",
            self.path.display()
        );
        let (works, said) = self.compile(toolchain, target, "#![no_std] extern crate alloc;")?;
        ensure!(
            !works,
            "{} has an alloc for {triple}: it would prove nothing",
            self.path.display()
        );
        ensure!(
            said.contains("can't find crate for `alloc`"),
            "unexpected answer when asking for alloc: {said}"
        );
        Ok(())
    }

    fn compile(&self, toolchain: &Toolchain, target: Target, source: &str) -> Result<(bool, String)> {
        let scratch = Scratch::new("probe")?;
        let mut compiler = Command::new(&toolchain.rustc)
            .arg("--sysroot")
            .arg(&self.path)
            .args([
                "--target",
                target.triple,
                "--crate-name",
                "probe",
                "--crate-type",
                "lib",
            ])
            .args(["--emit", "metadata", "--out-dir"])
            .arg(scratch.path())
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the compiler")?;
        if let Some(mut input) = compiler.stdin.take() {
            input
                .write_all(source.as_bytes())
                .context("cannot write to the compiler")?;
        }
        let output = compiler
            .wait_with_output()
            .context("cannot wait for the compiler")?;
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    }
}

/// Makes the folder `sysroot` in `scratch`.
fn make(toolchain: &Toolchain, scratch: &Scratch, recipe: &str) -> Result<()> {
    let [empty, built, out] = ["empty", "target", "sysroot"].map(|name| scratch.path().join(name));
    fs::create_dir_all(empty.join("src"))?;
    fs::write(empty.join("src/lib.rs"), "#![no_std]\n")?;
    fs::write(
        empty.join("Cargo.toml"),
        "[package]\nname = \"empty\"\nedition = \"2024\"\n[workspace]\n",
    )?;
    // The only place where unstable features are allowed: they build the standard library, not our code.
    let mut build = cargo::command(toolchain);
    build
        .current_dir(&empty)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", &built);
    build.args(["build", "--quiet", "--release", "-Zbuild-std=core"]);
    for target in target::ALL {
        build.args(["--target", target.triple]);
    }
    run(&mut build).with_context(|| format!("building core with {} failed", toolchain.name()))?;

    let mut id = String::new();
    for target in target::ALL {
        let libraries = out.join("lib/rustlib").join(target.triple).join("lib");
        fs::create_dir_all(&libraries)?;
        let artifacts = built.join(target.triple).join("release/deps");
        for name in CRATES {
            let library = only_library(&artifacts, name)?;
            let to = libraries.join(library.file_name().unwrap_or_default());
            fs::copy(&library, &to)?;
            let sum = text(Command::new("sha256sum").arg(&to))?;
            // Without the path, which differs from run to run.
            id += sum.split(' ').next().unwrap_or_default();
            id += "\n";
        }
    }
    fs::write(out.join("id"), id)?;
    fs::write(out.join("recipe"), recipe)?;
    Ok(())
}

fn only_library(folder: &Path, name: &str) -> Result<PathBuf> {
    let prefix = format!("lib{name}-");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if file.starts_with(&prefix) && file.ends_with(".rlib") {
            found.push(path);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        count => bail!("expected one lib{name} in {}, found {count}", folder.display()),
    }
}
