//! The contract of 1.0.0 is kept: a component that was compiled against it works for ever.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use serde_json::json;
use weir_tests::artifact::workspace;
use weir_tests::{Config, Scratch, charity, guests, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_the_first_contract_decides_adjusts_and_takes_events() {
    let file = workspace().join("tests/data/abi/1.0.0/charity.wasm.zst");
    let compressed = std::fs::read(&file).expect("the old component");
    let component = zstd::decode_all(compressed.as_slice()).expect("a component");
    let scratch = Scratch::new();
    let old = scratch.write("charity.wasm", component);

    let origin = charity::origin().await;
    let config = charity::config(&origin).text().replace(
        &guests().charity().display().to_string(),
        &old.display().to_string(),
    );
    assert!(config.contains(&old.display().to_string()), "{config}");
    let node = Config::whole(&config).start().await;
    // on-request: the key, and what the policy names of it; on-response: the lifetime.
    let first = node.get("/users/42").await;
    assert_eq!(first.status, 200, "{}", first.text());
    let hit = node.until_hit("/users/42").await;
    assert!(
        hit.cache().ttl.is_some_and(|ttl| ttl > 0),
        "{:?}",
        hit.cache()
    );
    let url = format!("/v1/explain?url={}", node.url("/users/42"));
    let explained = node.admin().get(&url).await.json();
    let key = explained["key"].as_str().unwrap_or_default();
    assert!(key.ends_with("|user:profile:42"), "{explained}");
    // on-event: what depends on the user is gone.
    node.admin()
        .event("user.updated", json!({ "id": 42 }))
        .await;
    let after = node.get("/users/42").await;
    assert!(!after.is_hit(), "{:?}", after.cache());
    // rate-limit, kv and clock are there for it: a login is counted.
    until("a login that is one too many", async || {
        let method = reqwest::Method::POST;
        let answer = node.send(method, "/login", &[], "{}").await;
        (answer.status == 429).then_some(())
    })
    .await;
}

#[test]
fn the_contract_of_the_first_version_stays_as_it_was_released() {
    let read = |file| std::fs::read_to_string(workspace().join(file)).expect("a contract");
    assert!(
        read("wit/policy.wit") == read("tests/data/abi/1.0.0/policy.wit"),
        "wit/policy.wit has changed, and components are compiled against it: leave 1.0.0 as it is, \
         and put what is new into a version beside it (1.1.0), which the host offers as well"
    );
}
