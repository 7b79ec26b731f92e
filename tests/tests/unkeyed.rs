//! What a stored response may depend on although no key says so, on routes that are not
//! sealed: seen, counted, logged once, and shown by `explain`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use weir_tests::{Config, Origin, Reply, Weir, guests, until};

fn probe(origin: &Origin, settings: &str) -> Config {
    Config::new(
        r#"
[upstreams.o]
servers = ["{origin}"]
[[routes]]
path = "/{*rest}"
upstream = "o"
policy = "probe"
[policies.probe]
component = "{component}"
namespaces = ["probe"]
cpu_limit = "2s"
config = {settings}
"#,
    )
    .set("origin", origin.url())
    .set("settings", settings)
    .file("component", &guests().probe())
}

/// How often a check found something on the catch-all route.
async fn found(node: &Weir, check: &str) -> u64 {
    let labels = [("route", "/{*rest}"), ("check", check)];
    let name = "weir_unkeyed_inputs_total";
    let metrics = node.admin().get("/metrics").await.text();
    match metrics.contains(&format!("check=\"{check}\"")) {
        true => node.admin().metric(name, &labels).await as u64,
        false => 0,
    }
}

async fn explained(node: &Weir) -> String {
    let explained = node.admin().get("/v1/explain?url=http://h/other").await;
    explained.json()["unkeyed"].to_string()
}

/// The origin repeats X-Echo in a field, as many do with Origin or an id of the request.
async fn echoing(vary: &'static str) -> Origin {
    Origin::with(move |call| {
        let echo = call.header("x-echo").unwrap_or_default();
        let reply = Reply::page(call)
            .cache("max-age=60")
            .header("x-echoed", format!("<{echo}>"));
        match vary {
            "" => reply,
            vary => reply.header("vary", vary),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_the_response_that_repeats_what_no_key_names_is_told() {
    let origin = echoing("").await;
    let node = Config::plain(&origin.url()).start().await;
    node.get_with("/a", &[("x-echo", "abc")]).await;
    assert_eq!(
        found(&node, "reflected").await,
        0,
        "too short to say anything"
    );
    node.get_with("/b", &[("x-echo", "evil.example")]).await;
    node.get_with("/b", &[("x-echo", "evil.example")]).await;
    assert_eq!(
        found(&node, "reflected").await,
        1,
        "at the store, and not for a hit"
    );
    node.get_with("/c", &[("x-echo", "evil.example")]).await;
    assert_eq!(found(&node, "reflected").await, 2);
    let text = "a field of the response repeats the header x-echo";
    assert!(explained(&node).await.contains(text));
    assert_eq!(node.output().matches(text).count(), 1, "{}", node.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vary_or_the_key_names_is_not_told() {
    let origin = echoing("x-echo, x-read").await;
    let node = Config::plain(&origin.url()).start().await;
    node.get_with("/b", &[("x-echo", "evil.example")]).await;
    assert_eq!(found(&node, "reflected").await, 0);
    let keyed = r#"{ key = ["path", { header = "x-set" }], reads = ["x-read"], headers = [["x-made", [{ header = "x-set" }]]] }"#;
    let node = probe(&origin, keyed).start().await;
    let fields = [("x-echo", "evil.example"), ("x-read", "1"), ("x-set", "1")];
    for path in ["/1", "/2", "/3", "/4"] {
        node.get_with(path, &fields).await;
    }
    for check in ["reflected", "read", "change"] {
        assert_eq!(found(&node, check).await, 0, "{check}: {}", node.output());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_reads_and_forwards_and_does_not_key_is_told() {
    let origin = echoing("").await;
    let node = probe(&origin, r#"{ key = ["path"], reads = ["x-plan"] }"#)
        .start()
        .await;
    let fields = [("x-plan", "gold")];
    // Until two instances agreed, so that the reads are known.
    let mut asked = 0;
    until("a remembered decision", async || {
        asked += 1;
        node.get_with(&format!("/{asked}"), &fields).await;
        (found(&node, "read").await > 0).then_some(())
    })
    .await;
    let text = "the policy reads the header x-plan, and the origin gets it too";
    assert!(explained(&node).await.contains(text));
    // A request without it shows nothing.
    let before = found(&node, "read").await;
    node.get("/without").await;
    assert_eq!(found(&node, "read").await, before);
    // Nor does one whose field the origin does not get.
    let without = r#"{ key = ["path"], reads = ["x-plan"], without = ["x-plan"] }"#;
    let node = probe(&origin, without).start().await;
    for path in ["/1", "/2", "/3", "/4"] {
        node.get_with(path, &fields).await;
    }
    assert_eq!(found(&node, "read").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_makes_the_origins_request_of_and_does_not_key_is_told() {
    let origin = echoing("").await;
    for (settings, text) in [
        (
            r#"{ key = ["path"], headers = [["x-made", [{ cookie = "who" }]]] }"#,
            "makes the origin's request of the cookie who",
        ),
        (
            r#"{ key = [{ text = "x" }], target = ["path"] }"#,
            "makes the origin's request of the path",
        ),
        (
            r#"{ key = ["path"], target = ["path", { text = "?" }, { query-only = ["page"] }] }"#,
            "makes the origin's request of the query parameter page",
        ),
    ] {
        let node = probe(&origin, settings).start().await;
        node.get("/other?page=2").await;
        assert_eq!(found(&node, "change").await, 1, "{settings}");
        assert!(
            node.output().contains(text),
            "{settings}: {}",
            node.output()
        );
        assert!(explained(&node).await.contains(text), "{settings}");
        // On a sealed route all of it is keyed.
        let policy = "policy = \"probe\"";
        let config = probe(&origin, settings).text().to_owned();
        let sealed = config.replace(policy, "policy = \"probe\"\nsealed = true");
        let node = Config::whole(&sealed).start().await;
        assert!(node.get("/other?page=2").await.cache().stored, "{settings}");
        assert_eq!(found(&node, "change").await, 0, "{settings}");
    }
}
