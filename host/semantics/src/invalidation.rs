//! What an unsafe request makes invalid: RFC 9111 section 4.4.

use http::{
    HeaderMap, StatusCode, Uri,
    header::{CONTENT_LOCATION, LOCATION},
    uri::{Authority, PathAndQuery, Scheme},
};
use smallvec::SmallVec;

/// More Location lines than that are noise.
const MOST_URIS: usize = 16;

/// The URIs that a response to an unsafe request makes invalid: the target, and those in
/// Location and Content-Location of the same origin, resolved against it. Empty when the
/// response is an error.
///
/// `target` is absolute. Every URI returned has its scheme and authority, letter for
/// letter, and no fragment. Whether a method is unsafe [`http::Method::is_safe`] says.
pub fn uris_to_invalidate(
    target: &Uri,
    status: StatusCode,
    response: &HeaderMap,
) -> SmallVec<[Uri; 3]> {
    let mut uris = SmallVec::new();
    if !status.is_success() && !status.is_redirection() {
        return uris;
    }
    uris.push(target.clone());
    for name in [LOCATION, CONTENT_LOCATION] {
        // Several lines are an error of the origin; each may be what it meant.
        for line in response.get_all(name) {
            if let Some(uri) = resolve(target, line.as_bytes())
                && !uris.contains(&uri)
            {
                uris.push(uri);
            }
            if uris.len() >= MOST_URIS {
                return uris;
            }
        }
    }
    uris
}

/// Whether a response says that its content is what a GET of `target` would have brought:
/// it has one Content-Location, and that is the target (RFC 9110 sections 8.7 and 9.3.3).
pub fn represents_target(target: &Uri, response: &HeaderMap) -> bool {
    let mut lines = response.get_all(CONTENT_LOCATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return false;
    };
    resolve(target, line.as_bytes()).is_some_and(|uri| uri == *target)
}

/// Resolves a reference (RFC 3986 section 5.2); `None` when it is invalid or leads to
/// another origin.
fn resolve(target: &Uri, reference: &[u8]) -> Option<Uri> {
    let reference = std::str::from_utf8(reference.trim_ascii()).ok()?;
    let reference = reference.split('#').next().unwrap_or_default();
    let after_scheme = match split_scheme(reference) {
        Some((scheme, rest)) => {
            if !scheme.eq_ignore_ascii_case(target.scheme_str()?) {
                return None;
            }
            rest
        }
        None => reference,
    };
    let path_and_query = if let Some(rest) = after_scheme.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let authority: Authority = rest[..end].parse().ok()?;
        if !same_authority(target.scheme()?, target.authority()?, &authority) {
            return None;
        }
        rest[end..].to_owned()
    } else if after_scheme.len() < reference.len() {
        // `http:path`, an old form that RFC 3986 section 5.2.2 lets go.
        return None;
    } else {
        merge(target, reference)
    };
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query.as_str(), None),
    };
    let mut text = remove_dot_segments(path);
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(target.scheme()?.clone());
    parts.authority = Some(target.authority()?.clone());
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

fn split_scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    valid.then_some((scheme, rest))
}

fn same_authority(scheme: &Scheme, target: &Authority, other: &Authority) -> bool {
    let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let port = |authority: &Authority| {
        let host_and_port = authority.as_str().rsplit('@').next()?;
        match host_and_port.get(authority.host().len()..)? {
            "" | ":" => Some(default),
            port => port.strip_prefix(':')?.parse().ok(),
        }
    };
    let other_port: Option<u16> = port(other);
    target.host().eq_ignore_ascii_case(other.host())
        && other_port.is_some()
        && port(target) == other_port
}

/// Path and query of a reference without scheme and authority, dots left in.
fn merge(target: &Uri, reference: &str) -> String {
    let base = target.path();
    if reference.is_empty() {
        let query = target.query().map(|query| format!("?{query}"));
        format!("{base}{}", query.unwrap_or_default())
    } else if reference.starts_with('/') {
        reference.to_owned()
    } else if reference.starts_with('?') {
        format!("{base}{reference}")
    } else {
        let folder = &base[..base.rfind('/').map_or(0, |at| at + 1)];
        format!("{folder}{reference}")
    }
}

/// RFC 3986 section 5.2.4, for a path that begins with a slash or is empty.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn invalid(target: &str, status: u16, fields: &[(&'static str, &str)]) -> Vec<String> {
        let mut response = HeaderMap::new();
        for (name, value) in fields {
            response.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let status = StatusCode::from_u16(status).unwrap();
        uris_to_invalidate(&target.parse().unwrap(), status, &response)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn location(reference: &str) -> Option<String> {
        invalid("http://a.test/b/c/d?q", 200, &[("location", reference)])
            .get(1)
            .cloned()
    }

    #[test]
    fn success_and_redirection_invalidate_the_target() {
        for status in [200, 204, 303] {
            assert_eq!(
                invalid("http://a.test/x?y", status, &[]),
                ["http://a.test/x?y"]
            );
        }
        for status in [400, 404, 500, 599] {
            assert!(invalid("http://a.test/x", status, &[("location", "/y")]).is_empty());
        }
    }

    #[test]
    fn a_response_represents_its_target_only_where_it_says_so() {
        let target: Uri = "http://a.test/b?c".parse().unwrap();
        let represents = |lines: &[&str]| {
            let mut response = HeaderMap::new();
            for line in lines {
                response.append(CONTENT_LOCATION, HeaderValue::from_str(line).unwrap());
            }
            represents_target(&target, &response)
        };
        for same in [
            "/b?c",
            "http://a.test/b?c",
            "http://A.test:80/b?c",
            "?c",
            "b?c",
            "./b?c#d",
        ] {
            assert!(represents(&[same]), "{same}");
        }
        for other in [
            "/b",
            "/b?C",
            "/B?c",
            "https://a.test/b?c",
            "http://b.test/b?c",
            "/b?c/",
        ] {
            assert!(!represents(&[other]), "{other}");
        }
        assert!(!represents(&[]));
        assert!(!represents(&["/b?c", "/b?c"]));
    }

    #[test]
    fn references_are_resolved() {
        for (reference, expected) in [
            ("/x", "/x"),
            ("e", "/b/c/e"),
            ("./e?f#g", "/b/c/e?f"),
            ("../e", "/b/e"),
            ("../../../e", "/e"),
            ("..", "/b/"),
            (".", "/b/c/"),
            ("?z", "/b/c/d?z"),
            ("http://a.test", "/"),
            ("http://a.test?x", "/?x"),
            ("HTTP://A.TEST:80/E", "/E"),
            ("//a.test/e/./f", "/e/f"),
            ("/e?f=../g", "/e?f=../g"),
            ("/a//b", "/a//b"),
            ("e:f/g", ""),
            ("./e:f", "/b/c/e:f"),
        ] {
            let expected = (!expected.is_empty()).then(|| format!("http://a.test{expected}"));
            assert_eq!(location(reference), expected, "{reference}");
        }
        assert_eq!(location(""), None, "the target itself, already there");
    }

    #[test]
    fn other_origins_are_left_alone() {
        for other in [
            "http://b.test/x",
            "https://a.test/x",
            "http://a.test:81/x",
            "//b.test/x",
            "ftp://a.test/x",
            "http://a.test@b.test/x",
            "http:x",
            "http://a.test:x/",
        ] {
            assert_eq!(location(other), None, "{other}");
        }
    }

    #[test]
    fn both_fields_count_once_each() {
        let fields = [
            ("location", "/x"),
            ("content-location", "/x"),
            ("content-location", "/y"),
        ];
        assert_eq!(
            invalid("https://a.test/", 201, &fields),
            ["https://a.test/", "https://a.test/x", "https://a.test/y"]
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_stays_on_the_origin(reference in "[a-z/.:?#@\\[\\]%é ]{0,30}") {
            let target: Uri = "http://a.test/b/c".parse().unwrap();
            if let Some(uri) = resolve(&target, reference.as_bytes()) {
                prop_assert_eq!(uri.authority(), target.authority());
                prop_assert_eq!(uri.scheme(), target.scheme());
            }
        }
    }
}
