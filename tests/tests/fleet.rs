//! A deploy to one node is one to the fleet.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::path::Path;

use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};
use weir_tests::component::marked;
use weir_tests::origin::page_text;
use weir_tests::weir::weir_command;
use weir_tests::{Config, Origin, RedisServer, Reply, Weir, guests, until};

async fn origin() -> Origin {
    Origin::with(|call| Reply::page(call).cache("max-age=600")).await
}

/// A node whose policy `p` is the misbehaving one, which behaves.
fn config(origin: &Origin, more: &str) -> Config {
    config_of(origin, &guests().misbehaving(), more)
}

fn config_of(origin: &Origin, component: &Path, more: &str) -> Config {
    Config::misbehaving(&origin.url(), &component.display().to_string(), more)
}

async fn node(origin: &Origin, redis: &RedisServer) -> Weir {
    config(origin, "")
        .redis(&redis.url())
        .data_dir()
        .start()
        .await
}

/// A component that decides as the first one does, and is another one.
fn version(mark: &str) -> Vec<u8> {
    let component = std::fs::read(guests().misbehaving()).expect("the component");
    marked(&component, mark)
}

async fn deploy(node: &Weir, component: Vec<u8>) -> Value {
    let answer = node.admin().put_policy("p", component).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn rollback(node: &Weir) -> Value {
    let answer = node.admin().post("/v1/policies/p/rollback", "{}").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn until_version(node: &Weir, version: &Value) {
    let wanted = version.as_str().expect("a version");
    until(&format!("version {wanted} in force"), async || {
        (node.admin().version("p").await == wanted).then_some(())
    })
    .await;
}

/// The version that decides a request.
async fn decided_by(node: &Weir, path: &str) -> Value {
    let answer = node.get(path).await;
    assert_eq!(answer.text(), page_text(path, 1));
    let detail = answer.cache().detail.expect("a policy decided");
    let (_, version) = detail.rsplit_once('@').expect("name@version");
    json!(version)
}

async fn fleet(node: &Weir) -> Value {
    node.admin().get("/v1/fleet").await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_to_one_node_is_on_all_and_so_is_its_rollback() {
    let (origin, redis) = (origin().await, RedisServer::start().await);
    let nodes = [
        node(&origin, &redis).await,
        node(&origin, &redis).await,
        node(&origin, &redis).await,
    ];
    let first = json!(nodes[0].admin().version("p").await);
    let deployed = deploy(&nodes[0], version("two")).await;
    assert_eq!(deployed["scope"], "fleet", "{deployed}");
    let second = &deployed["version"];
    assert_ne!(*second, first);
    for node in &nodes {
        until_version(node, second).await;
        assert_eq!(decided_by(node, "/a").await, *second);
    }
    let seen = until("all nodes tell that they have followed", async || {
        let seen = fleet(&nodes[1]).await;
        let list = seen["nodes"].as_array().cloned().unwrap_or_default();
        let followed = |node: &&Value| node["policies"]["p"]["revision"] == deployed["revision"];
        (list.iter().filter(followed).count() == 3).then_some(seen)
    })
    .await;
    let release = &seen["releases"]["p"];
    assert_eq!(
        (&release["version"], &release["previous"], &release["scope"]),
        (second, &first, &json!("fleet"))
    );

    // On another node than it was deployed to.
    let back = rollback(&nodes[2]).await;
    assert_eq!(
        (&back["version"], &back["scope"]),
        (&first, &json!("fleet"))
    );
    for node in &nodes {
        until_version(node, &first).await;
    }
    let back = rollback(&nodes[1]).await;
    assert_eq!(back["version"], *second, "they have changed places");
    for node in &nodes {
        until_version(node, second).await;
    }
    let audit = nodes[0].admin().get("/v1/audit").await.json();
    let newest = &audit["changes"][0];
    assert_eq!(
        (&newest["action"], &newest["by"], &newest["version"]),
        (&json!("followed"), &json!("fleet"), second)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_has_what_it_missed_before_it_serves() {
    let (origin, redis) = (origin().await, RedisServer::start().await);
    let one = node(&origin, &redis).await;
    let mut two = node(&origin, &redis).await;
    let first = deploy(&one, version("two")).await["version"].clone();
    until_version(&two, &first).await;
    two.terminate();
    two.ended().await;
    let second = deploy(&one, version("three")).await["version"].clone();
    two.start_again().await;
    assert_eq!(decided_by(&two, "/first-request").await, second);
    // It has the version before, too, which it never had in force.
    assert_eq!(rollback(&two).await["version"], first);
    until_version(&one, &first).await;
    // A node that comes new has the same file, and follows as well; also what is before.
    let three = node(&origin, &redis).await;
    assert_eq!(decided_by(&three, "/another").await, first);
    assert_eq!(three.admin().policy("p").await["previous"], second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_redis_has_what_it_was_told_last() {
    let (origin, mut redis) = (origin().await, RedisServer::start().await);
    let one = node(&origin, &redis).await;
    let mut two = node(&origin, &redis).await;
    let first = json!(two.admin().version("p").await);
    let told = deploy(&one, version("two")).await["version"].clone();
    until_version(&two, &told).await;
    // Written down a moment after it is in force.
    until("it is kept", async || {
        let kept = two.scratch().path().join("data/policies/releases.json");
        let text = std::fs::read_to_string(kept).ok()?;
        text.contains(told.as_str()?).then_some(())
    })
    .await;
    redis.kill();
    two.kill_and_start().await;
    assert_eq!(decided_by(&two, "/a").await, told);
    let back = rollback(&two).await;
    assert_eq!((&back["version"], &back["scope"]), (&first, &json!("node")));
    let seen = fleet(&two).await;
    assert!(seen["alone"].is_string(), "{seen}");
    // Redis has lost everything meanwhile; who was told last tells it.
    redis.revive().await;
    until_version(&one, &first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_redis_has_lost_the_nodes_put_back() {
    let (origin, redis) = (origin().await, RedisServer::start().await);
    let one = node(&origin, &redis).await;
    let told = deploy(&one, version("two")).await["version"].clone();
    let () = redis.command(&["FLUSHALL"]);
    until("the release stands again, and its components", async || {
        let keys = redis.keys("weir:{policies}:*");
        let components = keys.iter().filter(|key| key.contains(":content:"));
        (components.count() == 2 && keys.len() == 4).then_some(())
    })
    .await;
    let two = node(&origin, &redis).await;
    assert_eq!(decided_by(&two, "/a").await, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_a_node_keeps_what_was_deployed_until_its_file_is_another() {
    let origin = origin().await;
    let scratch = weir_tests::Scratch::new();
    let file = scratch.path().join("policy.wasm");
    std::fs::write(&file, version("file")).expect("a file");
    let mut node = config_of(&origin, &file, "").data_dir().start().await;
    let of_file = json!(node.admin().version("p").await);
    let deployed = deploy(&node, version("two")).await;
    assert_eq!(deployed["scope"], "node");
    node.kill_and_start().await;
    assert_eq!(decided_by(&node, "/a").await, deployed["version"]);
    assert_eq!(node.admin().policy("p").await["source"], "deployed");
    assert_eq!(rollback(&node).await["version"], of_file);
    assert_eq!(rollback(&node).await["version"], deployed["version"]);

    node.terminate();
    node.ended().await;
    std::fs::write(&file, version("newer")).expect("a file");
    node.start_again().await;
    let policy = node.admin().policy("p").await;
    assert_eq!(policy["source"], "file");
    assert_ne!(policy["version"], deployed["version"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deployed_while_redis_was_away_reaches_the_others_when_it_is_back() {
    let (origin, mut redis) = (origin().await, RedisServer::start().await);
    let (one, two) = (node(&origin, &redis).await, node(&origin, &redis).await);
    let first = deploy(&one, version("two")).await["version"].clone();
    until_version(&two, &first).await;
    redis.kill();
    let deployed = deploy(&one, version("three")).await;
    assert_eq!(deployed["scope"], "node", "{deployed}");
    assert_eq!(json!(two.admin().version("p").await), first);
    redis.revive().await;
    until_version(&two, &deployed["version"]).await;
    until("it counts as told", async || {
        let release = fleet(&one).await["releases"]["p"].clone();
        (release["scope"] == "fleet").then_some(())
    })
    .await;
}

/// The files of a private and a public key.
fn keys(dir: &Path, name: &str) -> (String, String) {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let files = [".pem", ".pub"].map(|end| dir.join(format!("{name}{end}")));
    std::fs::write(&files[0], key.serialize_pem()).expect("a file");
    std::fs::write(&files[1], key.public_key_pem()).expect("a file");
    let [private, public] = files.map(|file| file.to_str().expect("UTF-8").to_owned());
    (private, public)
}

async fn weir(node: &Weir, words: &[&str]) -> (bool, String) {
    let admin = node.admin().base().to_owned();
    let words: Vec<&str> = words.iter().copied().chain(["--admin", &admin]).collect();
    let run = weir_command(node.scratch().path(), &words).await;
    (run.code == Some(0), run.all())
}

/// Has the command line sign a version and deploy it; what it says.
async fn deploy_signed(node: &Weir, mark: &str, key: &str) -> String {
    let file = node.scratch().write("signed.wasm", version(mark));
    let file = file.to_str().expect("UTF-8");
    let (ok, said) = weir(node, &["deploy", "p", file, "--key", key]).await;
    assert!(ok, "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn with_trusted_keys_nothing_unsigned_is_taken_from_anybody() {
    let (origin, redis) = (origin().await, RedisServer::start().await);
    let scratch = weir_tests::Scratch::new();
    let (private, public) = keys(scratch.path(), "operator");
    let (stranger, _) = keys(scratch.path(), "stranger");
    let trusting = |public: &str| {
        let deploy = format!("[deploy]\ntrusted_keys = [\"{public}\"]\n");
        config(&origin, "").redis(&redis.url()).and(&deploy).start()
    };
    let (mut one, two) = (trusting(&public).await, trusting(&public).await);
    // Of the same fleet, and asks for no signatures: whoever deploys to it reaches nobody else.
    let careless = node(&origin, &redis).await;
    let first = json!(one.admin().version("p").await);
    let file = scratch.path().join("two.wasm");
    std::fs::write(&file, version("two")).expect("a file");
    let file = file.to_str().expect("UTF-8");

    let (ok, said) = weir(&one, &["deploy", "p", file]).await;
    assert!(
        !ok && said.contains("is not signed") && said.contains("--key"),
        "{said}"
    );
    let (ok, said) = weir(&one, &["deploy", "p", file, "--key", &stranger]).await;
    assert!(!ok && said.contains("by none of the keys"), "{said}");
    let (ok, said) = weir(
        &one,
        &["deploy", "p", file, "--key", &stranger, "--shadow", "5"],
    )
    .await;
    assert!(!ok && said.contains("by none of the keys"), "{said}");
    assert_eq!(json!(one.admin().version("p").await), first);

    let (ok, said) = weir(&careless, &["deploy", "p", file, "--key", &stranger]).await;
    assert!(!ok && said.contains("on 1 of 3 nodes"), "{said}");
    assert!(
        said.contains("by none of the keys") && said.contains("weir rollback p"),
        "{said}"
    );
    for node in [&one, &two] {
        assert_eq!(json!(node.admin().version("p").await), first);
    }
    let (ok, said) = weir(&careless, &["rollback", "p"]).await;
    assert!(ok && said.contains("on all 3 nodes"), "{said}");

    let (ok, said) = weir(&one, &["deploy", "p", file, "--key", &private]).await;
    assert!(ok && said.contains("on all 3 nodes"), "{said}");
    let second = json!(one.admin().version("p").await);
    assert_ne!(second, first);
    assert_eq!(json!(two.admin().version("p").await), second);
    let (ok, said) = weir(&two, &["rollback", "p"]).await;
    assert!(ok && said.contains("on all 3 nodes"), "{said}");
    let (ok, said) = weir(&two, &["status", "--fleet"]).await;
    assert!(
        ok && said.matches(first.as_str().expect("text")).count() >= 3,
        "{said}"
    );

    // A version that is loaded again with other settings is still signed.
    let (ok, said) = weir(&one, &["deploy", "p", file, "--key", &private]).await;
    assert!(ok, "{said}");
    one.rewrite(|config| config.replace("namespaces =", "reuse = 5\nnamespaces ="));
    one.hangup();
    until("it is loaded again", async || {
        one.output().contains("policy loaded").then_some(())
    })
    .await;
    let said = deploy_signed(&one, "three", &private).await;
    assert!(said.contains("on all 3 nodes"), "{said}");
    let (ok, said) = weir(&one, &["rollback", "p"]).await;
    assert!(ok && said.contains("on all 3 nodes"), "{said}");
    assert_eq!(json!(two.admin().version("p").await), second);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_trusted_keys_nothing_unsigned_is_resumed_from_the_nodes_own_directory() {
    let origin = origin().await;
    let scratch = weir_tests::Scratch::new();
    let (private, public) = keys(scratch.path(), "operator");
    // Whoever can write to the directory could have put it there.
    let mut node = config(&origin, "").data_dir().start().await;
    let of_file = json!(node.admin().version("p").await);
    let unsigned = deploy(&node, version("two")).await["version"].clone();
    node.restart().await;
    assert_eq!(decided_by(&node, "/a").await, unsigned);

    let trusting = format!("[deploy]\ntrusted_keys = [\"{public}\"]\n");
    node.rewrite(|config| format!("{config}{trusting}"));
    node.restart().await;
    assert_eq!(decided_by(&node, "/a").await, of_file);
    let policy = node.admin().policy("p").await;
    assert_eq!(policy["source"], "file", "{policy}");
    let error = policy["last_error"].as_str().unwrap_or_default();
    assert!(error.contains("is not signed"), "{policy}");

    deploy_signed(&node, "three", &private).await;
    let signed = json!(node.admin().version("p").await);
    node.restart().await;
    assert_eq!(decided_by(&node, "/a").await, signed);
    assert_eq!(node.admin().policy("p").await["last_error"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_trusted_keys_no_rollback_brings_an_unsigned_version_back_after_a_restart() {
    let origin = origin().await;
    let scratch = weir_tests::Scratch::new();
    let (private, public) = keys(scratch.path(), "operator");
    let mut node = config(&origin, "").data_dir().start().await;
    let unsigned = deploy(&node, version("two")).await["version"].clone();
    deploy_signed(&node, "three", &private).await;
    let signed = json!(node.admin().version("p").await);
    node.restart().await;
    assert_eq!(node.admin().policy("p").await["previous"], unsigned);

    let trusting = format!("[deploy]\ntrusted_keys = [\"{public}\"]\n");
    node.rewrite(|config| format!("{config}{trusting}"));
    node.restart().await;
    let policy = node.admin().policy("p").await;
    assert_eq!(
        (&policy["version"], &policy["previous"]),
        (&signed, &Value::Null),
        "{policy}"
    );
    let answer = node.admin().post("/v1/policies/p/rollback", "{}").await;
    let told = (answer.status.as_u16(), answer.text());
    assert!(
        told.0 == 400 && told.1.contains("is not signed"),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_follow_is_seen_and_all_are_rolled_back_together() {
    let (origin, redis) = (origin().await, RedisServer::start().await);
    let capable = config(
        &origin,
        "grants = [\"kv\", \"rate-limit\", \"log\", \"clock\"]\n",
    );
    let capable = capable.redis(&redis.url()).start().await;
    let mut plain = node(&origin, &redis).await;
    let first = json!(plain.admin().version("p").await);
    let file = guests().charity();
    let (ok, said) = weir(&capable, &["deploy", "p", file.to_str().expect("UTF-8")]).await;
    assert!(!ok, "{said}");
    assert!(said.contains("on 1 of 2 nodes"), "{said}");
    assert!(
        said.contains("it refused it") && said.contains("grant"),
        "{said}"
    );
    let second = json!(capable.admin().version("p").await);
    assert_eq!(
        json!(plain.admin().version("p").await),
        first,
        "it serves on"
    );
    let (_, said) = weir(&plain, &["status", "--fleet"]).await;
    assert!(said.contains("has refused a version of p"), "{said}");
    until("the metric counts it", async || {
        let behind = plain.admin().metric("weir_policies_behind", &[]).await;
        (behind == 1.0).then_some(())
    })
    .await;
    assert!(said.contains(second.as_str().expect("text")), "{said}");

    let (ok, said) = weir(&plain, &["rollback", "p"]).await;
    assert!(ok && said.contains("on all 2 nodes"), "{said}");
    assert_eq!(json!(capable.admin().version("p").await), first);
    let seen = fleet(&plain).await;
    for node in seen["nodes"].as_array().expect("nodes") {
        assert_eq!(node["policies"]["p"]["error"], Value::Null, "{seen}");
    }
    let policy = plain.admin().policy("p").await;
    assert_eq!(
        policy["last_error"],
        Value::Null,
        "it is of no matter any more"
    );

    // With what it lacked it follows.
    let (ok, _) = weir(&capable, &["deploy", "p", file.to_str().expect("UTF-8")]).await;
    assert!(!ok);
    let grants = "grants = [\"kv\", \"rate-limit\", \"clock\"]\nnamespaces =";
    plain.rewrite(|config| config.replace("namespaces =", grants));
    plain.hangup();
    until_version(&plain, &second).await;
}
