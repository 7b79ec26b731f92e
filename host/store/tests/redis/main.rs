//! Claims about the Redis tier, held against a real redis-server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "clippy knows functions marked as tests, but not what they call"
)]

mod chunks;
mod cluster;
mod inspect;
mod kv;
mod lease;
mod log;
mod outage;
mod published;
mod rate_limit;
mod secured;
mod sentinel;
mod server;
mod throughput;
mod tier;

// The harness of the whole-system tests, without the crate, which takes minutes to build.
macro_rules! harness {
    ($($name:ident = $path:literal)+) => {
        $(
            #[allow(
                dead_code,
                unreachable_pub,
                reason = "the whole-system tests use the rest, from another crate"
            )]
            #[path = $path]
            mod $name;
        )+
    };
}
harness! {
    poll = "../../../../tests/src/poll.rs"
    port = "../../../../tests/src/port.rs"
    process = "../../../../tests/src/process.rs"
    redis_cluster = "../../../../tests/src/redis_cluster.rs"
    redis_sentinel = "../../../../tests/src/redis_sentinel.rs"
    redis_server = "../../../../tests/src/redis_server.rs"
    scratch = "../../../../tests/src/scratch.rs"
}

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use server::{PATIENCE, Server};
use weir_semantics::{Freshness, Timestamp, VaryKey};
use weir_store::log::{Limits, Selector, Target};
use weir_store::redis::{Endpoint, Login, Redis, RedisConfig, Servers};
use weir_store::{Clock, Key, KeyBuilder, Object, ObjectParts, Position, StoredHeaders, Tags};

/// Polls until the condition holds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::tcp("127.0.0.1", port)
}

fn config(server: &Server) -> RedisConfig {
    // The machine that runs the tests may be busy: a deadline missed for that would
    // fail a test that is about something else.
    RedisConfig {
        deadline: Duration::from_millis(250),
        ..RedisConfig::new(Servers::Single(endpoint(server.port())))
    }
}

async fn node(server: &Server) -> Redis {
    node_with(&config(server), Limits::default()).await
}

async fn node_with(config: &RedisConfig, limits: Limits) -> Redis {
    let redis = Redis::start(config, limits, &CLOCK).expect("a good configuration");
    assert!(redis.joined(PATIENCE).await, "the log has been read");
    redis
}

/// One for all: two clocks started at different times differ by a millisecond.
static CLOCK: LazyLock<Clock> = LazyLock::new(Clock::system);

fn now() -> Timestamp {
    CLOCK.now()
}

fn key(host: &str, id: &str) -> Key {
    let mut builder = KeyBuilder::new();
    builder
        .origin("http", host)
        .expect("an origin")
        .namespace("user")
        .expect("a namespace");
    builder
        .part(b"profile")
        .part(id.as_bytes())
        .key()
        .expect("a key")
}

fn object(id: &str, tags: &[&str], position: Position) -> Object {
    Object::new(parts(id, tags, position))
}

fn parts(id: &str, tags: &[&str], position: Position) -> ObjectParts {
    ObjectParts {
        key: key("a.example", id),
        url: format!("http://a.example/users/{id}").into(),
        status: StatusCode::OK,
        headers: StoredHeaders::from_map(&HeaderMap::new()),
        body: Bytes::from_static(b"the body"),
        trailers: None,
        vary: VaryKey::default(),
        tags: Tags::new(tags.iter().copied()).expect("tags"),
        freshness: Freshness {
            received: now(),
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(60),
            stale_while_revalidate: Duration::from_secs(30),
            stale_if_error: Duration::ZERO,
            keep: Duration::ZERO,
            must_revalidate: false,
            no_cache: false,
            immutable: false,
            heuristic: false,
        },
        fetch_took: Duration::ZERO,
        memory_until: None,
        shared: true,
        position,
        policy: None,
    }
}

/// Writes an object and waits until it is in Redis.
async fn put(redis: &Redis, object: Object) {
    redis.put(Arc::new(object), None);
    assert!(redis.drained(PATIENCE).await, "the queue has been written");
}

async fn get(redis: &Redis, id: &str) -> Option<Arc<Object>> {
    let key = key("a.example", id);
    redis
        .get(key.as_str(), &HeaderMap::new())
        .await
        .expect("Redis answers")
}

fn tag(tag: &str) -> Selector {
    Selector::new(Target::Tag(tag.into()))
}
