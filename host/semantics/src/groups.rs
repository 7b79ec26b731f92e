//! Cache groups: RFC 9875.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};

use crate::directives::joined_lines;

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The groups that a response belongs to, each once. They mean something only within the
/// origin that gave them (section 2.1).
pub fn cache_groups(response: &HeaderMap) -> Vec<String> {
    strings(response, &CACHE_GROUPS)
}

/// The groups of the same origin that a response to an unsafe request makes invalid
/// (section 3). A response to a safe one makes nothing invalid, whatever it says.
pub fn groups_to_invalidate(response: &HeaderMap) -> Vec<String> {
    strings(response, &CACHE_GROUP_INVALIDATION)
}

/// The members of a list of strings. What is no string is passed over, and a field that is
/// no list counts as absent.
fn strings(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let Some(text) = joined_lines(headers, name) else {
        return Vec::new();
    };
    let Ok(list) = Parser::new(&*text).parse::<List>() else {
        return Vec::new();
    };
    let mut strings: Vec<String> = list
        .into_iter()
        .filter_map(|member| match member {
            ListEntry::Item(item) => match item.bare_item {
                BareItem::String(text) => Some(text.as_str().to_owned()),
                _ => None,
            },
            ListEntry::InnerList(_) => None,
        })
        .collect();
    strings.sort_unstable();
    strings.dedup();
    strings
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn groups(lines: &[&'static str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_GROUPS, HeaderValue::from_static(line));
        }
        cache_groups(&headers)
    }

    #[test]
    fn a_list_of_strings_over_all_lines() {
        assert_eq!(
            groups(&["\"b\", \"a\";x=1", "\"a\", \"c d\""]),
            ["a", "b", "c d"]
        );
        assert_eq!(groups(&["\"a\", b, 1, (\"c\"), :YQ==:"]), ["a"]);
    }

    #[test]
    fn what_is_no_list_counts_as_absent() {
        for odd in ["\"a", "\"a\",", "\"a\" \"b\"", "", "\u{e4}"] {
            if let Ok(value) = HeaderValue::from_str(odd) {
                let mut headers = HeaderMap::new();
                headers.insert(CACHE_GROUPS, value);
                assert!(cache_groups(&headers).is_empty(), "{odd}");
            }
        }
        assert!(groups(&[]).is_empty());
    }

    #[test]
    fn the_two_fields_are_apart() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_GROUP_INVALIDATION, HeaderValue::from_static("\"x\""));
        assert_eq!(groups_to_invalidate(&headers), ["x"]);
        assert!(cache_groups(&headers).is_empty());
    }
}
