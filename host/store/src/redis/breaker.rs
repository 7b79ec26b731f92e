//! Stops calls to a Redis that does not answer, or answers too late.
//!
//! ```text
//! Closed ── failures in a row ──► Open ── the prober's PING is sent ──► HalfOpen
//!   ▲                              ▲                                      │
//!   │                              └──────────── it fails ────────────────┤
//!   └─────────────────────────── it is answered in time ──────────────────┘
//! ```
//! Calls pass only while it is closed. Whoever opens it starts the one prober.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use weir_semantics::Timestamp;

use super::state::RedisState;

/// The longest pause between two probes: with what a probe itself may take, Redis is used
/// within two seconds of being back.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Where the breaker stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Breaker {
    /// Calls pass.
    Closed,
    /// Calls fail at once.
    Open(Outage),
    /// Calls fail at once; a probe is under way.
    HalfOpen(Outage),
}

/// Since when Redis is down, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outage {
    pub(super) since: Timestamp,
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Guard {
    state: Mutex<Breaker>,
    /// Failures since the last success.
    failures: AtomicU32,
    threshold: u32,
    /// Whether calls pass.
    closed: AtomicBool,
    /// How often it was closed: a failure of a call that began before does not count.
    closings: AtomicU64,
}

impl Guard {
    /// Begins open: Redis has yet to answer.
    pub(super) fn new(threshold: u32, now: Timestamp) -> Self {
        let outage = Outage {
            since: now,
            reason: "it has not answered yet".into(),
        };
        Self {
            state: Mutex::new(Breaker::Open(outage)),
            failures: AtomicU32::new(0),
            threshold: threshold.max(1),
            closed: AtomicBool::new(false),
            closings: AtomicU64::new(0),
        }
    }

    /// A ticket for a call, if calls pass.
    pub(super) fn enter(&self) -> Option<u64> {
        let ticket = self.closings.load(Ordering::Acquire);
        self.closed.load(Ordering::Acquire).then_some(ticket)
    }

    pub(super) fn succeeded(&self) {
        // A plain load first: this is on every call, and seldom has anything to do.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Counts a failure. `true`: the breaker has opened, and the caller must probe.
    pub(super) fn failed(&self, ticket: u64, now: Timestamp, reason: &str) -> bool {
        if ticket != self.closings.load(Ordering::Acquire) {
            return false;
        }
        if self.failures.fetch_add(1, Ordering::AcqRel) + 1 < self.threshold {
            return false;
        }
        let mut state = self.state.lock();
        if *state != Breaker::Closed {
            return false;
        }
        *state = Breaker::Open(Outage {
            since: now,
            reason: reason.to_owned(),
        });
        self.closed.store(false, Ordering::Release);
        true
    }

    /// A probe is sent.
    pub(super) fn probing(&self) {
        let mut state = self.state.lock();
        if let Breaker::Open(outage) = &*state {
            *state = Breaker::HalfOpen(outage.clone());
        }
    }

    /// A probe failed.
    pub(super) fn probe_failed(&self, reason: String) {
        let mut state = self.state.lock();
        if let Breaker::HalfOpen(outage) = &*state {
            *state = Breaker::Open(Outage {
                since: outage.since,
                reason,
            });
        }
    }

    /// A probe was answered in time.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        *state = Breaker::Closed;
        self.failures.store(0, Ordering::Release);
        self.closings.fetch_add(1, Ordering::AcqRel);
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn state(&self) -> RedisState {
        match &*self.state.lock() {
            Breaker::Closed => RedisState::Up,
            Breaker::Open(outage) | Breaker::HalfOpen(outage) => RedisState::Down {
                since: outage.since,
                reason: outage.reason.clone(),
            },
        }
    }
}

/// Pauses that double, each cut at random to between half and all of it, so that nodes
/// do not knock together.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_secs(1)
    }

    fn closed() -> Guard {
        let guard = Guard::new(3, now());
        guard.close();
        guard
    }

    #[test]
    fn opens_at_the_threshold_and_tells_one_caller_to_probe() {
        let guard = closed();
        let ticket = guard.enter().unwrap();
        assert!(!guard.failed(ticket, now(), "slow"));
        assert!(!guard.failed(ticket, now(), "slow"));
        assert!(guard.failed(ticket, now(), "slow"));
        assert!(!guard.failed(ticket, now(), "slow"), "there is one prober");
        assert_eq!(guard.enter(), None);
        assert_eq!(
            guard.state(),
            RedisState::Down {
                since: now(),
                reason: "slow".into()
            }
        );
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let guard = closed();
        let ticket = guard.enter().unwrap();
        for _ in 0..10 {
            guard.failed(ticket, now(), "slow");
            guard.failed(ticket, now(), "slow");
            guard.succeeded();
        }
        assert_eq!(guard.state(), RedisState::Up);
    }

    #[test]
    fn a_failed_probe_keeps_it_open_and_a_good_one_closes_it() {
        let guard = Guard::new(1, now());
        guard.probing();
        guard.probe_failed("refused".into());
        assert_eq!(
            guard.state(),
            RedisState::Down {
                since: now(),
                reason: "refused".into()
            }
        );
        guard.probing();
        assert_eq!(
            guard.enter(),
            None,
            "half open lets nobody but the prober in"
        );
        guard.close();
        assert!(guard.enter().is_some());
    }

    #[test]
    fn a_late_failure_from_before_the_outage_does_not_open_it_again() {
        let guard = Guard::new(1, now());
        guard.close();
        let ticket = guard.enter().unwrap();
        assert!(guard.failed(ticket, now(), "slow"));
        guard.close();
        assert!(!guard.failed(ticket, now(), "slow"));
        assert_eq!(guard.state(), RedisState::Up);
    }

    #[test]
    fn pauses_grow_to_a_second_and_vary() {
        let mut backoff = Backoff::new();
        let pauses: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(pauses[0] <= FIRST_PAUSE);
        let late = &pauses[8..];
        assert!(
            late.iter()
                .all(|pause| (LONGEST_PAUSE / 2..=LONGEST_PAUSE).contains(pause))
        );
        assert!(late.iter().any(|pause| pause != &late[0]));
    }
}
