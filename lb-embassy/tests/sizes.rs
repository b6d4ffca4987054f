//! What the README says of memory and of datagrams.
#![allow(missing_docs)]

use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use lb_core::wire::seal::OVERHEAD_BYTES;
use lb_core::wire::{REQUEST_OVERHEAD, RESPONSE_OVERHEAD_MAX};
use lb_embassy::{Call, EdgeHandle, EdgeStorage};

type Storage<
    const SERVERS: usize,
    const SESSIONS: usize,
    const CALLS: usize,
    const TAGS: usize,
    const DATAGRAM: usize,
> = EdgeStorage<NoopRawMutex, SERVERS, SESSIONS, CALLS, TAGS, DATAGRAM>;

/// On a 64-bit machine, where references have twice the size: the page says what a microcontroller needs.
#[test]
fn memory_is_at_most_what_the_page_says() {
    let base = size_of::<Storage<4, 2, 2, 16, 512>>();
    assert!(base <= 3_760, "{base}");
    assert!(size_of::<Storage<5, 2, 2, 16, 512>>() - base <= 140 + 16);
    assert!(size_of::<Storage<4, 3, 2, 16, 512>>() - base <= 160);
    assert!(size_of::<Storage<4, 2, 3, 16, 512>>() - base <= 72);
    assert_eq!(size_of::<Storage<4, 2, 2, 32, 512>>() - base, 5 * 16);
    assert_eq!(size_of::<Storage<4, 2, 2, 16, 612>>() - base, 4 * 100);
}

#[test]
fn futures_are_small() {
    assert!(size_of::<Call<'_, '_, Storage<4, 2, 2, 16, 512>>>() <= 128);
    assert_eq!(
        size_of::<EdgeHandle<'_, Storage<4, 2, 2, 16, 512>>>(),
        size_of::<usize>()
    );
}

#[test]
fn datagrams_hold_what_the_page_says() {
    assert_eq!(OVERHEAD_BYTES + REQUEST_OVERHEAD, 48);
    assert_eq!(OVERHEAD_BYTES + RESPONSE_OVERHEAD_MAX, 108);
}
