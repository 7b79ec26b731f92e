//! Rate limits over two nodes.

use weir_store::rate_limit::RateLimiter;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_admit_exactly_the_limit() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let limiters = [RateLimiter::new(Some(&one)), RateLimiter::new(Some(&two))].map(Arc::new);
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..200 {
        let limiter = Arc::clone(&limiters[at % 2]);
        tasks.spawn(async move { limiter.check("api", "10.0.0.1", 50, HOUR).await });
    }
    let verdicts = tasks.join_all().await;
    assert_eq!(
        verdicts.iter().filter(|verdict| verdict.allowed).count(),
        50
    );
    let mut remaining: Vec<_> = verdicts
        .iter()
        .filter(|it| it.allowed)
        .map(|it| it.remaining)
        .collect();
    remaining.sort_unstable();
    assert!(remaining.iter().copied().eq(0..50), "{remaining:?}");
    let refused = verdicts.iter().find(|verdict| !verdict.allowed).unwrap();
    assert!(refused.retry_after > Duration::ZERO && refused.retry_after <= HOUR / 50);
    assert!(limiters[0].check("api", "10.0.0.2", 50, HOUR).await.allowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_admits_again_after_what_it_said() {
    let server = Server::start();
    let redis = node(&server).await;
    let limiter = RateLimiter::new(Some(&redis));
    let window = Duration::from_millis(400);
    assert!(limiter.check("b", "c", 1, window).await.allowed);
    let refused = limiter.check("b", "c", 1, window).await;
    assert!(!refused.allowed && refused.retry_after <= window);
    until("it admits again", async || {
        limiter.check("b", "c", 1, window).await.allowed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_node_counts_for_itself() {
    let mut server = Server::start();
    let redis = node(&server).await;
    let limiter = RateLimiter::new(Some(&redis));
    server.kill();
    let mut allowed = 0;
    for _ in 0..10 {
        allowed += u32::from(limiter.check("b", "c", 3, HOUR).await.allowed);
    }
    assert_eq!(allowed, 3);
}
