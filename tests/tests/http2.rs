//! HTTP/2 with clients: bodies both ways, ends that are no ends, floods.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::process::Command;

use bytes::Bytes;
use futures_util::future::join_all;
use h2::Reason;
use weir_tests::h2_client::{self, Http2};
use weir_tests::origin::{Pattern, Piece};
use weir_tests::raw::Raw;
use weir_tests::raw_origin::RawOrigin;
use weir_tests::{Config, Gate, Origin, Reply};

#[tokio::test(flavor = "multi_thread")]
async fn long_bodies_come_whole_on_many_streams_at_once() {
    const SIZE: u64 = 8 << 20;
    let origin = Origin::with(|_| Reply::ok().cache("max-age=60").pattern(SIZE)).await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    let mut responses = Vec::new();
    for n in 0..8 {
        // Two streams of each: one leads the fill, one joins it.
        let request = client.request("GET", &format!("/{}", n / 2));
        let (response, _) = client.start(request, true).await.expect("a stream");
        responses.push(h2_client::read(response));
    }
    for answer in join_all(responses).await {
        let answer = answer.expect("an answer");
        assert_eq!(answer.headers["content-length"], SIZE.to_string());
        assert!(answer.headers.contains_key("date"));
        assert!(Pattern::default().goes_on_with(&answer.body));
        assert_eq!(answer.body.len() as u64, SIZE);
    }
    assert_eq!(origin.total(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_goes_up_with_its_trailers_checked() {
    let origin = RawOrigin::start().await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    for (field, status) in [("x-sum", 200), ("authorization", 400)] {
        let request = client.request("POST", "/up");
        let (response, mut body) = client.start(request, false).await.expect("a stream");
        body.send_data(Bytes::from_static(b"abc"), false)
            .expect("data");
        let mut trailers = http::HeaderMap::new();
        trailers.insert(field, http::HeaderValue::from_static("1"));
        body.send_trailers(trailers).expect("trailers");
        let answer = h2_client::read(response).await.expect("an answer");
        assert_eq!(answer.status, status, "{field}");
    }
    assert_eq!(origin.got().requests, ["POST /up abc"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_than_said_never_ends_clean_at_the_origin() {
    let origin = RawOrigin::start().await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    for length in ["2", "4"] {
        let mut request = client.request("POST", "/up");
        let length = http::HeaderValue::from_static(length);
        request.headers_mut().insert("content-length", length);
        let (response, mut body) = client.start(request, false).await.expect("a stream");
        body.send_data(Bytes::from_static(b"abc"), true)
            .expect("data");
        let ended = h2_client::read(response).await;
        assert!(ended.is_err() || ended.is_ok_and(|answer| answer.status == 400));
    }
    assert_eq!(client.get("/after").await.expect("an answer").status, 200);
    assert_eq!(origin.got().requests, ["GET /after"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lengths_are_refused() {
    let origin = RawOrigin::start().await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    let mut request = client.request("POST", "/up");
    for length in ["3", "0"] {
        let length = http::HeaderValue::from_static(length);
        request.headers_mut().append("content-length", length);
    }
    let (response, mut body) = client.start(request, false).await.expect("a stream");
    body.send_data(Bytes::from_static(b"abc"), true)
        .expect("data");
    let ended = h2_client::read(response).await;
    assert!(ended.is_err() || ended.is_ok_and(|answer| answer.status == 400));
    assert!(origin.got().requests.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_resets_its_stream_alone() {
    let origin = Origin::with(|call| match call.path.as_str() {
        "/cut" => Reply::ok().pieces([Piece::from("begun"), Piece::Cut]),
        _ => Reply::ok().text("whole"),
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    let error = client.get("/cut").await.expect_err("an end that is none");
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error}");
    assert_eq!(
        client.get("/whole").await.expect("an answer").body,
        b"whole"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn head_has_the_length_of_get_and_trailers_come_through() {
    let chunked = "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
    let origin = RawOrigin::with(move |head| match head.contains("/trailers") {
        true => chunked.as_bytes().to_vec(),
        false => Vec::new(),
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    let answer = client.get("/trailers").await.expect("an answer");
    assert_eq!(answer.body, b"abc");
    assert_eq!(answer.trailers.expect("trailers")["x-sum"], "1");
    assert!(!answer.headers.contains_key("transfer-encoding"));

    assert_eq!(client.get("/stored").await.expect("an answer").body, b"0");
    let request = client.request("HEAD", "/stored");
    let (response, _) = client.start(request, true).await.expect("a stream");
    let answer = h2_client::read(response).await.expect("an answer");
    assert_eq!(answer.headers["content-length"], "1");
    assert!(answer.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_the_streams_in_flight() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(|_| Reply::ok()).await;
    origin.on("/long", move |_| {
        Reply::ok().pieces([
            Piece::from("first "),
            Piece::from(&held),
            Piece::from("last"),
        ])
    });
    let mut node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    let request = client.request("GET", "/long");
    let (response, _) = client.start(request, true).await.expect("a stream");
    let (_, response) = h2_client::head(response).await.expect("a head");
    let mut body = response.into_body();
    assert_eq!(body.data().await.expect("data").expect("data"), "first ");
    node.terminate();
    // GOAWAY has come when no new request is taken.
    weir_tests::until("the end of new requests", async || {
        client.get("/new").await.is_err().then_some(())
    })
    .await;
    gate.open();
    let mut rest = Vec::new();
    while let Some(data) = body.data().await {
        rest.extend_from_slice(&data.expect("data"));
    }
    assert_eq!(rest, b"last");
    client.ended().await.expect("an end in order");
    assert!(node.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_resets_without_end_is_sent_away_and_the_others_are_served() {
    let never = Gate::new();
    let held = never.clone();
    let origin = Origin::with(move |call| match call.path.as_str() {
        "/never" => Reply::ok().behind(&held),
        _ => Reply::ok().text("served"),
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    let mut sent = 0;
    while sent < 100_000 {
        let request = client.request("GET", "/never");
        let Ok((response, mut stream)) = client.start(request, true).await else {
            break;
        };
        stream.send_reset(Reason::CANCEL);
        drop(response);
        sent += 1;
        tokio::task::yield_now().await;
    }
    assert!(sent < 100_000, "nobody minds");
    let mut other = Http2::connect(node.port()).await;
    assert_eq!(other.get("/x").await.expect("an answer").body, b"served");
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_never_ends_ends_the_connection() {
    let origin = RawOrigin::start().await;
    let node = Config::plain(&origin.url()).start().await;
    let mut raw = Raw::connect(node.port()).await;
    raw.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    raw.send(frame(4, 0, 0, &[])).await;
    // HEADERS without END_HEADERS: GET, http, /.
    raw.send(frame(1, 0, 1, &[0x82, 0x86, 0x84])).await;
    // A literal field that is not indexed: `x: y`.
    let field = frame(9, 0, 1, &[0, 1, b'x', 1, b'y']);
    let mut sent = 0;
    while raw.send(&field).await {
        sent += 1;
        assert!(sent < 1_000_000, "nobody minds");
    }
    assert!(origin.got().requests.is_empty());
    assert_eq!(node.get("/x").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_speaks_it_by_prior_knowledge() {
    let origin = RawOrigin::start().await;
    let node = Config::plain(&origin.url()).start().await;
    let output = Command::new("curl")
        .args([
            "-sS",
            "--http2-prior-knowledge",
            "-w",
            " %{http_version}",
            "-d",
            "hello",
        ])
        .arg(node.url("/c"))
        .output()
        .expect("curl");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "5 2");
    assert_eq!(origin.got().requests, ["POST /c hello"]);
}
