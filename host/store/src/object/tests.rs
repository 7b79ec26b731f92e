use proptest::prelude::*;

use super::*;
use crate::testing::{fresh_for, object, parts, vary};

#[test]
fn an_object_fits_into_what_was_set_aside_for_it() {
    assert_eq!(size_of::<CompactFreshness>(), 32);
    // With the counters of its `Arc` it fills a class of the allocator, of 224 bytes.
    assert!(size_of::<Object>() + 16 <= 224, "{}", size_of::<Object>());
}

#[test]
fn only_what_differs_from_the_usual_is_kept_apart() {
    let usual = ObjectParts {
        url: "http://h/p?q".into(),
        ..parts("http://h|/p?q", "")
    };
    assert!(Object::new(usual.clone()).rare.is_none());
    let secure = ObjectParts {
        key: Key::parse("https://h|/p?q").unwrap(),
        ..usual.clone()
    };
    assert!(Object::new(secure.clone()).rare.is_none());
    for object in [&usual, &secure] {
        assert_eq!(Object::new(object.clone()).url(), "http://h/p?q");
    }
    for url in ["http://h/p", "http://other/p?q", "https://h/p?q"] {
        let other = Object::new(ObjectParts {
            url: url.into(),
            ..usual.clone()
        });
        assert_eq!(other.url(), url);
    }
    let chosen = Object::new(ObjectParts {
        key: Key::parse("http://h|user:42").unwrap(),
        ..usual.clone()
    });
    assert_eq!(chosen.url(), "http://h/p?q");
    let shared = Object::new(ObjectParts {
        key: Key::parse("/p?q").unwrap(),
        ..usual
    });
    assert_eq!(shared.url(), "http://h/p?q");
}

#[test]
fn what_is_lent_lasts_as_long_as_it_is_read() {
    let stored = Arc::new(Object::new(ObjectParts {
        body: Bytes::from_static(b"body"),
        ..parts("http://h|/p", "a:1")
    }));
    let (fields, body) = (stored.headers.to_header_map(), stored.body.clone());
    let (lent_fields, lent_body) = (stored.lent_headers(), stored.lent_body());
    let gone = Arc::downgrade(&stored);
    drop(stored);
    assert_eq!((&lent_fields, &lent_body), (&fields, &body));
    drop(lent_fields);
    assert!(gone.upgrade().is_some(), "its body is being sent");
    drop(lent_body);
    assert!(gone.upgrade().is_none());
}

#[test]
fn parts_come_back_as_they_were() {
    let whole = ObjectParts {
        trailers: Some(object("http://h|/", "").headers),
        vary: vary("accept", &[("accept", "text/html")]),
        freshness: Freshness {
            initial_age: Duration::from_millis(7),
            keep: Duration::from_secs(90 * 86_400),
            must_revalidate: true,
            ..fresh_for(Duration::from_millis(1_234_567))
        },
        fetch_took: Duration::from_millis(21),
        memory_until: Some(Timestamp::from_secs(3)),
        policy: Some("p@1".into()),
        ..parts("http://h|/x", "body")
    };
    let back = Object::new(whole.clone()).to_parts();
    assert_eq!(format!("{back:?}"), format!("{whole:?}"));
}

proptest! {
    #[test]
    fn a_time_is_kept_to_the_millisecond_and_a_long_one_to_the_second(millis in 0_u64..1 << 40) {
        let whole = Duration::from_millis(millis);
        let kept = Duration::from(Span::from(whole));
        prop_assert!(kept <= whole);
        if millis < 1 << 31 {
            prop_assert_eq!(kept, whole);
        } else {
            prop_assert!(whole - kept < Duration::from_secs(1));
        }
        prop_assert_eq!(Span::from(kept), Span::from(whole));
    }
}

#[test]
fn a_time_without_end_is_kept_as_the_longest() {
    let longest = Duration::from(Span::from(Duration::MAX));
    assert_eq!(longest, Duration::from_secs(u64::from(u32::MAX >> 1)));
}

#[test]
fn it_knows_when_its_fetch_began_or_that_another_node_fetched_it() {
    let begun = |at| {
        let mut parts = parts("http://h|/", "");
        parts.freshness.received = Timestamp::from_secs(5_000);
        parts.position.at = at;
        Object::new(parts).position().at
    };
    for at in [0, 1, 4_999_999, 5_000_000].map(Timestamp::from_millis) {
        assert_eq!(begun(at), at);
    }
}
