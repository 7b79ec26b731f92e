//! Streams that a client opens and resets at once, so that the limit on open streams does
//! not hold it: CVE-2023-44487. h2 counts those that nobody had looked at yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Resets that are no sign of anything: a browser leaves a page full of images.
const CREDIT: u64 = 256;

/// How the streams of a connection ended.
#[derive(Debug, Default)]
pub(super) struct Resets(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    reset: AtomicU64,
    ended: AtomicU64,
}

impl Resets {
    /// Whether more streams were reset than ended, and that by a lot.
    pub(super) fn is_flood(&self) -> bool {
        self.0.reset.load(Relaxed) > self.0.ended.load(Relaxed) + CREDIT
    }

    /// Streams that are being answered.
    pub(super) fn open(&self) -> u64 {
        self.0.open.load(Relaxed)
    }

    /// A stream is answered until this is dropped.
    pub(super) fn begin(&self) -> Served {
        self.0.open.fetch_add(1, Relaxed);
        Served(Arc::clone(&self.0))
    }
}

/// One stream.
#[derive(Debug)]
pub(super) struct Served(Arc<Counts>);

impl Served {
    /// The client took its request back.
    pub(super) fn reset(self) {
        self.0.reset.fetch_add(1, Relaxed);
    }

    /// The client got its response.
    pub(super) fn ended(self) {
        self.0.ended.fetch_add(1, Relaxed);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_resets_much_more_than_it_lets_end_floods() {
        let resets = Resets::default();
        for _ in 0..CREDIT {
            resets.begin().reset();
        }
        assert!(!resets.is_flood());
        resets.begin().ended();
        resets.begin().reset();
        assert!(!resets.is_flood());
        resets.begin().reset();
        assert!(resets.is_flood());
        assert_eq!(resets.open(), 0);
    }
}
