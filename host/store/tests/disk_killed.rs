//! A node with a disk tier is killed at any moment. What it had written before is whole or
//! gone, and what it had purged is not there.

#![expect(
    clippy::expect_used,
    reason = "clippy knows functions marked as tests, but not what they call"
)]

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use weir_semantics::{Freshness, Timestamp, VaryKey};
use weir_store::disk::{DiskConfig, DiskTier};
use weir_store::log::{Limits, Log, Selector, Target};
use weir_store::{Clock, Key, Object, ObjectParts, Position, StoredHeaders, Tags};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: usize = 200;

/// Set for the process that is killed.
const FOLDER: &str = "WEIR_TEST_DISK";

async fn open(folder: &Path) -> (Log, DiskTier) {
    let log = Log::durable(Limits::default(), &folder.join("purges"), NOW).expect("a journal");
    let config = DiskConfig {
        capacity: 64 << 20,
        deadline: Duration::from_secs(20),
        ..DiskConfig::new(folder.join("objects"))
    };
    let disk = DiskTier::open(&config, log.clone(), Clock::manual(NOW)).expect("a folder");
    assert!(disk.opened(PATIENCE).await);
    (log, disk)
}

fn key(at: usize) -> Key {
    Key::parse(&format!("http://a|user:{at}")).expect("a key")
}

/// The body that goes with a key and a version, of a size of their own.
fn body(at: usize, version: u64) -> Bytes {
    let length = (at * 7_919 + version as usize * 104_729) % 60_000;
    let begin = format!("{at} {version} ");
    let rest = (0..length).map(|byte| (byte * 31 + at) as u8);
    begin.bytes().chain(rest).collect()
}

fn object(at: usize, version: u64, position: Position) -> Object {
    Object::new(ObjectParts {
        key: key(at),
        url: format!("http://a/{at}").into(),
        status: StatusCode::OK,
        headers: StoredHeaders::from_map(&HeaderMap::new()),
        body: body(at, version),
        trailers: None,
        vary: VaryKey::default(),
        tags: Tags::new([format!("version-{version}").as_str()]).expect("a tag"),
        freshness: Freshness {
            received: NOW,
            initial_age: Duration::ZERO,
            lifetime: Duration::from_secs(3_600),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            keep: Duration::ZERO,
            must_revalidate: false,
            no_cache: false,
            immutable: false,
            heuristic: false,
        },
        memory_until: None,
        fetch_took: Duration::ZERO,
        shared: true,
        position,
        policy: None,
    })
}

/// What the test below starts: objects of ever newer versions, each purged by its tag, and
/// put once more after that with the position from before, as by a slow fetch.
#[tokio::test]
#[ignore = "run by the test below, in a process of its own"]
async fn writes_and_purges_until_it_is_killed() {
    let folder = std::env::var_os(FOLDER).expect("a folder");
    let (log, disk) = open(Path::new(&folder)).await;
    let first: u64 = std::env::var("WEIR_TEST_FIRST").unwrap().parse().unwrap();
    for version in first.. {
        let position = log.position();
        for at in 0..KEYS {
            disk.put(Arc::new(object(at, version, position)));
        }
        if fastrand::bool() {
            assert!(disk.drained(PATIENCE).await);
        }
        println!("written {version} .");
        if version % 3 == 0 {
            continue;
        }
        let tag = Selector::new(Target::Tag(format!("version-{version}")));
        assert!(log.invalidate(&[tag], NOW).await.durable);
        println!("purged {version} .");
        for at in 0..KEYS / 2 {
            disk.put(Arc::new(object(at, version, position)));
        }
    }
}

#[tokio::test]
async fn a_node_that_is_killed_serves_nothing_torn_and_nothing_purged() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let mut purged = HashSet::new();
    let (mut next, mut found) = (1, 0);
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--ignored",
                "--exact",
                "--nocapture",
                "writes_and_purges_until_it_is_killed",
            ])
            .env(FOLDER, folder.path())
            .env("WEIR_TEST_FIRST", next.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let (mut told, wanted) = (0, fastrand::usize(1..20));
        for line in lines {
            let Ok(line) = line else { break };
            // A line that was cut has no end.
            let words: Vec<&str> = line.split(' ').collect();
            let (what, version): (_, u64) = match words[..] {
                [what, version, "."] => (what, version.parse().expect("a number")),
                _ => continue,
            };
            next = next.max(version + 1);
            if what == "purged" {
                purged.insert(version);
            }
            told += 1;
            if told == wanted {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("ended");
        assert!(told > 0, "round {round} did nothing");
        let (_, disk) = open(folder.path()).await;
        for at in 0..KEYS {
            let key = key(at);
            let object = disk.get(key.as_str(), &HeaderMap::new()).await.unwrap();
            let Some(object) = object else { continue };
            found += 1;
            let text = String::from_utf8_lossy(&object.body);
            let version: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
            assert!(object.body == body(at, version), "round {round}: torn");
            assert!(!purged.contains(&version), "round {round}: purged");
        }
        assert_eq!(disk.stats().emptied.get() + disk.stats().corrupt.get(), 0);
        assert!(disk.close(PATIENCE).await);
    }
    assert!(found > 0, "nothing survived a kill");
}
