//! Bytes read as a script.

use std::hash::{DefaultHasher, Hash, Hasher};

use lb_core::wire::seal::{PSK_BYTES, RANDOM_BYTES};

/// What is left of a script.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    /// The whole of it.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next byte, as long as there is one.
    pub fn step(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.step().unwrap_or(0)
    }

    /// Below `n`, which is 1 to 256.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// A coin.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number that is mostly small, and sometimes anything.
    pub fn u32(&mut self) -> u32 {
        match self.byte() {
            255 => u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
            254 => u32::MAX,
            small => small.into(),
        }
    }

    /// As many bytes as the next one says, or as there are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.rest.len());
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }
}

/// Keys of this script alone. libFuzzer remembers what it saw compared, and would otherwise present a datagram that was
/// authentic in one run as a forgery in another.
#[must_use]
pub fn psk(script: &[u8], device: usize) -> [u8; PSK_BYTES] {
    let mut hasher = DefaultHasher::new();
    (script, device).hash(&mut hasher);
    let mut psk = [0; PSK_BYTES];
    psk[..8].copy_from_slice(&hasher.finish().to_be_bytes());
    psk
}

/// Randoms that never repeat, and are the same for the same script.
#[derive(Debug, Default)]
pub struct Fresh(u64);

impl Fresh {
    /// The next one.
    pub fn draw(&mut self) -> [u8; RANDOM_BYTES] {
        self.0 += 1;
        let mut random = [0; RANDOM_BYTES];
        // Mixed, because jitter and session tags are taken from its first bytes.
        let mixed = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        random[..8].copy_from_slice(&mixed.to_be_bytes());
        random[8..].copy_from_slice(&self.0.to_be_bytes());
        random
    }
}

/// Changes a copy of a datagram, or not, as the script says.
#[must_use]
pub fn bend(script: &mut Script<'_>, datagram: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    let at = usize::from(script.u16()) % bytes.len().max(1);
    match script.below(6) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << script.below(8);
            }
        }
        1 => bytes.truncate(at),
        2 => bytes.extend_from_slice(script.bytes()),
        // The head of one on the tail of another.
        3 => {
            let at = at.min(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[at..]);
        }
        4 => {
            for (byte, with) in bytes.iter_mut().skip(at).zip(script.bytes()) {
                *byte = *with;
            }
        }
        _ => {}
    }
    bytes
}
