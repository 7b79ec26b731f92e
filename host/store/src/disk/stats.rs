//! Counters of the disk tier.

use crate::count::Count;

/// Counters of the disk tier.
#[derive(Debug, Default)]
pub struct DiskStats {
    /// Objects found that may be used.
    pub hits: Count,
    /// Lookups that found none, or a purged one.
    pub misses: Count,
    /// Lookups that failed: the disk could not be read.
    pub failed_reads: Count,
    /// Lookups that missed their deadline.
    pub timeouts: Count,
    /// Lookups that were not tried, because the tier was being opened or many in a row
    /// had been late.
    pub skipped: Count,
    /// Values that could not be read, and were deleted.
    pub corrupt: Count,
    /// Objects written, those that were written again for being in use included.
    pub written: Count,
    /// Objects that were about to be driven out and written again, being in use.
    pub renewed: Count,
    /// Objects not written because the queue was full.
    pub dropped_full: Count,
    /// Objects not written because they are too large.
    pub dropped_large: Count,
    /// Objects not written because they were purged or had ended while they waited.
    pub dropped_dead: Count,
    /// Objects not written because the disk did not take them.
    pub dropped_failed: Count,
    /// Values that were driven out with their segment, about: for lack of room, or all of
    /// them had ended.
    pub evicted: Count,
    /// How often the folder was emptied since it could not be used.
    pub emptied: Count,
}

/// What the tier holds, now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUse {
    /// Values, about: replaced ones count until they are compacted away.
    pub entries: u64,
    /// Bytes on disk, the journal included.
    pub bytes: u64,
    /// Segments: the oldest is driven out first.
    pub segments: u64,
}

/// Whether the tier can be used, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// It is being opened, or cannot be: every lookup is a miss.
    Opening,
    /// Objects are found and written.
    Up,
    /// Objects are found, but none are written: the disk has less room than
    /// [`DiskConfig::min_free`](super::DiskConfig::min_free).
    Full,
}
