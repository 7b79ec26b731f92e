//! The data plane without a policy: routing, streaming, failures, a graceful end.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Method, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use weir_tests::answer;
use weir_tests::origin::{Pattern, Piece};
use weir_tests::port::Port;
use weir_tests::raw::{End, Raw};
use weir_tests::{Answer, Config, Gate, Origin, Reply, until};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn routes_by_host_and_by_path_most_specific_first() {
    let named = async |name: &'static str| Origin::with(move |_| Reply::ok().text(name)).await;
    let (any, users, one, hosted) = (
        named("any").await,
        named("users").await,
        named("me").await,
        named("hosted").await,
    );
    let node = Config::new(
        r#"
        [upstreams.any]
        servers = ["{any}"]
        [upstreams.users]
        servers = ["{users}"]
        [upstreams.me]
        servers = ["{one}"]
        [upstreams.hosted]
        servers = ["{hosted}"]
        [[routes]]
        path = "/{*rest}"
        upstream = "any"
        [[routes]]
        path = "/users/{id}"
        upstream = "users"
        [[routes]]
        path = "/users/me"
        upstream = "me"
        [[routes]]
        host = "api.example.org"
        path = "/{*rest}"
        upstream = "hosted"
        "#,
    )
    .set("any", any.url())
    .set("users", users.url())
    .set("one", one.url())
    .set("hosted", hosted.url())
    .start()
    .await;

    assert_eq!(node.get("/").await.text(), "any");
    assert_eq!(node.get("/users/7/more").await.text(), "any");
    assert_eq!(node.get("/users/7").await.text(), "users");
    assert_eq!(node.get("/users/me").await.text(), "me");
    let host = [("host", "API.example.org")];
    assert_eq!(node.get_with("/users/me", &host).await.text(), "hosted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_takes_is_404_and_reaches_no_origin() {
    let origin = Origin::with(|_| Reply::ok()).await;
    let node = Config::new(
        "[upstreams.o]\nservers = [\"{o}\"]\n[[routes]]\npath = \"/only\"\nupstream = \"o\"\n",
    )
    .set("o", origin.url())
    .start()
    .await;
    assert_eq!(node.get("/other").await.status, 404);
    assert_eq!(origin.total(), 0);
    assert_eq!(node.get("/only").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hop_by_hop_fields_pass_in_neither_direction() {
    let origin = Origin::with(|call| {
        Reply::ok()
            .header("connection", "x-secret")
            .header("x-secret", "1")
            .header("keep-alive", "timeout=5")
            .header("x-kept", "1")
            .reflect(call)
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let (answer, _) = Raw::exchange(
        node.port(),
        "GET /h HTTP/1.1\r\nHost: h.example\r\nConnection: close, x-mine, authorization\r\n\
         X-Mine: 1\r\nTE: trailers\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 1\r\n\
         Upgrade: x\r\nAuthorization: Basic QQ==\r\nX-Kept: 1\r\n\r\n",
    )
    .await;
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(head.contains("x-kept: 1"), "{answer}");
    for gone in ["x-secret", "keep-alive:"] {
        assert!(!head.contains(gone), "{gone} came through: {answer}");
    }
    let seen = origin.last("/h");
    for gone in ["x-mine", "proxy-connection", "keep-alive", "upgrade"] {
        assert_eq!(seen.header(gone), None, "{gone} reached the origin");
    }
    assert_eq!(seen.header("x-kept").as_deref(), Some("1"));
    // A client may not have the proxy drop what decides who may see the answer.
    assert_eq!(seen.header("authorization").as_deref(), Some("Basic QQ=="));
    assert_eq!(seen.header("host").as_deref(), Some("h.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_streams_through_in_both_directions_at_once() {
    let origin = Origin::with(|_| Reply::ok().echo()).await;
    let node = Config::plain(&origin.url()).start().await;
    let mut raw = Raw::connect(node.port()).await;
    raw.send(
        "POST /echo HTTP/1.1\r\nHost: h\r\nX-Echo: 1\r\nTransfer-Encoding: chunked\r\n\r\n\
         6\r\nfirst\n\r\n",
    )
    .await;
    // The request has not ended, and its beginning is back already.
    raw.read_until("first\n").await;
    raw.send("7\r\nsecond\n\r\n").await;
    raw.read_until("second\n").await;
    raw.send("0\r\n\r\n").await;
    raw.read_until("0\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_of_1_gib_passes_a_node_of_64_mib_without_growing_it() {
    const SIZE: u64 = 1024 * MIB;
    let origin = Origin::with(|_| Reply::ok().cache("max-age=60").pattern(SIZE)).await;
    let node = Config::plain(&origin.url())
        .and("[memory]\ncapacity = \"64MiB\"\n")
        .start()
        .await;
    node.get("/").await;
    let before = node.resident();
    let response = node.client().get(node.url("/big")).send().await.unwrap();
    assert_eq!(response.content_length(), Some(SIZE));
    let (mut body, mut pattern, mut most) = (response.bytes_stream(), Pattern::default(), 0);
    let mut looked = 0;
    while let Some(piece) = body.next().await {
        assert!(pattern.goes_on_with(&piece.unwrap()), "another body");
        if pattern.position() - looked > 16 * MIB {
            looked = pattern.position();
            most = most.max(node.resident());
        }
    }
    assert_eq!(pattern.position(), SIZE);
    let grown = most.saturating_sub(before) / MIB;
    assert!(grown <= 24, "the node grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_reaches_the_origin_whole_without_growing_the_node() {
    const SIZE: u64 = 256 * MIB;
    let origin = Origin::with(|call| Reply::ok().text(call.body_length.to_string())).await;
    let node = Config::plain(&origin.url()).start().await;
    node.get("/").await;
    let before = node.resident();
    let pieces = futures_util::stream::unfold(Pattern::default(), async |mut pattern| {
        let left = SIZE - pattern.position();
        (left > 0).then(|| (Ok::<_, std::io::Error>(pattern.take(left)), pattern))
    });
    let request = node.client().put(node.url("/upload"));
    let request = request.body(reqwest::Body::wrap_stream(pieces));
    let answer = Answer::of(request).await.unwrap();
    assert_eq!(answer.text(), SIZE.to_string());
    let grown = node.resident().saturating_sub(before) / MIB;
    assert!(grown <= 24, "the node grew by {grown} MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_origin_back() {
    const SIZE: u64 = 512 * MIB;
    let origin = Origin::with(Reply::page).await;
    origin.on("/slow", |_| Reply::ok().cache("no-store").pattern(SIZE));
    let node = Config::plain(&origin.url()).start().await;
    node.get("/other").await;
    let before = node.resident();
    let mut raw = Raw::connect(node.port()).await;
    raw.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    raw.read_until("\r\n\r\n").await;
    // Others are served meanwhile, and nothing piles up for the one that does not read.
    for n in 0..200 {
        assert_eq!(node.get(&format!("/other/{n}")).await.status, 200);
        let grown = node.resident().saturating_sub(before) / MIB;
        assert!(grown <= 32, "the node grew by {grown} MiB");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn speaks_cleartext_http2_with_clients() {
    let origin = Origin::with(Reply::page).await;
    let node = Config::plain(&origin.url()).start().await;
    let client = answer::http2_client();
    let many = (0..50).map(|n| client.get(node.url(&format!("/h2/{n}"))).send());
    for (n, response) in futures_util::future::join_all(many)
        .await
        .into_iter()
        .enumerate()
    {
        let response = response.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        assert_eq!(response.text().await.unwrap(), format!("/h2/{n} v1\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_does_not_answer_is_504_and_says_so() {
    let never = Gate::new();
    let held = never.clone();
    let origin = Origin::with(move |_| Reply::ok().behind(&held)).await;
    let node = Config::new(
        "[upstreams.o]\nservers = [\"{o}\"]\nresponse_timeout = \"200ms\"\n\
         [[routes]]\npath = \"/{*rest}\"\nupstream = \"o\"\n",
    )
    .set("o", origin.url())
    .start()
    .await;
    let answer = node.get("/never").await;
    assert_eq!(answer.status, 504);
    let status = answer.cache();
    assert!(!status.hit && status.detail.is_some(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_cut_and_never_ends_clean() {
    let never = Gate::new();
    let held = never.clone();
    let origin =
        Origin::with(move |_| Reply::ok().pieces([Piece::from("begun"), Piece::from(&held)])).await;
    let node = Config::new(
        "[upstreams.o]\nservers = [\"{o}\"]\nbody_timeout = \"200ms\"\n\
         [[routes]]\npath = \"/{*rest}\"\nupstream = \"o\"\n",
    )
    .set("o", origin.url())
    .start()
    .await;
    let (answer, _) = Raw::exchange(node.port(), "GET /s HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.contains("begun"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "a clean end: {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_down_is_502_and_served_again_when_back() {
    let mut origin = Origin::with(|call| Reply::page(call).cache("no-store")).await;
    let node = Config::plain(&origin.url()).start().await;
    assert_eq!(node.get("/x").await.status, 200);
    origin.down().await;
    let answer = node.get("/x").await;
    assert_eq!(answer.status, 502);
    let status = answer.cache();
    assert!(!status.hit && status.detail.is_some(), "{status:?}");
    origin.up().await;
    until("200 from the origin that came back", async || {
        (node.get("/x").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_server_of_an_upstream_costs_no_request() {
    let origin = Origin::with(|call| Reply::page(call).cache("no-store")).await;
    let dead = Port::reserve();
    let node = Config::new(
        "[upstreams.o]\nservers = [\"http://127.0.0.1:{dead}\", \"{o}\"]\n\
         [[routes]]\npath = \"/{*rest}\"\nupstream = \"o\"\n",
    )
    .set("o", origin.url())
    .set("dead", dead.number())
    .start()
    .await;
    for n in 0..20 {
        assert_eq!(node.get(&format!("/{n}")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_framing_is_refused_and_ends_the_connection() {
    let origin = Origin::with(|_| Reply::ok()).await;
    let node = Config::plain(&origin.url()).start().await;
    let both = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let twice = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab";
    let hosts = "GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    let none = "GET /a HTTP/1.1\r\n\r\n";
    // Both lengths: hyper heeds the coding alone and ends the connection, so what follows
    // is read by nobody.
    let (answer, end) = Raw::exchange(node.port(), both).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer:?}");
    assert!(matches!(end, End::Closed | End::Reset));
    for request in [twice, hosts, none] {
        let (answer, end) = Raw::exchange(node.port(), request).await;
        assert!(
            answer.starts_with("HTTP/1.1 400"),
            "{request:?} got {answer:?}"
        );
        assert!(matches!(end, End::Closed | End::Reset));
    }
    assert_eq!(origin.count("/smuggled"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_fields_of_get_and_no_body() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=60")).await;
    let node = Config::plain(&origin.url()).start().await;
    let get = node.get("/h").await;
    let head = node.send(Method::HEAD, "/h", &[], "").await;
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!(head.header("etag"), get.header("etag"));
    assert!(head.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_the_body_in_flight_and_takes_nobody_new() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |_| {
        Reply::ok().pieces([
            Piece::from("first "),
            Piece::from(&held),
            Piece::from("last"),
        ])
    })
    .await;
    let mut node = Config::plain(&origin.url()).start().await;
    let mut response = node.client().get(node.url("/long")).send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "first ");
    node.terminate();
    let port = node.port();
    until("the listener's end", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
            .then_some(())
    })
    .await;
    gate.open();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "last");
    assert_eq!(response.chunk().await.unwrap(), None);
    assert!(node.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_does_not_wait_for_ever() {
    let never = Gate::new();
    let held = never.clone();
    let origin =
        Origin::with(move |_| Reply::ok().pieces([Piece::from("first"), Piece::from(&held)])).await;
    let mut node = Config::plain(&origin.url())
        .and("[limits]\ndrain_timeout = \"300ms\"\n")
        .start()
        .await;
    let mut response = node.client().get(node.url("/long")).send().await.unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "first");
    node.terminate();
    node.ended().await;
    assert!(
        response.chunk().await.is_err(),
        "a body that was cut ended clean"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_latency_of_the_origin_does_not_delay_others() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start().await;
    origin.on("/held", move |call| Reply::page(call).behind(&held));
    origin.on("/free", |call| {
        Reply::page(call).after(Duration::from_millis(1))
    });
    let node = Config::plain(&origin.url()).start().await;
    let waiting = tokio::spawn(node.client().get(node.url("/held")).send());
    until("the held request at the origin", async || {
        (origin.count("/held") == 1).then_some(())
    })
    .await;
    assert_eq!(node.get("/free").await.text(), "/free v1\n");
    gate.open();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

/// Answers the first request of a connection, and closes at the second.
async fn closing_origin() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let requests = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                for nth in 0..2 {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await?);
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    if nth == 0 {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        stream.write_all(answer).await?;
                    }
                }
                std::io::Result::Ok(())
            });
        }
    });
    (url, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_the_origin_closes_costs_no_get() {
    let (url, requests) = closing_origin().await;
    let node = Config::plain(&url).start().await;
    for fetches in [1, 3, 5] {
        let answer = node.get("/x").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok".into()));
        assert_eq!(requests.load(Ordering::SeqCst), fetches);
    }
    // A POST may have done its work: nobody but the client may send it again.
    let answer = node.send(Method::POST, "/x", &[], "").await;
    assert_eq!(answer.status, 502);
    assert_eq!(requests.load(Ordering::SeqCst), 6);
}
