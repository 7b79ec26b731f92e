//! Paths that are written otherwise than they are read: RFC 3986 section 6.2.2.

use std::borrow::Cow;

use http::uri::PathAndQuery;
use memchr::{memchr, memchr_iter, memchr3};

/// The normal form: letters, digits and `-._~` not encoded, hexadecimal digits in upper
/// case, dot segments resolved. Nothing if the target has that form already, as most do.
///
/// Every server takes both for the same. A cache that did not would let a route, a purge or
/// a policy miss what is meant.
pub(crate) fn normal(target: &PathAndQuery) -> Option<PathAndQuery> {
    let path = target.path();
    let bytes = path.as_bytes();
    let dotted = || memchr_iter(b'.', bytes).any(|at| at > 0 && bytes[at - 1] == b'/');
    if memchr(b'%', bytes).is_none() && !dotted() {
        return None;
    }
    let decoded = decode(path, |byte| {
        byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
    });
    let normal = resolve(&decoded);
    if normal == path {
        return None;
    }
    match target.query() {
        Some(query) => format!("{normal}?{query}").parse().ok(),
        None => normal.parse().ok(),
    }
}

/// The path as the most forgiving servers read it, if that is another one: encoded
/// slashes and backslashes as slashes, and what follows a `;` left out of each segment.
pub(crate) fn as_forgiving_servers_read(path: &str) -> Option<String> {
    memchr3(b'%', b'\\', b';', path.as_bytes())?;
    let decoded = decode(path, |byte| byte.is_ascii_graphic() && byte != b'%').replace('\\', "/");
    let segments: Vec<&str> = decoded
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect();
    let read = resolve(&segments.join("/"));
    (read != path).then_some(read)
}

/// Decodes the bytes for which `plain` is true, and writes the others' digits in upper case.
/// A path with a `%` that begins no escape stays as it is: what is decoded behind it could
/// become one.
fn decode(path: &str, plain: impl Fn(u8) -> bool) -> Cow<'_, str> {
    let escapes = |text: &str| {
        let digits = text.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !path.contains('%') || !path.split('%').skip(1).all(escapes) {
        return Cow::Borrowed(path);
    }
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = &rest[at + 1..at + 3];
        match u8::from_str_radix(digits, 16) {
            Ok(byte) if byte.is_ascii() && plain(byte) => decoded.push(char::from(byte)),
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

/// RFC 3986 section 5.2.4, for a path that begins with a slash.
fn resolve(path: &str) -> String {
    let mut resolved: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    resolved.pop();
                }
                if is_last {
                    resolved.push("");
                }
            }
            segment => resolved.push(segment),
        }
    }
    let mut text = String::with_capacity(path.len());
    for segment in resolved {
        text.push('/');
        text.push_str(segment);
    }
    if text.is_empty() {
        text.push('/');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal_of(target: &str) -> Option<String> {
        normal(&target.parse().unwrap()).map(|target| target.as_str().to_owned())
    }

    #[test]
    fn what_all_servers_take_for_the_same_has_one_form() {
        for (written, meant) in [
            ("/%61ccount/m%65", "/account/me"),
            ("/s/../account/me", "/account/me"),
            (
                "/s/%2e%2E/account/./me?x=%61/../b",
                "/account/me?x=%61/../b",
            ),
            ("/%7euser/", "/~user/"),
            ("/a/..", "/"),
            ("/../../a", "/a"),
            ("/a/b/.", "/a/b/"),
            ("/a%2fb%c3%a4", "/a%2Fb%C3%A4"),
            ("/a//../b", "/a/b"),
        ] {
            assert_eq!(normal_of(written).as_deref(), Some(meant), "{written}");
        }
        for same in [
            "/",
            "/a.css",
            "/a//b/",
            "/...",
            "/.well-known/x",
            "/a%2Fb",
            "/%zz",
            "/%",
            "/a?%61",
            "/%a%30",
        ] {
            assert_eq!(normal_of(same), None, "{same}");
        }
    }

    #[test]
    fn forgiving_servers_read_other_paths() {
        for (written, read) in [
            ("/account%2Fme", "/account/me"),
            ("/s/..%2Faccount/me", "/account/me"),
            ("/s/..%5Caccount", "/account"),
            ("/s\\..\\account", "/account"),
            ("/account;x=1/me;y", "/account/me"),
            ("/s/..;/account", "/account"),
        ] {
            assert_eq!(
                as_forgiving_servers_read(written).as_deref(),
                Some(read),
                "{written}"
            );
        }
        for plain in ["/account/me", "/a%20b", "/%C3%A4"] {
            assert_eq!(as_forgiving_servers_read(plain), None, "{plain}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_is_normal_and_a_path(
            path in "/([a-z.%/;\\\\~]|%[0-9a-fA-F]{2}){0,24}",
        ) {
            if let Ok(target) = path.parse::<PathAndQuery>()
                && let Some(once) = normal(&target)
            {
                prop_assert!(once.as_str().starts_with('/'));
                prop_assert_eq!(normal(&once), None);
            }
            if let Some(read) = as_forgiving_servers_read(&path) {
                prop_assert!(read.starts_with('/'));
            }
        }
    }
}
