//! The disk tier of a node that is alone: what survives a restart, a kill, and damage.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::json;
use weir_tests::origin::page_text;
use weir_tests::{Answer, Config, Origin, RedisServer, Reply, Weir, answer, until, weir_command};

async fn tagged_origin() -> Origin {
    Origin::with(|call| {
        Reply::page(call)
            .cache("max-age=600")
            .header("surrogate-key", "all-pages")
    })
    .await
}

/// A busy machine is no defect of the node.
const DISK: &str = "[disk]\ncapacity = \"256MiB\"\ndeadline = \"10s\"\n";

/// With a memory of the least size, so that the disk is asked.
fn config(origin: &Origin) -> Config {
    Config::plain(&origin.url())
        .and(DISK)
        .and("[memory]\ncapacity = \"1MiB\"\n")
        .data_dir()
}

async fn on_disk(node: &Weir, count: f64) {
    until(&format!("{count} objects on disk"), async || {
        (node.admin().metric("weir_disk_written_total", &[]).await >= count).then_some(())
    })
    .await;
}

/// The word of Cache-Status that names the tier.
fn is_from_disk(answer: &Answer) -> bool {
    answer.is_hit()
        && answer
            .header("cache-status")
            .is_some_and(|it| it.contains("disk"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hits_after_a_restart_with_the_origin_gone() {
    let mut origin = tagged_origin().await;
    let mut node = config(&origin).start().await;
    let before = node.get("/a").await;
    on_disk(&node, 1.0).await;
    origin.down().await;
    node.restart().await;
    let after = node.get("/a").await;
    assert!(is_from_disk(&after), "{after:?}");
    assert_eq!(after.body, before.body);
    assert_eq!(after.header("etag"), before.header("etag"));
    // Then from memory.
    let again = node.get("/a").await;
    assert!(again.is_hit() && !is_from_disk(&again), "{again:?}");
    assert_eq!(node.get("/b").await.status, 502);
    let status = node.admin().get("/v1/status").await.json();
    assert_eq!(status["disk"]["state"], "up", "{status}");
    assert!(status["disk"]["entries"].as_u64() >= Some(1), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_stays_gone_after_a_restart_and_after_a_kill() {
    let origin = tagged_origin().await;
    let mut node = config(&origin).start().await;
    for path in ["/tag", "/url", "/kept"] {
        node.get(path).await;
    }
    on_disk(&node, 3.0).await;
    // Killed right behind the acknowledgement.
    let url = node.url("/url");
    node.admin().invalidate(json!({ "urls": [url] })).await;
    node.kill_and_start().await;
    assert!(is_from_disk(&node.get("/kept").await));
    let refetched = node.get("/url").await;
    assert!(!refetched.is_hit(), "{refetched:?}");
    on_disk(&node, 1.0).await;
    node.admin().purge_tag("all-pages").await;
    node.restart().await;
    for path in ["/tag", "/url", "/kept"] {
        let answer = node.get(path).await;
        assert!(!answer.is_hit(), "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_the_tier_does_not_let_its_objects_forget_purges() {
    let origin = tagged_origin().await;
    let mut node = config(&origin).start().await;
    node.get("/a").await;
    node.get("/b").await;
    on_disk(&node, 2.0).await;
    let with_disk = node.config_text();
    node.rewrite(|text| text.replace(DISK, ""));
    node.restart().await;
    let url = node.url("/a");
    node.admin().invalidate(json!({ "urls": [url] })).await;
    node.rewrite(|_| with_disk.clone());
    node.restart().await;
    assert!(!node.get("/a").await.is_hit());
    assert!(is_from_disk(&node.get("/b").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_purged_while_the_node_has_redis_instead_stays_gone() {
    let origin = tagged_origin().await;
    let redis = RedisServer::start().await;
    let mut node = config(&origin).start().await;
    node.get("/a").await;
    on_disk(&node, 1.0).await;
    let with_disk = node.config_text();
    node.rewrite(|text| text.replace(DISK, &format!("[redis]\nurl = \"{}\"\n", redis.url())));
    node.restart().await;
    let url = node.url("/a");
    node.admin().invalidate(json!({ "urls": [url] })).await;
    node.rewrite(|_| with_disk.clone());
    node.restart().await;
    assert!(!node.get("/a").await.is_hit());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_object_on_disk_stands_in_for_a_failing_origin() {
    let mut origin =
        Origin::with(|call| Reply::page(call).cache("max-age=1, stale-if-error=600")).await;
    let mut node = config(&origin).start().await;
    let before = node.get("/a").await;
    on_disk(&node, 1.0).await;
    origin.down().await;
    node.restart().await;
    let stale = until("an answer older than its lifetime", async || {
        let answer = node.get("/a").await;
        let age = answer.age()?;
        (age >= 2).then_some(answer)
    })
    .await;
    assert_eq!((stale.status.as_u16(), stale.body), (200, before.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_body_and_each_language_come_back_from_disk() {
    let mut origin = Origin::start().await;
    origin.on("/big", |_| {
        Reply::ok().cache("max-age=600").pattern(40 << 20)
    });
    origin.on("/page", |call| {
        let language = call.header("accept-language").unwrap_or_default();
        Reply::ok()
            .cache("max-age=600")
            .header("vary", "accept-language")
            .text(language)
    });
    let mut node = Config::plain(&origin.url())
        .and("[disk]\ndeadline = \"10s\"\n[memory]\ncapacity = \"512MiB\"\n")
        .data_dir()
        .start()
        .await;
    let before = node.get("/big").await;
    assert_eq!(before.body.len(), 40 << 20);
    for language in ["de", "fr"] {
        node.get_with("/page", &[("accept-language", language)])
            .await;
    }
    on_disk(&node, 3.0).await;
    origin.down().await;
    node.kill_and_start().await;
    let after = node.get("/big").await;
    assert!(is_from_disk(&after), "{:?}", after.header("cache-status"));
    assert!(after.body == before.body);
    for language in ["de", "fr"] {
        let found = node
            .get_with("/page", &[("accept-language", language)])
            .await;
        assert_eq!(found.text(), language);
        assert!(is_from_disk(&found));
    }
    let other = node.get_with("/page", &[("accept-language", "en")]).await;
    assert_eq!(other.status, 502);
}

/// Pages of three sizes, so that the file of the disk tier grows while they change.
fn page(target: &str, version: u64) -> String {
    let length = target.len() * 1_009 % 3 * 20_000 + (version as usize % 97) * 11;
    format!("{}{}", page_text(target, version), "x".repeat(length))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_under_load_serves_no_torn_page_and_no_purged_one() {
    const KILLS: usize = 24;
    let origin = Origin::with(|call| {
        Reply::ok()
            .cache("max-age=600")
            .text(page(&call.target, call.version))
    })
    .await;
    let mut node = config(&origin).start().await;
    let targets: Vec<String> = (0..120)
        .map(|at| format!("/{}", "p".repeat(at % 7) + &at.to_string()))
        .collect();
    // The version that a purge has acknowledged: nothing older may be served.
    let acknowledged: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    let (mut hits, mut answers) = (0, 0);
    for round in 0..KILLS {
        let killed = kill_soon(node.process_id(), fastrand::u64(30..700));
        let client = answer::client();
        let mut at = round * 31;
        // Until it is dead: each answer is whole and as new as the last purge.
        loop {
            at += 1;
            let target = &targets[fastrand::usize(..targets.len())];
            let least = acknowledged.lock().get(target).copied().unwrap_or(1);
            let Ok(answer) = Answer::of(client.get(node.url(target))).await else {
                break;
            };
            answers += 1;
            let text = answer.text();
            let version =
                (least..=origin.version(target)).find(|version| text == page(target, *version));
            assert!(
                version.is_some(),
                "round {round}: {target} is torn or older than {least}: {:?}",
                text.get(..60)
            );
            hits += usize::from(is_from_disk(&answer));
            if at % 5 == 0 {
                let version = origin.bump(target);
                let purge = json!({ "urls": [node.url(target)] }).to_string();
                let request = client
                    .post(format!("{}/v1/invalidate", node.admin().base()))
                    .header("content-type", "application/json");
                let Ok(purged) = Answer::of(request.body(purge)).await else {
                    break;
                };
                if purged.status == 200 {
                    acknowledged.lock().insert(target.clone(), version);
                }
            }
        }
        killed.await.expect("the killer");
        node.kill_and_start().await;
        let emptied = node.admin().metric("weir_disk_emptied_total", &[]).await;
        assert_eq!(emptied, 0.0, "round {round}");
    }
    assert!(answers > KILLS * 10, "{answers} answers");
    assert!(hits > KILLS, "{hits} hits on disk of {answers} answers");
}

/// SIGKILL after so many milliseconds.
fn kill_soon(process: u32, milliseconds: u64) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        weir_tests::process::kill(process);
    })
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.path() {
            path if path.is_dir() => files(&path, out),
            path => out.push(path),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_files_are_damaged_starts_says_so_and_serves() {
    let origin = tagged_origin().await;
    let mut node = config(&origin).start().await;
    let objects = node.scratch().join("data/objects");
    for damage in ["cut", "gone", "flipped"] {
        for at in 0..50 {
            node.get(&format!("/{damage}/{at}")).await;
        }
        on_disk(&node, 50.0).await;
        node.terminate();
        node.ended().await;
        let mut paths = Vec::new();
        files(&objects, &mut paths);
        for path in paths {
            let mut bytes = fs::read(&path).expect("a file");
            match damage {
                "cut" => fs::write(&path, &bytes[..bytes.len() / 2]).expect("cut"),
                "gone" if path.to_string_lossy().contains("keyspaces") => {
                    fs::remove_file(&path).expect("gone");
                }
                _ => {
                    for byte in bytes.iter_mut().step_by(50) {
                        *byte ^= 0x55;
                    }
                    fs::write(&path, &bytes).expect("flipped");
                }
            }
        }
        node.kill_and_start().await;
        for at in 0..50 {
            let target = format!("/{damage}/{at}");
            assert_eq!(node.get(&target).await.text(), page_text(&target, 1));
        }
        on_disk(&node, 50.0).await;
        node.restart().await;
        let found = node.get(&format!("/{damage}/49")).await;
        assert!(is_from_disk(&found), "{damage}: it takes objects again");
    }
    assert!(node.output().contains("the disk tier is damaged: emptied"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_of_purges_makes_every_object_count_as_purged() {
    let origin = tagged_origin().await;
    let mut node = config(&origin).start().await;
    node.get("/a").await;
    on_disk(&node, 1.0).await;
    node.terminate();
    node.ended().await;
    let purges = node.scratch().join("data/node-purges");
    fs::write(&purges, b"not a journal").expect("written");
    node.kill_and_start().await;
    assert!(!node.get("/a").await.is_hit());
    assert!(node.output().contains("the purges on disk are damaged"));
    on_disk(&node, 1.0).await;
    // Nor is it known what a file that is gone said.
    node.terminate();
    node.ended().await;
    fs::remove_file(&purges).expect("deleted");
    node.kill_and_start().await;
    assert!(!node.get("/a").await.is_hit());
    on_disk(&node, 1.0).await;
    node.restart().await;
    assert!(is_from_disk(&node.get("/a").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_the_folder() {
    let origin = tagged_origin().await;
    let node = config(&origin).start().await;
    // Other ports, the same folder.
    let text = node
        .config_text()
        .replace(&format!(":{}\"", node.port()), ":0\"")
        .replace(&format!(":{}\"", node.admin_port()), ":0\"");
    node.scratch().write("second.toml", text);
    let run = weir_command(node.scratch().path(), &["run", "-c", "second.toml"]).await;
    assert_eq!(run.code, Some(1), "{}", run.all());
    assert!(
        run.all().contains("is in use by another node"),
        "{}",
        run.all()
    );
    assert_eq!(node.get("/a").await.status, 200);
    // Neither of these asks for it.
    for words in [
        &["check", "-c", "weir.toml"][..],
        &["explain", "-c", "weir.toml", "http://a.example/a"],
    ] {
        let run = weir_command(node.scratch().path(), words).await;
        assert_eq!(run.code, Some(0), "{}", run.all());
    }
    assert_eq!(node.get("/a").await.status, 200);
}
