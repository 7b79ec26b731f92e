//! Redis Cluster.

use crate::redis_cluster::RedisCluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_harness_loses_a_node_and_gets_it_back() {
    let mut cluster = RedisCluster::start().await;
    let lost = cluster.master_for("a").unwrap();
    cluster.nodes[lost].kill();
    let now = cluster.promoted("a", lost).await;
    cluster.nodes[lost].revive().await;
    cluster.settled().await;
    let replica = cluster.replica_of(now).unwrap();
    cluster.fail_over_to(replica);
    assert_eq!(cluster.promoted("a", now).await, replica);
}
