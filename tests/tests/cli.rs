//! The command line: check, explain, purge, event, deploy, rollback, status, stats, inspect,
//! warm.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use weir_tests::component::marked;
use weir_tests::port::Port;
use weir_tests::weir::Run;
use weir_tests::{
    Config, Gate, Origin, RedisServer, Reply, Scratch, Weir, charity, guests, weir_command,
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

/// What `needle` follows in a line of the output, without what surrounds it.
fn after(run: &Run, needle: &str) -> String {
    let line = run
        .stdout
        .lines()
        .find(|line| line.trim().starts_with(needle));
    let line = line.unwrap_or_else(|| panic!("{needle:?} begins no line of:\n{}", run.all()));
    line.trim()[needle.len()..].trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_shows_both_tiers_and_what_purged_an_object() {
    let (origin, redis) = (tagged().await.0, RedisServer::start().await);
    let node = Config::plain(&origin.url())
        .redis(&redis.url())
        .start()
        .await;
    node.until_hit("/a").await;
    weir_tests::until("the object in Redis", async || {
        (!redis.keys("weir:*|/a}").is_empty()).then_some(())
    })
    .await;
    let url = node.url("/a");
    let run = with_admin(&node, &["inspect", "--url", &url]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    let key = after(&run, "key");
    assert!(key.ends_with("|/a"), "{key}");
    assert_eq!(
        run.stdout.matches("state      fresh").count(),
        2,
        "{}",
        run.all()
    );
    assert_eq!(after(&run, "tags"), "pages");
    assert!(after(&run, "record").contains("TTL"));
    assert_eq!(after(&run, "stands as"), format!("weir:{{{key}}}"));

    assert_eq!(
        with_admin(&node, &["purge", "--tag", "pages"]).await.code,
        Some(0)
    );
    let run = with_admin(&node, &["inspect", &key]).await;
    assert_eq!(
        run.stdout.matches("state      purged").count(),
        2,
        "{}",
        run.all()
    );
    assert!(after(&run, "purged by").starts_with("tag, hard, sequence 1 of the fleet"));

    let run = with_admin(&node, &["inspect", &key, "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    let tiers: Vec<_> = json["tiers"].as_array().expect("tiers").iter().collect();
    assert_eq!(
        (&tiers[0]["tier"], &tiers[1]["tier"]),
        (&"memory".into(), &"redis".into())
    );
    assert_eq!(tiers[1]["objects"][0]["purged_by"][0]["named"], "tag");

    let run = with_admin(&node, &["inspect", "http://nobody|/a"]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert_eq!(after(&run, "memory"), "nothing");
    assert_eq!(after(&run, "redis"), "nothing");
    assert!(run.stdout.contains("Nothing is stored under this key"));
    let run = with_admin(&node, &["inspect", "/a"]).await;
    assert!(run.stdout.contains("http://HOST|"), "{}", run.stdout);
    let run = with_admin(&node, &["inspect", "no key"]).await;
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("weir explain"), "{}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_shows_memory_while_redis_is_away() {
    let (origin, mut redis) = (tagged().await.0, RedisServer::start().await);
    let node = Config::plain(&origin.url())
        .redis(&redis.url())
        .start()
        .await;
    node.until_hit("/a").await;
    redis.kill();
    let run = with_admin(&node, &["inspect", "--url", &node.url("/a")]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert_eq!(after(&run, "memory"), "1 object");
    let why = after(&run, "redis");
    assert!(
        why.contains("redis") || why.contains("down"),
        "{}",
        run.stdout
    );
    assert!(!run.stdout.contains("Nothing is stored"), "{}", run.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn inspect_shows_each_variant_on_disk_after_a_restart() {
    let origin = Origin::start().await;
    origin.on("/page", |call| {
        Reply::ok()
            .cache("max-age=600")
            .header("vary", "accept-language")
            .header("surrogate-key", "pages")
            .text(call.header("accept-language").unwrap_or_default())
    });
    let mut node = Config::plain(&origin.url())
        .and("[disk]\ndeadline = \"10s\"\n")
        .data_dir()
        .start()
        .await;
    for language in ["de", "fr"] {
        node.get_with("/page", &[("accept-language", language)])
            .await;
    }
    weir_tests::until("both on disk", async || {
        (node.admin().metric("weir_disk_written_total", &[]).await >= 2.0).then_some(())
    })
    .await;
    node.restart().await;
    let run = with_admin(&node, &["inspect", "--url", &node.url("/page")]).await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert_eq!(after(&run, "memory"), "nothing");
    assert!(
        after(&run, "disk").starts_with("2 objects"),
        "{}",
        run.all()
    );
    assert_eq!(run.stdout.matches("state      fresh").count(), 2);
    let key = after(&run, "key");

    assert_eq!(
        with_admin(&node, &["purge", "--tag", "pages"]).await.code,
        Some(0)
    );
    let run = with_admin(&node, &["inspect", &key]).await;
    assert_eq!(run.stdout.matches("state      purged").count(), 2);
    let cause = after(&run, "purged by");
    assert!(
        cause.starts_with("tag, hard, sequence ") && cause.ends_with(" of the node"),
        "{cause}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_count_objects_hits_and_misses_by_namespace() {
    let origin = charity::origin().await;
    let node = charity::config(&origin).start().await;
    for path in ["/users/1", "/users/1", "/users/2", "/config/a"] {
        node.get(path).await;
    }
    node.until_hit("/users/2").await;
    let run = with_admin(&node, &["stats"]).await;
    let words = |name| -> Vec<String> {
        let line = after(&run, name);
        line.split_whitespace().map(str::to_owned).collect()
    };
    let user = words("user ");
    assert_eq!(user[0], "2", "{}", run.stdout);
    assert_eq!(user[4], "2", "misses: {}", run.stdout);
    let config = words("config ");
    assert_eq!((config[0].as_str(), config[4].as_str()), ("1", "1"));

    let json = node.admin().get("/v1/stats").await.json();
    let total = &json["total"];
    let memory = node.admin().metric("weir_namespace_bytes", &[]).await;
    assert_eq!(total["objects"], 3);
    assert_eq!(total["bytes"].as_f64(), Some(memory));
    let user = [("namespace", "user")];
    assert_eq!(
        node.admin().metric("weir_namespace_objects", &user).await,
        2.0
    );
    let hits = node
        .admin()
        .metric("weir_namespace_hit_age_seconds_count", &user);
    let all = json["namespaces"].as_array().expect("a list");
    let of_user = all.iter().find(|one| one["namespace"] == "user");
    let of_user = of_user.expect("the namespace");
    assert_eq!(Some(hits.await), of_user["hit_age"]["count"].as_f64());
    assert_eq!(of_user["hits"], 2);
    node.admin()
        .invalidate(serde_json::json!({"all": true}))
        .await;
    let status = with_admin(&node, &["status"]).await;
    assert!(status.stdout.contains("HIT AGE"), "{}", status.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_stores_a_list_through_a_node_and_names_what_failed() {
    let origin = Origin::with(|call| match call.header("host").as_deref() {
        Some("site.example") => Reply::page(call).cache("max-age=600"),
        _ => Reply::status(404),
    })
    .await;
    origin.on("/private", |call| Reply::page(call).cache("no-store"));
    let node = Config::plain(&origin.url()).start().await;
    let lists = Scratch::new();
    let mut list = String::from("# pages\n\n");
    for n in 0..40 {
        list.push_str(&format!("http://site.example/{n}#top\n"));
    }
    list.push_str("http://site.example/private\n");
    lists.write("good.txt", &list);
    list.push_str("http://other.example/a\n/relative\n");
    lists.write("bad.txt", &list);
    let address = node.url("");
    let warm = async |list: &str| {
        weir_command(
            lists.path(),
            &["warm", list, "--node", &address, "--rate", "2000"],
        )
        .await
    };
    let run = warm("bad.txt").await;
    assert_eq!(run.code, Some(1), "{}", run.all());
    let counts = "40 stored, 0 hits, 1 not stored, 2 failed;";
    for told in [
        "43 URLs in ",
        counts,
        "not stored, no-store: 1",
        "failed, bad.txt:44: http://other.example/a: 404 Not Found",
        "failed, bad.txt:45: /relative: not an absolute URL",
    ] {
        assert!(
            run.stdout.contains(told),
            "{told:?} is not in:\n{}",
            run.all()
        );
    }
    assert_eq!(origin.count("/0"), 1);
    let run = warm("good.txt").await;
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(
        run.stdout
            .contains("0 stored, 40 hits, 1 not stored, 0 failed;"),
        "{}",
        run.stdout
    );
    assert_eq!(origin.count("/0"), 1);
    let hit = node.get_with("/0", &[("host", "site.example")]).await;
    assert!(hit.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_has_so_many_requests_under_way_and_no_more() {
    let gate = Gate::new();
    let waits = gate.clone();
    let origin = Origin::with(move |call| {
        let page = Reply::page(call).cache("max-age=600");
        page.behind(&waits)
    })
    .await;
    let node = Config::plain(&origin.url()).start().await;
    let lists = Scratch::new();
    let urls: String = (0..20).map(|n| format!("http://a/{n}\n")).collect();
    lists.write("list.txt", &urls);
    let address = node.url("");
    let dir = lists.path().to_owned();
    let running = tokio::spawn(async move {
        let words = ["warm", "list.txt", "--node", &address, "--concurrency", "4"];
        weir_command(&dir, &words).await
    });
    for done in 0..10 {
        weir_tests::until("four more than are done", async || {
            (origin.total() >= done + 4).then_some(())
        })
        .await;
        assert_eq!(origin.total(), done + 4);
        gate.admit(1);
    }
    gate.open();
    let run = running.await.expect("it ends");
    assert_eq!(run.code, Some(0), "{}", run.all());
    assert!(run.stdout.contains("20 stored"), "{}", run.all());
    let drawn = run.stderr.contains(['\u{1b}', '\r']);
    assert!(!drawn, "no bar where there is no terminal: {}", run.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_says_what_it_cannot_begin_with() {
    let lists = Scratch::new();
    lists.write("list.txt", "https://site.example/\n");
    let nobody = Port::reserve();
    let address = format!("http://127.0.0.1:{}", nobody.number());
    for (words, told) in [
        (vec!["missing.txt"], "missing.txt"),
        (vec!["list.txt", "-H", "host: a"], "Host"),
        (vec!["list.txt", "--node", "nowhere"], "http://HOST:PORT"),
        (vec!["list.txt", "--concurrency", "0"], "--concurrency"),
        (vec!["list.txt", "--node", &address], "--node https://"),
    ] {
        let words = [&["warm"][..], &words].concat();
        let run = weir_command(lists.path(), &words).await;
        assert_ne!(run.code, Some(0), "{words:?}");
        assert!(
            run.all().contains(told),
            "{told:?} is not in:\n{}",
            run.all()
        );
    }
    lists.write("list.txt", "http://site.example/\n");
    let run = weir_command(lists.path(), &["warm", "list.txt", "--node", &address]).await;
    assert_eq!(run.code, Some(1), "{}", run.all());
    assert!(run.stdout.contains("refused"), "{}", run.all());
    // Standard input is empty here, and nothing to do is no failure.
    assert_eq!(weir_command(lists.path(), &["warm"]).await.code, Some(0));
}
