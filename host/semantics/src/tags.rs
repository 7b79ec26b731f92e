//! Tags that an origin gives a response: Surrogate-Key (space separated) and Cache-Tag
//! (comma separated).

use http::{HeaderMap, HeaderName};

/// The most tags one response may carry.
pub const MOST_TAGS: usize = 1000;
/// The longest tag, in bytes.
pub const LONGEST_TAG: usize = 1024;

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// Why the tags of a response cannot be taken. It must not be stored then, for no purge by
/// the tag that was left out would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// More than [`MOST_TAGS`].
    #[error(
        "the response carries more than {MOST_TAGS} tags in Surrogate-Key and Cache-Tag; \
         group what is always purged together under one tag"
    )]
    TooMany,
    /// One is longer than [`LONGEST_TAG`].
    #[error(
        "the response carries a tag of {0} bytes in Surrogate-Key or Cache-Tag; \
         a tag has at most {LONGEST_TAG} bytes"
    )]
    TooLong(usize),
    /// One is not UTF-8, so that no purge could name it.
    #[error(
        "the response carries a tag in Surrogate-Key or Cache-Tag that is not UTF-8; use UTF-8 or ASCII"
    )]
    NotText,
}

/// The tags of a response, sorted, each once.
///
/// # Errors
/// When they are too many, too long or not text: see [`TagError`].
pub fn response_tags(headers: &HeaderMap) -> Result<Vec<&str>, TagError> {
    let mut tags = Vec::new();
    for line in headers.get_all(SURROGATE_KEY) {
        let mut words = line.as_bytes().split(u8::is_ascii_whitespace);
        words.try_for_each(|tag| add(&mut tags, tag))?;
    }
    for line in headers.get_all(CACHE_TAG) {
        let mut members = line.as_bytes().split(|&byte| byte == b',');
        members.try_for_each(|tag| add(&mut tags, tag.trim_ascii()))?;
    }
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > MOST_TAGS {
        return Err(TagError::TooMany);
    }
    Ok(tags)
}

fn add<'a>(tags: &mut Vec<&'a str>, tag: &'a [u8]) -> Result<(), TagError> {
    if tag.len() > LONGEST_TAG {
        return Err(TagError::TooLong(tag.len()));
    }
    if !tag.is_empty() {
        tags.push(std::str::from_utf8(tag).map_err(|_| TagError::NotText)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            map.append(HeaderName::from_static(name), value);
        }
        map
    }

    #[test]
    fn both_fields_are_read() {
        let map = map(&[
            ("surrogate-key", "b  a,1\tä"),
            ("surrogate-key", "b"),
            ("cache-tag", "c d, ,a "),
        ]);
        assert_eq!(response_tags(&map), Ok(vec!["a", "a,1", "b", "c d", "ä"]));
        assert_eq!(response_tags(&HeaderMap::new()), Ok(vec![]));
    }

    #[test]
    fn bounds_are_errors() {
        let many: Vec<_> = (0..=MOST_TAGS).map(|at| at.to_string()).collect();
        assert_eq!(
            response_tags(&map(&[("cache-tag", &many.join(","))])),
            Err(TagError::TooMany)
        );
        let most = many[1..].join(" ");
        assert_eq!(
            response_tags(&map(&[("surrogate-key", &most)]))
                .unwrap()
                .len(),
            MOST_TAGS
        );
        let long = "x".repeat(LONGEST_TAG + 1);
        assert_eq!(
            response_tags(&map(&[("cache-tag", &long)])),
            Err(TagError::TooLong(1025))
        );
        assert!(response_tags(&map(&[("cache-tag", &long[1..])])).is_ok());
        let mut map = HeaderMap::new();
        map.insert(CACHE_TAG, HeaderValue::from_bytes(b"a, \xff").unwrap());
        assert_eq!(response_tags(&map), Err(TagError::NotText));
    }
}
