//! Upgraded connections: WebSocket and others through a node, from the 101 to the end.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use weir_tests::poll::PATIENCE;
use weir_tests::raw::Raw;
use weir_tests::{Config, Origin, RedisServer, Reply, Weir, charity, until};

const MIB: usize = 1 << 20;

/// What a client sends that wants to speak `echo`, which the tests' routes allow.
const ASK: &str = "GET /t HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// An origin that a test speaks for, byte by byte.
struct RawOrigin(TcpListener);

impl RawOrigin {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("an address"))
    }

    /// The next connection, and the head of its first request.
    async fn request(&self) -> (TcpStream, String) {
        let accepted = within(self.0.accept()).await;
        let (mut stream, _) = accepted.expect("a connection of the node");
        let head = head(&mut stream).await;
        (stream, head)
    }

    /// Takes the next connection and switches it.
    async fn switch(&self) -> TcpStream {
        let (mut stream, _) = self.request().await;
        stream.write_all(SWITCH.as_bytes()).await.expect("a switch");
        stream
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.expect("nothing happened for too long")
}

/// Reads to the end of a header section and not a byte further.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = within(stream.read_u8()).await;
        head.push(byte.unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&head));
        }));
    }
    String::from_utf8_lossy(&head).to_lowercase()
}

async fn exactly(stream: &mut TcpStream, wanted: &str) {
    let mut bytes = vec![0; wanted.len()];
    let read = within(stream.read_exact(&mut bytes)).await;
    read.unwrap_or_else(|error| panic!("{error} before {wanted:?}"));
    assert_eq!(String::from_utf8_lossy(&bytes), wanted);
}

/// Reads until the peer ends, in order or not.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = within(stream.read_to_end(&mut bytes)).await;
    bytes
}

/// One route for all paths; `keys` go into it.
fn config(origin: &str, keys: &str) -> Config {
    Config::new(
        "[upstreams.origin]\nservers = [\"{origin}\"]\n\
         [[routes]]\npath = \"/{*rest}\"\nupstream = \"origin\"\n{keys}\n",
    )
    .set("origin", origin)
    .set("keys", keys)
}

const ECHO: &str = "upgrades = [\"websocket\", \"echo\"]";

async fn connect(node: &Weir) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", node.port())).await;
    stream.expect("the node's port")
}

/// A tunnel through the node: the client's end and the origin's.
async fn tunnel(node: &Weir, origin: &RawOrigin) -> (TcpStream, TcpStream) {
    let mut client = connect(node).await;
    client.write_all(ASK.as_bytes()).await.expect("a request");
    let far = origin.switch().await;
    let answer = head(&mut client).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    (client, far)
}

async fn passes(client: &mut TcpStream, far: &mut TcpStream) {
    client.write_all(b"up").await.expect("bytes up");
    exactly(far, "up").await;
    far.write_all(b"down").await.expect("bytes down");
    exactly(client, "down").await;
}

async fn ended_by(node: &Weir, reason: &str) {
    until(&format!("a tunnel that ended: {reason}"), async || {
        let metric = "weir_upgrades_ended_total";
        let ended = node.admin().metric(metric, &[("reason", reason)]).await;
        (ended == 1.0).then_some(())
    })
    .await;
    let open = node.admin().metric("weir_upgraded_connections", &[]).await;
    assert_eq!(open, 0.0);
}

/// A WebSocket origin that sends back what it gets, and tells the heads of requests.
async fn echo_origin() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let origin = RawOrigin::start().await;
    let url = origin.url();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = origin.0.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                #[expect(clippy::result_large_err, reason = "the library's signature")]
                let heads = |request: &server::Request, response: server::Response| {
                    tell.send(format!("{:?}", request.headers()))
                        .expect("a test");
                    Ok(response)
                };
                let socket = tokio_tungstenite::accept_hdr_async(stream, heads).await;
                let (mut write, mut read) = socket.expect("a handshake").split();
                while let Some(Ok(message)) = read.next().await {
                    if message.is_text() || message.is_binary() {
                        write.send(message).await.expect("an echo");
                    }
                }
            });
        }
    });
    (url, told)
}

async fn websocket(node: &Weir, path: &str) -> WebSocketStream<TcpStream> {
    let url = format!("ws://h.example{path}");
    let connected = tokio_tungstenite::client_async(url, connect(node).await).await;
    connected.expect("a WebSocket through the node").0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_passes_and_is_registered_until_it_ends() {
    let (origin, mut heads) = echo_origin().await;
    let node = config(&origin, "").start().await;
    let mut socket = websocket(&node, "/chat?room=1").await;
    let seen = heads.recv().await.expect("a handshake at the origin");
    for field in [
        "\"upgrade\": \"websocket\"",
        "sec-websocket-key",
        "x-forwarded-for",
        "\"host\": \"h.example\"",
    ] {
        assert!(seen.contains(field), "no {field} in {seen}");
    }

    let big = Bytes::from(vec![7; 3 * MIB]);
    let mut messages: Vec<Message> = (0..50)
        .map(|n| Message::text(format!("number {n}")))
        .collect();
    messages.push(Message::binary(big.clone()));
    for message in messages {
        within(socket.send(message.clone())).await.expect("sending");
        let back = within(socket.next()).await.expect("an echo");
        assert!(
            back.expect("a message") == message,
            "another message came back"
        );
    }

    let labels = [("route", "/{*rest}"), ("protocol", "websocket")];
    let admin = node.admin();
    assert_eq!(
        admin.metric("weir_upgraded_connections", &labels).await,
        1.0
    );
    let list = admin.get("/v1/connections").await.json();
    assert_eq!(list["total"], 1, "{list}");
    let one = &list["connections"][0];
    assert_eq!(
        (
            &one["route"],
            &one["protocol"],
            &one["upstream"],
            &one["client"]
        ),
        (
            &"/{*rest}".into(),
            &"websocket".into(),
            &"origin".into(),
            &"127.0.0.1".into()
        )
    );
    for way in ["bytes_to_client", "bytes_to_origin"] {
        assert!(one[way].as_u64() > Some(big.len() as u64), "{list}");
    }
    assert_eq!(
        admin.get("/v1/status").await.json()["upgraded_connections"],
        1
    );

    socket.close(None).await.expect("closing");
    while let Some(Ok(_)) = within(socket.next()).await {}
    drop(socket);
    ended_by(&node, "closed").await;
    assert_eq!(admin.metric("weir_upgrades_total", &labels).await, 1.0);
    let to_client = [("route", "/{*rest}"), ("to", "client")];
    assert!(admin.metric("weir_upgraded_bytes_total", &to_client).await > big.len() as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_the_sender_back_in_a_tunnel_too() {
    const SIZE: usize = 256 * MIB;
    let origin = RawOrigin::start().await;
    let node = config(&origin.url(), ECHO).start().await;
    let (mut client, mut far) = tunnel(&node, &origin).await;
    let before = node.resident();
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        let chunk = vec![9; MIB];
        for _ in 0..SIZE / MIB {
            far.write_all(&chunk).await.expect("the node reads on");
            counted.fetch_add(MIB as u64, Ordering::Relaxed);
        }
    });
    until("the first bytes of the sender", async || {
        (sent.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    for _ in 0..200 {
        node.admin().get("/healthz").await;
        let grown = node.resident().saturating_sub(before) / MIB as u64;
        assert!(grown <= 16, "the node grew by {grown} MiB");
    }
    // What the kernel's buffers on two loopback connections take is far less.
    let held = sent.load(Ordering::Relaxed) as usize / MIB;
    assert!(held < SIZE / MIB / 2, "{held} MiB were sent to nobody");
    assert!(!sending.is_finished());

    let (mut buffer, mut total) = (vec![0; MIB], 0);
    while total < SIZE {
        let read = within(client.read(&mut buffer)).await.expect("more");
        assert!(read > 0 && buffer[..read].iter().all(|byte| *byte == 9));
        total += read;
    }
    sending.await.expect("all was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_sends_early_waits_for_the_origins_101() {
    let origin = RawOrigin::start().await;
    let node = config(&origin.url(), ECHO).start().await;
    // It would be a request if it were not for the switch.
    let early = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut client = connect(&node).await;
    let both = format!("{ASK}{early}");
    client.write_all(both.as_bytes()).await.expect("a request");
    let (mut far, asked) = origin.request().await;
    assert!(asked.contains("\r\nupgrade: echo\r\n"), "{asked}");
    for _ in 0..50 {
        node.admin().get("/healthz").await;
        let nothing = far.try_read(&mut [0; 64]);
        assert!(
            nothing.is_err(),
            "early bytes reached the origin: {nothing:?}"
        );
    }
    far.write_all(SWITCH.as_bytes()).await.expect("a switch");
    exactly(&mut far, early).await;
    assert!(head(&mut client).await.starts_with("http/1.1 101 "));
    passes(&mut client, &mut far).await;

    // Without a switch it is a request of its own.
    let mut client = connect(&node).await;
    client.write_all(both.as_bytes()).await.expect("a request");
    let (mut far, _) = origin.request().await;
    let refusal = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 3\r\nX-Why: no\r\n\r\nno\n";
    far.write_all(refusal.as_bytes()).await.expect("an answer");
    let next = tokio::select! {
        next = origin.request() => next.1,
        next = head(&mut far) => next,
    };
    assert!(next.starts_with("get /smuggled http/1.1\r\n"), "{next}");
    assert!(next.contains("x-forwarded-for: 127.0.0.1"), "{next}");
    let refused = head(&mut client).await;
    assert!(refused.starts_with("http/1.1 426 "), "{refused}");
    assert!(refused.contains("x-why: no"), "{refused}");
    exactly(&mut client, "no\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_an_upgrade_is_neither_looked_up_nor_stored() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=60")).await;
    let node = config(&origin.url(), ECHO).start().await;
    let ask = async |upgrade: &str| {
        let mut raw = Raw::connect(node.port()).await;
        raw.send(format!(
            "GET /p HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\n{upgrade}\r\n\r\n",
            node.port()
        ))
        .await;
        raw.read_until("\r\n\r\n").await.to_lowercase()
    };
    let refused = ask("Upgrade: websocket").await;
    assert!(refused.starts_with("http/1.1 200 "), "{refused}");
    assert!(refused.contains("fwd=bypass"), "{refused}");
    let seen = origin.last("/p");
    assert_eq!(seen.header("upgrade").as_deref(), Some("websocket"));
    assert_eq!(seen.header("connection").as_deref(), Some("upgrade"));
    assert!(!node.get("/p").await.is_hit(), "it was stored");
    node.until_hit("/p").await;
    let before = origin.count("/p");
    ask("Upgrade: websocket").await;
    assert_eq!(origin.count("/p"), before + 1, "it was looked up");

    // A token that the route does not allow: a request like any other, so a hit.
    let other = ask("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA").await;
    assert!(other.contains("weir; hit"), "{other}");
    // Only those that it allows go on.
    ask("Upgrade: h2c, WebSocket\r\nUpgrade: foo/2").await;
    assert_eq!(
        origin.last("/p").header("upgrade").as_deref(),
        Some("WebSocket")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_is_left_out_where_the_route_allows_none_or_a_body_comes_along() {
    let origin = Origin::with(Reply::page).await;
    let node = Config::new(
        "[upstreams.o]\nservers = [\"{o}\"]\n\
         [[routes]]\npath = \"/none\"\nupstream = \"o\"\nupgrades = []\n\
         [[routes]]\npath = \"/body\"\nupstream = \"o\"\n",
    )
    .set("o", origin.url())
    .start()
    .await;
    let asks = "Host: h\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n";
    for (request, path) in [
        (format!("GET /none HTTP/1.1\r\n{asks}\r\n"), "/none"),
        (
            format!("POST /body HTTP/1.1\r\n{asks}Content-Length: 2\r\n\r\nhi"),
            "/body",
        ),
    ] {
        let (answer, _) = Raw::exchange(node.port(), request).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(origin.last(path).header("upgrade"), None);
        assert_eq!(origin.last(path).header("connection"), None);
    }
    assert_eq!(origin.last("/body").body, "hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_nobody_asked_for_is_502() {
    let origin = RawOrigin::start().await;
    let node = config(&origin.url(), ECHO).start().await;
    let plain = "GET /t HTTP/1.1\r\nHost: h\r\n\r\n";
    let lookalike = "GET /t HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\n\r\n";
    let other = "GET /t HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    for request in [plain, lookalike, other] {
        let mut client = connect(&node).await;
        client
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut far = origin.switch().await;
        // Bytes of the other protocol must reach no HTTP client.
        let _ = far
            .write_all(b"HTTP/1.1 200 OK\r\nX-Poison: 1\r\n\r\n")
            .await;
        let answer = head(&mut client).await;
        assert!(answer.starts_with("http/1.1 502 "), "{answer}");
        assert!(!answer.contains("x-poison"), "{answer}");
        assert_eq!(rest(&mut far).await, b"", "the node spoke on");
    }
    assert_eq!(node.admin().metric("weir_upgrades_total", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_is_refused_with_a_reason() {
    let origin = Origin::with(|_| Reply::ok()).await;
    let node = Config::plain(&origin.url()).start().await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    for (target, status, reason) in [
        ("h:443", 501, "CONNECT is not supported"),
        // RFC 9112 section 3.2.3: its target is an authority.
        ("/path", 400, "the request target is malformed"),
    ] {
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: h:443\r\n\r\n{smuggled}");
        let (answer, _) = Raw::exchange(node.port(), request).await;
        let line = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&line), "{answer}");
        assert!(answer.contains(reason), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    assert_eq!(origin.total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_cuts_a_tunnel() {
    let origin = RawOrigin::start().await;
    let node = config(&origin.url(), ECHO).start().await;
    let (mut kept, mut kept_far) = tunnel(&node, &origin).await;
    let (mut client, mut far) = tunnel(&node, &origin).await;
    passes(&mut client, &mut far).await;
    let list = node.admin().get("/v1/connections").await.json();
    let ids: Vec<u64> = list["connections"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["id"].as_u64())
        .collect();
    assert_eq!(ids.len(), 2, "{list}");
    assert!(ids[0] < ids[1], "not by age: {list}");
    let cut = async || {
        let url = format!("{}/v1/connections/{}", node.admin().base(), ids[1]);
        let request = node.client().delete(url);
        let request = request.header("content-type", "application/json");
        request.send().await.expect("an answer").status()
    };
    assert_eq!(cut().await, 200);
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(rest(&mut far).await, b"");
    until("the end of its entry", async || {
        (cut().await == 404).then_some(())
    })
    .await;
    passes(&mut kept, &mut kept_far).await;
    let reason = [("reason", "cut")];
    assert_eq!(
        node.admin()
            .metric("weir_upgrades_ended_total", &reason)
            .await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_ends_lets_the_other_finish() {
    let origin = RawOrigin::start().await;
    let node = config(&origin.url(), ECHO).start().await;
    let (mut client, mut far) = tunnel(&node, &origin).await;
    client.write_all(b"all of it").await.expect("bytes");
    client.shutdown().await.expect("a half-close");
    assert_eq!(rest(&mut far).await, b"all of it");
    far.write_all(b"the answer")
        .await
        .expect("an answer after the end");
    drop(far);
    assert_eq!(rest(&mut client).await, b"the answer");
    ended_by(&node, "closed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_dies_takes_the_clients_connection_along() {
    let origin = RawOrigin::start().await;
    let node = config(&origin.url(), ECHO).start().await;
    let (mut client, mut far) = tunnel(&node, &origin).await;
    passes(&mut client, &mut far).await;
    far.set_zero_linger().expect("SO_LINGER");
    drop(far);
    assert_eq!(rest(&mut client).await, b"");
    ended_by(&node, "origin-broken").await;
    assert!(node.output().contains("origin-broken"), "{}", node.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_in_which_nothing_moves_is_closed_and_logged() {
    let origin = RawOrigin::start().await;
    let keys = format!("{ECHO}\nupgrade_idle_timeout = \"300ms\"");
    let node = config(&origin.url(), &keys).start().await;
    let (mut client, mut far) = tunnel(&node, &origin).await;
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(rest(&mut far).await, b"");
    ended_by(&node, "idle").await;
    assert!(
        node.output().contains("reason=\"idle\""),
        "{}",
        node.output()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_outlives_a_reload_and_holds_no_generation() {
    let origin = RawOrigin::start().await;
    let mut node = config(&origin.url(), ECHO).start().await;
    let (mut client, mut far) = tunnel(&node, &origin).await;
    // Not even its route is left.
    node.rewrite(|text| {
        text.replace("/{*rest}", "/elsewhere")
            .replace(ECHO, "upgrades = []")
    });
    node.hangup();
    until("the next generation, alone", async || {
        let status = node.admin().get("/v1/status").await.json();
        let alive = node.admin().metric("weir_generations_alive", &[]).await;
        (status["generation"] == 2 && alive == 1.0).then_some(())
    })
    .await;
    passes(&mut client, &mut far).await;
    let open = [("route", "/{*rest}"), ("protocol", "echo")];
    assert_eq!(
        node.admin()
            .metric("weir_upgraded_connections", &open)
            .await,
        1.0
    );
}

async fn listens_no_more(node: &Weir) {
    let port = node.port();
    until("the listener's end", async || {
        let tried = TcpStream::connect(("127.0.0.1", port)).await;
        tried.is_err().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_waits_for_its_tunnels() {
    let origin = RawOrigin::start().await;
    let mut node = config(&origin.url(), ECHO).start().await;
    let (mut client, mut far) = tunnel(&node, &origin).await;
    node.terminate();
    listens_no_more(&node).await;
    passes(&mut client, &mut far).await;
    drop(client);
    assert_eq!(rest(&mut far).await, b"");
    drop(far);
    assert!(node.ended().await.success());
    assert!(!node.output().contains("cut off"), "{}", node.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_cuts_its_tunnels_in_the_end() {
    let origin = RawOrigin::start().await;
    let mut node = config(&origin.url(), ECHO)
        .and("[limits]\ndrain_timeout = \"300ms\"\n")
        .start()
        .await;
    let (mut client, mut far) = tunnel(&node, &origin).await;
    node.terminate();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(rest(&mut far).await, b"");
    assert!(node.ended().await.success());
    assert!(node.output().contains("cut off"), "{}", node.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_101_leaves_nothing_behind() {
    let origin = RawOrigin::start().await;
    let node = config(&origin.url(), ECHO).start().await;
    for method in ["GET", "POST"] {
        let mut client = connect(&node).await;
        let ask = ASK.replacen("GET", method, 1);
        client.write_all(ask.as_bytes()).await.expect("a request");
        let (mut far, _) = origin.request().await;
        // It reads on, and would see what came without a 101.
        client.shutdown().await.expect("a half-close");
        until("the node's end of its connection", async || {
            let open = node.admin().metric("weir_connections", &[]).await;
            (open == 0.0).then_some(())
        })
        .await;
        let _ = far.write_all(format!("{SWITCH}secret").as_bytes()).await;
        let seen = rest(&mut client).await;
        assert_eq!(seen, b"", "{}", String::from_utf8_lossy(&seen));
        rest(&mut far).await;
    }
    until("the end of all tunnels", async || {
        let open = node.admin().metric("weir_upgraded_connections", &[]).await;
        (open == 0.0).then_some(())
    })
    .await;
}

/// The nodes in Redis, by name.
fn told(redis: &RedisServer) -> Vec<Value> {
    let all: Vec<String> = redis.command(&["HVALS", "weir:websocket:connections"]);
    all.iter()
        .map(|one| serde_json::from_str(one).expect("JSON"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_tells_of_the_connections_of_all_nodes_that_live() {
    let (origin, redis) = (RawOrigin::start().await, RedisServer::start().await);
    let url = redis.url();
    let start = async || {
        let config = config(&origin.url(), ECHO).redis(&url);
        config.and("connections_ttl = \"1s\"\n").start().await
    };
    let (mut doomed, living) = (start().await, start().await);
    let (mut lost, _lost_far) = tunnel(&doomed, &origin).await;
    let (first, first_far) = tunnel(&living, &origin).await;
    let (second, second_far) = tunnel(&living, &origin).await;
    let counts = async |wanted: &[u64]| {
        until(&format!("{wanted:?} connections in Redis"), async || {
            let told = told(&redis);
            let mut counts: Vec<u64> = told
                .iter()
                .filter_map(|one| one["connections"].as_u64())
                .collect();
            counts.sort_unstable();
            (counts == wanted).then_some(told)
        })
        .await
    };
    let all = counts(&[1, 2]).await;
    for one in &all {
        assert_eq!(
            one["routes"]["/{*rest}"]["echo"], one["connections"],
            "{one}"
        );
    }

    doomed.kill();
    assert_eq!(rest(&mut lost).await, b"");
    counts(&[2]).await;
    drop((second, second_far));
    counts(&[1]).await;
    drop((first, first_far));
    counts(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_nodes_entry_ends_with_it_and_an_orderly_end_takes_it_out() {
    let (origin, redis) = (RawOrigin::start().await, RedisServer::start().await);
    let start = async |ttl: &str| {
        let config = config(&origin.url(), ECHO).redis(&redis.url());
        config
            .and(&format!("connections_ttl = \"{ttl}\"\n"))
            .start()
            .await
    };
    let key = "weir:websocket:connections";
    let mut node = start("1s").await;
    let _tunnel = tunnel(&node, &origin).await;
    until("its entry", async || {
        (told(&redis).len() == 1).then_some(())
    })
    .await;
    node.kill();
    until("the end of the whole key", async || {
        let there: u64 = redis.command(&["EXISTS", key]);
        (there == 0).then_some(())
    })
    .await;

    let mut node = start("1h").await;
    let (client, _far) = tunnel(&node, &origin).await;
    until("its entry", async || {
        (told(&redis).len() == 1).then_some(())
    })
    .await;
    node.terminate();
    listens_no_more(&node).await;
    drop(client);
    drop(_far);
    assert!(node.ended().await.success());
    assert_eq!(told(&redis).len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_needs_no_redis() {
    let (origin, mut redis) = (RawOrigin::start().await, RedisServer::start().await);
    let node = config(&origin.url(), ECHO)
        .redis(&redis.url())
        .and("connections_ttl = \"1s\"\n")
        .start()
        .await;
    let (mut client, mut far) = tunnel(&node, &origin).await;
    until("its entry", async || {
        (told(&redis).len() == 1).then_some(())
    })
    .await;
    redis.kill();
    passes(&mut client, &mut far).await;
    let (mut another, mut another_far) = tunnel(&node, &origin).await;
    passes(&mut another, &mut another_far).await;
    redis.revive().await;
    until("both, when Redis is back", async || {
        let told = told(&redis);
        (told.first()?["connections"] == 2).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_asked_before_an_upgrade() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    let asks = "Host: h\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut refused = 0;
    for _ in 0..30 {
        let login = format!("POST /login HTTP/1.1\r\n{asks}");
        let (answer, _) = Raw::exchange(node.port(), login).await;
        refused += usize::from(answer.starts_with("HTTP/1.1 429 "));
    }
    assert!(refused > 0, "30 logins in a row were let through");
    assert_eq!(origin.count("/login"), 30 - refused);
    // What it would have looked up goes to the origin.
    for number in 1..=2 {
        let user = format!("GET /users/42 HTTP/1.1\r\n{asks}");
        let (answer, _) = Raw::exchange(node.port(), user).await;
        assert!(answer.contains("fwd=bypass"), "{answer}");
        assert!(answer.contains("upgrade charity@"), "{answer}");
        assert_eq!(origin.count("/users/42"), number);
    }
    let seen = origin.last("/users/42");
    assert_eq!(seen.header("upgrade").as_deref(), Some("websocket"));
}
