//! The thread that opens the files, writes, makes room, and begins anew when they are of
//! no use.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use weir_semantics::Timestamp;

use super::Shared;
use super::folder::Folder;
use super::queue::{Next, Order};
use super::segments::{self, Changes, Segments};
use super::value::{self, Value};
use crate::log::Verdict;
use crate::{Key, Object, record, variants};

/// How often an idle tier is tidied.
const TIDY: Duration = Duration::from_secs(30);

/// How often one is that is written to.
const TIDY_SOON: Duration = Duration::from_millis(100);

/// How often one is without room: what has just been deleted must be seen to be free.
const TIDY_CRAMPED: Duration = Duration::from_secs(1);

/// Files that fail again so soon after they were opened are of no use.
const PROBATION: Duration = Duration::from_secs(600);

/// With less than this, in bytes, a disk is full: a journal alone takes more.
const LITTLE: u64 = 16 << 20;

/// So many processes in a row may die while they open the files, before those are given up.
/// One may have been killed.
const DEATHS: u32 = 2;

/// The pauses between attempts to open them.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

pub(super) struct Worker {
    pub(super) folder: Folder,
    pub(super) shared: Arc<Shared>,
}

impl Worker {
    /// Returns once the tier is closed.
    pub(super) fn run(self) {
        let mut failed = None;
        let mut failures = 0;
        while let Some(segments) = self.open(failed) {
            let segments = Arc::new(segments);
            self.shared.set(Some(Arc::clone(&segments)));
            let opened = Instant::now();
            let ended = catch_unwind(AssertUnwindSafe(|| self.serve(&segments)));
            let (error, damaged) = match ended {
                Ok(Ok(())) => return self.shared.set(None),
                Ok(Err(error)) => (error.to_string(), is_damage(&error)),
                Err(_) => ("the library gave up".to_owned(), true),
            };
            tracing::error!(
                path = %self.folder.path().display(), error,
                "the disk tier cannot be written; opening it again. Check the disk and its free space"
            );
            let worked = opened.elapsed();
            if worked >= PROBATION {
                failures = 0;
            }
            let pause = PAUSES[failures.min(PAUSES.len() - 1)];
            failures += 1;
            if damaged && !self.is_full() {
                failed = Some(worked);
                self.shared.set(None);
                self.shared.queue.pause(pause);
            } else {
                // What was written before a disk was full is as good as ever, and found
                // meanwhile.
                failed = None;
                self.shared.queue.pause(pause);
                self.shared.set(None);
            }
        }
    }

    /// Opens the files, if need be after emptying the folder. `after` is how long they
    /// worked before they failed. `None`: closed meanwhile.
    fn open(&self, after: Option<Duration>) -> Option<Segments> {
        if after.is_some_and(|worked| worked < PROBATION) {
            self.empty("it could not be written twice in a row");
        }
        let mut pauses = PAUSES.into_iter();
        let mut last = PAUSES[PAUSES.len() - 1];
        while !self.shared.queue.is_closed() {
            let path = self.folder.path();
            if let Err(error) = self.folder.make() {
                tracing::warn!(path = %path.display(), %error, "the disk tier cannot be made yet");
                last = pauses.next().unwrap_or(last);
                self.shared.queue.pause(last);
                continue;
            }
            if self.folder.opening() >= DEATHS {
                self.empty("processes in a row have died opening it");
            }
            // What is damaged in an unforeseen way may make the library panic.
            let opened = catch_unwind(AssertUnwindSafe(|| {
                Segments::open(path, &self.shared.config)
            }));
            self.folder.opened();
            let (error, damaged) = match opened {
                Ok(Ok(segments)) => return Some(segments),
                // A lookup that hangs still holds files.
                Ok(Err(fjall::Error::Locked)) => ("a lookup still holds files".into(), false),
                Ok(Err(error)) => (error.to_string(), is_damage(&error)),
                Err(_) => ("the library gave up".to_owned(), true),
            };
            if damaged && self.empty(&error) {
                continue;
            }
            tracing::warn!(path = %path.display(), error, "the disk tier cannot be opened yet");
            last = pauses.next().unwrap_or(last);
            self.shared.queue.pause(last);
        }
        None
    }

    fn is_full(&self) -> bool {
        segments::free(self.folder.path()).is_some_and(|free| free < LITTLE)
    }

    fn empty(&self, why: &str) -> bool {
        self.shared.stats.emptied.one();
        let path = self.folder.path().display();
        match self.folder.empty() {
            Ok(()) => {
                tracing::error!(%path, why, "the disk tier is damaged: emptied, objects are fetched again. Check the disk");
                true
            }
            Err(error) => {
                tracing::error!(%path, why, %error, "the disk tier is damaged and cannot be emptied; delete the folder");
                false
            }
        }
    }

    /// Carries out orders until the tier is closed.
    fn serve(&self, segments: &Segments) -> fjall::Result<()> {
        self.tidy(segments)?;
        let mut tidied = Instant::now();
        let (mut untidy, mut written) = (true, 0);
        loop {
            let patience = match (segments.is_cramped(), untidy) {
                (true, _) => TIDY_CRAMPED,
                (false, true) => TIDY_SOON,
                (false, false) => TIDY,
            };
            match self.shared.queue.take(patience) {
                Next::Closed => return segments.sync(),
                Next::Nothing => segments.check()?,
                Next::Orders(orders) => {
                    written += self.carry_out(segments, orders)?;
                    untidy = true;
                }
            }
            if tidied.elapsed() >= patience || written >= self.shared.config.memtable() {
                tidied = Instant::now();
                (untidy, written) = (false, 0);
                self.tidy(segments)?;
            }
        }
    }

    fn tidy(&self, segments: &Segments) -> fjall::Result<()> {
        let evicted = segments.tidy(self.shared.clock.now())?;
        self.shared.stats.evicted.add(evicted);
        Ok(())
    }

    /// Returns how many bytes it wrote.
    fn carry_out(&self, segments: &Segments, orders: Vec<Order>) -> fjall::Result<u64> {
        let mut changes = Changes::default();
        let (mut put, mut renewed) = (0, 0);
        let mut result = Ok(());
        for order in orders {
            match order {
                Order::Put(object) => {
                    put += u64::from(self.add(segments, &mut changes, &object, false));
                }
                Order::Renew(object) => {
                    renewed += u64::from(self.add(segments, &mut changes, &object, true));
                }
                Order::Forget { key, name } => {
                    result = result.and(self.forget(segments, &changes, &key, &name));
                }
            }
        }
        let bytes = changes.bytes();
        if bytes > 0 {
            result = result.and(segments.write(changes));
        }
        let stats = &self.shared.stats;
        match result {
            Ok(()) => {
                stats.written.add(put + renewed);
                stats.renewed.add(renewed);
            }
            Err(_) => stats.dropped_failed.add(put + renewed),
        }
        result.map(|()| bytes)
    }

    /// Adds an object that is still worth writing. Says whether it is.
    fn add(
        &self,
        segments: &Segments,
        changes: &mut Changes,
        object: &Object,
        again: bool,
    ) -> bool {
        let stats = &self.shared.stats;
        if segments.is_cramped() {
            stats.dropped_failed.one();
            return false;
        }
        let ends = object.freshness().retain_until();
        if ends <= self.shared.clock.now() || self.shared.log.verdict(object) == Verdict::Dead {
            stats.dropped_dead.one();
            return false;
        }
        let key = object.key.as_str();
        let name = match object.vary().is_empty() {
            true => key.as_bytes().to_vec(),
            false => value::variant(key, variants::hash(object.vary())),
        };
        // What replaced it meanwhile must not be replaced by it.
        if again && (changes.get(&name).is_some() || segments.is_recent(&name)) {
            return false;
        }
        let record = record::encode(object);
        let value = Value::encode(&name, object.position().node, ends, &record);
        changes.put(name, value, ends);
        if !object.vary().is_empty() {
            self.add_to_index(segments, changes, object, ends);
        }
        true
    }

    fn add_to_index(
        &self,
        segments: &Segments,
        changes: &mut Changes,
        object: &Object,
        ends: Timestamp,
    ) {
        let name = object.key.as_str().as_bytes();
        let known = match changes.get(name) {
            Some(value) => Some(Bytes::copy_from_slice(value)),
            // One that cannot be read is begun anew.
            None => segments.get(name).ok().flatten().map(|it| it.value),
        };
        let known = known
            .and_then(|value| Value::decode(name, &value))
            .filter(Value::is_index);
        let index = variants::with_line(
            known.as_ref().map(|value| &value.body[..]),
            &variants::line(object.vary()),
        );
        let ends = known.map_or(ends, |value| value.ends.max(ends));
        let value = Value::encode(name, 0, ends, &index);
        changes.put(name.to_vec(), value, ends);
    }

    /// Deletes what is there, if it is still of no use.
    fn forget(
        &self,
        segments: &Segments,
        changes: &Changes,
        key: &Key,
        name: &[u8],
    ) -> fjall::Result<()> {
        if changes.get(name).is_some() {
            return Ok(());
        }
        let useless = match segments.get(name) {
            Ok(None) => false,
            Ok(Some(stored)) => self.shared.judge(key.as_str(), name, &stored).is_useless(),
            // A damaged block: its names cannot be read, but written over.
            Err(_) => true,
        };
        if useless {
            segments.forget(name)
        } else {
            Ok(())
        }
    }
}

/// Is it the files that are wrong, rather than the system that refuses to give them?
fn is_damage(error: &fjall::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind as Kind;
            let refused = matches!(
                error.kind(),
                Kind::PermissionDenied
                    | Kind::StorageFull
                    | Kind::QuotaExceeded
                    | Kind::ReadOnlyFilesystem
                    | Kind::OutOfMemory
                    | Kind::ResourceBusy
                    | Kind::Interrupted
            );
            // Too many open files, of the process or of the system.
            return !refused && !matches!(error.raw_os_error(), Some(23 | 24));
        }
        cause = error.source();
    }
    true
}
