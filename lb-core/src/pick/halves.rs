//! The caller's memory: a table in use, one being built, and scratch that only building needs.

/// Two tables of `len` words each, then scratch.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Halves<S> {
    memory: S,
    len: usize,
    /// Where the table in use begins: 0 or `len`.
    used: usize,
}

/// The caller's memory has fewer words than the strategy needs for what it was asked to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct MemoryTooSmall {
    /// How many words it needs, `words(…)` of the strategy.
    pub needed: usize,
}

impl core::fmt::Display for MemoryTooSmall {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "memory too small: {} words (u32) are needed", self.needed)
    }
}

impl core::error::Error for MemoryTooSmall {}

impl<S> Halves<S> {
    pub(super) fn map<T>(self, change: impl FnOnce(S) -> T) -> Halves<T> {
        Halves {
            memory: change(self.memory),
            len: self.len,
            used: self.used,
        }
    }

    /// The table that was being built is the one in use.
    pub(super) fn flip(&mut self) {
        self.used = if self.used == 0 { self.len } else { 0 };
    }
}

impl<S: AsRef<[u32]>> Halves<S> {
    /// `len` words a table; what is left of the memory is scratch, and must be `scratch` words or more.
    pub(super) fn new(memory: S, len: usize, scratch: usize) -> Result<Self, MemoryTooSmall> {
        let needed = len.saturating_mul(2).saturating_add(scratch);
        if memory.as_ref().len() < needed {
            return Err(MemoryTooSmall { needed });
        }
        Ok(Self { memory, len, used: 0 })
    }

    /// The table in use.
    #[inline]
    pub(super) fn used(&self) -> &[u32] {
        let end = self.used.wrapping_add(self.len);
        self.memory.as_ref().get(self.used..end).unwrap_or_default()
    }

    /// [`half_word`] of the table in use, for an entry that it has.
    #[inline]
    pub(super) fn half_word(&self, at: usize) -> Option<u16> {
        let word = self.memory.as_ref().get(self.used.wrapping_add(at / 2))?;
        Some((word >> shift(at)) as u16)
    }
}

impl<S: AsMut<[u32]>> Halves<S> {
    /// The table being built, and the scratch.
    pub(super) fn spare(&mut self) -> (&mut [u32], &mut [u32]) {
        let both = self.len.saturating_mul(2);
        let Some((tables, scratch)) = self.memory.as_mut().split_at_mut_checked(both) else {
            return (&mut [], &mut []);
        };
        let Some((first, second)) = tables.split_at_mut_checked(self.len) else {
            return (&mut [], &mut []);
        };
        (if self.used == 0 { second } else { first }, scratch)
    }
}

#[inline]
const fn shift(at: usize) -> u32 {
    if at.is_multiple_of(2) { 0 } else { 16 }
}

/// Numbers of 16 bits, two in a word, the lower one first.
#[inline]
pub(super) fn half_word(words: &[u32], at: usize) -> Option<u16> {
    let word = words.get(at / 2)?;
    Some((word >> shift(at)) as u16)
}

/// Sets a number of 16 bits; past the end, nothing.
pub(super) fn set_half_word(words: &mut [u32], at: usize, value: u16) {
    if let Some(word) = words.get_mut(at / 2) {
        let shift = shift(at);
        *word = (*word & !(0xFFFF << shift)) | (u32::from(value) << shift);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_tables_apart() {
        assert_eq!(
            Halves::new([0; 8], 4, 1).err(),
            Some(MemoryTooSmall { needed: 9 })
        );
        let mut halves = Halves::new([0; 10], 4, 2).unwrap();
        assert_eq!(halves.spare().1.len(), 2);
        halves.spare().0.fill(7);
        assert_eq!(halves.used(), [0; 4]);
        halves.flip();
        assert_eq!(halves.used(), [7; 4]);
        halves.spare().0.fill(9);
        assert_eq!(halves.used(), [7; 4]);
        assert_eq!(halves.map(|memory| memory.to_vec()).used(), [7; 4]);
    }

    #[test]
    fn half_words() {
        let mut words = [0; 2];
        for (at, value) in [(0, 1), (3, 65_535), (1, 9), (4, 5)] {
            set_half_word(&mut words, at, value);
        }
        assert_eq!(
            [0, 1, 2, 3].map(|at| half_word(&words, at)),
            [Some(1), Some(9), Some(0), Some(65_535)]
        );
        assert_eq!(half_word(&words, 4), None);
    }
}
