//! Loading a version takes time, and nothing else waits for that.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::sync::Arc;

use serde_json::{Value, json};
use weir_tests::artifact::weir_binary;
use weir_tests::component::{marked, with_cases, with_misdeed};
use weir_tests::{Answer, Config, Origin, RedisServer, Reply, Scratch, Weir, guests, until};

/// A case that passes where the policy behaves.
const CASE: &str = r#"
namespaces = ["test"]
[[case]]
name = "it decides"
request = { url = "https://example.org/slow" }
decision = "lookup"
"#;

async fn origin() -> Origin {
    Origin::with(|call| Reply::page(call).cache("max-age=600")).await
}

fn component() -> Vec<u8> {
    std::fs::read(guests().misbehaving()).expect("the component")
}

/// A node with the policies `p`, of which `more` says more, and `q`. A call may take seconds.
fn config(origin: &Origin, more: &str) -> Config {
    let component = guests().misbehaving();
    let p = format!("cpu_limit = \"3s\"\n{more}");
    Config::misbehaving(&origin.url(), &component.display().to_string(), &p)
        .and("[policies.q]\ncomponent = \"{component}\"\nnamespaces = [\"other\"]\nconfig = { namespace = \"other\" }\n")
        .and("[[routes]]\npath = \"/q/{*rest}\"\nupstream = \"o\"\npolicy = \"q\"\n")
        .file("component", &component)
}

async fn deploy(node: &Weir, policy: &str, component: Vec<u8>) -> Value {
    let answer = node.admin().put_policy(policy, component).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn until_version(node: &Weir, policy: &str, version: &str) {
    until("the version is followed", async || {
        (node.admin().version(policy).await == version).then_some(())
    })
    .await;
}

/// Deploys a version of `p` whose case takes as long as a call may, and fails then. Returns once
/// it has been compiled.
async fn slow(node: &Arc<Weir>) -> tokio::task::JoinHandle<Answer> {
    let slow = with_cases(&with_misdeed(&component(), "endless-loop"), CASE);
    let compiled = node.cpu_of_children();
    let deploying = {
        let node = Arc::clone(node);
        tokio::spawn(async move { node.admin().put_policy("p", slow).await })
    };
    until("the process that compiles it to end", async || {
        (node.cpu_of_children() > compiled).then_some(())
    })
    .await;
    deploying
}

#[test]
fn a_compiler_gives_up_what_nobody_leaves_it_the_time_for() {
    let compile = |milliseconds: &str| {
        let component = std::fs::File::open(guests().misbehaving()).expect("the component");
        std::process::Command::new(weir_binary())
            .args(["compile-component", "--idle-for", milliseconds])
            .stdin(component)
            .output()
            .expect("weir runs")
    };
    let starved = compile("0");
    assert_eq!(starved.status.code(), Some(4), "{starved:?}");
    assert!(starved.stdout.is_empty());
    let compiled = compile("3600000");
    assert_eq!(compiled.status.code(), Some(0));
    assert!(compiled.stdout.starts_with(b"\x7fELF"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_version_is_tested_another_policy_is_sent_and_taken_back() {
    let origin = origin().await;
    let node = Arc::new(config(&origin, "").start().await);
    let first = node.admin().version("q").await;
    deploy(&node, "q", marked(&component(), "two")).await;
    let deploying = slow(&node).await;
    // Nothing that is to be compiled: the processor may be busy with the other one.
    let refused = node.admin().put_policy("q", b"none".to_vec()).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    let back = node.admin().post("/v1/policies/q/rollback", "{}").await;
    assert_eq!(back.json()["version"], json!(first));
    assert!(!deploying.is_finished(), "they have waited for it");
    let refused = deploying.await.expect("an answer");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("it decides"), "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_tested_on_another_node_is_loaded_meanwhile() {
    let (origin, redis) = (origin().await, RedisServer::start().await);
    let one = Arc::new(config(&origin, "").redis(&redis.url()).start().await);
    let two = config(&origin, "").redis(&redis.url()).start().await;
    let version = two.admin().version("p").await;
    // It serves once it follows: what is announced from now on is news.
    assert_eq!(two.get("/a").await.status, 200);
    let deploying = slow(&one).await;
    // It fails on the first node, so it is never released; the other one could not know it.
    let told = "loading a version that another node was told to put in force";
    until("the other node to load it", async || {
        two.output().contains(told).then_some(())
    })
    .await;
    let refused = deploying.await.expect("an answer");
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert_eq!(two.admin().version("p").await, version);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_loads_slowly_keeps_no_other_policy_from_being_followed() {
    let (origin, redis) = (origin().await, RedisServer::start().await);
    let one = config(&origin, "").redis(&redis.url()).data_dir();
    let one = one.start().await;
    // It has the code at hand then: the processor will be busy.
    let slow = with_misdeed(&component(), "endless-loop");
    deploy(&one, "p?activate=false", slow.clone()).await;
    // On this node alone the version has a case, which takes long and fails.
    let dir = Scratch::new();
    let cases = dir.write("cases.toml", CASE);
    let two = config(&origin, &format!("cases = \"{}\"\n", cases.display()));
    let two = two.redis(&redis.url()).start().await;
    let first = two.admin().version("p").await;
    let before = two.admin().version("q").await;
    let deployed = deploy(&one, "q", marked(&component(), "two")).await;
    let version = deployed["version"].as_str().expect("a version");
    until_version(&two, "q", version).await;
    let compiled = two.cpu_of_children();
    deploy(&one, "p", slow).await;
    until("the process that compiles it to end", async || {
        (two.cpu_of_children() > compiled).then_some(())
    })
    .await;
    let back = one.admin().post("/v1/policies/q/rollback", "{}").await;
    assert_eq!(back.json()["version"], json!(before));
    until_version(&two, "q", &before).await;
    let refused = |policy: &Value| policy["last_error"].is_string();
    assert!(!refused(&two.admin().policy("p").await), "it has waited");
    until("the version is refused", async || {
        refused(&two.admin().policy("p").await).then_some(())
    })
    .await;
    assert_eq!(two.admin().version("p").await, first);
}
