//! What one client says or gets must not choose what others get: where it takes more than
//! the table of cases can say.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use http::HeaderValue;
use http::header::COOKIE;
use weir_tests::h2_client::{self, Http2};
use weir_tests::raw::Raw;
use weir_tests::raw_origin::RawOrigin;
use weir_tests::{Config, Origin, RedisServer, Reply, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_leads_to_two_routes_is_not_looked_up() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = Config::new(
        r#"
[upstreams.o]
servers = ["{origin}"]
[[routes]]
path = "/account/{*rest}"
upstream = "o"
[[routes]]
path = "/{*rest}"
upstream = "o"
"#,
    )
    .set("origin", origin.url())
    .start()
    .await;
    for path in [
        "/account%2Fme",
        "/s/..%2Faccount/me",
        "/s/..%5Caccount/me",
        "/account;x/me",
        "/s/..;/account/me",
    ] {
        for _ in 0..2 {
            // Raw, since a client would bring some of them to a normal form.
            let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            let (answer, _) = Raw::exchange(node.port(), request).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
            let status = "weir; fwd=bypass; fwd-status=200; detail=\"ambiguous-path\"";
            assert!(answer.contains(status), "{path}: {answer}");
        }
        assert_eq!(origin.count(path), 2, "{path}");
    }
    let url = "url=http://h/account%252Fme";
    let explained = node.admin().get(&format!("/v1/explain?{url}")).await;
    assert_eq!(explained.json()["reason"], "ambiguous-path");
    // The same route whoever reads it.
    for path in ["/files/a%2Fb", "/files/a;v=1", "/account/a%2Fb"] {
        node.until_hit(path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trailers_of_a_stored_response_are_no_header_fields() {
    let origin = RawOrigin::with(|_| {
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\
          Trailer: X-Sum, Set-Cookie\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\
          Set-Cookie: sid=victim\r\nContent-Length: 3\r\nCache-Control: max-age=9\r\n\r\n"
            .to_vec()
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    for hit in [false, true] {
        let answer = until("an answer", async || {
            let answer = client.get("/t").await.expect("an answer");
            let status = String::from_utf8_lossy(answer.headers["cache-status"].as_bytes());
            (status.contains("hit") == hit).then_some(answer)
        })
        .await;
        let trailers = answer.trailers.expect("trailers");
        let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["x-sum"], "hit: {hit}");
        assert_eq!(answer.body, b"abc");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_that_http2_split_are_one_field_again() {
    let origin = Origin::with(|call| {
        Reply::page(call)
            .cache("max-age=600")
            .header("vary", "cookie")
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    let mut request = client.request("GET", "/c");
    for crumb in ["a=1", "b=2", "c=3"] {
        let crumb = HeaderValue::from_static(crumb);
        request.headers_mut().append(COOKIE, crumb);
    }
    let (response, _) = client.start(request, true).await.expect("a stream");
    h2_client::read(response).await.expect("an answer");
    assert_eq!(
        origin.last("/c").header("cookie").as_deref(),
        Some("a=1; b=2; c=3")
    );
    let hit = node.get_with("/c", &[("cookie", "a=1; b=2; c=3")]).await;
    assert!(hit.is_hit(), "{hit:?}");
    let other = node.get_with("/c", &[("cookie", "a=1, b=2, c=3")]).await;
    assert!(!other.is_hit(), "{other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_304_makes_private_leaves_redis_too() {
    let origin = Origin::with(|call| match call.nth {
        1 => Reply::page(call).cache("max-age=600"),
        2 => Reply::status(304)
            .cache("private, no-store")
            .header("etag", "\"v1\""),
        _ => Reply::page(call).cache("no-store"),
    })
    .await;
    let redis = RedisServer::start().await;
    let node = Config::plain(&origin.url())
        .redis(&redis.url())
        .start()
        .await;
    node.get("/p").await;
    until("the object in Redis", async || {
        (!redis.keys("weir:*|*").is_empty()).then_some(())
    })
    .await;
    node.get_with("/p", &[("cache-control", "no-cache")]).await;
    assert_eq!(origin.count("/p"), 2);
    let after = node.get("/p").await;
    assert!(!after.is_hit(), "{:?}", after.cache());
    assert_eq!(origin.count("/p"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_of_a_shared_route_are_one_origin() {
    let origin = Origin::with(|call| match call.path.as_str() {
        "/change" => Reply::ok()
            .header("cache-group-invalidation", "\"g\"")
            .header("location", "/moved"),
        _ => Reply::page(call)
            .cache("max-age=600")
            .header("cache-groups", "\"g\""),
    })
    .await;
    origin.on("/moved", |call| Reply::page(call).cache("max-age=600"));
    let node = Config::new(
        r#"
[upstreams.o]
servers = ["{origin}"]
[[routes]]
path = "/{*rest}"
upstream = "o"
shared = true
"#,
    )
    .set("origin", origin.url())
    .start()
    .await;
    let (a, b) = ([("host", "a.example")], [("host", "b.example")]);
    for path in ["/grouped", "/moved"] {
        node.get_with(path, &a).await;
        assert!(node.get_with(path, &b).await.is_hit(), "{path}");
    }
    let change = node.send(http::Method::POST, "/change", &b, "x").await;
    assert_eq!(change.status, 200);
    for path in ["/grouped", "/moved"] {
        assert!(!node.get_with(path, &a).await.is_hit(), "{path}");
    }
}
