//! Redis by Sentinel, as a cluster, and with TLS and a user: hits through each, and what
//! clients notice of a failover, which is nothing.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use serde_json::Value;
use weir_tests::load::Load;
use weir_tests::origin::page_text;
use weir_tests::tls::Authority;
use weir_tests::{
    Config, Origin, RedisCluster, RedisSentinel, RedisServer, Reply, Scratch, Weir, until,
};

/// What Weir may do in Redis, as the documentation lists it.
const ACL: &str = include_str!("../../docs/redis.acl");

/// Every node answers to this name, so that they share objects.
const SITE: [(&str, &str); 1] = [("host", "site.example")];

/// Pages for ten minutes, but for those whose path ends with a 7.
async fn origin() -> Origin {
    Origin::with(|call| {
        let cache = match call.path.ends_with('7') {
            true => "no-store",
            false => "max-age=600",
        };
        Reply::page(call)
            .cache(cache)
            .header("surrogate-key", "all-pages")
    })
    .await
}

async fn node(origin: &Origin, tables: &str) -> Weir {
    let node = Config::plain(&origin.url()).and(tables).start().await;
    is_used(&node).await;
    node
}

async fn degraded(node: &Weir) -> Vec<String> {
    let ready = node.admin().get("/readyz").await.json();
    let list = ready["degraded"].as_array().cloned().unwrap_or_default();
    let lines = list.iter().filter_map(Value::as_str);
    lines.map(str::to_owned).collect()
}

async fn is_used(node: &Weir) {
    until("readiness without a word of Redis", async || {
        degraded(node).await.is_empty().then_some(())
    })
    .await;
}

/// The node forgets its memory, and finds the page in Redis.
async fn finds_in_redis(node: &mut Weir, path: &str) {
    node.get_with(path, &SITE).await;
    // Counters would not tell it from others that are still being written.
    let inspect = format!("/v1/inspect?url=http://{}{path}", SITE[0].1);
    until("the object in Redis", async || {
        let told = node.admin().get(&inspect).await.json();
        let objects = told["tiers"][1]["objects"].as_array();
        objects.is_some_and(|it| !it.is_empty()).then_some(())
    })
    .await;
    node.restart().await;
    is_used(node).await;
    let hit = until("a hit after the restart", async || {
        let answer = node.get_with(path, &SITE).await;
        answer.is_hit().then_some(answer)
    })
    .await;
    assert!(hit.cache().details("redis"), "{hit:?}");
    assert_eq!(hit.text(), page_text(path, 1));
}

/// Many clients, each of whose answers must be the page.
fn clients(node: &Weir) -> Load {
    let urls = (0..200).map(|n| node.url(&format!("/page/{n}"))).collect();
    Load::start(8, urls, |url, answer| {
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let good = answer.status == 200 && answer.text() == page_text(&format!("/{path}"), 1);
        good.then_some(()).ok_or_else(|| "wrong".to_owned())
    })
}

/// The other node never serves the page of before again, and this one neither.
async fn both_serve_version(nodes: [&Weir; 2], path: &str, version: u64) {
    for node in nodes {
        until("the new page", async || {
            let answer = node.get_with(path, &SITE).await;
            (answer.text() == page_text(path, version)).then_some(())
        })
        .await;
    }
    for node in nodes.iter().cycle().take(20) {
        let answer = node.get_with(path, &SITE).await;
        assert_eq!(answer.text(), page_text(path, version));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_by_sentinel_fails_no_request_and_purges_hold() {
    let (origin, mut group) = (origin().await, RedisSentinel::start().await);
    let mut one = node(&origin, &group.tables()).await;
    let two = node(&origin, &group.tables()).await;
    finds_in_redis(&mut one, "/first").await;
    assert!(two.get_with("/first", &SITE).await.is_hit(), "shared");

    let load = clients(&one);
    load.goes_on(500).await;
    let version = origin.bump("/first");
    assert_eq!(one.admin().purge_tag("all-pages").await["scope"], "fleet");
    group.servers[0].kill();
    load.goes_on(500).await;
    group.promoted(0).await;
    is_used(&one).await;
    is_used(&two).await;
    load.goes_on(500).await;
    load.finish().await;
    both_serve_version([&one, &two], "/first", version).await;
    finds_in_redis(&mut one, "/after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_lost_of_acknowledged_purges_is_purged_nevertheless() {
    let (origin, mut group) = (origin().await, RedisSentinel::start().await);
    let mut one = node(&origin, &group.tables()).await;
    let two = node(&origin, &group.tables()).await;
    finds_in_redis(&mut one, "/page").await;
    assert!(two.get_with("/page", &SITE).await.is_hit());
    until("the replicas have the object", async || {
        let has = |at: usize| !group.servers[at].keys("weir:*|/page*").is_empty();
        (has(1) && has(2)).then_some(())
    })
    .await;
    for replica in [1, 2] {
        group.servers[replica].stop();
    }
    // Else it would wait in their sockets.
    group.servers[0].command::<u64>(&["CLIENT", "KILL", "TYPE", "REPLICA"]);
    let version = origin.bump("/page");
    assert_eq!(one.admin().purge_tag("all-pages").await["scope"], "fleet");
    group.servers[0].kill();
    for replica in [1, 2] {
        group.servers[replica].cont();
    }
    let now = group.promoted(0).await;
    is_used(&one).await;
    is_used(&two).await;
    assert!(
        !group.servers[now].keys("weir:*|/page*").is_empty(),
        "it is still in Redis"
    );
    both_serve_version([&one, &two], "/page", version).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_a_node_fails_no_request() {
    let (origin, mut cluster) = (origin().await, RedisCluster::start().await);
    let mut one = node(&origin, &cluster.tables()).await;
    let two = node(&origin, &cluster.tables()).await;
    finds_in_redis(&mut one, "/first").await;
    assert!(two.get_with("/first", &SITE).await.is_hit(), "shared");

    let load = clients(&one);
    load.goes_on(500).await;
    // The one that has the log: all depends on it.
    let log = "weir:{log}:state";
    let lost = cluster.master_for(log).expect("a master of the log");
    cluster.nodes[lost].kill();
    load.goes_on(500).await;
    cluster.promoted(log, lost).await;
    is_used(&one).await;
    is_used(&two).await;
    load.goes_on(500).await;
    load.finish().await;
    let version = origin.bump("/first");
    // One that had nothing to ask meanwhile finds out by this that its master is gone.
    until("a purge that the new master takes", async || {
        let receipt = two.admin().purge_tag("all-pages").await;
        (receipt["scope"] == "fleet").then_some(())
    })
    .await;
    // What it could not send at first would purge the page of after as well.
    until("all purges sent", async || {
        let pending = two.admin().metric("weir_log_pending", &[]).await;
        (pending < 0.5).then_some(())
    })
    .await;
    both_serve_version([&one, &two], "/first", version).await;
    finds_in_redis(&mut one, "/after").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_a_user_with_few_rights_are_enough_and_a_wrong_password_is_told_once() {
    let (origin, authority) = (origin().await, Authority::new());
    let (scratch, port) = (Scratch::new(), weir_tests::port::Port::reserve());
    let ca = scratch.write("ca.pem", authority.pem());
    let (server_cert, server_key) = authority.issue(&["redis.example"]).write(&scratch, "redis");
    let (cert, key) = authority.issue(&["node.example"]).write(&scratch, "node");
    let shown = |path: &std::path::Path| path.display().to_string();
    let (ca, number) = (shown(&ca), port.number().to_string());
    let (server_cert, server_key) = (shown(&server_cert), shown(&server_key));
    let args = [
        ["--tls-port", &number],
        ["--tls-ca-cert-file", &ca],
        ["--tls-cert-file", &server_cert],
        ["--tls-key-file", &server_key],
        ["--tls-auth-clients", "yes"],
    ];
    let redis = RedisServer::start_with(&args.concat()).await;
    let mut rules = vec!["ACL", "SETUSER"];
    rules.extend(ACL.split_whitespace().skip(1));
    redis.command::<()>(&rules);

    let password = scratch.write("password", "secret\n");
    let tables = format!(
        "[redis]\nurl = \"rediss://127.0.0.1:{number}/1\"\nusername = \"weir\"\npassword_file = {:?}\n\
         [redis.tls]\nca_file = {ca:?}\ncert_file = {:?}\nkey_file = {:?}\nserver_name = \"redis.example\"\n",
        shown(&password),
        shown(&cert),
        shown(&key),
    );
    let mut node = node(&origin, &tables).await;
    finds_in_redis(&mut node, "/page").await;

    scratch.write("password", "wrong\n");
    node.restart().await;
    let said = until("the reason", async || {
        let lines = degraded(&node).await;
        lines
            .into_iter()
            .find(|line| line.contains("redis.password_file"))
    })
    .await;
    assert!(!said.contains("wrong\n"), "{said}");
    assert_eq!(node.get("/page").await.status, 200);
    // Several probes later it still stands in the log once.
    let since = node.admin().metric("weir_redis_up", &[]).await;
    assert!(since < 1.0);
    let told = node.output().matches("redis.password_file").count();
    assert_eq!(told, 1, "{}", node.output());
}
