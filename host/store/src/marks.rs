//! Keys of which something is remembered briefly: that their answers cannot be stored, or
//! that they are being refreshed.

use std::fmt;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::Cache;
use weir_semantics::Timestamp;

use crate::key::Key;

/// The longest that a mark lasts, whatever a policy asks for: a route that becomes
/// cacheable is cached by then.
pub const LONGEST_MARK: Duration = Duration::from_secs(3600);

/// What a mark costs besides its key, in bytes.
const OVERHEAD: u32 = 300;

/// A bounded table of keys whose last answer could not be stored. Requests for them
/// fetch at once and by themselves, instead of queueing behind one another; what they
/// get may still be stored, and then lifts the mark.
///
/// Only what the origin or the policy said is a reason for a mark. A failure of Redis,
/// a trap or a timeout says nothing about the next answer.
pub struct Marks(Cache<Key, Mark, ahash::RandomState>);

#[derive(Clone, Copy)]
struct Mark {
    rules: u64,
    until: Timestamp,
    lasts: Duration,
}

struct MarkExpiry;

impl Expiry<Key, Mark> for MarkExpiry {
    fn expire_after_create(&self, _: &Key, mark: &Mark, _: Instant) -> Option<Duration> {
        Some(mark.lasts)
    }

    fn expire_after_update(
        &self,
        _: &Key,
        mark: &Mark,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(mark.lasts)
    }
}

impl Marks {
    /// A table that takes at most about `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|key: &Key, _: &Mark| {
                OVERHEAD.saturating_add(u32::try_from(key.as_str().len()).unwrap_or(u32::MAX))
            })
            .expire_after(MarkExpiry)
            .build_with_hasher(ahash::RandomState::new());
        Self(cache)
    }

    /// Marks a key for `lasting`, at most [`LONGEST_MARK`]. `rules` names what decided
    /// so (such as the policy's version): under other rules the mark means nothing.
    pub fn mark(&self, key: &Key, rules: u64, lasting: Duration, now: Timestamp) {
        let lasts = lasting.min(LONGEST_MARK);
        if !lasts.is_zero() {
            self.0.insert(
                key.clone(),
                Mark {
                    rules,
                    until: now + lasts,
                    lasts,
                },
            );
        }
    }

    /// Is the key marked by these rules?
    pub fn is_marked(&self, key: &str, rules: u64, now: Timestamp) -> bool {
        self.0
            .get(key)
            .is_some_and(|mark| mark.rules == rules && now < mark.until)
    }

    /// Lifts the mark of a key: an answer could be stored.
    pub fn lift(&self, key: &str) {
        // Asked first, since removing takes a lock also where there is nothing.
        if self.0.contains_key(key) {
            self.0.invalidate(key);
        }
    }

    /// About how many keys are marked.
    pub fn len(&self) -> u64 {
        self.0.entry_count()
    }

    /// Is, about, no key marked?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marks").field("len", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_mark_holds_for_its_rules_and_its_time() {
        let marks = Marks::new(1 << 20);
        let key = Key::parse("http://a|/x").unwrap();
        let now = Timestamp::from_millis(1_000_000);
        marks.mark(&key, 7, SECOND, now);
        assert!(marks.is_marked(key.as_str(), 7, now));
        assert!(
            !marks.is_marked(key.as_str(), 8, now),
            "a new policy decides anew"
        );
        assert!(!marks.is_marked("http://a|/y", 7, now));
        assert!(!marks.is_marked(key.as_str(), 7, now + SECOND));
        marks.lift(key.as_str());
        assert!(!marks.is_marked(key.as_str(), 7, now));
        marks.mark(&key, 7, Duration::MAX, now);
        assert!(!marks.is_marked(key.as_str(), 7, now + LONGEST_MARK));
        marks.mark(&key, 9, Duration::ZERO, now);
        assert!(marks.is_marked(key.as_str(), 7, now), "no time, no mark");
    }

    #[test]
    fn long_keys_do_not_outgrow_the_table() {
        let marks = Marks::new(100_000);
        for n in 0..1_000 {
            let key = Key::parse(&format!("http://a|/{n}{}", "x".repeat(1_000))).unwrap();
            marks.mark(&key, 1, SECOND, Timestamp::default());
        }
        marks.0.run_pending_tasks();
        assert!(
            marks.len() <= 100,
            "{} keys of more than 1,000 bytes",
            marks.len()
        );
    }
}
