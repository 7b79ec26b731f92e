//! Redis Sentinel: masters that are replaced.

use weir_store::log::{Scope, Verdict};
use weir_store::redis::{RedisState, SentinelConfig};

use super::*;
use crate::redis_sentinel::{RedisSentinel, SERVICE};

fn settings(group: &RedisSentinel, service: &str) -> RedisConfig {
    let sentinel = |address: String| {
        let (host, port) = address.split_once(':').unwrap();
        Endpoint::tcp(host, port.parse().unwrap())
    };
    RedisConfig {
        deadline: Duration::from_millis(250),
        ..RedisConfig::new(Servers::Sentinel(SentinelConfig {
            servers: group.addresses().into_iter().map(sentinel).collect(),
            service: service.to_owned(),
            login: Login::default(),
            tls: None,
        }))
    }
}

async fn member(group: &RedisSentinel) -> Redis {
    node_with(&settings(group, SERVICE), Limits::default()).await
}

/// Waits until the node writes and reads again, and says for how long.
async fn until_used(redis: &Redis) -> Duration {
    let began = Instant::now();
    until("Redis is used again", async || {
        let key = key("a.example", "after");
        let object = object("after", &[], redis.log().position());
        redis.put(Arc::new(object), None);
        redis.drained(Duration::from_millis(100)).await;
        matches!(
            redis.get(key.as_str(), &HeaderMap::new()).await,
            Ok(Some(_))
        )
    })
    .await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_dies_is_replaced_and_purges_hold() {
    let mut group = RedisSentinel::start().await;
    let (one, two) = (member(&group).await, member(&group).await);
    let old = object("1", &["team"], two.log().position());
    put(&one, object("1", &["team"], one.log().position())).await;
    assert!(get(&two, "1").await.is_some());
    let receipt = one.log().invalidate(&[tag("team")], now()).await;
    assert_eq!(receipt.scope, Scope::Fleet);
    // One sentinel of three may be away too.
    group.kill_sentinel(2);
    group.servers[0].kill();
    let while_away = one.log().invalidate(&[tag("other")], now()).await;
    assert_eq!(while_away.scope, Scope::Node);
    group.promoted(0).await;
    let took = until_used(&one).await;
    assert!(
        took < Duration::from_secs(2),
        "{took:?} after the promotion"
    );
    until("the other node follows", async || {
        two.log().verdict(&old) == Verdict::Dead
    })
    .await;
    assert!(get(&two, "1").await.is_none());
    until("what was purged meanwhile is sent", async || {
        one.log().pending() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_only_hangs_is_left_for_the_one_that_replaces_it() {
    let mut group = RedisSentinel::start().await;
    let redis = member(&group).await;
    group.servers[0].stop();
    group.promoted(0).await;
    let took = until_used(&redis).await;
    assert!(
        took < Duration::from_secs(2),
        "{took:?} after the promotion"
    );
    group.servers[0].cont();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_master_that_is_demoted_is_left_without_a_failed_call_in_the_end() {
    let group = RedisSentinel::start().await;
    let redis = member(&group).await;
    let epoch = redis.log().position().epoch;
    group.fail_over().await;
    group.promoted(0).await;
    let took = until_used(&redis).await;
    assert!(
        took < Duration::from_secs(3),
        "{took:?} after the promotion"
    );
    let receipt = redis.log().invalidate(&[tag("team")], now()).await;
    assert_eq!(receipt.scope, Scope::Fleet);
    assert_eq!(redis.log().position().epoch, epoch, "nothing was lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_an_acknowledged_purge_begins_an_epoch() {
    let mut group = RedisSentinel::start().await;
    let (one, two) = (member(&group).await, member(&group).await);
    let old = object("1", &["team"], one.log().position());
    put(&one, object("1", &["team"], one.log().position())).await;
    until("the replicas have the object", async || {
        let known = |at: usize| !group.servers[at].keys("weir:{http*").is_empty();
        known(1) && known(2)
    })
    .await;
    group.servers[1].stop();
    group.servers[2].stop();
    // Else it would wait in their sockets.
    group.servers[0].command::<u64>(&["CLIENT", "KILL", "TYPE", "REPLICA"]);
    let receipt = one.log().invalidate(&[tag("team")], now()).await;
    assert_eq!(receipt.scope, Scope::Fleet, "the master took it, alone");
    group.servers[0].kill();
    group.servers[1].cont();
    group.servers[2].cont();
    group.promoted(0).await;
    for node in [&one, &two] {
        until("a new epoch", async || {
            node.log().position().epoch != old.position().epoch
        })
        .await;
        assert_eq!(node.log().verdict(&old), Verdict::Dead);
    }
    until_used(&two).await;
    assert!(
        get(&two, "1").await.is_none(),
        "it is still in Redis, and dead"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_service_and_what_is_no_sentinel_are_told() {
    let group = RedisSentinel::start().await;
    let reason = async |config: &RedisConfig, expected: &str| {
        let redis = Redis::start(config, Limits::default(), &CLOCK).unwrap();
        until(expected, async || {
            matches!(redis.state(), RedisState::Down { reason, .. } if reason.contains(expected))
        })
        .await;
    };
    reason(&settings(&group, "other"), "redis.sentinel.service").await;
    let mut config = settings(&group, SERVICE);
    if let Servers::Sentinel(sentinel) = &mut config.servers {
        sentinel.servers = vec![endpoint(group.servers[1].port())];
    }
    reason(&config, "redis.sentinel.servers").await;
    // And a replica alone is not taken for a master.
    let replica = RedisConfig::new(Servers::Single(endpoint(group.servers[1].port())));
    reason(&replica, "is a replica").await;
}
