//! The store in memory. `tests/redis.rs` puts the one in Redis to the same claims.

use super::*;

const TTL: Duration = Duration::from_secs(60);

fn store() -> KvStore {
    KvStore::memory(1_024 * 1_024)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn compare_and_set_stores_only_over_what_is_expected() {
    let kv = store();
    assert!(
        !kv.compare_and_set("n", "k", Some(b"a"), bytes("b"), TTL)
            .await
            .unwrap()
    );
    assert!(
        kv.compare_and_set("n", "k", None, bytes("a"), TTL)
            .await
            .unwrap()
    );
    assert!(
        !kv.compare_and_set("n", "k", None, bytes("b"), TTL)
            .await
            .unwrap()
    );
    assert!(
        kv.compare_and_set("n", "k", Some(b"a"), bytes("b"), TTL)
            .await
            .unwrap()
    );
    assert_eq!(kv.get("n", "k").await.unwrap(), Some(bytes("b")));
    assert_eq!(kv.get("n", "other").await.unwrap(), None);
}

#[tokio::test]
async fn kinds_do_not_mix() {
    let kv = store();
    kv.set_add("n", "set", bytes("a"), TTL).await.unwrap();
    assert_eq!(kv.get("n", "set").await, Err(KvError::WrongKind));
    assert_eq!(kv.queue_pop("n", "set").await, Err(KvError::WrongKind));
    kv.set("n", "text", bytes("a"), TTL).await.unwrap();
    assert_eq!(
        kv.increment("n", "text", 1, TTL).await,
        Err(KvError::WrongKind)
    );
    assert!(kv.delete("n", "set").await.unwrap());
    assert!(!kv.delete("n", "set").await.unwrap());
}

#[tokio::test]
async fn a_full_queue_drops_its_oldest_entries() {
    let kv = store();
    for text in ["a", "b", "c"] {
        kv.queue_push("n", "q", bytes(text), 2, TTL).await.unwrap();
    }
    assert_eq!(kv.queue_pop("n", "q").await.unwrap(), Some(bytes("b")));
    assert_eq!(kv.queue_pop("n", "q").await.unwrap(), Some(bytes("c")));
    assert_eq!(kv.queue_pop("n", "q").await.unwrap(), None);
}

#[tokio::test]
async fn out_of_bounds_is_refused_with_the_bound() {
    let kv = store();
    let large = Bytes::from(vec![0; MAX_VALUE_BYTES + 1]);
    let refused = |result: Result<(), KvError>| match result {
        Err(KvError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(kv.set("n", "k", large, TTL).await).contains("1048576"));
    assert!(refused(kv.set("n", "k", bytes(""), Duration::ZERO).await).contains("30 days"));
    assert!(refused(kv.set("n", "k", bytes(""), MAX_TTL * 2).await).contains("30 days"));
    let pushed = kv.queue_push("n", "q", bytes(""), 0, TTL).await;
    assert!(refused(pushed.map(|_| ())).contains("max-length is 0"));
    assert_eq!(
        kv.increment("n", "c", i64::MAX, TTL)
            .await
            .and(kv.increment("n", "c", 1, TTL).await),
        Err(KvError::Refused("the sum does not fit into 64 bits".into()))
    );
}

#[tokio::test]
async fn a_counter_ends_when_its_first_increment_said() {
    let kv = store();
    let short = Duration::from_millis(60);
    let began = std::time::Instant::now();
    kv.increment("n", "c", 5, short).await.unwrap();
    // Later increments would keep it alive if they moved its end.
    let mut fresh_start = false;
    while began.elapsed() < Duration::from_secs(5) && !fresh_start {
        tokio::time::sleep(Duration::from_millis(1)).await;
        fresh_start = kv.increment("n", "c", 1, short).await.unwrap() == 1;
    }
    assert!(fresh_start && began.elapsed() >= short);
}

#[tokio::test]
async fn memory_is_bounded() {
    let kv = KvStore::memory(64 * 1_024);
    for at in 0..1_000 {
        kv.set("n", &at.to_string(), Bytes::from(vec![0; 1_024]), TTL)
            .await
            .unwrap();
    }
    let Backend::Memory(memory) = &kv.0 else {
        panic!("not in memory")
    };
    assert!(memory.weight() <= 64 * 1_024, "{}", memory.weight());
    assert!(
        kv.get("n", "999").await.unwrap().is_some(),
        "the newest stays"
    );
}
