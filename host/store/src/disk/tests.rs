use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::log::{Limits, Selector, Target, Verdict};
use crate::testing::{NOW, headers, parts, vary};
use crate::{ObjectParts, Tags};

const PATIENCE: Duration = Duration::from_secs(60);

/// As the binary has it. The system's own refuses the amounts that a damaged length names,
/// which nobody is going to use, and the process ends.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEY: &str = "http://a.example|user:profile:1";

/// A node alone, as far as this tier goes.
struct Node {
    log: Log,
    clock: Clock,
    disk: DiskTier,
}

impl Node {
    async fn start(folder: &TempDir) -> Self {
        Self::start_with(folder, |_| ()).await
    }

    async fn start_with(folder: &TempDir, change: impl FnOnce(&mut DiskConfig)) -> Self {
        let clock = Clock::manual(NOW);
        let log = Log::durable(Limits::default(), &folder.path().join("purges"), NOW).unwrap();
        let mut config = DiskConfig {
            capacity: 64 << 20,
            // The machine that runs the tests may be busy.
            deadline: Duration::from_secs(20),
            ..DiskConfig::new(folder.path().join("objects"))
        };
        change(&mut config);
        let disk = DiskTier::open(&config, log.clone(), clock.clone()).unwrap();
        assert!(disk.opened(PATIENCE).await, "it opens");
        Self { log, clock, disk }
    }

    async fn stop(self) {
        assert!(self.disk.close(PATIENCE).await, "it closes");
    }

    fn fetched(&self, key: &str, body: &'static str) -> Object {
        Object::new(self.fetched_parts(key, body))
    }

    fn fetched_parts(&self, key: &str, body: &'static str) -> ObjectParts {
        ObjectParts {
            position: self.log.position(),
            ..parts(key, body)
        }
    }

    async fn put(&self, object: Object) {
        self.disk.put(Arc::new(object));
        self.drained().await;
    }

    async fn drained(&self) {
        assert!(self.disk.drained(PATIENCE).await, "what waits is written");
    }

    async fn get(&self, key: &str) -> Option<Arc<Object>> {
        self.get_with(key, &[]).await
    }

    async fn get_with(&self, key: &str, request: &[(&str, &str)]) -> Option<Arc<Object>> {
        self.disk.get(key, &headers(request)).await.unwrap()
    }

    async fn purge(&self, target: Target, soft: bool) {
        let selector = Selector::new(target);
        let selector = if soft { selector.soft() } else { selector };
        let receipt = self.log.invalidate(&[selector], NOW).await;
        assert!(receipt.durable);
    }
}

fn key(at: usize) -> String {
    format!("http://a.example|user:profile:{at}")
}

/// Every file below a folder.
fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    // What is deleted meanwhile is not there.
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, out),
            false => out.push(path),
        }
    }
    out.sort();
}

#[tokio::test]
async fn an_object_comes_back_after_a_restart_as_it_was() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(&folder).await;
    node.purge(Target::Tag("other".into()), false).await;
    let stored = Object::new(ObjectParts {
        tags: Tags::new(["team"]).unwrap(),
        ..node.fetched_parts(KEY, "the body")
    });
    let position = stored.position();
    node.put(stored).await;
    assert!(node.get(KEY).await.is_some());
    node.stop().await;
    let node = Node::start(&folder).await;
    let found = node.get(KEY).await.expect("found");
    assert_eq!(&found.body[..], b"the body");
    assert!(position.node > 0);
    assert!(found.position().is_at(position));
    assert_eq!(node.log.verdict(&found), Verdict::Valid);
    assert!(found.tags.iter().eq(["team"]));
    assert!(node.get(&key(2)).await.is_none());
    let stats = node.disk.stats();
    assert_eq!((stats.hits.get(), stats.misses.get()), (1, 1));
    node.stop().await;
}

#[tokio::test]
async fn what_was_purged_stays_gone_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(&folder).await;
    let tagged = |at: usize| {
        Object::new(ObjectParts {
            tags: Tags::new(["team"]).unwrap(),
            ..node.fetched_parts(&key(at), "old")
        })
    };
    node.put(tagged(1)).await;
    // Fetched before the purge, written after it.
    let late = tagged(2);
    node.put(node.fetched(&key(3), "untouched")).await;
    node.put(tagged(4)).await;
    node.purge(Target::Tag("team".into()), false).await;
    node.put(late).await;
    // The newer one has not the tag: what it replaced must not come back for that.
    node.put(node.fetched(&key(4), "newer")).await;
    node.put(node.fetched(&key(5), "soft")).await;
    node.purge(Target::Key("user:profile:5".into()), true).await;
    for restarted in [false, true] {
        let node = match restarted {
            false => &node,
            true => {
                // As after a kill: nothing is closed first, and the lock goes with it.
                &Node::start_copy(&folder).await
            }
        };
        assert!(node.get(&key(1)).await.is_none(), "{restarted}");
        assert!(node.get(&key(2)).await.is_none(), "{restarted}");
        assert!(node.get(&key(3)).await.is_some(), "{restarted}");
        assert_eq!(&node.get(&key(4)).await.unwrap().body[..], b"newer");
        let soft = node.get(&key(5)).await.expect("a soft purge keeps it");
        assert_eq!(node.log.verdict(&soft), Verdict::Soft(NOW));
    }
    node.stop().await;
}

impl Node {
    /// Starts on a copy of the files, as they stand while another node uses them.
    async fn start_copy(folder: &TempDir) -> Self {
        let copy = TempDir::new().unwrap();
        copy_all(folder.path(), copy.path());
        let node = Self::start(&copy).await;
        // Deleted when the test ends, not before.
        let _ = copy.keep();
        node
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        match from.is_dir() {
            true => copy_all(&from, &to),
            false => drop(fs::copy(&from, &to).unwrap()),
        }
    }
}

#[tokio::test]
async fn nothing_is_believed_when_the_log_is_another_one() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(&folder).await;
    node.put(node.fetched(KEY, "old")).await;
    node.stop().await;
    fs::remove_file(folder.path().join("purges")).unwrap();
    let node = Node::start(&folder).await;
    assert!(node.get(KEY).await.is_none());
    node.drained().await;
    assert!(raw(&node, KEY).is_none(), "what is dead is deleted");
    node.stop().await;
}

/// What stands on disk, judged by nobody.
fn raw(node: &Node, name: &str) -> Option<Bytes> {
    let segments = node.disk.shared.segments.read().clone().unwrap();
    let stored = segments.get(name.as_bytes()).unwrap();
    stored.map(|stored| stored.value)
}

#[tokio::test]
async fn each_variant_answers_its_own_requests_after_a_restart_too() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(&folder).await;
    let variant = |names: &str, request: &[(&str, &str)], body| {
        Object::new(ObjectParts {
            vary: vary(names, request),
            ..node.fetched_parts(KEY, body)
        })
    };
    // Two in one batch, so that the second has to see the first one's index.
    let (de, fr) = ([("accept-language", "de")], [("accept-language", "fr")]);
    for object in [
        variant("accept-language", &de, "de"),
        variant("accept-language", &fr, "fr"),
        variant("x-other", &[("x-other", "1")], "other"),
    ] {
        node.disk.put(Arc::new(object));
    }
    node.drained().await;
    node.stop().await;
    let node = Node::start(&folder).await;
    let body = async |request: &[(&str, &str)]| {
        let found = node.get_with(KEY, request).await?;
        Some(String::from_utf8_lossy(&found.body).into_owned())
    };
    assert_eq!(body(&de).await.as_deref(), Some("de"));
    assert_eq!(body(&fr).await.as_deref(), Some("fr"));
    assert_eq!(body(&[("x-other", "1")]).await.as_deref(), Some("other"));
    assert_eq!(body(&[("accept-language", "en")]).await, None);
    node.stop().await;
}

#[tokio::test]
async fn a_big_body_comes_back_whole() {
    let folder = TempDir::new().unwrap();
    let node = Node::start_with(&folder, |config| config.capacity = 256 << 20).await;
    let body: Bytes = (0..40_u32 << 20).map(|at| (at % 251) as u8).collect();
    let big = |at: usize| {
        Object::new(ObjectParts {
            body: body.clone(),
            ..node.fetched_parts(&key(at), "")
        })
    };
    node.put(big(1)).await;
    assert_eq!(node.get(&key(1)).await.unwrap().body, body);
    node.stop().await;
    let node = Node::start_with(&folder, |config| {
        config.capacity = 256 << 20;
        config.max_object = 39 << 20;
    })
    .await;
    assert_eq!(node.get(&key(1)).await.unwrap().body, body);
    let larger = Object::new(ObjectParts {
        body: body.clone(),
        ..node.fetched_parts(&key(2), "")
    });
    node.put(larger).await;
    assert!(node.get(&key(2)).await.is_none());
    assert_eq!(node.disk.stats().dropped_large.get(), 1);
    node.stop().await;
}

#[tokio::test]
async fn what_has_ended_is_not_found_and_leaves() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(&folder).await;
    for at in 0..2 {
        node.put(node.fetched(&key(at), "short")).await;
    }
    node.clock.advance(Duration::from_secs(3_599));
    assert!(node.get(&key(0)).await.is_some());
    node.clock.advance(Duration::from_secs(1));
    assert!(node.get(&key(0)).await.is_none());
    node.drained().await;
    assert!(raw(&node, &key(0)).is_none(), "deleted when found");
    // The other one is never asked for, and leaves with its segment, a little later.
    node.clock.advance(Duration::from_secs(120));
    let segments = node.disk.shared.segments.read().clone().unwrap();
    assert!(segments.tidy(node.clock.now()).unwrap() > 0);
    assert!(raw(&node, &key(1)).is_none());
    // Ended while it waited.
    node.put(node.fetched(&key(2), "late")).await;
    assert_eq!(node.disk.stats().dropped_dead.get(), 1);
    drop(segments);
    node.stop().await;
}

/// What the files below a folder take of the disk.
fn taken(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut paths = Vec::new();
    files(folder, &mut paths);
    // Deleted meanwhile: takes nothing.
    let blocks = paths
        .iter()
        .filter_map(|path| Some(fs::metadata(path).ok()?.blocks()));
    blocks.sum::<u64>() * 512
}

#[tokio::test]
async fn the_oldest_make_room_and_what_is_in_use_stays() {
    let folder = TempDir::new().unwrap();
    let capacity = 256 << 20;
    let node = Node::start_with(&folder, |config| config.capacity = capacity).await;
    let body: Bytes = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    let count = 6_000;
    let mut most = 0;
    for at in 0..count {
        let large = Object::new(ObjectParts {
            body: body.clone(),
            ..node.fetched_parts(&key(at), "")
        });
        node.put(large).await;
        if at % 20 == 0 {
            assert!(node.get(&key(0)).await.is_some(), "in use at {at}");
            most = most.max(taken(folder.path()));
        }
    }
    assert!(node.get(&key(1)).await.is_none(), "the oldest went");
    assert!(
        node.get(&key(count - 1)).await.is_some(),
        "the newest stays"
    );
    let stats = node.disk.stats();
    assert!(stats.evicted.get() > 300 && stats.renewed.get() > 0);
    assert!(most <= capacity, "took {} MiB", most >> 20);
    node.stop().await;
    let node = Node::start_with(&folder, |config| config.capacity = capacity).await;
    assert!(node.get(&key(0)).await.is_some());
    assert!(node.get(&key(count - 1)).await.is_some());
    node.stop().await;
}

#[tokio::test]
async fn damaged_files_are_noticed_and_begun_anew() {
    let origin = TempDir::new().unwrap();
    let node = Node::start(&origin).await;
    let body: Bytes = (0..20_000_u32).map(|at| (at % 251) as u8).collect();
    for at in 0..400 {
        let large = Object::new(ObjectParts {
            body: body.clone(),
            ..node.fetched_parts(&key(at), "")
        });
        node.disk.put(Arc::new(large));
    }
    node.drained().await;
    node.stop().await;
    let mut paths = Vec::new();
    files(&origin.path().join("objects"), &mut paths);
    assert!(paths.len() > 5, "{paths:?}");
    let (mut lost, mut emptied) = (0, 0);
    for path in &paths {
        let name = path.strip_prefix(origin.path()).unwrap();
        for damage in ["flip", "cut", "empty", "gone"] {
            let folder = TempDir::new().unwrap();
            copy_all(origin.path(), folder.path());
            let path = folder.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "flip" => {
                    for _ in 0..20.min(bytes.len()) {
                        let at = fastrand::usize(..bytes.len());
                        bytes[at] ^= 0x40;
                    }
                }
                "cut" => bytes.truncate(bytes.len() / 2),
                _ => bytes.clear(),
            }
            match damage {
                "gone" => fs::remove_file(&path).unwrap(),
                _ => fs::write(&path, &bytes).unwrap(),
            }
            let node = Node::start(&folder).await;
            for at in 0..400 {
                match node.get(&key(at)).await {
                    Some(found) => assert!(found.body == body, "{damage} {name:?}"),
                    None => lost += 1,
                }
            }
            emptied += node.disk.stats().emptied.get();
            node.put(node.fetched(KEY, "new")).await;
            let found = node.get(KEY).await.expect("it takes objects again");
            assert_eq!(&found.body[..], b"new", "{damage} {name:?}");
            node.stop().await;
        }
    }
    assert!(lost > 0 && emptied > 0, "{lost} {emptied}");
}

#[tokio::test]
async fn files_at_which_two_processes_died_are_given_up() {
    let folder = TempDir::new().unwrap();
    let note = folder.path().join("objects.opening");
    let node = Node::start(&folder).await;
    node.put(node.fetched(KEY, "the body")).await;
    node.stop().await;
    assert!(!note.exists());
    // As a process leaves it that dies while it opens the files.
    for (died, emptied) in [("1", 0), ("2", 1)] {
        fs::write(&note, died).unwrap();
        let node = Node::start(&folder).await;
        assert_eq!(node.disk.stats().emptied.get(), emptied, "{died}");
        assert_eq!(node.get(KEY).await.is_some(), emptied == 0, "{died}");
        assert!(!note.exists());
        node.stop().await;
    }
}

#[tokio::test]
async fn a_folder_that_is_no_store_is_emptied() {
    let folder = TempDir::new().unwrap();
    let objects = folder.path().join("objects");
    fs::create_dir_all(objects.join("keyspaces/lost+found")).unwrap();
    fs::write(objects.join("version"), "FJL\u{3}").unwrap();
    let node = Node::start(&folder).await;
    assert_eq!(node.disk.stats().emptied.get(), 1);
    node.put(node.fetched(KEY, "new")).await;
    assert!(node.get(KEY).await.is_some());
    node.stop().await;
}

#[tokio::test]
async fn one_process_has_it_at_a_time_and_nobody_else_may_look() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().unwrap();
    let objects = folder.path().join("objects");
    fs::create_dir(&objects).unwrap();
    let node = Node::start(&folder).await;
    let second = DiskTier::open(
        &DiskConfig::new(&objects),
        node.log.clone(),
        node.clock.clone(),
    );
    let message = second.unwrap_err().to_string();
    assert!(message.contains("in use by another node"), "{message}");
    let mode = fs::metadata(&objects).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    node.stop().await;
    let _ = Node::start(&folder).await;
}

#[tokio::test]
async fn what_does_not_fit_into_the_queue_is_dropped_and_counted() {
    let folder = TempDir::new().unwrap();
    let node = Node::start_with(&folder, |config| config.queue_bytes = 1).await;
    node.disk.put(Arc::new(node.fetched(KEY, "x")));
    assert_eq!(node.disk.stats().dropped_full.get(), 1);
    let private = Object::new(ObjectParts {
        shared: false,
        ..node.fetched_parts(KEY, "x")
    });
    node.disk.put(Arc::new(private));
    assert_eq!(node.disk.stats().dropped_full.get(), 1, "left out before");
    node.stop().await;
}

#[tokio::test]
async fn a_disk_that_is_late_again_and_again_is_left_alone() {
    let folder = TempDir::new().unwrap();
    let node = Node::start_with(&folder, |config| {
        config.readers = 1;
        config.deadline = Duration::from_millis(2);
    })
    .await;
    // As if one lookup hung.
    let readers = Arc::clone(&node.disk.health.readers);
    let held = readers.acquire_owned().await.unwrap();
    let request = HeaderMap::new();
    for _ in 0..5 {
        let late = node.disk.get(KEY, &request).await;
        assert!(matches!(late, Err(ReadError::Deadline(_))), "{late:?}");
    }
    let sick = node.disk.get(KEY, &request).await;
    assert!(matches!(sick, Err(ReadError::Sick)), "{sick:?}");
    drop(held);
    let began = std::time::Instant::now();
    while node.disk.get(KEY, &request).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "asked again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stats = node.disk.stats();
    assert!(stats.timeouts.get() >= 5 && stats.skipped.get() > 0);
    node.stop().await;
}

#[tokio::test]
async fn files_that_cannot_be_written_are_opened_again_or_begun_anew() {
    let folder = TempDir::new().unwrap();
    let node = Node::start(&folder).await;
    node.put(node.fetched(KEY, "old")).await;
    // The folder is taken away under its feet: what is written to has no name any more.
    let objects = folder.path().join("objects");
    fs::remove_dir_all(objects.join("keyspaces")).unwrap();
    let body: Bytes = vec![7; 100_000].into();
    let began = std::time::Instant::now();
    while node.disk.stats().emptied.get() == 0 {
        assert!(began.elapsed() < PATIENCE, "it begins anew");
        let large = Object::new(ObjectParts {
            body: body.clone(),
            ..node.fetched_parts(&key(fastrand::usize(..)), "")
        });
        node.disk.put(Arc::new(large));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(node.disk.opened(PATIENCE).await);
    // Lookups fail, rather than hang, while it is opened.
    while !matches!(node.disk.get(KEY, &HeaderMap::new()).await, Ok(Some(_))) {
        assert!(began.elapsed() < PATIENCE, "it takes objects again");
        node.put(node.fetched(KEY, "new")).await;
    }
    node.stop().await;
}
