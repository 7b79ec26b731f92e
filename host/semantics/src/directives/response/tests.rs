use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn parse(lines: &[&str]) -> ResponseDirectives {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(
            CACHE_CONTROL,
            HeaderValue::from_bytes(line.as_bytes()).unwrap(),
        );
    }
    ResponseDirectives::parse(&headers, &[])
}

fn max_age(line: &str) -> Option<u64> {
    parse(&[line]).max_age.map(|lifetime| lifetime.as_secs())
}

#[test]
fn reads_every_directive_in_any_case() {
    let parsed = parse(&[
        "No-StOrE, private=\"a, b\", NO-CACHE=\"set-cookie\", must-revalidate, proxy-revalidate",
        "public, must-understand, immutable, MaX-aGe=1, s-maxage=\"2\"",
        "stale-while-revalidate=3, stale-if-error=4, unknown, extension=5",
    ]);
    let secs = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(
        parsed,
        ResponseDirectives {
            no_store: true,
            private: true,
            no_cache: true,
            must_revalidate: true,
            proxy_revalidate: true,
            public: true,
            must_understand: true,
            immutable: true,
            max_age: secs(1),
            s_maxage: secs(2),
            stale_while_revalidate: secs(3),
            stale_if_error: secs(4),
            targeted: false,
            malformed: false,
        }
    );
}

#[test]
fn an_invalid_lifetime_is_zero() {
    for line in [
        "max-age",
        "max-age=",
        "max-age=-3600",
        "max-age='3600'",
        "max-age=3600.0",
        "max-age=a1",
        "max-age=1a",
        "max-age =3600",
        "max-age= 3600",
        "max-age=3600 foo",
        "max-age=\"36\"00",
        "max-age=\"\"",
        "max-age=1, max-age=x",
        "max-age=3600;foo",
    ] {
        assert_eq!(max_age(line), Some(0), "{line}");
    }
}

#[test]
fn valid_lifetimes() {
    assert_eq!(max_age("max-age=003600"), Some(3600));
    assert_eq!(max_age("max-age=\"3600\""), Some(3600));
    assert_eq!(max_age("max-age=99999999999"), Some(1 << 31));
    assert_eq!(max_age("max-age=1800, max-age=1"), Some(1));
    assert_eq!(max_age("max-age=1, max-age=1800"), Some(1));
    assert_eq!(max_age("public"), None);
}

#[test]
fn quoted_strings_hide_their_inside() {
    assert_eq!(max_age("extension=\"max-age=3600\", max-age=1"), Some(1));
    assert_eq!(max_age("max-age=1, extension=\"max-age=3600\""), Some(1));
    assert!(!parse(&["a=\"private, no-store\""]).private);
}

#[test]
fn a_restriction_is_honoured_however_it_is_written() {
    for line in [
        "private; max-age=60",
        "max-age=60; private",
        "max-age=60 private",
        "ext=\"open, private",
        "community=\"UCI\" private",
        "private =x",
        ", ,private,",
    ] {
        assert!(parse(&[line]).private, "{line}");
    }
}

#[test]
fn an_open_quote_takes_away_all_permission() {
    let parsed = parse(&["public, s-maxage=60, max-age=60, ext=\"open"]);
    assert!(parsed.malformed && !parsed.public);
    assert_eq!(parsed.s_maxage, None);
    assert_eq!(parsed.max_age, Some(Duration::ZERO));
}

proptest! {
    #[test]
    fn any_bytes_parse(line in proptest::collection::vec(any::<u8>(), 0..120)) {
        if let Ok(value) = HeaderValue::from_bytes(&line) {
            let mut headers = HeaderMap::new();
            headers.append(CACHE_CONTROL, value.clone());
            headers.append("cdn-cache-control", value);
            ResponseDirectives::parse(&headers, &[]);
            ResponseDirectives::parse(&headers, &[HeaderName::from_static("cdn-cache-control")]);
        }
    }

    #[test]
    fn appending_no_store_always_forbids(line in "[a-z0-9=\", ;\\\\-]{0,40}") {
        prop_assert!(parse(&[&line, "no-store"]).no_store);
    }
}
