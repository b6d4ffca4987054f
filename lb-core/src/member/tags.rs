//! Tags: `key=value` pairs a node wears, in a fixed buffer.

use core::fmt;

use heapless::String;

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 32;
/// Longest value in bytes.
pub const VALUE_BYTES_MAX: usize = 64;
/// Longest set of tags in their text form, as far as messages carry it.
pub const TAG_BYTES_MAX: usize = 255;

/// Keys that begin so are set by drivers of nodes, such as `lb.edge`, never by their users.
pub const RESERVED_KEY_PREFIX: &str = "lb.";

/// A set of `key=value` tags in at most `B` bytes of text, such as `role=worker,zone=eu-1`.
///
/// Keys and values consist of ASCII letters, digits and `. _ - / : @ +`; a value may be empty. A key occurs
/// once; setting it again replaces its value. `B` is at most [`TAG_BYTES_MAX`] (checked at compile time): longer sets cannot
/// be sent.
///
/// ```
/// use lb_core::member::Tags;
/// let mut tags: Tags<64> = Tags::parse("role=worker,zone=eu-1")?;
/// tags.set("zone", "eu-2")?;
/// assert_eq!(tags.get("zone"), Some("eu-2"));
/// assert_eq!(tags.as_str(), "role=worker,zone=eu-2");
/// # Ok::<(), lb_core::member::TagsError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Tags<const B: usize> {
    text: String<B, u8>,
}

impl<const B: usize> Tags<B> {
    /// No tags.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: String::new() }
    }

    /// Tags from their text form; an empty text is no tags.
    ///
    /// # Errors
    /// [`TagsError`] for the first pair that is wrong.
    pub fn parse(text: &str) -> Result<Self, TagsError> {
        let mut tags = Self::new();
        if text.is_empty() {
            return Ok(tags);
        }
        for pair in parts(text) {
            let (key, value) = split_once(pair, b'=').ok_or(TagsError::NoEquals)?;
            if tags.get(key).is_some() {
                return Err(TagsError::DuplicateKey);
            }
            tags.set(key, value)?;
        }
        Ok(tags)
    }

    /// Tags whose text was checked by whoever sent it, who is trusted; none when there is no room. A text that is wrong
    /// after all matches what it looks like.
    #[cfg(feature = "edge")]
    pub(crate) fn received(text: &[u8]) -> Self {
        let mut tags = Self::new();
        // Without the cost of checking UTF-8: tags are ASCII.
        for byte in text {
            if !byte.is_ascii() || tags.text.push(char::from(*byte)).is_err() {
                return Self::new();
            }
        }
        tags
    }

    /// Sets a tag, replacing its former value.
    ///
    /// # Errors
    /// [`TagsError`]; nothing changed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), TagsError> {
        check_key(key)?;
        check_value(value)?;
        let mut text = self.without(key);
        let separator = if text.is_empty() { "" } else { "," };
        for part in [separator, key, "=", value] {
            text.push_str(part)
                .map_err(|_| TagsError::TooLong { capacity: B })?;
        }
        self.text = text;
        Ok(())
    }

    /// Takes a tag off; whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let there = self.get(key).is_some();
        self.text = self.without(key);
        there
    }

    /// The value of a key. O(length of the text).
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(found, _)| *found == key)
            .map(|(_, value)| value)
    }

    /// The pairs, in the order they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(&self.text)
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn without(&self, key: &str) -> String<B, u8> {
        let mut rest = String::new();
        for pair in parts(&self.text).filter(|pair| !pair.is_empty()) {
            if split_once(pair, b'=').is_some_and(|(found, _)| found == key) {
                continue;
            }
            // A subset of what fits, fits.
            let _ = if rest.is_empty() { Ok(()) } else { rest.push(',') };
            let _ = rest.push_str(pair);
        }
        rest
    }
}

/// As [`str::split_once`] for an ASCII character, without the search for words of memory that brings along.
pub(super) fn split_once(text: &str, at: u8) -> Option<(&str, &str)> {
    let (before, after) = text.split_at_checked(text.bytes().position(|byte| byte == at)?)?;
    Some((before, after.get(1..)?))
}

fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    parts(text).filter_map(|pair| split_once(pair, b'='))
}

/// What is between the commas; `str::split` by a means the compiler can see no panic in.
pub(super) fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    core::iter::from_fn(move || {
        let (part, after) = match split_once(rest?, b',') {
            Some((part, after)) => (part, Some(after)),
            None => (rest?, None),
        };
        rest = after;
        Some(part)
    })
}

fn allowed(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@+".contains(&byte))
}

pub(super) fn check_key(key: &str) -> Result<(), TagsError> {
    match key {
        "" => Err(TagsError::EmptyKey),
        _ if key.len() > KEY_BYTES_MAX => Err(TagsError::KeyTooLong),
        _ if !allowed(key) => Err(TagsError::BadCharacter),
        _ => Ok(()),
    }
}

pub(super) fn check_value(value: &str) -> Result<(), TagsError> {
    match value {
        _ if value.len() > VALUE_BYTES_MAX => Err(TagsError::ValueTooLong),
        _ if !allowed(value) => Err(TagsError::BadCharacter),
        _ => Ok(()),
    }
}

/// A tag that cannot be kept. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum TagsError {
    /// A pair without `=`.
    NoEquals,
    /// The key is empty.
    EmptyKey,
    /// The key is longer than [`KEY_BYTES_MAX`].
    KeyTooLong,
    /// The value is longer than [`VALUE_BYTES_MAX`].
    ValueTooLong,
    /// A character outside ASCII letters, digits and `. _ - / : @ +`.
    BadCharacter,
    /// The key occurs twice in a text form.
    DuplicateKey,
    /// The key begins with [`RESERVED_KEY_PREFIX`]. Drivers refuse it from their users; [`Tags`] does not.
    Reserved,
    /// All tags together are longer than the buffer.
    TooLong {
        /// The size of the buffer in bytes.
        capacity: usize,
    },
}

impl fmt::Display for TagsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEquals => f.write_str("a tag needs the form key=value"),
            Self::EmptyKey => f.write_str("a tag key must not be empty"),
            Self::KeyTooLong => write!(f, "a tag key has at most {KEY_BYTES_MAX} bytes"),
            Self::ValueTooLong => write!(f, "a tag value has at most {VALUE_BYTES_MAX} bytes"),
            Self::BadCharacter => f.write_str("tags consist of ASCII letters, digits and . _ - / : @ +"),
            Self::DuplicateKey => f.write_str("a tag key occurs twice"),
            Self::Reserved => write!(
                f,
                "tag keys that begin with \"{RESERVED_KEY_PREFIX}\" are set by the node itself; choose another name"
            ),
            Self::TooLong { capacity } => write!(f, "all tags together have at most {capacity} bytes"),
        }
    }
}

impl core::error::Error for TagsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_replaces_and_removes() {
        let mut tags: Tags<32> = Tags::new();
        tags.set("a", "1").unwrap();
        tags.set("b", "").unwrap();
        tags.set("a", "2").unwrap();
        assert_eq!(tags.as_str(), "b=,a=2");
        assert!(tags.remove("b"));
        assert!(!tags.remove("b"));
        assert_eq!(tags.as_str(), "a=2");
        assert_eq!(tags.get("b"), None);
    }

    #[test]
    fn every_limit_at_its_edge() {
        let mut tags: Tags<{ TAG_BYTES_MAX }> = Tags::new();
        let (key, value) = ("k".repeat(KEY_BYTES_MAX), "v".repeat(VALUE_BYTES_MAX));
        assert_eq!(tags.set(&key, &value), Ok(()));
        assert_eq!(tags.set(&(key + "k"), "v"), Err(TagsError::KeyTooLong));
        assert_eq!(tags.set("k", &(value + "v")), Err(TagsError::ValueTooLong));
        let mut small: Tags<7> = Tags::new();
        assert_eq!(small.set("k", "12345"), Ok(()));
        assert_eq!(small.set("k", "123456"), Err(TagsError::TooLong { capacity: 7 }));
        assert_eq!(small.as_str(), "k=12345", "nothing changed");
    }

    #[test]
    fn refuses_what_would_be_ambiguous() {
        for (text, error) in [
            ("role", TagsError::NoEquals),
            ("role=a,", TagsError::NoEquals),
            ("=a", TagsError::EmptyKey),
            ("a=b=c", TagsError::BadCharacter),
            ("a=b c", TagsError::BadCharacter),
            ("a=b,a=c", TagsError::DuplicateKey),
        ] {
            assert_eq!(Tags::<64>::parse(text), Err(error), "{text}");
        }
    }
}
