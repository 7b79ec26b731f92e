//! A version of a policy that is tried on live requests beside the one in force: in
//! shadow, where it decides nothing, or as a canary, where it decides for some clients.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_policy::{CallError, Policy};

/// How many requests are decided in shadow at once; beyond that they are not.
const AT_ONCE: usize = 64;
/// How many examples are kept of each kind of difference: the first ones.
const EXAMPLES: usize = 5;
/// The longest text of an example, in bytes.
const EXAMPLE_BYTES: usize = 512;

/// How a version is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialMode {
    /// It is asked off the request path, and its answers are only compared.
    Shadow,
    /// It decides for some of the clients.
    Canary,
}

impl TrialMode {
    /// `shadow` or `canary`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary => "canary",
        }
    }
}

/// What two versions can differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DifferenceKind {
    /// Lookup, pass or a response of its own.
    Decision,
    /// The key, its namespace included.
    Key,
    /// Tags, of the request or the response.
    Tags,
    /// What the origin is asked.
    Origin,
    /// A response of the policy's own.
    Reply,
    /// Lifetime and stale windows.
    Lifetime,
    /// Whether, where and for how long it is stored.
    Storage,
    /// What it invalidates.
    Selectors,
}

impl DifferenceKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Decision,
        Self::Key,
        Self::Tags,
        Self::Origin,
        Self::Reply,
        Self::Lifetime,
        Self::Storage,
        Self::Selectors,
    ];

    /// Its name in metrics and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decision => "decision",
            Self::Key => "key",
            Self::Tags => "tags",
            Self::Origin => "origin",
            Self::Reply => "reply",
            Self::Lifetime => "lifetime",
            Self::Storage => "storage",
            Self::Selectors => "selectors",
        }
    }
}

/// One difference, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// In what.
    pub kind: DifferenceKind,
    /// The request's method and target URI, or the event's type.
    pub subject: String,
    /// What the version in force says.
    pub live: String,
    /// What the tried one says.
    pub tried: String,
}

/// A trial of one version. It outlives generations.
#[derive(Debug)]
pub struct Trial {
    /// The version that is tried.
    pub policy: Policy,
    /// How.
    pub mode: TrialMode,
    /// Percent of the requests (shadow) or of the clients (canary).
    pub percent: f64,
    room: Arc<Semaphore>,
    counts: Counts,
    examples: Mutex<Vec<Difference>>,
}

#[derive(Debug, Default)]
struct Counts {
    same: AtomicU64,
    different: AtomicU64,
    decided: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
    kinds: [AtomicU64; DifferenceKind::ALL.len()],
    last_error: Mutex<Option<String>>,
}

/// What a trial has found so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialReport {
    /// Shadow: answers that were the same.
    pub same: u64,
    /// Shadow: answers that were not.
    pub different: u64,
    /// Canary: decisions that were in force.
    pub decided: u64,
    /// Calls that failed. Of a canary, the version in force decided instead.
    pub failed: u64,
    /// Shadow: not asked, since too many were under way.
    pub skipped: u64,
    /// Differences by kind; an answer can differ in several.
    pub kinds: Vec<(DifferenceKind, u64)>,
    /// The first of each kind.
    pub examples: Vec<Difference>,
    /// The last failed call.
    pub last_error: Option<String>,
}

impl Trial {
    /// Begins a trial.
    #[must_use]
    pub fn new(policy: Policy, mode: TrialMode, percent: f64) -> Self {
        Self {
            policy,
            mode,
            percent: percent.clamp(0.0, 100.0),
            room: Arc::new(Semaphore::new(AT_ONCE)),
            counts: Counts::default(),
            examples: Mutex::default(),
        }
    }

    /// What it has found so far.
    #[must_use]
    pub fn report(&self) -> TrialReport {
        let counts = &self.counts;
        TrialReport {
            same: counts.same.load(Relaxed),
            different: counts.different.load(Relaxed),
            decided: counts.decided.load(Relaxed),
            failed: counts.failed.load(Relaxed),
            skipped: counts.skipped.load(Relaxed),
            kinds: DifferenceKind::ALL
                .iter()
                .map(|kind| (*kind, counts.kinds[*kind as usize].load(Relaxed)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            examples: self.examples.lock().clone(),
            last_error: counts.last_error.lock().clone(),
        }
    }

    /// Whether it decides for this client: always the same ones, and with a higher
    /// percentage those of a lower one too.
    pub(crate) fn decides_for(&self, client: IpAddr) -> bool {
        if self.mode != TrialMode::Canary {
            return false;
        }
        bucket(self.policy.name(), client) < self.percent / 100.0
    }

    /// Draws whether this request is decided in shadow too, and takes a place for it.
    pub(crate) fn shadows(&self) -> Option<OwnedSemaphorePermit> {
        if self.mode != TrialMode::Shadow || fastrand::f64() * 100.0 >= self.percent {
            return None;
        }
        let place = Arc::clone(&self.room).try_acquire_owned().ok();
        if place.is_none() {
            self.counts.skipped.fetch_add(1, Relaxed);
        }
        place
    }

    /// Counts a decision of a canary.
    pub(crate) fn decided(&self) {
        self.counts.decided.fetch_add(1, Relaxed);
    }

    /// Counts a failed call.
    pub(crate) fn failed(&self, error: &CallError) {
        self.counts.failed.fetch_add(1, Relaxed);
        *self.counts.last_error.lock() = Some(error.to_string());
    }

    /// Counts what a comparison found.
    pub(crate) fn compared(&self, differences: Vec<Difference>) {
        if differences.is_empty() {
            self.counts.same.fetch_add(1, Relaxed);
            return;
        }
        self.counts.different.fetch_add(1, Relaxed);
        for difference in differences {
            self.counts.kinds[difference.kind as usize].fetch_add(1, Relaxed);
            let mut examples = self.examples.lock();
            let known = examples
                .iter()
                .filter(|known| known.kind == difference.kind);
            if known.count() < EXAMPLES {
                examples.push(Difference {
                    kind: difference.kind,
                    subject: cut(difference.subject),
                    live: cut(difference.live),
                    tried: cut(difference.tried),
                });
            }
        }
    }
}

/// Where a client stands among all, from 0 to 1: on every node and at any time the same.
fn bucket(policy: &str, client: IpAddr) -> f64 {
    let hash = blake3::hash(format!("{policy} {client}").as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    f64::from(u32::from_le_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0)
}

/// The beginning of a text, if it is long.
fn cut(mut text: String) -> String {
    if text.len() > EXAMPLE_BYTES {
        text.truncate(text.floor_char_boundary(EXAMPLE_BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_divided_evenly_and_stay_where_they_are() {
        let clients = (0..=u16::MAX).map(|n| {
            let [a, b] = n.to_be_bytes();
            IpAddr::from([10, 0, a, b])
        });
        let low = clients
            .clone()
            .filter(|client| bucket("shop", *client) < 0.1)
            .count();
        assert!(
            (6_200..6_900).contains(&low),
            "{low} of 65,536 are in the first tenth"
        );
        for client in clients.take(50) {
            assert!((bucket("shop", client) - bucket("shop", client)).abs() < f64::EPSILON);
        }
        let moved = IpAddr::from([10, 0, 0, 1]);
        assert!((bucket("shop", moved) - bucket("help", moved)).abs() > f64::EPSILON);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = cut("ä".repeat(EXAMPLE_BYTES));
        assert!(text.ends_with('…') && text.len() <= EXAMPLE_BYTES + '…'.len_utf8());
    }
}
