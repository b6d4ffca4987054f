//! Tags and filters against a plain map.

use std::collections::HashMap;

use lb_core::member::{FILTER_BYTES_MAX, FILTER_TERMS_MAX, Filter, TAG_BYTES_MAX, Tags};
use proptest::prelude::*;

const WORD: &str = "[a-c]{1,2}";

fn term() -> impl Strategy<Value = (u8, String, String)> {
    (0..4_u8, WORD, "[a-c]{0,2}")
}

fn write(terms: &[(u8, String, String)], blank: &str) -> String {
    let texts: Vec<String> = terms
        .iter()
        .map(|(test, key, value)| {
            let text = match test {
                0 => key.clone(),
                1 => format!("!{key}"),
                2 => format!("{key}={value}"),
                _ => format!("{key}!={value}"),
            };
            format!("{blank}{text}{blank}")
        })
        .collect();
    texts.join(",")
}

proptest! {
    #[test]
    fn a_filter_is_what_a_map_would_say(
        pairs in prop::collection::hash_map(WORD, "[a-c]{0,2}", 0..8),
        terms in prop::collection::vec(term(), 0..=FILTER_TERMS_MAX),
        blank in "[ \t]{0,2}",
    ) {
        let text = write(&terms, &blank);
        let filter = Filter::parse(&text).unwrap();
        prop_assert_eq!(filter.as_str(), write(&terms, ""), "the canonical form has no blanks");
        prop_assert_eq!(Filter::parse(&filter.to_string()).unwrap(), filter.clone());
        let mut tags: Tags<TAG_BYTES_MAX> = Tags::new();
        for (key, value) in &pairs {
            tags.set(key, value).unwrap();
        }
        let expected = terms.iter().all(|(test, key, value)| match test {
            0 => pairs.contains_key(key),
            1 => !pairs.contains_key(key),
            2 => pairs.get(key) == Some(value),
            _ => pairs.get(key) != Some(value),
        });
        prop_assert_eq!(filter.matches(&tags), expected);
    }

    #[test]
    fn tags_are_a_map(ops in prop::collection::vec((any::<bool>(), WORD, "[a-c/:@.]{0,8}"), 0..40)) {
        let mut tags: Tags<48> = Tags::new();
        let mut map: HashMap<String, String> = HashMap::new();
        for (set, key, value) in ops {
            let before = tags.clone();
            if set {
                let mut wanted = map.clone();
                wanted.insert(key.clone(), value.clone());
                let length: usize = wanted.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
                let result = tags.set(&key, &value);
                prop_assert_eq!(result.is_ok(), length - 1 <= 48);
                if result.is_ok() { map = wanted } else { prop_assert_eq!(&tags, &before) }
            } else {
                prop_assert_eq!(tags.remove(&key), map.remove(&key).is_some());
            }
            let found: HashMap<String, String> =
                tags.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(&found, &map);
            prop_assert_eq!(tags.iter().count(), map.len());
            prop_assert_eq!(Tags::parse(tags.as_str()), Ok(tags.clone()));
        }
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in prop_oneof![any::<String>(), "[a!=, ]{0,24}", "[a-z=,]{0,300}"]) {
        if let Ok(tags) = Tags::<TAG_BYTES_MAX>::parse(&text) {
            prop_assert_eq!(tags.as_str(), text.as_str());
        }
        if let Ok(small) = Tags::<8>::parse(&text) {
            prop_assert!(small.as_str().len() <= 8);
        }
        if let Ok(filter) = Filter::parse(&text) {
            prop_assert!(filter.as_str().len() <= FILTER_BYTES_MAX);
            prop_assert!(filter.as_str().split(',').count() <= FILTER_TERMS_MAX);
            prop_assert_eq!(Filter::parse(filter.as_str()), Ok(filter.clone()));
        }
    }
}
