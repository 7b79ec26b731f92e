//! Rate limits over several nodes.

use weir_store::rate_limit::RateLimiter;
use weir_store::roster::LiveNodes;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// How many of these nodes the fleet has, by what each has heard.
fn heard_of(count: usize) -> LiveNodes {
    let nodes = LiveNodes::default();
    nodes.heard(Vec::new(), count);
    nodes
}

fn limiter(redis: &Redis, nodes: usize) -> Arc<RateLimiter> {
    Arc::new(RateLimiter::shared(redis, heard_of(nodes)))
}

/// How many of `times` requests of one client are admitted, against 60 in an hour.
async fn admitted(limiter: &RateLimiter, times: usize) -> usize {
    let mut admitted = 0;
    for _ in 0..times {
        admitted += usize::from(limiter.check("b", "c", 60, HOUR).await.allowed);
    }
    admitted
}

async fn answers(redis: &Redis) {
    until("Redis answers", async || {
        matches!(redis.state(), weir_store::redis::RedisState::Up)
    })
    .await;
}

async fn is_away(redis: &Redis) {
    until("Redis counts as away", async || {
        let _ = redis.get("http://a|/", &HeaderMap::new()).await;
        matches!(redis.state(), weir_store::redis::RedisState::Down { .. })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_admit_exactly_the_limit() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let limiters = [limiter(&one, 2), limiter(&two, 2)];
    let mut verdicts = Vec::new();
    for bucket in ["api", "again", "once more"] {
        let alone = limiters.each_ref().map(|limiter| limiter.by_share());
        let mut tasks = tokio::task::JoinSet::new();
        for at in 0..200 {
            let limiter = Arc::clone(&limiters[at % 2]);
            tasks.spawn(async move { limiter.check(bucket, "10.0.0.1", 50, HOUR).await });
        }
        verdicts = tasks.join_all().await;
        // Where a busy machine let an answer come late, the claim is another test's.
        if limiters.each_ref().map(|limiter| limiter.by_share()) == alone {
            break;
        }
    }
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
    assert!(refused.retry_after > Duration::ZERO && refused.retry_after <= HOUR);
    assert!(limiters[0].check("api", "10.0.0.2", 50, HOUR).await.allowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_window_of_redis_s_clock_admits_more_than_the_limit() {
    let server = Server::start();
    let redis = node(&server).await;
    let limiter = limiter(&redis, 1);
    let window = Duration::from_millis(300);
    let (began, mut admitted) = (Instant::now(), Vec::new());
    while began.elapsed() < window * 5 {
        let asked = Instant::now();
        let verdict = limiter.check("b", "c", 10, window).await;
        if verdict.allowed {
            // It was admitted between these two.
            admitted.push((asked, Instant::now()));
        } else {
            assert!(verdict.retry_after <= window);
        }
    }
    assert!(
        admitted.len() >= 30,
        "the window slides: {}",
        admitted.len()
    );
    for (at, (first_asked, _)) in admitted.iter().enumerate() {
        // Surely within one window of the first, however late its answer was.
        let surely = admitted[at..]
            .iter()
            .filter(|(_, answered)| answered.duration_since(*first_asked) < window)
            .count();
        assert!(surely <= 10, "{surely} within a window");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_admits_again_after_what_it_said() {
    let server = Server::start();
    let redis = node(&server).await;
    let limiter = limiter(&redis, 1);
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
async fn without_redis_the_shares_of_all_nodes_are_the_limit() {
    let mut server = Server::start();
    let nodes = [
        node(&server).await,
        node(&server).await,
        node(&server).await,
    ];
    let limiters: Vec<_> = nodes.iter().map(|node| limiter(node, 3)).collect();
    server.kill();
    let mut all = 0;
    for limiter in &limiters {
        all += admitted(limiter, 100).await;
    }
    assert_eq!(all, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_begins_with_what_the_node_admitted_before() {
    let mut server = Server::start();
    let redis = node(&server).await;
    let limiter = limiter(&redis, 3);
    assert_eq!(admitted(&limiter, 15).await, 15);
    server.kill();
    assert_eq!(admitted(&limiter, 100).await, 5, "its share is 20");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_redis_refused_no_share_admits() {
    let mut server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let limiters = [limiter(&one, 2), limiter(&two, 2)];
    assert_eq!(admitted(&limiters[0], 61).await, 60);
    assert_eq!(admitted(&limiters[1], 1).await, 0);
    server.kill();
    assert_eq!(admitted(&limiters[1], 100).await, 0);
    let verdict = limiters[1].check("b", "c", 60, HOUR).await;
    assert!(verdict.retry_after > Duration::ZERO && verdict.retry_after <= HOUR);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_admitted_while_redis_was_silent_is_told_it_once() {
    let server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let limiters = [limiter(&one, 2), limiter(&two, 2)];
    assert_eq!(admitted(&limiters[0], 10).await, 10);
    server.pause();
    is_away(&one).await;
    assert_eq!(admitted(&limiters[0], 100).await, 20, "its share is 30");
    server.resume();
    answers(&one).await;
    // This one is counted, and with it those of the outage, once.
    assert_eq!(admitted(&limiters[0], 1).await, 1);
    answers(&two).await;
    assert_eq!(admitted(&limiters[1], 100).await, 29);
    assert_eq!(admitted(&limiters[0], 100).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_empty_is_told_all() {
    let mut server = Server::start();
    let (one, two) = (node(&server).await, node(&server).await);
    let limiters = [limiter(&one, 2), limiter(&two, 2)];
    assert_eq!(admitted(&limiters[0], 25).await, 25);
    assert_eq!(admitted(&limiters[1], 25).await, 25);
    server.kill();
    is_away(&one).await;
    is_away(&two).await;
    server.restart();
    answers(&one).await;
    answers(&two).await;
    assert_eq!(admitted(&limiters[0], 1).await, 1);
    assert_eq!(admitted(&limiters[1], 100).await, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_set_back_shuts_nobody_out_for_longer_than_a_window() {
    let server = Server::start();
    let redis = node(&server).await;
    let limiter = limiter(&redis, 1);
    let mut link = server.connect();
    // As if it had been admitted in the year 2100, by the clock of then.
    let _: () = redis::cmd("SET")
        .arg("weir:{ratelimit:b:c}:rl")
        .arg("x|4102444800000000:4102444800000000:60")
        .query(&mut link)
        .unwrap();
    let verdict = limiter.check("b", "c", 60, HOUR).await;
    assert!(!verdict.allowed && verdict.retry_after <= HOUR);
}
