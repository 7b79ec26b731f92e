//! Entity tags: RFC 9110 section 8.8.3.

use http::{HeaderMap, HeaderName};

/// Strong comparison, `*` matching whatever there is. `given` comes from If-Match or
/// If-Range.
pub(crate) fn strong_match(given: &[u8], stored: Option<&[u8]>) -> bool {
    given == b"*" || (!is_weak(given) && stored == Some(given))
}

/// Weak comparison, `*` matching whatever there is.
pub(super) fn weak_match(given: &[u8], stored: Option<&[u8]>) -> bool {
    given == b"*" || stored.is_some_and(|stored| opaque(stored) == opaque(given))
}

/// Does `test` hold for a member of a list of entity tags? A comma may stand in a tag, and
/// a backslash there is no escape.
pub(super) fn any(headers: &HeaderMap, name: HeaderName, test: impl Fn(&[u8]) -> bool) -> bool {
    headers.get_all(name).iter().any(|line| {
        let mut quoted = false;
        line.as_bytes()
            .split(|&byte| {
                quoted ^= byte == b'"';
                byte == b',' && !quoted
            })
            .map(<[u8]>::trim_ascii)
            .any(|tag| !tag.is_empty() && test(tag))
    })
}

fn is_weak(tag: &[u8]) -> bool {
    tag.starts_with(b"W/")
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}
