//! A version in shadow: on which requests it is tried, what it costs them, and in what it is
//! seen to differ.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use reqwest::Method;
use serde_json::json;
use weir_tests::origin::page_text;
use weir_tests::versions::{hold, post, trial, version};
use weir_tests::{Config, Origin, Reply, Weir, guests, until};

/// A node whose policy `p` keys on path and query, in a namespace of its own or in that of
/// `plugins/static-site`; `more` goes into its table.
async fn node(origin: &Origin, more: &str) -> Weir {
    let component = guests().misbehaving().display().to_string();
    let config = Config::misbehaving(&origin.url(), &component, more);
    let namespaces = "namespaces = [\"test\", \"site\"]";
    let text = config.text().replace("namespaces = [\"test\"]", namespaces);
    Config::whole(&text).start().await
}

/// Has a component tried in shadow.
async fn shadow(node: &Weir, component: Vec<u8>, percent: u8) {
    hold(node, component).await;
    post(node, "shadow", json!({ "percent": percent })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_a_hundred_percent_only_a_part_of_the_requests_is_tried() {
    const REQUESTS: u64 = 400;
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = node(&origin, "").await;
    node.until_hit("/a").await;
    shadow(&node, version("nothing"), 20).await;
    let drawn = async || {
        let trial = trial(&node).await;
        let count = |field: &str| trial[field].as_u64().expect("a count");
        count("same") + count("skipped")
    };
    for _ in 0..REQUESTS {
        assert!(node.get("/a").await.is_hit());
    }
    // At most 64 are under way, so that of all of them at least 336 would have been counted.
    let some = drawn().await;
    assert!(some < REQUESTS / 2, "{some} of {REQUESTS} were tried");
    until("a tenth of them", async || {
        (drawn().await >= REQUESTS / 10).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_do_not_wait_for_a_shadow_that_never_ends_and_its_end_changes_nothing() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    // Long enough that answers which had waited for it would be told from the others.
    let node = node(&origin, "cpu_limit = \"5s\"\n").await;
    let live = node.admin().version("p").await;
    shadow(&node, version("endless-loop"), 100).await;
    let asked = async || {
        for path in ["/a", "/b"] {
            let answer = node.get(path).await;
            assert_eq!(answer.text(), page_text(path, 1));
            let status = answer.cache();
            assert!(status.details(&live), "{status:?}");
        }
    };
    asked().await;
    let seen = trial(&node).await;
    let ended = ["same", "different", "failed"].map(|count| seen[count].clone());
    assert_eq!(ended, [json!(0), json!(0), json!(0)], "answers came later");
    let seen = until("a loop that is stopped", async || {
        let seen = trial(&node).await;
        (seen["failed"].as_u64() > Some(0)).then_some(seen)
    })
    .await;
    let error = seen["last_error"].as_str().unwrap_or_default();
    assert!(error.contains("CPU"), "{seen}");
    asked().await;
    assert!(node.get("/a").await.is_hit());
    let failures = node.admin().policy("p").await["failures"].clone();
    assert_eq!(failures, json!(0), "they are not those of the one in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_passes_asks_for_or_stores_something_else_is_seen() {
    let origin = Origin::with(|call| match call.path.as_str() {
        "/broken" => Reply::status(503),
        _ => Reply::page(call).cache("max-age=600"),
    })
    .await;
    let node = node(&origin, "").await;
    let site = std::fs::read(guests().static_site()).expect("the component");
    shadow(&node, site, 100).await;
    let seen = until("differences of all three kinds", async || {
        node.send(Method::POST, "/form", &[], "x").await;
        node.get("/page?b=2&a=1").await;
        node.get("/broken").await;
        let seen = trial(&node).await;
        let kinds = ["decision", "origin", "storage"];
        let all = kinds.map(|kind| seen["differences"][kind].as_u64() > Some(0));
        (all == [true; 3]).then_some(seen)
    })
    .await;
    for (kind, subject, live, tried) in [
        ("decision", "POST", "lookup", "pass: method"),
        ("origin", "/page?", "/page?b=2&a=1", "/page?a=1&b=2"),
        ("storage", "/broken", "store not set", "store 1s"),
    ] {
        let examples = seen["examples"].as_array().expect("examples");
        let found = examples.iter().any(|example| {
            let has = |field: &str, part: &str| {
                let text = example[field].as_str();
                text.is_some_and(|text| text.contains(part))
            };
            example["kind"] == kind
                && has("subject", subject)
                && has("live", live)
                && has("tried", tried)
        });
        assert!(found, "no such example of {kind} in {seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_that_answers_otherwise_is_seen_and_its_answers_reach_nobody() {
    let origin = Origin::with(Reply::page).await;
    let node = node(&origin, "").await;
    let answers = node.admin().put_policy("p", version("answers")).await;
    assert_eq!(answers.status, 200, "{}", answers.text());
    for (tried, kind, says) in [
        ("answers-otherwise", "reply", "(another body)"),
        ("nothing", "decision", "lookup"),
    ] {
        shadow(&node, version(tried), 100).await;
        let seen = until(&format!("a difference in the {kind}"), async || {
            assert_eq!(node.get("/a").await.text(), "one");
            let seen = trial(&node).await;
            (seen["differences"][kind].as_u64() > Some(0)).then_some(seen)
        })
        .await;
        let example = &seen["examples"][0];
        assert_eq!(example["kind"], kind, "{seen}");
        let live = example["live"].as_str().unwrap_or_default();
        let tried = example["tried"].as_str().unwrap_or_default();
        assert!(
            live.contains("200") && tried.contains(says) && !live.contains(says),
            "{seen}"
        );
    }
    assert_eq!(origin.total(), 0);
}
