//! The promise of `docs/invalidation.md`, in a form that can be held against a run.
//!
//! A response is *removed* by a purge that names it if the fetch of its body (for a soft
//! purge: the fetch that last confirmed it) began before the purge was asked for. To a
//! request that came after a purge was answered, a removed response may be served only
//! 1. by a node that does not know the purge, within `coherence_window` after Redis had
//!    taken it, unless that node read it in Redis for this request; or later, if the
//!    origin has confirmed the response since (a 304);
//! 2. by a node that does not know the purge, while Redis has not taken it (scope `node`)
//!    or has lost it again (a failover, an old snapshot).
//!
//! A node knows a purge if it answered it, read it from its journal, or applied the log
//! that far; it forgets what it knows when it restarts.

use crate::ledger::Known;

/// What a response is made of.
#[derive(Clone, Copy, Debug)]
pub struct Content {
    /// Which object.
    pub object: usize,
    /// When the fetch of its body began.
    pub body: u64,
    /// When the fetch that last confirmed it began.
    pub confirmed: u64,
    /// The last entry of the log that its node had applied then.
    pub entry: u64,
}

/// Where a response was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// In memory.
    Memory,
    /// In Redis, for this request.
    Redis,
    /// Fetched for this request.
    Fetch,
    /// By joining what another request had begun.
    Joined,
}

/// When something happened: its place in the schedule, and by the true clock.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Grows with each step.
    pub step: u64,
    /// In milliseconds.
    pub millis: u64,
}

/// A node, and which start of it.
pub type By = (usize, u64);

/// A response on its way to a client.
#[derive(Clone, Copy, Debug)]
pub struct Serve {
    /// Who serves it.
    pub by: By,
    /// The last entry of the log that the node has applied.
    pub last: u64,
    /// The response.
    pub content: Content,
    /// As fresh, not as a stale one that is being fetched anew.
    pub fresh: bool,
    /// When the request came.
    pub arrived: When,
    /// Where it was found.
    pub from: From,
}

/// Whether the purge allows it. `window` in milliseconds. `applied`: whether the log that
/// the node has applied has this purge.
pub fn allows(purge: &Known, serve: &Serve, window: u64, applied: impl Fn(&Known) -> bool) -> bool {
    let since = if purge.soft {
        serve.content.confirmed
    } else {
        serve.content.body
    };
    let asked = purge.asked.step;
    let removed =
        purge.names[serve.content.object] && asked > since && (serve.fresh || !purge.soft);
    let Some((answered, _, durable)) = purge.answered.filter(|_| removed) else {
        return true;
    };
    if serve.arrived.step <= answered.step {
        return true;
    }
    // Not what a request began before the node knew: it has asked the origin.
    let knew = |(by, step): &(By, u64)| *by == serve.by && serve.arrived.step > *step;
    if purge.by == serve.by || purge.knowers.iter().any(knew) {
        return false;
    }
    if purge.lost {
        return true;
    }
    let Some((taken, _)) = purge.taken else {
        // Durable: its next incarnation reads it from the journal before all else.
        return !(durable && purge.by.0 == serve.by.0);
    };
    if serve.arrived.step <= taken.step {
        return true;
    }
    if serve.from == From::Memory && applied(purge) {
        return false;
    }
    // It does not know, and has asked the origin since.
    if asked <= serve.content.confirmed {
        return true;
    }
    serve.from != From::Redis && serve.arrived.millis <= taken.millis.max(answered.millis) + window
}
