//! The key-value store in Redis.

use weir_store::kv::{KvError, KvStore};

use super::*;

const TTL: Duration = Duration::from_secs(60);

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// The same claims for both backends.
async fn behaves(kv: &KvStore) {
    kv.set("session", "refresh:1", bytes("a"), TTL)
        .await
        .unwrap();
    assert_eq!(
        kv.get("session", "refresh:1").await.unwrap(),
        Some(bytes("a"))
    );
    assert_eq!(kv.get("session", "refresh:2").await.unwrap(), None);
    let swap = async |expected: Option<&'static [u8]>| {
        kv.compare_and_set("session", "refresh:1", expected, bytes("b"), TTL)
            .await
            .unwrap()
    };
    assert!(!swap(None).await);
    assert!(!swap(Some(b"x")).await);
    assert!(swap(Some(b"a")).await);
    assert!(
        kv.compare_and_set("n", "new", None, bytes(""), TTL)
            .await
            .unwrap()
    );
    assert!(
        !kv.compare_and_set("n", "new", None, bytes(""), TTL)
            .await
            .unwrap()
    );

    assert_eq!(
        kv.increment("n", "c", i64::MAX - 1, TTL).await,
        Ok(i64::MAX - 1)
    );
    assert_eq!(kv.increment("n", "c", 1, TTL).await, Ok(i64::MAX));
    assert!(matches!(
        kv.increment("n", "c", 1, TTL).await,
        Err(KvError::Refused(_))
    ));
    assert_eq!(
        kv.get("n", "c").await.unwrap(),
        Some(i64::MAX.to_string().into())
    );

    assert!(kv.set_add("n", "s", bytes("a"), TTL).await.unwrap());
    assert!(!kv.set_add("n", "s", bytes("a"), TTL).await.unwrap());
    assert!(kv.set_contains("n", "s", b"a").await.unwrap());
    assert!(!kv.set_contains("n", "s", b"b").await.unwrap());
    assert!(kv.set_remove("n", "s", b"a").await.unwrap());
    assert!(!kv.set_remove("n", "s", b"a").await.unwrap());
    assert!(
        !kv.delete("n", "s").await.unwrap(),
        "an empty set is no key"
    );

    for (text, length) in [("a", 1), ("b", 2), ("c", 2)] {
        assert_eq!(
            kv.queue_push("n", "q", bytes(text), 2, TTL).await,
            Ok(length)
        );
    }
    assert_eq!(kv.queue_pop("n", "q").await.unwrap(), Some(bytes("b")));
    assert_eq!(kv.get("n", "q").await, Err(KvError::WrongKind));
    assert_eq!(
        kv.set_add("n", "q", bytes("a"), TTL).await,
        Err(KvError::WrongKind)
    );
    assert_eq!(
        kv.increment("n", "q", 1, TTL).await,
        Err(KvError::WrongKind)
    );
    assert_eq!(
        kv.compare_and_set("n", "q", Some(b"a"), bytes(""), TTL)
            .await,
        Err(KvError::WrongKind)
    );
    assert_eq!(
        kv.queue_push("n", "c", bytes("a"), 2, TTL).await,
        Err(KvError::WrongKind)
    );
    assert_eq!(
        kv.increment("session", "refresh:1", 1, TTL).await,
        Err(KvError::WrongKind)
    );
    assert!(kv.delete("n", "q").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_backends_behave_alike() {
    let server = Server::start();
    let redis = node(&server).await;
    behaves(&KvStore::redis(&redis)).await;
    behaves(&KvStore::memory(1_024 * 1_024)).await;
    let mut link = server.connect();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*}:kv").query(&mut link).unwrap();
    assert!(
        keys.contains(&"weir:{session:refresh:1}:kv".to_owned()),
        "{keys:?}"
    );
    for key in keys {
        let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut link).unwrap();
        assert!((1..=60_000).contains(&ttl), "{key}: {ttl}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_counter_keeps_its_end_and_a_set_is_renewed() {
    let server = Server::start();
    let redis = node(&server).await;
    let kv = KvStore::redis(&redis);
    let mut link = server.connect();
    let mut ttl = |key: &str| -> i64 { redis::cmd("PTTL").arg(key).query(&mut link).unwrap() };
    kv.increment("n", "c", 1, TTL).await.unwrap();
    kv.increment("n", "c", 1, TTL * 10).await.unwrap();
    assert!(ttl("weir:{n:c}:kv") <= 60_000);
    kv.set_add("n", "s", bytes("a"), TTL).await.unwrap();
    kv.set_add("n", "s", bytes("a"), TTL * 10).await.unwrap();
    assert!(ttl("weir:{n:s}:kv") > 60_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_unavailable_while_redis_is_down() {
    let mut server = Server::start();
    let redis = node(&server).await;
    let kv = KvStore::redis(&redis);
    server.kill();
    assert_eq!(kv.get("n", "k").await, Err(KvError::Unavailable));
    assert_eq!(
        kv.increment("n", "k", 1, TTL).await,
        Err(KvError::Unavailable)
    );
}
