//! How often each kind of event happened: what never happens proves nothing.

macro_rules! events {
    ($($name:ident $text:literal,)*) => {
        /// A kind of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each has its text")]
        pub enum Event { $($name,)* }

        /// Their texts, in their order.
        pub const TEXTS: &[&str] = &[$($text,)*];
    };
}

events! {
    Request "request",
    MemoryHit "served from memory, fresh",
    MemoryStale "served from memory, stale while it is fetched anew",
    MemoryDead "in memory, but purged",
    MemoryUntrusted "in memory, but no word from Redis for too long",
    RedisHit "served from Redis",
    RedisDead "in Redis, but purged",
    RedisBehind "found behind the log by a read of Redis",
    OtherLog "read of Redis after a failover, with the sequence of what was lost",
    Fetched "fetched",
    Refreshed "confirmed by a 304",
    BaseDead "a base that was purged before it could be confirmed",
    FetchFailed "fetch failed",
    Joined "joined a fill",
    JoinRefused "fill not joined, since something was purged or it began long ago",
    HeadRefused "fill left at its head, since a tag of it was purged",
    KeptDead "purged while it was fetched, not stored",
    Queued "queued for Redis",
    Written "written to Redis",
    WrittenDead "purged while it waited for Redis, not written",
    PurgeHard "hard purge asked for",
    PurgeSoft "soft purge asked for",
    PurgeDuringRead "purge while Redis is asked for its object",
    PurgeDuringHead "purge while its object's head is waited for",
    PurgeDuringConfirm "purge while its object is being confirmed",
    PurgeDuringBody "purge while its object's body is being fetched",
    PurgeDuringQueue "purge while its object waits for Redis",
    PurgeDuringWrite "purge while its object is on its way to Redis",
    AnsweredFleet "purge answered fleet",
    AnsweredDurable "purge answered node, on disk",
    AnsweredMemory "purge answered node, in memory only",
    Taken "purge taken by Redis",
    SentAgain "purge sent again that Redis had taken",
    Collapsed "too many pending purges became one",
    Entry "entry read from the stream",
    EntryAgain "entry read that had been applied",
    Gap "entry after a gap",
    OtherEpoch "entry of another epoch",
    Again "stream read again from its beginning",
    Trimmed "stream trimmed before it was read",
    Synchronised "counters read",
    NewEpoch "new epoch begun",
    LateCall "call executed after its caller gave up",
    LateAnswer "call executed, its answer lost",
    CallLost "call lost",
    CallTimedOut "answer after the deadline",
    LinkDown "node cut off from Redis",
    LinkUp "node connected again",
    RedisDown "Redis down",
    RedisUp "Redis up again",
    Flush "Redis flushed",
    Replicated "replica caught up",
    Failover "failover",
    Snapshot "snapshot on disk",
    OldSnapshot "restart from a snapshot",
    PurgeLost "purge lost by Redis",
    OfLostEntry "served what is newer than an entry that a failover lost, unnoticed as yet",
    Crash "node crashed",
    Restart "node restarted",
    Torn "journal torn by a crash",
    Unsynced "journal lost what was not synced",
    Recovered "purge read back from a journal",
    DiskFailed "journal could not be written",
    EdgeStep "clock stepped to where the trust in memory ends",
    ClockStep "clock stepped over the coherence window",
    LifeStep "clock stepped over the longest life",
    Settled "settled, with every purge everywhere",
}

/// How many kinds there are.
pub const EVENTS: usize = TEXTS.len();

/// Counts of all kinds.
pub type Counts = [u64; EVENTS];
