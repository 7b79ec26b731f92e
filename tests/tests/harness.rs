//! The harness's own pieces, tested without a node: what they claim, tests rely on.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::process::Command;

use futures_util::StreamExt as _;
use weir_tests::origin::{Pattern, Piece, page_text};
use weir_tests::process::{Process, Signal};
use weir_tests::raw::Raw;
use weir_tests::{Answer, Gate, Origin, RedisServer, Reply, Scratch, access_log, answer, until};

async fn get(origin: &Origin, target: &str) -> Answer {
    let url = format!("{}{target}", origin.url());
    Answer::of(answer::client().get(url))
        .await
        .expect("an answer of the origin")
}

#[tokio::test]
async fn the_origin_counts_versions_and_revalidates() {
    let origin = Origin::with(Reply::page).await;
    assert_eq!(get(&origin, "/a?x=1").await.text(), page_text("/a?x=1", 1));
    assert_eq!(origin.bump("/a?x=1"), 2);
    let second = get(&origin, "/a?x=1").await;
    assert_eq!(second.text(), page_text("/a?x=1", 2));
    let request = answer::client().get(format!("{}/a?x=1", origin.url()));
    let third = Answer::of(request.header("if-none-match", "\"v1\", \"v2\""))
        .await
        .unwrap();
    assert_eq!(third.status, 304);
    assert_eq!(
        (origin.count("/a?x=1"), origin.count("/a"), origin.total()),
        (3, 0, 3)
    );
    assert_eq!(origin.last("/a?x=1").nth, 3);
}

#[tokio::test]
async fn the_longest_prefix_answers_unless_a_path_is_equal() {
    let origin = Origin::start().await;
    assert_eq!(get(&origin, "/").await.status, 404);
    origin.under("/", |_| Reply::ok().text("root"));
    origin.under("/a/", |_| Reply::ok().text("a"));
    origin.on("/a/b", |_| Reply::ok().text("b"));
    for (path, body) in [
        ("/x", "root"),
        ("/a/x", "a"),
        ("/a/b", "b"),
        ("/a/b?q", "b"),
    ] {
        assert_eq!(get(&origin, path).await.text(), body);
    }
}

#[tokio::test]
async fn a_cut_body_ends_clean_neither_chunked_nor_counted() {
    let origin = Origin::with(|call| {
        let reply = Reply::ok().pieces([Piece::from("half"), Piece::Cut]);
        if call.path == "/length" {
            reply.header("content-length", "100")
        } else {
            reply
        }
    })
    .await;
    for path in ["/length", "/chunked"] {
        let url = format!("{}{path}", origin.url());
        assert!(
            Answer::of(answer::client().get(url)).await.is_err(),
            "{path}"
        );
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let (raw, _) = Raw::exchange(origin.address().port(), request).await;
        assert!(
            raw.contains("half") && !raw.ends_with("0\r\n\r\n"),
            "{raw:?}"
        );
    }
}

#[tokio::test]
async fn a_gate_before_the_cut_lets_every_reader_see_what_came_before() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |_| {
        Reply::ok().pieces([Piece::from("half"), Piece::from(&held), Piece::Cut])
    })
    .await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::connect(origin.address().port()).await;
        raw.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        raw.read_until("half").await;
        readers.push(raw);
    }
    gate.open();
    for mut raw in readers {
        let (rest, _) = raw.read_to_end().await;
        assert!(!rest.contains("0\r\n\r\n"), "{rest:?}");
    }
}

#[tokio::test]
async fn gates_hold_heads_and_bodies() {
    let (head, body) = (Gate::new(), Gate::new());
    let (held, half) = (head.clone(), body.clone());
    let origin = Origin::with(move |_| {
        let pieces = [Piece::from("one"), Piece::from(&half), Piece::from("two")];
        Reply::ok().behind(&held).pieces(pieces)
    })
    .await;
    let waiting = tokio::spawn(answer::client().get(origin.url()).send());
    until("the request", async || (origin.total() == 1).then_some(())).await;
    assert!(!waiting.is_finished());
    head.open();
    let mut response = waiting.await.unwrap().unwrap();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "one");
    body.open();
    assert_eq!(response.chunk().await.unwrap().unwrap(), "two");
    assert_eq!(response.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn the_origin_echoes_before_the_request_has_ended() {
    let origin = Origin::with(|_| Reply::ok().echo()).await;
    let mut raw = Raw::connect(origin.address().port()).await;
    raw.send(
        "POST / HTTP/1.1\r\nHost: h\r\nX-Echo: 1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    )
    .await;
    raw.read_until("abc").await;
    raw.send("0\r\n\r\n").await;
    raw.read_until("0\r\n\r\n").await;
}

#[tokio::test]
async fn patterns_stream_and_uploads_are_counted() {
    const SIZE: u64 = 100 << 20;
    let origin = Origin::start().await;
    origin.on("/down", |_| Reply::ok().pattern(SIZE));
    origin.on("/up", |call| Reply::ok().text(call.body_length.to_string()));
    let response = answer::client()
        .get(format!("{}/down", origin.url()))
        .send()
        .await
        .unwrap();
    let (mut body, mut pattern) = (response.bytes_stream(), Pattern::default());
    while let Some(piece) = body.next().await {
        assert!(pattern.goes_on_with(&piece.unwrap()));
    }
    assert_eq!(pattern.position(), SIZE);
    let request = answer::client()
        .put(format!("{}/up", origin.url()))
        .body(vec![7; 3 << 20]);
    let answer = Answer::of(request).await.unwrap();
    assert_eq!(answer.text(), (3 << 20).to_string());
    assert_eq!(origin.last("/up").body.len(), 1 << 20);
}

#[tokio::test]
async fn an_origin_goes_down_with_its_connections_and_comes_back() {
    let mut origin = Origin::with(Reply::page).await;
    let client = answer::client();
    let ask = async |origin: &Origin| Answer::of(client.get(origin.url())).await;
    assert!(ask(&origin).await.is_ok());
    origin.down().await;
    assert!(ask(&origin).await.is_err());
    origin.up().await;
    assert!(ask(&origin).await.is_ok());
    assert_eq!(origin.count("/"), 2);
}

#[tokio::test]
async fn redis_dies_freezes_and_comes_back_empty_on_its_port() {
    let mut redis = RedisServer::start().await;
    let _: String = redis.command(&["SET", "weir:{http://h|/a}", "x"]);
    assert_eq!(redis.keys("weir:*|*"), ["weir:{http://h|/a}"]);
    redis.stop();
    redis.cont();
    assert_eq!(redis.keys("*").len(), 1);
    let url = redis.url();
    redis.kill();
    assert!(
        redis::Client::open(url.clone())
            .unwrap()
            .get_connection()
            .is_err()
    );
    redis.revive().await;
    assert_eq!(redis.url(), url);
    assert!(redis.keys("*").is_empty());
}

#[tokio::test]
async fn a_process_ends_with_its_handle() {
    let scratch = Scratch::new();
    let output = scratch.join("out");
    let mut echo = Process::spawn(
        "sh",
        Command::new("sh").args(["-c", "echo hello; exit 3"]),
        &output,
    );
    let status = echo.wait(weir_tests::poll::PATIENCE).await;
    assert_eq!(
        (status.code(), echo.output().as_str()),
        (Some(3), "hello\n")
    );

    let mut sleeper = Process::spawn("sleep", Command::new("sleep").arg("600"), &output);
    sleeper.signal(Signal::TERM);
    assert_eq!(sleeper.wait(weir_tests::poll::PATIENCE).await.code(), None);
    let sleeper = Process::spawn("sleep", Command::new("sleep").arg("600"), &output);
    let proc = format!("/proc/{}", sleeper.id());
    assert!(sleeper.resident() > 0 && std::path::Path::new(&proc).exists());
    drop(sleeper);
    assert!(!std::path::Path::new(&proc).exists());
}

#[test]
fn the_real_log_is_read_whole_where_it_is() {
    let Some(path) = access_log::find() else {
        println!("SKIPPED: the access log is not on this machine");
        return;
    };
    let log = access_log::read(&path);
    assert_eq!(log.len(), 10_000);
    assert!(
        log.iter()
            .all(|entry| entry.target.starts_with('/') && entry.status >= 200)
    );
}
