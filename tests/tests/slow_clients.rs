//! Clients that keep the node waiting: for a head, for a body, for a reader.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use weir_tests::h2_client::{self, Http2};
use weir_tests::raw::{End, Raw};
use weir_tests::raw_origin::RawOrigin;
use weir_tests::{Config, Origin, Reply, Weir, until};

async fn node(origin: &str, limits: &str) -> Weir {
    Config::plain(origin)
        .and("[limits]\n")
        .and(limits)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_nothing_is_let_go() {
    let origin = RawOrigin::start().await;
    let node = node(&origin.url(), "header_timeout = \"500ms\"\n").await;
    // Before the first byte, within HTTP/2's preface, and after a response.
    for begun in ["", "PRI * HT"] {
        let (answer, end) = Raw::exchange(node.port(), begun).await;
        assert_eq!(
            (answer.contains("200"), end),
            (false, End::Closed),
            "{begun}"
        );
    }
    let request = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    let (answer, end) = Raw::exchange(node.port(), request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!((answer.matches("HTTP/1.1").count(), end), (1, End::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_head_is_answered_408_however_it_trickles() {
    let origin = RawOrigin::start().await;
    let node = node(&origin.url(), "header_timeout = \"300ms\"\n").await;
    let (answer, _) = Raw::exchange(node.port(), "GET /a HTTP/1.1\r\nHo").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    // A byte now and then does not help: the clock runs from the beginning.
    let mut raw = Raw::connect(node.port()).await;
    raw.send("GET /a HTTP/1.1\r\nX: ").await;
    until("the connection's end", async || {
        (!raw.send("x").await).then_some(())
    })
    .await;
    assert!(origin.got().requests.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_is_answered_408_and_never_ends_clean_at_the_origin() {
    let origin = RawOrigin::start().await;
    let node = node(&origin.url(), "body_timeout = \"200ms\"\n").await;
    let begun = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc";
    let (answer, _) = Raw::exchange(node.port(), begun).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("detail=\"body-timeout\""), "{answer}");

    let mut client = Http2::connect(node.port()).await;
    let request = client.request("POST", "/a");
    let (response, mut body) = client.start(request, false).await.expect("a stream");
    body.send_data(Bytes::from_static(b"abc"), false)
        .expect("data");
    let answer = h2_client::read(response).await.expect("an answer");
    assert_eq!(answer.status, 408);
    assert!(origin.got().requests.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_reset() {
    let origin = Origin::with(|_| Reply::ok().cache("no-store").pattern(256 << 20)).await;
    let node = node(&origin.url(), "write_timeout = \"1s\"\n").await;
    let mut raw = Raw::connect(node.port()).await;
    raw.send("GET /big HTTP/1.1\r\nHost: h\r\n\r\n").await;
    raw.read_until("\r\n\r\n").await;
    let gone = async || {
        let open = node.admin().metric("weir_connections", &[]).await;
        (open < 0.5).then_some(())
    };
    until("the end of a connection that nobody reads", gone).await;
    assert_eq!(raw.read_to_end().await.1, End::Reset);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_stream_that_nobody_reads_is_reset_and_the_others_go_on() {
    let origin = Origin::with(|call| match call.path.as_str() {
        "/big" => Reply::ok().cache("no-store").pattern(256 << 20),
        _ => Reply::ok().text("small"),
    })
    .await;
    let node = node(&origin.url(), "write_timeout = \"1s\"\n").await;
    let mut client = Http2::connect(node.port()).await;
    let request = client.request("GET", "/big");
    let (response, _) = client.start(request, true).await.expect("a stream");
    let (_, response) = h2_client::head(response).await.expect("a head");
    let mut body = response.into_body();
    // Nothing is released, so the window runs empty.
    let error = loop {
        match poll_fn(|cx| body.poll_data(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("a clean end"),
        }
    };
    assert!(error.is_reset(), "{error}");
    // What the other stream needs of the shared window was never given back: a new one.
    let mut other = Http2::connect(node.port()).await;
    assert_eq!(other.get("/small").await.expect("an answer").body, b"small");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_without_requests_is_told_to_go() {
    let origin = RawOrigin::start().await;
    let node = node(&origin.url(), "header_timeout = \"200ms\"\n").await;
    let mut client = Http2::connect(node.port()).await;
    client.ended().await.expect("an end in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_that_answers_nothing_is_cut_off() {
    let origin = RawOrigin::start().await;
    let node = node(&origin.url(), "header_timeout = \"200ms\"\n").await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let settings = b"\0\0\0\x04\0\0\0\0\0".as_slice();
    // Alone, before half a frame, and before a header section that has no end.
    for rest in [
        b"".as_slice(),
        b"\0\0\x08\x06".as_slice(),
        b"\0\0\x01\x01\0\0\0\0\x01\x82".as_slice(),
    ] {
        // Reads to the end: there must be one.
        Raw::exchange(node.port(), [preface, settings, rest].concat()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_its_origin_stopped_to_read_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let node = Config::new(
        r#"
[upstreams.o]
servers = ["{origin}"]
body_timeout = "300ms"
[[routes]]
path = "/{*rest}"
upstream = "o"
"#,
    )
    .set("origin", url)
    .start()
    .await;
    let mut client = Raw::connect(node.port()).await;
    let length = 1_u64 << 40;
    let head = format!("POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    client.send(head).await;
    let (mut origin, _) = listener.accept().await.expect("the node");
    let mut head = [0; 16];
    origin.read_exact(&mut head).await.expect("a request");
    let answer = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno\n";
    origin.write_all(answer).await.expect("an answer");
    // Neither reads nor closes. The client sends until it cannot any more.
    let piece = vec![b'x'; 65_536];
    let sending = async { while client.send(&piece).await {} };
    let full = Duration::from_millis(500);
    drop(tokio::time::timeout(full, sending).await);
    drop(client);
    until("the end of the client's connection", async || {
        (node.admin().metric("weir_connections", &[]).await == 0.0).then_some(())
    })
    .await;
    drop(origin);
}
