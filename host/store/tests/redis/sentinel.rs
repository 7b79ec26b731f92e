//! Redis Sentinel.

use crate::redis_sentinel::RedisSentinel;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_harness_fails_over_and_back() {
    let mut group = RedisSentinel::start().await;
    assert_eq!(group.master(), Some(0));
    group.servers[0].kill();
    let now = group.promoted(0).await;
    group.servers[0].revive().await;
    group.settled().await;
    group.fail_over().await;
    group.promoted(now).await;
}
