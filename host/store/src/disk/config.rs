//! Where the disk tier is, and how large it may be.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the disk tier.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Its folder, of which it has the sole use: what cannot be used there is deleted.
    pub path: PathBuf,
    /// What it may take on disk, in bytes.
    pub capacity: u64,
    /// What is left to others of the file system, in bytes: with less, the oldest make
    /// room, and nothing is written until there is more.
    pub min_free: u64,
    /// Objects with larger bodies stay out of it, in bytes.
    pub max_object: usize,
    /// For each lookup, the wait for a thread included.
    pub deadline: Duration,
    /// How many lookups read at the same time, at most; so many threads a sick disk holds.
    pub readers: usize,
    /// How many objects wait to be written, at most.
    pub queue_objects: usize,
    /// How many bytes of objects wait to be written, at most.
    pub queue_bytes: usize,
    /// What of the files is kept in memory, besides the system's own cache, in bytes.
    pub cache: u64,
}

impl DiskConfig {
    /// The defaults for one folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            capacity: 10 << 30,
            min_free: 256 << 20,
            max_object: 64 << 20,
            deadline: Duration::from_millis(250),
            readers: 64,
            queue_objects: 16_384,
            queue_bytes: 128 << 20,
            cache: 32 << 20,
        }
    }

    /// Values wait in memory until there are so many bytes of them, besides the journal.
    pub(super) fn memtable(&self) -> u64 {
        (self.capacity / 64).clamp(1 << 20, 32 << 20)
    }

    /// What values may take: the capacity without the journal, which has up to 64 MiB and
    /// what came in while that was being written out.
    pub(super) fn values(&self) -> u64 {
        self.capacity
            .saturating_sub(192 << 20)
            .max(self.capacity / 4)
    }
}

/// Why a disk tier cannot be used at all. What is found damaged is no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// Another process has it.
    #[error(
        "{} is in use by another node; give each node a data_dir of its own, or stop the other one",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file system refused.
    #[error(
        "{} cannot be {doing}: {source}; make it writable, or name another folder as disk.path",
        path.display()
    )]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What was being done to it.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a lookup gave no answer. To the caller each is a miss.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It is being opened.
    #[error("the disk tier is being opened")]
    Opening,
    /// Many lookups in a row were late.
    #[error("the disk does not answer in time; it is asked again in a second")]
    Sick,
    /// It did not answer in time.
    #[error("the disk did not answer within {0:?} (disk.deadline)")]
    Deadline(Duration),
    /// It could not be read.
    #[error("the disk tier could not be read: {0}")]
    Failed(String),
}
