//! How deep the stack has been. `cortex-m-rt` paints it before the program starts.

const PAINT: u32 = 0xcccc_cccc;

unsafe extern "C" {
    static mut _stack_start: u32;
    static mut _stack_end: u32;
}

/// Bytes of stack that have been used at some time.
pub fn high_water() -> u32 {
    let top = &raw const _stack_start;
    let mut at = &raw const _stack_end;
    // SAFETY: from the lowest address of the stack to its start all is RAM, aligned, and nobody's object; the
    // reads are volatile because the compiler knows nothing of what is there.
    while at < top && unsafe { at.read_volatile() } == PAINT {
        at = at.wrapping_add(1);
    }
    top as u32 - at as u32
}
