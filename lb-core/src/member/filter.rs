//! Filters over tags, parsed once and matched without allocation.

use core::fmt;

use heapless::{String, Vec};

use super::tags::{Tags, check_key, check_value, parts, split_once};

/// Longest text of a filter in bytes.
pub const FILTER_BYTES_MAX: usize = 128;
/// Most terms of a filter.
pub const FILTER_TERMS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
enum Test {
    Present,
    Absent,
    Equal,
    NotEqual,
}

/// One term; key and value are ranges of the filter's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
struct Term {
    test: Test,
    key: (u8, u8),
    value: (u8, u8),
}

/// A compiled filter: terms separated by commas, all of which must hold.
///
/// | term | holds when |
/// | --- | --- |
/// | `key=value` | the tag has this value |
/// | `key!=value` | the tag has another value, or there is none |
/// | `key` | the tag is there, whatever its value |
/// | `!key` | the tag is not there |
///
/// The empty filter matches everything. Matching is O(terms x length of the tags), without allocation.
///
/// ```
/// use lb_core::member::{Filter, Tags};
/// let filter = Filter::parse("role=worker, zone!=eu-2, !retired")?;
/// let tags: Tags<64> = Tags::parse("role=worker,zone=eu-1").unwrap();
/// assert!(filter.matches(&tags));
/// # Ok::<(), lb_core::member::FilterError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Filter {
    text: String<FILTER_BYTES_MAX>,
    terms: Vec<Term, FILTER_TERMS_MAX>,
}

impl Filter {
    /// The filter that matches everything.
    #[must_use]
    pub const fn everything() -> Self {
        Self {
            text: String::new(),
            terms: Vec::new(),
        }
    }

    /// Compiles a filter. Blanks around terms are ignored.
    ///
    /// # Errors
    /// [`FilterError`] for the first term that is wrong, with its number.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::everything();
        if text.trim().is_empty() {
            return Ok(filter);
        }
        for (index, part) in parts(text).enumerate() {
            filter.push(part.trim(), index.saturating_add(1))?;
        }
        Ok(filter)
    }

    /// Whether the tags satisfy every term.
    #[must_use]
    pub fn matches<const B: usize>(&self, tags: &Tags<B>) -> bool {
        self.terms.iter().all(|term| {
            let found = tags.get(self.slice(term.key));
            match term.test {
                Test::Present => found.is_some(),
                Test::Absent => found.is_none(),
                Test::Equal => found == Some(self.slice(term.value)),
                Test::NotEqual => found != Some(self.slice(term.value)),
            }
        })
    }

    /// The filter in its canonical text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn slice(&self, (start, end): (u8, u8)) -> &str {
        self.text.get(usize::from(start)..usize::from(end)).unwrap_or("")
    }

    fn push(&mut self, term: &str, number: usize) -> Result<(), FilterError> {
        let (test, key, value) = if let Some((key, value)) = split_once(term, b'=') {
            match key.strip_suffix('!') {
                Some(key) => (Test::NotEqual, key, value),
                None => (Test::Equal, key, value),
            }
        } else if let Some(key) = term.strip_prefix('!') {
            (Test::Absent, key, "")
        } else {
            (Test::Present, term, "")
        };
        if term.is_empty() {
            return Err(FilterError::EmptyTerm { number });
        }
        if check_key(key).is_err() || check_value(value).is_err() {
            return Err(FilterError::BadTerm { number });
        }
        if !self.text.is_empty() {
            self.append(",")?;
        }
        if test == Test::Absent {
            self.append("!")?;
        }
        let key = self.append(key)?;
        let value = match test {
            Test::Present | Test::Absent => (0, 0),
            Test::Equal => {
                self.append("=")?;
                self.append(value)?
            }
            Test::NotEqual => {
                self.append("!=")?;
                self.append(value)?
            }
        };
        self.terms
            .push(Term { test, key, value })
            .map_err(|_| FilterError::TooManyTerms)
    }

    fn append(&mut self, part: &str) -> Result<(u8, u8), FilterError> {
        let start = self.text.len();
        self.text.push_str(part).map_err(|_| FilterError::TooLong)?;
        // FILTER_BYTES_MAX fits u8.
        Ok((start as u8, self.text.len() as u8))
    }
}

const _: () = assert!(FILTER_BYTES_MAX <= u8::MAX as usize);

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A filter that does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FilterError {
    /// Nothing between two commas.
    EmptyTerm {
        /// Which term, from 1.
        number: usize,
    },
    /// A key or value that no tag can have: empty key, too long, or a character tags do not allow.
    BadTerm {
        /// Which term, from 1.
        number: usize,
    },
    /// More than [`FILTER_TERMS_MAX`] terms.
    TooManyTerms,
    /// Longer than [`FILTER_BYTES_MAX`] bytes.
    TooLong,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyTerm { number } => write!(f, "filter term {number} is empty: remove the comma"),
            Self::BadTerm { number } => write!(
                f,
                "filter term {number} is none of key=value, key!=value, key, !key with characters tags allow"
            ),
            Self::TooManyTerms => write!(f, "a filter has at most {FILTER_TERMS_MAX} terms"),
            Self::TooLong => write!(f, "a filter has at most {FILTER_BYTES_MAX} bytes"),
        }
    }
}

impl core::error::Error for FilterError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Tags<128> {
        Tags::parse(text).unwrap()
    }

    #[test]
    fn all_four_tests() {
        let worker = tags("role=worker,zone=eu-1,gpu=");
        for (filter, expected) in [
            ("", true),
            ("  ", true),
            ("role=worker", true),
            ("role=director", false),
            ("role=work", false),
            ("zone!=eu-2", true),
            ("zone!=eu-1", false),
            ("rack!=7", true),
            ("gpu", true),
            ("gpu=", true),
            ("rack", false),
            ("!rack", true),
            ("!gpu", false),
            ("role=worker,zone=eu-1", true),
            ("role=worker , zone=eu-2", false),
        ] {
            assert_eq!(
                Filter::parse(filter).unwrap().matches(&worker),
                expected,
                "{filter:?}"
            );
        }
    }

    #[test]
    fn refuses_with_the_number_of_the_term() {
        assert_eq!(
            Filter::parse("a=1,,b=2"),
            Err(FilterError::EmptyTerm { number: 2 })
        );
        assert_eq!(Filter::parse("a=1,"), Err(FilterError::EmptyTerm { number: 2 }));
        for bad in ["=x", "!", "a b", "!a=1", "a==b", "a=b!", "\u{e9}=1"] {
            assert_eq!(
                Filter::parse(bad),
                Err(FilterError::BadTerm { number: 1 }),
                "{bad}"
            );
        }
    }

    #[test]
    fn every_limit_at_its_edge() {
        let eight = ["k"; FILTER_TERMS_MAX].join(",");
        assert!(Filter::parse(&eight).is_ok());
        assert_eq!(Filter::parse(&(eight + ",k")), Err(FilterError::TooManyTerms));
        // 32 + 1 + 64 + 1 + 30 = 128
        let longest = format!("{}={},{}", "k".repeat(32), "v".repeat(64), "p".repeat(30));
        assert_eq!(longest.len(), FILTER_BYTES_MAX);
        assert!(Filter::parse(&longest).is_ok());
        assert_eq!(Filter::parse(&(longest + "p")), Err(FilterError::TooLong));
    }

    #[test]
    fn prints_in_canonical_form() {
        let filter = Filter::parse(" a = 1").map(|filter| filter.as_str().len());
        assert_eq!(
            filter,
            Err(FilterError::BadTerm { number: 1 }),
            "blanks inside a term are no tag characters"
        );
        assert_eq!(Filter::parse(" a=1 ,!b ").unwrap().to_string(), "a=1,!b");
    }
}
