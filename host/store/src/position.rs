//! Where in the invalidation log a fetch began.

/// A place in the invalidation log. An object carries the one that was current
/// before its fetch began, and is valid only while no counter that concerns it has
/// grown past it.
///
/// `fleet` and `node` are sequences of two logs that are tested apart, so positions
/// have no order of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The random identity of the fleet's log. An object of another epoch is dead.
    pub epoch: u64,
    /// The last sequence of the log in Redis that this node had applied.
    pub fleet: u64,
    /// The last sequence of the log that this node keeps while Redis is away.
    pub node: u64,
}
