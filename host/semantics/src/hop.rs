//! Fields that concern one connection only: RFC 9110 section 7.6.1, RFC 9111 section 3.1.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE},
};
use smallvec::SmallVec;

const HOP_BY_HOP: [HeaderName; 9] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// End-to-end whatever a Connection field says. Without this list a client could take
/// from its request, or a broken origin from its response, what others decide by.
const PROTECTED: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "cache-tag",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "host",
    "last-modified",
    "location",
    "origin",
    "pragma",
    "range",
    "referer",
    "set-cookie",
    "surrogate-key",
    "trailer",
    "true-client-ip",
    "user-agent",
    "vary",
    "via",
];
const PROTECTED_PREFIXES: &[&str] = &[
    "accept",
    "content-",
    "if-",
    "sec-",
    "traceparent",
    "tracestate",
    "x-client-",
    "x-forwarded-",
    "x-original-",
    "x-real-",
];
const PROTECTED_SUFFIXES: &[&str] = &["-cache-control"];

/// Removes what concerns the connection that the message came by: the fields known as
/// such, and those that Connection names, end-to-end fields excepted. Needed in both
/// directions, and before a response is stored.
///
/// Framing is the business of the HTTP library: Content-Length and Trailer stay.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages on kept connections have none or one; looking is cheaper than removing.
    let found: SmallVec<[HeaderName; 4]> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name))
        .cloned()
        .collect();
    if found.is_empty() {
        return;
    }
    let nominations: SmallVec<[HeaderValue; 2]> =
        headers.get_all(CONNECTION).iter().cloned().collect();
    for line in &nominations {
        for name in line.as_bytes().split(|&byte| byte == b',') {
            // A name that is no name cannot be in the map.
            if let Ok(name) = std::str::from_utf8(name.trim_ascii())
                && !is_protected(name)
            {
                headers.remove(name);
            }
        }
    }
    for name in found {
        headers.remove(name);
    }
}

pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    // Most names are told apart by their length.
    matches!(name.as_str().len(), 2 | 7 | 10 | 16..=19 | 25) && HOP_BY_HOP.contains(name)
}

fn is_protected(name: &str) -> bool {
    let (name, len) = (name.as_bytes(), name.len());
    let starts = |prefix: &&str| {
        name.get(..prefix.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    let ends = |suffix: &&str| {
        len.checked_sub(suffix.len())
            .is_some_and(|at| name[at..].eq_ignore_ascii_case(suffix.as_bytes()))
    };
    PROTECTED
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
        || PROTECTED_PREFIXES.iter().any(starts)
        || PROTECTED_SUFFIXES.iter().any(ends)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_bytes(value.as_bytes()).unwrap(),
                )
            })
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    #[test]
    fn every_hop_by_hop_field_goes_and_the_others_stay() {
        let mut map = headers(&[
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
            ("content-length", "4"),
            ("trailer", "x"),
        ]);
        for name in &HOP_BY_HOP {
            map.append(name, HeaderValue::from_static("x"));
        }
        map.append(CONNECTION, HeaderValue::from_static(" A, ,b,close"));
        strip_hop_by_hop(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["c", "content-length", "trailer"]);
    }

    #[test]
    fn end_to_end_fields_cannot_be_nominated() {
        let names = [
            "host",
            "authorization",
            "cache-control",
            "cookie",
            "x-forwarded-for",
            "forwarded",
            "range",
            "if-none-match",
            "vary",
            "set-cookie",
            "content-length",
            "cdn-cache-control",
            "accept-encoding",
            "x-real-ip",
        ];
        let fields: Vec<_> = names.iter().map(|name| (*name, "1")).collect();
        let mut map = headers(&fields);
        map.append(
            CONNECTION,
            HeaderValue::from_str(&names.join(", ").to_uppercase()).unwrap(),
        );
        strip_hop_by_hop(&mut map);
        assert_eq!(map.len(), names.len());
    }

    proptest! {
        #[test]
        fn stripping_is_idempotent(
            fields in proptest::collection::vec(("[a-d]|te|upgrade|host|connection", "[a-d, ]{0,8}|host"), 0..12),
        ) {
            let mut map = HeaderMap::new();
            for (name, value) in &fields {
                map.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            strip_hop_by_hop(&mut map);
            let once = map.clone();
            strip_hop_by_hop(&mut map);
            prop_assert_eq!(once, map);
        }
    }
}
