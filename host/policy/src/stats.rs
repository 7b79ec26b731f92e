//! Counters of a policy, which can be read at any time.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use weir_tally::Tally;

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

/// Classes of times: the first ends at 256 ns, the last begins beyond 8 s, and each in between
/// is a quarter of a power of two wide.
const CLASSES: usize = 102;

/// Counters of one hook.
#[derive(Debug)]
pub struct HookStats {
    calls: AtomicU64,
    nanoseconds: AtomicU64,
    times: [AtomicU64; CLASSES],
    errors: [AtomicU64; CallErrorKind::ALL.len()],
}

impl Default for HookStats {
    fn default() -> Self {
        Self {
            calls: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
            times: [const { AtomicU64::new(0) }; CLASSES],
            errors: [const { AtomicU64::new(0) }; CallErrorKind::ALL.len()],
        }
    }
}

/// The class of a time.
fn class(nanoseconds: u64) -> usize {
    let Some(octave) = nanoseconds
        .checked_ilog2()
        .and_then(|log| log.checked_sub(8))
    else {
        return 0;
    };
    let quarter = (nanoseconds >> (octave + 6)) & 3;
    // Both are small.
    (octave as usize * 4 + quarter as usize + 1).min(CLASSES - 1)
}

/// Where a class ends, in nanoseconds.
fn end(class: usize) -> u64 {
    let (octave, quarter) = (class.saturating_sub(1) / 4, class.saturating_sub(1) % 4);
    match class {
        0 => 256,
        _ => ((quarter as u64 + 5) << 6) << octave,
    }
}

impl HookStats {
    /// The time that this share of the calls (0 to 1) did not exceed, at most a quarter too
    /// long. `None` without calls.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.times.iter().map(|count| count.load(Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank between 0 and the number of calls"
        )]
        let rank = (all as f64 * share.clamp(0.0, 1.0)).ceil() as u64;
        let mut sum = 0;
        for (class, count) in counts.iter().enumerate() {
            sum += count;
            if sum >= rank.max(1) {
                return Some(Duration::from_nanos(end(class)));
            }
        }
        None
    }

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

    /// Calls that failed, by reason; only those that there are.
    pub fn failures(&self) -> impl Iterator<Item = (CallErrorKind, u64)> {
        let all = CallErrorKind::ALL.into_iter();
        let counted = all.map(|kind| (kind, self.errors(kind)));
        counted.filter(|(_, count)| *count > 0)
    }

    pub(crate) fn ended(&self, took: Duration, error: Option<CallErrorKind>) {
        self.calls.fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
        self.times[class(nanoseconds)].fetch_add(1, Relaxed);
        if let Some(kind) = error {
            self.errors[kind.index()].fetch_add(1, Relaxed);
        }
    }
}

/// How a lookup under a key of a policy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookedUp {
    /// Something stored answered it.
    Hit,
    /// Nothing stored did.
    Miss,
    /// Nothing was looked up.
    Not,
}

/// What came of a policy's decisions. The node counts it: a policy does not see it.
///
/// By the end of the lookup, two for each: whether the answer was a 5xx.
#[derive(Debug, Default)]
pub struct Outcomes(Tally<6>);

impl Outcomes {
    /// Counts an answer to a request that the policy decided: what became of its lookup, and
    /// whether the answer was a 5xx.
    pub fn answered(&self, looked_up: LookedUp, server_error: bool) {
        self.0
            .add([(looked_up as usize * 2 + usize::from(server_error), 1)]);
    }

    /// Lookups, and how many of them something stored answered.
    pub fn lookups(&self) -> (u64, u64) {
        let [hits, failed_hits, misses, failed_misses, ..] = self.0.sums();
        let hits = hits + failed_hits;
        (hits + misses + failed_misses, hits)
    }

    /// Answers, and how many of them were 5xx.
    pub fn answers(&self) -> (u64, u64) {
        let sums = self.0.sums();
        let errors = sums.iter().skip(1).step_by(2).sum();
        (sums.iter().sum(), errors)
    }
}

/// Counters of one policy.
#[derive(Debug, Default)]
pub struct PolicyStats {
    outcomes: Outcomes,
    hooks: [HookStats; Hook::ALL.len()],
    pub(crate) instances_made: AtomicU64,
    pub(crate) log_lines_dropped: AtomicU64,
}

impl PolicyStats {
    /// The counters of one hook.
    pub fn hook(&self, hook: Hook) -> &HookStats {
        &self.hooks[hook as usize]
    }

    /// What came of its decisions.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_class_that_ends_after_it() {
        for nanoseconds in (0..5_000).chain((12..40).map(|n| 3 << n)) {
            let class = class(nanoseconds);
            if class == CLASSES - 1 {
                continue;
            }
            assert!(nanoseconds < end(class), "{nanoseconds} in {class}");
            if class > 0 {
                assert!(nanoseconds >= end(class - 1), "{nanoseconds} in {class}");
            }
        }
        assert_eq!(class(u64::MAX), CLASSES - 1);
        assert!(end(CLASSES - 1) > 8_000_000_000);
    }

    #[test]
    fn outcomes_add_up() {
        let outcomes = Outcomes::default();
        for (looked_up, server_error, times) in [
            (LookedUp::Hit, false, 1),
            (LookedUp::Hit, true, 2),
            (LookedUp::Miss, false, 4),
            (LookedUp::Miss, true, 8),
            (LookedUp::Not, false, 16),
            (LookedUp::Not, true, 32),
        ] {
            for _ in 0..times {
                outcomes.answered(looked_up, server_error);
            }
        }
        assert_eq!(outcomes.lookups(), (15, 3));
        assert_eq!(outcomes.answers(), (63, 42));
    }

    #[test]
    fn quantiles_are_at_most_a_quarter_too_long() {
        let stats = HookStats::default();
        assert_eq!(stats.quantile(0.5), None);
        for microsecond in 1..=1_000 {
            stats.ended(Duration::from_micros(microsecond), None);
        }
        for (share, exact) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let told = stats.quantile(share).unwrap();
            let exact = Duration::from_micros(exact);
            assert!(
                told >= exact && told <= exact * 5 / 4 + Duration::from_nanos(300),
                "{share}: {told:?}"
            );
        }
    }
}
