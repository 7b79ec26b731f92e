//! The command line: check, explain, purge, event, deploy, rollback, status.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use weir_tests::component::marked;
use weir_tests::port::Port;
use weir_tests::weir::Run;
use weir_tests::{
    Config, Origin, RedisServer, Reply, Scratch, Weir, charity, guests, weir_command,
};

/// A configuration of the charity policy that lies in a scratch directory; nothing runs.
async fn offline() -> Scratch {
    let origin = charity::origin().await;
    let scratch = Scratch::new();
    let text = charity::config(&origin).text().replace("{port}", "8080");
    scratch.write("weir.toml", text.replace("{admin}", "9900"));
    scratch
}

async fn tagged() -> (Origin, Weir) {
    let origin = Origin::with(|call| {
        Reply::page(call)
            .cache("max-age=600")
            .header("surrogate-key", "pages")
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    (origin, node)
}

/// Runs a command against a node's admin API.
async fn with_admin(node: &Weir, words: &[&str]) -> Run {
    let mut all = words.to_vec();
    all.extend(["--admin", node.admin().base()]);
    weir_command(node.scratch().path(), &all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn check_accepts_what_run_runs() {
    let scratch = offline().await;
    let run = weir_command(scratch.path(), &["check", "-c", "weir.toml"]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_tells_route_policy_key_and_what_was_read_without_a_node() {
    let scratch = offline().await;
    let url = "http://api.example.org/users/42";
    let run = weir_command(scratch.path(), &["explain", "-c", "weir.toml", url]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    for told in ["/users/{id}", "charity@", "user:profile:42"] {
        assert!(
            run.stdout.contains(told),
            "{told:?} is not in:\n{}",
            run.stdout
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_redacts_credentials() {
    let scratch = offline().await;
    let words = [
        "explain",
        "-c",
        "weir.toml",
        "-H",
        "Authorization: Bearer s3cret-token",
        "-H",
        "Cookie: session=s3cret-cookie",
        "http://api.example.org/users/42",
    ];
    let run = weir_command(scratch.path(), &words).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(!run.all().contains("s3cret"), "{}", run.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_explanation_agrees_with_the_offline_one() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    let url = node
        .url("/users/42")
        .replace(':', "%3A")
        .replace('/', "%2F");
    let answer = node.admin().get(&format!("/v1/explain?url={url}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.text().contains("user:profile:42"),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_removes_and_says_where_that_holds() {
    let (_origin, node) = tagged().await;
    let url = node.url("/p");
    for selector in [
        vec!["--tag", "pages"],
        vec!["--url", url.as_str()],
        vec!["--all"],
    ] {
        node.until_hit("/p").await;
        let mut words = vec!["purge"];
        words.extend(&selector);
        let run = with_admin(&node, &words).await;
        assert_eq!(run.code, Some(0), "{}", run.all());
        assert!(run.stdout.contains("this node"), "{}", run.stdout);
        assert!(!node.get("/p").await.is_hit(), "{selector:?}");
    }
    let run = with_admin(&node, &["purge"]).await;
    assert_ne!(run.code, Some(0), "a purge of nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_with_redis_holds_for_the_fleet() {
    let redis = RedisServer::start().await;
    let origin = Origin::with(Reply::page).await;
    let node = Config::plain(&origin.url())
        .redis(&redis.url())
        .start()
        .await;
    let run = with_admin(&node, &["purge", "--all", "--json"]).await;
    let receipt: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(receipt["scope"], "fleet", "{receipt}");
    assert!(receipt["sequence"].is_u64(), "{receipt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_and_a_deploy_and_a_rollback() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    node.until_hit("/users/42").await;
    let run = with_admin(&node, &["event", "user.updated", r#"{"id": 42}"#]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(!node.get("/users/42").await.is_hit());

    let before = node.admin().version("charity").await;
    let component = std::fs::read(guests().charity()).expect("a component");
    let file = node.scratch().write("new.wasm", marked(&component, "new"));
    let file = file.to_string_lossy();
    let run = with_admin(&node, &["deploy", "charity", &file]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    let deployed = node.admin().version("charity").await;
    assert_ne!(deployed, before);
    assert!(run.all().contains(&deployed), "{}", run.all());
    let run = with_admin(&node, &["rollback", "charity"]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert_eq!(node.admin().version("charity").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_names_the_policies_and_their_versions() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    let version = node.admin().version("charity").await;
    let run = with_admin(&node, &["status"]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    for told in ["charity", version.as_str()] {
        assert!(
            run.stdout.contains(told),
            "{told:?} is not in:\n{}",
            run.stdout
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_not_there_is_named() {
    let (scratch, nobody) = (Scratch::new(), Port::reserve());
    let url = format!("http://127.0.0.1:{}", nobody.number());
    let run = weir_command(scratch.path(), &["status", "--admin", &url]).await;
    assert_eq!(run.code, Some(1), "{}", run.all());
    assert!(run.stderr.contains(&url), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_and_taken_from_its_file() {
    let origin = Origin::with(Reply::page).await;
    let tokens = Scratch::new();
    let token = tokens.write("admin.token", "a-token-of-the-tests\n");
    let config = Config::plain(&origin.url());
    let listen = "listen = \"127.0.0.1:{admin}\"\n";
    let with_token = format!("{listen}token_file = {:?}\n", token.display().to_string());
    let node = Config::whole(&config.text().replace(listen, &with_token))
        .start()
        .await;
    let run = with_admin(&node, &["status"]).await;
    assert_eq!(run.code, Some(1), "{}", run.all());
    let file = token.to_string_lossy();
    let run = with_admin(&node, &["status", "--token-file", &file]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
}
