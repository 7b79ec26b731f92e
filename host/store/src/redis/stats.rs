//! Counters of the Redis tier.

use crate::count::Count;

/// Counters of the Redis tier.
#[derive(Debug, Default)]
pub struct RedisStats {
    /// Objects found that may be used.
    pub hits: Count,
    /// Lookups that found none, or a purged one.
    pub misses: Count,
    /// Lookups that failed.
    pub failed_reads: Count,
    /// Calls that were not tried because Redis is down.
    pub skipped: Count,
    /// Calls that missed their deadline.
    pub timeouts: Count,
    /// Calls that failed because of the connection.
    pub connection_errors: Count,
    /// Calls that Redis could not serve: loading, or no master.
    pub not_ready: Count,
    /// Calls that Redis refused.
    pub refused: Count,
    /// Records that could not be read, and were deleted.
    pub corrupt: Count,
    /// Objects written.
    pub written: Count,
    /// Objects not written because the queue was full.
    pub dropped_full: Count,
    /// Objects not written because they are too large.
    pub dropped_large: Count,
    /// Objects not written because they were purged or had ended while they waited.
    pub dropped_dead: Count,
    /// Objects not written because Redis did not take them.
    pub dropped_failed: Count,
    /// How often the breaker opened.
    pub opened: Count,
    /// Purges that were kept while Redis was away, and sent.
    pub replayed: Count,
}

/// The connections of the pool, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// All of them.
    pub connections: u32,
    /// Those that no call uses.
    pub idle: u32,
}
