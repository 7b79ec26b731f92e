//! Limits on requests, over all nodes that share a Redis.
//!
//! The generic cell rate algorithm: bursts up to the limit, then evenly. One number is
//! kept for each client, and nothing is written for a request that is refused.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use redis::Script;

use crate::redis::Redis;
use crate::redis::client::{Client, Patience};
use crate::redis::keys::Keys;

static SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("redis/scripts/rate_limit.lua")));

/// How many clients a node counts for itself; beyond it the least recent are forgotten.
const MAX_CLIENTS: u64 = 100_000;

/// The longest window.
const MAX_WINDOW: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How much of a bucket's or a client's name counts, in bytes.
const MAX_NAME_BYTES: usize = 1_024;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateVerdict {
    /// Whether the request is within the limit.
    pub allowed: bool,
    /// How many more would be allowed now.
    pub remaining: u32,
    /// When to try again; zero when allowed.
    pub retry_after: Duration,
}

/// Counts requests. Never fails: without Redis, or while it is down, the node counts for
/// itself.
#[derive(Debug)]
pub struct RateLimiter {
    redis: Option<(Client, Keys)>,
    /// Theoretical arrival times, in microseconds since `start`.
    local: Cache<Box<str>, Arrival, ahash::RandomState>,
    start: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: u64,
    ttl: Duration,
}

struct Ending;

impl Expiry<Box<str>, Arrival> for Ending {
    fn expire_after_create(&self, _: &Box<str>, arrival: &Arrival, _: Instant) -> Option<Duration> {
        Some(arrival.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Box<str>,
        arrival: &Arrival,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(arrival.ttl)
    }
}

impl RateLimiter {
    /// Counts in Redis if there is one.
    pub fn new(redis: Option<&Redis>) -> Self {
        let local = Cache::builder()
            .max_capacity(MAX_CLIENTS)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Ending)
            .build_with_hasher(ahash::RandomState::new());
        Self {
            redis: redis.map(|redis| (redis.client().clone(), redis.keys().clone())),
            local,
            start: Instant::now(),
        }
    }

    /// Counts one request of `client` against `limit` per `window` in `bucket`. A window
    /// is 1 millisecond to 30 days; others are taken for the nearest of these.
    pub async fn check(
        &self,
        bucket: &str,
        client: &str,
        limit: u32,
        window: Duration,
    ) -> RateVerdict {
        let window = window.clamp(Duration::from_millis(1), MAX_WINDOW);
        if limit == 0 {
            return RateVerdict {
                allowed: false,
                remaining: 0,
                retry_after: window,
            };
        }
        let interval = interval(limit, window);
        let (bucket, client) = (cut(bucket), cut(client));
        if let Some((redis, keys)) = &self.redis {
            let mut call = SCRIPT.key(keys.rate_limit(bucket, client));
            call.arg(limit).arg(interval);
            let answer: Result<(bool, u32, u64), _> = redis.script(&call, Patience::Request).await;
            if let Ok((allowed, remaining, retry_micros)) = answer {
                let retry_after = Duration::from_micros(retry_micros);
                return RateVerdict {
                    allowed,
                    remaining,
                    retry_after,
                };
            }
        }
        self.check_here(bucket, client, limit, interval)
    }

    fn check_here(&self, bucket: &str, client: &str, limit: u32, interval: u64) -> RateVerdict {
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut answer = None;
        // The length tells where the bucket ends.
        let name = format!("{}:{bucket}:{client}", bucket.len()).into_boxed_str();
        self.local.entry(name).and_compute_with(|held| {
            let held = held.map(|entry| entry.into_value().at);
            let (verdict, next) = gcra(held, now, limit, interval);
            answer = Some(verdict);
            match next {
                Some(at) => Op::Put(Arrival {
                    at,
                    ttl: Duration::from_micros(at.saturating_sub(now)),
                }),
                None => Op::Nop,
            }
        });
        // moka calls the closure once, always.
        answer.unwrap_or(RateVerdict {
            allowed: true,
            remaining: 0,
            retry_after: Duration::ZERO,
        })
    }
}

/// Microseconds between two requests that come evenly. Rounded up: never one too many.
fn interval(limit: u32, window: Duration) -> u64 {
    let micros = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
    micros.div_ceil(u64::from(limit).max(1))
}

/// The verdict at `now`, and the arrival time to keep if it is allowed. The script does
/// the same in Redis.
fn gcra(held: Option<u64>, now: u64, limit: u32, interval: u64) -> (RateVerdict, Option<u64>) {
    let burst = interval.saturating_mul(u64::from(limit));
    let next = held.unwrap_or(now).max(now).saturating_add(interval);
    let ahead = next - now;
    if ahead > burst {
        let retry_after = Duration::from_micros(ahead - burst);
        return (
            RateVerdict {
                allowed: false,
                remaining: 0,
                retry_after,
            },
            None,
        );
    }
    let remaining = u32::try_from((burst - ahead) / interval).unwrap_or(u32::MAX);
    (
        RateVerdict {
            allowed: true,
            remaining,
            retry_after: Duration::ZERO,
        },
        Some(next),
    )
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn no_window_admits_more_than_a_burst_and_a_rate(
            limit in 1_u32..50,
            steps in prop::collection::vec(0_u64..60_000, 1..400),
        ) {
            let interval = interval(limit, SECOND);
            let (mut now, mut held, mut admitted) = (0, None, Vec::new());
            for step in steps {
                now += step;
                let (verdict, next) = gcra(held, now, limit, interval);
                if verdict.allowed {
                    held = next;
                    admitted.push(now);
                }
            }
            for (at, first) in admitted.iter().enumerate() {
                let within = admitted[at..].iter().filter(|it| **it - first < 1_000_000).count();
                prop_assert!(within <= 2 * limit as usize);
                let burst = admitted[at..].iter().filter(|it| **it == *first).count();
                prop_assert!(burst <= limit as usize);
            }
        }
    }

    #[test]
    fn a_burst_then_evenly() {
        let interval = interval(3, SECOND);
        let (mut held, mut remaining) = (None, Vec::new());
        for _ in 0..3 {
            let (verdict, next) = gcra(held, 0, 3, interval);
            held = next.or(held);
            remaining.push(verdict.remaining);
        }
        assert_eq!(remaining, [2, 1, 0]);
        let (refused, _) = gcra(held, 0, 3, interval);
        assert!(!refused.allowed);
        let retry = u64::try_from(refused.retry_after.as_micros()).unwrap();
        assert_eq!(retry, interval);
        assert!(!gcra(held, retry - 1, 3, interval).0.allowed);
        assert!(gcra(held, retry, 3, interval).0.allowed);
    }

    #[tokio::test]
    async fn a_node_alone_counts_for_itself() {
        let limiter = RateLimiter::new(None);
        let hour = SECOND * 3_600;
        let mut allowed = 0;
        for _ in 0..10 {
            allowed += u32::from(limiter.check("b", "c", 4, hour).await.allowed);
        }
        assert_eq!(allowed, 4);
        assert!(limiter.check("b", "other", 4, hour).await.allowed);
        assert!(limiter.check("b:c", "", 4, hour).await.allowed);
        assert!(!limiter.check("b", "c", 0, hour).await.allowed);
    }
}
