//! Broken variants: each breaks one rule that the promise rests on, and must be caught.

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Fault {
    /// A fill is joined although a purge came in between.
    JoinAcrossPurge,
    /// An object gets the position from after its fetch.
    PositionAfterFetch,
    /// A late 304 makes a hard-purged object new.
    LateRefresh,
    /// A failover that loses entries begins no new epoch.
    LostTail,
    /// A Redis that goes back to an old epoch begins no new one.
    OldEpoch,
    /// A forgotten counter leaves no floor.
    NoFloor,
    /// A prefix is taken for a tag.
    PrefixIsTag,
    /// A purge from the journal is sent under a new id.
    ReplayedTwice,
    /// A node that is behind believes what it reads in Redis.
    BehindTrustsRedis,
    /// A purge is answered before the journal has it.
    AnswerBeforeDisk,
    /// The journal is gone after a crash.
    JournalForgotten,
    /// Memory is trusted without word from Redis.
    TrustedForEver,
    /// Word from Redis counts from when it came, not from when it was asked for.
    ContactAtAnswer,
    /// A hard purge is taken for a soft one.
    SoftForHard,
    /// An object of another epoch is accepted.
    AnyEpoch,
    /// Entries do not say what they follow: a purge hides that Redis failed over.
    NoChain,
    /// A fetch counts as recent from when its response came.
    TrustedFromResponse,
    /// A fill is joined however long ago it began.
    JoinOldFill,
    /// An object from Redis counts as fetched here, by the other node's clock.
    ForeignClock,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::JoinAcrossPurge,
        Self::PositionAfterFetch,
        Self::LateRefresh,
        Self::LostTail,
        Self::OldEpoch,
        Self::NoFloor,
        Self::PrefixIsTag,
        Self::ReplayedTwice,
        Self::BehindTrustsRedis,
        Self::AnswerBeforeDisk,
        Self::JournalForgotten,
        Self::TrustedForEver,
        Self::ContactAtAnswer,
        Self::SoftForHard,
        Self::AnyEpoch,
        Self::NoChain,
        Self::TrustedFromResponse,
        Self::JoinOldFill,
        Self::ForeignClock,
    ];
}
