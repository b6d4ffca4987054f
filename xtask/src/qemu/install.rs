//! An emulator: the installed one, or one of our own in the cache.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{exists, run, text};
use crate::place::{self, Scratch};
use crate::toolchain::apt;

const PROGRAM: &str = "qemu-system-arm";

/// A QEMU for ARM.
#[derive(Debug)]
pub(crate) struct Qemu {
    /// Where Debian's packages have been unpacked, if it is not installed.
    unpacked: Option<PathBuf>,
}

impl Qemu {
    /// Finds it, or installs it, or unpacks it into the cache.
    ///
    /// The last is for machines where installing would remove something else, such as a newer `qemu-utils`.
    pub(crate) fn get() -> Result<Self> {
        let qemu = if exists(PROGRAM) {
            Self { unpacked: None }
        } else {
            let own = place::cache()?.join("qemu");
            let unpacked = Self {
                unpacked: Some(own.clone()),
            };
            if unpacked.version().is_ok() {
                unpacked
            } else if apt(&[PROGRAM]).is_ok() {
                Self { unpacked: None }
            } else {
                eprintln!(
                    "{PROGRAM} cannot be installed; unpacking it into {}",
                    own.display()
                );
                unpack(&own).with_context(|| format!("{PROGRAM} can neither be installed nor unpacked"))?;
                unpacked
            }
        };
        let version = qemu.version()?;
        eprintln!("{}", version.lines().next().unwrap_or(PROGRAM));
        Ok(qemu)
    }

    /// The command, without arguments.
    pub(crate) fn command(&self) -> Command {
        let Some(root) = &self.unpacked else {
            return Command::new(PROGRAM);
        };
        let mut command = Command::new(root.join("usr/bin").join(PROGRAM));
        command.arg("-L").arg(root.join("usr/share/qemu"));
        command.env("LD_LIBRARY_PATH", libraries(root));
        command
    }

    fn version(&self) -> Result<String> {
        text(self.command().arg("--version"))
    }
}

/// The library folders of the unpacked packages, before those of the caller.
fn libraries(root: &Path) -> OsString {
    let mut folders = Vec::new();
    for parent in ["usr/lib", "lib"] {
        // One for each architecture, such as x86_64-linux-gnu.
        let children = fs::read_dir(root.join(parent)).into_iter().flatten().flatten();
        folders.extend(
            children
                .map(|child| child.path())
                .filter(|path| path.to_string_lossy().ends_with("-gnu")),
        );
    }
    if let Some(own) = env::var_os("LD_LIBRARY_PATH") {
        folders.extend(env::split_paths(&own));
    }
    env::join_paths(folders).unwrap_or_default()
}

/// Downloads the packages that an installation would need and unpacks them, as anybody may.
fn unpack(to: &Path) -> Result<()> {
    let scratch = Scratch::new("qemu")?;
    let [archives, root] = ["archives", "root"].map(|name| scratch.path().join(name));
    fs::create_dir_all(archives.join("partial"))?;
    fs::create_dir_all(&root)?;
    let setting = format!("Dir::Cache::archives={}", archives.display());
    run(Command::new("apt-get")
        .args([
            "-qq",
            "-o",
            "Debug::NoLocking=1",
            "-o",
            "Acquire::Retries=3",
            "-o",
            &setting,
        ])
        .args([
            "install",
            "-y",
            "--download-only",
            "--no-install-recommends",
            PROGRAM,
        ]))?;
    let mut packages = 0;
    for entry in fs::read_dir(&archives)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&package).arg(&root))?;
            packages += 1;
        }
    }
    ensure!(packages > 0, "apt-get has downloaded nothing");
    scratch
        .rename("root", to)
        .with_context(|| format!("cannot move QEMU to {}", to.display()))
}
