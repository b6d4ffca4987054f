//! What firmware prints: lines of words, some of them `key=value`.

/// The value of `key` in a line.
pub(crate) fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// The same, if it is a number.
pub(crate) fn number(line: &str, key: &str) -> Option<u32> {
    value(line, key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_belong_to_whole_keys() {
        let line = "call=12 at_ms=400 failed=deadline";
        assert_eq!(number(line, "call"), Some(12));
        assert_eq!(number(line, "ms"), None);
        assert_eq!(number(line, "failed"), None);
        assert_eq!(value(line, "failed"), Some("deadline"));
    }
}
