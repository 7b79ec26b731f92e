//! The life of a policy's versions: held, tried in shadow or as a canary, promoted, rolled
//! back; and the record of it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::net::IpAddr;

use serde_json::{Value, json};
use weir_tests::answer;
use weir_tests::origin::page_text;
use weir_tests::versions::{audited, hold, node, node_with, origin, post, trial, version};
use weir_tests::{Scratch, Weir, guests, until};

/// The version that decided, as Cache-Status names it.
async fn decided_by(node: &Weir, path: &str) -> String {
    let status = node.get(path).await.cache();
    let detail = status.detail.expect("a policy decided");
    let (_, version) = detail.rsplit_once('@').expect("name@version");
    version.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_forgets_a_user_in_its_key_is_seen_and_decides_nothing() {
    let origin = origin().await;
    let node = node(&origin).await;
    let live = node.admin().version("p").await;
    let wrong = hold(&node, version("forgets-query")).await;
    assert_eq!(node.admin().version("p").await, live, "held, not in force");
    let begun = post(&node, "shadow", json!({"version": wrong, "percent": 100})).await;
    assert_eq!(begun["version"], *wrong);

    for user in 0..10 {
        let path = format!("/account?user={user}");
        let answer = node.get(&path).await;
        assert_eq!(answer.text(), page_text(&path, 1));
        assert_eq!(decided_by(&node, &path).await, live);
    }
    node.admin().event("test.changed", json!({})).await;
    let seen = until("differences in all that it does otherwise", async || {
        let trial = trial(&node).await;
        let kinds = &trial["differences"];
        let all = ["key", "lifetime", "tags", "selectors"];
        all.iter()
            .all(|kind| kinds[kind].as_u64() > Some(0))
            .then_some(trial)
    })
    .await;
    assert_eq!(seen["differences"]["decision"], Value::Null, "{seen}");
    let example = |kind: &str| {
        let examples = seen["examples"].as_array().expect("examples");
        let example = examples.iter().find(|example| example["kind"] == kind);
        example.unwrap_or_else(|| panic!("no example of {kind} in {seen}"))
    };
    let key = example("key");
    assert!(
        key["live"]
            .as_str()
            .is_some_and(|it| it.ends_with("user=0") || it.contains("user="))
    );
    assert!(
        key["tried"]
            .as_str()
            .is_some_and(|it| it.ends_with("/account")),
        "{key}"
    );
    assert!(
        example("lifetime")["tried"]
            .as_str()
            .is_some_and(|it| it.starts_with("7s"))
    );
    assert!(
        example("selectors")["tried"]
            .as_str()
            .is_some_and(|it| it.contains("forgetful"))
    );

    let ended = post(&node, "rollback", json!({})).await;
    assert_eq!(
        (&ended["version"], &ended["ended"]),
        (&json!(live), &json!(wrong))
    );
    assert_eq!(trial(&node).await, Value::Null);
    assert_eq!(node.admin().version("p").await, live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_is_the_same_shows_no_difference() {
    let origin = origin().await;
    let node = node(&origin).await;
    hold(&node, version("nothing")).await;
    post(&node, "shadow", json!({"percent": 100})).await;
    for n in 0..20 {
        node.get(&format!("/{n}")).await;
    }
    let seen = until("comparisons of decisions and responses", async || {
        let trial = trial(&node).await;
        (trial["same"].as_u64() >= Some(40)).then_some(trial)
    })
    .await;
    assert_eq!(
        (&seen["different"], &seen["failed"]),
        (&json!(0), &json!(0)),
        "{seen}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_decides_for_a_part_of_the_clients_and_always_the_same() {
    let origin = origin().await;
    let node = node(&origin).await;
    let live = node.admin().version("p").await;
    let new = hold(&node, version("nothing")).await;
    post(&node, "canary", json!({"percent": 50})).await;
    let mut chosen = Vec::new();
    for round in 0..3 {
        let mut now = Vec::new();
        for client in 1..=40 {
            let local = IpAddr::from([127, 0, 1, client]);
            let client = answer::builder()
                .local_address(local)
                .build()
                .expect("a client");
            let answer = client.get(node.url("/a")).send().await.expect("an answer");
            let status = answer.headers()["cache-status"].as_bytes();
            let status = String::from_utf8_lossy(status).into_owned();
            assert!(status.contains(&live) != status.contains(&new), "{status}");
            now.push(status.contains(&new));
        }
        let share = now.iter().filter(|canary| **canary).count();
        assert!((8..=32).contains(&share), "{share} of 40 clients");
        if round > 0 {
            assert_eq!(chosen, now, "round {round}");
        }
        chosen = now;
    }
    assert!(trial(&node).await["decided"].as_u64() > Some(0));

    post(&node, "promote", json!({})).await;
    assert_eq!(node.admin().version("p").await, new);
    assert_eq!(decided_by(&node, "/a").await, new);
    assert_eq!(trial(&node).await, Value::Null);
    let back = post(&node, "rollback", json!({})).await;
    assert_eq!(
        (&back["version"], &back["ended"]),
        (&json!(live), &Value::Null)
    );
    assert_eq!(decided_by(&node, "/a").await, live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_traps_costs_no_request() {
    let origin = origin().await;
    // It is to be called for as long as this lasts.
    let guard = "guard = { min_calls = 1000 }\n";
    let node = node_with(&origin, &guests().misbehaving(), guard).await;
    let live = node.admin().version("p").await;
    hold(&node, version("trap-on-request")).await;
    post(&node, "canary", json!({"percent": 100})).await;
    for _ in 0..10 {
        let answer = node.get("/a").await;
        assert_eq!(answer.text(), page_text("/a", 1));
        assert_eq!(decided_by(&node, "/a").await, live);
    }
    assert_eq!(origin.count("/a"), 1, "the version in force had it cached");
    let trial = trial(&node).await;
    assert!(trial["failed"].as_u64() >= Some(10), "{trial}");
    assert_eq!(trial["decided"], 0, "{trial}");
    assert!(
        trial["last_error"]
            .as_str()
            .is_some_and(|text| text.contains("trap")),
        "{trial}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_by_event_reaches_what_a_canary_has_had_stored() {
    let origin = origin().await;
    let node = node(&origin).await;
    hold(&node, version("forgets-query")).await;
    post(&node, "canary", json!({"percent": 100})).await;
    node.until_hit("/a?x=1").await;
    let answer = node.admin().event("test.changed", json!({})).await;
    let selected: Vec<&str> = answer["selectors"]
        .as_array()
        .expect("selectors")
        .iter()
        .filter_map(|selector| selector["value"].as_str())
        .collect();
    assert_eq!(selected, ["test", "forgetful"]);
    assert!(!node.get("/a?x=1").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_tried_or_promoted_is_refused_with_the_reason() {
    let origin = origin().await;
    let node = node(&origin).await;
    let live = node.admin().version("p").await;
    for (step, body, status, part) in [
        ("shadow", json!({"percent": 5}), 409, "activate=false"),
        (
            "shadow",
            json!({"percent": 5, "version": live}),
            409,
            "in force already",
        ),
        (
            "canary",
            json!({"percent": 5, "version": "0123"}),
            404,
            live.as_str(),
        ),
        ("promote", json!({}), 409, "no version of p is on trial"),
        ("promote", json!({"version": "0123"}), 404, "0123"),
        ("rollback", json!({}), 409, "no earlier version"),
    ] {
        let path = format!("/v1/policies/p/{step}");
        let answer = node.admin().post(&path, body.to_string()).await;
        assert_eq!(answer.status, status, "{step} {body}: {}", answer.text());
        assert!(
            answer.text().contains(part),
            "{step} {body}: {}",
            answer.text()
        );
    }
    let trap = version("trap-in-configure");
    let answer = node.admin().put_policy("p?activate=false", trap).await;
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(node.admin().policy("p").await["held"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_written_down_and_survives_a_restart() {
    let origin = origin().await;
    let mut node = node(&origin).await;
    let first = node.admin().version("p").await;
    let second = hold(&node, version("nothing")).await;
    post(&node, "canary", json!({"percent": 1})).await;
    post(&node, "promote", json!({})).await;
    post(&node, "rollback", json!({})).await;
    let trap = version("trap-in-configure");
    let refused = node.admin().put_policy("p", trap).await;
    assert_eq!(refused.status, 400);
    let expected = [
        ["loaded", "start", &first],
        ["held", "admin", &second],
        ["canary", "admin", &second],
        ["promoted", "admin", &second],
        ["rolled-back", "admin", &first],
        ["refused", "admin", &first],
    ];
    assert_eq!(audited(&node).await, expected);
    node.restart().await;
    assert_eq!(audited(&node).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_while_the_node_was_down_is_written_down() {
    let origin = origin().await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("nothing"));
    let mut node = node_with(&origin, &component, "").await;
    let first = node.admin().version("p").await;
    files.write("p.wasm", version("endless-lifetime"));
    node.restart().await;
    let second = node.admin().version("p").await;
    assert_ne!(first, second);
    let expected = [["loaded", "start", &first], ["loaded", "start", &second]];
    assert_eq!(audited(&node).await, expected);
}
