//! The host that runs QEMU, by semihosting: command line, random bytes, output, the end.

use core::sync::atomic::{AtomicUsize, Ordering};

use cortex_m_semihosting::debug::{self, EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::nr::open;
use cortex_m_semihosting::{syscall, syscall1};
use rand_core::{CryptoRng, RngCore};

use crate::print::say;

/// SYS_GET_CMDLINE, which `cortex-m-semihosting` has no name for.
const GET_CMDLINE: usize = 0x15;

/// Of SYS_OPEN.
const FAILED: usize = usize::MAX;

/// Ends the program with a failure and says why.
pub fn fail(why: &str) -> ! {
    say!("FAILED ", why);
    loop {
        debug::exit(EXIT_FAILURE);
    }
}

/// Ends the program.
pub fn succeed() -> ! {
    loop {
        debug::exit(EXIT_SUCCESS);
    }
}

/// What was given to QEMU in `-semihosting-config arg=`: `buffer` filled with it, up to where it is too long.
pub fn command_line(buffer: &mut [u8]) -> &str {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: the host writes a text with a zero at its end into the buffer and its length into the block.
    let failed = unsafe { syscall1(GET_CMDLINE, block.as_mut_ptr() as usize) };
    let [_, length] = block;
    let text = if failed == 0 { buffer.get(..length) } else { None };
    text.and_then(|text| str::from_utf8(text).ok()).unwrap_or("")
}

/// Random bytes of the host. There is no source of randomness on this board, and a product must not do without:
/// whoever can guess them can guess a session's keys.
#[derive(Clone, Copy, Debug)]
pub struct Random;

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        let file = open_file("/dev/urandom\0", open::R_BINARY);
        // SAFETY: the host writes into the buffer, whose address and length it is given.
        let missing = unsafe { syscall!(READ, file, bytes.as_mut_ptr(), bytes.len()) };
        if file == FAILED || missing != 0 {
            fail("no random bytes");
        }
        // SAFETY: closes what was opened above.
        unsafe { syscall!(CLOSE, file) };
    }
}

impl CryptoRng for Random {}

/// Writes to QEMU's standard output. There is nobody to tell if that fails.
pub(crate) fn write(bytes: &[u8]) {
    // 0 is never a handle of standard output here: QEMU counts from 1.
    static OUTPUT: AtomicUsize = AtomicUsize::new(0);
    let mut output = OUTPUT.load(Ordering::Relaxed);
    if output == 0 {
        output = open_file(":tt\0", open::W_TRUNC);
        OUTPUT.store(output, Ordering::Relaxed);
    }
    // SAFETY: the host reads from the slice, whose address and length it is given.
    unsafe { syscall!(WRITE, output, bytes.as_ptr(), bytes.len()) };
}

/// `name` ends with a zero.
fn open_file(name: &str, mode: usize) -> usize {
    // SAFETY: the host reads the name, whose length it is given without the zero.
    unsafe { syscall!(OPEN, name.as_ptr(), mode, name.len() - 1) }
}
