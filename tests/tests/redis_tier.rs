//! The shared tier: a real redis-server, healthy, frozen, dead and lying.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use weir_tests::load::Load;
use weir_tests::names::CORRUPT_RECORDS;
use weir_tests::origin::{Gate, page_text};
use weir_tests::poll::until_within;
use weir_tests::{Answer, Config, Origin, RedisServer, Relay, Reply, Weir, charity, until};

/// Every node answers to this name, so that they share objects.
const SITE: [(&str, &str); 1] = [("host", "site.example")];

async fn node(origin: &Origin, redis: &RedisServer) -> Weir {
    Config::plain(&origin.url())
        .redis(&redis.url())
        .start()
        .await
}

/// Names of objects in Redis: the only ones with an origin and a bar.
fn objects(redis: &RedisServer) -> Vec<String> {
    let mut keys = redis.keys("weir:*|*");
    // The lease of whoever fetches one ends a moment after the object is there.
    keys.retain(|key| !key.ends_with(":lease"));
    keys
}

async fn in_redis(redis: &RedisServer, part: &str) -> String {
    until(&format!("an object named {part} in Redis"), async || {
        objects(redis).into_iter().find(|key| key.contains(part))
    })
    .await
}

async fn degraded(node: &Weir) -> bool {
    let ready = node.admin().get("/readyz").await.json();
    let list = ready["degraded"].as_array().cloned().unwrap_or_default();
    list.iter()
        .filter_map(Value::as_str)
        .any(|line| line.contains("redis"))
}

async fn says_redis_is_away(node: &Weir) {
    until("readiness that names Redis as away", async || {
        degraded(node).await.then_some(())
    })
    .await;
    // Degraded is not unready: the node serves.
    assert_eq!(node.admin().get("/readyz").await.status, 200);
}

async fn says_redis_is_back(node: &Weir) {
    until("readiness without a word of Redis", async || {
        (!degraded(node).await).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_restarts_hits_in_redis_then_in_memory() {
    let (origin, redis) = (
        Origin::tagged("all-pages").await,
        RedisServer::start().await,
    );
    let mut node = node(&origin, &redis).await;
    let miss = node.get_with("/a", &SITE).await;
    in_redis(&redis, "/a").await;
    node.restart().await;

    let first = until("a hit after the restart", async || {
        let answer = node.get_with("/a", &SITE).await;
        answer.is_hit().then_some(answer)
    })
    .await;
    assert!(first.cache().details("redis"), "{:?}", first.cache());
    assert_eq!(first.body, miss.body);
    assert_eq!(first.header("etag"), miss.header("etag"));
    let second = node.get_with("/a", &SITE).await;
    assert!(second.is_hit() && second.cache().details("memory"));
    assert_eq!(origin.count("/a"), 1);
}

/// A node whose memory tier is off.
async fn without_memory(origin: &Origin, redis: &RedisServer) -> Weir {
    let config = Config::plain(&origin.url()).redis(&redis.url());
    config.and("[memory]\ncapacity = \"0\"\n").start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_memory_off_each_hit_is_read_from_redis_and_a_purge_ends_it() {
    let (origin, redis) = (
        Origin::tagged("all-pages").await,
        RedisServer::start().await,
    );
    let node = without_memory(&origin, &redis).await;
    node.get_with("/a", &SITE).await;
    in_redis(&redis, "/a").await;
    for _ in 0..3 {
        let answer = node.get_with("/a", &SITE).await;
        assert!(
            answer.is_hit() && answer.cache().details("redis"),
            "{:?}",
            answer.cache()
        );
    }
    assert_eq!(origin.count("/a"), 1);

    node.admin().purge_tag("all-pages").await;
    let answer = node.get_with("/a", &SITE).await;
    assert!(!answer.is_hit(), "{:?}", answer.cache());
    assert_eq!(origin.count("/a"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_in_redis_is_served_and_fetched_anew_behind_the_client() {
    let origin = Origin::with(|_| {
        Reply::ok()
            .text("page")
            .cache("max-age=1, stale-while-revalidate=600")
    })
    .await;
    let redis = RedisServer::start().await;
    let node = without_memory(&origin, &redis).await;
    node.get_with("/a", &SITE).await;
    in_redis(&redis, "/a").await;
    let stale = until("an answer that is stale", async || {
        let answer = node.get_with("/a", &SITE).await;
        answer
            .cache()
            .details("stale-while-revalidate")
            .then_some(answer)
    })
    .await;
    assert!(stale.is_hit() && stale.body == "page", "{stale:?}");
    until("a fetch behind it", async || {
        (origin.count("/a") > 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_object_in_redis_has_a_readable_name_and_a_time_to_live() {
    let (origin, redis) = (
        Origin::tagged("all-pages").await,
        RedisServer::start().await,
    );
    let node = node(&origin, &redis).await;
    for path in ["/a", "/b?x=1", "/c/d"] {
        node.get_with(path, &SITE).await;
    }
    for path in ["/a", "/b?x=1", "/c/d"] {
        in_redis(&redis, &format!("{{http://site.example|{path}}}")).await;
    }
    for key in objects(&redis) {
        let left: i64 = redis.command(&["TTL", &key]);
        // Its lifetime, and the hour for which a 304 could still bring it back.
        assert!(
            (601..=600 + 3600).contains(&left),
            "{key} lives for {left} s"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_charity_policys_names_are_those_of_the_decision_record() {
    let (origin, redis) = (charity::origin().await, RedisServer::start().await);
    let node = charity::config(&origin).redis(&redis.url()).start().await;
    for (path, name) in [
        ("/users/42", "user:profile:42"),
        ("/users/42/permissions", "user:permissions:42"),
        ("/help/queue", "help:queue:active"),
        ("/help/requests/17", "help:request:17"),
        (
            "/donations/stats/daily/2025-12-24",
            "donation:stats:daily:2025-12-24",
        ),
    ] {
        assert_eq!(node.get(path).await.status, 200, "{path}");
        let key = in_redis(&redis, &format!("|{name}}}")).await;
        let left: i64 = redis.command(&["TTL", &key]);
        assert!(left > 0, "{key} lives for {left} s");
    }
}

async fn survives(
    harm: impl AsyncFnOnce(&mut RedisServer),
    cure: impl AsyncFnOnce(&mut RedisServer),
) {
    let origin = Origin::with(|call| {
        let cache = if call.path.ends_with('7') {
            "no-store"
        } else {
            "max-age=600"
        };
        Reply::page(call).cache(cache)
    })
    .await;
    let mut redis = RedisServer::start().await;
    let node = node(&origin, &redis).await;
    let urls = (0..200).map(|n| node.url(&format!("/page/{n}"))).collect();
    let load = Load::start(8, urls, |url, answer| {
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let good = answer.status == 200 && answer.text() == page_text(&format!("/{path}"), 1);
        good.then_some(()).ok_or_else(|| "wrong".to_owned())
    });
    load.goes_on(500).await;
    harm(&mut redis).await;
    load.goes_on(500).await;
    says_redis_is_away(&node).await;
    load.goes_on(500).await;
    cure(&mut redis).await;
    says_redis_is_back(&node).await;
    load.goes_on(500).await;
    load.finish().await;
    // It is a tier again, not only reachable.
    node.get("/after").await;
    in_redis(&redis, "/after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_in_the_middle_of_traffic_fails_no_request() {
    survives(
        async |redis| redis.kill(),
        async |redis| redis.revive().await,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_frozen_in_the_middle_of_traffic_fails_no_request() {
    survives(async |redis| redis.stop(), async |redis| redis.cont()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_record_is_counted_ignored_and_fetched_again() {
    let (origin, redis) = (
        Origin::tagged("all-pages").await,
        RedisServer::start().await,
    );
    let mut node = node(&origin, &redis).await;
    let paths = ["/garbage", "/short", "/flipped", "/empty"];
    for path in paths {
        node.get_with(path, &SITE).await;
        let key = in_redis(&redis, path).await;
        let mut record: Vec<u8> = redis.command(&["GET", &key]);
        match path {
            "/garbage" => record = b"not a record".to_vec(),
            "/short" => record.truncate(record.len() / 2),
            "/flipped" => *record.last_mut().unwrap() ^= 1,
            _ => record.clear(),
        }
        redis::cmd("SET")
            .arg(&key)
            .arg(&record)
            .arg("KEEPTTL")
            .exec(&mut redis.connection())
            .unwrap();
    }
    node.restart().await;
    for path in paths {
        let answer = node.get_with(path, &SITE).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text()),
            (200, page_text(path, 1))
        );
        assert!(!answer.is_hit(), "{path}");
        assert_eq!(origin.count(path), 2, "{path}");
    }
    let counted = node.admin().metric(CORRUPT_RECORDS, &[]).await;
    assert!(counted >= 4.0, "{counted} corrupt records counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_on_one_node_reaches_the_other_within_the_window() {
    let (origin, redis) = (
        Origin::tagged("all-pages").await,
        RedisServer::start().await,
    );
    let (one, other) = (node(&origin, &redis).await, node(&origin, &redis).await);
    one.get_with("/p", &SITE).await;
    in_redis(&redis, "/p").await;
    let shared = other.get_with("/p", &SITE).await;
    assert!(
        shared.is_hit() && shared.cache().details("redis"),
        "{shared:?}"
    );
    assert!(other.get_with("/p", &SITE).await.cache().details("memory"));

    let version = origin.bump("/p");
    let receipt = one.admin().purge_tag("all-pages").await;
    assert_eq!(receipt["scope"], "fleet");
    assert!(receipt["sequence"].is_u64(), "{receipt}");
    let answer = one.get_with("/p", &SITE).await;
    assert_eq!(
        answer.text(),
        page_text("/p", version),
        "on the node that answered: at once"
    );
    // The window is 2 s; twice that allows for this machine.
    until_within(
        Duration::from_secs(4),
        "the purge on the other node",
        async || {
            let answer = other.get_with("/p", &SITE).await;
            (answer.text() == page_text("/p", version)).then_some(())
        },
    )
    .await;
    // Nothing brings the old one back.
    for _ in 0..20 {
        assert_eq!(
            other.get_with("/p", &SITE).await.text(),
            page_text("/p", version)
        );
        assert_eq!(
            one.get_with("/p", &SITE).await.text(),
            page_text("/p", version)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_while_redis_is_frozen_holds_here_and_reaches_others_later() {
    let origin = Origin::tagged("all-pages").await;
    let mut redis = RedisServer::start().await;
    let (one, other) = (node(&origin, &redis).await, node(&origin, &redis).await);
    one.get_with("/p", &SITE).await;
    in_redis(&redis, "/p").await;
    assert!(other.get_with("/p", &SITE).await.is_hit());
    redis.stop();
    let version = origin.bump("/p");
    let receipt = one.admin().purge_tag("all-pages").await;
    assert_eq!(
        (&receipt["scope"], &receipt["sequence"]),
        (&json!("node"), &Value::Null)
    );
    let answer = one.get_with("/p", &SITE).await;
    assert_eq!(answer.text(), page_text("/p", version));
    redis.cont();
    until("the purge on the other node", async || {
        let answer = other.get_with("/p", &SITE).await;
        (answer.text() == page_text("/p", version)).then_some(())
    })
    .await;
    assert_eq!(
        one.get_with("/p", &SITE).await.text(),
        page_text("/p", version)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_redis_and_takes_it_up_when_it_comes() {
    let origin = Origin::tagged("all-pages").await;
    let mut redis = RedisServer::absent().await;
    let node = node(&origin, &redis).await;
    says_redis_is_away(&node).await;
    assert_eq!(node.get_with("/early", &SITE).await.status, 200);
    assert!(node.get_with("/early", &SITE).await.is_hit());
    let up = weir_tests::names::REDIS_UP;
    assert_eq!(node.admin().metric(up, &[]).await, 0.0);

    redis.revive().await;
    says_redis_is_back(&node).await;
    until("the metric that Redis is up", async || {
        (node.admin().metric(up, &[]).await >= 1.0).then_some(())
    })
    .await;
    // What was fetched under a log of the node's own is not written to Redis.
    node.uses_redis().await;
    node.get_with("/late", &SITE).await;
    in_redis(&redis, "/late").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_redis_brings_nothing_purged_back() {
    let (origin, redis) = (
        Origin::tagged("all-pages").await,
        RedisServer::start().await,
    );
    let (one, other) = (node(&origin, &redis).await, node(&origin, &redis).await);
    one.get_with("/p", &SITE).await;
    in_redis(&redis, "/p").await;
    other.get_with("/p", &SITE).await;
    let version = origin.bump("/p");
    one.admin().purge_tag("all-pages").await;
    let _: String = redis.command(&["FLUSHALL"]);
    // The counters are gone, and with them all trust in what was stored under them.
    for node in [&one, &other] {
        until("the new version everywhere", async || {
            let answer = node.get_with("/p", &SITE).await;
            (answer.text() == page_text("/p", version)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_redis_are_reused_and_bounded() {
    let (origin, redis) = (
        Origin::tagged("all-pages").await,
        RedisServer::start().await,
    );
    let node = node(&origin, &redis).await;
    let many: Vec<_> = (0..200)
        .map(|n| tokio::spawn(Answer::of(node.client().get(node.url(&format!("/{n}"))))))
        .collect();
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(answer.unwrap().unwrap().status, 200);
    }
    let clients: String = redis.command(&["CLIENT", "LIST"]);
    // The pool of 10, the follower's own, the prober's own, and this question's.
    let count = clients.lines().count();
    assert!((2..=14).contains(&count), "{count} connections:\n{clients}");
    let stats: String = redis.command(&["INFO", "stats"]);
    let opened = stats
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .unwrap();
    assert!(opened < 60, "{opened} connections for 200 requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_cut_off_from_redis_and_origin_does_not_serve_what_was_purged_elsewhere() {
    let (mut origin, redis) = (
        Origin::tagged("all-pages").await,
        RedisServer::start().await,
    );
    let address = redis.url().replace("redis://", "");
    let (address, _) = address.split_once('/').expect("a URL with a database");
    let relay = Relay::to(address.to_owned()).await;
    let far = Config::plain(&origin.url())
        .redis(&format!("redis://{}/0", relay.address()))
        .start()
        .await;
    let near = node(&origin, &redis).await;
    until("a hit", async || {
        let answer = far.get_with("/a", &SITE).await;
        answer.is_hit().then_some(())
    })
    .await;
    relay.cut();
    let purged = near.admin().purge_tag("all-pages").await;
    assert_eq!(purged["scope"], "fleet");
    origin.down().await;
    // Within the coherence window it may still serve its own; never again after it.
    until("an answer other than the purged object", async || {
        (far.get_with("/a", &SITE).await.status == 502).then_some(())
    })
    .await;
    for _ in 0..20 {
        assert_eq!(far.get_with("/a", &SITE).await.status, 502);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_nodes_miss_at_once_is_fetched_by_one_of_them() {
    let (gate, redis) = (Gate::new(), RedisServer::start().await);
    let behind = gate.clone();
    let origin =
        Origin::with(move |call| Reply::page(call).cache("max-age=600").behind(&behind)).await;
    let mut nodes = Vec::new();
    for _ in 0..4 {
        // A busy machine must not let the lease be given up for late.
        let config = Config::plain(&origin.url()).redis(&redis.url());
        nodes.push(config.and("deadline = \"2s\"\n").start().await);
    }
    for node in &nodes {
        node.uses_redis().await;
    }
    let nodes = Arc::new(nodes);
    let asked: Vec<_> = (0..nodes.len())
        .map(|at| {
            let nodes = Arc::clone(&nodes);
            tokio::spawn(async move { nodes[at].get_with("/hot", &SITE).await })
        })
        .collect();
    for node in nodes.iter() {
        until("a fill on each node", async || {
            (node.admin().metric("weir_fills", &[]).await >= 1.0).then_some(())
        })
        .await;
    }
    gate.open();
    for answer in asked {
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.text(), page_text("/hot", 1));
    }
    assert_eq!(origin.count("/hot"), 1);
}
