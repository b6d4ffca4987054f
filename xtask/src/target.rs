//! What is built for.

/// A target of the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) triple: &'static str,
    /// The machine of QEMU that runs its programs, if there is one.
    pub(crate) machine: Option<&'static str>,
}

/// Cortex-M0. QEMU has no such machine with a network; a Cortex-M3 runs its instructions too.
pub(crate) const V6M: Target = Target {
    triple: "thumbv6m-none-eabi",
    machine: Some("mps2-an385"),
};

/// Cortex-M4F and M7.
pub(crate) const V7EM: Target = Target {
    triple: "thumbv7em-none-eabihf",
    machine: Some("mps2-an386"),
};

/// RISC-V without atomic instructions: the crates are built for it, no program.
pub(crate) const RISCV: Target = Target {
    triple: "riscv32imc-unknown-none-elf",
    machine: None,
};

pub(crate) const ALL: [Target; 3] = [V6M, V7EM, RISCV];

/// Those for which whole programs are linked.
pub(crate) const ARM: [Target; 2] = [V6M, V7EM];
