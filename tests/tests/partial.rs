//! Ranges, of what is stored whole and of what is stored in parts.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use serde_json::json;
use weir_tests::{Answer, Call, Config, Origin, Reply, Weir};

const BODY: &str = "0123456789";

/// An origin that serves ranges of [`BODY`], as `entity` says which.
fn ranges(call: &Call, validator: (&str, &str)) -> Reply {
    let range = call.header("range");
    let bounds = range
        .as_deref()
        .and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = bounds.and_then(|bounds| bounds.split_once('-')) else {
        return Reply::ok().text(BODY);
    };
    let last = last.parse().unwrap_or(9).min(9);
    let first = first.parse().unwrap_or(0);
    Reply::status(206)
        .cache("max-age=600")
        .header(validator.0, validator.1)
        .header("content-range", format!("bytes {first}-{last}/10"))
        .text(BODY[first..=last].to_owned())
}

async fn node_with(validator: (&'static str, &'static str)) -> (Origin, Weir) {
    let origin = Origin::with(move |call| ranges(call, validator)).await;
    let node = Config::plain(&origin.url()).start().await;
    (origin, node)
}

async fn range(node: &Weir, value: &str) -> Answer {
    node.get_with("/p", &[("range", value)]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_ranges_of_a_stored_body_are_one_multipart_response() {
    let origin = Origin::with(|_| {
        let page = Reply::ok().cache("max-age=600").text(BODY);
        page.header("content-type", "text/plain")
            .header("etag", "\"a\"")
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    node.get("/p").await;
    let answer = range(&node, "bytes=7-8, 0-0").await;
    assert!(answer.is_hit() && answer.status == 206, "{answer:?}");
    let kind = answer.header("content-type").expect("a type");
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("a boundary");
    assert_eq!(answer.header("content-range"), None);
    let length = answer.header("content-length").expect("a length");
    assert_eq!(length, answer.body.len().to_string());
    let part = |span: &str, text: &str| {
        format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {span}/10\r\n\r\n{text}\r\n"
        )
    };
    let expected = part("7-8", "78") + &part("0-0", "0") + &format!("--{boundary}--\r\n");
    assert_eq!(answer.text(), expected);

    // Overlapping ones get the whole, one that is left gets a part of its own.
    assert_eq!(range(&node, "bytes=0-5,5-9").await.text(), BODY);
    let one = range(&node, "bytes=0-1,50-").await;
    assert_eq!(one.header("content-range").as_deref(), Some("bytes 0-1/10"));
    let none = range(&node, "bytes=50-,60-").await;
    assert_eq!(none.status, 416);
    assert_eq!(none.header("content-range").as_deref(), Some("bytes */10"));
    let other = [("range", "bytes=0-1,3-4"), ("if-range", "\"b\"")];
    assert_eq!(node.get_with("/p", &other).await.text(), BODY);
    assert_eq!(origin.total(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_answers_what_lies_within_it() {
    let (origin, node) = node_with(("etag", "\"a\"")).await;
    let miss = range(&node, "bytes=2-6").await;
    assert_eq!((miss.status.as_u16(), miss.text()), (206, "23456".into()));
    let status = miss.cache();
    assert!(
        status.stored && status.fwd.as_deref() == Some("uri-miss"),
        "{status:?}"
    );
    for (asked, text, span) in [
        ("bytes=2-6", "23456", "bytes 2-6/10"),
        ("bytes=3-4", "34", "bytes 3-4/10"),
        ("bytes=6-6", "6", "bytes 6-6/10"),
    ] {
        let hit = range(&node, asked).await;
        assert!(hit.is_hit() && hit.status == 206, "{asked}: {hit:?}");
        assert_eq!(hit.text(), text);
        assert_eq!(hit.header("content-range").as_deref(), Some(span));
        assert!(hit.age().is_some());
    }
    assert_eq!(origin.total(), 1);
    // Not within it, or for another representation: the origin's business.
    for asked in ["bytes=1-3", "bytes=6-", "bytes=2-3,5-6"] {
        let before = origin.total();
        range(&node, asked).await;
        assert_eq!(origin.total(), before + 1, "{asked}");
    }
    let foreign = [("range", "bytes=3-4"), ("if-range", "\"b\"")];
    assert!(!node.get_with("/p", &foreign).await.is_hit());
    // A part is no whole.
    let whole = node.get("/p").await;
    assert!(!whole.is_hit() && whole.text() == BODY, "{whole:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_with_one_strong_validator_become_the_whole() {
    let (origin, node) = node_with(("etag", "\"a\"")).await;
    range(&node, "bytes=0-3").await;
    range(&node, "bytes=6-9").await;
    assert!(!range(&node, "bytes=3-6").await.is_hit());
    // Now all ten bytes have been here.
    let whole = node.get("/p").await;
    assert!(whole.is_hit() && whole.status == 200, "{whole:?}");
    assert_eq!(whole.text(), BODY);
    assert_eq!(whole.header("content-range"), None);
    assert_eq!(whole.header("content-length").as_deref(), Some("10"));
    assert_eq!(origin.total(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_only_look_alike_are_not_put_together() {
    for validator in [("etag", "W/\"a\""), ("x-none", "1")] {
        let (_origin, node) = node_with(validator).await;
        range(&node, "bytes=0-4").await;
        range(&node, "bytes=5-9").await;
        assert!(!node.get("/p").await.is_hit(), "{validator:?}");
    }
    let origin = Origin::with(|call| {
        let tag = format!("\"v{}\"", call.version);
        ranges(call, ("etag", &tag))
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    range(&node, "bytes=0-4").await;
    origin.bump("/p");
    range(&node, "bytes=5-9").await;
    assert!(!node.get("/p").await.is_hit(), "two versions in one body");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_the_parts_too() {
    let (_origin, node) = node_with(("etag", "\"a\"")).await;
    for selector in [
        json!({ "urls": [node.url("/p")] }),
        json!({ "keys": ["/p"] }),
        json!({ "all": true }),
    ] {
        range(&node, "bytes=0-4").await;
        assert!(range(&node, "bytes=0-4").await.is_hit());
        node.admin().invalidate(selector.clone()).await;
        assert!(!range(&node, "bytes=0-4").await.is_hit(), "{selector}");
    }
    // A part from before a purge is not completed by one from after it.
    node.admin().invalidate(json!({ "all": true })).await;
    range(&node, "bytes=0-4").await;
    node.admin().invalidate(json!({ "all": true })).await;
    range(&node, "bytes=5-9").await;
    assert!(!node.get("/p").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn private_parts_and_those_of_an_unsolicited_206_are_not_stored() {
    let origin = Origin::with(|call| {
        let reply = match call.path.as_str() {
            "/private" => Reply::status(206).cache("private, max-age=600"),
            _ => Reply::status(206).cache("max-age=600"),
        };
        reply.header("content-range", "bytes 0-3/10").text("0123")
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let asked = [("range", "bytes=0-3")];
    for _ in 0..2 {
        assert!(!node.get_with("/private", &asked).await.is_hit());
        assert!(!node.get("/unasked").await.is_hit());
    }
    node.get_with("/shared", &asked).await;
    assert!(node.get_with("/shared", &asked).await.is_hit());
}
