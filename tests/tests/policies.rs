//! Policies on a running node: the reference policy's rules, replacing one under traffic,
//! and everything that a bad one may not do to a client.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use weir_tests::component::marked;
use weir_tests::load::Load;
use weir_tests::names::GENERATIONS;
use weir_tests::origin::page_text;
use weir_tests::poll::until_within;
use weir_tests::{Config, Origin, Reply, Scratch, Weir, charity, guests, until, weir_command};

/// A changed file is in force by then. The aim is 1 s with the release build; this is a
/// debug build on a loaded machine, and compiling the component is part of it.
const RELOAD: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn components_are_compiled_by_processes_of_their_own() {
    let origin = Origin::start().await;
    let plain = Config::plain(&origin.url()).start().await;
    assert_eq!(plain.cpu_of_children(), Duration::ZERO);
    let node = Config::policy(&origin.url(), &guests().static_site(), "")
        .start()
        .await;
    let first = node.cpu_of_children();
    assert!(first > Duration::ZERO, "who has compiled the first?");
    let bytes = std::fs::read(guests().static_site()).expect("the component");
    node.admin()
        .put_policy("site", marked(&bytes, "other"))
        .await;
    assert!(
        node.cpu_of_children() > first,
        "who has compiled the second?"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_charity_policys_lifetimes_and_namespaces() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    let role = [("x-user-role", "volunteer")];
    for (path, headers, key, lifetime) in [
        ("/users/42", &[][..], "user:profile:42", 3_600),
        ("/users/42/permissions", &[], "user:permissions:42", 3_600),
        ("/config/features", &[], "config:features", 86_400),
        (
            "/metrics/dashboard",
            &role,
            "metrics:dashboard:volunteer",
            300,
        ),
        ("/help/queue", &[], "help:queue:active", 30),
    ] {
        let miss = node.get_with(path, headers).await;
        assert!(miss.cache().stored, "{path}: {miss:?}");
        let hit = node.get_with(path, headers).await;
        assert!(hit.is_hit(), "{path}: {hit:?}");
        let status = hit.cache();
        assert!(status.details("charity@"), "{path}: {status:?}");
        let ttl = status.ttl.expect("a ttl");
        assert!(
            ttl <= lifetime && ttl > lifetime / 2,
            "{path}: fresh for {ttl} s"
        );
        // The namespace is in the name: an operator finds it, and a purge of it works.
        let namespace = key.split(':').next().expect("a namespace");
        let purge = serde_json::json!({ "prefixes": [key] });
        assert!(node.get_with(path, headers).await.is_hit());
        node.admin().invalidate(purge).await;
        assert!(
            !node.get_with(path, headers).await.is_hit(),
            "{path} is not under {key}"
        );
        let purge = serde_json::json!({ "namespaces": [namespace] });
        node.admin().invalidate(purge).await;
        assert!(
            !node.get_with(path, headers).await.is_hit(),
            "{path} is not in {namespace}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboards_of_different_roles_are_different_objects() {
    let origin =
        Origin::with(|call| Reply::ok().text(call.header("x-user-role").unwrap_or_default())).await;
    let node = charity::config(&origin).start().await;
    for role in ["volunteer", "admin", "volunteer", "admin"] {
        let answer = node
            .get_with("/metrics/dashboard", &[("x-user-role", role)])
            .await;
        assert_eq!(answer.text(), role);
    }
    assert_eq!(origin.count("/metrics/dashboard"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_user_is_written_through_to_the_next_reader() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    node.until_hit("/users/42/permissions").await;
    node.until_hit("/users/42").await;
    let version = origin.bump("/users/42");
    let changed = node.send(Method::PUT, "/users/42", &[], "{}").await;
    assert_eq!(changed.status, 200);
    let after = node.get("/users/42").await;
    assert_eq!(after.text(), page_text("/users/42", version));
    assert!(
        after.is_hit(),
        "the answer to the PUT was not kept: {:?}",
        after.cache()
    );
    // What else is kept of the user went with the change.
    assert!(!node.get("/users/42/permissions").await.is_hit());
    // A DELETE answers nothing to keep.
    let version = origin.bump("/users/42");
    node.send(Method::DELETE, "/users/42", &[], "").await;
    let after = node.get("/users/42").await;
    assert!(!after.is_hit());
    assert_eq!(after.text(), page_text("/users/42", version));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lives_until_its_token_expires() {
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let origin = charity::origin().await;
    origin.under("/sessions/", move |call| {
        let reply = Reply::page(call);
        match call.path.as_str() {
            "/sessions/live" => reply.header("x-session-expires", (now + 600).to_string()),
            "/sessions/over" => reply.header("x-session-expires", (now - 1).to_string()),
            _ => reply,
        }
    });
    let node = charity::config(&origin).start().await;
    let live = node.until_hit("/sessions/live").await.cache();
    assert!(
        live.ttl.is_some_and(|ttl| (300..=600).contains(&ttl)),
        "{live:?}"
    );
    for path in ["/sessions/over", "/sessions/unknown"] {
        for _ in 0..2 {
            let status = node.get(path).await.cache();
            assert!(!status.hit && !status.stored, "{path}: {status:?}");
        }
    }
    node.admin()
        .event("session.revoked", serde_json::json!({ "id": "live" }))
        .await;
    assert!(!node.get("/sessions/live").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_beyond_the_limit_are_answered_at_the_edge() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    let mut refused = 0;
    for number in 1..=30 {
        let answer = node.send(Method::POST, "/login", &[], "{}").await;
        if answer.status == 429 {
            assert!(number > 10, "login {number} of 10 was refused");
            let wait = answer
                .header("retry-after")
                .and_then(|text| text.parse::<u64>().ok());
            assert!(
                wait.is_some_and(|seconds| (1..=60).contains(&seconds)),
                "{answer:?}"
            );
            refused += 1;
        }
    }
    assert_eq!(refused, 20, "of 30 logins within a minute");
    assert_eq!(origin.count("/login"), 10);
}

/// A node with one policy under the name `site`, whose file the test replaces.
struct Replaceable {
    origin: Origin,
    node: Weir,
    files: Scratch,
    component: Vec<u8>,
}

impl Replaceable {
    async fn start() -> Self {
        let component = std::fs::read(guests().static_site()).expect("a component");
        let files = Scratch::new();
        let file = files.write("site.wasm", &component);
        let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
        let node = Config::policy(&origin.url(), &file, "").start().await;
        Self {
            origin,
            node,
            files,
            component,
        }
    }

    async fn version(&self) -> String {
        self.node.admin().version("site").await
    }

    async fn until_replaced(&self, before: &str) -> String {
        until_within(RELOAD, "another version in force", async || {
            let version = self.version().await;
            (version != before).then_some(version)
        })
        .await
    }

    /// The version that answers clients, by what Cache-Status says.
    async fn serving(&self, path: &str) -> String {
        let status = self.node.get(path).await.cache();
        let detail = status.detail.clone().unwrap_or_default();
        let label = detail.split("site@").nth(1);
        let version = label.map(|rest| rest.chars().take_while(char::is_ascii_hexdigit));
        version
            .unwrap_or_else(|| panic!("no version in {status:?}"))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_is_in_force_soon_and_fails_no_request() {
    let test = Replaceable::start().await;
    let urls = (0..100)
        .map(|n| test.node.url(&format!("/page/{n}")))
        .collect();
    let load = Load::start(6, urls, |_, answer| {
        let good = answer.status == 200 && answer.text().starts_with("/page/");
        good.then_some(()).ok_or_else(|| "wrong".to_owned())
    });
    load.goes_on(200).await;
    let mut version = test.version().await;
    for number in 0..3 {
        let edited = marked(&test.component, &format!("edit {number}"));
        test.files.write("site.wasm", edited);
        version = test.until_replaced(&version).await;
        assert_eq!(test.serving(&format!("/new/{number}")).await, version);
        load.goes_on(200).await;
    }
    load.finish().await;
    until("the old generations' end", async || {
        let alive = test.node.admin().metric(GENERATIONS, &[]).await;
        (alive == 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_ends_on_the_generation_it_began_with() {
    let test = Replaceable::start().await;
    let gate = weir_tests::Gate::new();
    let held = gate.clone();
    test.origin.on("/slow", move |call| {
        Reply::page(call).cache("max-age=600").behind(&held)
    });
    let before = test.version().await;
    let slow = tokio::spawn(weir_tests::Answer::of(
        test.node.client().get(test.node.url("/slow")),
    ));
    until("the request at the origin", async || {
        (test.origin.count("/slow") == 1).then_some(())
    })
    .await;
    test.files
        .write("site.wasm", marked(&test.component, "later"));
    let after = test.until_replaced(&before).await;
    assert_eq!(test.serving("/quick").await, after);
    gate.open();
    let answer = slow.await.expect("the request").expect("its answer");
    assert!(answer.cache().details(&before), "{:?}", answer.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_keeps_the_last_good_one_and_says_why() {
    let test = Replaceable::start().await;
    let version = test.version().await;
    let empty_component = b"\0asm\x0d\0\x01\0".to_vec();
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    for bad in [
        b"no WebAssembly".to_vec(),
        empty_component,
        core_module,
        Vec::new(),
    ] {
        let shown = String::from_utf8_lossy(&bad).into_owned();
        test.files.write("site.wasm", &bad);
        until_within(
            RELOAD,
            "the failed load in the policy's state",
            async || {
                let entry = test.node.admin().policy("site").await;
                entry["last_error"].as_str().map(str::to_owned)
            },
        )
        .await;
        assert_eq!(test.version().await, version, "{shown:?}");
        assert_eq!(test.serving("/still").await, version, "{shown:?}");
        // A good one ends the complaint.
        test.files.write("site.wasm", &test.component);
        until_within(RELOAD, "a state without the error", async || {
            let entry = test.node.admin().policy("site").await;
            entry["last_error"].is_null().then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_deployed_through_the_admin_api() {
    let test = Replaceable::start().await;
    let before = test.version().await;
    let answer = test
        .node
        .admin()
        .put_policy("site", marked(&test.component, "deployed"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let deployed = answer.json()["version"]
        .as_str()
        .expect("a version")
        .to_owned();
    assert_ne!(deployed, before);
    // In force when it is acknowledged, not later.
    assert_eq!(test.serving("/after").await, deployed);

    for bad in [&b"no WebAssembly"[..], b"\0asm\x0d\0\x01\0"] {
        let answer = test.node.admin().put_policy("site", bad.to_vec()).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        let error = answer.json();
        assert!(
            error["error"]["message"]
                .as_str()
                .is_some_and(|text| text.len() > 10),
            "{error}"
        );
        assert_eq!(test.version().await, deployed);
    }
    let answer = test
        .node
        .admin()
        .put_policy("absent", test.component.clone())
        .await;
    assert_eq!(answer.status, 404);

    // A deployed version wins over the file until the file changes.
    test.files
        .write("site.wasm", marked(&test.component, "file again"));
    test.until_replaced(&deployed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_reads_the_configuration_again_and_keeps_a_good_one() {
    let mut test = Replaceable::start().await;
    test.node.until_hit("/page").await;
    test.node
        .rewrite(|text| text.replace("\"/{*rest}\"", "\"/only/{*rest}\""));
    test.node.hangup();
    until("the new routes", async || {
        (test.node.get("/page").await.status == 404).then_some(())
    })
    .await;
    assert_eq!(test.node.get("/only/page").await.status, 200);

    test.node
        .rewrite(|text| text.replace("namespaces", "namespases"));
    test.node.hangup();
    until("the refusal in the log", async || {
        test.node.output().contains("namespases").then_some(())
    })
    .await;
    assert_eq!(test.node.get("/only/page").await.status, 200);

    test.node.rewrite(|text| {
        text.replace("namespases", "namespaces")
            .replace("\"/only/{*rest}\"", "\"/{*rest}\"")
    });
    test.node.hangup();
    // What is cached outlives every change of rules.
    until("the old routes", async || {
        (test.node.get("/page").await.status == 200).then_some(())
    })
    .await;
    assert!(test.node.get("/page").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capability_that_is_not_granted_is_refused_by_name() {
    let origin = charity::origin().await;
    let text = charity::config(&origin).text().replace(
        "grants = [\"kv\", \"rate-limit\", \"clock\"]",
        "grants = []",
    );
    let scratch = Scratch::new();
    scratch.write(
        "weir.toml",
        text.replace("{port}", "8080").replace("{admin}", "9900"),
    );
    for command in ["check", "run"] {
        let run = weir_command(scratch.path(), &[command, "-c", "weir.toml"]).await;
        assert_eq!(run.code, Some(1), "{}", run.all());
        for named in ["charity", "clock", "grants"] {
            assert!(
                run.all().contains(named),
                "{named} is not in:\n{}",
                run.all()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_that_the_policy_refuses_is_named() {
    let origin = charity::origin().await;
    let scratch = Scratch::new();
    let config = Config::policy(
        &origin.url(),
        &guests().static_site(),
        "config = { no-such-setting = 1 }\n",
    );
    let text = config
        .text()
        .replace("{port}", "8080")
        .replace("{admin}", "9900");
    scratch.write("weir.toml", text);
    let run = weir_command(scratch.path(), &["check", "-c", "weir.toml"]).await;
    assert_eq!(run.code, Some(1), "{}", run.all());
    assert!(run.all().contains("no-such-setting"), "{}", run.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_remembered_whatever_the_inputs_that_are_only_named() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = Config::policy(&origin.url(), &guests().static_site(), "")
        .start()
        .await;
    let remembered = async || {
        let labels = [("hook", "on-request"), ("memo", "hit")];
        node.admin()
            .metric("weir_policy_calls_total", &labels)
            .await
    };
    let asked = async || {
        let labels = [("hook", "on-request"), ("memo", "miss")];
        node.admin()
            .metric("weir_policy_calls_total", &labels)
            .await
    };
    for n in 0..300 {
        assert_eq!(node.get(&format!("/page{n}?b={n}&a=1")).await.status, 200);
    }
    // Two opinions for each of two leaves, and a sample of one in 256.
    assert!(asked().await < 30.0, "{} calls of the guest", asked().await);
    assert!(remembered().await > 270.0);
    assert!(
        node.get("/page7?a=1&b=7").await.is_hit(),
        "a wrong key was remembered"
    );
    assert!(
        !node.get("/page7?a=2&b=7").await.is_hit(),
        "a wrong key was remembered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_says_what_a_decision_costs_and_what_to_name_instead_of_reading() {
    let origin = Origin::with(Reply::page).await;
    let explained = async |misdeed: &str, more: &str| {
        let more =
            format!("config = {{ misbehave = \"{misdeed}\", namespace = \"site\" }}\n{more}");
        let node = Config::policy(&origin.url(), &guests().misbehaving(), &more)
            .start()
            .await;
        let url = format!("/v1/explain?url={}", node.url("/a").replace(':', "%3A"));
        let answer = node.admin().get(&url).await.json();
        answer["cost"].clone()
    };
    let good = explained("nothing", "").await;
    assert_eq!(
        (&good["remembered"], &good["notes"]),
        (&json!(true), &json!([])),
        "{good}"
    );
    let of = |cost: &Value, hook: &str| -> Value {
        let hooks = cost["hooks"].as_array().expect("hooks").iter();
        let found = hooks.clone().find(|it| it["hook"] == hook);
        found
            .unwrap_or_else(|| panic!("no {hook} in {cost}"))
            .clone()
    };
    let asked = of(&good, "on-request");
    assert!(
        asked["p99_us"].as_u64().is_some() && asked["calls"] == 1,
        "{good}"
    );
    assert_eq!(asked["failures"], json!({}));
    assert!(good["memory_bytes"].as_u64() > Some(0), "{good}");
    let reads_the_path = explained("state-between-calls", "").await;
    let note = reads_the_path["notes"][0].as_str().expect("a note");
    assert!(
        note.starts_with("the path is read") && note.contains("path()"),
        "{note}"
    );
    let off = explained("nothing", "memo = false\n").await;
    let notes = off["notes"].as_array().expect("notes");
    assert!(off["remembered"] == false && notes.len() == 1, "{off}");
    let note = notes[0].as_str().expect("a note");
    assert!(note.contains("`memo` is false"), "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_memo_false_every_request_calls_the_policy() {
    const REQUESTS: u32 = 30;
    let origin = Origin::start().await;
    for (memo, called) in [("true", false), ("false", true)] {
        let more = format!("memo = {memo}\n");
        let config = Config::policy(&origin.url(), &guests().static_site(), &more);
        let node = config.start().await;
        for _ in 0..REQUESTS {
            node.get("/a").await;
        }
        let calls = async |memo| {
            let labels = [("hook", "on-request"), ("memo", memo)];
            node.admin()
                .metric("weir_policy_calls_total", &labels)
                .await
        };
        let (off, remembered) = (calls("off").await, calls("hit").await);
        match called {
            true => assert_eq!((off, remembered), (f64::from(REQUESTS), 0.0)),
            false => assert!(off == 0.0 && remembered > 0.0, "{off}, {remembered}"),
        }
    }
}
