//! What is proven of the core: it needs nothing but `core`, whatever its features, and it cannot panic.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cargo::Builder;
use crate::command::{run, text};
use crate::place::{self, Scratch};
use crate::sizes::{self, Table};
use crate::target;

/// All that a microcontroller can use of lb-core.
const FEATURES: [&str; 9] = [
    "",
    "defmt",
    "log",
    "seal",
    "seal-ascon",
    "seal-ascon,defmt",
    "edge",
    "edge,log",
    "edge,seal-ascon,defmt",
];

/// The compiler's helpers for dividing 64-bit numbers, and for floating point on a processor without.
const HELPERS: [&str; 10] = [
    "__aeabi_ldivmod",
    "__aeabi_uldivmod",
    "__aeabi_fadd",
    "__aeabi_fsub",
    "__aeabi_fmul",
    "__aeabi_fdiv",
    "__aeabi_dadd",
    "__aeabi_dsub",
    "__aeabi_dmul",
    "__aeabi_ddiv",
];

/// The same of lb-embassy, on top of its defaults.
const EMBASSY_FEATURES: [&str; 2] = ["", "seal-ascon,defmt"];

/// Builds lb-embassy where there is only `core`.
pub(crate) fn embassy_needs_core_only(builder: &Builder<'_>) -> Result<()> {
    for features in EMBASSY_FEATURES {
        for target in target::ALL {
            eprintln!("lb-embassy {features}, {}", target.triple);
            let arguments = ["--package", "lb-embassy", "--lib", "--features", features];
            builder
                .build(place::root(), target, &arguments)
                .with_context(|| format!("lb-embassy {features} does not build for {}", target.triple))?;
        }
    }
    Ok(())
}

/// Builds lb-core with each set of features where there is only `core`.
pub(crate) fn needs_core_only(builder: &Builder<'_>, table: &mut Table) -> Result<()> {
    for features in FEATURES {
        let name = format!(
            "lb-core {}",
            if features.is_empty() {
                "(no features)"
            } else {
                features
            }
        );
        for target in target::ALL {
            eprintln!("{name}, {}", target.triple);
            let arguments = [
                "--package",
                "lb-core",
                "--lib",
                "--no-default-features",
                "--features",
                features,
            ];
            builder
                .build(place::root(), target, &arguments)
                .with_context(|| format!("{name} does not build where there is only core"))?;
            if target::ARM.contains(&target) {
                // Code that is not generic; what is generic is compiled into the firmware that uses it.
                table.add(
                    &name,
                    target,
                    sizes::measure(&builder.artifact(target, "liblb_core.rlib"))?,
                );
            }
        }
    }
    Ok(())
}

/// Links a program that calls all of the core, which works only if no call of core's panic machinery is left. Nor
/// may it need the compiler's helpers for 64-bit division or floating point.
pub(crate) fn cannot_panic(builder: &Builder<'_>, table: &mut Table) -> Result<()> {
    let scratch = Scratch::new("panic-free")?;
    for target in target::ARM {
        eprintln!("panic-free by linking, {}", target.triple);
        builder
            .build(&place::root().join("tests/panic-free"), target, &[])
            .context("the panic-free probe does not build")?;
        let program = scratch.path().join(target.triple);
        run(Command::new("arm-none-eabi-ld")
            .args(["--gc-sections", "-e", "_start", "-o"])
            .arg(&program)
            .arg(builder.artifact(target, "libpanic_free.a")))
        .with_context(|| {
            format!(
                "lb-core can panic on {}: see tests/panic-free/src/lib.rs",
                target.triple
            )
        })?;
        let symbols = text(Command::new("arm-none-eabi-nm").arg(&program))?;
        let helpers = helpers(&symbols);
        ensure!(
            helpers.is_empty(),
            "lb-core divides 64-bit numbers or uses floats on {}: {helpers:?}",
            target.triple
        );
        table.add("panic-free probe", target, sizes::measure(&program)?);
    }
    Ok(())
}

/// Which of the [`HELPERS`] a list of symbols names.
fn helpers(symbols: &str) -> Vec<&str> {
    let names = symbols.lines().filter_map(|line| line.split_whitespace().last());
    names.filter(|name| HELPERS.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_are_found_among_symbols() {
        let symbols = "00008000 T _start\n00008004 t __aeabi_uidiv\n00008010 t __aeabi_uldivmod\n         U __aeabi_ddiv\n";
        assert_eq!(helpers(symbols), ["__aeabi_uldivmod", "__aeabi_ddiv"]);
    }
}
