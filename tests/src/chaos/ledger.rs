//! Every purge, and which version each node may still serve: the promise of
//! `docs/invalidation.md`, as a client can check it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// All pages' changes.
#[derive(Debug)]
pub(super) struct Ledger {
    pages: Vec<Mutex<Vec<Change>>>,
    window: Duration,
}

/// A new version of a page, and the purge of the old one.
#[derive(Debug)]
struct Change {
    version: u64,
    /// The node that took the purge.
    node: usize,
    /// When that node answered.
    acked: Option<Instant>,
    /// When Redis was known to have it.
    fleet: Option<Instant>,
}

/// What one response was, by the promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No purge that was answered before the request concerns it.
    Fresh,
    /// Purged, but the promise allows this node to serve it; purged for so long.
    Within(Duration),
    /// It should not have been served; purged for so long.
    Beyond(Duration),
}

impl Ledger {
    /// Of so many pages, all at version 1; `window` is the nodes' `coherence_window`.
    pub(super) fn new(pages: usize, window: Duration) -> Self {
        Self {
            pages: (0..pages).map(|_| Mutex::default()).collect(),
            window,
        }
    }

    /// A page has a new version, and a node is about to be told.
    pub(super) fn changed(&self, page: usize, version: u64, node: usize) {
        self.pages[page].lock().push(Change {
            version,
            node,
            acked: None,
            fleet: None,
        });
    }

    /// The node answered.
    pub(super) fn acknowledged(&self, page: usize, version: u64, fleet: bool) {
        let now = Instant::now();
        let mut changes = self.pages[page].lock();
        let change = changes.iter_mut().find(|one| one.version == version);
        if let Some(change) = change {
            change.acked = Some(now);
            change.fleet = fleet.then_some(now);
        }
    }

    /// A node has sent all that it had kept: what it had answered before `then` is with
    /// the fleet.
    pub(super) fn sent(&self, node: usize, then: Instant) {
        let now = Instant::now();
        for page in &self.pages {
            for change in page.lock().iter_mut() {
                let kept = change.node == node && change.acked.is_some_and(|acked| acked < then);
                if kept && change.fleet.is_none() {
                    change.fleet = Some(now);
                }
            }
        }
    }

    /// Judges a response of `node` to a request that was sent at `then`.
    pub(super) fn judge(&self, page: usize, node: usize, then: Instant, version: u64) -> Verdict {
        let changes = self.pages[page].lock();
        let mut verdict = Verdict::Fresh;
        for change in changes.iter().filter(|one| one.version > version) {
            let Some(acked) = change.acked.filter(|acked| *acked <= then) else {
                continue;
            };
            let age = then - acked;
            let known = change.fleet.is_some_and(|at| at + self.window <= then);
            if change.node == node || known {
                return Verdict::Beyond(age);
            }
            verdict = match verdict {
                Verdict::Within(longer) if longer > age => verdict,
                _ => Verdict::Within(age),
            };
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(2);

    #[test]
    fn the_node_that_answered_may_serve_nothing_older() {
        let ledger = Ledger::new(1, WINDOW);
        let before = Instant::now();
        ledger.changed(0, 2, 1);
        let later = Instant::now() + Duration::from_millis(1);
        assert_eq!(ledger.judge(0, 1, later, 1), Verdict::Fresh, "not answered");
        ledger.acknowledged(0, 2, true);
        let later = Instant::now() + Duration::from_millis(1);
        assert_eq!(ledger.judge(0, 1, before, 1), Verdict::Fresh, "sent before");
        assert!(matches!(ledger.judge(0, 1, later, 1), Verdict::Beyond(_)));
        assert_eq!(ledger.judge(0, 1, later, 2), Verdict::Fresh);
    }

    #[test]
    fn others_have_the_window_and_longer_where_redis_does_not_know() {
        let ledger = Ledger::new(1, WINDOW);
        ledger.changed(0, 2, 1);
        ledger.acknowledged(0, 2, false);
        let late = Instant::now() + 2 * WINDOW;
        assert!(matches!(ledger.judge(0, 0, late, 1), Verdict::Within(_)));
        assert!(matches!(ledger.judge(0, 1, late, 1), Verdict::Beyond(_)));
        ledger.sent(1, Instant::now() + Duration::from_millis(1));
        let soon = Instant::now() + WINDOW / 2;
        assert!(matches!(ledger.judge(0, 0, soon, 1), Verdict::Within(_)));
        assert!(matches!(ledger.judge(0, 0, late, 1), Verdict::Beyond(_)));
    }
}
