//! What the fleet's log says, applied to this node. Called by whoever follows it.

use std::sync::atomic::Ordering;

use weir_semantics::Timestamp;

use super::fleet::{Entry, EntryMark, Purge, Raised, Snapshot, Standing};
use super::selector::{Selector, Target};
use super::{Log, State};
use crate::Position;

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

    /// Applies a purge that Redis did not take to this node, and keeps it for Redis if
    /// there is one. Returns the position after it, and the sequence to which its
    /// counters had been raised before.
    pub(super) fn keep(&self, purge: Purge, now: Timestamp) -> (Position, u64) {
        let mut pending = self.0.pending.lock();
        let mut state = self.0.state.write();
        let raises = purge.raises();
        let earlier = state.node.highest(&raises);
        state.node_sequence += 1;
        let sequence = state.node_sequence;
        for raise in &raises {
            state
                .node
                .raise(raise, sequence, Timestamp::from_millis(purge.at), now);
        }
        if self.0.fleet.is_some() {
            pending.push_back(purge);
            if pending.len() > self.0.limits.pending {
                tracing::warn!(
                    purges = pending.len(),
                    "too many purges wait for Redis; they become one purge of everything"
                );
                let all = Purge::new(vec![Selector::new(Target::All)], now);
                for raise in all.raises() {
                    state.node.raise(&raise, sequence, now, now);
                }
                pending.clear();
                pending.push_back(all);
            }
        }
        self.changed();
        (state.position(), earlier)
    }

    /// Redis has taken this purge. With the last one gone, the node's own marks go too:
    /// the fleet's cover them, being newer than any object that they killed.
    pub(super) fn taken(&self, id: &str) {
        let mut pending = self.0.pending.lock();
        // It may have been collapsed into another in the meantime.
        if pending.front().is_some_and(|purge| purge.id == id) {
            pending.pop_front();
        }
        if pending.is_empty() {
            self.0.state.write().node.clear();
        }
    }

    /// Called with the state locked, so that no verdict on the old state is remembered
    /// under the new version.
    fn changed(&self) {
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
