//! Values by name, in segments: the newest takes what is written, and the oldest goes as a
//! whole when there is no room. So room costs a few deleted files, whatever they hold.
//!
//! A name is looked for from the newest segment to the oldest: what is there twice was
//! replaced, and its older form goes before its newer one.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch, PersistMode,
    UserValue,
};
use parking_lot::RwLock;
use weir_semantics::Timestamp;

use super::config::DiskConfig;
use super::stats::DiskUse;
use super::value::ENDS;

/// The capacity is divided into so many segments.
const SEGMENTS: usize = 8;

/// Larger values stand apart from their names, and are not written again when names are
/// sorted into one another.
const APART: u32 = 512;

/// How much later the last end in a segment has to be before it is noted again.
const NOTE_EVERY: u64 = 60_000;

/// Values from here on are not copied out of what was read.
const SHARED: usize = 64 << 10;

/// The files.
pub(super) struct Segments {
    database: Database,
    /// The newest last; never empty.
    list: RwLock<Arc<[Segment]>>,
    folder: PathBuf,
    memtable: u64,
    values: u64,
    min_free: u64,
    /// The file system had less than `min_free` when it was last asked.
    cramped: AtomicBool,
}

#[derive(Clone)]
struct Segment {
    number: u64,
    keyspace: Keyspace,
    /// When the last of its values ends, in milliseconds since the Unix epoch.
    ends: Arc<AtomicU64>,
    /// What it was seen to hold when it was opened, and was given since.
    taken: Arc<AtomicU64>,
    /// Half of the capacity was written after it: it will be driven out.
    old: Arc<AtomicBool>,
}

/// What is to be written at once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    values: HashMap<Vec<u8>, Vec<u8>>,
    ends: u64,
}

/// A value, as it was found.
pub(super) struct Stored {
    pub(super) value: Bytes,
    /// Is it about to be driven out?
    pub(super) old: bool,
}

impl Changes {
    pub(super) fn put(&mut self, name: Vec<u8>, value: Vec<u8>, ends: Timestamp) {
        self.ends = self.ends.max(ends.as_millis());
        self.values.insert(name, value);
    }

    /// What has been put under this name so far.
    pub(super) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.values.get(name).map(Vec::as_slice)
    }

    pub(super) fn bytes(&self) -> u64 {
        let bytes = self
            .values
            .iter()
            .map(|(name, value)| name.len() + value.len());
        bytes.sum::<usize>() as u64
    }
}

impl Segments {
    /// Opens or makes the files in a folder.
    pub(super) fn open(folder: &Path, config: &DiskConfig) -> fjall::Result<Self> {
        let database = Database::builder(folder)
            .cache_size(config.cache)
            .worker_threads(2)
            .max_journaling_size(64 << 20)
            .open()?;
        let (memtable, values) = (config.memtable(), config.values());
        let mut numbers: Vec<u64> = database
            .list_keyspace_names()
            .iter()
            .filter_map(|name| number(name))
            .collect();
        numbers.sort_unstable();
        if numbers.is_empty() {
            numbers.push(1);
        }
        let mut list = Vec::with_capacity(numbers.len());
        for number in numbers {
            list.push(Segment::open(&database, number, memtable, values)?);
        }
        Ok(Self {
            database,
            list: RwLock::new(list.into()),
            folder: folder.to_owned(),
            memtable,
            values,
            min_free: config.min_free,
            cramped: AtomicBool::new(false),
        })
    }

    /// The newest value of a name.
    pub(super) fn get(&self, name: &[u8]) -> fjall::Result<Option<Stored>> {
        let list = self.list();
        for segment in list.iter().rev() {
            if let Some(value) = segment.keyspace.get(name)? {
                return Ok(Some(Stored {
                    value: bytes(value),
                    old: segment.old.load(Ordering::Relaxed),
                }));
            }
        }
        Ok(None)
    }

    /// Every name that begins so, once.
    pub(super) fn names(&self, beginning: &[u8]) -> fjall::Result<BTreeSet<Vec<u8>>> {
        let mut names = BTreeSet::new();
        for segment in self.list().iter() {
            for entry in segment.keyspace.prefix(beginning) {
                names.insert(entry.key()?.to_vec());
            }
        }
        Ok(names)
    }

    /// Is there a value of this name that will stay for a while?
    pub(super) fn is_recent(&self, name: &[u8]) -> bool {
        let list = self.list();
        let mut recent = list.iter().filter(|it| !it.old.load(Ordering::Relaxed));
        recent.any(|segment| segment.may_have(name))
    }

    /// Writes all of it or nothing. A process that dies afterwards has written it.
    pub(super) fn write(&self, changes: Changes) -> fjall::Result<()> {
        let list = self.list();
        let Some(newest) = list.last() else {
            return Ok(());
        };
        newest.taken.fetch_add(changes.bytes(), Ordering::Relaxed);
        let mut batch = self.batch();
        if changes.ends > newest.ends.load(Ordering::Acquire) {
            let noted = changes.ends.saturating_add(NOTE_EVERY);
            newest.ends.store(noted, Ordering::Release);
            batch.insert(&newest.keyspace, ENDS, noted.to_le_bytes());
        }
        for (name, value) in changes.values {
            batch.insert(&newest.keyspace, name, value);
        }
        batch.commit()
    }

    /// Deletes every value of a name: an older one must not take the place of a newer.
    pub(super) fn forget(&self, name: &[u8]) -> fjall::Result<()> {
        let mut batch = self.batch();
        for segment in self.list().iter() {
            if segment.may_have(name) {
                batch.remove(&segment.keyspace, name);
            }
        }
        batch.commit()
    }

    /// Begins a new segment when the newest has its share, and lets go of the oldest ones
    /// for lack of room, and of those in which everything has ended. Returns how many
    /// values went, about.
    pub(super) fn tidy(&self, now: Timestamp) -> fjall::Result<u64> {
        let mut list: Vec<Segment> = self.list().to_vec();
        let Some(newest) = list.last() else {
            return Ok(0);
        };
        let all_ended = |segment: &Segment| {
            let ends = segment.ends.load(Ordering::Acquire);
            ends > 0 && ends <= now.as_millis()
        };
        let room = self.room(list.iter().map(Segment::bytes).sum());
        // With no room at all, empty segments would follow one another.
        let full = newest.bytes() >= (room / SEGMENTS as u64).max(self.memtable);
        if full || all_ended(newest) {
            let next = newest.number + 1;
            list.push(Segment::open(
                &self.database,
                next,
                self.memtable,
                self.values,
            )?);
        }
        let spaces: Vec<u64> = list.iter().map(Segment::bytes).collect();
        let total: u64 = spaces.iter().sum();
        let newest = list.len() - 1;
        let (mut kept, mut gone) = (Vec::with_capacity(list.len()), Vec::new());
        let (mut excess, mut later) = (total.saturating_sub(room), total);
        for (at, (segment, space)) in list.into_iter().zip(spaces).enumerate() {
            later -= space;
            segment.old.store(later >= room / 2, Ordering::Relaxed);
            if at < newest && (excess > 0 || all_ended(&segment)) {
                excess = excess.saturating_sub(space);
                gone.push(segment);
            } else {
                kept.push(segment);
            }
        }
        // Readers first: what is deleted must not be looked into.
        *self.list.write() = kept.into();
        let mut evicted = 0;
        for segment in gone {
            evicted += segment.keyspace.approximate_len() as u64;
            self.database.delete_keyspace(segment.keyspace)?;
        }
        Ok(evicted)
    }

    /// What values may take now, those that there are included.
    fn room(&self, taken: u64) -> u64 {
        // A file system that does not say has room.
        let free = free(&self.folder).unwrap_or(u64::MAX);
        let cramped = free < self.min_free;
        if self.cramped.swap(cramped, Ordering::Relaxed) != cramped {
            let (path, min_free) = (self.folder.display(), self.min_free);
            if cramped {
                tracing::warn!(
                    %path, free, min_free,
                    "the disk has less room than disk.min_free: the oldest objects make room, and none are written until there is more"
                );
            } else {
                tracing::info!(%path, free, min_free, "the disk has room again");
            }
        }
        let room = taken.saturating_add(free).saturating_sub(self.min_free);
        self.values.min(room)
    }

    /// Should nothing be written for now?
    pub(super) fn is_cramped(&self) -> bool {
        self.cramped.load(Ordering::Relaxed)
    }

    /// Fails once something could not be written in the background.
    pub(super) fn check(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::Buffer)
    }

    /// Everything written is on disk, also if the machine dies.
    pub(super) fn sync(&self) -> fjall::Result<()> {
        self.database.persist(PersistMode::SyncAll)
    }

    pub(super) fn space(&self) -> DiskUse {
        let list = self.list();
        let values: u64 = list.iter().map(|it| it.keyspace.disk_space()).sum();
        let entries: usize = list.iter().map(|it| it.keyspace.approximate_len()).sum();
        DiskUse {
            entries: entries as u64,
            bytes: values + self.database.journal_disk_space().unwrap_or(0),
            segments: list.len() as u64,
        }
    }

    fn list(&self) -> Arc<[Segment]> {
        Arc::clone(&self.list.read())
    }

    fn batch(&self) -> OwnedWriteBatch {
        // To the system, so that only its death, not the process's, loses it.
        self.database.batch().durability(Some(PersistMode::Buffer))
    }
}

impl Segment {
    fn open(database: &Database, number: u64, memtable: u64, values: u64) -> fjall::Result<Self> {
        let share = values / SEGMENTS as u64;
        let keyspace = database.keyspace(&format!("segment-{number}"), || {
            let apart = KvSeparationOptions::default()
                .separation_threshold(APART)
                .file_target_size((share / 4).clamp(1 << 20, 64 << 20));
            KeyspaceCreateOptions::default()
                .max_memtable_size(memtable)
                .with_kv_separation(Some(apart))
        })?;
        let noted = keyspace.get(ENDS)?;
        let ends = noted.and_then(|noted| Some(u64::from_le_bytes((*noted).try_into().ok()?)));
        Ok(Self {
            number,
            ends: Arc::new(AtomicU64::new(ends.unwrap_or(0))),
            taken: Arc::new(AtomicU64::new(keyspace.disk_space())),
            keyspace,
            old: Arc::new(AtomicBool::new(false)),
        })
    }

    /// Its bytes: the files follow what it is given only after a while.
    fn bytes(&self) -> u64 {
        let taken = self.taken.load(Ordering::Relaxed);
        taken.max(self.keyspace.disk_space())
    }

    /// What cannot be read may be there.
    fn may_have(&self, name: &[u8]) -> bool {
        self.keyspace.contains_key(name).unwrap_or(true)
    }
}

/// What this process may still take of the file system.
pub(super) fn free(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

fn number(name: &str) -> Option<u64> {
    name.strip_prefix("segment-")?.parse().ok()
}

/// A small value would keep alive a block that is mostly something else.
fn bytes(value: UserValue) -> Bytes {
    match value.len() < SHARED {
        true => Bytes::copy_from_slice(&value),
        false => Bytes::from_owner(value),
    }
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segments")
            .field("values", &self.values)
            .finish_non_exhaustive()
    }
}
