//! What the host gives a sensor on its command line: `sensor ID KEY CLUSTER CALLS PERIOD_MS HEARTBEAT_MS SEED...`,
//! so that one image makes many devices. A product keeps these in flash.

use core::net::{Ipv4Addr, SocketAddrV4};

use lb_core::Duration;
use lb_core::health::Timers;
use lb_core::wire::seal::{DeviceKey, PSK_BYTES};
use qemu_mps2::host;

/// Servers that can be named.
const SEEDS: usize = 4;

pub(crate) struct Settings {
    pub(crate) key: DeviceKey,
    pub(crate) calls: u32,
    pub(crate) period_ms: u32,
    pub(crate) timers: Timers,
    pub(crate) seeds: [Option<SocketAddrV4>; SEEDS],
}

impl Settings {
    /// Ends the program if there is something wrong.
    #[inline(never)]
    pub(crate) fn read() -> Self {
        let mut line = [0; 256];
        Self::parse(host::command_line(&mut line)).unwrap_or_else(|| host::fail("the command line"))
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = Words(line);
        words.next()?;
        let id = number(words.next()?)?;
        let psk = key(words.next()?)?;
        let key = DeviceKey::new(id, &psk, words.next()?);
        let calls = number(words.next()?)?;
        let period_ms = number(words.next()?)?;
        let heartbeat = Duration::from_millis(u64::from(number(words.next()?)?));
        let mut seeds = [None; SEEDS];
        for (place, word) in seeds.iter_mut().zip(words) {
            *place = Some(address(word)?);
        }
        Some(Self {
            key,
            calls,
            period_ms,
            timers: Timers::scaled(heartbeat).ok()?,
            seeds,
        })
    }
}

/// Words between spaces. `str::split` would do, but takes 500 bytes of flash.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let word;
        (word, self.0) = match self.0.bytes().position(|byte| byte == b' ') {
            Some(end) => (self.0.get(..end)?, self.0.get(end + 1..)?),
            None => (core::mem::take(&mut self.0), ""),
        };
        Some(word).filter(|word| !word.is_empty())
    }
}

/// In decimal. Parsing with `core` would do, but takes 300 bytes of flash for each kind of number.
fn number(text: &str) -> Option<u32> {
    text.bytes().try_fold(0_u32, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        sum.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

/// 64 hexadecimal digits.
fn key(text: &str) -> Option<[u8; PSK_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut key = [0; PSK_BYTES];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != PSK_BYTES || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in key.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(key)
}

/// Such as `10.0.2.2:7500`.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (ip, port) = text.split_once(':')?;
    let mut octets = [0; 4];
    let mut words = ip.split('.');
    for octet in &mut octets {
        *octet = u8::try_from(number(words.next()?)?).ok()?;
    }
    let port = u16::try_from(number(port)?).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(octets), port))
}
