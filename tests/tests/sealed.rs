//! Sealed routes: the origin sees of a request what its key says, and nothing else can change
//! what is stored. The origin here answers with the very bytes that it got.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::fmt::Write as _;

use reqwest::Method;
use serde_json::json;
use weir_tests::raw::Raw;
use weir_tests::raw_origin::RawOrigin;
use weir_tests::{Config, Origin, RedisServer, Reply, Weir, charity, guests, until};

/// Answers with the request's head, so that whatever the origin sees is in the body.
async fn reflecting() -> RawOrigin {
    RawOrigin::with(|head| {
        let length = head.len();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{head}")
            .into_bytes()
    })
    .await
}

/// A sealed route of this pattern; `settings` are the probe's.
fn sealed(origin: &str, pattern: &str, settings: &str) -> Config {
    Config::new(
        r#"
[upstreams.o]
servers = ["{origin}"]
[[routes]]
path = "{pattern}"
upstream = "o"
policy = "probe"
sealed = true
[policies.probe]
component = "{component}"
namespaces = ["probe"]
cpu_limit = "2s"
config = {settings}
"#,
    )
    .set("origin", origin)
    .set("pattern", pattern)
    .set("settings", settings)
    .file("component", &guests().probe())
}

/// Names every kind of input once.
const ALL_KINDS: &str = r#"{ key = [{ text = "item" }, { param = "id" }, { query-only = ["page", "sort"] }, { query-param = "q" }, { header = "x-shop" }, { cookie = "who" }, { language = ["en", "de"] }, "device"] }"#;

/// A request, part by part.
#[derive(Clone, Debug)]
struct Asked {
    method: &'static str,
    target: &'static str,
    host: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    body: &'static str,
}

fn plain() -> Asked {
    Asked {
        method: "GET",
        target: "/items/a%20b?sort=up&page=2&q=x%26y",
        host: "shop.example",
        fields: vec![
            ("X-Shop", "north"),
            ("X-Shop", "south"),
            ("Cookie", "who=me"),
            ("Accept-Language", "de"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ],
        body: "",
    }
}

impl Asked {
    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.fields
            .retain(|(known, _)| *known != name || name == "X-Shop");
        self.fields.push((name, value));
        self
    }

    fn target(mut self, target: &'static str) -> Self {
        self.target = target;
        self
    }

    async fn send(&self, node: &Weir) -> String {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\n",
            self.method, self.target, self.host
        );
        for (name, value) in &self.fields {
            // Writing to a String cannot fail.
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !self.body.is_empty() {
            let _ = write!(text, "Content-Length: {}\r\n", self.body.len());
        }
        let _ = write!(text, "Connection: close\r\n\r\n{}", self.body);
        let (answer, _) = Raw::exchange(node.port(), text).await;
        assert!(
            answer.starts_with("HTTP/1.1 20") || answer.starts_with("HTTP/1.1 304"),
            "{self:?}: {answer}"
        );
        answer
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("a head").1
}

/// Was it answered without a request of its own to the origin? The fetch before it may be
/// at its end, and not over.
fn is_shared(answer: &str) -> bool {
    answer.contains("weir; hit") || answer.contains("; collapsed")
}

/// Header fields that no key here names. Each with a value that would be seen.
const FIELDS: &[(&str, &str)] = &[
    ("Accept", "text/html"),
    ("Accept-Encoding", "gzip, br"),
    ("Accept-Language", "de-CH, fr;q=0.5"),
    ("Authorization", "Bearer secret"),
    ("Baggage", "user=evil"),
    ("Cache-Control", "max-age=3600"),
    ("CF-Connecting-IP", "192.0.2.66"),
    ("Client-IP", "192.0.2.66"),
    ("Content-Type", "text/evil"),
    ("Cookie", "theme=dark; who=me; who2=you"),
    ("Cookie", "who=me; admin=1"),
    ("DNT", "1"),
    ("Fastly-Client-IP", "192.0.2.66"),
    ("Forwarded", "for=192.0.2.66;host=evil.example;proto=https"),
    ("From", "evil@evil.example"),
    ("Front-End-Https", "on"),
    ("If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT"),
    ("If-None-Match", "\"evil\""),
    ("If-Range", "\"evil\""),
    ("Max-Forwards", "7"),
    ("Origin", "https://evil.example"),
    ("Pragma", "evil"),
    ("Priority", "u=1"),
    ("Range", "bytes=0-4"),
    ("Referer", "https://evil.example/"),
    ("Save-Data", "on"),
    ("Sec-CH-UA-Platform", "\"Evil\""),
    ("Sec-Fetch-Mode", "navigate"),
    ("TE", "trailers"),
    ("Tracestate", "evil=1"),
    ("True-Client-IP", "192.0.2.66"),
    ("Upgrade-Insecure-Requests", "1"),
    ("User-Agent", "Mozilla/5.0 (Windows NT 10.0) Evil/1"),
    ("Via", "1.1 evil"),
    ("X-Amz-Website-Redirect-Location", "https://evil.example"),
    ("X-Custom", "evil"),
    ("X-Forwarded-For", "192.0.2.66"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Port", "666"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Scheme", "https"),
    ("X-Forwarded-Server", "evil.example"),
    ("X-Forwarded-SSL", "on"),
    ("X-Host", "evil.example"),
    ("X-HTTP-Method-Override", "POST"),
    ("X-Original-Host", "evil.example"),
    ("X-Original-URL", "/evil"),
    ("X-Real-IP", "192.0.2.66"),
    ("X-Requested-With", "XMLHttpRequest"),
    ("X-Rewrite-URL", "/evil"),
    ("X-UA-Device", "evil"),
    ("X-WAP-Profile", "https://evil.example"),
];

/// Other spellings of the target with the same key, and more in it.
const TARGETS: &[&str] = &[
    "/items/a%20b?page=2&sort=up&q=x%26y",
    "/items/a%20b?q=x%26y&sort=up&page=2",
    "/items/a%20b?sort=up&page=2&q=x%26y&utm_source=evil",
    "/items/a%20b?evil&sort=up&page=2&q=x%26y",
    "/items/a%20b?&&sort=up&page=2&&q=x%26y&",
    "/items/a%20b?sort=up&page=2&%71=x%26y",
    "/items/a%20b?sort=up&page=2&q=%78%26%79",
    "/items/%61%20b?sort=up&page=2&q=x%26y",
    "/evil/../items/a%20b?sort=up&page=2&q=x%26y",
    "/items/./a%20b?sort=up&page=2&q=x%26y",
    "http://shop.example/items/a%20b?sort=up&page=2&q=x%26y",
];

const HOSTS: &[&str] = &["SHOP.example", "shop.example:80"];

/// All that differs from [`plain`] in what no key says.
fn others() -> Vec<Asked> {
    let fields = FIELDS.iter().map(|(name, value)| plain().with(name, value));
    let targets = TARGETS.iter().map(|target| plain().target(target));
    let hosts = HOSTS.iter().map(|host| Asked { host, ..plain() });
    let head = Asked {
        method: "HEAD",
        ..plain()
    };
    let with_body = Asked {
        body: "evil",
        ..plain()
    };
    fields
        .chain(targets)
        .chain(hosts)
        .chain([head, with_body])
        .collect()
}

async fn forget(node: &Weir) {
    let all = json!({ "namespaces": ["probe"] });
    node.admin().invalidate(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_no_key_says_reaches_the_origin_or_changes_an_object() {
    let origin = reflecting().await;
    let node = sealed(&origin.url(), "/items/{id}", ALL_KINDS)
        .start()
        .await;
    let reference = body(&plain().send(&node).await).to_owned();
    let only_request = origin.take().heads;
    assert_eq!(only_request, std::slice::from_ref(&reference));
    for other in others() {
        // The other one first: it fetches what all get.
        forget(&node).await;
        let first = other.send(&node).await;
        let second = plain().send(&node).await;
        assert_eq!(body(&second), reference, "after {other:?}");
        let is_whole = first.starts_with("HTTP/1.1 200") && other.method == "GET";
        let heads = origin.take().heads;
        if other.body.is_empty() {
            assert_eq!(heads, only_request, "{other:?}");
            assert!(!is_whole || body(&first) == reference, "{other:?}: {first}");
        } else {
            // Content that no key names: passed, as it came, and stored for nobody.
            assert!(first.contains("detail=\"request-body"), "{first}");
            assert_eq!(heads.last(), only_request.last(), "{other:?}");
        }
        // And last.
        forget(&node).await;
        plain().send(&node).await;
        other.send(&node).await;
        let third = plain().send(&node).await;
        assert_eq!(body(&third), reference, "around {other:?}");
        let own: Vec<_> = origin.take().heads;
        assert_eq!(own.first(), only_request.first(), "{other:?}");
        assert!(
            own.len() == 1 || !other.body.is_empty(),
            "{other:?}: {own:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nor_does_any_mixture_of_it() {
    let origin = reflecting().await;
    let node = sealed(&origin.url(), "/items/{id}", ALL_KINDS)
        .start()
        .await;
    let reference = body(&plain().send(&node).await).to_owned();
    origin.take();
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..150 {
        let mut asked = plain().target(random.choice(TARGETS).expect("a target"));
        asked.host = random
            .choice(["shop.example", "SHOP.EXAMPLE", "shop.example:80"])
            .expect("a host");
        for _ in 0..random.usize(1..12) {
            let (name, value) = random.choice(FIELDS).expect("a field");
            asked = asked.with(name, value);
        }
        let (shop, rest): (Vec<_>, Vec<_>) = asked
            .fields
            .into_iter()
            .partition(|(name, _)| *name == "X-Shop");
        let mut fields = rest;
        random.shuffle(&mut fields);
        asked.fields = fields;
        // The lines of one field keep their order: that is in the key.
        for line in shop {
            asked.fields.push(line);
        }
        forget(&node).await;
        asked.send(&node).await;
        let after = plain().send(&node).await;
        let heads = origin.take().heads;
        assert_eq!(
            heads,
            std::slice::from_ref(&reference),
            "seed {seed}, round {round}: {asked:?}"
        );
        assert_eq!(
            body(&after),
            reference,
            "seed {seed}, round {round}: {asked:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_names_is_sent_as_the_key_has_it() {
    let origin = reflecting().await;
    let node = sealed(&origin.url(), "/items/{id}", ALL_KINDS)
        .start()
        .await;
    let answer = plain()
        .with("Accept-Language", "fr, de-AT;q=0.9")
        .send(&node)
        .await;
    let mut lines: Vec<&str> = body(&answer).split("\r\n").collect();
    lines[1..].sort_unstable_by_key(|line| line.to_ascii_lowercase());
    let lower: Vec<String> = lines.iter().map(|line| line.to_ascii_lowercase()).collect();
    assert_eq!(
        lower,
        [
            "get /items/a%20b?page=2&q=x%26y&sort=up http/1.1",
            "accept-language: de",
            "cookie: who=me",
            "host: shop.example",
            "via: 1.1 weir",
            "x-forwarded-host: shop.example",
            "x-forwarded-proto: http",
            "x-shop: north",
            "x-shop: south",
            "x-ua-device: desktop",
        ]
    );
    // Every one of them makes another object.
    for other in [
        plain().target("/items/a%20c?sort=up&page=2&q=x%26y"),
        plain().target("/items/a%20b?sort=up&page=3&q=x%26y"),
        plain().target("/items/a%20b?sort=up&page=2&q=x"),
        plain().target("/items/a%20b?sort=up&page=2"),
        plain().with("X-Shop", "west"),
        plain().with("Cookie", "who=you"),
        plain().with("Cookie", "who=me; who=you"),
        plain().with("Accept-Language", "en"),
        plain().with("Sec-CH-UA-Mobile", "?1"),
        Asked {
            host: "shop.example:8080",
            ..plain()
        },
    ] {
        origin.take();
        other.send(&node).await;
        assert_eq!(origin.take().heads.len(), 1, "{other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_well_formed_traceparent_goes_on_and_nothing_else_does_in_its_name() {
    let origin = reflecting().await;
    let node = sealed(&origin.url(), "/items/{id}", ALL_KINDS)
        .start()
        .await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let told = plain().with("Traceparent", trace).send(&node).await;
    assert!(
        body(&told)
            .to_lowercase()
            .contains(&format!("traceparent: {trace}")),
        "{told}"
    );
    for no_trace in [
        "evil",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-evil",
    ] {
        forget(&node).await;
        let told = plain().with("Traceparent", no_trace).send(&node).await;
        assert!(
            !body(&told).to_lowercase().contains("traceparent"),
            "{told}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_values_of_different_inputs_are_different_keys() {
    let origin = reflecting().await;
    // By cookie where there is one, by header field where there is none.
    let node = sealed(
        &origin.url(),
        "/items/{id}",
        r#"{ key = ["path", { either = "sid" }] }"#,
    )
    .start()
    .await;
    for (name, value, seen) in [
        ("X-Sid", "7", "x-sid: 7"),
        ("Cookie", "sid=7", "cookie: sid=7"),
    ] {
        let asked = Asked {
            fields: vec![(name, value)],
            ..plain()
        };
        let told = asked.send(&node).await;
        assert!(body(&told).to_lowercase().contains(seen), "{told}");
        assert!(is_shared(&asked.send(&node).await));
    }
    assert_eq!(origin.got().heads.len(), 2);
}

/// What a decision rests on is not all in the key: what comes of it must be.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_makes_of_unkeyed_reads_is_part_of_the_key() {
    let origin = reflecting().await;
    for settings in [
        r#"{ key = ["path"], headers = [["x-plan", [{ read = "x-plan" }]]] }"#,
        r#"{ key = ["path"], headers = [["x-plan", [{ header = "x-plan" }]]] }"#,
        r#"{ key = ["path"], target = [{ text = "/t/" }, { read = "x-plan" }] }"#,
        r#"{ key = ["path"], tags = [[{ text = "t" }, { read = "x-plan" }]] }"#,
        r#"{ key = ["path"], tags = [[{ text = "t" }, { header = "x-plan" }]] }"#,
        r#"{ key = ["path"], note = { read = "x-plan" } }"#,
    ] {
        let node = sealed(&origin.url(), "/{*rest}", settings).start().await;
        origin.take();
        let ask = async |plan| {
            let fields = vec![("X-Plan", plan)];
            Asked { fields, ..plain() }.send(&node).await
        };
        let (gold, silver) = (ask("gold").await, ask("silver").await);
        assert_eq!(origin.got().heads.len(), 2, "{settings}");
        for (plan, before) in [("gold", gold), ("silver", silver)] {
            let again = ask(plan).await;
            assert!(is_shared(&again), "{settings}: {again}");
            assert_eq!(body(&again), body(&before), "{settings}");
        }
        // To a purge they are one key, as the policy wrote it.
        let purge = json!({ "keys": ["probe:/items/a%2520b"] });
        node.admin().invalidate(purge).await;
        for plan in ["gold", "silver"] {
            assert!(!ask(plan).await.contains("weir; hit"), "{settings}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_response_sees_no_more_than_the_origin() {
    let origin = reflecting().await;
    let settings = r#"{ key = ["path"], response_tag = "x-tag" }"#;
    let node = sealed(&origin.url(), "/{*rest}", settings).start().await;
    let asked = plain().with("X-Tag", "evil");
    asked.send(&node).await;
    node.admin().purge_tag("evil").await;
    assert!(is_shared(&asked.send(&node).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_does_not_say_the_path_is_passed_and_counted() {
    let origin = reflecting().await;
    let node = sealed(
        &origin.url(),
        "/items/{id}",
        r#"{ key = [{ header = "x-shop" }] }"#,
    )
    .start()
    .await;
    for _ in 0..2 {
        let answer = plain().send(&node).await;
        assert!(answer.contains("detail=\"no-key\""), "{answer}");
        assert!(
            body(&answer).contains("sort=up&page=2"),
            "as it came: {answer}"
        );
    }
    let labels = [("policy", "probe"), ("reason", "sealed-path")];
    let errors = node
        .admin()
        .metric("weir_policy_errors_total", &labels)
        .await;
    assert!((errors - 2.0).abs() < 0.1, "{errors}");
    let explained = node
        .admin()
        .get("/v1/explain?url=http://shop.example/items/1")
        .await;
    let reason = explained.json()["reason"].to_string();
    assert!(reason.contains("name the path"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revalidation_in_the_background_is_sealed_too() {
    let origin = reflecting().await;
    let node = sealed(&origin.url(), "/items/{id}", ALL_KINDS)
        .start()
        .await;
    let reference = body(&plain().send(&node).await).to_owned();
    let soft = json!({ "namespaces": ["probe"], "soft": true });
    node.admin().invalidate(soft).await;
    let other = plain()
        .with("Authorization", "Bearer evil")
        .with("X-Custom", "evil");
    let stale = other.send(&node).await;
    assert!(stale.contains("stale-while-revalidate"), "{stale}");
    let heads = until("the fetch in the background", async || {
        let heads = origin.got().heads;
        (heads.len() == 2).then_some(heads)
    })
    .await;
    assert_eq!(heads, [reference.clone(), reference]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_of_a_shared_sealed_route_are_none_of_the_origins_business() {
    let origin = reflecting().await;
    let config = sealed(&origin.url(), "/{*rest}", r#"{ key = ["path"] }"#);
    let text = config
        .text()
        .replace("sealed = true", "sealed = true\nshared = true");
    let node = Config::whole(&text).start().await;
    let a = Asked {
        host: "a.example",
        ..plain()
    }
    .send(&node)
    .await;
    let b = Asked {
        host: "b.example",
        ..plain()
    }
    .send(&node)
    .await;
    assert!(is_shared(&b), "{b}");
    assert_eq!(body(&a), body(&b));
    let own = origin.url().replace("http://", "host: ");
    let lower = body(&a).to_lowercase();
    assert!(lower.contains(&own) && !lower.contains("example"), "{a}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_a_key_names_is_sent_and_only_that() {
    let origin = Origin::with(|call| Reply::ok().text(format!("{call:?}"))).await;
    let settings = r#"{ key = ["path", "body-digest"] }"#;
    let node = sealed(&origin.url(), "/{*rest}", settings).start().await;
    let post = async |fields: &[(&str, &str)], content: &'static str| {
        node.send(Method::POST, "/q?evil=1", fields, content).await
    };
    let json = ("content-type", "application/json");
    let first = post(&[json, ("x-custom", "evil")], "{1}").await;
    let second = post(&[json, ("authorization", "evil")], "{1}").await;
    assert!(second.is_hit() || second.cache().collapsed, "{second:?}");
    assert_eq!(first.text(), second.text());
    let call = origin.last("/q");
    assert_eq!((call.method.as_str(), &*call.body), ("POST", &b"{1}"[..]));
    assert_eq!(
        call.header("content-type").as_deref(),
        Some("application/json")
    );
    assert!(!format!("{call:?}").contains("evil"), "{call:?}");
    assert!(!post(&[json], "{2}").await.is_hit());
    assert!(
        !post(&[("content-type", "text/plain")], "{1}")
            .await
            .is_hit()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn vary_makes_no_variants_of_what_the_origin_did_not_see() {
    let origin = Origin::with(|call| {
        Reply::page(call).header("vary", "accept-language, cookie, user-agent")
    })
    .await;
    let node = sealed(&origin.url(), "/{*rest}", r#"{ key = ["path"] }"#)
        .start()
        .await;
    node.get_with("/v", &[("accept-language", "de"), ("cookie", "a=1")])
        .await;
    let other = node.get_with("/v", &[("accept-language", "fr")]).await;
    assert!(other.is_hit() || other.cache().collapsed, "{other:?}");
    // A client that wants nothing stored still gets that.
    let private = [("cache-control", "no-store")];
    let answer = node.get_with("/w", &private).await;
    assert!(!answer.cache().stored, "{answer:?}");
    assert!(!node.get("/w").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_with_a_change_is_not_kept_for_readers() {
    let origin = charity::origin().await;
    let dashboard = "[[routes]]\npath = \"/metrics/dashboard\"\nupstream = \"api\"\n\
         policy = \"charity\"\n";
    let config = charity::config(&origin).and(dashboard);
    let sealed = "policy = \"charity\"\nsealed = true";
    let text = config.text().replace("policy = \"charity\"", sealed);
    let node = Config::whole(&text).start().await;
    node.until_hit("/users/42").await;
    let role = [("x-user-role", "volunteer")];
    until("a hit", async || {
        let answer = node.get_with("/metrics/dashboard", &role).await;
        answer.is_hit().then_some(())
    })
    .await;
    origin.bump("/users/42");
    let changed = node.send(Method::PUT, "/users/42", &[], "{}").await;
    assert_eq!(changed.status, 200);
    let after = node.get("/users/42").await;
    assert!(!after.is_hit(), "{after:?}");
    node.until_hit("/users/42").await;
    // By the name that the policy gave it.
    let purge = json!({ "keys": ["user:profile:42"] });
    node.admin().invalidate(purge).await;
    assert!(!node.get("/users/42").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_object_is_found_in_redis_and_purged_in_the_fleet_by_its_name() {
    let origin = reflecting().await;
    let redis = RedisServer::start().await;
    let start = || {
        sealed(&origin.url(), "/items/{id}", ALL_KINDS)
            .redis(&redis.url())
            .start()
    };
    let (here, there) = (start().await, start().await);
    here.uses_redis().await;
    there.uses_redis().await;
    let reference = body(&plain().send(&here).await).to_owned();
    until("the object in Redis", async || {
        (!redis.keys("weir:*:~=*").is_empty()).then_some(())
    })
    .await;
    let other = plain().with("X-Forwarded-For", "192.0.2.66");
    let answer = other.send(&there).await;
    assert!(answer.contains("weir; hit"), "{answer}");
    assert_eq!(body(&answer), reference);
    assert_eq!(origin.got().heads.len(), 1);
    let name = "probe:item:a b:page=2&sort=up:x&y:north,south:me:de:desktop";
    let name = name.replace(' ', "%20");
    here.admin().invalidate(json!({ "keys": [name] })).await;
    until("the purge on the other node", async || {
        (!plain().send(&there).await.contains("weir; hit")).then_some(())
    })
    .await;
    assert_eq!(origin.got().heads.len(), 2);
}
