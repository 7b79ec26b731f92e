use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// 2026-01-01T00:00:10Z, half a second into it.
const NOW: Timestamp = Timestamp::from_millis(1_767_225_610_500);
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

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

fn rules() -> Rules {
    Rules {
        store_set_cookie: false,
        longest_life: LONGEST,
        targeted: vec![HeaderName::from_static("cdn-cache-control")],
        negative: vec![(StatusCode::NOT_FOUND, Duration::from_secs(10))],
        disconnected: Duration::from_secs(60),
    }
}

fn assess_with(
    method: &Method,
    status: u16,
    request: &[(&str, &str)],
    response: &[(&str, &str)],
    rules: &Rules,
) -> Assessment {
    let exchange = Exchange {
        method,
        request_headers: &map(request),
        status: StatusCode::from_u16(status).unwrap(),
        response_headers: &map(response),
        request_time: NOW,
        response_time: NOW,
    };
    assess(&exchange, rules)
}

fn get(status: u16, response: &[(&str, &str)]) -> Option<Refusal> {
    assess_with(&Method::GET, status, &[], response, &rules()).refusal
}

fn cc(value: &str) -> Option<Refusal> {
    get(200, &[("cache-control", value)])
}

#[test]
fn what_is_fresh_is_stored() {
    assert_eq!(cc("max-age=60"), None);
    assert_eq!(cc("s-maxage=60, max-age=0"), None);
    assert_eq!(cc("max-age=0, stale-while-revalidate=60"), None);
    assert_eq!(
        get(200, &[("expires", "Thu, 01 Jan 2026 00:01:00 GMT")]),
        None
    );
    for status in [
        200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599,
    ] {
        assert_eq!(
            get(status, &[("cache-control", "max-age=60")]),
            None,
            "{status}"
        );
    }
}

#[test]
fn what_could_never_be_reused_is_not() {
    let useless = Some(Refusal::NoFreshness);
    assert_eq!(get(200, &[]), useless);
    assert_eq!(get(200, &[("etag", "\"a\"")]), useless);
    assert_eq!(cc("public"), useless);
    assert_eq!(cc("max-age=0"), useless);
    assert_eq!(cc("max-age=x"), useless);
    assert_eq!(get(200, &[("expires", "0")]), useless);
    assert_eq!(
        get(200, &[("cache-control", "max-age=60"), ("age", "60")]),
        useless
    );
    assert_eq!(cc("no-cache"), Some(Refusal::NoCache));
    assert_eq!(cc("no-cache, max-age=60"), Some(Refusal::NoCache));
}

#[test]
fn a_validator_makes_a_stale_response_worth_storing() {
    for cc in ["max-age=0", "no-cache", "no-cache, max-age=60"] {
        for validator in [
            ("etag", "\"a\""),
            ("last-modified", "Wed, 01 Jan 2025 00:00:00 GMT"),
        ] {
            assert_eq!(
                get(200, &[("cache-control", cc), validator]),
                None,
                "{cc} {validator:?}"
            );
        }
    }
}

#[test]
fn directives_that_forbid() {
    assert_eq!(cc("no-store, max-age=60"), Some(Refusal::NoStore));
    assert_eq!(cc("max-age=60, private"), Some(Refusal::Private));
    assert_eq!(cc("private=\"x\", max-age=60"), Some(Refusal::Private));
    assert_eq!(cc("private"), Some(Refusal::Private), "and not NoFreshness");
}

#[test]
fn must_understand_lifts_no_store_for_known_statuses() {
    let response = [("cache-control", "max-age=60, no-store, must-understand")];
    assert_eq!(get(200, &response), None);
    assert_eq!(get(599, &response), Some(Refusal::MustUnderstand));
    assert_eq!(get(299, &response), Some(Refusal::MustUnderstand));
}

#[test]
fn statuses_that_are_never_stored() {
    for status in [100, 101, 103, 304, 407, 412, 413, 416, 428, 429, 431, 511] {
        let refusal = get(status, &[("cache-control", "public, max-age=60")]);
        assert_eq!(refusal, Some(Refusal::Status), "{status}");
    }
    let partial = [
        ("cache-control", "max-age=60"),
        ("content-range", "bytes 0-1/2"),
    ];
    assert_eq!(get(206, &partial), Some(Refusal::ContentRange));
    assert_eq!(
        get(200, &partial),
        None,
        "Content-Range means nothing there"
    );
}

#[test]
fn only_get_is_stored() {
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        let assessment = assess_with(
            &method,
            200,
            &[],
            &[("cache-control", "max-age=60")],
            &rules(),
        );
        assert_eq!(assessment.refusal, Some(Refusal::Method));
    }
}

#[test]
fn a_request_may_forbid() {
    let assessment = assess_with(
        &Method::GET,
        200,
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=60")],
        &rules(),
    );
    assert_eq!(assessment.refusal, Some(Refusal::RequestNoStore));
}

#[test]
fn authorization_needs_permission() {
    let with = |cc| {
        let request = [("authorization", "Basic eDp5")];
        assess_with(
            &Method::GET,
            200,
            &request,
            &[("cache-control", cc)],
            &rules(),
        )
        .refusal
    };
    for cc in [
        "max-age=60, public",
        "max-age=60, must-revalidate",
        "s-maxage=60",
    ] {
        assert_eq!(with(cc), None, "{cc}");
    }
    for cc in [
        "max-age=60",
        "max-age=60, s-maxage=x",
        "max-age=60, proxy-revalidate",
        "public=1, max-age=60",
        "max-age=60, must-revalidate, x=\"open",
    ] {
        assert_eq!(with(cc), Some(Refusal::Authorization), "{cc}");
    }
}

#[test]
fn errors_without_a_lifetime_get_the_operators() {
    let kept = |status, response: &[(&str, &str)]| {
        let found = assess_with(&Method::GET, status, &[], response, &rules());
        (found.refusal, found.freshness.lifetime.as_secs())
    };
    assert_eq!(kept(404, &[]), (None, 10));
    assert_eq!(kept(410, &[]), (Some(Refusal::NoFreshness), 0));
    // What the origin says comes first.
    assert_eq!(kept(404, &[("cache-control", "max-age=3")]), (None, 3));
    assert_eq!(
        kept(404, &[("cache-control", "max-age=0")]).0,
        Some(Refusal::NoFreshness)
    );
    for protected in [
        ("cache-control", "private"),
        ("set-cookie", "a=b"),
        ("vary", "*"),
    ] {
        assert!(
            kept(404, &[protected])
                .0
                .is_some_and(Refusal::protects_users)
        );
    }
    // It begins when the error arrives, whatever age it brings.
    let aged = assess_with(&Method::GET, 404, &[], &[("age", "50")], &rules()).freshness;
    assert_eq!(aged.ttl_secs(aged.received), 10);
}

#[test]
fn cookies_are_stored_only_when_told_and_explicitly_fresh() {
    let response = [("set-cookie", "a=b"), ("cache-control", "max-age=60")];
    assert_eq!(get(200, &response), Some(Refusal::SetCookie));
    let rules = Rules {
        store_set_cookie: true,
        ..rules()
    };
    let told = |response| assess_with(&Method::GET, 200, &[], response, &rules).refusal;
    assert_eq!(told(&response), None);
    let guessed = [
        ("set-cookie", "a=b"),
        ("last-modified", "Wed, 01 Jan 2025 00:00:00 GMT"),
    ];
    assert_eq!(told(&guessed), Some(Refusal::SetCookie));
}

#[test]
fn vary_star_is_not_stored() {
    let response = [
        ("vary", "foo"),
        ("vary", ", *"),
        ("cache-control", "max-age=60"),
    ];
    assert_eq!(get(200, &response), Some(Refusal::VaryStar));
}

#[test]
fn a_targeted_field_replaces_cache_control_and_expires() {
    let with = |cdn, rest: &[(&str, &str)]| {
        let mut response = vec![("cdn-cache-control", cdn)];
        response.extend_from_slice(rest);
        get(200, &response)
    };
    assert_eq!(with("max-age=60", &[("cache-control", "no-store")]), None);
    assert_eq!(with("max-age=60", &[("expires", "0")]), None);
    let fresh = [
        ("cache-control", "max-age=60"),
        ("expires", "Thu, 01 Jan 2026 00:01:00 GMT"),
    ];
    assert_eq!(with("private", &fresh), Some(Refusal::Private));
    assert_eq!(with("no-store", &fresh), Some(Refusal::NoStore));
    assert_eq!(with("no-cache", &fresh), Some(Refusal::NoCache));
    assert_eq!(with("max-age=0", &fresh), Some(Refusal::NoFreshness));
    assert_eq!(
        with("foo", &fresh),
        Some(Refusal::NoFreshness),
        "Expires has no say"
    );
    for invalid in ["max-age=10000, &&&&&", "max-age=\"10000\"", ""] {
        let refusal = with(invalid, &[("cache-control", "no-store")]);
        assert_eq!(refusal, Some(Refusal::NoStore), "{invalid}");
    }
}

#[test]
fn only_what_protects_nobody_may_be_overridden() {
    assert!(!Refusal::NoFreshness.protects_users() && !Refusal::NoCache.protects_users());
    for refusal in [
        Refusal::NoStore,
        Refusal::Private,
        Refusal::Authorization,
        Refusal::SetCookie,
        Refusal::VaryStar,
        Refusal::ContentRange,
        Refusal::Status,
        Refusal::Method,
        Refusal::RequestNoStore,
        Refusal::MustUnderstand,
    ] {
        assert!(refusal.protects_users(), "{refusal:?}");
    }
}

proptest! {
    #[test]
    fn nothing_private_is_ever_stored(
        before in "[a-z0-9, ;-]{0,20}", after in "[a-z0-9=\", ;-]{0,20}",
        word in "private|no-store|Private|NO-STORE", status in 100u16..600,
    ) {
        let line = format!("{before},{word},{after}, max-age=60, public");
        prop_assert!(get(status, &[("cache-control", &line)]).is_some_and(Refusal::protects_users));
    }

    #[test]
    fn any_fields_are_assessed(fields in proptest::collection::vec(
        ("cache-control|cdn-cache-control|age|date|expires|last-modified|vary|etag", proptest::collection::vec(any::<u8>(), 0..40)), 0..8,
    ), received: u64, sent: u64, status in 100u16..1000) {
        let mut response = HeaderMap::new();
        for (name, value) in &fields {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                response.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
        }
        let exchange = Exchange {
            method: &Method::GET,
            request_headers: &HeaderMap::new(),
            status: StatusCode::from_u16(status).unwrap(),
            response_headers: &response,
            request_time: Timestamp::from_millis(sent),
            response_time: Timestamp::from_millis(received),
        };
        let freshness = assess(&exchange, &rules()).freshness;
        prop_assert!(freshness.retain_until() <= freshness.received + LONGEST);
    }
}

#[test]
fn an_override_lifts_its_own_refusal_and_no_other() {
    let request = map(&[("authorization", "Bearer a")]);
    let response = map(&[
        ("cache-control", "private, max-age=60"),
        ("set-cookie", "a=b"),
    ]);
    let exchange = Exchange {
        method: &Method::GET,
        request_headers: &request,
        status: StatusCode::OK,
        response_headers: &response,
        request_time: NOW,
        response_time: NOW,
    };
    let refusal = |overrides| assess_overridden(&exchange, &rules(), overrides).refusal;
    let none = Overrides::default();
    let private = Overrides {
        private: true,
        ..none
    };
    let and_authorization = Overrides {
        authorization: true,
        ..private
    };
    let all = Overrides {
        set_cookie: true,
        ..and_authorization
    };
    assert_eq!(refusal(none), Some(Refusal::Private));
    assert_eq!(refusal(private), Some(Refusal::Authorization));
    assert_eq!(refusal(and_authorization), Some(Refusal::SetCookie));
    assert_eq!(refusal(all), None);

    let forbidden = map(&[("cache-control", "private, no-store")]);
    let exchange = Exchange {
        response_headers: &forbidden,
        ..exchange
    };
    let refusal = assess_overridden(&exchange, &rules(), all).refusal;
    assert_eq!(refusal, Some(Refusal::NoStore));
}
