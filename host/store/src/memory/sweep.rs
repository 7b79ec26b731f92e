//! Letting go of what has ended.
//!
//! No request is answered with it, so that nothing hangs on the moment. Moka could do it by
//! itself, by a timer for each entry of 48 bytes; a walk over all of them now and then
//! costs none.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use moka::ops::compute::Op;
use moka::sync::Cache;

use super::slot::Slot;
use super::usage::Usages;
use crate::clock::Clock;
use crate::key::Key;

/// The least pause between two walks.
const PAUSE: Duration = Duration::from_secs(2);

/// A walk takes at most one part in so many of the time.
const SHARE: u32 = 200;

/// After so many entries others get their turn.
const BATCH: usize = 1_024;

/// For so long.
const REST: Duration = Duration::from_millis(1);

/// Walks over what a tier holds.
pub(super) struct Sweeper {
    pub(super) cache: Cache<Key, Slot, ahash::RandomState>,
    pub(super) clock: Clock,
    pub(super) usages: Arc<Usages>,
}

impl Sweeper {
    /// Removes every slot whose time is over. Says how many there were, and what of the
    /// time it took was not rest.
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread of its own, on which no client waits"
    )]
    pub(super) fn sweep(&self, rest: Duration) -> (u64, Duration) {
        let (mut removed, mut busy) = (0, Duration::ZERO);
        let mut began = Instant::now();
        for (at, (key, slot)) in self.cache.iter().enumerate() {
            if slot.leaves_at() <= self.clock.now() {
                removed += u64::from(self.remove(&key));
            }
            if at % BATCH == BATCH - 1 {
                busy += began.elapsed();
                thread::sleep(rest);
                began = Instant::now();
            }
        }
        (removed, busy + began.elapsed())
    }

    /// Removes what is there now, if its time is over as well.
    pub(super) fn remove(&self, key: &Key) -> bool {
        let mut removed = false;
        self.cache.entry_by_ref(key).and_compute_with(|entry| {
            match entry.filter(|entry| entry.value().leaves_at() <= self.clock.now()) {
                Some(entry) => {
                    self.usages.of(key).expired(entry.value());
                    removed = true;
                    Op::Remove
                }
                None => Op::Nop,
            }
        });
        removed
    }

    /// Goes on until the tier is gone.
    #[expect(
        clippy::disallowed_methods,
        reason = "a thread of its own, on which no client waits"
    )]
    pub(super) fn run(self, tier: &Weak<()>) {
        while tier.strong_count() > 0 {
            let (_, busy) = self.sweep(REST);
            thread::sleep(PAUSE.max(busy * SHARE));
        }
    }
}
