//! Policies that do what a policy must not: no client notices, and all of it is counted.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use weir_tests::load::Load;
use weir_tests::names::POLICY_ERRORS;
use weir_tests::origin::page_text;
use weir_tests::{Config, Origin, Reply, Scratch, Weir, guests, until, weir_command};

/// A node with a route `/MISDEED/…` for each of these, and a policy of its own on each.
/// The misdeeds are those of `plugins/misbehaving`; `more` goes into every `config`.
async fn misbehaving(
    origin: &Origin,
    misdeeds: &[&str],
    on_policy_error: &str,
    more: &str,
) -> Weir {
    misbehaving_config(origin, misdeeds, on_policy_error, more)
        .start()
        .await
}

fn misbehaving_config(
    origin: &Origin,
    misdeeds: &[&str],
    on_policy_error: &str,
    more: &str,
) -> Config {
    let mut text = "listen = [\"127.0.0.1:{port}\"]\ndata_dir = \"{dir}/data\"\n\
        [admin]\nlisten = \"127.0.0.1:{admin}\"\n\
        [upstreams.o]\nservers = [\"{origin}\"]\n"
        .to_owned();
    for misdeed in misdeeds {
        text.push_str(&format!(
            r#"
[policies.{misdeed}]
component = "{{component}}"
namespaces = ["{misdeed}"]
config = {{ misbehave = "{misdeed}", namespace = "{misdeed}"{more} }}
cpu_limit = "20ms"
memory_limit = "16MiB"
[[routes]]
path = "/{misdeed}/{{*rest}}"
upstream = "o"
policy = "{misdeed}"
on_policy_error = "{on_policy_error}"
"#
        ));
    }
    Config::whole(&text)
        .set("origin", origin.url())
        .file("component", &guests().misbehaving())
}

/// What makes a call of on-request fail.
const FAILING: [&str; 21] = [
    "trap-on-request",
    "error-on-request",
    "endless-loop",
    "endless-host-calls",
    "deep-recursion",
    "memory-growth",
    "huge-key",
    "many-key-parts",
    "many-tags",
    "huge-note",
    "huge-reply",
    "huge-error",
    "huge-reason",
    "invalid-header-name",
    "invalid-header-value",
    "invalid-status",
    "framing-header",
    "origin-framing-header",
    "foreign-namespace",
    "invalid-namespace",
    "stale-handle",
];

/// What the host may bear, or not: clients must not notice.
const DUBIOUS: [&str; 6] = [
    "keep-part",
    "leak-handles",
    "nondeterminism",
    "rare-nondeterminism",
    "state-between-calls",
    "endless-lifetime",
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_policy_does_wrong_clients_get_the_origins_answer() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = misbehaving(&origin, &FAILING, "pass", "").await;
    for misdeed in FAILING {
        let path = format!("/{misdeed}/p");
        for _ in 0..3 {
            let answer = node.get(&path).await;
            let told = (answer.status.as_u16(), answer.text());
            assert_eq!(told, (200, page_text(&path, 1)), "{misdeed}");
            let status = answer.cache();
            assert!(!status.hit && !status.stored, "{misdeed}: {status:?}");
        }
        let failed = node
            .admin()
            .metric(POLICY_ERRORS, &[("policy", misdeed)])
            .await;
        assert!(failed >= 3.0, "{misdeed}: {failed} failures counted");
    }
    assert_eq!(node.admin().get("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_state_and_leaks_of_a_policy_do_not_reach_clients() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = misbehaving(&origin, &DUBIOUS, "pass", "").await;
    for misdeed in DUBIOUS {
        for n in 0..20 {
            let path = format!("/{misdeed}/{}", n % 3);
            let answer = node.get(&path).await;
            let told = (answer.status.as_u16(), answer.text());
            assert_eq!(told, (200, page_text(&path, 1)), "{misdeed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fallbacks_other_than_pass() {
    const TRAP: &str = "trap-on-request";
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let path = "/trap-on-request/p";
    let node = misbehaving(&origin, &[TRAP], "503", "").await;
    assert_eq!(node.get(path).await.status, 503);
    assert_eq!(origin.total(), 0);

    let node = misbehaving(&origin, &[TRAP], "rfc9111", "").await;
    node.get(path).await;
    assert!(node.until_hit(path).await.status.is_success());

    // No version before this one: as pass.
    let node = misbehaving(&origin, &[TRAP], "last-good", "").await;
    let status = node.get(path).await.cache();
    assert!(!status.hit && !status.stored, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn last_good_decides_by_the_version_before() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let config = Config::policy(&origin.url(), &guests().static_site(), "");
    let route = "policy = \"site\"\non_policy_error = \"last-good\"\n";
    let text = config.text().replacen("policy = \"site\"\n", route, 1);
    let node = Config::whole(&text).start().await;
    node.until_hit("/p").await;
    let before = node.admin().version("site").await;
    // It behaves well, but in a namespace that this policy was not given.
    let bad = std::fs::read(guests().misbehaving()).expect("a component");
    let answer = node.admin().put_policy("site", bad).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let status = node.get("/p").await.cache();
    assert!(status.hit && status.details(&before), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_fails_after_the_response_stores_nothing() {
    const FAILING: [&str; 6] = [
        "foreign-selector-on-response",
        "trap-on-response",
        "error-on-response",
        "endless-loop-on-response",
        "many-tags-on-response",
        "many-selectors-on-response",
    ];
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = misbehaving(&origin, &FAILING, "pass", "").await;
    for misdeed in FAILING {
        let path = format!("/{misdeed}/p");
        for _ in 0..2 {
            let answer = node.get(&path).await;
            assert_eq!(
                (answer.status.as_u16(), answer.text()),
                (200, page_text(&path, 1))
            );
            assert!(!answer.cache().hit, "{misdeed}: {:?}", answer.cache());
        }
        assert_eq!(origin.count(&path), 2, "{misdeed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_policy_fails_on_is_not_acknowledged() {
    let origin = Origin::with(Reply::page).await;
    for misdeed in [
        "trap-on-event",
        "error-on-event",
        "endless-loop-on-event",
        "many-selectors-on-event",
        "foreign-selector-on-event",
    ] {
        let node = misbehaving(&origin, &[misdeed], "pass", "").await;
        let event = r#"{"type":"test.changed","data":{"id":1}}"#;
        let answer = node.admin().post("/v1/events", event).await;
        assert_eq!(answer.status, 503, "{misdeed}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_fails_in_configure_is_not_taken() {
    let origin = Origin::with(Reply::page).await;
    for misdeed in [
        "trap-in-configure",
        "error-in-configure",
        "endless-loop-in-configure",
    ] {
        let scratch = Scratch::new();
        let config = misbehaving_config(&origin, &[misdeed], "pass", "");
        let config = config.file("dir", scratch.path());
        let text = config
            .text()
            .replace("{port}", "8080")
            .replace("{admin}", "9900");
        scratch.write("weir.toml", text);
        let run = weir_command(scratch.path(), &["check", "-c", "weir.toml"]).await;
        assert_eq!(run.code, Some(1), "{misdeed}: {}", run.all());
        for named in ["weir.toml:", misdeed, "configure"] {
            assert!(
                run.all().contains(named),
                "{misdeed}: {named} is not in:\n{}",
                run.all()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_traps_on_some_paths_fails_no_request() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let only = ", only = \"/trap-on-request/*7\"";
    let node = misbehaving(&origin, &["trap-on-request"], "pass", only).await;
    let urls = (0..50)
        .map(|n| node.url(&format!("/trap-on-request/{n}")))
        .collect();
    let load = Load::start(6, urls, |url, answer| {
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        let good = answer.status == 200 && answer.text() == page_text(&format!("/{path}"), 1);
        let traps = path.ends_with('7');
        let rightly = !(traps && answer.is_hit());
        (good && rightly)
            .then_some(())
            .ok_or_else(|| "wrong".to_owned())
    });
    load.goes_on(1_000).await;
    load.finish().await;
    let failed = node.admin().metric(POLICY_ERRORS, &[]).await;
    assert!(failed > 0.0, "it never trapped");
    // The others were cached all the while.
    assert_eq!(origin.count("/trap-on-request/1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_with_hidden_state_is_found_out_and_no_longer_remembered() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let node = misbehaving(&origin, &["state-between-calls"], "pass", "").await;
    // Two instances may agree at first; it takes a sample of one in 256 to find it out.
    until("the memo to be switched off", async || {
        for _ in 0..100 {
            assert_eq!(node.get("/state-between-calls/x").await.status, 200);
        }
        let labels = [("hook", "on-request"), ("memo", "off")];
        let calls = node.admin().metric("weir_policy_calls_total", &labels);
        (calls.await > 0.0).then_some(())
    })
    .await;
    assert!(node.output().contains("keeps state of its own"));
}

/// The misdeeds of `plugins/misbehaving`, by the names that its settings take.
fn corpus() -> Vec<String> {
    let source = weir_tests::artifact::workspace().join("plugins/misbehaving/src/settings.rs");
    let source = std::fs::read_to_string(source).expect("the misdeeds");
    let (_, body) = source.split_once("enum Misdeed {").expect("the enum");
    let variants = body
        .lines()
        .map(str::trim)
        .filter_map(|line| line.strip_suffix(','));
    variants
        .map(|variant| {
            let mut name = String::new();
            for (at, letter) in variant.char_indices() {
                if letter.is_uppercase() && at > 0 {
                    name.push('-');
                }
                name.extend(letter.to_lowercase());
            }
            name
        })
        .collect()
}

/// A Rust file without its comments.
fn code(file: &std::path::Path) -> String {
    let text = std::fs::read_to_string(file).expect("a test");
    let lines = text.lines();
    let lines = lines.filter(|line| !line.trim_start().starts_with("//"));
    lines.fold(String::new(), |code, line| code + line + "\n")
}

#[test]
fn every_misdeed_has_a_test() {
    let corpus = corpus();
    assert!(corpus.len() > 40, "{corpus:?}");
    let root = weir_tests::artifact::workspace();
    let mut tests = String::new();
    for folder in ["tests/tests", "host/policy/tests"] {
        for entry in root.join(folder).read_dir().expect("tests") {
            let path = entry.expect("a file").path();
            if path.extension().is_some_and(|kind| kind == "rs") {
                tests.push_str(&code(&path));
            }
        }
    }
    let missing: Vec<&String> = corpus
        .iter()
        .filter(|misdeed| !tests.contains(&format!("\"{misdeed}\"")))
        .collect();
    assert!(missing.is_empty(), "no test names {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_instances_of_a_policy_share_a_bound_on_memory() {
    let origin = Origin::with(|call| Reply::page(call).cache("max-age=600")).await;
    let config = misbehaving_config(&origin, &["memory-growth"], "pass", "");
    // One instance could use 16 MiB; all together may use 16 MiB too.
    let limit = "memory_limit = \"16MiB\"\n";
    let text = config
        .text()
        .replace(limit, &format!("{limit}total_memory = \"16MiB\"\n"));
    // Growing must not end by the CPU limit on a busy machine.
    let text = text.replace("cpu_limit = \"20ms\"", "cpu_limit = \"10s\"");
    let node = Config::whole(&text).start().await;
    for n in 0..4 {
        let path = format!("/memory-growth/{n}");
        assert_eq!(node.get(&path).await.text(), page_text(&path, 1));
    }
    let labels = [("policy", "memory-growth"), ("reason", "memory-limit")];
    let refused = node.admin().metric(POLICY_ERRORS, &labels).await;
    assert!(refused >= 4.0, "{refused} refusals");
    let used = node.admin().metric("weir_policy_memory_bytes", &[]).await;
    assert!((0.0..=f64::from(16 << 20)).contains(&used), "{used} bytes");
}
