//! Requests whose content is a part of the key: QUERY, and POST where the policy asks for it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use reqwest::Method;
use serde_json::json;
use weir_tests::raw::Raw;
use weir_tests::{Answer, Call, Config, Gate, Origin, Reply, Weir, guests, until, weir_command};

const READS: (&str, &str) = ("x-graphql-operation", "query");
const JSON: (&str, &str) = ("content-type", "application/json");
const ALICE: &str = r#"{"query":"{user(id:1){name}}"}"#;
const BOB: &str = r#"{"query":"{user(id:2){name}}"}"#;

/// The policy for GraphQL on every path; `more` goes into its `config`, `cache` into `[cache]`.
fn config(origin: &Origin, settings: &str, cache: &str) -> Config {
    Config::new(
        r#"
[upstreams.api]
servers = ["{origin}"]
[[routes]]
path = "/{*rest}"
upstream = "api"
policy = "graphql"
[policies.graphql]
component = "{component}"
namespaces = ["graphql"]
config = { {settings} }
[cache]
{cache}
"#,
    )
    .set("origin", origin.url())
    .set("settings", settings)
    .set("cache", cache)
    .file("component", &guests().graphql())
}

/// Says what was asked, how often anything was, and is fresh.
fn told(call: &Call) -> Reply {
    let content = String::from_utf8_lossy(&call.body);
    Reply::ok()
        .cache("max-age=600")
        .header("cache-tag", "user")
        .text(format!("{} {content} #{}", call.method, call.nth))
}

async fn post(node: &Weir, headers: &[(&str, &str)], content: &str) -> Answer {
    let headers = [&[READS], headers].concat();
    node.send(Method::POST, "/graphql", &headers, content).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_content_is_an_object_and_the_same_one_a_hit() {
    let origin = Origin::with(told).await;
    let node = config(&origin, "", "").start().await;
    for content in [ALICE, BOB] {
        let miss = post(&node, &[JSON], content).await;
        assert!(miss.cache().stored, "{:?}", miss.cache());
        assert!(miss.text().contains(content), "{}", miss.text());
        let hit = post(&node, &[JSON], content).await;
        assert!(hit.is_hit(), "{:?}", hit.cache());
        assert_eq!(hit.text(), miss.text());
    }
    assert_eq!(origin.count("/graphql"), 2);
    let call = origin.last("/graphql");
    assert_eq!(
        (call.method, &call.body[..]),
        (Method::POST, BOB.as_bytes())
    );
    assert_eq!(call.headers["content-type"], "application/json");
    assert_eq!(
        call.headers["content-length"],
        BOB.len().to_string().as_str()
    );
}

/// Method, target, header fields, content.
type Sent<'a> = (&'a Method, &'a str, &'a [(&'a str, &'a str)], &'a str);

#[tokio::test(flavor = "multi_thread")]
async fn what_the_origin_can_tell_apart_is_kept_apart() {
    let origin = Origin::with(told).await;
    let node = config(&origin, "", "").start().await;
    let query = Method::QUERY;
    let send = async |method: &Method, path: &str, headers: &[(&str, &str)], content: &str| {
        let headers = [&[READS], headers].concat();
        node.send(method.clone(), path, &headers, content).await
    };
    let german = [JSON, ("content-language", "de")];
    let coded = [JSON, ("content-encoding", "identity")];
    let different: &[Sent<'_>] = &[
        (&Method::POST, "/graphql", &[JSON], ALICE),
        (&query, "/graphql", &[JSON], ALICE),
        (&Method::GET, "/graphql", &[], ""),
        (&Method::GET, "/graphql", &[JSON], ALICE),
        (&Method::POST, "/graphql", &[], ALICE),
        (
            &Method::POST,
            "/graphql",
            &[("content-type", "text/plain")],
            ALICE,
        ),
        (&Method::POST, "/graphql", &german, ALICE),
        (&Method::POST, "/graphql", &coded, ALICE),
        (&Method::POST, "/graphql", &[JSON], ""),
        (&Method::POST, "/graphql?a", &[JSON], ALICE),
    ];
    let mut answers = Vec::new();
    for (method, path, headers, content) in different {
        let miss = send(method, path, headers, content).await;
        assert!(!miss.is_hit(), "{method} {path} {headers:?} {content}");
        assert!(miss.cache().stored, "{method} {path}: {:?}", miss.cache());
        answers.push(miss.text());
    }
    for ((method, path, headers, content), text) in different.iter().zip(answers) {
        let hit = send(method, path, headers, content).await;
        assert!(hit.is_hit(), "{method} {path} {headers:?} {content}");
        assert_eq!(hit.text(), text);
    }
    assert_eq!(origin.total(), different.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_of_crafted_parts_does_not_reach_the_object_of_a_post() {
    let origin = Origin::with(told).await;
    let node = config(&origin, r#"user_headers = ["x-user"]"#, "")
        .start()
        .await;
    let stored = post(&node, &[JSON, ("x-user", "u")], ALICE).await;
    assert!(stored.cache().stored);
    let explained = node.admin().get(
        "/v1/explain?url=http://127.0.0.1/graphql&method=POST&header=x-graphql-operation:query",
    );
    let key = explained.await.json()["key"].to_string();
    assert!(key.contains(":~POST:"), "{key}");
    // What ends the key of a POST cannot be said by a header field's value.
    let crafted = [("x-user", "u:~POST:application/json:~:~")];
    let got = node.get_with("/graphql", &crafted).await;
    assert!(!got.is_hit() && got.text().starts_with("GET"), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_equal_posts_are_one_fetch() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::with(move |call| told(call).behind(&held)).await;
    let node = config(&origin, "", "").start().await;
    let ask = |content: &'static str| {
        let request = node
            .client()
            .post(node.url("/graphql"))
            .header(READS.0, READS.1)
            .body(content);
        tokio::spawn(Answer::of(request))
    };
    let first = ask(ALICE);
    until("the first at the origin", async || {
        (origin.count("/graphql") == 1).then_some(())
    })
    .await;
    let others: Vec<_> = (0..9).map(|_| ask(ALICE)).collect();
    // Equal in all but the content: not to be joined.
    let other = ask(BOB);
    until("all at the node", async || {
        let connections = node.admin().metric("weir_connections", &[]).await;
        (connections >= 11.0 && origin.count("/graphql") == 2).then_some(())
    })
    .await;
    gate.open();
    let first = first.await.expect("a task").expect("an answer").text();
    for answer in others {
        assert_eq!(
            answer.await.expect("a task").expect("an answer").text(),
            first
        );
    }
    assert!(
        other
            .await
            .expect("a task")
            .expect("an answer")
            .text()
            .contains(BOB)
    );
    assert_eq!(origin.count("/graphql"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_content_is_forwarded_whole_and_purges_nothing() {
    let origin = Origin::with(told).await;
    let cache = r#"max_keyed_body = "1KiB""#;
    let node = config(&origin, "", cache).start().await;
    post(&node, &[JSON], ALICE).await;
    let large = "x".repeat(1_025);
    for _ in 0..2 {
        let passed = post(&node, &[JSON], &large).await;
        assert!(passed.cache().details("body-too-large"), "{passed:?}");
        assert_eq!(origin.last("/graphql").body, large);
    }
    // Without a length the node finds out while it reads.
    let (a, b) = ("a".repeat(800), "b".repeat(800));
    let chunked = format!(
        "POST /graphql HTTP/1.1\r\nHost: h\r\n{}: {}\r\nTransfer-Encoding: chunked\r\n\
         Connection: close\r\n\r\n320\r\n{a}\r\n320\r\n{b}\r\n0\r\n\r\n",
        READS.0, READS.1
    );
    let (answer, _) = Raw::exchange(node.port(), chunked).await;
    assert!(answer.contains("body-too-large"), "{answer}");
    let call = origin.last("/graphql");
    assert_eq!(call.body, a + &b);
    assert!(
        post(&node, &[JSON], ALICE).await.is_hit(),
        "a query purged the others of its URL"
    );
    // The largest that is keyed.
    let largest = "x".repeat(1_024);
    post(&node, &[JSON], &largest).await;
    assert!(post(&node, &[JSON], &largest).await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_expects_100_gets_it_and_is_looked_up() {
    let origin = Origin::with(told).await;
    let node = config(&origin, "", "").start().await;
    for hit in [false, true] {
        let mut raw = Raw::connect(node.port()).await;
        raw.send(format!(
            "POST /graphql HTTP/1.1\r\nHost: h\r\n{}: {}\r\nContent-Length: 3\r\n\
             Expect: 100-continue\r\nConnection: close\r\n\r\n",
            READS.0, READS.1
        ))
        .await;
        raw.read_until("HTTP/1.1 100 Continue\r\n\r\n").await;
        raw.send("abc").await;
        let (answer, _) = raw.read_to_end().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(answer.contains("weir; hit"), hit, "{answer}");
    }
    assert_eq!(origin.last("/graphql").header("expect"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_content_that_breaks_off_reaches_no_origin() {
    let origin = Origin::with(told).await;
    let node = config(&origin, "", "").start().await;
    let mut raw = Raw::connect(node.port()).await;
    raw.send(format!(
        "POST /graphql HTTP/1.1\r\nHost: h\r\n{}: {}\r\nContent-Length: 30\r\n\r\nabc",
        READS.0, READS.1
    ))
    .await;
    drop(raw);
    let refused = [("result", "refused")];
    until("the request given up", async || {
        let refused = node.admin().metric("weir_requests_total", &refused).await;
        (refused >= 1.0).then_some(())
    })
    .await;
    assert_eq!(origin.total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_reach_what_is_keyed_by_content() {
    let origin = Origin::with(told).await;
    let node = config(&origin, "", "").start().await;
    for selector in [
        json!({ "tags": ["user"] }),
        json!({ "tags": ["graphql"] }),
        json!({ "urls": [node.url("/graphql")] }),
        json!({ "namespaces": ["graphql"] }),
        json!({ "prefixes": ["graphql:/graphql"] }),
    ] {
        for content in [ALICE, BOB] {
            post(&node, &[JSON], content).await;
            assert!(post(&node, &[JSON], content).await.is_hit());
        }
        node.admin().invalidate(selector.clone()).await;
        for content in [ALICE, BOB] {
            let after = post(&node, &[JSON], content).await;
            assert!(!after.is_hit(), "{selector} left {content}");
        }
    }
    // The one key alone, as `weir explain` says it.
    let url = node.url("/graphql");
    let words = [
        "explain",
        "-c",
        "weir.toml",
        &url,
        "-d",
        ALICE,
        "-H",
        "content-type: application/json",
        "-H",
        "x-graphql-operation: query",
        "--json",
        "-R",
        "cache-control: max-age=60",
    ];
    let run = weir_command(node.scratch().path(), &words).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    let told: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(told["method"], "POST");
    assert_eq!(told["response"]["stored"], true, "{told}");
    let key = told["key"].as_str().expect("a key");
    post(&node, &[JSON], ALICE).await;
    post(&node, &[JSON], BOB).await;
    node.admin().invalidate(json!({ "keys": [key] })).await;
    assert!(!post(&node, &[JSON], ALICE).await.is_hit(), "{key}");
    assert!(post(&node, &[JSON], BOB).await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_leave_what_is_stored_and_mutations_purge_it() {
    let origin = Origin::with(told).await;
    let node = config(&origin, "", "").start().await;
    node.until_hit("/graphql").await;
    for method in [Method::POST, Method::QUERY] {
        let answer = node.send(method, "/graphql", &[READS, JSON], ALICE).await;
        assert!(answer.cache().stored);
    }
    assert!(node.get("/graphql").await.is_hit());
    let mutation = node.send(Method::POST, "/graphql", &[JSON], "{}").await;
    assert!(mutation.cache().details("mutation"), "{mutation:?}");
    assert!(!node.get("/graphql").await.is_hit());
    assert!(!post(&node, &[JSON], ALICE).await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_explicitly_fresh_is_kept_of_a_post() {
    let origin = Origin::with(|call| {
        let reply = told(call);
        match call.path.as_str() {
            "/heuristic" => Reply::ok()
                .header("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
                .text("old"),
            "/private" => Reply::ok().cache("private, max-age=600").text("mine"),
            "/silent" => Reply::ok().text("silent"),
            _ => reply,
        }
    })
    .await;
    let node = config(&origin, "", "").start().await;
    let stored = async |method: Method, path: &str| {
        let send = async || node.send(method.clone(), path, &[READS], "q").await;
        send().await;
        send().await.is_hit()
    };
    let kept = async |node: &Weir, method: Method, path: &str| {
        node.send(method.clone(), path, &[READS], "q").await;
        let again = node.send(method.clone(), path, &[READS], "q").await;
        assert!(again.is_hit(), "{method} {path}: {:?}", again.cache());
    };
    assert!(!stored(Method::POST, "/heuristic").await);
    kept(&node, Method::QUERY, "/heuristic").await;
    for path in ["/private", "/silent"] {
        assert!(!stored(Method::POST, path).await, "{path}");
        assert!(!stored(Method::QUERY, path).await, "{path}");
    }
    // The policy's own lifetime is explicit enough, and still does not override `private`.
    let node = config(&origin, r#"lifetime = "1h""#, "").start().await;
    kept(&node, Method::POST, "/heuristic").await;
    kept(&node, Method::POST, "/silent").await;
    post_to(&node, "/private").await;
    assert!(!post_to(&node, "/private").await.is_hit());
}

async fn post_to(node: &Weir, path: &str) -> Answer {
    node.send(Method::POST, path, &[READS], "q").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_answer_is_served_while_the_same_content_is_sent_again() {
    let origin = Origin::with(|call| {
        let reply = Reply::ok().header("etag", "\"e\"");
        reply
            .cache("max-age=0, stale-while-revalidate=600")
            .text(format!("{} #{}", call.method, call.nth))
    })
    .await;
    let node = config(&origin, "", "").start().await;
    for method in [Method::POST, Method::QUERY] {
        let path = format!("/{method}");
        let send = async || {
            node.send(method.clone(), &path, &[READS, JSON], ALICE)
                .await
        };
        assert_eq!(send().await.text(), format!("{method} #1"));
        let stale = send().await;
        assert!(stale.is_hit(), "{:?}", stale.cache());
        assert_eq!(stale.text(), format!("{method} #1"));
        until("the same sent again", async || {
            (origin.count(&path) >= 2).then_some(())
        })
        .await;
        let again = origin.calls(&path)[1].clone();
        assert_eq!(
            (&again.method, &again.body[..]),
            (&method, ALICE.as_bytes())
        );
        // A POST's conditions would be about what it changes.
        assert_eq!(
            again.header("if-none-match").is_some(),
            method == Method::QUERY
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_and_ranges_mean_what_they_mean_for_the_method() {
    let origin = Origin::with(|call| told(call).header("etag", "\"e\"")).await;
    let node = config(&origin, "", "").start().await;
    let send = async |method: &Method, field: (&str, &str)| {
        node.send(method.clone(), "/graphql", &[READS, JSON, field], ALICE)
            .await
    };
    let nothing = ("x-nothing", "");
    for method in [Method::POST, Method::QUERY] {
        send(&method, nothing).await;
        assert!(send(&method, nothing).await.is_hit());
    }
    let asked = origin.total();
    let not_modified = send(&Method::QUERY, ("if-none-match", "\"e\"")).await;
    assert_eq!(not_modified.status, 304);
    assert_eq!(origin.total(), asked);
    let condition = send(&Method::POST, ("if-none-match", "\"e\"")).await;
    assert_eq!(condition.status, 200);
    assert!(condition.cache().details("precondition"));
    assert_eq!(origin.total(), asked + 1);
    assert!(origin.last("/graphql").header("if-none-match").is_some());
    let range = send(&Method::POST, ("range", "bytes=0-1")).await;
    assert!(range.is_hit());
    assert_eq!((range.status.as_u16(), range.body.len() > 2), (200, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_the_content_answers_no_request_that_has_some() {
    // charity keys by the path alone, and takes QUERY for safe.
    let origin = Origin::with(told).await;
    let node = weir_tests::charity::config(&origin).start().await;
    node.until_hit("/users/42").await;
    for method in [Method::QUERY, Method::GET] {
        let answer = node.send(method, "/users/42", &[JSON], ALICE).await;
        assert!(answer.text().contains(ALICE), "{answer:?}");
        assert!(!answer.is_hit() && !answer.cache().stored);
    }
    assert!(node.get("/users/42").await.is_hit(), "QUERY purged it");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_a_query_is_forwarded_and_changes_nothing() {
    let origin = Origin::with(told).await;
    let node = Config::plain(&origin.url()).start().await;
    node.until_hit("/q").await;
    for _ in 0..2 {
        let answer = node.send(Method::QUERY, "/q", &[JSON], ALICE).await;
        assert!(answer.text().contains(ALICE) && !answer.is_hit());
    }
    assert!(node.get("/q").await.is_hit());
}

/// RFC 9110 section 9.3.3.
#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_shows_its_target_answers_a_later_get() {
    let origin = Origin::with(|call| {
        let reply = Reply::ok().text(format!("{} #{}", call.method, call.nth));
        let here = |reply: Reply| reply.header("content-location", call.target.as_str());
        match (call.path.as_str(), call.method.as_str()) {
            (_, "GET") => reply.cache("max-age=600"),
            ("/yes", _) => here(reply.cache("max-age=600")),
            ("/elsewhere", _) => reply
                .cache("max-age=600")
                .header("content-location", "/other"),
            ("/unsaid", _) => reply.cache("max-age=600"),
            ("/heuristic", _) => {
                here(reply.header("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"))
            }
            ("/private", _) => here(reply.cache("private, max-age=600")),
            ("/created", _) => here(Reply::status(201).cache("max-age=600").text("new")),
            _ => Reply::status(404),
        }
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    for (path, answers) in [
        ("/yes?a=1", true),
        ("/elsewhere", false),
        ("/unsaid", false),
        ("/heuristic", false),
        ("/private", false),
        ("/created", false),
    ] {
        node.until_hit(path).await;
        let posted = node.send(Method::POST, path, &[], "x").await.text();
        let got = node.get(path).await;
        assert_eq!(got.is_hit(), answers, "{path}: {:?}", got.cache());
        assert_eq!(got.text() == posted, answers, "{path}: {}", got.text());
    }
}
