//! The invalidation log: what has been purged, and whether an object has outlived it.
//!
//! A purge raises the counters that it names to its sequence. An object carries the
//! [`Position`] from before its fetch began, and is dead once one of its counters is
//! newer. So a purge costs the same whatever it hits, and a fetch in flight cannot
//! bring a purged object back.
//!
//! There are two sequences: the fleet's, kept in Redis, and the node's, for purges
//! taken while Redis is away; they are tested apart. But for the journal's file this
//! module does no I/O of its own: what the fleet's log says arrives through [`Fleet`],
//! and what is kept goes through [`Journal`], so that a simulator can drive it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use weir_semantics::Timestamp;

use crate::{Key, Object, Position, Tags};

mod apply;
mod bearings;
mod causes;
mod fleet;
mod journal;
mod marks;
mod name;
mod pending;
mod prefixes;
mod receipt;
mod selector;
mod subject;
mod sync;
mod timeline;

pub use apply::Applied;
pub use bearings::Bearings;
pub use causes::Cause;
pub use fleet::{
    Entry, EntryMark, Fleet, FleetUnavailable, Purge, Seen, Sequenced, Snapshot, Standing,
};
pub use journal::{Journal, JournalError, Written};
pub use receipt::{Receipt, Scope};
pub use selector::{MAX_PREFIX_BYTES, Selector, Target};

pub(crate) use fleet::Raised;
pub(crate) use selector::Raise;

use marks::Table;
use pending::Pending;
use subject::Subject;

/// Bounds of a log.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many counters are kept, about; beyond it the oldest raise their bucket's floor.
    pub counters: usize,
    /// How many prefixes are kept; beyond it the oldest become their namespace.
    pub prefixes: usize,
    /// How many purges wait for Redis; beyond it they become one purge of everything.
    pub pending: usize,
    /// How many bytes of selectors wait for Redis, about; beyond it likewise.
    pub pending_bytes: usize,
    /// No object lives longer than this, its stale windows included.
    pub longest_life: Duration,
    /// How long an object may be served from memory without word from the fleet.
    pub coherence_window: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            counters: 128 * 1_024,
            prefixes: 1_000,
            pending: 10_000,
            pending_bytes: 16 << 20,
            longest_life: Duration::from_secs(366 * 24 * 3_600),
            coherence_window: Duration::from_secs(2),
        }
    }
}

/// Whether an object outlived the purges since its fetch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing concerns it.
    Valid,
    /// Its lifetime ended then, if not earlier; its stale windows (RFC 5861) go on.
    Soft(Timestamp),
    /// It may not be used for anything, not even as the base of a revalidation.
    Dead,
}

/// The log of one node. Cheap to clone; clones are the same log.
#[derive(Clone, Debug)]
pub struct Log(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: RwLock<State>,
    /// Grows with each change that can turn a verdict.
    version: AtomicU64,
    /// When the fleet's log was last known to have been applied in full, in
    /// milliseconds since the Unix epoch; 0 for never.
    contact: AtomicU64,
    limits: Limits,
    fleet: Option<Arc<dyn Fleet>>,
    /// What Redis has not taken, and the journal. Locked before `state`.
    pending: Mutex<Pending>,
    /// How many times the journal could not be written.
    unwritten: AtomicU64,
    /// How many times the fleet's counters were read and applied.
    synchronised: AtomicU64,
    /// Held while the standing moves: nothing may be applied between what Redis is asked
    /// and what it says, or a failover in between would not be noticed.
    turn: tokio::sync::Mutex<()>,
    /// Told when the fleet's log has been read in full for the first time in its epoch.
    joined: tokio::sync::Notify,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    /// The last entries that were applied: sequence and nonce.
    recent: VecDeque<(u64, u64)>,
    fleet: Table,
    node_sequence: u64,
    /// Purges that Redis has not taken. Without Redis: all.
    node: Table,
}

impl Log {
    /// An empty log that lives as long as the process. Without a `fleet`, this node is
    /// alone. See also [`Log::durable`] and [`Log::journaled`].
    pub fn new(limits: Limits, fleet: Option<Arc<dyn Fleet>>) -> Self {
        Self::with(limits, fleet, State::new(limits), Pending::default())
    }

    fn with(limits: Limits, fleet: Option<Arc<dyn Fleet>>, state: State, pending: Pending) -> Self {
        Self(Arc::new(Inner {
            state: RwLock::new(state),
            version: AtomicU64::new(1),
            contact: AtomicU64::new(0),
            limits,
            fleet,
            pending: Mutex::new(pending),
            unwritten: AtomicU64::new(0),
            synchronised: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
            joined: tokio::sync::Notify::new(),
        }))
    }

    /// Where the log stands: read it before a fetch begins, at `now`, and give it to the
    /// object.
    pub fn began(&self, now: Timestamp) -> Position {
        Position {
            at: now,
            ..self.position()
        }
    }

    /// Where the log stands.
    pub fn position(&self) -> Position {
        self.0.state.read().position()
    }

    /// Grows with each change that can turn a verdict. An object that was found valid
    /// under this version still is. Never 0.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Whether the object outlived all purges since its fetch began. Remembers in
    /// [`Object::validated`] that it did, so that the next call costs two loads.
    pub fn verdict(&self, object: &Object) -> Verdict {
        // Read first: a purge in between makes what is remembered outdated, not wrong.
        let version = self.version();
        if object.validated.load(Ordering::Acquire) == version {
            return Verdict::Valid;
        }
        let verdict = self
            .0
            .state
            .read()
            .verdict(&Subject::of(object), object.position());
        if verdict == Verdict::Valid {
            object.validated.store(version, Ordering::Release);
        }
        verdict
    }

    /// Whether no counter of such an object grew after `since`, hard or soft: a reader
    /// may join a fetch that began then.
    pub fn untouched(&self, key: &Key, url: &str, tags: &Tags, since: Position) -> bool {
        self.0
            .state
            .read()
            .untouched(&Subject::new(key, url, tags), since, Position::default())
    }

    /// Whether an object with [`Receipt::position`] may be stored by the request that
    /// began at `since` and then purged: nothing but that purge touched the object.
    pub fn may_write_through(
        &self,
        key: &Key,
        url: &str,
        tags: &Tags,
        since: Position,
        receipt: &Receipt,
    ) -> bool {
        let state = self.0.state.read();
        receipt.undisturbed_since(since)
            && state.standing.applied >= receipt.position.fleet
            && state.untouched(&Subject::new(key, url, tags), since, receipt.own())
    }

    /// Whether memory may answer without asking Redis first: this node is alone, or had
    /// word from the fleet within the coherence window, or within it began to fetch the
    /// object, at [`Position::at`], which is asked for only where it counts.
    pub fn trusted(&self, now: Timestamp, fetch: impl FnOnce() -> Timestamp) -> bool {
        let window = self.0.limits.coherence_window;
        self.0.fleet.is_none()
            || now.since(self.last_contact()) <= window
            || now.since(fetch()) <= window
    }

    /// When the fleet's log was last known to have been applied in full; the Unix epoch
    /// for never.
    pub fn last_contact(&self) -> Timestamp {
        Timestamp::from_millis(self.0.contact.load(Ordering::Acquire))
    }

    /// Waits until the fleet's log has been read in full once. Objects fetched before
    /// that die at that moment.
    pub async fn joined(&self) {
        loop {
            let joined = self.0.joined.notified();
            tokio::pin!(joined);
            joined.as_mut().enable();
            if self.last_contact() != Timestamp::default() {
                return;
            }
            joined.await;
        }
    }

    /// How many purges wait for Redis.
    pub fn pending(&self) -> usize {
        self.0.pending.lock().len()
    }

    /// How many times purges could not be written to disk.
    pub fn unwritten(&self) -> u64 {
        self.0.unwritten.load(Ordering::Relaxed)
    }

    /// How many times the fleet's counters were read because entries were missing, and
    /// applied.
    pub fn synchronised(&self) -> u64 {
        self.0.synchronised.load(Ordering::Acquire)
    }

    /// How many counters and prefixes are kept.
    pub fn counters(&self) -> usize {
        let state = self.0.state.read();
        state.fleet.len() + state.node.len()
    }
}

impl State {
    fn new(limits: Limits) -> Self {
        Self {
            standing: Standing::default(),
            recent: VecDeque::new(),
            fleet: Table::new(limits),
            node_sequence: 0,
            node: Table::new(limits),
        }
    }

    fn position(&self) -> Position {
        Position {
            epoch: self.standing.epoch,
            fleet: self.standing.applied,
            node: self.node_sequence,
            at: Timestamp::default(),
        }
    }

    fn verdict(&self, subject: &Subject<'_>, position: Position) -> Verdict {
        if position.epoch != self.standing.epoch {
            return Verdict::Dead;
        }
        let mut dead = false;
        let mut soft: Option<Timestamp> = None;
        for (table, position) in [(&self.fleet, position.fleet), (&self.node, position.node)] {
            table.newer(subject, position, |mark| {
                dead |= mark.hard > position;
                if mark.soft > position {
                    soft = Some(soft.map_or(mark.soft_at, |at| at.min(mark.soft_at)));
                }
            });
        }
        match (dead, soft) {
            (true, _) => Verdict::Dead,
            (false, Some(at)) => Verdict::Soft(at),
            (false, None) => Verdict::Valid,
        }
    }

    /// The purge with the sequences of `except` does not count; 0 names none.
    fn untouched(&self, subject: &Subject<'_>, since: Position, except: Position) -> bool {
        let mut untouched = since.epoch == self.standing.epoch;
        for (table, since, except) in [
            (&self.fleet, since.fleet, except.fleet),
            (&self.node, since.node, except.node),
        ] {
            table.newer(subject, since, |mark| {
                let counts = |sequence: u64| sequence > since && sequence != except;
                untouched &= !counts(mark.hard) && !counts(mark.soft);
            });
        }
        untouched
    }
}

/// Reads a text as everything that the log keeps in Redis, for fuzzing. What reads back is
/// written as it was.
#[doc(hidden)]
pub fn read_anything(text: &str) {
    let mut written = String::new();
    if let Some(name) = name::Name::parse(text) {
        name.member(&mut written);
        debug_assert_eq!(written.to_lowercase(), text.to_lowercase());
    }
    let _ = selector::PrefixName::parse(text);
    let _ = Raise::parse(text);
    if let Ok(selectors) = serde_json::from_str::<Vec<Selector>>(text) {
        let again = serde_json::to_string(&selectors).unwrap_or_default();
        let back: Vec<Selector> = serde_json::from_str(&again).unwrap_or_default();
        debug_assert_eq!(back, selectors);
    }
}

#[cfg(test)]
mod tests;
