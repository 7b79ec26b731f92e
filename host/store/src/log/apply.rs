//! What the fleet's log says, applied to this node. Called by whoever follows it.

use std::sync::atomic::Ordering;

use weir_semantics::Timestamp;

use super::fleet::{Entry, Raised, Snapshot, Standing};
use super::selector::Selector;
use super::{Log, State};

/// How many entries are remembered, to know them again.
const RECENT: usize = 64;

/// What became of an entry of the fleet's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was the next one.
    Next,
    /// It had been applied before.
    Known,
    /// It is older than what has been applied, and not among the last entries, and may be
    /// one that a failover lost. Whoever has sent it sends it again to find out.
    Unsure,
    /// It holds from now on, but entries before it are missing: synchronise.
    Gap,
    /// It holds, but another entry had its sequence, or it does not follow on what this
    /// node knows: a failover lost that. Synchronise, which begins a new epoch.
    Diverged,
    /// It is of another epoch and was left out: synchronise.
    OtherEpoch,
}

impl Log {
    /// How far this node has followed the fleet's log.
    pub fn standing(&self) -> Standing {
        self.0.state.read().standing.clone()
    }

    /// Applies one entry of the fleet's log, while no synchronisation is under way.
    pub fn apply(&self, entry: &Entry, now: Timestamp) -> Applied {
        let mut state = self.0.state.write();
        if entry.epoch != state.standing.epoch {
            return Applied::OtherEpoch;
        }
        let same_log = state.follows(entry);
        if same_log && entry.sequence <= state.standing.applied {
            return match state.recent(entry.sequence) {
                Some(_) => Applied::Known,
                None => Applied::Unsure,
            };
        }
        state.raise(entry, now);
        let applied = if !same_log {
            Applied::Diverged
        } else if entry.sequence == state.standing.applied + 1 {
            state.standing.applied = entry.sequence;
            state.standing.entry = Some(entry.mark.clone());
            state.remember(entry.sequence, entry.mark.nonce);
            Applied::Next
        } else {
            Applied::Gap
        };
        self.changed();
        applied
    }

    /// Has an entry hold here that Redis has, and what has been applied may cover.
    pub(super) fn raise(&self, entry: &Entry, now: Timestamp) {
        let mut state = self.0.state.write();
        if entry.epoch == state.standing.epoch {
            state.raise(entry, now);
            self.changed();
        }
    }

    /// Applies a page of counters. The node's standing moves with the last page only:
    /// Redis has been asked for what this node knew, which must not have changed since.
    pub fn apply_snapshot(&self, snapshot: &Snapshot, now: Timestamp) {
        let mut state = self.0.state.write();
        let renewed = state.standing.epoch != snapshot.epoch;
        if renewed {
            state.fleet.clear();
            state.standing = Standing {
                epoch: snapshot.epoch,
                ..Standing::default()
            };
            state.recent.clear();
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
            state.standing.applied = snapshot.sequence;
            state.standing.entry.clone_from(&snapshot.last);
            if let Some(last) = &snapshot.last {
                state.remember(snapshot.sequence, last.nonce);
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
    fn raise(&mut self, entry: &Entry, now: Timestamp) {
        for raise in entry.selectors.iter().flat_map(Selector::raises) {
            self.fleet.raise(&raise, entry.sequence, entry.at, now);
        }
    }

    /// Whether the entry can be of the log that this node knows.
    fn follows(&self, entry: &Entry) -> bool {
        if let Some(nonce) = self.recent(entry.sequence) {
            return nonce == entry.mark.nonce;
        }
        let nonce = self.standing.entry.as_ref().map_or(0, |known| known.nonce);
        entry.sequence != self.standing.applied + 1
            || entry.previous.is_none_or(|previous| previous == nonce)
    }

    /// The nonce of the entry with this sequence, if it is one of the last.
    fn recent(&self, sequence: u64) -> Option<u64> {
        let found = self.recent.iter().rev().find(|(at, _)| *at == sequence);
        found.map(|(_, nonce)| *nonce)
    }

    fn remember(&mut self, sequence: u64, nonce: u64) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((sequence, nonce));
    }
}
