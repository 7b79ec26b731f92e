//! One policy in three languages: static-site in Rust, JavaScript and Python.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use weir_tests::guests::scripted;
use weir_tests::{Config, Origin, Reply, Weir, guests, until};

/// What browsers, phones and crawlers send.
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 14; SM-X710) AppleWebKit/537.36 Chrome/126.0 Safari/537.36",
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
];
const LANGUAGES: [&str; 3] = ["de-CH, de;q=0.9, en;q=0.5", "en", "fr;q=0.8, *;q=0.1"];
const PATHS: [&str; 6] = [
    "/",
    "/app.3f2a1b9c.js",
    "/news?page=2&utm_source=mail",
    "/news?utm_source=other&page=2",
    "/img/logo.png?v=3",
    "/a%20b/index.html?b=2&a=1",
];

/// The same page for whoever comes to it.
const NEWS: [&str; 2] = [PATHS[2], PATHS[3]];

async fn node(origin: &Origin, component: &Path) -> Weir {
    // A debug build of a host and a guest in an interpreter: the time is not what this is about.
    let more = "cpu_limit = \"5s\"\nconfig = { variants = [\"device\", \"language\"], languages = [\"en\", \"de\"], \
        asset_lifetime = \"30d\", static_lifetime = \"3h\", page_lifetime = \"7m\" }\n";
    Config::policy(&origin.url(), component, more).start().await
}

/// What explain says of the decision, without what is of the version.
async fn explained(node: &Weir, path: &str, agent: &str, language: &str) -> Value {
    let mut query = format!("/v1/explain?url=http://site.example{}", escaped(path));
    for (name, value) in [("user-agent", agent), ("accept-language", language)] {
        query.push_str(&format!("&header={name}:{}", escaped(value)));
    }
    let told = node.admin().get(&query).await.json();
    assert!(told["key"].is_string(), "{path}: {told}");
    let fields = [
        "decision",
        "reason",
        "key",
        "tags",
        "namespace",
        "origin_target",
    ];
    let named = fields.map(|name| (name.to_owned(), told[name].clone()));
    Value::Object(named.into_iter().collect())
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn all_languages_decide_the_same_and_are_remembered() {
    // What the origin does not say is the policy's to say.
    let origin = Origin::with(|call| {
        let reply = Reply::page(call);
        match call.path.rsplit_once('.').map(|(_, end)| end) {
            Some("js") => reply.header("content-type", "text/javascript"),
            Some("png") => reply.header("content-type", "image/png"),
            _ if call.path == "/news" => reply.cache("max-age=600"),
            _ => reply,
        }
    })
    .await;
    let components = [
        guests().static_site(),
        scripted("static-site-js"),
        scripted("static-site-py"),
    ];
    let mut nodes = Vec::new();
    for component in &components {
        nodes.push(node(&origin, component).await);
    }
    for path in PATHS {
        for agent in AGENTS {
            for language in LANGUAGES {
                let first = explained(&nodes[0], path, agent, language).await;
                for node in &nodes[1..] {
                    assert_eq!(
                        explained(node, path, agent, language).await,
                        first,
                        "{path}"
                    );
                }
            }
        }
    }
    // Tracking parameters and the order of the others make no other object, the device does.
    let key = async |path, agent| explained(&nodes[0], path, agent, "en").await["key"].clone();
    assert_eq!(key(NEWS[0], AGENTS[0]).await, key(NEWS[1], AGENTS[0]).await);
    assert_ne!(key(NEWS[0], AGENTS[0]).await, key(NEWS[0], AGENTS[1]).await);

    let mut seen = BTreeSet::new();
    for path in PATHS {
        let mut lifetimes = Vec::new();
        for node in &nodes {
            let headers = [("user-agent", AGENTS[0]), ("accept-language", "en")];
            let stored = until(&format!("{path} is stored"), async || {
                let answer = node.get_with(path, &headers).await;
                answer.is_hit().then_some(answer)
            })
            .await;
            let age = stored.header("age").and_then(|age| age.parse().ok());
            // What is left of it, and what is over.
            let ttl = stored.cache().ttl.expect("a hit says its ttl");
            lifetimes.push(ttl + age.unwrap_or(0_i64));
        }
        assert_eq!(lifetimes[1..], [lifetimes[0]; 2], "{path}");
        seen.insert(lifetimes[0]);
    }
    assert_eq!(
        seen.len(),
        4,
        "a page, a file, an asset, and what the origin says: {seen:?}"
    );
    for node in &nodes {
        let mut asked = 0.0;
        for _ in 0..4 {
            for path in PATHS {
                for agent in AGENTS {
                    let headers = [("user-agent", agent), ("accept-language", "de")];
                    let answer = node.get_with(path, &headers).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    assert!(answer.cache().detail.is_some(), "a policy decided");
                    asked += 1.0;
                }
            }
        }
        let labels = [("hook", "on-request"), ("memo", "hit")];
        let recalled = node
            .admin()
            .metric("weir_policy_calls_total", &labels)
            .await;
        assert!(
            recalled >= asked / 2.0,
            "{recalled} of {asked} decisions were remembered"
        );
    }
}
