//! One fetch in the fleet.

use weir_store::redis::{Lease, Leased, Next, Waiting};

use super::*;

async fn ask(redis: &Redis) -> Leased {
    let until = redis.lease_patience().expect("leases are on");
    redis.lease(key("a.example", "1").as_str(), until).await
}

async fn taken(redis: &Redis) -> Lease {
    match ask(redis).await {
        Leased::Yours(lease, false) => lease,
        other => panic!("{other:?}"),
    }
}

async fn refused(redis: &Redis) -> Waiting {
    match ask(redis).await {
        Leased::Wait(waiting) => waiting,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_one_who_waits_finds_what_the_holder_wrote() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let lease = taken(&one).await;
    let mut waiting = refused(&two).await;
    let object = object("1", &[], one.log().position());
    one.put(Arc::new(object), Some(lease));
    assert_eq!(waiting.next().await, Next::LookUp);
    assert!(get(&two, "1").await.is_some());
    // Whoever comes later is told that something is there.
    assert!(matches!(ask(&two).await, Leased::Yours(_, true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_what_will_not_be_shared() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let lease = taken(&one).await;
    let mut waiting = refused(&two).await;
    drop(lease);
    assert_eq!(waiting.next().await, Next::Fetch);
    assert!(matches!(ask(&two).await, Leased::Without));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_what_is_fetched_does_not_have_the_whole_fleet_fetch() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let lease = taken(&one).await;
    let mut waiting = refused(&two).await;
    let object = object("1", &["team"], one.log().position());
    one.log().invalidate(&[tag("team")], now()).await;
    one.put(Arc::new(object), Some(lease));
    assert_eq!(waiting.next().await, Next::LookUp);
    assert!(get(&two, "1").await.is_none());
    // One of them fetches what is there now, and the others wait again.
    let next = taken(&two).await;
    assert!(matches!(ask(&one).await, Leased::Wait(_)));
    drop(next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_renewed_while_its_holder_lives_and_ends_with_it() {
    let server = Server::start();
    let two = node(&server).await;
    // The holder has a runtime of its own, which ends as a killed process does: nothing
    // renews the lease any more, and nobody says that it has ended.
    let holder = tokio::runtime::Runtime::new().unwrap();
    let one = holder.spawn(async move {
        let redis = node(&server).await;
        let lease = taken(&redis).await;
        (server, redis, lease)
    });
    let (server, redis, lease) = one.await.unwrap();
    let mut left = i64::MAX;
    until("a renewal", async || {
        let name = "weir:{http://a.example|user:profile:1}:lease";
        let mut call = redis::cmd("PTTL");
        let now: i64 = call.arg(name).query(&mut server.connect()).unwrap();
        now > std::mem::replace(&mut left, now)
    })
    .await;
    let mut waiting = refused(&two).await;
    std::mem::forget((redis, lease));
    holder.shutdown_background();
    assert_eq!(waiting.next().await, Next::LookUp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patience_ends_and_so_does_redis() {
    let mut server = Server::start();
    let config = RedisConfig {
        lease: Duration::from_millis(200),
        ..config(&server)
    };
    let redis = node_with(&config, Limits::default()).await;
    let _lease = taken(&redis).await;
    assert_eq!(refused(&redis).await.next().await, Next::Fetch);
    server.kill();
    assert!(matches!(ask(&redis).await, Leased::Without));
}
