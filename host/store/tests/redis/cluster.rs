//! Redis Cluster: keys on every node, nodes lost, slots that move.

use weir_store::kv::KvStore;
use weir_store::log::{Scope, Verdict};
use weir_store::redis::RedisState;

use super::*;
use crate::redis_cluster::RedisCluster;

/// A key of the log.
const LOG: &str = "weir:{log}:state";

fn settings(cluster: &RedisCluster) -> RedisConfig {
    let seeds = cluster.nodes.iter().take(3);
    RedisConfig {
        deadline: Duration::from_millis(250),
        ..RedisConfig::new(Servers::Cluster(
            seeds.map(|node| endpoint(node.port())).collect(),
        ))
    }
}

async fn member(cluster: &RedisCluster) -> Redis {
    node_with(&settings(cluster), Limits::default()).await
}

/// How an object is called in Redis.
fn name(id: &str) -> String {
    format!("weir:{{http://a.example|user:profile:{id}}}")
}

/// Ids of objects, one whose master is this node and one whose is not.
fn ids(cluster: &RedisCluster, at: usize) -> (String, String) {
    let find = |on: bool| {
        let id = (0..1_000).map(|id| id.to_string()).find(|id| {
            let master = cluster.master_for(&name(id)).unwrap();
            let logs = cluster.master_for(LOG).unwrap();
            (master == at) == on && (on || master == logs)
        });
        id.unwrap()
    };
    (find(true), find(false))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_values_and_purges_work_on_every_node_of_a_cluster() {
    let cluster = RedisCluster::start().await;
    let (one, two) = (member(&cluster).await, member(&cluster).await);
    let kv = KvStore::redis(&one);
    let position = one.log().position();
    for id in 0..60 {
        let object = object(&id.to_string(), &["team"], position);
        one.put(Arc::new(object), None);
    }
    assert!(one.drained(PATIENCE).await);
    assert_eq!(one.stats().written.get(), 60, "{:?}", one.stats());
    for id in 0..60 {
        let id = id.to_string();
        assert!(get(&two, &id).await.is_some(), "{id}");
        // Each node has its scripts to learn.
        let ttl = Duration::from_secs(60);
        assert_eq!(kv.increment("n", &id, 2, ttl).await, Ok(2), "{id}");
    }
    let on_each = cluster.nodes.iter().take(3);
    let on_each = on_each.map(|node| node.keys("weir:{http*").len());
    assert!(
        on_each.clone().all(|keys| keys > 0),
        "{:?}",
        on_each.collect::<Vec<_>>()
    );
    let receipt = one.log().invalidate(&[tag("team")], now()).await;
    assert_eq!((receipt.sequence, receipt.scope), (Some(1), Scope::Fleet));
    for id in 0..60 {
        assert!(get(&two, &id.to_string()).await.is_none(), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_lost_takes_its_own_keys_along_and_no_others() {
    let mut cluster = RedisCluster::start().await;
    // Else every slot is refused while one has no master.
    for node in &cluster.nodes {
        node.command::<()>(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let redis = member(&cluster).await;
    let logs = cluster.master_for(LOG).unwrap();
    let lost = (0..3).find(|at| *at != logs).unwrap();
    let (on_it, elsewhere) = ids(&cluster, lost);
    for id in [&on_it, &elsewhere] {
        put(&redis, object(id, &[], redis.log().position())).await;
    }
    cluster.nodes[lost].kill();
    until("its keys fail at once", async || {
        let key = key("a.example", &on_it);
        let began = Instant::now();
        let answer = redis.get(key.as_str(), &HeaderMap::new()).await;
        answer.is_err() && began.elapsed() < Duration::from_millis(5)
    })
    .await;
    assert_eq!(redis.state(), RedisState::Up);
    assert!(
        get(&redis, &elsewhere).await.is_some(),
        "the others are served"
    );
    cluster.promoted(&name(&on_it), lost).await;
    let began = Instant::now();
    until("its replica serves its keys", async || {
        let key = key("a.example", &on_it);
        matches!(
            redis.get(key.as_str(), &HeaderMap::new()).await,
            Ok(Some(_))
        )
    })
    .await;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(2),
        "{took:?} after the promotion"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_log_has_no_master_redis_is_away_and_purges_wait() {
    let mut cluster = RedisCluster::start().await;
    for node in &cluster.nodes {
        node.command::<()>(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let (one, two) = (member(&cluster).await, member(&cluster).await);
    let logs = cluster.master_for(LOG).unwrap();
    let other = (0..3).find(|at| *at != logs).unwrap();
    let id = ids(&cluster, other).0;
    put(&one, object(&id, &["team"], one.log().position())).await;
    let there = object(&id, &["team"], two.log().position());
    cluster.nodes[logs].kill();
    let name = key("a.example", &id);
    until("Redis counts as down", async || {
        let answer = one.get(name.as_str(), &HeaderMap::new()).await;
        assert!(!matches!(answer, Ok(Some(_))) || one.state() == RedisState::Up);
        matches!(one.state(), RedisState::Down { .. })
    })
    .await;
    assert!(one.get(name.as_str(), &HeaderMap::new()).await.is_err());
    let receipt = one.log().invalidate(&[tag("team")], now()).await;
    assert_eq!((receipt.sequence, receipt.scope), (None, Scope::Node));
    cluster.promoted(LOG, logs).await;
    let began = Instant::now();
    until("the purge has been sent", async || one.log().pending() == 0).await;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(2),
        "{took:?} after the promotion"
    );
    until("the other node obeys", async || {
        two.log().verdict(&there) == Verdict::Dead
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_are_followed() {
    let cluster = RedisCluster::start().await;
    let (one, two) = (member(&cluster).await, member(&cluster).await);
    let logs = cluster.master_for(LOG).unwrap();
    let epoch = one.log().position().epoch;
    // The log moves to the replica, orderly: nothing is lost, and no epoch begins.
    cluster.fail_over_to(cluster.replica_of(logs).unwrap());
    cluster.promoted(LOG, logs).await;
    let fetched = object("1", &["team"], two.log().position());
    until("a purge is taken by the new master", async || {
        one.log().invalidate(&[tag("team")], now()).await.scope == Scope::Fleet
    })
    .await;
    until("the other node obeys", async || {
        two.log().verdict(&fetched) == Verdict::Dead
    })
    .await;
    assert_eq!(two.log().position().epoch, epoch);

    // A slot that is on its way: what is not there any more is asked for where it goes.
    let id = "7";
    let from = cluster.master_for(&name(id)).unwrap();
    let to = (0..6).find(|at| *at != from && cluster.replica_of(*at).is_some());
    let to = to.unwrap();
    let slot: u16 = cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", &name(id)]);
    let slot = slot.to_string();
    let set = |at: usize, state: &str, other: usize| {
        let words = ["CLUSTER", "SETSLOT", &slot, state, &cluster.id(other)];
        cluster.nodes[at].command::<()>(&words);
    };
    set(to, "IMPORTING", from);
    set(from, "MIGRATING", to);
    put(&one, object(id, &[], one.log().position())).await;
    assert_eq!(cluster.nodes[from].keys(&name(id)).len(), 0);
    assert_eq!(
        cluster.nodes[to].keys(&name(id)).len(),
        1,
        "written where it goes"
    );
    assert!(get(&two, id).await.is_some());
    set(to, "NODE", to);
    set(from, "NODE", to);
    assert!(get(&two, id).await.is_some(), "after the move");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_before_its_cluster_and_says_what_it_waits_for() {
    let server = Server::start();
    let config = RedisConfig::new(Servers::Cluster(vec![endpoint(server.port())]));
    let redis = Redis::start(&config, Limits::default(), &CLOCK).unwrap();
    until("the reason is told", async || {
        matches!(redis.state(), RedisState::Down { reason, .. } if reason.contains("redis.cluster"))
    })
    .await;
}
