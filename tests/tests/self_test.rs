//! The cases of a policy: by `weir plugin test` and `build`, and before a version serves.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use weir_tests::artifact::{target_dir, weir_binary, workspace};
use weir_tests::component::{marked, with_cases};
use weir_tests::weir::Run;
use weir_tests::{Config, Origin, RedisServer, Reply, Scratch, Weir, guests, until, weir_command};

/// Cases of the probe that say what holds with these settings.
const PASSING: &str = r#"
namespaces = ["probe"]
config = { key = ["path", { header = "x-shop" }], tags = [[{ text = "shop:" }, { header = "x-shop" }]] }

[[case]]
name = "the shop is in the key"
request = { url = "https://example.org/a", headers = { x-shop = ["one", "two"] } }
response = { headers = { cache-control = "no-cache" } }
decision = "lookup"
key = "probe:/a:one,two"
tags = ["shop:one,two"]
origin = "/a"
stored = true
lifetime = "10m"
stale_while_revalidate = "10m"
stale_if_error = "0s"
invalidates = []

[[case]]
name = "an error is not stored"
config = { key = [{ param = "id" }] }
route = "/users/{id}"
request = { method = "GET", url = "https://example.org:81/users/a%20b" }
response = { status = 500, headers = { cache-control = "no-store" } }
key = "https://example.org:81|probe:a%20b"
stored = false
reason = "no-store"
"#;

fn probe() -> Vec<u8> {
    std::fs::read(guests().probe()).expect("the component")
}

/// `weir plugin test` of the probe with these cases inside.
async fn tested(cases: &str) -> Run {
    let scratch = Scratch::new();
    scratch.write("p.wasm", with_cases(&probe(), cases));
    weir_command(scratch.path(), &["plugin", "test", "p.wasm"]).await
}

/// `run` has failed, and said all of it.
fn failed_with(run: &Run, told: &[&str]) {
    assert_eq!(run.code, Some(1), "{}", run.all());
    for told in told {
        assert!(
            run.all().contains(told),
            "{told:?} is not in:\n{}",
            run.all()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_case_has_a_line_and_the_sum_stands_last() {
    let run = tested(PASSING).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "ok      the shop is in the key",
            "ok      an error is not stored",
            "2 cases passed"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_fails_says_what_was_expected_and_what_came() {
    for (right, wrong, told) in [
        (
            "one,two\"\ntags",
            "one\"\ntags",
            "key: expected  probe:/a:one\n             came      probe:/a:one,two",
        ),
        (
            "[\"shop:one,two\"]",
            "[]",
            "tags: expected  none\n              came      shop:one,two",
        ),
        (
            "\"lookup\"",
            "\"pass\"",
            "decision: expected  pass\n                  came      lookup",
        ),
        (
            "lifetime = \"10m\"",
            "lifetime = \"1h\"",
            "lifetime: expected  1h\n                  came      10m",
        ),
        (
            "revalidate = \"10m\"",
            "revalidate = \"1s\"",
            "stale_while_revalidate: expected  1s",
        ),
        ("origin = \"/a\"", "origin = \"/b\"", "origin: expected  /b"),
        (
            "invalidates = []",
            "invalidates = [\"tag:a\"]",
            "invalidates: expected  tag:a\n                     came      none",
        ),
        (
            "stored = true",
            "stored = false",
            "stored: expected  not stored\n                came      stored, fresh for 10m",
        ),
        (
            "stored = true",
            "status = 200",
            "status: expected  200\n                came      none: lookup",
        ),
        (
            "81|probe",
            "82|probe",
            "key: expected  https://example.org:82|probe:a%20b",
        ),
        (
            "reason = \"no-store\"",
            "reason = \"private\"",
            "reason: expected  private\n                came      no-store",
        ),
        (
            "stored = false",
            "stored = true",
            "stored: expected  stored\n                came      not stored: no-store",
        ),
        (
            "route = \"/users/{id}\"",
            "route = \"/other/{id}\"",
            "request failed: no route takes host example.org:81 and path /users/a%20b",
        ),
        (
            "route = \"/users/{id}\"",
            "route = \"/users/{id\"",
            "the case failed: route",
        ),
    ] {
        assert!(PASSING.contains(right), "{right}");
        let run = tested(&PASSING.replacen(right, wrong, 1)).await;
        failed_with(&run, &[told, "FAILED", "1 of 2 cases failed"]);
        assert_eq!(run.stdout.matches("ok  ").count(), 1, "{}", run.stdout);
        assert!(
            run.stdout.contains("cases.toml in the component:"),
            "{}",
            run.stdout
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_no_cases_the_test_does_not_pass() {
    let scratch = Scratch::new();
    scratch.write("p.wasm", probe());
    let run = weir_command(scratch.path(), &["plugin", "test", "p.wasm"]).await;
    failed_with(
        &run,
        &["p.wasm has no cases inside: there is nothing to test"],
    );
    let run = weir_command(scratch.path(), &["plugin", "test", "absent.wasm"]).await;
    failed_with(&run, &["absent.wasm cannot be read"]);
    // A file of them in place of those inside.
    scratch.write("cases.toml", PASSING);
    let words = ["plugin", "test", "p.wasm", "--cases", "cases.toml"];
    let run = weir_command(scratch.path(), &words).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    scratch.write(
        "cases.toml",
        PASSING.replace("stored = true", "stored = yes"),
    );
    let run = weir_command(scratch.path(), &words).await;
    failed_with(&run, &["cases.toml:13:10:", "stored = yes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_the_policy_does_not_take_are_said_once() {
    let run = tested(&PASSING.replacen("tags = [[", "tgas = [[", 1)).await;
    failed_with(&run, &["configure: ", "tgas"]);
    let run = tested(&PASSING.replacen("[\"probe\"]", "[\"Probe\"]", 1)).await;
    failed_with(&run, &["the namespace `Probe` is not allowed"]);
    let run = tested(&PASSING.replacen("namespaces = [\"probe\"]", "", 1)).await;
    failed_with(
        &run,
        &[
            "2 of 2 cases failed",
            "on-request failed: the namespace `probe` is not the policy's",
            "`namespaces` of the cases' file",
        ],
    );
}

/// The misbehaving policy with this misdeed.
async fn misdeed(misdeed: &str, case: &str) -> Run {
    let scratch = Scratch::new();
    let component = std::fs::read(guests().misbehaving()).expect("the component");
    scratch.write("p.wasm", component);
    scratch.write("c.toml", format!("namespaces = [\"test\"]\nconfig = {{ misbehave = \"{misdeed}\" }}\n[[case]]\nname = \"it\"\n{case}\n"));
    weir_command(
        scratch.path(),
        &["plugin", "test", "p.wasm", "--cases", "c.toml"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_can_be_expected_and_a_trap_cannot() {
    let asked = "request = { url = \"http://h/a\" }\nresponse = {}\n";
    let event = "event = { type = \"x\" }\n";
    let refused = "decision = \"refused\"";
    for (deed, case, passes, told) in [
        ("error-on-request", format!("{asked}{refused}"), true, "ok"),
        ("error-on-event", format!("{event}{refused}"), true, "ok"),
        (
            "error-on-response",
            format!("{asked}stored = false"),
            true,
            "ok",
        ),
        (
            "error-on-request",
            format!("{asked}decision = \"lookup\""),
            false,
            "came      refused: ",
        ),
        (
            "error-on-event",
            format!("{event}invalidates = []"),
            false,
            "on-event failed: ",
        ),
        (
            "error-on-response",
            format!("{asked}decision = \"lookup\""),
            false,
            "on-response failed: ",
        ),
        (
            "nothing",
            format!("{event}{refused}"),
            false,
            "came      taken",
        ),
        (
            "trap-on-request",
            format!("{asked}{refused}"),
            false,
            "on-request failed: ",
        ),
        (
            "trap-on-response",
            format!("{asked}stored = false"),
            false,
            "on-response failed: ",
        ),
        (
            "trap-on-event",
            format!("{event}{refused}"),
            false,
            "on-event failed: ",
        ),
        (
            "endless-loop",
            format!("{asked}{refused}"),
            false,
            "it used more than its 20 ms of CPU",
        ),
        (
            "trap-in-configure",
            format!("{asked}{refused}"),
            false,
            "configure: ",
        ),
    ] {
        let run = misdeed(deed, &case).await;
        let code = if passes { 0 } else { 1 };
        assert_eq!(run.code, Some(code), "{deed}: {}", run.all());
        assert!(run.all().contains(told), "{deed}: {}", run.all());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_know_nothing_of_one_another() {
    // Its key holds the path of the call before, if there was one.
    let asked = "request = { url = \"http://h/a\" }\n";
    let first = format!("{asked}key = \"test:/a:~:\"\n");
    let before = format!("before = [{{ {} }}]\n{asked}", asked.trim());
    let case = format!(
        "{first}[[case]]\nname = \"again\"\n{first}[[case]]\nname = \"after another\"\n{before}key = \"test:/a:~:/a\"\n"
    );
    let run = misdeed("state-between-calls", &case).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(run.stdout.contains("3 cases passed"), "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_that_take_too_long_end_and_are_no_pass() {
    let step = "{ times = 10000, request = { url = \"http://h/a\" } },\n";
    let case = format!(
        "before = [{}]\nrequest = {{ url = \"http://h/a\" }}\ndecision = \"lookup\"\n[[case]]\nname = \"the next\"\nevent = {{ type = \"x\" }}\ninvalidates = []",
        step.repeat(1_000)
    );
    let run = misdeed("nothing", &case).await;
    failed_with(
        &run,
        &[
            "] failed: all cases together may take 10s",
            "1 of 2 cases failed, 1 not run: all cases together may take 10s",
        ],
    );
}

/// A node of the probe, and the configuration's `[policies.p]` has `more`.
async fn node(more: &str) -> (Origin, Weir) {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = config(&origin, more).start().await;
    (origin, node)
}

fn config(origin: &Origin, more: &str) -> Config {
    let component = guests().probe().display().to_string();
    config_of(origin, &component, more)
}

fn config_of(origin: &Origin, component: &str, more: &str) -> Config {
    Config::new(&format!(
        r#"
[upstreams.origin]
servers = ["{}"]

[policies.p]
component = {component:?}
namespaces = ["probe"]
config = {{ key = ["path"] }}
{more}

[[routes]]
path = "/{{*rest}}"
upstream = "origin"
policy = "p"
"#,
        origin.url()
    ))
}

/// A case that holds with the node's own settings, and another that does not.
fn on_path(key: &str) -> String {
    format!(
        "[[case]]\nname = \"the path is the key\"\nrequest = {{ url = \"http://h/a\" }}\nkey = \"{key}\"\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_whose_cases_fail_changes_nothing() {
    let (_origin, node) = node("").await;
    let before = node.admin().version("p").await;
    node.until_hit("/a").await;
    for (cases, told) in [
        (
            on_path("probe:/b"),
            "cases.toml in the component:2: \"the path is the key\": key: expected probe:/b, came probe:/a",
        ),
        (
            on_path("probe:/a").replace("key", "kye"),
            "cases.toml in the component:4:1: case[0].kye: unknown field",
        ),
        // With settings of its own it is another policy.
        (
            format!(
                "config = {{ key = [{{ text = \"t\" }}] }}\n{}",
                on_path("probe:/a")
            ),
            "key: expected probe:/a, came probe:t",
        ),
    ] {
        let answer = node
            .admin()
            .put_policy("p", with_cases(&probe(), &cases))
            .await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        let error = answer.json()["error"]["message"]
            .as_str()
            .expect("a message")
            .to_owned();
        assert!(error.contains(told), "{told}\nis not in:\n{error}");
        assert_eq!(node.admin().version("p").await, before);
        assert!(node.get("/a").await.is_hit());
        let last = node.admin().policy("p").await["last_error"].clone();
        assert!(
            last.as_str().is_some_and(|last| last.contains(told)),
            "{last}"
        );
    }
    let audit = node.admin().get("/v1/audit").await.json();
    assert_eq!(audit["changes"][0]["action"], "refused", "{audit}");

    // By the command, which prints why.
    let file = node
        .scratch()
        .write("new.wasm", with_cases(&probe(), &on_path("probe:/b")));
    let file = file.display().to_string();
    let words = ["deploy", "p", &file, "--admin", node.admin().base()];
    let run = weir_command(node.scratch().path(), &words).await;
    failed_with(
        &run,
        &[
            "self-test failed: 1 of 1 case failed",
            "key: expected probe:/b, came probe:/a",
        ],
    );

    let answer = node
        .admin()
        .put_policy("p", with_cases(&probe(), &on_path("probe:/a")))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_ne!(node.admin().version("p").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_cases_fail_cannot_be_tried_either() {
    let (_origin, node) = node("").await;
    let component = with_cases(&probe(), &on_path("probe:/b"));
    let url = format!("{}/v1/policies/p?activate=false", node.admin().base());
    let answer = weir_tests::Answer::of(
        node.client()
            .put(url)
            .header("content-type", "application/wasm")
            .body(component),
    )
    .await
    .expect("an answer");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(
        answer.text().contains("self-test failed"),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cases_beside_the_component_are_run_with_the_node_s_settings() {
    let origin = Origin::with(Reply::page).await;
    let scratch = Scratch::new();
    scratch.write("p.cases.toml", on_path("probe:/b"));
    let text = config(&origin, "cases = \"p.cases.toml\"")
        .text()
        .replace("{port}", "8080");
    let file = scratch.write("weir.toml", text.replace("{admin}", "9900"));
    let line = 1 + std::fs::read_to_string(&file)
        .expect("it")
        .lines()
        .position(|line| line.starts_with("component"))
        .expect("the component");
    let at_component = format!("weir.toml:{line}: policies.p.component: ");
    let beside = "p.cases.toml:2: \"the path is the key\": key: expected probe:/b, came probe:/a";
    let check = ["check", "-c", "weir.toml"];
    for words in [check, ["run", "-c", "weir.toml"]] {
        let run = weir_command(scratch.path(), &words).await;
        failed_with(&run, &[&at_component, beside, "1 of 1 case failed"]);
    }
    // To see why, one may ask.
    let words = ["explain", "-c", "weir.toml", "http://h/a"];
    let run = weir_command(scratch.path(), &words).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(run.stdout.contains("|probe:/a\n"), "{}", run.stdout);
    scratch.write("p.cases.toml", on_path("probe:/a"));
    let run = weir_command(scratch.path(), &check).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    std::fs::remove_file(scratch.join("p.cases.toml")).expect("removed");
    let run = weir_command(scratch.path(), &check).await;
    failed_with(
        &run,
        &["policies.p.cases: the cases", "p.cases.toml cannot be read"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_cases_fail_leaves_the_version_that_serves() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let files = Scratch::new();
    let file = files.write("p.wasm", with_cases(&probe(), &on_path("probe:/a")));
    let node = config_of(&origin, &file.display().to_string(), "")
        .start()
        .await;
    let before = node.admin().version("p").await;
    files.write("p.wasm", with_cases(&probe(), &on_path("probe:/b")));
    let error = until("the failed load in the policy's state", async || {
        let entry = node.admin().policy("p").await;
        entry["last_error"].as_str().map(str::to_owned)
    })
    .await;
    assert!(
        error.contains("key: expected probe:/b, came probe:/a"),
        "{error}"
    );
    assert_eq!(node.admin().version("p").await, before);
    assert_eq!(node.get("/a").await.status, 200);
}

/// A fleet of which one node has other settings, with which the cases fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_fleet_keeps_its_version_where_the_cases_fail() {
    let redis = RedisServer::start().await;
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let one = config(&origin, "")
        .redis(&redis.url())
        .data_dir()
        .start()
        .await;
    let other = config(&origin, "")
        .text()
        .replace("{ key = [\"path\"] }", "{ key = [\"path\", \"device\"] }");
    let two = Config::whole(&other)
        .redis(&redis.url())
        .data_dir()
        .start()
        .await;
    let before = two.admin().version("p").await;
    let answer = one
        .admin()
        .put_policy("p", with_cases(&probe(), &on_path("probe:/a")))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let version = answer.json()["version"].clone();
    assert_eq!(json!(one.admin().version("p").await), version);
    let refused = until("the refusal of the node", async || {
        let entry = two.admin().policy("p").await;
        entry["last_error"].as_str().map(str::to_owned)
    })
    .await;
    assert!(
        refused.contains("key: expected probe:/a, came probe:/a:desktop"),
        "{refused}"
    );
    assert_eq!(two.admin().version("p").await, before);
    assert_eq!(two.get("/a").await.status, 200);
    let audit: Value = two.admin().get("/v1/audit").await.json();
    assert_eq!(audit["changes"][0]["action"], "refused", "{audit}");
    // One that passes everywhere is taken by both.
    let answer = one.admin().put_policy("p", marked(&probe(), "good")).await;
    let version = answer.json()["version"].clone();
    until("the version that passes", async || {
        (json!(two.admin().version("p").await) == version).then_some(())
    })
    .await;
}

/// Runs `weir plugin` in `dir`; what it compiles goes where the tests' crates go.
fn plugin(dir: &Path, words: &[&str]) -> Run {
    let output = Command::new(weir_binary())
        .arg("plugin")
        .args(words)
        .current_dir(dir)
        .env("CARGO_TARGET_DIR", target_dir())
        // Set by `cargo test` for this process.
        .env_remove("CARGO_MANIFEST_DIR")
        .output()
        .expect("running weir plugin");
    Run {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn a_new_policy_passes_its_cases_and_is_not_built_when_one_fails() {
    let scratch = Scratch::new();
    let dir = scratch.path();
    let made = plugin(dir, &["new", "mine"]);
    assert_eq!(made.code, Some(0), "{}", made.all());
    std::fs::copy(workspace().join("Cargo.lock"), dir.join("mine/Cargo.lock"))
        .expect("a lock file");
    let component = dir.join("mine/target/mine.wasm");

    let run = plugin(dir, &["test", "mine"]);
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(run.stdout.ends_with("\n5 cases passed\n"), "{}", run.stdout);
    // It is built by that, with its cases inside.
    let run = plugin(dir, &["test", "mine/target/mine.wasm"]);
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(run.stdout.ends_with("\n5 cases passed\n"), "{}", run.stdout);
    let good = std::fs::read(&component).expect("the component");

    let file = dir.join("mine/cases.toml");
    let cases = std::fs::read_to_string(&file).expect("the cases");
    std::fs::write(&file, cases.replace("\"5s\"", "\"6s\"")).expect("written");
    let told =
        "mine/cases.toml:23: \"an explicit origin is left alone\": lifetime: expected 6s, came 5s";
    failed_with(
        &plugin(dir, &["build", "mine"]),
        &["1 of 5 cases failed", told],
    );
    failed_with(&plugin(dir, &["build", "mine", "-o", "out.wasm"]), &[told]);
    let told = "lifetime: expected  6s\n                  came      5s";
    failed_with(
        &plugin(dir, &["test", "mine"]),
        &["FAILED  an explicit origin", told],
    );
    assert!(!dir.join("out.wasm").exists());
    assert_eq!(
        std::fs::read(&component).expect("the component"),
        good,
        "what was built before stays"
    );

    // Others in their place: nothing is written either.
    std::fs::write(dir.join("others.toml"), &cases).expect("written");
    let run = plugin(dir, &["test", "mine", "--cases", "others.toml"]);
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert_eq!(std::fs::read(&component).expect("the component"), good);

    std::fs::write(&file, cases.replace("lifetime", "lifetme")).expect("written");
    let told = "mine/cases.toml:19:1: case[1].lifetme: unknown field `lifetme`";
    failed_with(&plugin(dir, &["build", "mine"]), &[told]);
    std::fs::remove_file(&file).expect("removed");
    failed_with(
        &plugin(dir, &["test", "mine"]),
        &["mine has no cases.toml: there is nothing to test"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_policies_pass_their_cases() {
    for (component, count) in [
        (guests().static_site(), 15),
        (guests().charity(), 19),
        (guests().graphql(), 5),
    ] {
        let file = component.display().to_string();
        let run = weir_command(&workspace(), &["plugin", "test", &file]).await;
        assert_eq!(run.code, Some(0), "{}", run.all());
        assert!(
            run.stdout.contains(&format!("{count} cases passed")),
            "{}",
            run.stdout
        );
    }
}

#[test]
fn a_policy_in_three_languages_has_the_same_cases() {
    let of = |name: &str| {
        let file = workspace().join("plugins").join(name).join("cases.toml");
        std::fs::read_to_string(file).expect("its cases")
    };
    for other in ["static-site-js", "static-site-py"] {
        assert!(
            of(other) == of("static-site"),
            "{other} has other cases than static-site"
        );
    }
}
