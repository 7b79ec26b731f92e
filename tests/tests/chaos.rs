//! The scenarios of `cargo xtask chaos`, slower and shorter: what must hold at any speed.

use std::time::Duration;

use weir_tests::chaos::{Scale, Scenario, run};

async fn holds(scenario: Scenario) {
    let scale = Scale {
        rate: 150,
        calm: Duration::from_secs(1),
        away: Duration::from_secs(4),
        // A machine that is busy with other tests is no slow Redis.
        deadline: Duration::from_secs(5),
        rounds: 3,
        shown: std::env::var_os("WEIR_SHOW").is_some(),
    };
    let report = run(scenario, scale).await;
    let wrong = report.wrong(false);
    assert!(wrong.is_empty(), "{wrong:?}\n{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_and_back_with_its_data_fails_no_request_and_breaks_no_promise() {
    holds(Scenario::RedisKill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_frozen_fails_no_request_and_breaks_no_promise() {
    holds(Scenario::RedisPause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_back_empty_fails_no_request_and_breaks_no_promise() {
    holds(Scenario::RedisEmpty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_by_sentinels_fails_no_request_and_breaks_no_promise() {
    holds(Scenario::SentinelFailover).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_a_master_fails_no_request_and_breaks_no_promise() {
    holds(Scenario::ClusterNodeLoss).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_nodes_that_miss_at_once_fetch_twice_at_most() {
    holds(Scenario::Stampede).await;
}
