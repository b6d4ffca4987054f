//! Where things are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// The repository.
pub(crate) fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// The workspace of the firmware.
pub(crate) fn firmware() -> PathBuf {
    root().join("examples/firmware")
}

/// Where what is built for microcontrollers goes: a folder of its own keeps host builds fresh.
pub(crate) fn built() -> PathBuf {
    target().join("bare-metal")
}

/// Where host builds go.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// What outlives `cargo clean`: the sysroots, and QEMU if it cannot be installed.
pub(crate) fn cache() -> Result<PathBuf> {
    let own = env::var_os("LB_BARE_METAL_CACHE").map(PathBuf::from);
    let common = || env::var_os("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("lb-bare-metal"));
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache/lb-bare-metal"));
    let cache = own
        .or_else(common)
        .or_else(home)
        .context("no place for the cache: neither LB_BARE_METAL_CACHE nor HOME is set")?;
    fs::create_dir_all(&cache).with_context(|| {
        format!(
            "cannot make the cache folder {} (set LB_BARE_METAL_CACHE)",
            cache.display()
        )
    })?;
    Ok(cache)
}

/// A folder that is removed in the end, or renamed to where it is wanted before.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// In the cache, so that renaming works.
    pub(crate) fn new(name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = cache()?.join(format!("new.{name}.{process}.{count}"));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whole, or not at all. Fails also if another run has been faster, which is for the caller to look into.
    pub(crate) fn rename(&self, part: &str, to: &Path) -> std::io::Result<()> {
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        fs::rename(self.0.join(part), to)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it costs space only.
        let _ = fs::remove_dir_all(&self.0);
    }
}
