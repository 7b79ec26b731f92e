//! Clients that keep the node waiting: for a head, for a body, for a reader.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::future::poll_fn;

use bytes::Bytes;
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
