use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use weir_semantics::{Coding, VaryRule};

use super::*;
use crate::object::ObjectParts;
use crate::position::Position;
use crate::testing::{NOW, fresh_for, headers, object, parts, vary};

const KEY: &str = "http://a|/x";

fn tier() -> MemoryTier {
    MemoryTier::new(1 << 20, Clock::manual(NOW))
}

fn variant(names: &str, request: &[(&str, &str)], body: &'static str) -> Arc<Object> {
    Arc::new(Object::new(ObjectParts {
        vary: vary(names, request),
        ..parts(KEY, body)
    }))
}

fn body(tier: &MemoryTier, request: &[(&str, &str)]) -> Option<Bytes> {
    tier.get(KEY, &headers(request), NOW)
        .map(|object| object.body.clone())
}

#[test]
fn finds_the_variant_that_suits() {
    let tier = tier();
    tier.insert(variant(
        "accept-language",
        &[("accept-language", "de")],
        "Hallo",
    ));
    tier.insert(variant(
        "accept-language",
        &[("accept-language", "fr")],
        "Salut",
    ));
    assert_eq!(body(&tier, &[("accept-language", "de")]).unwrap(), "Hallo");
    assert_eq!(body(&tier, &[("accept-language", "fr")]).unwrap(), "Salut");
    assert_eq!(body(&tier, &[("accept-language", "it")]), None);
    assert_eq!(body(&tier, &[]), None);

    tier.insert(variant(
        "accept-language",
        &[("accept-language", "de")],
        "Servus",
    ));
    assert_eq!(body(&tier, &[("accept-language", "de")]).unwrap(), "Servus");
    assert_eq!(body(&tier, &[("accept-language", "fr")]).unwrap(), "Salut");
    assert!(tier.any(KEY, NOW, |object| object.body == "Salut"));
    assert!(!tier.any(KEY, NOW, |object| object.body == "Hallo"));
    assert!(!tier.any("http://a|/y", NOW, |_| true));
    tier.remove(KEY);
    assert_eq!(body(&tier, &[("accept-language", "de")]), None);
    assert!(!tier.any(KEY, NOW, |_| true));
}

#[test]
fn a_new_rule_takes_the_place_of_what_it_refines() {
    let tier = tier();
    tier.insert(Arc::new(object(KEY, "for all")));
    tier.insert(variant(
        "accept-language",
        &[("accept-language", "de")],
        "Hallo",
    ));
    assert_eq!(
        body(&tier, &[("accept-language", "fr")]),
        None,
        "the origin varies now"
    );
    tier.insert(Arc::new(object(KEY, "for all again")));
    assert_eq!(
        body(&tier, &[("accept-language", "de")]).unwrap(),
        "for all again"
    );
}

#[test]
fn an_object_from_before_does_not_replace_a_later_one() {
    let at = |fleet, node| Position {
        epoch: 1,
        fleet,
        node,
        at: NOW,
    };
    let put = |tier: &MemoryTier, position, body| {
        tier.insert(Arc::new(Object::new(ObjectParts {
            position,
            ..parts(KEY, body)
        })))
    };
    let tier = tier();
    assert!(put(&tier, at(5, 0), "five"));
    assert!(!put(&tier, at(4, 0), "four"));
    assert_eq!(body(&tier, &[]).unwrap(), "five");
    assert!(put(&tier, at(5, 0), "five again"));
    assert!(put(&tier, at(5, 1), "purged here in between"));
    assert!(put(&tier, at(6, 0), "six"));
    assert!(put(
        &tier,
        Position {
            epoch: 2,
            ..at(1, 0)
        },
        "another epoch"
    ));
    assert_eq!(body(&tier, &[]).unwrap(), "another epoch");

    let early = Object::new(ObjectParts {
        position: Position {
            epoch: 2,
            ..at(1, 0)
        },
        freshness: weir_semantics::Freshness {
            received: NOW - Duration::from_secs(1),
            ..fresh_for(Duration::from_secs(60))
        },
        ..parts(KEY, "arrived earlier")
    });
    assert!(!tier.insert(Arc::new(early)));
}

#[test]
fn lets_go_at_the_end_of_a_life_or_of_the_time_in_memory() {
    let clock = Clock::manual(NOW);
    let tier = MemoryTier::new(1 << 20, clock.clone());
    let second = Duration::from_secs(1);
    let short = Object::new(ObjectParts {
        memory_until: Some(NOW + second),
        ..parts(KEY, "short")
    });
    assert!(tier.insert(Arc::new(short)));
    assert!(tier.get(KEY, &HeaderMap::new(), NOW).is_some());
    assert!(tier.get(KEY, &HeaderMap::new(), NOW + second).is_none());

    let kept_out = Object::new(ObjectParts {
        memory_until: Some(NOW),
        ..parts(KEY, "kept out")
    });
    assert!(!tier.insert(Arc::new(kept_out)));
    let dead = Object::new(ObjectParts {
        freshness: fresh_for(Duration::ZERO),
        ..parts(KEY, "dead")
    });
    assert!(!tier.insert(Arc::new(dead)));

    // The other variants of the key live on, and the one that is over is let go.
    clock.advance(second);
    let now = clock.now();
    tier.insert(variant("a", &[("a", "1")], "longer"));
    assert_eq!(
        tier.get(KEY, &headers(&[("a", "1")]), now).unwrap().body,
        "longer"
    );
    assert!(tier.get(KEY, &HeaderMap::new(), now).is_none());
}

#[test]
fn a_key_is_swept_with_its_last_variant() {
    let clock = Clock::manual(NOW);
    let tier = MemoryTier::new(1 << 20, clock.clone());
    let lasting = |seconds, value| {
        Arc::new(Object::new(ObjectParts {
            freshness: fresh_for(Duration::from_secs(seconds)),
            vary: vary("a", &[("a", value)]),
            ..parts(KEY, "")
        }))
    };
    tier.insert(lasting(40, "2"));
    tier.insert(lasting(20, "1"));
    clock.advance(Duration::from_secs(20));
    assert_eq!(tier.sweep(), 0, "the last variant was cut off");
    assert_eq!(tier.variants(KEY, clock.now()).len(), 1);
    clock.advance(Duration::from_secs(20));
    assert_eq!(tier.variants(KEY, clock.now()).len(), 0);
    assert_eq!(tier.sweep(), 1);
    assert!(!tier.cache.contains_key(KEY));
    tier.maintain();
    assert_eq!(tier.stats().bytes, 0);
    assert_eq!(tier.sweep(), 0);
}

#[test]
fn a_sweep_takes_what_has_ended_of_many_keys_and_leaves_the_rest() {
    let clock = Clock::manual(NOW);
    let tier = MemoryTier::new(1 << 24, clock.clone());
    for n in 0..2_500_u64 {
        let object = Object::new(ObjectParts {
            freshness: fresh_for(Duration::from_secs(10 + n % 2 * 10)),
            ..parts(&format!("k:{n}"), "")
        });
        tier.insert(Arc::new(object));
    }
    tier.maintain();
    clock.advance(Duration::from_secs(10));
    assert_eq!(tier.sweep(), 1_250);
    assert!(tier.get("k:1", &HeaderMap::new(), clock.now()).is_some());
    // As if it had come in place of one that was seen to have ended.
    assert!(!tier.sweeper().remove(&Key::parse("k:1").unwrap()));
    assert!(tier.get("k:1", &HeaderMap::new(), clock.now()).is_some());
}

#[test]
fn a_sweeper_ends_with_its_tier() {
    let tier = tier();
    let alive = Arc::downgrade(&tier.alive);
    let sweeper = tier.sweeper();
    drop(tier);
    // It would not return.
    sweeper.run(&alive);
}

#[test]
fn concurrent_inserts_lose_no_variant() {
    let tier = tier();
    let values: Vec<String> = (0..16).map(|n| n.to_string()).collect();
    std::thread::scope(|scope| {
        for value in &values {
            scope.spawn(|| tier.insert(variant("a", &[("a", value)], "x")));
        }
    });
    for value in &values {
        assert!(
            body(&tier, &[("a", value)]).is_some(),
            "variant {value} is gone"
        );
    }
}

#[test]
fn the_variants_of_a_key_are_bounded_and_the_oldest_goes() {
    let tier = tier();
    for n in 0..33 {
        tier.insert(variant(
            "user-agent",
            &[("user-agent", &n.to_string())],
            "x",
        ));
    }
    assert_eq!(body(&tier, &[("user-agent", "0")]), None);
    assert!(body(&tier, &[("user-agent", "1")]).is_some());
    assert!(body(&tier, &[("user-agent", "32")]).is_some());

    let tier = MemoryTier::new(400_000, Clock::manual(NOW));
    for n in 0..4 {
        let large = Object::new(ObjectParts {
            vary: vary("a", &[("a", &n.to_string())]),
            body: vec![0; 45_000].into(),
            ..parts(KEY, "")
        });
        assert!(tier.insert(Arc::new(large)));
    }
    assert!(body(&tier, &[("a", "3")]).is_some());
    assert!(body(&tier, &[("a", "2")]).is_some());
    assert_eq!(
        body(&tier, &[("a", "1")]),
        None,
        "one key took more than its share"
    );
    let huge = Object::new(ObjectParts {
        body: vec![0; 120_000].into(),
        ..parts("http://a|/huge", "")
    });
    assert!(!tier.insert(Arc::new(huge)));
}

#[test]
fn codings_are_weighed_where_they_are_and_bring_nothing_back() {
    let tier = tier();
    let object = Arc::new(object(KEY, "x"));
    let coded = Coded::new(&[Coding::Gzip]);
    object.coded.set(Some(coded.clone())).unwrap();
    assert!(tier.insert(object.clone()));
    tier.maintain();
    let before = tier.stats().bytes;
    coded.put(Coding::Gzip, vec![0; 5000].into());
    let other = Coded::new(&[Coding::Gzip]);
    tier.reweigh(&object.key, &other);
    tier.maintain();
    assert_eq!(tier.stats().bytes, before, "another body's");
    tier.reweigh(&object.key, &coded);
    tier.maintain();
    assert_eq!(tier.stats().bytes, before + 5000);

    tier.remove(KEY);
    tier.reweigh(&object.key, &coded);
    tier.maintain();
    assert_eq!(body(&tier, &[]), None);
    assert_eq!(tier.stats().bytes, 0);
}

#[test]
fn a_coding_without_vary_is_for_those_who_take_it() {
    let tier = tier();
    let stored = |coding: &str, body: &'static str| {
        let rule = VaryRule::parse(&headers(&[("content-encoding", coding)]));
        let vary = rule.select(&HeaderMap::new()).unwrap();
        let parts = parts(KEY, body);
        Arc::new(Object::new(ObjectParts { vary, ..parts }))
    };
    let br = [("accept-encoding", "br")];
    let gzip = [("accept-encoding", "gzip")];
    tier.insert(stored("br", "in br"));
    assert_eq!(body(&tier, &br).unwrap(), "in br");
    assert_eq!(body(&tier, &gzip), None);
    tier.insert(stored("gzip", "in gzip"));
    assert_eq!(body(&tier, &br).unwrap(), "in br");
    assert_eq!(body(&tier, &gzip).unwrap(), "in gzip");
    tier.insert(stored("identity", "plain"));
    assert_eq!(body(&tier, &br).unwrap(), "plain");
    assert_eq!(body(&tier, &gzip).unwrap(), "plain");
}

#[test]
fn stays_within_its_capacity() {
    let tier = MemoryTier::new(200_000, Clock::manual(NOW));
    for n in 0..500 {
        let object = Object::new(ObjectParts {
            body: vec![0; 5_000].into(),
            ..parts(&format!("http://a|/{n}"), "")
        });
        tier.insert(Arc::new(object));
    }
    tier.maintain();
    let stats = tier.stats();
    assert!(stats.bytes <= 200_000 && stats.bytes > 100_000, "{stats:?}");
    assert_eq!(stats.entries + stats.evictions, 500);
}

proptest! {
    #[test]
    fn never_serves_a_variant_that_another_value_selected(
        stored in prop::collection::vec(("(a|b|a, b|)", "[a-c]{0,2}", "[a-c]{0,2}"), 1..12),
        asked in prop::collection::vec(("[a-c]{0,2}", "[a-c]{0,2}"), 1..12),
    ) {
        let tier = tier();
        for (names, a, b) in &stored {
            tier.insert(variant(names, &[("a", a), ("b", b)], "x"));
        }
        for (a, b) in &asked {
            let request = [("a", a.as_str()), ("b", b.as_str())];
            if let Some(found) = tier.get(KEY, &headers(&request), NOW) {
                let names: Vec<&str> = found.vary().iter().map(|(name, _)| name.as_str()).collect();
                prop_assert_eq!(found.vary(), &vary(&names.join(","), &request));
            }
        }
    }
}
