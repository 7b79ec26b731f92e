use http::{HeaderName, HeaderValue, Method};
use proptest::prelude::*;

use super::*;

/// 2026-01-01T00:00:10Z, half a second into it.
const NOW: Timestamp = Timestamp::from_millis(1_767_225_610_500);
const DATE_NOW: (&str, &str) = ("date", "Thu, 01 Jan 2026 00:00:10 GMT");
const DAY: u64 = 86_400;

fn compute(status: u16, delay: Duration, fields: &[(&str, &str)]) -> Freshness {
    let mut response = HeaderMap::new();
    for (name, value) in fields {
        response.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    let exchange = Exchange {
        method: &Method::GET,
        request_headers: &HeaderMap::new(),
        status: StatusCode::from_u16(status).unwrap(),
        response_headers: &response,
        request_time: NOW - delay,
        response_time: NOW,
    };
    let rules = Rules {
        store_set_cookie: false,
        longest_life: Duration::from_secs(10_000 * DAY),
        targeted: vec![],
        negative: vec![],
        disconnected: Duration::ZERO,
    };
    Freshness::compute(
        &exchange,
        &ResponseDirectives::parse(&response, &[]),
        &rules,
    )
    .0
}

fn of(fields: &[(&str, &str)]) -> Freshness {
    compute(200, Duration::ZERO, fields)
}

fn lifetime(fields: &[(&str, &str)]) -> u64 {
    of(fields).lifetime.as_secs()
}

fn age(fields: &[(&str, &str)]) -> u64 {
    of(fields).initial_age.as_secs()
}

#[test]
fn sources_in_their_order() {
    let expires = ("expires", "Thu, 01 Jan 2026 00:01:10 GMT");
    let modified = ("last-modified", "Wed, 31 Dec 2025 23:00:10 GMT");
    assert_eq!(
        lifetime(&[
            ("cache-control", "s-maxage=1, max-age=2"),
            DATE_NOW,
            expires
        ]),
        1
    );
    assert_eq!(
        lifetime(&[("cache-control", "max-age=2"), DATE_NOW, expires, modified]),
        2
    );
    assert_eq!(lifetime(&[DATE_NOW, expires, modified]), 60);
    assert_eq!(lifetime(&[DATE_NOW, modified]), 360);
    assert!(of(&[DATE_NOW, modified]).heuristic);
    assert!(!of(&[DATE_NOW, expires]).heuristic);
    assert_eq!(lifetime(&[DATE_NOW]), 0);
}

#[test]
fn expires_counts_from_date() {
    let expires = |value| ("expires", value);
    let past = expires("Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(lifetime(&[DATE_NOW, past]), 0);
    assert_eq!(
        lifetime(&[
            ("date", "Thu, 01 Jan 2026 00:00:30 GMT"),
            expires("Thu, 01 Jan 2026 00:00:40 GMT")
        ]),
        10
    );
    assert_eq!(
        lifetime(&[("date", "foo"), expires("Thu, 01 Jan 2026 00:00:20 GMT")]),
        9
    );
    assert_eq!(lifetime(&[DATE_NOW, expires("0")]), 0);
    let future = expires("Thu, 01 Jan 2026 00:01:10 GMT");
    assert_eq!(lifetime(&[DATE_NOW, future, expires("x")]), 0);
    assert_eq!(
        lifetime(&[DATE_NOW, future, expires("Thu, 01 Jan 2026 00:00:40 GMT")]),
        30
    );
}

#[test]
fn heuristics_are_for_some_statuses_and_for_a_day() {
    let old = [DATE_NOW, ("last-modified", "Mon, 01 Jan 2024 00:00:10 GMT")];
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501] {
        assert_eq!(
            compute(status, Duration::ZERO, &old).lifetime.as_secs(),
            DAY,
            "{status}"
        );
    }
    for status in [201, 202, 302, 307, 403, 500, 502, 503, 504, 599] {
        assert_eq!(
            compute(status, Duration::ZERO, &old).lifetime.as_secs(),
            0,
            "{status}"
        );
    }
    let public = [old[0], old[1], ("cache-control", "public")];
    assert_eq!(
        compute(599, Duration::ZERO, &public).lifetime.as_secs(),
        DAY
    );
    assert_eq!(
        lifetime(&[DATE_NOW, ("last-modified", "Fri, 02 Jan 2026 00:00:00 GMT")]),
        0
    );
    assert_eq!(lifetime(&[DATE_NOW, ("last-modified", "yesterday")]), 0);
}

#[test]
fn age_is_the_first_number() {
    for (value, seconds) in [
        ("30", 30),
        ("7200, 0", 7200),
        ("0, 7200", 0),
        ("abc", 0),
        ("-7200", 0),
        ("7200.0", 0),
        ("7200;foo=bar", 0),
        ("", 0),
        ("2147483649", 1 << 31),
        ("99999999999999999999999", 1 << 31),
    ] {
        assert_eq!(age(&[DATE_NOW, ("age", value)]), seconds, "{value}");
    }
    assert_eq!(age(&[("age", "7200"), ("age", "0")]), 7200);
    assert_eq!(age(&[("age", "0"), ("age", "7200")]), 0);
}

#[test]
fn initial_age_is_corrected() {
    let slow = ("date", "Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(age(&[slow]), 10);
    assert_eq!(age(&[slow, ("age", "25")]), 25);
    assert_eq!(
        age(&[("date", "Thu, 01 Jan 2026 00:01:00 GMT"), ("age", "15")]),
        15
    );
    assert_eq!(
        of(&[DATE_NOW]).initial_age,
        Duration::ZERO,
        "within the second of Date"
    );
    let delayed = compute(200, Duration::from_secs(3), &[DATE_NOW, ("age", "2")]);
    assert_eq!(delayed.initial_age, Duration::from_secs(5));
}

#[test]
fn windows_end_where_validation_is_a_must() {
    let windows = |cc: &str| {
        let freshness = of(&[(
            "cache-control",
            &format!("{cc}, stale-while-revalidate=3, stale-if-error=4"),
        )]);
        let windows = (freshness.stale_while_revalidate, freshness.stale_if_error);
        (
            windows.0.as_secs(),
            windows.1.as_secs(),
            freshness.must_revalidate,
        )
    };
    assert_eq!(windows("max-age=1"), (3, 4, false));
    assert_eq!(windows("s-maxage=1"), (3, 4, true));
    assert_eq!(windows("max-age=1, must-revalidate"), (0, 0, true));
    assert_eq!(windows("max-age=1, proxy-revalidate"), (0, 0, true));
    assert_eq!(windows("max-age=1, no-cache"), (0, 0, false));
}

#[test]
fn ttl_rounds_down() {
    let freshness = of(&[("cache-control", "max-age=2")]);
    let ttl = |millis| freshness.ttl_secs(NOW + Duration::from_millis(millis));
    assert_eq!(
        [ttl(0), ttl(1), ttl(2000), ttl(2001), ttl(3000)],
        [2, 1, 0, -1, -1]
    );
    assert_eq!(freshness.expires(), NOW + Duration::from_secs(2));
}

#[test]
fn a_policy_sets_what_remains() {
    let mut freshness = of(&[
        ("cache-control", "no-cache"),
        ("age", "100"),
        ("etag", "\"a\""),
    ]);
    let later = NOW + Duration::from_secs(5);
    freshness.set_remaining(later, Duration::from_secs(60));
    assert_eq!(freshness.expires(), later + Duration::from_secs(60));
    assert!(!freshness.no_cache);
    assert_eq!(freshness.age(later), Duration::from_secs(105));
}

#[test]
fn the_longest_life_bounds_all() {
    let mut freshness = of(&[
        (
            "cache-control",
            "max-age=90, stale-if-error=500, stale-while-revalidate=5",
        ),
        ("age", "10"),
        ("etag", "\"a\""),
    ]);
    freshness.cap(Duration::from_secs(100));
    assert_eq!(freshness.retain_until(), NOW + Duration::from_secs(100));
    assert_eq!(freshness.lifetime, Duration::from_secs(90));
    assert_eq!(freshness.stale_while_revalidate, Duration::from_secs(5));
    freshness.cap(Duration::from_secs(20));
    assert_eq!(freshness.expires(), NOW + Duration::from_secs(20));
    assert_eq!(freshness.stale_if_error, Duration::ZERO);
}

#[test]
fn a_hit_renews_the_more_readily_the_nearer_the_end_and_the_slower_the_fetch() {
    let hour = of(&[("cache-control", "max-age=3600")]);
    let (second, end) = (Duration::from_secs(1), hour.expires());
    let due = |before: Duration, took, draw: f64| hour.refresh_early(end - before, took, || draw);
    // exp(-1) and a little: one fetch's time before the end.
    assert!(due(second, second, 0.367));
    assert!(!due(second, second, 0.369));
    assert!(due(10 * second, second, 0.000_04));
    assert!(!due(10 * second, second, 0.000_05));
    assert!(due(10 * second, 10 * second, 0.367));
    // Whatever is drawn: not long before, not for a fetch that took no time, not when it
    // has expired, which is another matter.
    let never = || f64::MIN_POSITIVE;
    assert!(!hour.refresh_early(end - 13 * second, second, never));
    assert!(!hour.refresh_early(end - second, Duration::ZERO, never));
    assert!(!hour.refresh_early(end + second, second, never));
    // A slow origin does not make a short life one long refresh.
    let short = of(&[("cache-control", "max-age=5")]);
    assert!(!short.refresh_early(NOW + 3 * second, 10 * second, never));
    assert!(short.refresh_early(NOW + 4 * second, 10 * second, never));
}

proptest! {
    #[test]
    fn age_is_never_negative_and_grows_with_now(received: u64, initial: u32, one: u64, other: u64) {
        let freshness = Freshness {
            received: Timestamp::from_millis(received),
            initial_age: Duration::from_secs(initial.into()),
            ..of(&[])
        };
        let (earlier, later) = (one.min(other), one.max(other));
        let age = |millis| freshness.age(Timestamp::from_millis(millis));
        prop_assert!(age(earlier) <= age(later));
        prop_assert!(age(earlier) >= freshness.initial_age);
        prop_assert!(freshness.ttl_secs(Timestamp::from_millis(later)) <= freshness.ttl_secs(Timestamp::from_millis(earlier)));
    }

    #[test]
    fn caps_hold_for_any_durations(lifetime: u64, initial: u64, window: u64, longest: u32, received in 0u64..1 << 50) {
        let mut freshness = Freshness {
            received: Timestamp::from_millis(received),
            initial_age: Duration::from_secs(initial),
            lifetime: Duration::from_secs(lifetime),
            stale_if_error: Duration::from_secs(window),
            ..of(&[])
        };
        let longest = Duration::from_secs(longest.into());
        freshness.cap(longest);
        prop_assert!(freshness.retain_until() <= freshness.received + longest);
    }
}
