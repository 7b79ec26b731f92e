//! What a node answers curl, topic by topic. With WEIR_SHOW set each prints what it ran
//! and got (`cargo xtask transcripts`).
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use weir_tests::artifact::weir_binary;
use weir_tests::component::with_misdeed;
use weir_tests::port::Port;
use weir_tests::raw::Raw;
use weir_tests::raw_origin::RawOrigin;
use weir_tests::tls::{Authority, certificate_table};
use weir_tests::transcript::Transcript;
use weir_tests::{Config, Origin, Reply, Scratch, guests};

const DATE: &str = "Sun, 01 Nov 2026 08:00:00 GMT";

/// Ten bytes, fresh for ten minutes, with both validators.
async fn document() -> Origin {
    Origin::with(|_| {
        let reply = Reply::ok().cache("max-age=600").text("0123456789");
        reply
            .header("content-type", "text/plain")
            .header("etag", "\"v1\"")
            .header("last-modified", DATE)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges() {
    let origin = document().await;
    let node = Config::plain(&origin.url()).start().await;
    let (mut t, url) = (Transcript::new("ranges"), node.url("/doc"));
    t.run("The whole, to have it stored.", &format!("curl -sSi {url}"))
        .await
        .expect(&["HTTP/1.1 200", "fwd=uri-miss", "; stored"])
        .is("0123456789");
    t.run(
        "One range is cut from what is stored.",
        &format!("curl -sSi -r 2-5 {url}"),
    )
    .await
    .expect(&["HTTP/1.1 206", "weir; hit", "content-range: bytes 2-5/10"])
    .is("2345");
    t.run("The last three bytes.", &format!("curl -sSi -r -3 {url}"))
        .await
        .expect(&["HTTP/1.1 206", "weir; hit", "content-range: bytes 7-9/10"])
        .is("789");
    t.run(
        "Several ranges are one multipart response.",
        &format!("curl -sSi -r 0-1,7-8 {url}"),
    )
    .await
    .expect(&[
        "HTTP/1.1 206",
        "weir; hit",
        "multipart/byteranges; boundary=",
    ])
    .expect(&[
        "content-range: bytes 0-1/10\n\n01\n",
        "content-range: bytes 7-8/10\n\n78\n",
    ]);
    t.run(
        "Behind the end there is nothing.",
        &format!("curl -sSi -r 50- {url}"),
    )
    .await
    .expect(&["HTTP/1.1 416", "content-range: bytes */10"]);
    let line = format!("curl -sSi -r 0-3 -H 'If-Range: \"v1\"' {url}");
    t.run("If-Range with the stored ETag: the part.", &line)
        .await
        .expect(&["HTTP/1.1 206", "weir; hit"])
        .is("0123");
    let line = format!("curl -sSi -r 0-3 -H 'If-Range: \"v0\"' {url}");
    t.run("If-Range with another ETag: the whole.", &line)
        .await
        .expect(&["HTTP/1.1 200", "weir; hit"])
        .is("0123456789");
    t.origin_has(&origin, "/doc", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditionals() {
    let origin = document().await;
    let node = Config::plain(&origin.url()).start().await;
    let (mut t, url) = (Transcript::new("conditionals"), node.url("/doc"));
    t.run(
        "The first, with both validators.",
        &format!("curl -sSi {url}"),
    )
    .await
    .expect(&[
        "HTTP/1.1 200",
        "etag: \"v1\"",
        &format!("last-modified: {DATE}"),
    ]);
    let line = format!("curl -sSi -H 'If-None-Match: \"v1\"' {url}");
    t.run("The client has it, by ETag: 304 without the origin.", &line)
        .await
        .expect(&["HTTP/1.1 304", "weir; hit", "etag: \"v1\""])
        .is("");
    let line = format!("curl -sSi -H 'If-Modified-Since: {DATE}' {url}");
    t.run("By date.", &line)
        .await
        .expect(&["HTTP/1.1 304", "weir; hit"])
        .is("");
    let line = format!("curl -sSi -H 'If-None-Match: \"v0\"' -H 'If-Modified-Since: {DATE}' {url}");
    t.run(
        "Another ETag counts for more than the date: the whole.",
        &line,
    )
    .await
    .expect(&["HTTP/1.1 200", "weir; hit"])
    .is("0123456789");
    t.origin_has(&origin, "/doc", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_while_revalidate() {
    let origin =
        Origin::with(|call| Reply::page(call).cache("max-age=1, stale-while-revalidate=600")).await;
    // Else a fetch that took long can be followed by one before the end of the second.
    let config = Config::plain(&origin.url()).and("[cache]\nearly_refresh = false\n");
    let node = config.start().await;
    let (mut t, line) = (
        Transcript::new("stale-while-revalidate"),
        format!("curl -sSi {}", node.url("/swr")),
    );
    t.run("Fresh for one second.", &line).await.expect(&[
        "HTTP/1.1 200",
        "fwd=uri-miss",
        "; stored",
        "/swr v1",
    ]);
    origin.bump("/swr");
    let stale = "The page has changed and a second has passed: the old one at once.";
    t.until(stale, &line, |shown| {
        shown.has("detail=\"stale-while-revalidate\"") || shown.has("/swr v2")
    })
    .await
    .expect(&["HTTP/1.1 200", "weir; hit", "/swr v1"]);
    t.until(
        "Behind it the node has fetched the new one.",
        &line,
        |shown| shown.has("/swr v2"),
    )
    .await
    .expect(&["HTTP/1.1 200", "weir; hit"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_if_error() {
    let mut origin =
        Origin::with(|call| Reply::page(call).cache("max-age=0, stale-if-error=600")).await;
    let node = Config::plain(&origin.url()).start().await;
    let (mut t, line) = (
        Transcript::new("stale-if-error"),
        format!("curl -sSi {}", node.url("/sie")),
    );
    t.run("Stale from the beginning.", &line)
        .await
        .expect(&["HTTP/1.1 200", "stored", "/sie v1"]);
    origin.on("/sie", |_| Reply::status(503));
    t.run("The origin answers 503: the stored page.", &line)
        .await
        .expect(&["HTTP/1.1 200", "fwd=stale", "/sie v1"]);
    t.origin_has(&origin, "/sie", 2);
    origin.down().await;
    t.run("The origin is gone: the stored page.", &line)
        .await
        .expect(&["HTTP/1.1 200", "/sie v1"]);
    let other = format!("curl -sSi {}", node.url("/other"));
    t.run("What was never stored cannot be had.", &other)
        .await
        .expect(&["HTTP/1.1 502", "cache-status: weir"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_groups() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    for path in ["/news/1", "/news/2"] {
        origin.on(path, |call| {
            let page = Reply::page(call).cache("max-age=600");
            page.header("cache-groups", "\"news\"")
        });
    }
    origin.on("/edit", |_| {
        Reply::status(204).header("cache-group-invalidation", "\"news\"")
    });
    let node = Config::plain(&origin.url()).start().await;
    let mut t = Transcript::new("cache-groups");
    let get = |path: &str| format!("curl -sSi {}", node.url(path));
    for path in ["/news/1", "/news/2", "/about"] {
        t.run("To have it stored.", &get(path))
            .await
            .expect(&["fwd=uri-miss", "; stored"]);
    }
    t.run("A member of the group, from the cache.", &get("/news/1"))
        .await
        .expect(&["weir; hit"]);
    let post = format!("curl -sSi -d title=new {}", node.url("/edit"));
    t.run("A POST whose response names the group.", &post)
        .await
        .expect(&["HTTP/1.1 204", "cache-group-invalidation: \"news\""]);
    for path in ["/news/1", "/news/2"] {
        t.run("A miss now.", &get(path))
            .await
            .expect(&["HTTP/1.1 200", "fwd="])
            .lacks("hit");
        t.origin_has(&origin, path, 2);
    }
    t.run("In no group: still there.", &get("/about"))
        .await
        .expect(&["weir; hit"]);
    t.origin_has(&origin, "/about", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn graphql() {
    let origin = Origin::with(|call| {
        let asked = String::from_utf8_lossy(&call.body).into_owned();
        Reply::ok()
            .cache("max-age=600")
            .text(format!("answer to {asked}\n"))
    })
    .await;
    let tables = "[upstreams.api]\nservers = [\"{origin}\"]\n\
        [[routes]]\npath = \"/{*rest}\"\nupstream = \"api\"\npolicy = \"graphql\"\n\
        [policies.graphql]\ncomponent = \"{component}\"\nnamespaces = [\"graphql\"]\n";
    let config = Config::new(tables).set("origin", origin.url());
    let node = config.file("component", &guests().graphql()).start().await;
    let (mut t, url) = (Transcript::new("graphql"), node.url("/graphql"));
    let post = |kind: &str, content: &str| {
        format!(
            "curl -sSi -H 'Content-Type: application/json' -H 'X-GraphQL-Operation: {kind}' \
             -d '{{\"query\":\"{content}\"}}' {url}"
        )
    };
    let (one, two) = (
        post("query", "{user(id:1){name}}"),
        post("query", "{user(id:2){name}}"),
    );
    t.run("A query, by POST: stored.", &one)
        .await
        .expect(&["HTTP/1.1 200", "stored", "id:1"])
        .lacks("weir; hit");
    t.run("The same content again: a hit.", &one)
        .await
        .expect(&["weir; hit", "id:1"]);
    t.origin_has(&origin, "/graphql", 1);
    t.run("Another query is another object.", &two)
        .await
        .expect(&["stored", "id:2"])
        .lacks("weir; hit");
    t.origin_has(&origin, "/graphql", 2);
    let change = post("mutation", "mutation{rename(id:1)}");
    for count in [3, 4] {
        t.run(
            "A mutation goes to the origin each time and is not stored.",
            &change,
        )
        .await
        .expect(&["HTTP/1.1 200", "fwd=", "rename"])
        .lacks("stored")
        .lacks("weir; hit");
        t.origin_has(&origin, "/graphql", count);
    }
    t.run("It has purged what was stored for the URL.", &one)
        .await
        .expect(&["fwd=", "; stored"])
        .lacks("weir; hit");
    t.origin_has(&origin, "/graphql", 5);
}

/// A WebSocket origin: greets and leaves on `/greet`, sends back what it gets elsewhere.
async fn echo(stream: TcpStream) {
    let mut greet = false;
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    let look = |request: &tokio_tungstenite::tungstenite::handshake::server::Request, response| {
        greet = request.uri().path() == "/greet";
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, look).await;
    let mut socket = socket.expect("a handshake");
    if greet {
        socket
            .send(Message::text("welcome"))
            .await
            .expect("a message");
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() {
            socket.send(message).await.expect("an echo");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let node = Config::plain(&origin).start().await;
    let mut t = Transcript::new("websocket");
    let line = format!(
        "curl -sSi -N --http1.1 -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
         -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' {}",
        node.url("/greet")
    );
    t.run(
        "The switch; then bytes: a frame of text, and the origin leaves.",
        &line,
    )
    .await
    .expect(&[
        "HTTP/1.1 101",
        "upgrade: websocket",
        // RFC 6455, section 1.3: the answer to this key.
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "welcome",
    ]);
    t.step("Messages there and back, by a WebSocket client.");
    let stream = TcpStream::connect(("127.0.0.1", node.port())).await;
    let url = format!("ws://127.0.0.1:{}/echo", node.port());
    t.line(&format!("client: connect {url}"));
    let connected = tokio_tungstenite::client_async(url, stream.expect("the node")).await;
    let mut socket = connected.expect("a WebSocket").0;
    for text in ["hello", "are you there?"] {
        t.line(&format!("client: {text}"));
        socket.send(Message::text(text)).await.expect("sending");
        let back = socket.next().await.expect("an echo").expect("a message");
        t.line(&format!("origin: {back}"));
        assert_eq!(back, Message::text(text));
    }
    socket.close(None).await.expect("closing");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls() {
    let origin = document().await;
    let (authority, files, port) = (Authority::new(), Scratch::new(), Port::reserve());
    let paths = authority.issue(&["shop.test"]).write(&files, "node");
    let tables = format!("[tls]\nlisten = \"127.0.0.1:{}\"\n", port.number());
    let config = Config::plain(&origin.url()).and(&tables);
    let _node = config.and(&certificate_table(&paths)).start().await;
    let ca = files.write("ca.pem", authority.pem());
    let to = format!(
        "--cacert {} --connect-to ::127.0.0.1:{} https://shop.test/doc",
        ca.display(),
        port.number()
    );
    let mut t = Transcript::new("tls");
    let line = format!("curl -sSv -o /dev/null {to} 2>&1 | grep -E 'ALPN|SSL connection|verify'");
    t.run(
        "The handshake: h2 by ALPN, our own authority believed.",
        &line,
    )
    .await
    .expect(&["server accepted h2", "TLSv1.3", "verify ok"]);
    t.run("HTTP/2, from the cache.", &format!("curl -sSi {to}"))
        .await
        .expect(&["HTTP/2 200", "weir; hit"])
        .is("0123456789");
    t.run(
        "A client that wants HTTP/1.1.",
        &format!("curl -sSi --http1.1 {to}"),
    )
    .await
    .expect(&["HTTP/1.1 200", "weir; hit"])
    .is("0123456789");
    t.origin_has(&origin, "/doc", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn interim() {
    let origin = RawOrigin::with(|head| {
        let answer = match head {
            _ if head.contains("/upload") => "HTTP/1.1 100 Continue\r\n\r\n",
            _ => "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n",
        };
        answer.as_bytes().to_vec()
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let mut t = Transcript::new("interim");
    t.run(
        "The origin's early hint comes first.",
        &format!("curl -sSi {}", node.url("/page")),
    )
    .await
    .expect(&[
        "HTTP/1.1 103",
        "link: </a.css>; rel=preload",
        "HTTP/1.1 200",
    ]);
    let line = format!(
        "curl -sSi -H 'Expect: 100-continue' -d hello {}",
        node.url("/upload")
    );
    t.run("The origin's 100, then the answer.", &line)
        .await
        .expect(&["HTTP/1.1 100", "HTTP/1.1 200"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn smuggling() {
    let origin = document().await;
    let node = Config::plain(&origin.url()).start().await;
    let mut t = Transcript::new("smuggling");
    t.step("Two lengths in one request, and another request in its body: refused, in words.");
    let request = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\
                   \r\n0\r\n\r\nGET /doc HTTP/1.1\r\nHost: h\r\n\r\n";
    t.line(&format!("(sent as it is to 127.0.0.1:{})", node.port()));
    for line in request.lines() {
        t.line(&format!("> {line}"));
    }
    let (answer, _) = Raw::exchange(node.port(), request).await;
    let shown = t.shown(answer.as_bytes());
    t.line(shown.text());
    shown.expect(&["HTTP/1.1 400", "connection: close", "detail="]);
    assert_eq!(shown.text().matches("HTTP/1.1").count(), 1, "one answer");
    t.origin_has(&origin, "/", 0);
    t.origin_has(&origin, "/doc", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions() {
    let origin = document().await;
    let component = guests().misbehaving();
    let node = Config::misbehaving(&origin.url(), &component.display().to_string(), "");
    let node = node.data_dir().start().await;
    let dir = Scratch::new();
    let good = std::fs::read(&component).expect("the component");
    for (file, misdeed) in [("wrong", "forgets-query"), ("traps", "trap-on-request")] {
        let path = dir.path().join(format!("{file}.wasm"));
        std::fs::write(path, with_misdeed(&good, misdeed)).expect("a component");
    }
    std::os::unix::fs::symlink(weir_binary(), dir.path().join("weir")).expect("a link");
    let (place, admin) = (dir.path().display(), node.admin_port());
    let weir = |line: &str| format!("cd {place} && ./weir {line} --admin http://127.0.0.1:{admin}");
    let url = node.url("/account?user=7");
    let explain = format!("curl -sS 'http://127.0.0.1:{admin}/v1/explain?url={url}'");
    let users = |path: &str| {
        let all = node.url(&format!("{path}?user=[1-40]"));
        format!("curl -sS -o /dev/null -w '%{{http_code}}\\n' '{all}' | sort | uniq -c")
    };
    let live = node.admin().version("p").await;
    let live = live.as_str();

    let mut t = Transcript::new("versions");
    t.run(
        "What the policy in force says: the user is in the key.",
        &explain,
    )
    .await
    .expect(&[live, "test:/account:user=7"]);
    t.run(
        "A version that forgets the user is asked in shadow, on all requests.",
        &weir("deploy p wrong.wasm --shadow 100"),
    )
    .await
    .expect(&["is a shadow on 100 % of the requests", live]);
    t.run("Requests of 40 users.", &users("/account"))
        .await
        .expect(&["40 200"]);
    t.until(
        "What it would have done: one key for all of them.",
        &weir("trial p"),
        |shown| shown.text().contains("key differs in 40"),
    )
    .await
    .expect(&[
        "|test:/account:user=",
        "|test:/account\n",
        "same 0, different",
    ]);
    t.run("So it is not put in force.", &weir("rollback p"))
        .await
        .expect(&["has ended", live, "as before"]);
    t.run(
        "Another version traps on every request.",
        &weir("deploy p traps.wasm"),
    )
    .await
    .expect(&["is in force, in place of", live]);
    t.until(
        "No client notices: what the policy cannot decide is passed.",
        &users("/other"),
        |shown| {
            assert!(shown.text().trim() == "40 200", "{}", shown.text());
            true
        },
    )
    .await;
    t.until(
        "It is taken back, and will be tried again.",
        &weir("status"),
        |shown| shown.text().contains("is in quarantine"),
    )
    .await
    .expect(&[
        "decisions and calls failed within 30s",
        "it is tried again after 5m",
    ]);
    t.run("Who did what.", &weir("audit")).await.expect(&[
        "quarantined",
        "failures",
        "deployed",
        "trial-ended",
        "shadow",
        "held",
    ]);
    t.run("What the policy in force says, as before.", &explain)
        .await
        .expect(&[live, "test:/account:user=7"]);
}
