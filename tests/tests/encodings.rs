//! Content codings through the real binary: what the origin encodes, and what the node
//! does. RFC 9110 sections 8.4 and 12.5.3.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::io::{Read as _, Write as _};

use reqwest::Method;
use weir_tests::{
    Answer, Call, Config, Gate, Origin, RedisServer, Reply, Scratch, Weir, until, weir_command,
};

const COMPRESS: &str = "compress = [\"zstd\", \"br\", \"gzip\"]\n";
const DATED: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// What browsers say.
const ALL: &str = "gzip, deflate, br, zstd";

/// A text that compresses well, other for each target and version.
fn text(call: &Call) -> String {
    format!("{} v{}\n", call.target, call.version).repeat(400)
}

/// A page with all that a client can hold against it.
fn page(call: &Call) -> Reply {
    let known = Reply::page(call).cache("max-age=600");
    if call.header("if-none-match").is_some() {
        return known;
    }
    known
        .text(text(call))
        .header("content-type", "text/plain; charset=utf-8")
        .header("last-modified", DATED)
        .header("accept-ranges", "bytes")
}

async fn compressing() -> (Origin, Weir) {
    let origin = Origin::with(page).await;
    let node = Config::plain(&origin.url()).and(COMPRESS).start().await;
    (origin, node)
}

/// The body as its Content-Encoding says.
fn decoded(answer: &Answer) -> String {
    let mut back = Vec::new();
    match answer.header("content-encoding").as_deref() {
        None => back = answer.body.to_vec(),
        Some("gzip") => {
            flate2::read::GzDecoder::new(&answer.body[..])
                .read_to_end(&mut back)
                .expect("gzip");
        }
        Some("br") => brotli::BrotliDecompress(&mut &answer.body[..], &mut back).expect("br"),
        Some("zstd") => back = zstd::bulk::decompress(&answer.body, 64 << 20).expect("zstd"),
        Some(other) => panic!("nobody asked for {other}"),
    }
    String::from_utf8(back).expect("the text of a page")
}

async fn get(node: &Weir, path: &str, accept: &str) -> Answer {
    node.get_with(path, &[("accept-encoding", accept)]).await
}

/// Gets until the answer is a hit: what was fetched is stored a moment after its end.
async fn until_hit(node: &Weir, path: &str, accept: &str) -> Answer {
    until(&format!("a hit of {path}"), async || {
        let answer = get(node, path, accept).await;
        answer.is_hit().then_some(answer)
    })
    .await
}

/// Gets until the answer is a hit in this coding: the first ones only have it made.
async fn until_coded(node: &Weir, path: &str, accept: &str, coding: &str) -> Answer {
    until(&format!("{path} in {coding}"), async || {
        let answer = get(node, path, accept).await;
        let coded = answer.header("content-encoding").as_deref() == Some(coding);
        coded.then_some(answer)
    })
    .await
}

async fn compressed(node: &Weir) -> f64 {
    node.admin().metric("weir_compressed_total", &[]).await
}

async fn compressed_to(node: &Weir, coding: &str) -> f64 {
    let labels = [("coding", coding)];
    node.admin().metric("weir_compressed_total", &labels).await
}

fn varies(answer: &Answer) -> bool {
    let mut lines = answer.headers.get_all("vary").iter();
    lines.any(|line| line.as_bytes().eq_ignore_ascii_case(b"accept-encoding"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stored_object_serves_every_client_in_its_coding() {
    let (origin, node) = compressing().await;
    let miss = get(&node, "/a", ALL).await;
    let plain = miss.text();
    assert_eq!(miss.header("content-encoding"), None);
    assert!(varies(&miss), "{miss:?}");
    for (accept, coding) in [
        (ALL, "zstd"),
        ("gzip, br", "br"),
        ("gzip", "gzip"),
        ("X-GZIP;q=0.5", "gzip"),
        ("zstd;q=0, *", "br"),
        ("br;q=0.5, gzip", "gzip"),
        ("identity;q=0, zstd;q=0.1", "zstd"),
    ] {
        let answer = until_coded(&node, "/a", accept, coding).await;
        assert!(answer.is_hit() && answer.status == 200);
        assert_eq!(decoded(&answer), plain, "{accept}");
        assert!(answer.body.len() < plain.len() / 4, "{accept}");
        assert_eq!(
            answer.header("content-length"),
            Some(answer.body.len().to_string())
        );
        assert_eq!(answer.header("etag").as_deref(), Some("W/\"v1\""));
        assert_eq!(answer.header("accept-ranges"), None);
        assert_eq!(answer.header("last-modified").as_deref(), Some(DATED));
        assert!(varies(&answer));
    }
    for accept in [
        "identity",
        "",
        "gzip;q=0",
        "deflate",
        "*;q=0",
        "identity, gzip;q=0.9",
    ] {
        let answer = get(&node, "/a", accept).await;
        assert!(answer.is_hit() && varies(&answer));
        assert_eq!(answer.header("content-encoding"), None, "{accept:?}");
        assert_eq!(answer.text(), plain);
        assert_eq!(answer.header("etag").as_deref(), Some("\"v1\""));
        assert_eq!(answer.header("accept-ranges").as_deref(), Some("bytes"));
    }
    assert_eq!(node.get("/a").await.text(), plain, "no field at all");
    assert_eq!(origin.count("/a"), 1);
    for coding in ["zstd", "br", "gzip"] {
        assert_eq!(
            compressed_to(&node, coding).await,
            1.0,
            "{coding} was made once"
        );
    }
    let explained = node
        .admin()
        .get(&format!("/v1/explain?url={}", node.url("/a")))
        .await
        .json();
    assert!(
        explained["stored"]["coded"]["br"].as_u64() > Some(0),
        "{explained}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_has_the_fields_of_its_get() {
    let (origin, node) = compressing().await;
    node.get("/h").await;
    until_coded(&node, "/h", "br", "br").await;
    for accept in ["br", "identity"] {
        let with = [("accept-encoding", accept)];
        let whole = node.get_with("/h", &with).await;
        let head = node.send(Method::HEAD, "/h", &with, "").await;
        assert!(head.body.is_empty() && !whole.body.is_empty());
        let length = whole.body.len().to_string();
        assert_eq!(head.header("content-length"), Some(length));
        for name in [
            "content-encoding",
            "etag",
            "vary",
            "content-type",
            "accept-ranges",
        ] {
            assert_eq!(head.header(name), whole.header(name), "{accept}: {name}");
        }
    }
    assert_eq!(origin.count("/h"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_either_form_gets_304() {
    let (origin, node) = compressing().await;
    node.get("/c").await;
    until_coded(&node, "/c", "gzip", "gzip").await;
    for (accept, own) in [("gzip", "W/\"v1\""), ("identity", "\"v1\"")] {
        for known in [
            ("if-none-match", "\"v1\""),
            ("if-none-match", "W/\"v1\""),
            ("if-none-match", "\"x\", W/\"v1\""),
            ("if-modified-since", DATED),
        ] {
            let answer = node
                .get_with("/c", &[("accept-encoding", accept), known])
                .await;
            assert_eq!(answer.status, 304, "{accept}, {known:?}");
            assert!(answer.body.is_empty() && varies(&answer));
            assert_eq!(answer.header("etag").as_deref(), Some(own));
            assert_eq!(answer.header("content-encoding"), None);
        }
        let other = [("accept-encoding", accept), ("if-none-match", "W/\"v0\"")];
        assert_eq!(node.get_with("/c", &other).await.status, 200);
    }
    assert_eq!(origin.count("/c"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_cut_from_the_content_as_it_is() {
    let (origin, node) = compressing().await;
    let whole = node.get("/r").await.text();
    until_coded(&node, "/r", "gzip", "gzip").await;
    for (condition, status) in [
        (("x", "no condition"), 206),
        (("if-range", "\"v1\""), 206),
        (("if-range", "W/\"v1\""), 200),
        // The same for both forms, so it does not tell which of them the client has.
        (("if-range", DATED), 200),
    ] {
        let fields = [
            ("accept-encoding", "gzip"),
            ("range", "bytes=2-9"),
            condition,
        ];
        let answer = node.get_with("/r", &fields).await;
        assert_eq!(answer.status, status, "{condition:?}");
        assert_eq!(answer.header("content-encoding"), None);
        assert_eq!(answer.header("etag").as_deref(), Some("\"v1\""));
        assert!(varies(&answer) && answer.is_hit());
        match status {
            206 => assert_eq!(answer.text(), whole[2..10]),
            _ => assert_eq!(answer.text(), whole),
        }
    }
    assert_eq!(origin.count("/r"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_changed_or_is_not_worth_it_stays_as_it_is() {
    let origin = Origin::with(page).await;
    let plain = |call: &Call| Reply::ok().cache("max-age=600").text(text(call));
    let of_text = move |call: &Call| plain(call).header("content-type", "text/plain");
    origin.on("/no-transform", move |call| {
        of_text(call).header("cache-control", "no-transform")
    });
    origin.on("/digest", move |call| {
        of_text(call).header("content-digest", "sha-256=:x:")
    });
    origin.on("/picture", move |call| {
        plain(call).header("content-type", "image/png")
    });
    origin.on("/typeless", plain);
    origin.on("/missing", move |call| {
        Reply::status(404)
            .cache("max-age=600")
            .header("content-type", "text/plain")
            .text(text(call))
    });
    origin.on("/coded", move |call| {
        of_text(call).header("content-encoding", "unheard-of")
    });
    origin.on("/small", |_| {
        Reply::ok()
            .cache("max-age=600")
            .header("content-type", "text/plain")
            .text("x".repeat(1023))
    });
    origin.on("/noise", |_| {
        Reply::ok()
            .cache("max-age=600")
            .header("content-type", "text/plain")
            .pattern(20_000)
    });
    let node = Config::plain(&origin.url()).and(COMPRESS).start().await;
    for path in [
        "/no-transform",
        "/digest",
        "/picture",
        "/typeless",
        "/missing",
        "/coded",
        "/small",
    ] {
        let miss = get(&node, path, ALL).await;
        let hit = until_hit(&node, path, ALL).await;
        assert!(!varies(&miss) && !varies(&hit), "{path}");
        assert_eq!(hit.body, miss.body, "{path}");
        assert_eq!(
            hit.header("content-encoding"),
            (path == "/coded").then(|| "unheard-of".to_owned())
        );
    }
    let noise = get(&node, "/noise", ALL).await;
    until_hit(&node, "/noise", ALL).await;
    until("noise compressed in vain", async || {
        let name = "weir_compressed_in_vain_total";
        let vain = node.admin().metric(name, &[("reason", "no-gain")]).await;
        (vain == 1.0).then_some(())
    })
    .await;
    let again = get(&node, "/noise", ALL).await;
    assert_eq!(
        (again.header("content-encoding"), again.body),
        (None, noise.body)
    );

    // A client may forbid it as well. By now all that was begun above would be there.
    node.get("/page").await;
    until_coded(&node, "/page", "gzip", "gzip").await;
    let fields = [
        ("accept-encoding", "gzip"),
        ("cache-control", "no-transform"),
    ];
    let untouched = node.get_with("/page", &fields).await;
    assert!(untouched.is_hit());
    assert_eq!(untouched.header("content-encoding"), None);
    assert_eq!(untouched.header("etag").as_deref(), Some("\"v1\""));
    assert_eq!(compressed(&node).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_the_key_changes_nothing() {
    let origin = Origin::with(page).await;
    let node = Config::plain(&origin.url()).start().await;
    let miss = get(&node, "/a", ALL).await;
    let hit = until_hit(&node, "/a", ALL).await;
    assert!(!varies(&miss) && !varies(&hit));
    assert_eq!(hit.header("content-encoding"), None);
    assert_eq!(hit.header("etag").as_deref(), Some("\"v1\""));
    assert_eq!(compressed(&node).await, 0.0);
}

/// A page that takes a while to compress: digits without a pattern.
async fn slow_to_compress() -> (Origin, Weir) {
    let mut state = 1_u32;
    let digits: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'0' + (state >> 24) as u8 % 10)
    })
    .take(4 << 20)
    .collect();
    let origin = Origin::with(move |call| {
        Reply::ok()
            .cache("max-age=600")
            .header("content-type", "text/plain")
            .text(format!("v{} {digits}", call.version))
    })
    .await;
    let node = Config::plain(&origin.url()).and(COMPRESS).start().await;
    (origin, node)
}

/// Purges a page just after its compression has begun.
async fn purge_what_is_being_compressed(origin: &Origin, node: &Weir) {
    until_hit(node, "/p", "br").await;
    origin.bump("/p");
    let url = serde_json::json!({ "urls": [node.url("/p")] });
    node.admin().invalidate(url).await;
}

async fn until_compressed(node: &Weir) {
    until("the end of the compression", async || {
        (compressed(node).await >= 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_while_it_was_compressed_stays_purged() {
    let (origin, node) = slow_to_compress().await;
    purge_what_is_being_compressed(&origin, &node).await;
    until_compressed(&node).await;
    let after = get(&node, "/p", "br").await;
    assert!(!after.is_hit() && decoded(&after).starts_with("v2 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_codings_of_a_purged_body_do_not_come_to_the_next_one() {
    let (origin, node) = slow_to_compress().await;
    purge_what_is_being_compressed(&origin, &node).await;
    assert!(node.get("/p").await.text().starts_with("v2 "));
    until_compressed(&node).await;
    let after = until_hit(&node, "/p", "br").await;
    assert!(decoded(&after).starts_with("v2 "));
    let coded = until_coded(&node, "/p", "br", "br").await;
    assert!(decoded(&coded).starts_with("v2 "));
    assert_eq!(origin.count("/p"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_object_keeps_its_codings_and_stays_one_for_all() {
    let (origin, node) = compressing().await;
    node.get("/k").await;
    until_coded(&node, "/k", "gzip", "gzip").await;
    let fields = [("cache-control", "no-cache"), ("accept-encoding", "br")];
    let confirmed = node.get_with("/k", &fields).await;
    assert_eq!(confirmed.cache().fwd.as_deref(), Some("request"));
    assert_eq!(origin.count("/k"), 2);
    let asked = origin.last("/k");
    assert_eq!(asked.header("if-none-match").as_deref(), Some("\"v1\""));

    let hit = until_hit(&node, "/k", "gzip").await;
    assert!(varies(&hit));
    assert_eq!(hit.header("content-encoding").as_deref(), Some("gzip"));
    assert_eq!(hit.headers.get_all("vary").iter().count(), 1);
    for accept in ["identity", ALL, "deflate"] {
        assert!(get(&node, "/k", accept).await.is_hit(), "{accept}");
    }
    assert_eq!(
        compressed_to(&node, "gzip").await,
        1.0,
        "not made a second time"
    );
    assert_eq!(origin.count("/k"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_redis_is_compressed_where_it_is_wanted() {
    let (origin, redis) = (Origin::with(page).await, RedisServer::start().await);
    let config = || {
        Config::plain(&origin.url())
            .and(COMPRESS)
            .redis(&redis.url())
    };
    let (one, two) = (config().start().await, config().start().await);
    // The host is part of the key, and the nodes have ports of their own.
    let host = ("host", "one.example");
    let plain = one.get_with("/x", &[host]).await.text();
    until("the object in Redis", async || {
        let written = one.admin().metric("weir_redis_written_total", &[]).await;
        (written == 1.0).then_some(())
    })
    .await;
    let coded = until("zstd on the second node", async || {
        let answer = two.get_with("/x", &[host, ("accept-encoding", ALL)]).await;
        assert!(answer.is_hit() && varies(&answer), "{answer:?}");
        answer
            .header("content-encoding")
            .is_some()
            .then_some(answer)
    })
    .await;
    assert_eq!(decoded(&coded), plain);
    assert_eq!(origin.count("/x"), 1);
    assert_eq!(compressed(&one).await, 0.0);
}

/// An origin that encodes itself: in br, gzip or not at all.
fn encoding(call: &Call) -> Reply {
    let accepted = call.header("accept-encoding").unwrap_or_default();
    let plain = text(call);
    let reply = Reply::ok()
        .cache("max-age=600")
        .header("content-type", "text/plain");
    if accepted.contains("br") {
        let mut coded = Vec::new();
        let parameters = brotli::enc::BrotliEncoderParams::default();
        brotli::BrotliCompress(&mut plain.as_bytes(), &mut coded, &parameters).expect("br");
        return reply.header("content-encoding", "br").text(coded);
    }
    if accepted.contains("gzip") {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain.as_bytes()).expect("gzip");
        let coded = encoder.finish().expect("gzip");
        return reply.header("content-encoding", "gzip").text(coded);
    }
    reply.text(plain)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_take_the_same_codings_share_the_origins_variant() {
    let origin = Origin::with(|call| encoding(call).header("vary", "Accept-Encoding")).await;
    // What the origin encodes is left alone by a node that could.
    let node = Config::plain(&origin.url()).and(COMPRESS).start().await;
    let groups: [(&[&str], Option<&str>, &str); 4] = [
        (
            &[
                "gzip, br",
                "br,gzip",
                " BR ; q=0.5,, X-Gzip",
                "br, gzip, deflate, sdch",
            ],
            Some("br"),
            "br, gzip",
        ),
        (
            &["gzip", "gzip, br;q=0", "x-gzip, gzip;q=0.3"],
            Some("gzip"),
            "gzip",
        ),
        (
            &["identity", "", "deflate", "gzip;q=0", "gzip;q=nonsense"],
            None,
            "identity",
        ),
        (
            &["gzip, identity;q=0", "*;q=0, gzip"],
            Some("gzip"),
            "gzip, identity;q=0",
        ),
    ];
    for (at, (fields, coding, asked)) in groups.iter().enumerate() {
        assert!(!get(&node, "/v", fields[0]).await.is_hit());
        for accept in *fields {
            let answer = until_hit(&node, "/v", accept).await;
            assert_eq!(answer.header("content-encoding").as_deref(), *coding);
            assert!(decoded(&answer).starts_with("/v v1"), "{accept:?}");
        }
        assert_eq!(origin.count("/v"), at + 1);
        assert_eq!(
            origin.last("/v").header("accept-encoding").as_deref(),
            Some(*asked)
        );
    }
    assert!(
        !node.get("/v").await.is_hit(),
        "no field is not an empty one"
    );
    assert_eq!(origin.last("/v").header("accept-encoding"), None);
    assert!(get(&node, "/v", "br, gzip").await.is_hit(), "still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coding_without_vary_is_kept_from_those_who_do_not_take_it() {
    let origin = Origin::with(encoding).await;
    let node = Config::plain(&origin.url()).start().await;
    assert!(!get(&node, "/w", "br").await.is_hit());
    for accept in ["br", "gzip, br;q=0.1", "*"] {
        let answer = until_hit(&node, "/w", accept).await;
        assert_eq!(answer.header("content-encoding").as_deref(), Some("br"));
    }
    assert!(node.get("/w").await.is_hit(), "no field takes everything");
    assert_eq!(origin.count("/w"), 1);
    assert!(!get(&node, "/w", "br;q=0").await.is_hit());
    for accept in ["br;q=0, identity", "identity", "*;q=0"] {
        let answer = until_hit(&node, "/w", accept).await;
        assert_eq!(answer.header("content-encoding"), None, "{accept}");
        assert!(decoded(&answer).starts_with("/w v1"));
    }
    assert_eq!(origin.count("/w"), 2, "the plain one suits everybody");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_fetch_gets_no_coding_that_it_does_not_take() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |call| encoding(call).behind(&held)).await;
    let node = Config::plain(&origin.url()).start().await;
    let ask = |accept: &'static str| {
        let request = node
            .client()
            .get(node.url("/j"))
            .header("accept-encoding", accept);
        tokio::spawn(Answer::of(request))
    };
    let first = ask("br");
    until("the first at the origin", async || {
        (origin.count("/j") == 1).then_some(())
    })
    .await;
    let second = ask("gzip");
    gate.open();
    for (asked, coding) in [(first, "br"), (second, "gzip")] {
        let answer = asked.await.expect("a task").expect("an answer");
        assert_eq!(answer.header("content-encoding").as_deref(), Some(coding));
        assert!(decoded(&answer).starts_with("/j v1"));
    }
    assert_eq!(origin.count("/j"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_would_be_compressed() {
    let scratch = Scratch::new();
    let config = Config::plain("http://127.0.0.1:9").and(COMPRESS);
    let ports = config.set("port", 0).set("admin", 0);
    scratch.write("weir.toml", ports.text());
    for (kind, told) in [("text/html", true), ("image/png", false)] {
        let kind = format!("content-type: {kind}");
        let fresh = "cache-control: max-age=60";
        let words = ["explain", "http://a.example/x", "-R", fresh, "-R", &kind];
        let explained = weir_command(scratch.path(), &words).await;
        assert_eq!(explained.code, Some(0), "{}", explained.all());
        let line = "compress   zstd br gzip\n";
        assert_eq!(explained.stdout.contains(line), told, "{}", explained.all());
    }
}
