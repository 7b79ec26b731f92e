//! A disk tier without room: requests are answered as if there were no such tier, and it
//! is used again once there is room.
//!
//! A full disk is a small tmpfs, which the kernel lets anybody mount in a mount namespace
//! of their own: each test runs the ignored one of its name in a process with one. Where
//! that is forbidden the tests say so and pass.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test that uses them"
)]

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::Command;

use weir_tests::origin::page_text;
use weir_tests::{Config, Origin, Reply, Scratch, Weir, until, weir_command};

/// The folder of the small disk, for the process that has one.
const DISK: &str = "WEIR_TEST_SMALL_DISK";

/// Runs an ignored test of this file with a disk of 160 MiB.
fn on_a_small_disk(test: &str) {
    let alone = ["--map-root-user", "--mount"];
    let allowed = Command::new("unshare").args(alone).arg("true").output();
    if !allowed.is_ok_and(|tried| tried.status.success()) {
        eprintln!("{test}: not run, no mount namespaces here (unshare --map-root-user --mount)");
        return;
    }
    let disk = Scratch::new();
    let mounted =
        "mount -t tmpfs -o size=160m tmpfs \"$WEIR_TEST_SMALL_DISK\" && exec \"$0\" \"$@\"";
    let run = Command::new("unshare")
        .args(alone)
        .args(["sh", "-c", mounted])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "--nocapture", test])
        .env(DISK, disk.path())
        .output()
        .expect("a process of its own");
    let printed = String::from_utf8_lossy(&run.stdout);
    assert!(
        run.status.success() && printed.contains("1 passed"),
        "{printed}{}",
        String::from_utf8_lossy(&run.stderr)
    );
}

fn disk() -> PathBuf {
    std::env::var_os(DISK).expect("a small disk").into()
}

/// Takes all that is left of the disk, until the file is deleted.
fn fill() -> PathBuf {
    let path = disk().join("of-somebody-else");
    let mut file = File::create(&path).expect("a file");
    for size in [1 << 20, 1 << 12, 1] {
        let bytes = vec![1; size];
        loop {
            match file.write_all(&bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    path
}

async fn origin() -> Origin {
    Origin::with(|call| {
        let body = page_text(&call.target, call.version) + &"x".repeat(20_000);
        Reply::ok()
            .cache("max-age=600")
            .header("surrogate-key", "all-pages")
            .text(body)
    })
    .await
}

fn config(origin: &Origin, min_free: &str) -> Config {
    let plain = Config::plain(&origin.url())
        .and("[disk]\ncapacity = \"256MiB\"\nmin_free = \"{free}\"\ndeadline = \"10s\"\n")
        .set("free", min_free)
        .and("[memory]\ncapacity = \"1MiB\"\n");
    Config::whole(&format!("data_dir = \"{{disk}}/data\"\n{}", plain.text())).file("disk", &disk())
}

/// Asks for pages, each of which must be the one that the origin has now.
async fn all_answered(node: &Weir, origin: &Origin, name: &str, pages: std::ops::Range<usize>) {
    for at in pages {
        let target = format!("/{name}/{at}");
        let answer = node.get(&target).await;
        assert_eq!(answer.status, 200, "{target}");
        let text = answer.text();
        assert!(text.starts_with(&page_text(&target, origin.version(&target))));
    }
}

async fn metric(node: &Weir, name: &str) -> f64 {
    node.admin().metric(name, &[]).await
}

/// Asks for new pages until one of them is on disk.
async fn is_written_to(node: &Weir, origin: &Origin, name: &str) {
    let before = metric(node, "weir_disk_written_total").await;
    let mut at = 0..;
    until("objects on disk", async || {
        let at = at.next()?;
        all_answered(node, origin, name, at..at + 1).await;
        (metric(node, "weir_disk_written_total").await > before).then_some(())
    })
    .await;
}

#[test]
fn a_disk_that_is_filled_by_others_fails_no_request() {
    on_a_small_disk("small_disk::filled_while_the_node_runs");
}

#[test]
fn a_disk_that_refuses_what_is_written_fails_no_request() {
    on_a_small_disk("small_disk::filled_to_the_last_byte");
}

#[test]
fn a_node_starts_on_a_full_disk_and_serves_from_memory() {
    on_a_small_disk("small_disk::full_before_the_node_starts");
}

#[test]
fn a_folder_that_cannot_be_written_is_said_at_the_start() {
    on_a_small_disk("small_disk::read_only");
}

/// What runs in a process of its own.
mod small_disk {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "run by another test, with a small disk"]
    async fn filled_while_the_node_runs() {
        let origin = origin().await;
        let mut node = config(&origin, "32MiB").start().await;
        is_written_to(&node, &origin, "before").await;

        let others = fill();
        until("the node's word that there is no room", async || {
            node.output()
                .contains("less room than disk.min_free")
                .then_some(())
        })
        .await;
        let readiness = node.admin().get("/readyz").await;
        assert!(readiness.text().contains("disk.min_free"), "{readiness:?}");
        all_answered(&node, &origin, "full", 0..300).await;
        assert!(metric(&node, "weir_disk_dropped_failed_total").await >= 300.0);
        // A purge holds, wherever the object is.
        for at in 0..10 {
            origin.bump(&format!("/full/{at}"));
            origin.bump(&format!("/before/{at}"));
        }
        node.admin().purge_tag("all-pages").await;
        all_answered(&node, &origin, "full", 0..10).await;
        all_answered(&node, &origin, "before", 0..10).await;

        fs::remove_file(others).expect("deleted");
        is_written_to(&node, &origin, "after").await;
        node.restart().await;
        all_answered(&node, &origin, "before", 0..10).await;
        assert_eq!(metric(&node, "weir_disk_emptied_total").await, 0.0);
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "run by another test, with a small disk"]
    async fn filled_to_the_last_byte() {
        let origin = origin().await;
        let mut node = config(&origin, "0B").start().await;
        is_written_to(&node, &origin, "before").await;
        let others = fill();
        let mut pages = 0;
        until("writes that the disk refuses", async || {
            all_answered(&node, &origin, "full", pages..pages + 10).await;
            pages += 10;
            (metric(&node, "weir_disk_dropped_failed_total").await > 0.0).then_some(())
        })
        .await;
        all_answered(&node, &origin, "full", 0..300).await;
        origin.bump("/full/1");
        node.admin().purge_tag("all-pages").await;
        all_answered(&node, &origin, "full", 0..10).await;
        fs::remove_file(others).expect("deleted");
        is_written_to(&node, &origin, "after").await;
        node.kill_and_start().await;
        all_answered(&node, &origin, "full", 0..10).await;
        assert_eq!(metric(&node, "weir_disk_emptied_total").await, 0.0);
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "run by another test, with a small disk"]
    async fn full_before_the_node_starts() {
        let origin = origin().await;
        let others = fill();
        let mut node = config(&origin, "32MiB").start().await;
        all_answered(&node, &origin, "full", 0..100).await;
        let again = node.get("/full/99").await;
        assert!(again.is_hit(), "{again:?}");
        assert!(node.output().contains("starting with memory alone"));
        fs::remove_file(others).expect("deleted");
        node.restart().await;
        is_written_to(&node, &origin, "after").await;

        // Once more, with files of an earlier run.
        node.terminate();
        node.ended().await;
        let others = fill();
        node.kill_and_start().await;
        all_answered(&node, &origin, "full", 0..100).await;
        fs::remove_file(others).expect("deleted");
        node.restart().await;
        is_written_to(&node, &origin, "afterwards").await;
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "run by another test, with a small disk"]
    async fn read_only() {
        let origin = origin().await;
        let mut node = config(&origin, "0B").start().await;
        is_written_to(&node, &origin, "before").await;
        node.terminate();
        node.ended().await;
        let remounted = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(disk())
            .status();
        assert!(remounted.expect("mount").success());
        let run = weir_command(node.scratch().path(), &["run", "-c", "weir.toml"]).await;
        assert_eq!(run.code, Some(1), "{}", run.all());
        for word in [
            "[disk]",
            "/data/node-purges",
            "Read-only",
            "make it writable",
        ] {
            assert!(run.all().contains(word), "{word}: {}", run.all());
        }
    }
}
