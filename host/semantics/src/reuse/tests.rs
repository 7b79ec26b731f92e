use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

const RECEIVED: Timestamp = Timestamp::from_secs(1000);

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Fresh for 100 s, then 10 s stale-while-revalidate and 50 s stale-if-error.
fn freshness() -> Freshness {
    Freshness {
        received: RECEIVED,
        initial_age: Duration::ZERO,
        lifetime: secs(100),
        stale_while_revalidate: secs(10),
        stale_if_error: secs(50),
        keep: secs(3600),
        must_revalidate: false,
        no_cache: false,
        immutable: false,
        heuristic: false,
    }
}

fn request(cc: &'static str) -> RequestDirectives {
    let mut headers = HeaderMap::new();
    if !cc.is_empty() {
        headers.insert("cache-control", HeaderValue::from_static(cc));
    }
    RequestDirectives::parse(&headers)
}

fn at(age: u64, cc: &'static str, freshness: &Freshness) -> Reuse {
    reuse(&request(cc), freshness, None, RECEIVED + secs(age))
}

#[test]
fn a_disconnected_cache_serves_what_nobody_forbade() {
    let freshness = |must_revalidate, no_cache| Freshness {
        must_revalidate,
        no_cache,
        ..freshness()
    };
    let window = secs(60);
    let at = |freshness: &Freshness, over, soft, cc| {
        let now = freshness.expires() + secs(over);
        may_serve_disconnected(freshness, window, soft, now, &request(cc))
    };
    let plain = freshness(false, false);
    assert!(at(&plain, 0, None, "") && at(&plain, 59, None, ""));
    assert!(!at(&plain, 60, None, ""));
    assert!(!at(&plain, 1, None, "no-cache"));
    assert!(!at(&plain, 1, Some(RECEIVED), ""));
    assert!(!at(&freshness(true, false), 1, None, ""));
    assert!(!at(&freshness(false, true), 1, None, ""));
}

#[test]
fn from_fresh_to_stale() {
    let freshness = freshness();
    assert_eq!(at(0, "", &freshness), Reuse::Fresh);
    assert_eq!(at(99, "", &freshness), Reuse::Fresh);
    assert_eq!(at(100, "", &freshness), Reuse::StaleWhileRevalidate);
    assert_eq!(at(109, "", &freshness), Reuse::StaleWhileRevalidate);
    assert_eq!(at(110, "", &freshness), Reuse::Revalidate(Why::Stale));
}

#[test]
fn an_age_on_arrival_counts() {
    let freshness = Freshness {
        initial_age: secs(7200),
        ..freshness()
    };
    assert_eq!(at(0, "", &freshness), Reuse::Revalidate(Why::Stale));
}

#[test]
fn no_cache_always_validates() {
    let freshness = Freshness {
        no_cache: true,
        ..freshness()
    };
    assert_eq!(
        at(0, "max-stale", &freshness),
        Reuse::Revalidate(Why::NoCache)
    );
    assert!(!may_serve_on_error(
        &freshness,
        None,
        RECEIVED,
        &request("")
    ));
}

#[test]
fn the_client_may_demand() {
    let freshness = freshness();
    let demanded = Reuse::Revalidate(Why::Request);
    for cc in ["no-cache", "max-age=0", "max-age=29", "min-fresh=71"] {
        assert_eq!(at(30, cc, &freshness), demanded, "{cc}");
    }
    for cc in ["max-age=30", "min-fresh=70", "max-stale=5", "no-store"] {
        assert_eq!(at(30, cc, &freshness), Reuse::Fresh, "{cc}");
    }
    assert_eq!(at(0, "max-age=0", &freshness), demanded);
    for cc in ["max-age=3600", "min-fresh=0"] {
        assert_eq!(
            at(105, cc, &freshness),
            Reuse::Revalidate(Why::Stale),
            "nothing stale: {cc}"
        );
    }
}

#[test]
fn the_client_may_take_it_stale() {
    let freshness = freshness();
    assert_eq!(
        at(150, "max-stale=50", &freshness),
        Reuse::StaleWhileRevalidate
    );
    assert_eq!(
        at(150, "max-stale", &freshness),
        Reuse::StaleWhileRevalidate
    );
    assert_eq!(
        at(150, "max-stale, max-age=150", &freshness),
        Reuse::StaleWhileRevalidate
    );
    for cc in [
        "max-stale=49",
        "max-stale, max-age=149",
        "max-stale, no-cache",
    ] {
        assert!(
            matches!(at(150, cc, &freshness), Reuse::Revalidate(_)),
            "{cc}"
        );
    }
    let strict = Freshness {
        must_revalidate: true,
        ..freshness
    };
    assert_eq!(at(150, "max-stale", &strict), Reuse::Revalidate(Why::Stale));
    assert_eq!(
        at(105, "", &strict),
        Reuse::StaleWhileRevalidate,
        "an explicit window"
    );
}

#[test]
fn immutable_needs_no_validation_but_on_no_cache() {
    let freshness = Freshness {
        immutable: true,
        ..freshness()
    };
    assert_eq!(at(30, "max-age=0", &freshness), Reuse::Fresh);
    assert_eq!(
        at(30, "no-cache", &freshness),
        Reuse::Revalidate(Why::Request)
    );
    assert_eq!(at(110, "", &freshness), Reuse::Revalidate(Why::Stale));
}

#[test]
fn a_soft_purge_ends_the_lifetime() {
    let freshness = freshness();
    let purged = |since: u64, now: u64, cc| {
        reuse(
            &request(cc),
            &freshness,
            Some(RECEIVED + secs(since)),
            RECEIVED + secs(now),
        )
    };
    assert_eq!(purged(20, 20, ""), Reuse::StaleWhileRevalidate);
    assert_eq!(purged(20, 29, ""), Reuse::StaleWhileRevalidate);
    assert_eq!(purged(20, 30, ""), Reuse::Revalidate(Why::Stale));
    assert_eq!(purged(20, 31, "max-stale"), Reuse::Revalidate(Why::Stale));
    assert_eq!(
        purged(109, 110, ""),
        Reuse::Revalidate(Why::Stale),
        "stale before"
    );
    assert_eq!(
        purged(50, 20, ""),
        Reuse::StaleWhileRevalidate,
        "by a clock ahead of ours"
    );
}

#[test]
fn errors_are_bridged_within_stale_if_error() {
    let freshness = freshness();
    let on_error =
        |soft, now, cc| may_serve_on_error(&freshness, soft, RECEIVED + secs(now), &request(cc));
    assert!(on_error(None, 0, "max-age=0"), "still fresh");
    assert!(on_error(None, 149, ""));
    assert!(!on_error(None, 150, ""));
    assert!(!on_error(None, 120, "no-cache"));
    let soft = Some(RECEIVED + secs(10));
    assert!(on_error(soft, 59, ""));
    assert!(!on_error(soft, 60, ""));
}

proptest! {
    /// Once a request without wishes is refused, no later instant serves it again.
    #[test]
    fn reuse_only_declines(one in 0u64..300, other in 0u64..300, soft in proptest::option::of(0u64..300)) {
        let rank = |age| match reuse(&RequestDirectives::default(), &freshness(), soft.map(|s| RECEIVED + secs(s)), RECEIVED + secs(age)) {
            Reuse::Fresh => 0,
            Reuse::StaleWhileRevalidate => 1,
            Reuse::Revalidate(_) => 2,
        };
        prop_assert!(rank(one.min(other)) <= rank(one.max(other)));
    }
}
