//! One fetch per object at a time, streamed to everyone who asks for it.
//!
//! [`Fills::join`] gives the first who asks an [`Obligation`] to fetch, and all others
//! a [`Reader`]. The one who is obliged turns the obligation into a [`Writer`] once the
//! response head is known. Dropping either unfulfilled fails the fill, so no reader
//! waits for somebody who is gone, and no reader ever sees a clean end of a body that
//! was cut short.
//!
//! Arrows of the state machine (`state::Phase`):
//! ```text
//! Filling (no head) ─ head ──────► Filling (streaming)
//! Filling (no head) ─ refreshed ─► Complete      a 304, or found in another tier
//! Filling (no head) ─ uncacheable► Uncacheable   the waiters go on by themselves
//! Filling           ─ complete ──► Complete
//! Filling           ─ fail, drop ► Failed
//! ```
//! While a fill can still be stored, all of its chunks are kept: whoever joins late
//! reads from the start, and whoever reads slowly holds nobody back. A body that
//! outgrows [`Limits`] is no longer joinable nor storable, and from then on goes no
//! faster than its readers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use http::HeaderMap;
use smallvec::SmallVec;

use crate::key::Key;
use crate::position::Position;
use crate::tags::Tags;

mod head;
mod reader;
mod state;
mod writer;

pub use head::{FillError, Head};
pub use reader::{Outcome, Piece, Reader};
pub use state::Fill;
pub use writer::{Demand, Obligation, Writer};

/// The most fills of one key that can be joined at a time, each for another variant.
/// A request beyond that fetches for itself.
const MAX_VARIANTS: usize = 32;

/// Bounds on fills. All sizes are in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest body that is stored.
    pub max_object: u64,
    /// The most that all fills together keep for readers to come.
    pub max_buffered: u64,
    /// How far a body that is not stored may run ahead of its slowest reader.
    pub window: u64,
    /// How long a body that is not stored waits for a reader that takes nothing, when
    /// others have taken all there is. That reader then fails.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_object: 64 << 20,
            max_buffered: 256 << 20,
            window: 1 << 20,
            patience: Duration::from_secs(5),
        }
    }
}

/// What is known of a fill before its fetch begins.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The target URI, absolute.
    pub url: Box<str>,
    /// The tags that the request already gives.
    pub tags: Tags,
    /// The position of the log. Take it where [`Fills::join`] asks for it, not before.
    pub position: Position,
}

/// What [`Fills::join`] makes of a request.
#[derive(Debug)]
pub enum Joined {
    /// Nobody fetches it: it is up to you. Look into the tiers once more first, since a
    /// fill may have ended between your lookup and this call.
    Start(Obligation),
    /// Somebody does: wait.
    Wait(Reader),
}

/// The running fills of a node. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Fills(Arc<Table>);

pub(crate) struct Table {
    running: DashMap<Key, SmallVec<[Arc<Fill>; 1]>, ahash::RandomState>,
    limits: Limits,
    buffered: AtomicU64,
}

impl Fills {
    /// A table without fills.
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Table {
            running: DashMap::default(),
            limits,
            buffered: AtomicU64::new(0),
        }))
    }

    /// Joins the running fill of this key that suits the request, or starts one.
    ///
    /// A fill whose head is not known yet suits every request: compare
    /// [`Head::vary`] when it is, and join again if it does not suit (a few times at
    /// most, then use [`Fills::alone`]). A fill that `still_valid` refuses goes on for
    /// those who have joined it and for nobody else. Neither closure may use `self`.
    pub fn join(
        &self,
        key: &Key,
        request_headers: &HeaderMap,
        begin: impl FnOnce() -> Begin,
        still_valid: impl Fn(&Fill) -> bool,
    ) -> Joined {
        let mut fills = self.0.running.entry(key.clone()).or_default();
        fills.retain(|fill| still_valid(fill));
        for fill in fills.iter() {
            if let Some(reader) = Reader::join(fill, request_headers) {
                return Joined::Wait(reader);
            }
        }
        let fill = Arc::new(Fill::new(key.clone(), begin()));
        if fills.len() < MAX_VARIANTS {
            fills.push(fill.clone());
        }
        Joined::Start(Obligation::new(fill, self.0.clone()))
    }

    /// Starts a fill that nobody else can join, for a request that no running fill
    /// suits or whose key is marked uncacheable.
    pub fn alone(&self, key: &Key, begin: Begin) -> Obligation {
        Obligation::new(Arc::new(Fill::new(key.clone(), begin)), self.0.clone())
    }

    /// How many keys have a fill that can be joined.
    pub fn len(&self) -> usize {
        self.0.running.len()
    }

    /// Is nothing being fetched that can be joined?
    pub fn is_empty(&self) -> bool {
        self.0.running.is_empty()
    }

    /// How many bytes all fills keep for readers to come.
    pub fn buffered(&self) -> u64 {
        self.0.buffered.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Fills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fills")
            .field("len", &self.len())
            .field("buffered", &self.buffered())
            .finish()
    }
}

impl Table {
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Lets nobody join the fill any more. Must not be called under the fill's lock,
    /// since `join` takes the two the other way round.
    fn unlist(&self, fill: &Arc<Fill>) {
        if let Entry::Occupied(mut fills) = self.running.entry(fill.key().clone()) {
            fills.get_mut().retain(|other| !Arc::ptr_eq(other, fill));
            if fills.get().is_empty() {
                fills.remove();
            }
        }
    }

    /// Takes `bytes` of what all fills may keep; says whether there was as much left.
    fn reserve(&self, bytes: u64) -> bool {
        let before = self.buffered.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limits.max_buffered;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    fn release(&self, bytes: u64) {
        self.buffered.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
