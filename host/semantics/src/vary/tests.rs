use http::HeaderValue;
use proptest::prelude::*;

use super::*;

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

fn names(rule: &VaryRule) -> Vec<&str> {
    match rule {
        VaryRule::Star => vec!["*"],
        VaryRule::Fields(fields) => fields.names().iter().map(HeaderName::as_str).collect(),
    }
}

/// Does the variant that `first` selected answer `second`?
fn same(vary: &str, first: &[(&str, &str)], second: &[(&str, &str)]) -> bool {
    let rule = VaryRule::parse(&map(&[("vary", vary)]));
    rule.select(&map(first)).unwrap().matches(&map(second))
}

#[test]
fn names_are_sorted_and_unique() {
    let rule = VaryRule::parse(&map(&[
        ("vary", "Foo, ,bar"),
        ("vary", "FOO"),
        ("vary", ""),
    ]));
    assert_eq!(names(&rule), ["bar", "foo"]);
    assert_eq!(names(&VaryRule::parse(&HeaderMap::new())), [""; 0]);
}

#[test]
fn a_star_anywhere_is_a_star() {
    for lines in [
        &["*"][..],
        &["*, *"],
        &["*", "*"],
        &[", *"],
        &["", "*"],
        &["*, Foo"],
        &["Foo, *"],
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
        assert_eq!(VaryRule::parse(&map(&fields)), VaryRule::Star, "{lines:?}");
    }
    assert_eq!(VaryRule::Star.select(&HeaderMap::new()), None);
}

#[test]
fn what_cannot_be_read_is_a_star() {
    let many: Vec<_> = (0..=MOST_FIELDS).map(|at| format!("f{at}")).collect();
    for line in ["foo bar", "foo;bar", "\u{e9}", &many.join(",")] {
        assert_eq!(
            VaryRule::parse(&map(&[("vary", line)])),
            VaryRule::Star,
            "{line}"
        );
    }
}

#[test]
fn lists_are_compared_member_by_member() {
    assert!(same(
        "Foo",
        &[("foo", "1, 2")],
        &[("foo", "1"), ("foo", "2")]
    ));
    assert!(same("Foo", &[("foo", "1,2")], &[("foo", " 1 ,  2 ")]));
    assert!(!same("Foo", &[("foo", "1")], &[("foo", "2")]));
    assert!(!same("Foo", &[("foo", "1")], &[("foo", "1, 2")]));
    assert!(!same("Foo", &[("foo", "1, 2")], &[("foo", "1")]));
    assert!(!same("Foo", &[("foo", "1")], &[]));
    assert!(!same("Foo", &[], &[("foo", "1")]));
    assert!(!same("Foo", &[], &[("foo", "")]), "absent is not empty");
    assert!(same("Foo", &[], &[("other", "1")]));
    assert!(
        !same("Foo", &[("foo", "\"a,b\"")], &[("foo", "\"a, b\"")]),
        "quoted"
    );
    assert!(!same(
        "Foo, Bar",
        &[("foo", "1"), ("bar", "2")],
        &[("foo", "1"), ("bar", "3")]
    ));
}

#[test]
fn credentials_are_compared_as_they_are() {
    assert!(!same(
        "Cookie",
        &[("cookie", "a=1,b")],
        &[("cookie", "a=1, b")]
    ));
    assert!(!same(
        "Authorization",
        &[("authorization", "a ,b")],
        &[("authorization", "a,b")]
    ));
    assert!(same("Cookie", &[("cookie", "a=1")], &[("cookie", "a=1")]));
}

#[test]
fn languages_are_a_weighted_set() {
    let german = [("accept-language", "en, de")];
    assert!(same(
        "Accept-Language",
        &german,
        &[("accept-language", " eN ,   De")]
    ));
    assert!(same(
        "Accept-Language",
        &german,
        &[("accept-language", "en"), ("accept-language", "de")]
    ));
    assert!(!same(
        "Accept-Language",
        &german,
        &[("accept-language", "en, fr")]
    ));
}

#[test]
fn languages_keep_their_weights() {
    let same = |one: &'static str, other: &'static str| {
        same(
            "Accept-Language",
            &[("accept-language", one)],
            &[("accept-language", other)],
        )
    };
    assert!(same("de;q=0.5, en", "EN;q=1.000,de; q=0.50,en"));
    assert!(!same("de;q=0.5, en", "de, en;q=0.5"));
    assert!(!same("de;q=0.05, en", "de;q=0.5, en"));
    assert!(!same("en;q=0", "en"));
    // What cannot be read is compared as it came.
    assert!(same("en;q=2, de", "EN;q=2,de"));
    assert!(!same("en;q=2, de", "de, en;q=2"));
    assert!(!same("en, en;q=0.5", "en;q=0.5, en"));
}

#[test]
fn a_response_in_the_first_choice_of_a_request_answers_it() {
    let response = map(&[("vary", "accept-language"), ("content-language", "De")]);
    let key = VaryRule::parse(&response)
        .select(&map(&[("accept-language", "en, de")]))
        .unwrap();
    let answers = |line: &'static str| key.matches(&map(&[("accept-language", line)]));
    for first in ["de, en", "fr;q=0.5, de;q=1.0", "DE", "de, *;q=0.1"] {
        assert!(answers(first), "{first}");
    }
    for other in [
        "de, fr",
        "fr, de;q=0.9",
        "de-AT",
        "en",
        "*",
        "de;q=0",
        "de;q=x",
        "",
    ] {
        assert!(!answers(other), "{other}");
    }
    assert!(!key.matches(&HeaderMap::new()));
    for several in ["de, en", "*", "de;q=1", ""] {
        let response = map(&[("vary", "accept-language"), ("content-language", several)]);
        let key = VaryRule::parse(&response)
            .select(&map(&[("accept-language", "en, de")]))
            .unwrap();
        assert!(
            !key.matches(&map(&[("accept-language", "de")])),
            "{several}"
        );
    }
}

#[test]
fn codings_are_a_set() {
    let normal = |line: &str| {
        let key = VaryRule::parse(&map(&[("vary", "accept-encoding")]))
            .select(&map(&[("accept-encoding", line)]))
            .unwrap();
        let value = key.iter().next().unwrap().1.unwrap().to_vec();
        String::from_utf8(value).unwrap()
    };
    assert_eq!(
        normal("gzip, deflate, br;q=0.5, zstd"),
        "br,gzip,identity,zstd"
    );
    assert_eq!(normal(""), "identity");
    assert_eq!(normal("X-GZip ; q=1.000"), "gzip,identity");
    assert_eq!(normal("x-gzip, gzip, sdch"), "gzip,identity");
    assert_eq!(
        normal("br;q=0, *;q=0.1"),
        "dcb,dcz,gzip,identity,zstd",
        "all that is not named"
    );
    assert_eq!(normal("gzip, *;q=0"), "gzip");
    assert_eq!(normal("identity;q=0.000, gzip"), "gzip");
    assert_eq!(normal("*;q=0"), "");
    // What cannot be read is not taken to be acceptable.
    for odd in [
        "gzip;q=2",
        "gzip;level=1",
        "gzip, gzip;q=0",
        "gzip br",
        "gzip;q=0.1234",
        ";q=1",
        "*;q=x",
        "identity;q=x",
    ] {
        assert_eq!(normal(odd), "identity", "{odd}");
    }
}

#[test]
fn a_coding_is_served_only_to_those_who_take_it() {
    let stored = |vary: &str, coding: &str, asked: &str| {
        let response = map(&[("vary", vary), ("content-encoding", coding)]);
        let request = map(&[("accept-encoding", asked)]);
        VaryRule::parse(&response).select(&request).unwrap()
    };
    let accepts = |line: &str| map(&[("accept-encoding", line)]);
    // No word of it in Vary.
    let br = stored("", "br", "gzip, br");
    assert!(br.is_empty() && br.codings() == Some(b"br"));
    for (line, takes) in [
        ("br", true),
        ("BR;q=0.1, gzip", true),
        ("*", true),
        ("gzip", false),
        ("br;q=0", false),
        ("*;q=0", false),
        ("identity", false),
        ("", false),
    ] {
        assert_eq!(br.matches(&accepts(line)), takes, "{line:?}");
    }
    assert!(br.matches(&HeaderMap::new()), "no field takes everything");
    // An origin that sent what was not asked for, though it says that it varies.
    let unasked = stored("Accept-Encoding", "br", "gzip");
    assert!(!unasked.matches(&accepts("gzip")));
    // A coding by which variants are not told apart.
    let deflate = stored("Accept-Encoding", "deflate", "deflate, gzip");
    assert!(deflate.matches(&accepts("gzip, deflate")));
    assert!(!deflate.matches(&accepts("gzip")));
    // All of several; whoever selected the variant takes what Vary's field says.
    let both = stored("", "x-gzip, br", "*");
    assert_eq!(both.codings(), Some(&b"gzip,br"[..]));
    assert!(both.matches(&accepts("br, gzip")) && !both.matches(&accepts("br")));
    assert_eq!(stored("Accept-Encoding", "gzip", "gzip").codings(), None);
    // What nobody registered, nobody refuses.
    for odd in ["identity", "utf-8", "", "a b"] {
        assert_eq!(stored("", odd, "gzip"), VaryKey::default(), "{odd:?}");
    }
    let reserved = map(&[("vary", "Weir-Content-Codings")]);
    assert_eq!(VaryRule::parse(&reserved), VaryRule::Star);
}

#[test]
fn parts_make_the_same_key() {
    let key = VaryRule::parse(&map(&[("vary", "b, z, a"), ("content-encoding", "br")]))
        .select(&map(&[("a", "1")]))
        .unwrap();
    let parts = key
        .iter()
        .map(|(name, value)| (name.clone(), value.map(Box::from)));
    assert_eq!(
        VaryKey::from_parts(parts.collect::<Vec<_>>().into_iter().rev()),
        key
    );
    assert!(key.weight() > 3);
}

proptest! {
    #[test]
    fn requests_match_exactly_when_their_keys_are_equal(
        first in proptest::collection::vec(("a|cookie|accept-encoding|accept-language", "[ab,\" ]{0,4}|gzip|br;q=0|gzip, br|deflate"), 0..4),
        second in proptest::collection::vec(("a|cookie|accept-encoding|accept-language", "[ab,\" ]{0,4}|gzip|br;q=0|gzip, br|deflate"), 0..4),
        coding in "gzip|deflate",
    ) {
        let lines = |fields: &[(String, String)]| {
            map(&fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>())
        };
        let (first, second) = (lines(&first), lines(&second));
        let response = map(&[("vary", "a, cookie, accept-encoding, accept-language"), ("content-encoding", &coding)]);
        let rule = VaryRule::parse(&response);
        let (one, other) = (rule.select(&first).unwrap(), rule.select(&second).unwrap());
        let takes = |request: &HeaderMap| {
            AcceptEncoding::parse(request).is_none_or(|it| it.takes(coding.as_bytes()))
        };
        prop_assert_eq!(one.matches(&first), takes(&first));
        prop_assert_eq!(one.matches(&second), one == other && takes(&second));
    }

    #[test]
    fn any_bytes_normalise(value in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            for name in ["vary", "accept-encoding", "accept-language", "cookie", "a"] {
                let mut request = HeaderMap::new();
                request.insert(HeaderName::from_static(name), value.clone());
                let _ = VaryRule::parse(&request);
                let rule = VaryRule::parse(&map(&[("vary", name)]));
                prop_assert!(rule.select(&request).unwrap().matches(&request));
            }
        }
    }
}
