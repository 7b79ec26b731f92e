//! Counters of a policy, as plain atomics that can be read at any time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::CallErrorKind;

/// The four functions that a policy exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// `configure`, once for each instance.
    Configure,
    /// `on-request`.
    OnRequest,
    /// `on-response`.
    OnResponse,
    /// `on-event`.
    OnEvent,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 4] = [
        Self::Configure,
        Self::OnRequest,
        Self::OnResponse,
        Self::OnEvent,
    ];

    /// The hook's name in the contract: `on-request`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::OnRequest => "on-request",
            Self::OnResponse => "on-response",
            Self::OnEvent => "on-event",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Counters of one hook.
#[derive(Debug, Default)]
pub struct HookStats {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    errors: [AtomicU64; CallErrorKind::ALL.len()],
}

impl HookStats {
    /// Calls that ended, failed ones included.
    pub fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    /// Wall time of all these calls together: the guest's CPU, and for policies with
    /// `kv` or `rate-limit` the waiting for these too.
    pub fn total_time(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Relaxed))
    }

    /// Calls that ended with an error of this kind.
    pub fn errors(&self, kind: CallErrorKind) -> u64 {
        self.errors[kind.index()].load(Relaxed)
    }

    pub(crate) fn ended(&self, took: Duration, error: Option<CallErrorKind>) {
        self.calls.fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
        if let Some(kind) = error {
            self.errors[kind.index()].fetch_add(1, Relaxed);
        }
    }
}

/// Counters of one policy.
#[derive(Debug, Default)]
pub struct PolicyStats {
    hooks: [HookStats; Hook::ALL.len()],
    pub(crate) instances_made: AtomicU64,
    pub(crate) log_lines_dropped: AtomicU64,
}

impl PolicyStats {
    /// The counters of one hook.
    pub fn hook(&self, hook: Hook) -> &HookStats {
        &self.hooks[hook as usize]
    }

    /// Instances made since the policy was loaded.
    pub fn instances_made(&self) -> u64 {
        self.instances_made.load(Relaxed)
    }

    /// Log lines of the policy that were over the limit a second.
    pub fn log_lines_dropped(&self) -> u64 {
        self.log_lines_dropped.load(Relaxed)
    }
}
