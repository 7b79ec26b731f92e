//! RFC 9111 through the real binary, one node, memory alone.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use futures_util::future::join_all;
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir_tests::origin::{Piece, page_text};
use weir_tests::raw::Raw;
use weir_tests::{Answer, Config, Gate, Origin, Reply, Weir, until};

async fn plain(cache: &'static str) -> (Origin, Weir) {
    let origin = Origin::with(move |call| Reply::page(call).cache(cache)).await;
    let node = Config::plain(&origin.url()).start().await;
    (origin, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_is_stored_and_the_next_is_a_hit_with_age_and_ttl() {
    let (origin, node) = plain("max-age=600").await;
    let miss = node.get("/a").await;
    let status = miss.cache();
    assert!(!status.hit && status.stored, "{status:?}");
    assert_eq!(status.fwd.as_deref(), Some("uri-miss"));

    let hit = node.get("/a").await;
    let status = hit.cache();
    assert!(status.hit && status.details("memory"), "{status:?}");
    let ttl = status.ttl.expect("a ttl");
    assert!((1..=600).contains(&ttl), "{ttl}");
    let age = hit.age().expect("Age");
    assert!(
        age <= 600 && age as i64 + ttl >= 599,
        "age {age}, ttl {ttl}"
    );
    assert_eq!(hit.text(), miss.text());
    assert_eq!(hit.header("etag"), miss.header("etag"));
    assert_eq!(origin.count("/a"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_age_that_a_response_brings_counts() {
    let origin =
        Origin::with(|call| Reply::page(call).cache("max-age=600").header("age", "500")).await;
    let node = Config::plain(&origin.url()).start().await;
    node.get("/a").await;
    let hit = node.until_hit("/a").await;
    assert!(hit.age().is_some_and(|age| age >= 500), "{hit:?}");
    assert!(hit.cache().ttl.is_some_and(|ttl| ttl <= 100), "{hit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_queries_are_different_objects() {
    let (origin, node) = plain("max-age=600").await;
    for path in ["/a", "/a?", "/a?x=1", "/a?x=2", "/A"] {
        assert!(!node.get(path).await.is_hit(), "{path}");
        assert!(node.get(path).await.is_hit(), "{path}");
    }
    assert!(
        !node
            .get_with("/a", &[("host", "other.example")])
            .await
            .is_hit()
    );
    assert_eq!(origin.total(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn variants_are_kept_apart_by_vary() {
    let origin = Origin::with(|call| {
        let language = call.header("accept-language").unwrap_or_default();
        Reply::ok()
            .cache("max-age=600")
            .header("vary", "Accept-Language")
            .text(format!("in {language}"))
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    for language in ["de", "en"] {
        let field = [("accept-language", language)];
        let miss = node.get_with("/v", &field).await;
        assert!(!miss.is_hit());
        let hit = node.get_with("/v", &field).await;
        assert!(hit.is_hit());
        assert_eq!(hit.text(), format!("in {language}"));
    }
    assert_eq!(
        node.get_with("/v", &[("accept-language", "de")])
            .await
            .text(),
        "in de"
    );
    assert_eq!(origin.count("/v"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_one_user_is_never_stored() {
    let origin = Origin::start().await;
    origin.on("/private", |call| {
        Reply::page(call).cache("private, max-age=600")
    });
    origin.on("/no-store", |call| Reply::page(call).cache("no-store"));
    origin.on("/cookie", |call| {
        Reply::page(call)
            .cache("max-age=600")
            .header("set-cookie", "s=1")
    });
    origin.on("/star", |call| {
        Reply::page(call).cache("max-age=600").header("vary", "*")
    });
    origin.on("/authorized", |call| Reply::page(call).cache("max-age=600"));
    let node = Config::plain(&origin.url()).start().await;
    for path in ["/private", "/no-store", "/cookie", "/star"] {
        for _ in 0..3 {
            let status = node.get(path).await.cache();
            assert!(!status.hit && !status.stored, "{path}: {status:?}");
        }
        assert_eq!(origin.count(path), 3, "{path}");
    }
    let credentials = [("authorization", "Bearer one")];
    for _ in 0..2 {
        assert!(!node.get_with("/authorized", &credentials).await.is_hit());
    }
    assert!(!node.get("/authorized").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_304_of_the_origin_makes_the_stored_response_fresh_again() {
    let (origin, node) = plain("max-age=0").await;
    assert_eq!(node.get("/r").await.text(), page_text("/r", 1));
    let again = node.get("/r").await;
    assert_eq!(
        (again.status.as_u16(), again.text()),
        (200, page_text("/r", 1))
    );
    assert!(!again.is_hit());
    let asked = origin.last("/r");
    assert_eq!(asked.header("if-none-match").as_deref(), Some("\"v1\""));
    assert_eq!(again.cache().fwd.as_deref(), Some("stale"));

    origin.bump("/r");
    assert_eq!(node.get("/r").await.text(), page_text("/r", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_it_gets_304_from_the_cache() {
    let (origin, node) = plain("max-age=600").await;
    node.get("/c").await;
    let answer = node.get_with("/c", &[("if-none-match", "\"v1\"")]).await;
    assert_eq!(answer.status, 304);
    assert!(answer.body.is_empty() && answer.is_hit());
    assert_eq!(answer.header("etag").as_deref(), Some("\"v1\""));
    let other = node.get_with("/c", &[("if-none-match", "\"v0\"")]).await;
    assert_eq!(other.status, 200);
    assert_eq!(origin.count("/c"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_cut_from_the_stored_body() {
    let (origin, node) = plain("max-age=600").await;
    let whole = node.get("/range").await.text();
    let part = node.get_with("/range", &[("range", "bytes=1-4")]).await;
    assert_eq!(
        (part.status.as_u16(), part.text().as_str()),
        (206, &whole[1..5])
    );
    let field = format!("bytes 1-4/{}", whole.len());
    assert_eq!(part.header("content-range"), Some(field));
    let beyond = node.get_with("/range", &[("range", "bytes=9999-")]).await;
    assert_eq!(beyond.status, 416);
    assert_eq!(origin.count("/range"), 1);
}

/// RFC 9111 section 4.3.5.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_freshens_what_it_still_describes_and_drops_what_it_does_not() {
    let origin = Origin::with(|call| {
        let head = call.method == Method::HEAD;
        let modified = match (head, call.path.as_str()) {
            (true, "/other") => "Thu, 02 Jan 2020 00:00:00 GMT",
            _ => "Wed, 01 Jan 2020 00:00:00 GMT",
        };
        let reply = Reply::ok()
            .header("last-modified", modified)
            .cache("max-age=600");
        let from = if head { "head" } else { "get" };
        reply.header("x-from", from).text("body")
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    for (path, from) in [("/same", "head"), ("/other", "get")] {
        node.get(path).await;
        // Only the origin can answer it, so that a HEAD reaches it.
        let sure = [("if-unmodified-since", "Wed, 01 Jan 2025 00:00:00 GMT")];
        let head = node.send(Method::HEAD, path, &sure, "").await;
        assert_eq!(head.header("x-from").as_deref(), Some("head"));
        let after = node.get(path).await;
        assert_eq!(after.is_hit(), path == "/same", "{path}");
        assert_eq!(after.header("x-from").as_deref(), Some(from), "{path}");
        assert_eq!(after.text(), "body");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hundred_at_once_make_one_request_to_the_origin() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin =
        Origin::with(move |call| Reply::page(call).cache("max-age=600").behind(&held)).await;
    let node = Config::plain(&origin.url()).start().await;
    let many: Vec<_> = (0..100)
        .map(|_| tokio::spawn(Answer::of(node.client().get(node.url("/one")))))
        .collect();
    until("the request at the origin", async || {
        (origin.count("/one") >= 1).then_some(())
    })
    .await;
    gate.open();
    let mut collapsed = 0;
    for answer in join_all(many).await {
        let answer = answer.unwrap().unwrap();
        assert_eq!(answer.text(), page_text("/one", 1));
        collapsed += usize::from(answer.cache().collapsed);
    }
    assert_eq!(origin.count("/one"), 1);
    // Some may have come late enough to be hits; not one asked for itself.
    assert!(collapsed >= 1, "nobody waited for another's fetch");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_of_one_fill_get_the_body_while_it_arrives() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |_| {
        let pieces = [
            Piece::from("first "),
            Piece::from(&held),
            Piece::from("last"),
        ];
        Reply::ok().cache("max-age=600").pieces(pieces)
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut response = node.client().get(node.url("/s")).send().await.unwrap();
        // The body is half here, and this reader has that half already, early or late.
        assert_eq!(response.chunk().await.unwrap().unwrap(), "first ");
        readers.push(response);
    }
    gate.open();
    for mut response in readers {
        assert_eq!(response.chunk().await.unwrap().unwrap(), "last");
        assert_eq!(response.chunk().await.unwrap(), None);
    }
    assert_eq!(origin.count("/s"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_used_again_is_not_joined_once_its_head_is_there() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |_| {
        let pieces = [
            Piece::from("first "),
            Piece::from(&held),
            Piece::from("last"),
        ];
        Reply::ok()
            .cache("max-age=0, must-revalidate")
            .header("etag", "\"1\"")
            .pieces(pieces)
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    for fetches in 1..=3 {
        let mut response = node.client().get(node.url("/s")).send().await.unwrap();
        assert_eq!(response.chunk().await.unwrap().unwrap(), "first ");
        assert_eq!(origin.count("/s"), fetches);
    }
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_cut_short_ends_clean_for_nobody_and_is_not_stored() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |call| {
        let reply = Reply::ok().cache("max-age=600");
        let cut = [Piece::from("half"), Piece::from(&held), Piece::Cut];
        match call.path.as_str() {
            "/length" => reply.header("content-length", "100").pieces(cut),
            _ => reply.pieces(cut),
        }
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let mut readers = Vec::new();
    for path in ["/chunked", "/length"].repeat(50) {
        let mut raw = Raw::connect(node.port()).await;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"))
            .await;
        raw.read_until("half").await;
        readers.push((path, raw));
    }
    gate.open();
    for (path, mut raw) in readers {
        let (rest, _) = raw.read_to_end().await;
        assert!(!rest.ends_with("0\r\n\r\n"), "{path} ended clean: {rest:?}");
    }
    for path in ["/chunked", "/length"] {
        let before = origin.count(path);
        // Broken off, or, where the cut came before the head went out, an honest error.
        if let Ok(answer) = Answer::of(node.client().get(node.url(path))).await {
            assert_eq!(answer.status, 502, "half of {path} ended clean");
        }
        assert!(origin.count(path) > before, "half of {path} was stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_the_uncacheable_do_not_queue() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |call| match call.nth {
        1 => Reply::page(call).cache("no-store"),
        _ => Reply::page(call).cache("no-store").behind(&held),
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    node.get("/u").await;
    let many: Vec<_> = (0..20)
        .map(|_| tokio::spawn(Answer::of(node.client().get(node.url("/u")))))
        .collect();
    // All of them are at the origin at once: none waits for another.
    until("all requests at the origin", async || {
        (origin.count("/u") == 21).then_some(())
    })
    .await;
    gate.open();
    for answer in join_all(many).await {
        assert_eq!(answer.unwrap().unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successful_unsafe_method_invalidates() {
    let origin = Origin::with(|call| match call.method.as_str() {
        "GET" => Reply::page(call).cache("max-age=600"),
        _ if call.body == "fail" => Reply::status(500),
        _ => Reply::status(204),
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    node.get("/x").await;
    assert!(node.get("/x").await.is_hit());
    node.send(Method::POST, "/x", &[], "fail").await;
    assert!(
        node.get("/x").await.is_hit(),
        "a failed change invalidates nothing"
    );
    for method in [Method::PUT, Method::POST, Method::DELETE, Method::PATCH] {
        let version = origin.bump("/x");
        node.send(method.clone(), "/x", &[], "change").await;
        let after = node.get("/x").await;
        assert!(!after.is_hit(), "{method}");
        assert_eq!(after.text(), page_text("/x", version), "{method}");
        node.until_hit("/x").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_if_error_serves_the_old_when_the_origin_fails() {
    let mut origin =
        Origin::with(|call| Reply::page(call).cache("max-age=0, stale-if-error=600")).await;
    let node = Config::plain(&origin.url()).start().await;
    let first = node.get("/e").await.text();
    origin.on("/e", |_| Reply::status(503));
    let answer = node.get("/e").await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (200, first.clone())
    );
    origin.down().await;
    let answer = node.get("/e").await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, first));
    let status = answer.cache();
    assert!(
        status.fwd.is_some() || status.ttl.is_some_and(|ttl| ttl <= 0),
        "{status:?}"
    );
    // What was never stored has nothing stale to fall back on.
    assert_eq!(node.get("/never").await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_stale_if_error_a_failure_is_shown() {
    let (origin, node) = plain("max-age=0, must-revalidate").await;
    node.get("/e").await;
    origin.on("/e", |_| Reply::status(503));
    assert_eq!(node.get("/e").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_while_revalidate_answers_at_once_and_refreshes_behind() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |call| {
        let reply = Reply::page(call).cache("max-age=0, stale-while-revalidate=600");
        if call.nth == 1 {
            reply
        } else {
            reply.behind(&held)
        }
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    node.get("/w").await;
    origin.bump("/w");
    // The origin is held: whoever is answered now is answered with what is stale.
    for _ in 0..5 {
        let stale = node.get("/w").await;
        assert_eq!(stale.text(), page_text("/w", 1));
        assert!(stale.is_hit());
    }
    until("one revalidation", async || {
        (origin.count("/w") == 2).then_some(())
    })
    .await;
    gate.open();
    until("the refreshed response", async || {
        (node.get("/w").await.text() == page_text("/w", 2)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_if_cached_and_no_cache_of_a_client_are_obeyed() {
    let (origin, node) = plain("max-age=600").await;
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(node.get_with("/o", &only).await.status, 504);
    assert_eq!(origin.total(), 0);
    node.get("/o").await;
    assert!(node.get_with("/o", &only).await.is_hit());
    let fresh = [("cache-control", "no-cache")];
    assert!(!node.get_with("/o", &fresh).await.is_hit());
    assert_eq!(origin.count("/o"), 2);
}

/// An origin that sends no Date, as no HTTP library does.
async fn dateless_origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut request = [0; 4096];
            // One read holds the small request of these tests.
            let _ = client.read(&mut request).await;
            let answer = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\n\
                content-length: 2\r\nconnection: close\r\n\r\nok";
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_without_date_is_dated_once_when_it_arrives() {
    let node = Config::plain(&dateless_origin().await).start().await;
    let first = node.get("/x").await.headers["date"].clone();
    let aged = until("a hit that is a second old", async || {
        let answer = node.get("/x").await;
        (answer.age() >= Some(2)).then_some(answer)
    })
    .await;
    assert!(aged.is_hit());
    assert_eq!(aged.headers["date"], first, "dated anew when it was served");
}

/// An origin that takes its time, so that there is time before the end to renew in.
async fn slow_and_short() -> Origin {
    Origin::with(|call| {
        let took = std::time::Duration::from_millis(300);
        Reply::page(call).after(took).cache("max-age=5")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_often_is_renewed_before_it_expires() {
    let origin = slow_and_short().await;
    let node = Config::plain(&origin.url()).start().await;
    node.until_hit("/hot").await;
    until("a fetch before the end of the lifetime", async || {
        node.get("/hot").await;
        let renewed = node.admin().metric("weir_early_refreshes_total", &[]).await;
        (renewed > 0.5).then_some(())
    })
    .await;
    until("the fetch at the origin", async || {
        (origin.count("/hot") >= 2).then_some(())
    })
    .await;
    let renewal = origin.last("/hot");
    assert_eq!(renewal.header("if-none-match").as_deref(), Some("\"v1\""));
    // Those who come meanwhile do not wait, and the renewed object takes over.
    until("the renewed object", async || {
        let answer = node.get("/hot").await;
        (answer.is_hit() && answer.age() == Some(0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_origin_is_asked_in_the_background_once_a_second_at_most() {
    let origin = Origin::start().await;
    origin.on("/hot", |_| {
        Reply::ok()
            .cache("max-age=1, stale-while-revalidate=600")
            .text("good")
    });
    let node = Config::plain(&origin.url()).start().await;
    node.until_hit("/hot").await;
    origin.on("/hot", |_| Reply::status(503).text("bad"));
    let stale = async || {
        let answer = node.get("/hot").await;
        assert_eq!(answer.text(), "good");
        answer.cache().ttl.is_some_and(|ttl| ttl < 0)
    };
    until("the end of the lifetime", async || {
        stale().await.then_some(())
    })
    .await;
    let (before, began) = (origin.count("/hot"), std::time::Instant::now());
    for _ in 0..300 {
        assert!(stale().await);
    }
    let most = before + 2 + began.elapsed().as_secs() as usize;
    assert!(
        origin.count("/hot") <= most,
        "{} fetches, {most} at most",
        origin.count("/hot")
    );
    // Well again, it is asked for what is stale.
    origin.on("/hot", |_| Reply::ok().cache("max-age=600").text("new"));
    until("the new page", async || {
        (node.get("/hot").await.text() == "new").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_early_refresh_nothing_fresh_is_fetched() {
    let origin = slow_and_short().await;
    let config = Config::plain(&origin.url()).and("[cache]\nearly_refresh = false\n");
    let node = config.start().await;
    node.until_hit("/hot").await;
    until("the end of the lifetime", async || {
        let answer = node.get("/hot").await;
        (!answer.is_hit()).then_some(())
    })
    .await;
    let renewed = node.admin().metric("weir_early_refreshes_total", &[]).await;
    assert!(renewed < 0.5 && origin.count("/hot") == 2);
}
