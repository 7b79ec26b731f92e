//! A node that is alone is killed at any moment, and loses no purge that it acknowledged.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use weir_semantics::Timestamp;
use weir_store::log::{Limits, Log, Selector, Target};
use weir_store::{Key, Position, Tags};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

/// Set for the process that is killed.
const FILE: &str = "WEIR_TEST_JOURNAL";

#[expect(clippy::expect_used, reason = "a helper of tests")]
fn open(path: &Path) -> Log {
    Log::durable(Limits::default(), path, NOW).expect("a journal")
}

/// What the test below starts. Long URLs make the file grow and be compacted.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn purges_until_it_is_killed() {
    let path = std::env::var_os(FILE).expect("a file");
    let log = open(Path::new(&path));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for n in 0_u64.. {
            let before = log.position();
            let long = "x".repeat(1_000 * (n as usize % 120));
            let selectors = [
                Selector::new(Target::Tag(n.to_string())),
                Selector::new(Target::Url(long)),
            ];
            let receipt = log.invalidate(&selectors, NOW).await;
            assert!(receipt.durable);
            println!("purged {} {} {n} .", before.epoch, before.node);
        }
    });
}

#[test]
fn a_node_that_is_killed_loses_no_purge_that_it_acknowledged() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("purges");
    let epoch = open(&path).position().epoch;
    let key = Key::parse("http://a|user:1").expect("a key");
    let mut acknowledged: Vec<(Position, Tags)> = Vec::new();
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "purges_until_it_is_killed",
            ])
            .env(FILE, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let wanted = fastrand::usize(1..200);
        let before = acknowledged.len();
        for line in lines {
            let Ok(line) = line else { break };
            // A line that was cut has no end.
            let words: Vec<&str> = line.split(' ').collect();
            let ["purged", epoch, node, tag, "."] = words[..] else {
                continue;
            };
            let position = Position {
                epoch: epoch.parse().expect("a number"),
                node: node.parse().expect("a number"),
                ..Position::default()
            };
            acknowledged.push((position, Tags::new([tag]).expect("a tag")));
            if acknowledged.len() == before + wanted {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("ended");
        assert!(acknowledged.len() > before, "round {round} did nothing");
        let log = open(&path);
        assert_eq!(log.position().epoch, epoch, "round {round}");
        for (position, tags) in &acknowledged {
            assert!(
                !log.untouched(&key, "http://a/", tags, *position),
                "round {round}: a purge is lost"
            );
            assert!(log.untouched(&key, "http://a/", tags, log.position()));
        }
    }
}
