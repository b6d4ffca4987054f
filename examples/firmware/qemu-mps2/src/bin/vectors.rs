//! The golden vectors of the specifications, on a 32-bit processor: the texts themselves are in the image, and what they
//! say is read, written again, sealed and opened. Ends with a failure at the first byte that differs.
#![no_std]
#![no_main]

use lb_core::Instant;
use lb_core::wire::seal::{Ascon128, ChaCha20Poly1305, Cipher, DeviceKey, Initiator, OVERHEAD_BYTES};
use lb_core::wire::{self, FromEdge, ToEdge};
use qemu_mps2::host;
use qemu_mps2::print::say;

const WIRE: &str = include_str!("../../../../../lb-core/WIRE.md");
const SEAL: &str = include_str!("../../../../../lb-core/SEAL.md");

/// Longer than any vector.
const ROOM: usize = 160;

#[cortex_m_rt::entry]
fn main() -> ! {
    let mut count = 0_u32;
    for name in ["heartbeat", "heartbeat-ack", "join", "leave", "introduce"] {
        check(name, WIRE, &mut count, |bytes, out| {
            wire::encode(&wire::decode(bytes).ok()?, out).ok()
        });
    }
    check("metrics", WIRE, &mut count, |bytes, out| {
        let mut message = [0; ROOM];
        let used = vector("heartbeat", WIRE, &mut message).len();
        let end = used + bytes.len();
        message.get_mut(used..end)?.copy_from_slice(bytes);
        let metrics = wire::metrics(message.get(..end)?)?;
        wire::append_metrics(&metrics, out, 0).ok()
    });
    check("request", WIRE, &mut count, |bytes, out| {
        match wire::from_edge(bytes) {
            Ok(FromEdge::Request(request)) => request.encode(out).ok(),
            _ => None,
        }
    });
    check("cancel", WIRE, &mut count, |bytes, out| {
        match wire::from_edge(bytes) {
            Ok(FromEdge::Cancel { life, call }) => wire::encode_cancel(life, call, out).ok(),
            _ => None,
        }
    });
    check("response", WIRE, &mut count, |bytes, out| {
        match wire::to_edge(bytes) {
            Ok(ToEdge::Response(response)) => response.encode(out).ok(),
            _ => None,
        }
    });
    check("working", WIRE, &mut count, |bytes, out| {
        match wire::to_edge(bytes) {
            Ok(ToEdge::Working { call }) => wire::encode_working(call, out).ok(),
            _ => None,
        }
    });
    session::<ChaCha20Poly1305>(
        [
            "chacha-hello",
            "chacha-welcome",
            "chacha-up-0",
            "chacha-up-1",
            "chacha-down-0",
        ],
        &mut count,
    );
    session::<Ascon128>(
        [
            "ascon-hello",
            "ascon-welcome",
            "ascon-up-0",
            "ascon-up-1",
            "ascon-down-0",
        ],
        &mut count,
    );
    say!("vectors=", count);
    host::succeed()
}

/// An edge's side of a session, with the keys and randoms of the specification.
fn session<C: Cipher>([hello, welcome, first, second, answer]: [&str; 5], count: &mut u32) {
    let key = DeviceKey::new(7, &core::array::from_fn(|at| at as u8), "orchard");
    let mut initiator = Initiator::<C>::new(key, None);
    initiator.start(Instant::ZERO, core::array::from_fn(|at| 0xa0 + at as u8));
    check(hello, SEAL, count, |_, out| {
        let made = initiator.poll_transmit(Instant::ZERO)?;
        out.get_mut(..made.len())?.copy_from_slice(&made);
        Some(made.len())
    });
    let mut buffer = [0; ROOM];
    let Ok(mut session) = initiator.handle_welcome(vector(welcome, SEAL, &mut buffer)) else {
        host::fail(welcome);
    };
    *count += 1;
    check(first, SEAL, count, |_, out| {
        session.seal(b"reading: 21.5 C", out).ok()
    });
    check(second, SEAL, count, |_, out| session.seal(b"", out).ok());
    let sealed = vector(answer, SEAL, &mut buffer);
    if sealed.len() < OVERHEAD_BYTES
        || session.open(sealed) != Ok(b"a longer answer, of more than two blocks")
    {
        host::fail(answer);
    }
    *count += 1;
}

/// What `again` makes of a vector must be that vector.
fn check(name: &str, text: &str, count: &mut u32, again: impl FnOnce(&[u8], &mut [u8]) -> Option<usize>) {
    let (mut bytes, mut out) = ([0; ROOM], [0; ROOM]);
    let vector = vector(name, text, &mut bytes);
    let made = again(vector, &mut out);
    if made.and_then(|length| out.get(..length)) != Some(&*vector) {
        host::fail(name);
    }
    *count += 1;
}

/// A vector of a specification: the line that begins with its name, in hexadecimal.
fn vector<'a>(name: &str, text: &str, buffer: &'a mut [u8]) -> &'a mut [u8] {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let digits = line.unwrap_or("").as_bytes();
    let mut length = 0;
    for (pair, byte) in digits.chunks_exact(2).zip(buffer.iter_mut()) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            host::fail(name);
        };
        *byte = (high << 4 | low) as u8;
        length += 1;
    }
    if length == 0 || length * 2 != digits.len() {
        host::fail(name);
    }
    buffer.get_mut(..length).unwrap_or_default()
}
