//! What stands in for a policy that fails touches nothing of what it stored, and takes no
//! chances with what it may have changed.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use reqwest::Method;
use weir_tests::origin::page_text;
use weir_tests::versions::{deploy, version};
use weir_tests::{Config, Origin, Reply, Weir, guests, until};

/// A node whose policy `p` may use the namespaces of `plugins/misbehaving` and of
/// `plugins/probe`, with plain RFC 9111 where it fails. Under `/other/` there is another
/// policy, whose objects have the same tag.
async fn node(origin: &Origin) -> Weir {
    Config::new(
        r#"
[upstreams.o]
servers = ["{origin}"]
[policies.p]
component = "{component}"
namespaces = ["test", "probe"]
guard = { min_calls = 1000 }
[policies.other]
component = "{component}"
namespaces = ["other"]
config = { namespace = "other" }
[[routes]]
path = "/{*rest}"
upstream = "o"
policy = "p"
on_policy_error = "rfc9111"
[[routes]]
path = "/other/{*rest}"
upstream = "o"
policy = "other"
"#,
    )
    .set("origin", origin.url())
    .file("component", &guests().misbehaving())
    .start()
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_stored_and_what_is_stored_without_it_are_two_objects() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = node(&origin).await;
    // Of the policy.
    assert_eq!(node.until_hit("/a").await.text(), page_text("/a", 1));
    origin.bump("/a");

    deploy(&node, version("trap-on-request")).await;
    let first = node.get("/a").await;
    assert!(!first.is_hit(), "{:?}", first.cache());
    assert_eq!(node.until_hit("/a").await.text(), page_text("/a", 2));
    assert_eq!(node.until_hit("/b").await.text(), page_text("/b", 1));
    origin.bump("/b");

    deploy(&node, version("nothing")).await;
    let own = node.get("/a").await;
    assert!(own.is_hit(), "{:?}", own.cache());
    assert_eq!(own.text(), page_text("/a", 1), "not the policy's own");
    let first = node.get("/b").await;
    assert!(!first.is_hit(), "{:?}", first.cache());
    assert_eq!(first.text(), page_text("/b", 2));
}

/// Gets what is stored until the origin has been asked whether it is still good: a soft purge
/// leaves it there to be confirmed.
async fn is_confirmed(node: &Weir, origin: &Origin, path: &str) {
    until(&format!("{path} is confirmed"), async || {
        node.get(path).await;
        let asked = origin.last(path).header("if-none-match");
        asked.is_some().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_fails_after_a_change_has_all_confirmed_that_it_may_have_meant() {
    let origin = Origin::with(|call| match call.method.as_str() {
        "GET" => Reply::page(call).cache("max-age=600"),
        // Nothing is purged for what the origin says: it may have done it all the same.
        _ => Reply::status(500),
    })
    .await;
    let node = node(&origin).await;
    // One of another policy with the tag of what is changed, one of this policy's other
    // namespace without a tag, and one with nothing but the URL.
    node.until_hit("/other/a").await;
    let probe = std::fs::read(guests().probe()).expect("the component");
    deploy(&node, probe.clone()).await;
    node.until_hit("/probed").await;
    deploy(&node, version("trap-on-request")).await;
    node.until_hit("/changed").await;
    node.until_hit("/unrelated").await;

    deploy(&node, version("trap-on-response")).await;
    for method in [Method::PUT, Method::POST] {
        let answer = node.send(method, "/changed", &[], "new").await;
        assert_eq!(answer.status, 500);
    }
    is_confirmed(&node, &origin, "/other/a").await;
    deploy(&node, version("trap-on-request")).await;
    is_confirmed(&node, &origin, "/changed").await;
    let unrelated = node.get("/unrelated").await;
    assert!(unrelated.is_hit(), "{:?}", unrelated.cache());
    deploy(&node, probe).await;
    is_confirmed(&node, &origin, "/probed").await;
}
