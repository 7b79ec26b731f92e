//! What readers of the code found, each as a client would meet it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir_tests::origin::page_text;
use weir_tests::raw::Raw;
use weir_tests::{Answer, Config, Gate, Origin, Reply, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_does_not_reach_the_origin_selects_no_variant() {
    let origin = Origin::with(|call| {
        let tenant = call.header("x-tenant").unwrap_or("none".into());
        Reply::ok()
            .cache("max-age=600")
            .header("vary", "x-tenant")
            .text(tenant)
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let attack =
        "GET / HTTP/1.1\r\nHost: h\r\nX-Tenant: acme\r\nConnection: X-Tenant, close\r\n\r\n";
    Raw::exchange(node.port(), attack).await;
    let host = ("host", "h");
    let answer = node.get_with("/", &[host, ("x-tenant", "acme")]).await;
    assert_eq!(answer.text(), "acme", "poisoned with the answer for none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_varies_with_a_field_that_the_node_writes_is_not_shared() {
    let origin = Origin::with(|call| {
        let reply = Reply::page(call).cache("max-age=600");
        reply.header("vary", "X-Forwarded-For")
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    for _ in 0..3 {
        assert!(!node.get("/ip").await.is_hit());
    }
    assert_eq!(origin.count("/ip"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_came_after_a_purge_does_not_get_the_fetch_from_before_it() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |call| {
        let reply = Reply::page(call)
            .cache("max-age=600")
            .header("cache-tag", "late");
        match call.nth {
            1 => reply.behind(&held),
            _ => reply,
        }
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let first = tokio::spawn(node.client().get(node.url("/late")).send());
    until("the fetch from before", async || {
        (origin.count("/late") == 1).then_some(())
    })
    .await;
    let version = origin.bump("/late");
    // The tag is known only from the response that is still to come.
    node.admin().purge_tag("late").await;
    let second = tokio::spawn(Answer::of(node.client().get(node.url("/late"))));
    until("the second request at the node", async || {
        (node.admin().metric("weir_connections", &[]).await >= 2.0).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    let second = second.await.unwrap().unwrap();
    assert_eq!(second.text(), page_text("/late", version));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_purged_even_if_its_client_has_left() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |call| match call.method.as_str() {
        "GET" => Reply::page(call).cache("max-age=600"),
        _ => Reply::status(204).behind(&held),
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let old = node.until_hit("/user").await.text();
    let mut raw = Raw::connect(node.port()).await;
    let host = format!("127.0.0.1:{}", node.port());
    raw.send(format!(
        "PUT /user HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\n\r\nhi"
    ))
    .await;
    until("the change at the origin", async || {
        (origin.calls("/user").iter())
            .any(|call| call.method == Method::PUT)
            .then_some(())
    })
    .await;
    drop(raw);
    origin.bump("/user");
    gate.open();
    until("the page after the change", async || {
        (node.get("/user").await.text() != old).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_for_another_validator_is_fetched_whole() {
    let origin = Origin::with(|call| {
        let reply = Reply::ok().cache("max-age=0, must-revalidate");
        let modified = "Mon, 01 Jan 2024 00:00:00 GMT";
        match (call.nth, call.header("if-modified-since")) {
            (1, _) => reply.header("last-modified", modified).text("one"),
            (_, Some(_)) => Reply::status(304).header("etag", "\"new\""),
            (_, None) => reply.header("etag", "\"new\"").text("two"),
        }
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    assert_eq!(node.get("/v").await.text(), "one");
    let answer = node.get("/v").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "two".into()));
}

/// RFC 9112 section 8 has it complete, but only an origin that says for how long it is
/// good is believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_with_its_connection_is_stored_only_if_explicitly_fresh() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let read = client.read(&mut request).await.unwrap_or(0);
            let explicit = request[..read].starts_with(b"GET /explicit");
            let field = match explicit {
                true => "cache-control: max-age=600",
                false => "last-modified: Thu, 01 Jan 2015 00:00:00 GMT",
            };
            let answer =
                format!("HTTP/1.1 200 OK\r\n{field}\r\nconnection: close\r\n\r\nis this all?");
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    let node = Config::plain(&format!("http://{address}")).start().await;
    for _ in 0..3 {
        let answer = node.get("/guessed").await;
        assert!(answer.text() == "is this all?" && !answer.is_hit());
    }
    node.get("/explicit").await;
    assert_eq!(node.until_hit("/explicit").await.text(), "is this all?");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_urls_full_keys_and_hosts_with_their_default_port_are_purged() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = Config::plain(&origin.url()).start().await;
    let site = [("host", "site.example")];
    for selector in [
        json!({ "urls": ["https://site.example:443/p"] }),
        json!({ "urls": ["http://Site.example:80/p"] }),
        json!({ "keys": ["http://site.example|/p"] }),
        json!({ "keys": ["/p"], "host": "site.example:80" }),
        json!({ "prefixes": ["/p"] }),
    ] {
        node.get_with("/p", &site).await;
        assert!(node.get_with("/p", &site).await.is_hit());
        node.admin().invalidate(selector.clone()).await;
        assert!(!node.get_with("/p", &site).await.is_hit(), "{selector}");
    }
    for (field, body) in [
        ("keys[0]", json!({ "keys": ["no spaces: in keys"] })),
        ("prefixes[0]", json!({ "prefixes": ["usr:"] })),
        ("host", json!({ "all": true, "host": "a b" })),
    ] {
        let answer = node.admin().post("/v1/invalidate", body.to_string()).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["error"]["field"], field);
    }
}
