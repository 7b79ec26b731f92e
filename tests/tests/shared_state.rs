//! What policies keep for all nodes: limits, sessions, notifications, with a real Redis,
//! well and away.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};
use weir_tests::{Config, Origin, RedisServer, Reply, Weir, charity, until};

/// The limit that these tests set.
const LIMIT: usize = 50;

/// Redis, at a pace that a busy machine keeps: a call that is late is counted by the node's
/// share, which is another test's claim.
fn with_redis(config: Config, redis: &RedisServer) -> Config {
    config.redis(&redis.url()).and("deadline = \"250ms\"\n")
}

/// Nodes that know of each other.
async fn fleet(size: usize, config: impl Fn() -> Config) -> Vec<Arc<Weir>> {
    let mut nodes = Vec::new();
    for _ in 0..size {
        nodes.push(Arc::new(config().start().await));
    }
    for node in &nodes {
        until("a node that knows of all", async || {
            let known = node.admin().metric("weir_nodes", &[]).await;
            (known as usize == size).then_some(())
        })
        .await;
    }
    nodes
}

async fn limited(origin: &Origin, redis: &RedisServer) -> Vec<Arc<Weir>> {
    limited_to(origin, redis, LIMIT, "1h").await
}

async fn limited_to(
    origin: &Origin,
    redis: &RedisServer,
    limit: usize,
    window: &str,
) -> Vec<Arc<Weir>> {
    let settings = format!("login_limit = {limit}, login_window = \"{window}\"");
    fleet(3, || {
        with_redis(charity::config_with(origin, &settings), redis)
    })
    .await
}

/// How many of 100 logins at each node, by four clients at a time, it let through.
async fn storm(nodes: &[Arc<Weir>]) -> Vec<usize> {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..4 * nodes.len() {
        let at = client % nodes.len();
        let node = Arc::clone(&nodes[at]);
        clients.spawn(async move {
            let mut admitted = 0;
            for _ in 0..25 {
                admitted += usize::from(logs_in(&node).await);
            }
            (at, admitted)
        });
    }
    let mut admitted = vec![0; nodes.len()];
    for (at, count) in clients.join_all().await {
        admitted[at] += count;
    }
    admitted
}

/// How many logins were decided by a node's share, since a busy machine's Redis was late, or
/// away.
async fn counted_alone(nodes: &[Arc<Weir>]) -> usize {
    let mut alone = 0.0;
    for node in nodes {
        alone += node
            .admin()
            .metric("weir_rate_limit_alone_total", &[])
            .await;
    }
    alone as usize
}

/// Is a login let through?
async fn logs_in(node: &Weir) -> bool {
    let answer = node.send(Method::POST, "/login", &[], "{}").await;
    match answer.status.as_u16() {
        200 => true,
        429 => false,
        _ => panic!("{answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_together_admit_the_limit() {
    let (origin, redis) = (charity::origin().await, RedisServer::start().await);
    let nodes = limited(&origin, &redis).await;
    let admitted: usize = storm(&nodes).await.iter().sum();
    let late = counted_alone(&nodes).await;
    assert!(
        (LIMIT..=LIMIT + late).contains(&admitted),
        "{admitted}, and {late} answers of Redis were late"
    );
    assert_eq!(origin.count("/login"), admitted);
    let status = nodes[0].admin().get("/v1/status").await.json();
    assert_eq!(status["nodes"]["count"], 3);
    assert_eq!(status["nodes"]["names"].as_array().map(Vec::len), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_under_load_admit_the_limit_in_window_after_window() {
    const LIMIT: usize = 100;
    const WINDOWS: usize = 5;
    let (origin, redis) = (charity::origin().await, RedisServer::start().await);
    let nodes = limited_to(&origin, &redis, LIMIT, "1s").await;
    let began = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..12 {
        let node = Arc::clone(&nodes[client % nodes.len()]);
        clients.spawn(async move {
            let (mut admitted, mut sent) = (0, 0);
            while began.elapsed() < Duration::from_secs(WINDOWS as u64) {
                admitted += usize::from(logs_in(&node).await);
                sent += 1;
            }
            (admitted, sent)
        });
    }
    let counted = clients.join_all().await;
    let admitted: usize = counted.iter().map(|(admitted, _)| admitted).sum();
    let sent: usize = counted.iter().map(|(_, sent)| sent).sum();
    assert!(sent > 2 * WINDOWS * LIMIT, "{sent} are no load");
    // The last requests may end a little after the last window.
    let windows = began.elapsed().as_secs_f64();
    let late = counted_alone(&nodes).await;
    println!("{admitted} of {sent} in {windows:.2} windows of {LIMIT}, {late} by a share");
    let most = LIMIT as f64 * windows.ceil() * 1.01;
    let least = LIMIT as f64 * WINDOWS as f64 * 0.9;
    assert!((least..=most).contains(&(admitted as f64)), "{admitted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_three_nodes_admit_a_third_each_and_tell_it_later() {
    let (origin, mut redis) = (charity::origin().await, RedisServer::start().await);
    let nodes = limited(&origin, &redis).await;
    redis.kill();
    // 16 is a third of 50.
    assert_eq!(storm(&nodes).await, [16, 16, 16]);
    assert_eq!(counted_alone(&nodes).await, 300);
    redis.revive().await;
    for node in &nodes {
        until("Redis in use again", async || {
            let up = node.admin().metric("weir_redis_up", &[]).await;
            (up > 0.0).then_some(())
        })
        .await;
        // Each tells what it admitted with its first question.
        node.send(Method::POST, "/login", &[], "{}").await;
    }
    assert!(storm(&nodes).await.iter().sum::<usize>() <= LIMIT);
    let all = origin.count("/login");
    assert!(all < 2 * LIMIT, "{all} in the window of an outage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_redis_goes_by_the_fleet_that_it_last_knew() {
    let (origin, mut redis) = (charity::origin().await, RedisServer::start().await);
    let settings = format!("login_limit = {LIMIT}, login_window = \"1h\"");
    let nodes = fleet(3, || {
        let limited = charity::config_with(&origin, &settings);
        let kept = format!("data_dir = \"{{dir}}/data\"\n{}", limited.text());
        with_redis(Config::whole(&kept), &redis)
    })
    .await;
    redis.kill();
    let mut nodes: Vec<Weir> = nodes
        .into_iter()
        .map(|node| Arc::try_unwrap(node).expect("nobody else has it"))
        .collect();
    for node in &mut nodes {
        node.kill();
        node.ended().await;
        node.restart().await;
    }
    let nodes: Vec<_> = nodes.into_iter().map(Arc::new).collect();
    assert_eq!(storm(&nodes).await, [16, 16, 16]);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the time that the nodes, which are other processes, go by"
)]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a clock after 1970").as_secs()
}

/// In an hour. Always the same, so that a token is the same whenever it is made.
static EXPIRY: LazyLock<u64> = LazyLock::new(|| now() + 3_600);

/// A JWT of a user, good for an hour.
fn token(id: &str, user: &str) -> String {
    let claims = json!({"jti": id, "sub": user, "exp": *EXPIRY}).to_string();
    format!("{}.{}.c2ln", base64url(b"{}"), base64url(claims.as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let padded = [chunk, &[0; 2]].concat();
        let bits = u32::from(padded[0]) << 16 | u32::from(padded[1]) << 8 | u32::from(padded[2]);
        for at in 0..=chunk.len() {
            let letter = bits >> (18 - 6 * at) & 63;
            text.push(char::from(LETTERS[letter as usize]));
        }
    }
    text
}

/// An origin that issues the token that a login asks for, and knows every session.
async fn issuing() -> Origin {
    let origin = charity::origin().await;
    let issue = |call: &weir_tests::Call| {
        let wanted = call.header("x-wanted").unwrap_or_default();
        Reply::ok().header("x-session-token", wanted).text("{}")
    };
    origin.on("/login", issue);
    origin.on("/refresh", issue);
    origin.under("/sessions/", |call| {
        Reply::page(call).header("x-session-expires", (now() + 3_600).to_string())
    });
    origin
}

async fn two(origin: &Origin, redis: &RedisServer) -> Vec<Arc<Weir>> {
    fleet(2, || with_redis(charity::config(origin), redis)).await
}

async fn login(node: &Weir, token: &str) {
    let wanted = [("x-wanted", token)];
    let answer = node.send(Method::POST, "/login", &wanted, "{}").await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn session(node: &Weir, id: &str) -> u16 {
    // One name for all nodes, so that they share what they store.
    let site = [("host", "api.example")];
    let answer = node.get_with(&format!("/sessions/{id}"), &site).await;
    answer.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_refused_on_every_node_at_once() {
    let (origin, redis) = (issuing().await, RedisServer::start().await);
    let nodes = two(&origin, &redis).await;
    for id in ["one", "two", "three", "four"] {
        login(&nodes[0], &token(id, "42")).await;
        for node in &nodes {
            assert_eq!(session(node, id).await, 200, "{id}");
        }
    }
    let kept: Vec<String> = redis.keys("weir:{session:refresh:one}:kv");
    assert_eq!(kept.len(), 1, "under the record's name");
    let ttl: i64 = redis.command(&["TTL", &kept[0]]);
    assert!(
        (3_500..=3_600).contains(&ttl),
        "as long as the token: {ttl}"
    );

    let revoked = json!({"id": "one"});
    nodes[0].admin().event("session.revoked", revoked).await;
    let deleted = nodes[1]
        .send(Method::DELETE, "/sessions/two", &[], "")
        .await;
    assert_eq!(deleted.status, 200);
    for node in &nodes {
        assert_eq!(session(node, "one").await, 401);
        assert_eq!(session(node, "two").await, 401);
        assert_eq!(session(node, "three").await, 200);
    }
    let three = token("three", "42");
    let refresh = async |node: &Weir| {
        let fields = [
            ("x-session-token", three.as_str()),
            ("x-wanted", &token("five", "42")),
        ];
        node.send(Method::POST, "/refresh", &fields, "")
            .await
            .status
    };
    assert_eq!(refresh(&nodes[1]).await, 200);
    assert_eq!(refresh(&nodes[0]).await, 401, "it was replaced");
    assert_eq!(session(&nodes[0], "five").await, 200);

    let user = json!({"id": 42});
    nodes[1].admin().event("user.logged_out", user).await;
    for (node, id) in [(0, "three"), (0, "four"), (1, "four"), (1, "five")] {
        assert_eq!(session(&nodes[node], id).await, 401, "{id}");
    }
    login(&nodes[1], &token("six", "42")).await;
    assert_eq!(session(&nodes[0], "six").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_the_origin_judges_sessions_and_revocations_wait() {
    let (origin, mut redis) = (issuing().await, RedisServer::start().await);
    let nodes = two(&origin, &redis).await;
    login(&nodes[0], &token("one", "42")).await;
    assert_eq!(session(&nodes[0], "one").await, 200);
    redis.kill();
    let before = origin.count("/sessions/one");
    for _ in 0..3 {
        assert_eq!(session(&nodes[0], "one").await, 200);
    }
    assert_eq!(origin.count("/sessions/one"), before + 3, "not from memory");
    let delete = nodes[0].send(Method::DELETE, "/sessions/one", &[], "");
    let delete = delete.await;
    assert_eq!(delete.status, 503);
    assert_eq!(delete.header("retry-after").as_deref(), Some("5"));
    let event = json!({"type": "session.revoked", "data": {"id": "one"}}).to_string();
    assert_eq!(nodes[0].admin().post("/v1/events", event).await.status, 503);
    // A login goes on: its token is the origin's to judge.
    login(&nodes[0], &token("two", "42")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_taken_once_from_whichever_node_by_its_user_alone() {
    let (origin, redis) = (issuing().await, RedisServer::start().await);
    let nodes = two(&origin, &redis).await;
    login(&nodes[0], &token("one", "42")).await;
    login(&nodes[0], &token("other", "7")).await;
    let take = async |node: &Weir, token: &str| {
        let bearer = format!("Bearer {token}");
        let fields = [("authorization", bearer.as_str())];
        node.get_with("/users/42/notifications", &fields).await
    };
    let mine = token("one", "42");
    assert_eq!(take(&nodes[0], &mine).await.status, 204);
    for n in [1, 2] {
        let data = json!({"id": 42, "notification": {"n": n}});
        let done = nodes[0].admin().event("notification.created", data).await;
        assert_eq!(done["selectors"], json!([]));
    }
    assert_eq!(take(&nodes[1], &token("other", "7")).await.status, 403);
    assert_eq!(take(&nodes[1], "one").await.status, 401);
    let taken = take(&nodes[1], &mine).await;
    let expected: Value = json!({"notifications": [{"n": 1}, {"n": 2}]});
    assert_eq!((taken.status.as_u16(), taken.json()), (200, expected));
    assert_eq!(taken.header("cache-control").as_deref(), Some("no-store"));
    assert_eq!(take(&nodes[0], &mine).await.status, 204);
    assert_eq!(origin.count("/users/42/notifications"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_takes_notifications_from_redis_with_its_own_commands() {
    let (origin, redis) = (issuing().await, RedisServer::start().await);
    let nodes = two(&origin, &redis).await;
    for (at, node) in nodes.iter().enumerate() {
        let data = json!({"id": 42, "notification": {"n": at}});
        node.admin().event("notification.created", data).await;
    }
    let queue = "weir:{user:notifications:42}:kv";
    let waiting: Vec<String> = redis.command(&["LRANGE", queue, "0", "-1"]);
    assert_eq!(waiting, [r#"{"n":0}"#, r#"{"n":1}"#], "oldest first");
    let ttl: u64 = redis.command(&["TTL", queue]);
    assert!((600_000..=604_800).contains(&ttl), "seven days: {ttl}");
    let taken: (String, String) = redis.command(&["BLPOP", queue, "1"]);
    assert_eq!(taken.1, r#"{"n":0}"#);
    // What a consumer took, no node hands out.
    login(&nodes[0], &token("one", "42")).await;
    let bearer = format!("Bearer {}", token("one", "42"));
    let fields = [("authorization", bearer.as_str())];
    let left = nodes[0].get_with("/users/42/notifications", &fields).await;
    assert_eq!(left.json(), json!({"notifications": [{"n": 1}]}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_leaves_the_fleet_and_one_that_dies_is_forgotten() {
    let (origin, redis) = (charity::origin().await, RedisServer::start().await);
    let mut nodes = limited(&origin, &redis).await;
    let there = || -> usize { redis.command(&["HLEN", "weir:nodes"]) };
    let stopped = nodes.pop().expect("three nodes");
    let mut stopped = Arc::try_unwrap(stopped).expect("nobody else has it");
    stopped.terminate();
    stopped.ended().await;
    assert_eq!(there(), 2);
    drop(nodes.pop());
    weir_tests::poll::until_within(Duration::from_secs(30), "one node", async || {
        let known = nodes[0].admin().metric("weir_nodes", &[]).await;
        (known as usize == 1 && there() == 1).then_some(())
    })
    .await;
}
