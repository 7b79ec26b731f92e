//! Counting requests against a limit, over all nodes that share a Redis. Needs the grant
//! `rate-limit`; a decision that counted is not remembered.

use std::time::Duration;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request is within the limit.
    pub allowed: bool,
    /// How many more would be allowed now.
    pub remaining: u32,
    /// When to try again; zero when allowed.
    pub retry_after: Duration,
}

impl Verdict {
    /// [`Verdict::retry_after`] in whole seconds, rounded up and at least 1: the value of a
    /// Retry-After header field. RFC 9110 section 10.2.3.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weir_sdk::rate_limit::Verdict;
    ///
    /// let retry_after = Duration::from_millis(1_200);
    /// let verdict = Verdict { allowed: false, remaining: 0, retry_after };
    /// assert_eq!(verdict.retry_after_seconds(), 2);
    /// ```
    pub fn retry_after_seconds(&self) -> u64 {
        let rounded_up = u64::from(self.retry_after.subsec_nanos() > 0);
        self.retry_after.as_secs().saturating_add(rounded_up).max(1)
    }
}

/// Counts one request of `client` against `limit` per `window` in `bucket`: in no stretch as
/// long as the window are more than `limit` admitted. Never fails: while Redis is away each
/// node admits its share, the limit divided by the number of nodes. In native tests: what [`crate::testing::set_verdict`] says, else
/// allowed.
pub fn check(bucket: &str, client: &str, limit: u32, window: Duration) -> Verdict {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::bindings::weir::policy::rate_limit as wit;
        let verdict = wit::check(bucket, client, limit, crate::response::millis(window));
        Verdict {
            allowed: verdict.allowed,
            remaining: verdict.remaining,
            retry_after: Duration::from_millis(verdict.retry_after_milliseconds),
        }
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        let _ = (bucket, client, window);
        crate::testing::verdict(limit)
    }
}
