//! Names on the command line, and the error that lists them.

use std::fmt;

/// Nothing of this kind has this name; says which names there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// What it was to be, such as "policy".
    pub kind: &'static str,
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<String>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown {} '{}'; there are: {}",
            self.kind,
            self.name,
            self.known.join(", ")
        )
    }
}

impl std::error::Error for Unknown {}

/// The value with this name.
pub(crate) fn find<T: Copy>(
    kind: &'static str,
    name: &str,
    all: &[T],
    name_of: impl Fn(&T) -> &'static str,
) -> Result<T, Unknown> {
    all.iter()
        .find(|value| name_of(value) == name)
        .copied()
        .ok_or_else(|| Unknown {
            kind,
            name: name.to_owned(),
            known: all.iter().map(|value| name_of(value).to_owned()).collect(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_lists_what_there_is() {
        let error = find("colour", "mauve", &["red", "blue"], |name| name).unwrap_err();
        assert_eq!(error.to_string(), "unknown colour 'mauve'; there are: red, blue");
    }
}
