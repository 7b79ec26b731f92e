//! What becomes of a version that misbehaves: taken back or called no more, tried again, and
//! in force again if it does well.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::net::IpAddr;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use weir_tests::answer;
use weir_tests::origin::page_text;
use weir_tests::versions::{audited, deploy, hold, node_with, origin, post, trial, version};
use weir_tests::{Origin, Reply, Scratch, Weir, guests, until};

/// Short, so that a test sees all of it.
const GUARD: &str = "guard = { min_calls = 5, retry_after = \"1s\" }\n";

/// A request from another address of the loopback network.
async fn get_from(node: &Weir, client: u8, path: &str) -> reqwest::Response {
    let client = answer::builder().local_address(IpAddr::from([127, 0, 1, client]));
    let client = client.build().expect("a client");
    client.get(node.url(path)).send().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_traps_is_taken_back_by_itself_and_tried_again_without_harm() {
    let origin = origin().await;
    let node = node_with(&origin, &guests().misbehaving(), GUARD).await;
    let live = node.admin().version("p").await;
    let traps = deploy(&node, version("trap-on-request")).await;
    until("the version before to be in force again", async || {
        assert_eq!(node.get("/a").await.text(), page_text("/a", 1));
        (node.admin().version("p").await == live).then_some(())
    })
    .await;
    let told = &node.admin().policy("p").await["quarantined"];
    assert_eq!(
        (&told["version"], &told["wait_seconds"]),
        (&json!(traps), &json!(1)),
        "{told}"
    );
    assert!(
        told["why"]
            .as_str()
            .is_some_and(|why| why.contains("failed")),
        "{told}"
    );

    // One client in ten is asked to try it; it fails, and the wait is doubled.
    let ended = [
        "trial-ended".to_owned(),
        "failures".to_owned(),
        traps.clone(),
    ];
    until("the second try to end", async || {
        for client in 1..=60 {
            let answer = get_from(&node, client, "/a").await;
            assert_eq!(answer.text().await.expect("a body"), page_text("/a", 1));
        }
        audited(&node).await.contains(&ended).then_some(())
    })
    .await;
    let actions = audited(&node).await;
    let actions: Vec<[&str; 2]> = actions
        .iter()
        .map(|[what, by, _]| [&**what, &**by])
        .collect();
    assert_eq!(
        actions[..5],
        [
            ["loaded", "start"],
            ["deployed", "admin"],
            ["quarantined", "failures"],
            ["canary", "retry"],
            ["trial-ended", "failures"],
        ]
    );
    assert_eq!(node.admin().version("p").await, live);
    let told = node.admin().policy("p").await["quarantined"].clone();
    assert!(told["wait_seconds"].as_u64() >= Some(2), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_well_when_it_is_tried_again_is_back_in_force() {
    let origin = origin().await;
    let more = format!("config = {{ only = \"/bad/*\" }}\n{GUARD}");
    let node = node_with(&origin, &guests().misbehaving(), &more).await;
    let live = node.admin().version("p").await;
    let new = deploy(&node, version("trap-on-request")).await;
    until("the version before to be in force again", async || {
        node.get("/bad/a").await;
        (node.admin().version("p").await == live).then_some(())
    })
    .await;
    // Nobody asks any more for what it failed on.
    until("the version to be back", async || {
        for client in 1..=60 {
            get_from(&node, client, "/good").await;
        }
        (node.admin().version("p").await == new).then_some(())
    })
    .await;
    assert_eq!(node.admin().policy("p").await["quarantined"], Value::Null);
    let last = audited(&node).await.pop();
    assert_eq!(last, Some(["promoted", "retry", &*new].map(str::to_owned)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_without_a_version_before_is_not_called_while_it_misbehaves() {
    let origin = origin().await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("trap-on-request"));
    let more = "guard = { min_calls = 5 }\n";
    let node = node_with(&origin, &component, more).await;
    until("the policy to be in quarantine", async || {
        let answer = node.get("/a").await;
        assert_eq!(answer.text(), page_text("/a", 1));
        answer.cache().details("policy-quarantined").then_some(())
    })
    .await;
    let traps = async || {
        let labels = [("policy", "p"), ("reason", "trap")];
        node.admin()
            .metric("weir_policy_errors_total", &labels)
            .await
    };
    let before = traps().await;
    for _ in 0..50 {
        assert_eq!(node.get("/a").await.status, 200);
    }
    assert!((traps().await - before).abs() < 0.5, "it was called");

    files.write("p.wasm", version("nothing"));
    node.until_hit("/a").await;
    assert_eq!(node.admin().policy("p").await["quarantined"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_on_response_that_misbehaves_is_not_called_for_what_is_remembered_either() {
    let origin = origin().await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("trap-on-response"));
    let node = node_with(&origin, &component, "guard = { min_calls = 5 }\n").await;
    let errors = async |reason| {
        let labels = [("hook", "on-response"), ("reason", reason)];
        node.admin()
            .metric("weir_policy_errors_total", &labels)
            .await
    };
    until("an on-response that is not called", async || {
        assert_eq!(node.get("/a").await.text(), page_text("/a", 1));
        (errors("quarantined").await > 0.0).then_some(())
    })
    .await;
    let (traps, spared) = (errors("trap").await, errors("quarantined").await);
    // On-request still says what it said before; what the origin answers to it is not stored.
    for _ in 0..50 {
        let answer = node.get("/a").await;
        assert_eq!(answer.status, 200);
        assert!(!answer.is_hit(), "{:?}", answer.cache());
    }
    assert!((errors("trap").await - traps).abs() < 0.5, "it was called");
    assert!(errors("quarantined").await >= spared + 50.0);
    // It alone could say what else a change makes invalid.
    node.send(Method::POST, "/a", &[], "new").await;
    assert!(
        (errors("trap").await - traps - 1.0).abs() < 0.5,
        "not called"
    );

    files.write("p.wasm", version("nothing"));
    node.until_hit("/a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_on_response_that_misbehaves_again_waits_twice_as_long_and_is_not_restored() {
    let origin = origin().await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("trap-on-response"));
    let node = node_with(&origin, &component, GUARD).await;
    until("the third quarantine", async || {
        for _ in 0..20 {
            assert_eq!(node.get("/a").await.text(), page_text("/a", 1));
        }
        let quarantined = &node.admin().policy("p").await["quarantined"];
        (quarantined["wait_seconds"].as_u64() >= Some(4)).then_some(())
    })
    .await;
    let actions = audited(&node).await;
    let restored = actions.iter().filter(|change| change[0] == "restored");
    assert_eq!(restored.count(), 0, "{actions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_stays_though_the_policy_fails_when_the_origin_confirms_it() {
    // The lifetime is the policy's.
    let origin = Origin::with(Reply::page).await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("endless-lifetime"));
    let node = node_with(&origin, &component, "").await;
    node.get("/a").await;
    node.until_hit("/a").await;
    files.write("p.wasm", version("trap-on-response"));
    let confirmed = until("a call that fails", async || {
        let answer = node.get_with("/a", &[("cache-control", "no-cache")]).await;
        let labels = [("hook", "on-response"), ("reason", "trap")];
        let failed = node.admin().metric("weir_policy_errors_total", &labels);
        (failed.await > 0.0).then_some(answer)
    })
    .await;
    assert_eq!(confirmed.text(), page_text("/a", 1));
    let after = node.get("/a").await;
    assert!(after.is_hit(), "{:?}", after.cache());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_was_not_called_for_a_while_is_called_again_and_restored() {
    let origin = origin().await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("trap-on-request"));
    let more = format!("config = {{ only = \"/bad/*\" }}\n{GUARD}");
    let node = node_with(&origin, &component, &more).await;
    until("the policy to be in quarantine", async || {
        let status = node.get("/bad/a").await.cache();
        status.details("policy-quarantined").then_some(())
    })
    .await;
    // Nobody asks any more for what it fails on.
    let version = node.admin().version("p").await;
    let restored = ["restored", "retry", &*version].map(str::to_owned);
    until("the policy to be restored", async || {
        for n in 0..20 {
            let path = format!("/good/{n}");
            assert_eq!(node.get(&path).await.text(), page_text(&path, 1));
        }
        audited(&node).await.contains(&restored).then_some(())
    })
    .await;
    assert_eq!(node.admin().policy("p").await["quarantined"], Value::Null);
    assert!(node.until_hit("/good/1").await.cache().details(&version));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_does_not_speak_for_what_fails() {
    let origin = origin().await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("trap-on-request"));
    let more = format!("config = {{ only = \"/bad/*\" }}\n{GUARD}");
    let node = node_with(&origin, &component, &more).await;
    until("the third quarantine", async || {
        // What goes well is remembered, and asked for more often than what fails is tried.
        for _ in 0..20 {
            assert_eq!(node.get("/good").await.text(), page_text("/good", 1));
            assert_eq!(node.get("/bad/a").await.status, 200);
        }
        let quarantined = &node.admin().policy("p").await["quarantined"];
        (quarantined["wait_seconds"].as_u64() >= Some(4)).then_some(())
    })
    .await;
    let actions: Vec<String> = audited(&node)
        .await
        .into_iter()
        .map(|[it, ..]| it)
        .collect();
    assert_eq!(
        actions,
        [
            "loaded",
            "quarantined",
            "retried",
            "quarantined",
            "retried",
            "quarantined"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_or_a_deploy_ends_a_quarantine_and_has_the_policy_called_again() {
    let origin = origin().await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("trap-on-request"));
    let more = "config = { only = \"/bad/*\" }\n\
                guard = { min_calls = 5, retry_after = \"1h\" }\n";
    let node = node_with(&origin, &component, more).await;
    let first = node.admin().version("p").await;
    let suspended = async || {
        until("the policy to be in quarantine", async || {
            let status = node.get("/bad/a").await.cache();
            status.details("policy-quarantined").then_some(())
        })
        .await;
    };
    let called = async |path: &str| {
        let status = node.get(path).await.cache();
        assert!(status.details(&first), "{status:?}");
        assert_eq!(node.admin().policy("p").await["quarantined"], Value::Null);
    };
    suspended().await;
    let second = hold(&node, version("nothing")).await;
    post(&node, "canary", json!({"percent": 1})).await;
    post(&node, "rollback", json!({})).await;
    called("/good/a").await;

    suspended().await;
    let again = deploy(&node, version("trap-on-request")).await;
    assert_eq!(again, first, "the same again");
    called("/good/b").await;

    suspended().await;
    post(&node, "promote", json!({"version": second})).await;
    post(&node, "rollback", json!({})).await;
    called("/good/c").await;
}

/// Has the policy called until it is in quarantine: how often that was.
async fn calls_until_suspended(node: &Weir) -> usize {
    let mut called = 0;
    while !node.get("/a").await.cache().details("policy-quarantined") {
        called += 1;
        assert!(called < 10_000, "it is still called");
    }
    called
}

/// The same of a new node whose policy traps, and why.
async fn called_until_suspended(guard: &str) -> (usize, String) {
    let origin = origin().await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("trap-on-request"));
    let node = node_with(&origin, &component, guard).await;
    let called = calls_until_suspended(&node).await;
    let why = &node.admin().policy("p").await["quarantined"]["why"];
    (called, why.as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_calls_fail_a_quarter_of_them_is_enough() {
    let (called, why) = called_until_suspended("guard = { min_calls = 200 }\n").await;
    assert!(called >= 50, "{called}");
    let failed: usize = why.split_once(' ').unwrap().0.parse().unwrap();
    // To make an instance anew for each is no call that went well.
    assert!(why.starts_with(&format!("{failed} of {failed} ")), "{why}");
    assert!((50..200).contains(&failed), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_looked_at_when_they_happen() {
    // Where nothing but the clock has the guard look, there are some hundred within a quarter of
    // a second.
    let (called, why) = called_until_suspended("guard = { min_calls = 4 }\n").await;
    assert!(called < 100, "{called}: {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_put_in_force_again_is_not_judged_by_what_it_did_before() {
    let origin = origin().await;
    let files = Scratch::new();
    let component = files.write("p.wasm", version("trap-on-request"));
    let guard = "guard = { min_calls = 40, retry_after = \"1h\" }\n";
    let node = node_with(&origin, &component, guard).await;
    hold(&node, version("nothing")).await;
    // Most of these are between two ticks of the guard's clock.
    for round in 0..8 {
        let called = calls_until_suspended(&node).await;
        assert!(called >= 10, "{called} in round {round}");
        post(&node, "canary", json!({"percent": 1})).await;
        post(&node, "rollback", json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_version_that_is_taken_back_is_given_up() {
    let origin = origin().await;
    let more = "guard = { min_calls = 5, retry_after = \"1h\" }\n";
    let node = node_with(&origin, &guests().misbehaving(), more).await;
    let live = node.admin().version("p").await;
    deploy(&node, version("endless-loop")).await;
    // Many more than are called at once, on one thread fewer than there are cores.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let paths: Vec<String> = (0..cores * 64).map(|number| format!("/{number}")).collect();
    for answer in join_all(paths.iter().map(|path| node.get(path))).await {
        assert_eq!(answer.status, 200);
    }
    until("the version before to be in force again", async || {
        (node.admin().version("p").await == live).then_some(())
    })
    .await;
    let labels = [("policy", "p"), ("reason", "quarantined")];
    let given_up = node.admin().metric("weir_policy_errors_total", &labels);
    assert!(given_up.await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_were_taken_back_do_not_pile_up_and_are_not_the_newest() {
    let origin = origin().await;
    let more = "guard = { min_calls = 5, retry_after = \"1h\" }\n";
    let node = node_with(&origin, &guests().misbehaving(), more).await;
    let live = node.admin().version("p").await;
    let good = hold(&node, version("nothing")).await;
    let mut taken_back = Vec::new();
    for misdeed in [
        "trap-on-request",
        "endless-loop",
        "deep-recursion",
        "trap-on-response",
        "huge-note",
    ] {
        let version = deploy(&node, version(misdeed)).await;
        let mut asked = 0;
        until("the version before to be in force again", async || {
            asked += 1;
            node.get(&format!("/{misdeed}/{asked}")).await;
            (node.admin().version("p").await == live).then_some(())
        })
        .await;
        taken_back.push(version);
    }
    let held = &node.admin().policy("p").await["held"];
    // The one in quarantine is to be tried again.
    let newest = taken_back.pop().expect("the last one");
    let held: Vec<&str> = held
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(held.len(), 4, "{held:?}");
    assert!(
        held.contains(&&*newest) && held.contains(&&*good),
        "{held:?}"
    );
    // Without a name it is the one that somebody sent.
    assert_eq!(
        post(&node, "canary", json!({"percent": 1})).await["version"],
        json!(good)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_judged_by_its_own_calls_and_not_by_those_of_its_shadow() {
    let origin = origin().await;
    let more = format!("config = {{ only = \"/bad/*\" }}\n{GUARD}");
    let node = node_with(&origin, &guests().misbehaving(), &more).await;
    let traps = hold(&node, version("trap-on-request")).await;
    post(&node, "shadow", json!({"percent": 100})).await;
    until("calls that went well in shadow", async || {
        for n in 0..50 {
            node.get(&format!("/good/{n}")).await;
        }
        (trial(&node).await["same"].as_u64() >= Some(200)).then_some(())
    })
    .await;
    post(&node, "canary", json!({"percent": 100})).await;
    let ended = ["trial-ended", "failures", &*traps].map(str::to_owned);
    // Fewer calls than the shadow had.
    for _ in 0..10 {
        node.get("/bad/a").await;
    }
    until("the canary to end", async || {
        audited(&node).await.contains(&ended).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_is_judged_by_what_came_of_its_own_decisions() {
    let origin = Origin::with(|call| match call.path.starts_with("/broken") {
        true => Reply::status(503),
        false => Reply::page(call).cache("max-age=600"),
    })
    .await;
    let guard = "guard = { min_calls = 5, window = \"60s\", origin_errors = 20 }\n";
    let node = node_with(&origin, &guests().misbehaving(), guard).await;
    let tried = hold(&node, version("forgets-query")).await;
    post(&node, "canary", json!({"percent": 50})).await;
    let (mut its, mut others) = (Vec::new(), Vec::new());
    for client in 1..=40 {
        let answer = get_from(&node, client, "/a").await;
        let status = answer.headers()["cache-status"].as_bytes();
        match String::from_utf8_lossy(status).contains(&tried) {
            true => its.push(client),
            false => others.push(client),
        }
    }
    let told = trial(&node).await;
    assert_eq!(told["outcomes"]["answers"], json!(its.len()), "{told}");
    assert_eq!(told["outcomes"]["lookups"], json!(its.len()), "{told}");
    assert_eq!(told["live"]["answers"], json!(others.len()), "{told}");

    // The version in force does worse, which is not the canary's fault.
    for client in &others {
        get_from(&node, *client, "/broken").await;
    }
    let told = trial(&node).await;
    assert_eq!(told["live"]["errors"], json!(others.len()), "{told}");
    assert_eq!(told["outcomes"]["errors"], json!(0), "{told}");
    for _ in 0..3 {
        for client in &others {
            get_from(&node, *client, "/a").await;
        }
    }
    let ended = ["trial-ended", "origin_errors", &*tried].map(str::to_owned);
    assert!(!audited(&node).await.contains(&ended));

    until("the canary to end", async || {
        for client in &its {
            get_from(&node, *client, "/broken").await;
        }
        audited(&node).await.contains(&ended).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_calls_take_too_long_on_average_is_taken_back() {
    let origin = origin().await;
    // It fails too, which is allowed here.
    let more = "cpu_limit = \"200ms\"\n\
        guard = { min_calls = 10, failures = 100, cpu = \"50ms\" }\n";
    let node = node_with(&origin, &guests().misbehaving(), more).await;
    let live = node.admin().version("p").await;
    let slow = deploy(&node, version("endless-loop-on-response")).await;
    until("the version before to be in force again", async || {
        assert_eq!(node.get("/a").await.text(), page_text("/a", 1));
        (node.admin().version("p").await == live).then_some(())
    })
    .await;
    let last = audited(&node).await.pop();
    assert_eq!(
        last,
        Some(["quarantined", "cpu", &*slow].map(str::to_owned)),
        "{}",
        node.admin().policy("p").await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_with_fewer_hits_than_the_version_in_force_ends() {
    let origin = origin().await;
    // Nothing of the canary's is stored, since it fails after the response: allowed here.
    let guard = "guard = { min_calls = 5, failures = 100, window = \"1s\", hit_ratio = 20 }\n";
    let node = node_with(&origin, &guests().misbehaving(), guard).await;
    let tried = hold(&node, version("error-on-response")).await;
    node.until_hit("/theirs").await;
    post(&node, "canary", json!({"percent": 50})).await;
    let ended = ["trial-ended", "hit_ratio", &*tried].map(str::to_owned);
    until("the canary to end", async || {
        for client in 1..=40 {
            let answer = get_from(&node, client, "/theirs").await;
            let status = answer.headers()["cache-status"].as_bytes();
            // Both have the same keys.
            if String::from_utf8_lossy(status).contains(&tried) {
                get_from(&node, client, "/its").await;
                get_from(&node, client, "/its").await;
            }
        }
        audited(&node).await.contains(&ended).then_some(())
    })
    .await;
}
