//! What a purge answers.

use serde::Serialize;
use weir_semantics::Timestamp;

use crate::Position;

/// How far a purge has got when it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Redis has taken it: every node obeys within its coherence window.
    Fleet,
    /// This node obeys; the others will when Redis is back.
    Node,
}

/// The acknowledgement of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its sequence in the fleet's log; absent when only this node has it.
    pub sequence: Option<u64>,
    /// Who obeys.
    pub scope: Scope,
    /// Whether it holds also when this node is restarted: Redis has it, or the disk, or
    /// no object of this node outlives the process.
    pub durable: bool,
    /// The position right after the purge. An object made by the same request that
    /// purged may carry it, if [`Log::may_write_through`](super::Log::may_write_through).
    pub position: Position,
    /// The highest sequences to which one of its counters had been raised before.
    pub(super) earlier: Position,
}

impl Receipt {
    /// Whether nothing else raised one of its counters after `position`.
    pub fn undisturbed_since(&self, position: Position) -> bool {
        self.position.epoch == position.epoch
            && self.earlier.fleet <= position.fleet
            && self.earlier.node <= position.node
    }

    /// The sequences that are this purge's own; 0 in a log that it is not in.
    pub(super) fn own(&self) -> Position {
        Position {
            epoch: self.position.epoch,
            fleet: self.sequence.unwrap_or(0),
            node: if self.sequence.is_some() {
                0
            } else {
                self.position.node
            },
            at: Timestamp::default(),
        }
    }
}
