//! Purges that a node keeps on disk while Redis is away.
#![allow(
    clippy::expect_used,
    reason = "helpers of tests fail the test that uses them"
)]

use serde_json::json;
use weir_tests::origin::page_text;
use weir_tests::{Config, Origin, RedisServer, Weir, until, weir_command};

/// Every node answers to this name, so that they share objects.
const SITE: [(&str, &str); 1] = [("host", "site.example")];

fn on_disk(origin: &Origin, redis: &RedisServer) -> Config {
    let plain = Config::plain(&origin.url()).redis(&redis.url());
    Config::whole(&format!("data_dir = \"{{dir}}/data\"\n{}", plain.text()))
}

async fn in_redis(redis: &RedisServer) {
    until("the object in Redis", async || {
        let keys = redis.keys("weir:*|*");
        let is_object = |key: &String| !key.ends_with(":lease");
        keys.iter().any(is_object).then_some(())
    })
    .await;
}

/// Kills it and starts it again.
async fn killed(node: &mut Weir) {
    node.kill();
    node.ended().await;
    node.restart().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_outlives_the_node_that_took_it_while_redis_was_away() {
    let origin = Origin::tagged("all-pages").await;
    let mut redis = RedisServer::start().await;
    let mut one = on_disk(&origin, &redis).start().await;
    let other = Config::plain(&origin.url())
        .redis(&redis.url())
        .start()
        .await;
    one.get_with("/p", &SITE).await;
    in_redis(&redis).await;
    assert!(other.get_with("/p", &SITE).await.is_hit());

    redis.stop();
    let version = origin.bump("/p");
    let receipt = one.admin().purge_tag("all-pages").await;
    assert_eq!(
        receipt,
        json!({"sequence": null, "scope": "node", "durable": true})
    );
    killed(&mut one).await;
    assert_eq!(one.admin().metric("weir_log_pending", &[]).await, 1.0);

    redis.cont();
    // At no moment the old object, which Redis still has.
    until("the purge sent, and nothing old until then", async || {
        let answer = one.get_with("/p", &SITE).await;
        assert_eq!(answer.text(), page_text("/p", version));
        (one.admin().metric("weir_log_pending", &[]).await == 0.0).then_some(())
    })
    .await;
    until("the purge on the other node", async || {
        let answer = other.get_with("/p", &SITE).await;
        (answer.text() == page_text("/p", version)).then_some(())
    })
    .await;
    killed(&mut one).await;
    assert_eq!(one.admin().metric("weir_log_pending", &[]).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_data_dir_the_answer_says_that_the_purge_is_in_memory_only() {
    let origin = Origin::tagged("all-pages").await;
    let mut redis = RedisServer::start().await;
    let node = Config::plain(&origin.url())
        .redis(&redis.url())
        .start()
        .await;
    assert_eq!(
        node.admin().purge_tag("x").await.get("durable"),
        None,
        "Redis has it"
    );
    redis.stop();
    assert_eq!(
        node.admin().purge_tag("x").await,
        json!({"sequence": null, "scope": "node", "durable": false})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_on_one_data_dir_is_refused_by_name() {
    let (origin, redis) = (
        Origin::tagged("all-pages").await,
        RedisServer::start().await,
    );
    let node = on_disk(&origin, &redis).start().await;
    // The same, but for the ports.
    let text = std::fs::read_to_string(node.config_file()).expect("its configuration");
    let text = text
        .replace(&format!(":{}\"", node.port()), ":0\"")
        .replace(&format!(":{}\"", node.admin_port()), ":0\"");
    let file = node.scratch().write("second.toml", &text);
    let file = file.to_str().expect("a path in UTF-8");
    let second = weir_command(node.scratch().path(), &["run", "-c", file]).await;
    assert_eq!(second.code, Some(1));
    let text = second.all();
    assert!(
        text.contains("/data/purges is in use by another node"),
        "{text}"
    );
}
