//! Redis dead, slow, and back.

use weir_store::log::{Scope, Verdict};
use weir_store::redis::{CallError, RedisState};

use super::*;

fn is_down(redis: &Redis) -> bool {
    matches!(redis.state(), RedisState::Down { .. })
}

async fn try_get(redis: &Redis) -> Result<Option<Arc<Object>>, CallError> {
    redis
        .get(key("a.example", "1").as_str(), &HeaderMap::new())
        .await
}

/// Calls until the breaker has opened.
async fn until_down(redis: &Redis) {
    until("Redis counts as down", async || {
        let _ = try_get(redis).await;
        is_down(redis)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_without_its_data_begins_an_epoch() {
    let mut server = Server::start();
    let redis = node(&server).await;
    let fetched = object("1", &[], redis.log().position());
    server.kill();
    until_down(&redis).await;
    server.restart();
    until("a new epoch", async || {
        redis.log().position().epoch != fetched.position().epoch
    })
    .await;
    assert_eq!(redis.log().verdict(&fetched), Verdict::Dead);
    until("it is up", async || redis.state() == RedisState::Up).await;
    put(&redis, object("1", &[], redis.log().position())).await;
    assert!(get(&redis, "1").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_redis_opens_the_breaker_and_calls_then_fail_at_once() {
    let server = Server::start();
    let config = RedisConfig {
        deadline: Duration::from_millis(60),
        ..config(&server)
    };
    let redis = node_with(&config, Limits::default()).await;
    server.pause();
    let began = Instant::now();
    until_down(&redis).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert!(redis.stats().timeouts.get() >= u64::from(config.failures));
    let began = Instant::now();
    for _ in 0..1_000 {
        assert!(matches!(try_get(&redis).await, Err(CallError::Down)));
    }
    // A thousand deadlines would be a minute.
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    let opened = redis.stats().opened.get();
    server.resume();
    until("Redis is up again", async || {
        redis.state() == RedisState::Up
    })
    .await;
    put(&redis, object("1", &[], redis.log().position())).await;
    assert!(get(&redis, "1").await.is_some());
    assert_eq!(opened, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_without_redis_and_joins_when_it_comes() {
    let mut server = Server::start();
    server.kill();
    let redis = Redis::start(&config(&server), Limits::default(), &CLOCK).unwrap();
    assert!(matches!(try_get(&redis).await, Err(CallError::Down)));
    redis.put(Arc::new(object("1", &[], redis.log().position())), None);
    assert!(is_down(&redis));
    server.restart();
    assert!(redis.joined(PATIENCE).await);
    put(&redis, object("1", &[], redis.log().position())).await;
    assert!(get(&redis, "1").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn purges_taken_while_redis_is_silent_are_sent_exactly_once() {
    let server = Server::start();
    let config = RedisConfig {
        deadline: Duration::from_millis(60),
        background_deadline: Duration::from_millis(100),
        ..config(&server)
    };
    let (one, two) = (
        node_with(&config, Limits::default()).await,
        node_with(&config, Limits::default()).await,
    );
    let here = object("1", &["team"], one.log().position());
    let there = object("1", &["team"], two.log().position());
    let epoch = one.log().position().epoch;
    put(&one, object("1", &["team"], one.log().position())).await;
    server.pause();
    // The first ones reach Redis's socket, and will be executed; those after the breaker
    // opened are not sent at all. Each must count once.
    for at in 0..20 {
        let receipt = one
            .log()
            .invalidate(&[tag("team"), tag(&at.to_string())], now())
            .await;
        assert_eq!((receipt.sequence, receipt.scope), (None, Scope::Node));
    }
    assert_eq!(one.log().verdict(&here), Verdict::Dead);
    assert_eq!(two.log().verdict(&there), Verdict::Valid);
    server.resume();
    until("all are sent", async || one.log().pending() == 0).await;
    until("the other node obeys", async || {
        two.log().verdict(&there) == Verdict::Dead
    })
    .await;
    until("nothing is missing", async || {
        one.log().position().fleet == 20
    })
    .await;
    assert_eq!(one.log().position().epoch, epoch);
    let sequence: u64 = redis::cmd("HGET")
        .arg(&["weir:{log}:state", "sequence"])
        .query(&mut server.connect())
        .unwrap();
    assert_eq!(sequence, 20);
    until("the node reads again", async || {
        one.state() == RedisState::Up
    })
    .await;
    assert!(
        get(&one, "1").await.is_none(),
        "the purged object is still in Redis, and dead"
    );
    put(&one, object("1", &["team"], one.log().position())).await;
    assert!(
        get(&one, "1").await.is_some(),
        "the node's own marks are gone"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_trusted_only_within_the_window_while_redis_is_silent() {
    let server = Server::start();
    let window = Duration::from_millis(400);
    let limits = Limits {
        coherence_window: window,
        ..Limits::default()
    };
    let redis = node_with(&config(&server), limits).await;
    let long_ago = Timestamp::default();
    until("it is trusted", async || {
        redis.log().trusted(now(), || long_ago)
    })
    .await;
    server.pause();
    until("it is not trusted", async || {
        !redis.log().trusted(now(), || long_ago)
    })
    .await;
    assert!(now().since(redis.log().last_contact()) > window);
    assert!(redis.log().trusted(now(), now), "just fetched");
    server.resume();
    until("it is trusted again", async || {
        redis.log().trusted(now(), || long_ago)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_bounded_and_counts_what_it_drops() {
    let mut server = Server::start();
    let config = RedisConfig {
        queue_objects: 10,
        ..config(&server)
    };
    let redis = node_with(&config, Limits::default()).await;
    server.kill();
    until_down(&redis).await;
    for id in 0..25 {
        let object = object(&id.to_string(), &[], redis.log().position());
        redis.put(Arc::new(object), None);
    }
    // One batch may be in the writer's hands when Redis goes away.
    assert!(
        redis.stats().dropped_full.get() >= 14,
        "{:?}",
        redis.stats()
    );
}
