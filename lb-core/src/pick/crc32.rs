//! The CRC-32 of IEEE 802.3, which nginx builds its ring with.
//!
//! By a table of 16 entries, 64 bytes, two steps a byte: the 256 entries of the usual table are 1 KiB of a
//! microcontroller's flash, and would halve the time for a key or a point. That matters little: a ring of 160 points an
//! endpoint is made in 4 us an endpoint, and a key is hashed once.

const TABLE: [u32; 16] = {
    let mut table = [0_u32; 16];
    let mut rest: &mut [u32] = &mut table;
    let mut nibble = 0_u32;
    while let Some((entry, after)) = rest.split_first_mut() {
        let mut crc = nibble;
        let mut bit = 0_u8;
        while bit < 4 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
            bit = bit.wrapping_add(1);
        }
        *entry = crc;
        nibble = nibble.wrapping_add(1);
        rest = after;
    }
    table
};

/// The CRC-32 of a key, for rings that must agree with nginx's (`Ketama`, see there).
///
/// ```
/// assert_eq!(lb_core::pick::crc32(b"123456789"), 0xCBF4_3926);
/// ```
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.write(bytes);
    crc.finish()
}

/// A CRC-32 of bytes that come in pieces; a copy goes on from a common beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crc32(u32);

impl Crc32 {
    pub(super) const fn new() -> Self {
        Self(u32::MAX)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 ^= u32::from(byte);
            self.nibble();
            self.nibble();
        }
    }

    fn nibble(&mut self) {
        let [low, ..] = self.0.to_le_bytes();
        let entry = TABLE.get(usize::from(low & 15)).copied().unwrap_or(0);
        self.0 = (self.0 >> 4) ^ entry;
    }

    pub(super) const fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_zlibs() {
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"a"), 0xE8B7_BE43);
        assert_eq!(crc32(b"The quick brown fox jumps over the lazy dog"), 0x414F_A339);
        let mut pieces = Crc32::new();
        pieces.write(b"1234");
        pieces.write(b"56789");
        assert_eq!(pieces.finish(), 0xCBF4_3926);
    }
}
