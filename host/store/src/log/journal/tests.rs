//! Claims about logs on a real disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Position;
use crate::log::tests::{NOW, Simulated, profile};
use crate::log::{Fleet, JournalError, Limits, Log, Scope, Selector, Target, Verdict};

fn folder() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("purges");
    (folder, path)
}

fn tag(tag: impl Into<String>) -> [Selector; 1] {
    [Selector::new(Target::Tag(tag.into()))]
}

fn durable(path: &Path) -> Log {
    Log::durable(Limits::default(), path, NOW).unwrap()
}

fn with_fleet(fleet: &Arc<Simulated>, path: &Path) -> Log {
    let fleet = Arc::clone(fleet) as Arc<dyn Fleet>;
    Log::journaled(Limits::default(), fleet, path, NOW).unwrap()
}

/// What a node that is alone gives to an object, which then survives on disk.
fn stored(log: &Log) -> Position {
    log.position()
}

fn verdict(log: &Log, position: Position) -> Verdict {
    log.verdict(&profile("a.example", position))
}

#[tokio::test]
async fn alone_what_was_purged_stays_so_and_what_was_not_stays_valid() {
    let (_folder, path) = folder();
    let log = durable(&path);
    let old = stored(&log);
    assert_ne!(old.epoch, 0);
    let receipt = log.invalidate(&tag("team"), NOW).await;
    assert_eq!(
        (receipt.scope, receipt.sequence, receipt.durable),
        (Scope::Node, None, true)
    );
    let new = stored(&log);
    log.invalidate(&tag("other"), NOW).await;
    drop(log);
    for _ in 0..3 {
        let log = durable(&path);
        assert_eq!(log.position().epoch, old.epoch);
        assert!(
            log.position().node > new.node + 1,
            "sequences are not given twice"
        );
        assert_eq!(verdict(&log, old), Verdict::Dead);
        assert_eq!(verdict(&log, new), Verdict::Valid);
    }
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn alone_every_kind_of_selector_soft_and_hard_survives_compaction() {
    let (_folder, path) = folder();
    let limits = Limits {
        prefixes: 3,
        ..Limits::default()
    };
    let selectors = [
        Selector::new(Target::Tag("team".into())),
        Selector::new(Target::Url("http://a.example/users/42".into())).soft(),
        Selector::new(Target::Prefix("user:pro".into())).on_host("a.example"),
        Selector::new(Target::Namespace("user".into())).soft(),
        Selector::new(Target::All).on_host("a.example"),
    ];
    let log = Log::durable(limits, &path, NOW).unwrap();
    let mut expected = Vec::new();
    for selector in &selectors {
        let before = stored(&log);
        log.invalidate(std::slice::from_ref(selector), NOW).await;
        expected.push(before);
    }
    expected.push(stored(&log));
    let verdicts = |log: &Log| -> Vec<_> { expected.iter().map(|at| verdict(log, *at)).collect() };
    let then = verdicts(&log);
    assert_eq!(then.last(), Some(&Verdict::Valid));
    // Long names fill the file; the table does not grow, so the file may not.
    let long = "x".repeat(200_000);
    for n in 0..60 {
        log.invalidate(&tag(format!("{}{long}", n % 3)), NOW).await;
    }
    assert!(fs::metadata(&path).unwrap().len() < 9 << 20);
    assert_eq!(verdicts(&log), then);
    drop(log);
    let log = Log::durable(limits, &path, NOW).unwrap();
    assert_eq!(verdicts(&log), then);
    log.mend();
    drop(log);
    assert!(fs::metadata(&path).unwrap().len() < 10_000);
    assert_eq!(verdicts(&Log::durable(limits, &path, NOW).unwrap()), then);
}

#[tokio::test]
async fn alone_a_missing_or_damaged_file_makes_a_new_epoch_and_a_torn_one_does_not() {
    let (_folder, path) = folder();
    let log = durable(&path);
    let old = stored(&log);
    log.invalidate(&tag("team"), NOW).await;
    drop(log);
    let bytes = fs::read(&path).unwrap();

    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(durable(&path).position().epoch, old.epoch);

    for damage in [0, bytes.len() / 2, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[damage] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let log = durable(&path);
        assert_ne!(log.position().epoch, old.epoch, "damage at {damage}");
        assert_eq!(verdict(&log, old), Verdict::Dead);
    }
    fs::remove_file(&path).unwrap();
    assert_ne!(durable(&path).position().epoch, old.epoch);
}

#[tokio::test]
async fn a_second_node_is_refused_until_the_first_has_ended() {
    let (_folder, path) = folder();
    let log = durable(&path);
    let error = Log::durable(Limits::default(), &path, NOW).unwrap_err();
    assert!(matches!(error, JournalError::InUse(_)));
    assert!(error.to_string().contains("data_dir of its own"), "{error}");
    drop(log);
    durable(&path);
}

#[tokio::test]
async fn what_redis_did_not_take_is_in_force_after_a_restart_and_sent_once_in_order() {
    let (_folder, path) = folder();
    let fleet = Simulated::new();
    let log = with_fleet(&fleet, &path);
    log.synchronise(NOW).await.unwrap();
    // As it lies in Redis.
    let old = Position {
        node: 0,
        ..log.position()
    };
    fleet.go_away(true);
    for name in ["team", "x", "y"] {
        let receipt = log.invalidate(&tag(name), NOW).await;
        assert_eq!((receipt.scope, receipt.durable), (Scope::Node, true));
    }
    drop(log);

    let log = with_fleet(&fleet, &path);
    assert_eq!(log.pending(), 3);
    fleet.go_away(false);
    log.synchronise(NOW).await.unwrap();
    assert_eq!(verdict(&log, old), Verdict::Dead, "also before it is sent");
    assert_eq!(log.replay(NOW).await, Ok(3));
    assert_eq!(verdict(&log, old), Verdict::Dead);
    let sent: Vec<_> = fleet
        .taken
        .lock()
        .1
        .iter()
        .map(|it| it.selectors.clone())
        .collect();
    assert_eq!(sent, [tag("team"), tag("x"), tag("y")]);
    let fresh = Position {
        node: 0,
        ..log.position()
    };
    assert_eq!(verdict(&log, fresh), Verdict::Valid);
    drop(log);

    let log = with_fleet(&fleet, &path);
    assert_eq!(log.pending(), 0);
    log.synchronise(NOW).await.unwrap();
    assert_eq!(
        verdict(&log, fresh),
        Verdict::Valid,
        "what was taken is no mark of this node"
    );
}

#[tokio::test]
async fn damaged_pending_purges_become_one_of_everything() {
    let (_folder, path) = folder();
    let fleet = Simulated::new();
    fleet.go_away(true);
    let log = with_fleet(&fleet, &path);
    log.invalidate(&tag("a"), NOW).await;
    log.invalidate(&tag("b"), NOW).await;
    drop(log);
    let bytes = fs::read(&path).unwrap();

    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(
        with_fleet(&fleet, &path).pending(),
        1,
        "the last one was not acknowledged"
    );

    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    fs::write(&path, &damaged).unwrap();
    drop(with_fleet(&fleet, &path));
    let log = with_fleet(&fleet, &path);
    fleet.go_away(false);
    log.replay(NOW).await.unwrap();
    assert_eq!(
        fleet.taken.lock().1[0].selectors,
        [Selector::new(Target::All)]
    );
}

#[tokio::test]
async fn a_purge_that_cannot_be_written_says_so_and_is_written_once_it_can() {
    let (folder, path) = folder();
    let fleet = Simulated::new();
    fleet.go_away(true);
    let log = with_fleet(&fleet, &path);
    // Renaming onto a folder fails, for root as well.
    let away = folder.path().join("away");
    fs::rename(&path, &away).unwrap();
    fs::create_dir(&path).unwrap();
    log.mend();
    let receipt = log.invalidate(&tag("team"), NOW).await;
    assert_eq!(
        (receipt.scope, receipt.durable, log.unwritten()),
        (Scope::Node, false, 1)
    );
    assert_eq!(
        verdict(&log, Position::default()),
        Verdict::Dead,
        "it holds all the same"
    );

    fs::remove_dir(&path).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < deadline, "never written");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(log.invalidate(&tag("x"), NOW).await.durable);
    drop(log);
    assert_eq!(with_fleet(&fleet, &path).pending(), 2);
}

#[tokio::test]
async fn purges_that_come_together_are_all_kept() {
    let (_folder, path) = folder();
    let log = durable(&path);
    let old = stored(&log);
    let all = (0..200).map(|n| {
        let log = log.clone();
        tokio::spawn(async move { log.invalidate(&tag(format!("t{n}")), NOW).await.durable })
    });
    for purge in all.collect::<Vec<_>>() {
        assert!(purge.await.unwrap());
    }
    drop(log);
    let log = durable(&path);
    assert_eq!(log.counters(), 200);
    assert_eq!(verdict(&log, old), Verdict::Valid);
}
