//! The first tier: decoded objects in this node's memory.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use moka::notification::RemovalCause;
use moka::ops::compute::Op;
use moka::sync::Cache;
use weir_semantics::Timestamp;

use crate::clock::Clock;
use crate::coded::Coded;
use crate::key::Key;
use crate::object::Object;
use crate::partial::Partial;

mod slot;
mod sweep;
mod usage;

use slot::Slot;
use sweep::Sweeper;
pub use usage::NamespaceUsage;
use usage::Usages;

/// Objects in memory, at most as many bytes as it was given. Each is found until its life
/// ends, and leaves when it is swept.
///
/// What it returns is not yet good to serve: its validity in the log and its freshness
/// are the caller's to test. One of no capacity is off: it keeps and finds nothing.
pub struct MemoryTier {
    cache: Cache<Key, Slot, ahash::RandomState>,
    clock: Clock,
    /// The most that the variants of one key may weigh, so that a key with many of
    /// them does not drive out everything else.
    slot_capacity: u64,
    evictions: Arc<AtomicU64>,
    usages: Arc<Usages>,
    /// By which its sweeper knows that it is gone.
    alive: Arc<()>,
}

/// What [`MemoryTier::stats`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryStats {
    /// About how many keys it holds.
    pub entries: u64,
    /// About how many bytes they weigh.
    pub bytes: u64,
    /// How many keys were driven out for lack of room since the start.
    pub evictions: u64,
}

impl MemoryTier {
    /// A tier of `capacity` bytes.
    pub fn new(capacity: u64, clock: Clock) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counter = evictions.clone();
        let usages = Arc::<Usages>::default();
        let (counts, now) = (Arc::clone(&usages), clock.clone());
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_: &Key, slot: &Slot| slot.weight())
            .eviction_listener(move |key: Arc<Key>, slot: Slot, cause| match cause {
                // Whoever replaced it took it out of the counts.
                RemovalCause::Replaced => {}
                RemovalCause::Size => {
                    counter.fetch_add(1, Ordering::Relaxed);
                    counts.of(&key).evicted(&slot, now.now());
                }
                // What ended has been counted as that.
                RemovalCause::Explicit | RemovalCause::Expired => {
                    counts.of(&key).remove(&slot);
                }
            })
            .build_with_hasher(ahash::RandomState::new());
        Self {
            cache,
            clock,
            slot_capacity: capacity / 4,
            evictions,
            usages,
            alive: Arc::default(),
        }
    }

    /// The newest object of this key whose variant suits the request. RFC 9111
    /// section 4.1. Allocates nothing.
    pub fn get(
        &self,
        key: &str,
        request_headers: &HeaderMap,
        now: Timestamp,
    ) -> Option<Arc<Object>> {
        self.slot(key)?.find(request_headers, now)
    }

    /// All variants of this key, newest first, purged and stale ones too.
    pub fn variants(&self, key: &str, now: Timestamp) -> Vec<Arc<Object>> {
        let slot = self.slot(key);
        slot.map_or_else(Vec::new, |slot| slot.all(now))
    }

    /// Is there a variant of this key for which `test` holds, whatever it is selected by?
    pub fn any(&self, key: &str, now: Timestamp, test: impl FnMut(&Object) -> bool) -> bool {
        let slot = self.slot(key);
        slot.is_some_and(|slot| slot.any(now, test))
    }

    /// Stores an object beside the other variants of its key, in place of what selects
    /// the same requests. Says whether it did: an object from before the one that is
    /// there, or one whose time in memory is over, is not stored.
    pub fn insert(&self, object: Arc<Object>) -> bool {
        let now = self.clock.now();
        if object.leaves_memory_at() <= now || u64::from(object.weight()) > self.slot_capacity {
            return false;
        }
        let mut stored = false;
        let key = object.key.clone();
        self.cache.entry(key.clone()).and_compute_with(|entry| {
            let old = entry.as_ref().map(|entry| entry.value());
            let slot = Slot::with(old, object, now, self.slot_capacity);
            stored = slot.is_some();
            self.put(&key, old, slot)
        });
        stored
    }

    /// Weighs the object anew that these codings of a body belong to. One that has gone
    /// meanwhile stays gone.
    pub fn reweigh(&self, key: &Key, coded: &Arc<Coded>) {
        self.cache.entry(key.clone()).and_compute_with(|entry| {
            match entry.filter(|entry| entry.value().has(coded)) {
                Some(entry) => {
                    self.usages.of(key).add(entry.value());
                    Op::Put(entry.value().clone())
                }
                None => Op::Nop,
            }
        });
    }

    fn slot(&self, key: &str) -> Option<Slot> {
        // Even where nothing is, a lookup is written down to learn what is asked for.
        match self.slot_capacity {
            0 => None,
            _ => self.cache.get(key),
        }
    }

    /// Puts a slot in the place of another, in the counts too.
    fn put(&self, key: &Key, old: Option<&Slot>, slot: Option<Slot>) -> Op<Slot> {
        let Some(slot) = slot else {
            return Op::Nop;
        };
        let usage = self.usages.of(key);
        if let Some(old) = old {
            usage.remove(old);
        }
        usage.add(&slot);
        Op::Put(slot)
    }

    /// The parts of this key's representations whose variant suits the request, newest
    /// first. Whether they may be used is the caller's to test, as with [`MemoryTier::get`].
    pub fn parts(
        &self,
        key: &str,
        request_headers: &HeaderMap,
        now: Timestamp,
    ) -> Vec<Arc<Partial>> {
        let slot = self.slot(key);
        slot.map_or_else(Vec::new, |slot| slot.parts(request_headers, now))
    }

    /// All parts of this key, newest first.
    pub fn parts_of(&self, key: &str) -> Vec<Arc<Partial>> {
        let slot = self.slot(key);
        slot.map_or_else(Vec::new, |slot| slot.all_parts())
    }

    /// Stores a part in place of those whose bytes it has. Says whether it did.
    pub fn insert_part(&self, part: Arc<Partial>) -> bool {
        let now = self.clock.now();
        if part.object.leaves_memory_at() <= now || self.slot_capacity == 0 {
            return false;
        }
        let mut stored = false;
        let key = part.object.key.clone();
        self.cache.entry(key.clone()).and_compute_with(|entry| {
            let old = entry.as_ref().map(|entry| entry.value());
            let slot = Slot::with_part(old, part, now, self.slot_capacity);
            stored = slot.is_some();
            self.put(&key, old, slot)
        });
        stored
    }

    /// Removes all variants of a key.
    pub fn remove(&self, key: &str) {
        self.cache.invalidate(key);
    }

    /// Removes everything.
    pub fn clear(&self) {
        self.cache.invalidate_all();
    }

    /// Lets go of what has ended, from now on until the tier is dropped, on a thread of its
    /// own: a few seconds late, and with many objects so much later that it takes no more
    /// than half a percent of one core.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn sweep_in_background(&self) -> io::Result<()> {
        let (sweeper, alive) = (self.sweeper(), Arc::downgrade(&self.alive));
        let thread = std::thread::Builder::new().name("weir-sweep".into());
        thread.spawn(move || sweeper.run(&alive)).map(drop)
    }

    /// Lets go of what has ended. Says how many keys that were.
    pub fn sweep(&self) -> u64 {
        self.sweeper().sweep(Duration::ZERO).0
    }

    fn sweeper(&self) -> Sweeper {
        Sweeper {
            cache: self.cache.clone(),
            clock: self.clock.clone(),
            usages: Arc::clone(&self.usages),
        }
    }

    /// Frees what does not fit. Reads and writes do this in passing; a node that is idle
    /// needs it called now and then.
    pub fn maintain(&self) {
        self.cache.run_pending_tasks();
    }

    /// Counts, as of the last maintenance.
    pub fn stats(&self) -> MemoryStats {
        MemoryStats {
            entries: self.cache.entry_count(),
            bytes: self.cache.weighted_size(),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }
}

impl MemoryTier {
    /// What it holds and lost of each namespace, by name. Right at any time for what was
    /// stored and replaced; what was driven out, as of the last maintenance.
    pub fn namespaces(&self) -> Vec<NamespaceUsage> {
        self.usages.read()
    }
}

impl fmt::Debug for MemoryTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTier")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
