//! Reading and writing fields. Integers wider than a byte are LEB128 varints, as `WIRE.md` says, unless named `be`.
//!
//! Written by hand because it is what an edge spends its flash on: a general serializer takes three times as much.

use super::codec::{DecodeError, EncodeError};

/// Takes fields from the front of some bytes.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
        self.rest = rest;
        Ok(*array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn be_u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A varint that is not above `most`: its type's maximum.
    fn varint(&mut self, most: u64) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64_u32).step_by(7) {
            let byte = self.u8()?;
            let part = u64::from(byte & 0x7f);
            let placed = part.checked_shl(shift).unwrap_or(0);
            if placed.checked_shr(shift) != Some(part) {
                return Err(DecodeError::Malformed);
            }
            value |= placed;
            if byte & 0x80 == 0 {
                return if value <= most {
                    Ok(value)
                } else {
                    Err(DecodeError::Malformed)
                };
            }
        }
        Err(DecodeError::Malformed)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.varint(u64::from(u16::MAX)).map(|value| value as u16)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.varint(u64::from(u32::MAX)).map(|value| value as u32)
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.varint(u64::MAX)
    }

    /// A varint length and so many bytes.
    pub(super) fn counted(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()?;
        self.bytes(length as usize)
    }

    /// The same, which must be UTF-8.
    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        core::str::from_utf8(self.counted()?).map_err(|_| DecodeError::Malformed)
    }
}

/// Puts fields behind each other into a buffer.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl<'a> Writer<'a> {
    /// Writes behind the first `used` bytes.
    pub(super) const fn behind(out: &'a mut [u8], used: usize) -> Self {
        Self { out, used }
    }

    pub(super) const fn new(out: &'a mut [u8]) -> Self {
        Self::behind(out, 0)
    }

    /// How many bytes of the buffer are written.
    pub(super) const fn used(&self) -> usize {
        self.used
    }

    /// The bytes already written at `at`, to be corrected.
    pub(super) fn at(&mut self, at: usize) -> Option<&mut u8> {
        self.out.get_mut(at)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let room = self
            .out
            .get_mut(self.used..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
            .ok_or(EncodeError::BufferTooSmall)?;
        room.copy_from_slice(bytes);
        self.used = self.used.saturating_add(bytes.len());
        Ok(())
    }

    pub(super) fn u8(&mut self, byte: u8) -> Result<(), EncodeError> {
        self.bytes(&[byte])
    }

    pub(super) fn be_u32(&mut self, value: u32) -> Result<(), EncodeError> {
        self.bytes(&value.to_be_bytes())
    }

    /// A varint of whatever width: its bytes do not depend on it.
    pub(super) fn varint(&mut self, mut value: u64) -> Result<(), EncodeError> {
        while value > 0x7f {
            self.u8(value as u8 | 0x80)?;
            value >>= 7;
        }
        self.u8(value as u8)
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), EncodeError> {
        self.varint(text.len() as u64)?;
        self.bytes(text.as_bytes())
    }
}

/// The most bytes a varint of so many bits takes.
pub(super) const fn varint_max(bits: usize) -> usize {
    bits.div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: u64) -> std::vec::Vec<u8> {
        let mut buffer = [0; 10];
        let mut writer = Writer::new(&mut buffer);
        writer.varint(value).unwrap();
        let used = writer.used();
        buffer[..used].to_vec()
    }

    #[test]
    fn each_width_has_its_maximum() {
        assert_eq!(Reader::new(&written(0xffff)).u16(), Ok(u16::MAX));
        assert_eq!(Reader::new(&written(0x1_0000)).u16(), Err(DecodeError::Malformed));
        assert_eq!(Reader::new(&written(0xffff_ffff)).u32(), Ok(u32::MAX));
        assert_eq!(
            Reader::new(&written(0x1_0000_0000)).u32(),
            Err(DecodeError::Malformed)
        );
        assert_eq!(Reader::new(&written(u64::MAX)).u64(), Ok(u64::MAX));
        assert_eq!(written(u64::MAX).len(), varint_max(64));
        assert_eq!(written(u64::from(u32::MAX)).len(), varint_max(32));
    }

    #[test]
    fn a_varint_ends() {
        assert_eq!(Reader::new(&[0x80; 20]).u64(), Err(DecodeError::Malformed));
        let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(Reader::new(&beyond).u64(), Err(DecodeError::Malformed));
        assert_eq!(Reader::new(&[0x80]).u64(), Err(DecodeError::Malformed));
    }

    proptest! {
        /// The bytes are those of postcard 1.x, which other implementations may use.
        #[test]
        fn as_postcard_does(value: u64, small: u16, text in ".{0,40}") {
            let mut buffer = [0; 256];
            let theirs = postcard::to_slice(&(value, small, text.as_str()), &mut buffer).unwrap().to_vec();
            let mut ours = [0; 256];
            let mut writer = Writer::new(&mut ours);
            writer.varint(value).unwrap();
            writer.varint(u64::from(small)).unwrap();
            writer.text(&text).unwrap();
            let used = writer.used();
            prop_assert_eq!(&ours[..used], theirs.as_slice());
            let mut reader = Reader::new(&theirs);
            prop_assert_eq!((reader.u64(), reader.u16(), reader.text()), (Ok(value), Ok(small), Ok(text.as_str())));
        }
    }
}
