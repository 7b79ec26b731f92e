//! Where in the invalidation log a fetch began.

use weir_semantics::Timestamp;

/// A place in the invalidation log. An object carries the one that was current
/// before its fetch began, and is valid only while no counter that concerns it has
/// grown past it.
///
/// `fleet` and `node` are sequences of two logs that are tested apart, so positions
/// have no order of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The identity of the fleet's log. An object of another epoch is dead.
    pub epoch: u64,
    /// The last sequence of the log in Redis that this node had applied.
    pub fleet: u64,
    /// The last sequence of the log that this node keeps while Redis is away.
    pub node: u64,
    /// When this node began to fetch it. The Unix epoch for what it did not fetch itself:
    /// then only word from the fleet makes it trustworthy.
    pub at: Timestamp,
}

impl Position {
    /// Whether it is the same place in the log, whenever that was.
    #[must_use]
    pub fn is_at(self, other: Self) -> bool {
        let place = |it: Self| (it.epoch, it.fleet, it.node);
        place(self) == place(other)
    }
}
