//! Who this board is: a page of flash that is written once, apart from the program, so that one image fits all boards.

use lb_core::wire::seal::{DeviceKey, PSK_BYTES};

/// As `lb device new` prints it, in bytes: the id (little endian), then the key. `probe-rs download
/// --binary-format bin --base-address 0x081e0000 PAGE` writes it.
#[repr(C)]
struct Page {
    id: u32,
    psk: [u8; PSK_BYTES],
}

unsafe extern "C" {
    /// Where memory.x has it.
    #[link_name = "__device_page"]
    static PAGE: Page;
}

/// What erased flash looks like.
const ERASED: u32 = u32::MAX;

/// The board's key in this cluster; `None` if it was never given one.
pub(crate) fn key(cluster: &str) -> Option<DeviceKey> {
    // SAFETY: memory.x keeps the page free of the program, and any bytes make a `Page`. Volatile, because the compiler
    // does not see who writes it.
    let page = unsafe { (&raw const PAGE).read_volatile() };
    (page.id != ERASED).then(|| DeviceKey::new(page.id, &page.psk, cluster))
}
