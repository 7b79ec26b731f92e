//! What the fleet's log says, applied to this node. Called by whoever follows it.

use std::sync::atomic::Ordering;

use weir_semantics::Timestamp;

use super::fleet::{Entry, EntryMark, Raised, Snapshot, Standing};
use super::selector::Selector;
use super::{Log, State};

/// What became of an entry of the fleet's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was the next one.
    Next,
    /// It had been applied before.
    Known,
    /// It holds from now on, but entries before it are missing: synchronise.
    Gap,
    /// It holds, but another entry had its sequence: a failover lost that one.
    /// Synchronise, which begins a new epoch.
    Diverged,
    /// It is of another epoch and was left out: synchronise.
    OtherEpoch,
}

impl Log {
    /// How far this node has followed the fleet's log.
    pub fn standing(&self) -> Standing {
        self.0.state.read().standing.clone()
    }

    /// Applies one entry of the fleet's log.
    pub fn apply(&self, entry: &Entry, now: Timestamp) -> Applied {
        let mut state = self.0.state.write();
        if entry.epoch != state.standing.epoch {
            return Applied::OtherEpoch;
        }
        let same_log = state.see(entry.sequence, &entry.mark);
        if same_log && entry.sequence <= state.standing.applied {
            return Applied::Known;
        }
        for raise in entry.selectors.iter().flat_map(Selector::raises) {
            state.fleet.raise(&raise, entry.sequence, entry.at, now);
        }
        let applied = if !same_log {
            Applied::Diverged
        } else if entry.sequence == state.standing.applied + 1 {
            state.standing.applied = entry.sequence;
            Applied::Next
        } else {
            Applied::Gap
        };
        self.changed();
        applied
    }

    /// Applies a page of counters. The node's standing moves with the last page only.
    pub fn apply_snapshot(&self, snapshot: &Snapshot, now: Timestamp) {
        let mut state = self.0.state.write();
        let renewed = state.standing.epoch != snapshot.epoch;
        if renewed {
            state.fleet.clear();
            state.standing = Standing {
                epoch: snapshot.epoch,
                applied: 0,
                last: None,
            };
            state.last_sequence = 0;
        }
        for Raised {
            raise,
            sequence,
            at,
        } in &snapshot.counters
        {
            state.fleet.raise(raise, *sequence, *at, now);
        }
        for (bucket, floor) in &snapshot.floors {
            state.fleet.raise_floor(*bucket, *floor);
        }
        if snapshot.next.is_none() {
            state.standing.applied = state.standing.applied.max(snapshot.sequence);
            if let Some(last) = &snapshot.last {
                state.see(snapshot.sequence, last);
            }
        }
        if renewed || !snapshot.counters.is_empty() || !snapshot.floors.is_empty() {
            self.changed();
        }
    }

    /// The fleet's log has been applied in full as it was at `at`, or later.
    pub fn contact(&self, at: Timestamp) {
        if self.0.contact.fetch_max(at.as_millis(), Ordering::AcqRel) == 0 {
            self.0.joined.notify_waiters();
        }
    }

    /// Called with the state locked, so that no verdict on the old state is remembered
    /// under the new version.
    pub(super) fn changed(&self) {
        self.0.version.fetch_add(1, Ordering::AcqRel);
    }
}

impl State {
    /// Remembers the newest entry that was seen. `false`: another one was seen with this
    /// sequence.
    fn see(&mut self, sequence: u64, mark: &EntryMark) -> bool {
        match &self.standing.last {
            Some(last) if sequence == self.last_sequence => return last == mark,
            Some(_) if sequence < self.last_sequence => {}
            _ => {
                self.last_sequence = sequence;
                self.standing.last = Some(mark.clone());
            }
        }
        true
    }
}
