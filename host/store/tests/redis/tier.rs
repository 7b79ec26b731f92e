//! Objects in Redis.

use http::HeaderValue;
use http::header::{ACCEPT_LANGUAGE, HeaderName};
use weir_store::log::Verdict;

use super::*;

const BASE: &str = "weir:{http://a.example|user:profile:1}";

fn language(value: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(value));
    headers
}

fn in_language(value: &'static str, position: Position) -> Object {
    let vary = [(ACCEPT_LANGUAGE, Some(Box::from(value.as_bytes())))];
    Object::new(ObjectParts {
        vary: VaryKey::from_parts(vary),
        body: Bytes::from_static(value.as_bytes()),
        ..parts("1", &[], position)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_comes_back_on_another_node() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    put(&one, object("1", &["team"], one.log().position())).await;
    let found = get(&two, "1").await.expect("found");
    assert_eq!(&found.body[..], b"the body");
    assert_eq!(two.log().verdict(&found), Verdict::Valid);
    assert!(get(&two, "2").await.is_none());
    assert_eq!((two.stats().hits.get(), two.stats().misses.get()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_variant_answers_its_own_requests() {
    let server = Server::start();
    let redis = node(&server).await;
    put(&redis, in_language("de", redis.log().position())).await;
    put(&redis, in_language("fr", redis.log().position())).await;
    let other = HeaderName::from_static("x-other");
    let more = Object::new(ObjectParts {
        vary: VaryKey::from_parts([(other.clone(), Some(Box::from(*b"1")))]),
        ..parts("1", &[], redis.log().position())
    });
    put(&redis, more).await;
    let key = key("a.example", "1");
    for value in ["de", "fr"] {
        let found = redis
            .get(key.as_str(), &language(value))
            .await
            .unwrap()
            .expect("found");
        assert_eq!(&found.body[..], value.as_bytes());
    }
    assert!(
        redis
            .get(key.as_str(), &language("en"))
            .await
            .unwrap()
            .is_none()
    );
    let mut request = HeaderMap::new();
    request.insert(other, HeaderValue::from_static("1"));
    assert!(redis.get(key.as_str(), &request).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_of_an_object_has_a_ttl_of_its_life_and_stale_windows() {
    let server = Server::start();
    let redis = node(&server).await;
    put(&redis, object("2", &[], redis.log().position())).await;
    put(&redis, in_language("de", redis.log().position())).await;
    put(&redis, in_language("fr", redis.log().position())).await;
    let mut link = server.connect();
    let keys: Vec<String> = redis::cmd("KEYS").arg("weir:*").query(&mut link).unwrap();
    let objects: Vec<_> = keys
        .iter()
        .filter(|key| !key.starts_with("weir:{log}"))
        .collect();
    assert_eq!(objects.len(), 4, "{objects:?}");
    for key in &objects {
        let ttl: i64 = redis::cmd("PTTL").arg(key).query(&mut link).unwrap();
        assert!((60_000..=90_000).contains(&ttl), "{key}: {ttl}");
    }
    for key in keys.iter().filter(|key| key.starts_with("weir:{log}")) {
        let ttl: i64 = redis::cmd("PTTL").arg(key).query(&mut link).unwrap();
        assert_eq!(ttl, -1, "the log must not end: {key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_record_is_a_miss_and_is_deleted() {
    let server = Server::start();
    let redis = node(&server).await;
    let mut link = server.connect();
    put(&redis, object("1", &[], redis.log().position())).await;
    let record: Vec<u8> = redis::cmd("GET").arg(BASE).query(&mut link).unwrap();
    let mut flipped = record.clone();
    flipped[40] ^= 1;
    let damaged = [
        &flipped[..],
        &record[..record.len() - 1],
        b"",
        b"WVI1\n\x01",
        b"hello",
    ];
    for (at, bytes) in (1..).zip(damaged) {
        redis::cmd("SET")
            .arg(BASE)
            .arg(bytes)
            .exec(&mut link)
            .unwrap();
        assert!(get(&redis, "1").await.is_none(), "{at}");
        assert_eq!(redis.stats().corrupt.get(), at);
        assert!(
            !redis::cmd("EXISTS")
                .arg(BASE)
                .query::<bool>(&mut link)
                .unwrap(),
            "{at}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_of_another_key_is_not_served() {
    let server = Server::start();
    let redis = node(&server).await;
    put(&redis, object("2", &[], redis.log().position())).await;
    let mut link = server.connect();
    let other = "weir:{http://a.example|user:profile:2}";
    redis::cmd("COPY")
        .arg(&[other, BASE])
        .exec(&mut link)
        .unwrap();
    assert!(get(&redis, "1").await.is_none());
    assert!(get(&redis, "2").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_dead_or_not_shared_stays_out() {
    let server = Server::start();
    let config = RedisConfig {
        max_object: 1_000,
        ..config(&server)
    };
    let redis = node_with(&config, Limits::default()).await;
    let position = redis.log().position();
    put(
        &redis,
        Object::new(ObjectParts {
            body: Bytes::from(vec![0; 1_001]),
            ..parts("1", &[], position)
        }),
    )
    .await;
    put(
        &redis,
        Object::new(ObjectParts {
            body: Bytes::from(vec![0; 999]),
            ..parts("1", &[], position)
        }),
    )
    .await;
    put(
        &redis,
        Object::new(ObjectParts {
            shared: false,
            ..parts("1", &[], position)
        }),
    )
    .await;
    redis.log().invalidate(&[tag("team")], now()).await;
    put(&redis, object("1", &["team"], position)).await;
    assert!(get(&redis, "1").await.is_none());
    let stats = redis.stats();
    assert_eq!(
        (stats.dropped_large.get(), stats.dropped_dead.get()),
        (2, 1)
    );
    assert_eq!(stats.written.get(), 0);
}
