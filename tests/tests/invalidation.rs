//! Purges: every selector, hard and soft, through the admin API, by events, by tags of
//! the origin; and what bad requests get.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use serde_json::{Value, json};
use weir_tests::origin::page_text;
use weir_tests::{Config, Origin, Reply, Weir, charity, until};

/// Pages with both kinds of tags, fresh for ten minutes and usable stale for ten more.
async fn site() -> (Origin, Weir) {
    let origin = Origin::with(|call| {
        let section = call.path.split('/').nth(1).unwrap_or_default().to_owned();
        Reply::page(call)
            .cache("max-age=600, stale-while-revalidate=600")
            .header("surrogate-key", format!("pages section-{section}"))
            .header(
                "cache-tag",
                format!("tagged, page{}", call.path.replace('/', "-")),
            )
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    (origin, node)
}

async fn warm(node: &Weir, paths: &[&str]) {
    for path in paths {
        node.until_hit(path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hard_purge_is_a_miss_at_once_and_spares_the_rest() {
    let (origin, node) = site().await;
    let authority = format!("127.0.0.1:{}", node.port());
    let purged = "/news/1";
    for selector in [
        json!({ "urls": [node.url(purged)] }),
        json!({ "tags": ["section-news"] }),
        json!({ "tags": ["page-news-1"] }),
        json!({ "tags": ["absent", "section-news"] }),
        json!({ "tags": ["section-news"], "urls": ["http://elsewhere.example/"] }),
    ] {
        warm(&node, &[purged, "/shop/1"]).await;
        let version = origin.bump(purged);
        let receipt = node.admin().invalidate(selector.clone()).await;
        assert_eq!(receipt["scope"], "node", "no Redis here");
        let answer = node.get(purged).await;
        assert!(!answer.is_hit(), "{selector}");
        assert_eq!(answer.text(), page_text(purged, version), "{selector}");
        assert!(
            node.get("/shop/1").await.is_hit(),
            "{selector} took too much"
        );
    }
    for selector in [
        json!({ "all": true }),
        json!({ "all": true, "host": authority }),
        json!({ "tags": ["pages"] }),
        json!({ "tags": ["tagged"] }),
    ] {
        warm(&node, &[purged, "/shop/1"]).await;
        node.admin().invalidate(selector.clone()).await;
        for path in [purged, "/shop/1"] {
            assert!(!node.get(path).await.is_hit(), "{selector} left {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_limited_to_a_host_spares_the_other_hosts() {
    let (_origin, node) = site().await;
    let (one, other) = ([("host", "one.example")], [("host", "other.example")]);
    for host in [&one, &other] {
        node.get_with("/x", host).await;
        assert!(node.get_with("/x", host).await.is_hit());
    }
    node.admin()
        .invalidate(json!({ "all": true, "host": "one.example" }))
        .await;
    assert!(node.get_with("/x", &other).await.is_hit());
    assert!(!node.get_with("/x", &one).await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soft_purge_serves_stale_once_more_and_refreshes() {
    let (origin, node) = site().await;
    for selector in [
        json!({ "urls": [node.url("/a/1")], "soft": true }),
        json!({ "tags": ["section-a"], "soft": true }),
        json!({ "all": true, "soft": true }),
    ] {
        let old = node.until_hit("/a/1").await.text();
        let version = origin.bump("/a/1");
        node.admin().invalidate(selector.clone()).await;
        let stale = node.get("/a/1").await;
        assert_eq!(stale.text(), old, "{selector}");
        assert!(
            stale.cache().ttl.is_none_or(|ttl| ttl <= 0),
            "{selector}: {stale:?}"
        );
        until("the refreshed page", async || {
            (node.get("/a/1").await.text() == page_text("/a/1", version)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_in_flight_does_not_bring_back_what_was_purged_meanwhile() {
    let (origin, node) = site().await;
    let gate = weir_tests::Gate::new();
    let held = gate.clone();
    origin.on("/slow", move |call| {
        let reply = Reply::page(call)
            .cache("max-age=600")
            .header("surrogate-key", "slow");
        if call.nth == 1 {
            reply.behind(&held)
        } else {
            reply
        }
    });
    let first = tokio::spawn(node.client().get(node.url("/slow")).send());
    until("the fetch of before", async || {
        (origin.count("/slow") == 1).then_some(())
    })
    .await;
    let version = origin.bump("/slow");
    node.admin()
        .invalidate(json!({ "urls": [node.url("/slow")] }))
        .await;
    // A reader that comes after the purge must not be given the fetch of before.
    let answer = node.get("/slow").await;
    assert_eq!(answer.text(), page_text("/slow", version));
    gate.open();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    for _ in 0..5 {
        assert_eq!(node.get("/slow").await.text(), page_text("/slow", version));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_prefixes_and_namespaces_of_a_policy() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    let user = ["/users/1", "/users/2", "/users/1/permissions"];
    let help = "/help/requests/5";
    for (selector, gone) in [
        (json!({ "keys": ["user:profile:1"] }), vec!["/users/1"]),
        (
            json!({ "prefixes": ["user:profile:"] }),
            vec!["/users/1", "/users/2"],
        ),
        (json!({ "namespaces": ["user"] }), user.to_vec()),
        (json!({ "urls": [node.url("/users/2")] }), vec!["/users/2"]),
    ] {
        warm(&node, &user).await;
        warm(&node, &[help]).await;
        for path in user {
            origin.bump(path);
        }
        node.admin().invalidate(selector.clone()).await;
        for path in user {
            let answer = node.get(path).await;
            assert_eq!(!answer.is_hit(), gone.contains(&path), "{selector}: {path}");
        }
        assert!(
            node.get(help).await.is_hit(),
            "{selector} left its namespace"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_event_removes_what_depends_on_it() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    warm(&node, &["/users/42", "/users/42/permissions", "/users/7"]).await;
    let version = origin.bump("/users/42");
    let receipt = node
        .admin()
        .event("user.updated", json!({ "id": 42 }))
        .await;
    let selectors = receipt["selectors"].as_array().cloned().unwrap_or_default();
    assert!(!selectors.is_empty(), "{receipt}");
    let answer = node.get("/users/42").await;
    assert_eq!(answer.text(), page_text("/users/42", version));
    assert!(!node.get("/users/42/permissions").await.is_hit());
    assert!(
        node.get("/users/7").await.is_hit(),
        "another user's data went too"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_no_policy_knows_removes_nothing() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    warm(&node, &["/users/42"]).await;
    let receipt = node.admin().event("weather.changed", Value::Null).await;
    assert_eq!(receipt["selectors"], json!([]));
    assert!(node.get("/users/42").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_gets_400_with_the_field_and_purges_nothing() {
    let (_origin, node) = site().await;
    warm(&node, &["/x"]).await;
    for (body, field) in [
        (r#"{"tags": "not-a-list"}"#, Some("tags")),
        (r#"{"tags": [7]}"#, Some("tags[0]")),
        (r#"{"tagz": ["a"]}"#, Some("tagz")),
        (r#"{"urls": ["/relative"]}"#, Some("urls[0]")),
        (r#"{"keys": ["a:b", ""]}"#, Some("keys[1]")),
        (r#"{"all": "yes"}"#, Some("all")),
        (r#"{"all": true, "host": "a/b"}"#, Some("host")),
        (r#"{"all": true"#, None),
        ("{}", None),
        ("[]", None),
        ("", None),
    ] {
        let answer = node.admin().post("/v1/invalidate", body).await;
        assert_eq!(answer.status, 400, "{body}");
        let error = answer.json();
        let message = error["error"]["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{body}: {error}");
        assert_eq!(error["error"]["field"].as_str(), field, "{body}: {error}");
    }
    let answer = node.admin().post("/v1/events", r#"{"data": {}}"#).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"]["field"], "type");
    assert!(node.get("/x").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_cannot_purge_through_the_browser_of_an_operator() {
    let (_origin, node) = site().await;
    warm(&node, &["/x"]).await;
    let url = format!("{}/v1/invalidate", node.admin().base());
    let body = r#"{"all": true}"#;
    let post = || node.client().post(&url).body(body);
    let form = post()
        .header("content-type", "text/plain")
        .send()
        .await
        .unwrap();
    assert!(form.status().is_client_error(), "{}", form.status());
    let rebound = post()
        .header("content-type", "application/json")
        .header("host", "evil.example");
    let rebound = rebound.send().await.unwrap();
    assert!(rebound.status().is_client_error(), "{}", rebound.status());
    assert!(node.get("/x").await.is_hit());
}
