//! What an origin says beyond Cache-Control: cache groups, targeted fields, and errors
//! and absences that say nothing.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use reqwest::Method;
use serde_json::json;
use weir_tests::{Config, Origin, Reply};

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_group_goes_when_an_unsafe_response_says_so() {
    let origin = Origin::start().await;
    let member = |groups: &'static str| {
        move |_: &weir_tests::Call| {
            Reply::ok()
                .cache("max-age=600")
                .header("cache-groups", groups)
                .text("x")
        }
    };
    origin.on("/one", member("\"news\", \"front page\""));
    origin.on("/two", member("\"front page\";x"));
    origin.on("/three", member("\"News\""));
    origin.on("/edit", |call| {
        let reply = Reply::status(if call.query.is_some() { 500 } else { 204 });
        reply.header("cache-group-invalidation", "\"front page\"")
    });
    let node = Config::plain(&origin.url()).start().await;
    let fill = async || {
        for path in ["/one", "/two", "/three"] {
            node.get(path).await;
            assert!(node.get(path).await.is_hit(), "{path}");
        }
    };
    fill().await;
    // A safe request purges nothing, nor does a failed one, nor one of another origin.
    node.get("/edit").await;
    node.send(Method::POST, "/edit?fails", &[], "").await;
    node.send(Method::POST, "/edit", &[("host", "other.example")], "")
        .await;
    for path in ["/one", "/two", "/three"] {
        assert!(node.get(path).await.is_hit(), "{path}");
    }
    node.send(Method::POST, "/edit", &[], "").await;
    assert!(!node.get("/one").await.is_hit());
    assert!(!node.get("/two").await.is_hit());
    assert!(
        node.get("/three").await.is_hit(),
        "groups are case-sensitive"
    );

    fill().await;
    let tag = format!("group:{}:News", node.url(""));
    node.admin().invalidate(json!({ "tags": [tag] })).await;
    assert!(node.get("/one").await.is_hit());
    assert!(!node.get("/three").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_most_specific_targeted_field_decides() {
    let origin = Origin::with(|call| {
        let reply = Reply::ok().text("x").cache("max-age=600");
        let query = call.query.clone().unwrap_or_default();
        let fields = query.split('&').filter_map(|field| field.split_once(':'));
        fields.fold(reply, |reply, (name, value)| reply.header(name, value))
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    for (fields, hit) in [
        ("cdn-cache-control:no-store", false),
        ("cdn-cache-control:private", false),
        ("surrogate-control:no-store", false),
        (
            "cdn-cache-control:no-store&weir-cache-control:max-age=60",
            true,
        ),
        (
            "cdn-cache-control:max-age=60&weir-cache-control:no-store",
            false,
        ),
        ("cdn-cache-control:not=(valid", true),
    ] {
        let path = format!("/t?{fields}");
        let first = node.get(&path).await;
        assert_eq!(node.get(&path).await.is_hit(), hit, "{fields}");
        // It goes on to the client: a cache behind this one may heed it too.
        let (name, value) = fields
            .split('&')
            .next()
            .and_then(|f| f.split_once(':'))
            .expect("a field");
        assert_eq!(first.header(name).as_deref(), Some(value));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_kept_for_as_long_as_the_route_says() {
    let origin = Origin::with(|call| match call.path.as_str() {
        "/private" => Reply::status(404).cache("private"),
        "/gone" => Reply::status(410),
        _ => Reply::status(404),
    })
    .await;
    let node = Config::plain(&origin.url())
        .and("negative = { 404 = \"30s\" }\n")
        .start()
        .await;
    node.get("/missing").await;
    let hit = node.get("/missing").await;
    assert!(hit.is_hit() && hit.status == 404, "{hit:?}");
    assert!(hit.cache().ttl.is_some_and(|ttl| (1..=30).contains(&ttl)));
    for path in ["/private", "/gone"] {
        node.get(path).await;
        assert!(!node.get(path).await.is_hit(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_out_of_reach_is_stood_in_for_unless_it_forbade_that() {
    let mut origin = Origin::with(|call| {
        let more = call.query.clone().unwrap_or_default();
        // Stale when it comes, and with a validator, so that it is kept.
        let reply = Reply::ok()
            .text("x")
            .header("etag", "\"a\"")
            .header("age", "2");
        reply.cache(&format!("max-age=1{more}"))
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let paths = [
        "/p",
        "/p?,must-revalidate",
        "/p?,s-maxage=1",
        "/p?,no-cache",
    ];
    for path in paths {
        node.get(path).await;
    }
    origin.down().await;
    let stale = node.get("/p").await;
    assert_eq!((stale.status.as_u16(), stale.text()), (200, "x".into()));
    let status = stale.cache();
    assert!(
        !status.hit && status.details("origin-unreachable"),
        "{status:?}"
    );
    assert!(status.ttl.is_some_and(|ttl| ttl < 0), "{status:?}");
    for path in &paths[1..] {
        assert_eq!(node.get(path).await.status, 502, "{path}");
    }
    let sure = [("cache-control", "no-cache")];
    assert_eq!(node.get_with("/p", &sure).await.status, 502);
}
