//! Released contracts are kept: a component that was compiled against one works for ever.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use serde_json::json;
use weir_tests::artifact::workspace;
use weir_tests::{Config, Origin, Scratch, charity, guests, until};

/// A component of then.
fn component(name: &str) -> Vec<u8> {
    let file = workspace().join(format!("tests/data/abi/{name}.wasm.zst"));
    let compressed = std::fs::read(&file).expect("the old component");
    zstd::decode_all(compressed.as_slice()).expect("a component")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_the_first_contract_decides_adjusts_and_takes_events() {
    let scratch = Scratch::new();
    let old = scratch.write("charity.wasm", component("1.0.0/charity"));

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

#[tokio::test(flavor = "multi_thread")]
async fn a_component_of_the_contract_1_1_prepares_its_lookups() {
    let scratch = Scratch::new();
    let component = component("1.1.0/static-site");
    let import = b"[method]lookup.prepare";
    assert!(component.windows(import.len()).any(|found| found == import));
    let old = scratch.write("static-site.wasm", component);
    let origin = Origin::tagged("page").await;
    let more = "memo = false\nconfig = { variants = [\"device\"] }\n";
    let node = Config::policy(&origin.url(), &old, more).start().await;
    // The first call prepares, the later ones take what was prepared.
    for (path, key) in [
        ("/about", "|site:/about:~:desktop"),
        ("/about?b=2&a=1", "|site:/about:a=1&b=2:desktop"),
        ("/site.css", "|site:/site.css:~"),
        ("/about", "|site:/about:~:desktop"),
        ("/site.css?v=1", "|site:/site.css:v=1"),
    ] {
        let url = format!("/v1/explain?url={}", node.url(path).replace('&', "%26"));
        let explained = node.admin().get(&url).await.json();
        let found = explained["key"].as_str().unwrap_or_default();
        assert!(found.ends_with(key), "{path}: {explained}");
        node.until_hit(path).await;
    }
}

#[test]
fn the_contract_of_each_version_stays_as_it_was_released() {
    let read = |file: &str| std::fs::read_to_string(workspace().join(file)).expect("a contract");
    for (version, file) in [
        ("1.0.0", "wit/1.0.0/policy.wit"),
        ("1.1.0", "wit/policy.wit"),
    ] {
        assert!(
            read(file) == read(&format!("tests/data/abi/{version}/policy.wit")),
            "{file} has changed, and components are compiled against it: leave {version} as it is, \
             and put what is new into a version beside it, which the host offers as well"
        );
    }
}

/// What is in a folder under `tests/data/abi`, or there itself.
fn listed(folder: &str) -> Vec<String> {
    let folder = workspace().join("tests/data/abi").join(folder);
    let entries = folder.read_dir().expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.into_string().expect("UTF-8"))
        .collect()
}

#[test]
fn every_contract_that_is_kept_is_tested_and_so_is_every_component() {
    let tests = include_str!("abi.rs");
    let versions = listed("").into_iter().filter(|name| name != "README.md");
    let versions: Vec<String> = versions.collect();
    assert!(versions.len() >= 2, "{versions:?}");
    for version in versions {
        let compared = format!("(\"{version}\", \"wit/");
        assert!(
            tests.contains(&compared),
            "no test holds {version} as it is"
        );
        let files = listed(&version);
        let components = files
            .iter()
            .filter_map(|file| file.strip_suffix(".wasm.zst"));
        let components: Vec<&str> = components.collect();
        assert!(!components.is_empty(), "no component of {version} is kept");
        for name in components {
            let run = format!("component(\"{version}/{name}\")");
            assert!(tests.contains(&run), "no test runs {version}/{name}");
        }
    }
}
