//! Interim responses (1xx) and expectations, on HTTP/1.1 and HTTP/2.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use weir_tests::h2_client::Http2;
use weir_tests::raw::Raw;
use weir_tests::raw_origin::RawOrigin;
use weir_tests::{Config, until};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-hop\r\n\
    X-Hop: 1\r\nKeep-Alive: 5\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";

async fn hinting() -> RawOrigin {
    RawOrigin::with(|_| HINTS.as_bytes().to_vec()).await
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn last(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
}

/// The heads of an answer, without bodies.
fn heads(answer: &str) -> Vec<String> {
    answer
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|rest| rest.split("\r\n\r\n").next().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origins_interim_responses_come_before_the_final_one_each_to_its_request() {
    let origin = hinting().await;
    let node = Config::plain(&origin.url()).start().await;
    let mut raw = Raw::connect(node.port()).await;
    // Pipelined: a miss that is stored, one that is not, and one that is passed.
    raw.send(format!(
        "{}{}POST /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        get("/stored/a"),
        get("/b")
    ))
    .await;
    let (answer, _) = raw.read_to_end().await;
    let heads = heads(&answer);
    let statuses: Vec<_> = heads.iter().map(|head| &head[..3]).collect();
    assert_eq!(
        statuses,
        [
            "103", "102", "200", "103", "102", "200", "103", "102", "200"
        ]
    );
    for three in heads.chunks(3) {
        assert_eq!(three[0], "103 Early Hints\r\nlink: </a.css>; rel=preload");
        assert_eq!(three[1], "102 Processing");
        // Nothing of them is in the response.
        assert!(!three[2].contains("link"), "{}", three[2]);
    }
    // Nor in what was stored.
    until("a hit without hints", async || {
        let (answer, _) = Raw::exchange(node.port(), last("/stored/a")).await;
        (answer.contains("weir; hit") && answer.starts_with("HTTP/1.1 200")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_gets_none() {
    let origin = hinting().await;
    let node = Config::plain(&origin.url()).start().await;
    let request = "GET /a HTTP/1.0\r\nHost: h\r\n\r\n";
    let (answer, _) = Raw::exchange(node.port(), request).await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_a_bounded_number_of_them() {
    let origin = RawOrigin::with(|_| HINTS.repeat(50).into_bytes()).await;
    let node = Config::plain(&origin.url()).start().await;
    let (answer, _) = Raw::exchange(node.port(), last("/a")).await;
    let heads = heads(&answer);
    assert_eq!(heads.len(), 17, "{answer}");
    assert!(heads[16].starts_with("200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_get_them_too() {
    let origin = hinting().await;
    let node = Config::plain(&origin.url()).start().await;
    let mut client = Http2::connect(node.port()).await;
    for path in ["/stored/a", "/b"] {
        let answer = client.get(path).await.expect("an answer");
        let interim: Vec<_> = answer
            .interim
            .iter()
            .map(|head| head.status().as_u16())
            .collect();
        assert_eq!(interim, [103, 102]);
        assert_eq!(answer.interim[0].headers()["link"], "</a.css>; rel=preload");
        assert_eq!(answer.interim[0].headers().len(), 1);
        assert_eq!(answer.status, 200);
        assert!(!answer.headers.contains_key("link"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expectation_is_the_origins_to_meet() {
    let origin = RawOrigin::with(|head| {
        let answer = match head {
            _ if head.contains("/wanted") => "HTTP/1.1 100 Continue\r\n\r\n",
            _ => "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n",
        };
        answer.as_bytes().to_vec()
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let head = |path| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
    };
    let mut raw = Raw::connect(node.port()).await;
    raw.send(head("/wanted")).await;
    // One of them: the node's own, once the origin has said so.
    raw.read_until("HTTP/1.1 100 Continue\r\n\r\n").await;
    raw.send(format!("abc{}", last("/wanted"))).await;
    let (answer, _) = raw.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(origin.got().requests[0], "POST /wanted abc");

    // Not wanted: the client hears so before it has sent a byte of its body.
    let (answer, _) = Raw::exchange(node.port(), head("/refused")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_100_that_nobody_asked_for_is_forwarded() {
    let origin = RawOrigin::with(|_| b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()).await;
    let node = Config::plain(&origin.url()).start().await;
    let (answer, _) = Raw::exchange(node.port(), last("/a")).await;
    let heads = heads(&answer);
    assert_eq!(heads.len(), 2, "{answer}");
    assert_eq!(heads[0], "100 Continue");
}
