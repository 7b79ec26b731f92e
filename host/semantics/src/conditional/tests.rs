use http::HeaderValue;
use proptest::prelude::*;

use super::*;

const OLD: &str = "Thu, 01 Jan 2026 00:00:00 GMT";
const NEW: &str = "Thu, 01 Jan 2026 01:00:00 GMT";

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

fn ask(request: &[(&str, &str)], stored: &[(&str, &str)]) -> Condition {
    evaluate(&map(request), StatusCode::OK, &map(stored))
}

#[test]
fn entity_tags_are_compared_weakly() {
    for (given, etag) in [
        ("\"a\"", "\"a\""),
        ("W/\"a\"", "\"a\""),
        ("\"a\"", "W/\"a\""),
        ("*", "\"a\""),
        ("\"x\", \"a\", \"y\"", "\"a\""),
        ("\"x,y\" , \"a\"", "\"a\""),
        ("\"\\\", \"a\"", "\"a\""),
        ("\"ü\"", "\"ü\""),
        ("a", "a"),
        ("w/\"a\"", "w/\"a\""),
    ] {
        assert_eq!(
            ask(&[("if-none-match", given)], &[("etag", etag)]),
            Condition::NotModified,
            "{given}"
        );
    }
    for (given, etag) in [
        ("\"b\"", "\"a\""),
        ("a", "\"a\""),
        ("\"a\"", "a"),
        ("\"x, \"a\"\"", "\"a\""),
        ("", "\"a\""),
    ] {
        assert_eq!(
            ask(&[("if-none-match", given)], &[("etag", etag)]),
            Condition::Full,
            "{given}"
        );
    }
    let lines = [("if-none-match", "\"x\""), ("if-none-match", "\"a\"")];
    assert_eq!(ask(&lines, &[("etag", "\"a\"")]), Condition::NotModified);
}

#[test]
fn if_none_match_wins_over_if_modified_since() {
    let stored = [("etag", "\"a\""), ("last-modified", OLD)];
    let request = |etag| [("if-none-match", etag), ("if-modified-since", OLD)];
    assert_eq!(ask(&request("\"b\""), &stored), Condition::Full);
    let request = [
        ("if-none-match", "\"a\""),
        ("if-modified-since", "Wed, 01 Jan 2025 00:00:00 GMT"),
    ];
    assert_eq!(ask(&request, &stored), Condition::NotModified);
}

#[test]
fn dates_are_compared() {
    let since = |date| [("if-modified-since", date)];
    assert_eq!(
        ask(&since(OLD), &[("last-modified", OLD)]),
        Condition::NotModified
    );
    assert_eq!(
        ask(&since(NEW), &[("last-modified", OLD)]),
        Condition::NotModified
    );
    assert_eq!(ask(&since(OLD), &[("last-modified", NEW)]), Condition::Full);
    assert_eq!(
        ask(
            &since("Thursday, 01-Jan-26 00:00:00 GMT"),
            &[("last-modified", OLD)]
        ),
        Condition::NotModified
    );
    assert_eq!(ask(&since(OLD), &[("date", NEW)]), Condition::Full);
    assert_eq!(ask(&since(NEW), &[("date", OLD)]), Condition::NotModified);
    assert_eq!(ask(&since(NEW), &[]), Condition::Full);
    assert_eq!(
        ask(&since("foo"), &[("last-modified", OLD)]),
        Condition::Full
    );
}

#[test]
fn preconditions_can_fail() {
    let stored = [("etag", "\"a\""), ("last-modified", NEW)];
    for request in [
        ("if-match", "\"b\""),
        ("if-match", "W/\"a\""),
        ("if-unmodified-since", OLD),
    ] {
        assert_eq!(
            ask(&[request], &stored),
            Condition::PreconditionFailed,
            "{request:?}"
        );
    }
    for request in [
        ("if-match", "\"a\""),
        ("if-match", "*"),
        ("if-unmodified-since", NEW),
    ] {
        assert_eq!(ask(&[request], &stored), Condition::Full, "{request:?}");
    }
    let both = [("if-match", "\"a\""), ("if-unmodified-since", OLD)];
    assert_eq!(ask(&both, &stored), Condition::Full, "If-Match wins");
}

#[test]
fn only_success_has_conditions() {
    let request = map(&[("if-none-match", "\"a\"")]);
    let condition = evaluate(&request, StatusCode::NOT_FOUND, &map(&[("etag", "\"a\"")]));
    assert_eq!(condition, Condition::Full);
}

#[test]
fn a_validation_says_all_it_can() {
    let stored = map(&[("etag", "W/\"a\""), ("last-modified", OLD)]);
    assert_eq!(
        conditional_headers(&stored),
        map(&[("if-none-match", "W/\"a\""), ("if-modified-since", OLD)])
    );
    assert!(conditional_headers(&map(&[("etag", ""), ("last-modified", "x")])).is_empty());
    let mut request = map(&[
        ("range", "bytes=0-"),
        ("if-range", "x"),
        ("if-none-match", "\"c\""),
        ("a", "1"),
    ]);
    strip_conditions(&mut request);
    assert_eq!(request, map(&[("a", "1")]));
}

#[test]
fn a_304_about_something_else_is_told_apart() {
    let stored = map(&[("etag", "\"a\""), ("last-modified", OLD)]);
    assert!(validates(&stored, &map(&[])));
    assert!(validates(
        &stored,
        &map(&[("etag", "W/\"a\""), ("last-modified", NEW)])
    ));
    assert!(validates(&stored, &map(&[("last-modified", OLD)])));
    assert!(!validates(&stored, &map(&[("etag", "\"b\"")])));
    assert!(!validates(&stored, &map(&[("last-modified", NEW)])));
    assert!(!validates(&map(&[]), &map(&[("etag", "\"a\"")])));
}

#[test]
fn a_head_agrees_with_what_it_describes() {
    let stored = map(&[("etag", "\"a\"")]);
    assert!(head_agrees(
        &stored,
        &map(&[("etag", "\"a\""), ("content-length", "3")]),
        3
    ));
    assert!(!head_agrees(
        &stored,
        &map(&[("etag", "\"a\""), ("content-length", "4")]),
        3
    ));
    assert!(!head_agrees(&stored, &map(&[("etag", "\"b\"")]), 3));
    assert!(!head_agrees(&stored, &map(&[]), 3), "nothing to go by");
}

#[test]
fn a_304_updates_what_it_may() {
    let stored = map(&[
        ("etag", "\"a\""),
        ("content-length", "36"),
        ("content-type", "text/plain"),
        ("age", "100"),
        ("date", OLD),
        ("cache-control", "max-age=1"),
        ("x", "1"),
        ("x", "2"),
        ("kept", "1"),
    ]);
    let update = map(&[
        ("etag", "\"b\""),
        ("content-length", "10"),
        ("content-type", "x/y"),
        ("transfer-encoding", "chunked"),
        ("cache-control", "max-age=9"),
        ("x", "3"),
        ("set-cookie", "a=b"),
        ("connection", "hop"),
        ("hop", "1"),
        ("keep-alive", "1"),
        ("content-foo", "1"),
        ("last-modified", OLD),
        ("content-encoding", "br"),
    ]);
    let expected = map(&[
        ("etag", "\"a\""),
        ("content-length", "36"),
        ("content-type", "text/plain"),
        ("cache-control", "max-age=9"),
        ("x", "3"),
        ("kept", "1"),
        ("content-foo", "1"),
        ("last-modified", OLD),
    ]);
    assert_eq!(freshen(&stored, &update), expected);
    let timed = freshen(&stored, &map(&[("age", "3"), ("date", NEW)]));
    assert_eq!(
        (&timed["age"], &timed["date"]),
        (&"3".parse().unwrap(), &NEW.parse().unwrap())
    );
}

#[test]
fn a_304_carries_no_content_fields() {
    let mut headers = map(&[
        ("content-length", "1"),
        ("content-type", "a/b"),
        ("etag", "\"a\""),
        ("vary", "a"),
    ]);
    strip_content_fields(&mut headers);
    assert_eq!(headers, map(&[("etag", "\"a\""), ("vary", "a")]));
}

proptest! {
    #[test]
    fn freshening_never_changes_framing_or_validators(
        stored in proptest::collection::vec(("etag|last-modified|content-[a-z]{4,8}|set-cookie|[a-c]", "[a-z]{0,3}"), 0..8),
        update in proptest::collection::vec(("etag|last-modified|content-[a-z]{4,8}|content-length|content-encoding|content-type|content-range|transfer-encoding|connection|set-cookie|[a-c]", "[a-z]{0,3}|content-length|etag"), 0..8),
    ) {
        let lines = |fields: &[(String, String)]| {
            map(&fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>())
        };
        let (mut stored, update) = (lines(&stored), lines(&update));
        hop::strip_hop_by_hop(&mut stored);
        let fresh = freshen(&stored, &update);
        let all = |map: &HeaderMap, name: &HeaderName| map.get_all(name).iter().cloned().collect::<Vec<_>>();
        for name in [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, TRANSFER_ENCODING, SET_COOKIE] {
            prop_assert_eq!(all(&fresh, &name), all(&stored, &name));
        }
        for name in [ETAG, LAST_MODIFIED] {
            prop_assert!(!stored.contains_key(&name) || all(&fresh, &name) == all(&stored, &name));
        }
        prop_assert!(stored.keys().all(|name| fresh.contains_key(name)));
        prop_assert!(!fresh.contains_key(http::header::CONNECTION));
    }
}
