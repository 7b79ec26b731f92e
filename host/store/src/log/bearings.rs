//! Whether this node knows all that the log in Redis had when it was asked.

use weir_semantics::Timestamp;

use super::{Log, Seen};

/// Where this node stood before it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bearings {
    epoch: u64,
    applied: u64,
    /// Of the entry of that sequence; 0 if none is known.
    nonce: u64,
}

impl Bearings {
    fn are(self, seen: Seen) -> bool {
        seen.epoch == Some(self.epoch)
            && seen.sequence == self.applied
            && (seen.nonce == self.nonce || self.nonce == 0)
    }
}

impl Log {
    /// Where this node stands: take it before Redis is asked.
    pub fn bearings(&self) -> Bearings {
        let state = self.0.state.read();
        Bearings {
            epoch: state.standing.epoch,
            applied: state.standing.applied,
            nonce: state.standing.entry.as_ref().map_or(0, |entry| entry.nonce),
        }
    }

    /// Whether this node has applied all that the log in Redis had when it was `seen`. It
    /// was asked at `began`, after `before` had been taken; if so that counts as contact.
    /// If not, synchronise.
    ///
    /// It is not enough that the sequence is no higher than this node's: a failover can
    /// have lost entries, and given their sequences to others. So it must be the very
    /// entry that the node ended with, then or now.
    pub fn confirm(&self, before: Bearings, seen: Seen, began: Timestamp) -> bool {
        let here = self.bearings();
        let current = here.are(seen) || (here.epoch == before.epoch && before.are(seen));
        if current {
            self.contact(began);
        }
        current
    }
}
