//! Limits on requests, over all nodes that share a Redis.
//!
//! A sliding window: in no stretch as long as a limit's window are more than the limit
//! admitted. While Redis answers, all nodes count in one place and that holds for the
//! fleet. While it is away, each node admits its share: the limit divided by the nodes
//! that there were when it was last asked, at least one, and nothing to whom Redis refused
//! just before. What a node admitted alone it tells when Redis is back, and all that it
//! admitted when Redis has lost it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use redis::Script;

use crate::redis::Redis;
use crate::redis::client::{Client, Patience};
use crate::redis::keys::Keys;
use crate::roster::LiveNodes;

mod window;
use window::Window;

static SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("redis/scripts/rate_limit.lua")));

/// What a node's own counts may take, in bytes; beyond it the clients that were seen least
/// recently are forgotten.
const MAX_BYTES: u64 = 32 * 1_024 * 1_024;

/// What a client costs besides its name and its spans, about.
const OVERHEAD: usize = 300;

/// The longest window.
const MAX_WINDOW: Duration = Duration::from_secs(30 * 24 * 3_600);

/// How long a check waits for Redis, where its deadline is longer: whoever asks waits for
/// 250 ms, and then lets the request through uncounted.
const PATIENCE: Duration = Duration::from_millis(150);

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

/// Counts requests. Never fails.
#[derive(Debug)]
pub struct RateLimiter {
    shared: Option<Shared>,
    /// What this node admitted, by itself or by Redis's leave.
    here: Cache<Box<str>, Counted, ahash::RandomState>,
    /// Checks that were decided by this node's share.
    by_share: AtomicU64,
    start: Instant,
}

/// The place where all nodes count.
#[derive(Debug)]
struct Shared {
    client: Client,
    keys: Keys,
    /// Tells this node from others, and from its own former lives.
    node: String,
    nodes: LiveNodes,
}

/// What a node knows of one client of one bucket. Times are in microseconds since the
/// limiter was made.
#[derive(Clone, Debug, Default)]
struct Counted {
    window: Window,
    /// How many of it Redis has not been told.
    untold: u32,
    untold_last: u64,
    /// Redis's last word, if that was no: until then nothing comes free.
    refused_until: u64,
    ttl: Duration,
}

/// What a node tells: how many, and how long ago the last one was, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    untold: u32,
    untold_ago: u64,
    all: u32,
    all_ago: u64,
}

/// What Redis is being told. Given back when it is dropped, be it that Redis did not answer
/// or that nobody waits for the answer any more. If it was told all the same, it counts
/// twice, which errs on the safe side.
struct Telling<'a> {
    limiter: &'a RateLimiter,
    name: &'a str,
    window: Duration,
    what: Told,
}

impl<'a> Telling<'a> {
    fn new(limiter: &'a RateLimiter, name: &'a str, window: Duration) -> Self {
        Self {
            limiter,
            name,
            window,
            what: limiter.take(name, window),
        }
    }

    fn done(mut self) {
        self.what.untold = 0;
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let untold = self.what.untold;
        if untold > 0 {
            self.limiter
                .change(self.name.into(), self.window, |counted| {
                    counted.untold = counted.untold.saturating_add(untold);
                });
        }
    }
}

struct Ending;

impl Expiry<Box<str>, Counted> for Ending {
    fn expire_after_create(&self, _: &Box<str>, counted: &Counted, _: Instant) -> Option<Duration> {
        Some(counted.ttl)
    }

    fn expire_after_update(
        &self,
        _: &Box<str>,
        counted: &Counted,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(counted.ttl)
    }
}

impl RateLimiter {
    /// Counts for itself, the whole limit.
    pub fn alone() -> Self {
        Self::new(None)
    }

    /// Counts in Redis, and while it is away its share among `nodes`.
    pub fn shared(redis: &Redis, nodes: LiveNodes) -> Self {
        Self::new(Some(Shared {
            client: redis.client().clone(),
            keys: redis.keys().clone(),
            node: format!("{:08x}", fastrand::u32(..)),
            nodes,
        }))
    }

    fn new(shared: Option<Shared>) -> Self {
        let here = Cache::builder()
            .max_capacity(MAX_BYTES)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(Ending)
            .build_with_hasher(ahash::RandomState::new());
        Self {
            shared,
            here,
            by_share: AtomicU64::new(0),
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
        let (bucket, client) = (cut(bucket), cut(client));
        // The length tells where the bucket ends.
        let name = format!("{}:{bucket}:{client}", bucket.len()).into_boxed_str();
        let Some(shared) = &self.shared else {
            return self.check_here(name, limit, window);
        };
        let telling = Telling::new(self, &name, window);
        match shared
            .ask(bucket, client, limit, window, telling.what)
            .await
        {
            Some(verdict) => {
                telling.done();
                self.note(name, window, verdict);
                verdict
            }
            None => {
                drop(telling);
                self.by_share.fetch_add(1, Ordering::Relaxed);
                self.check_here(name, share(limit, shared.nodes.count()), window)
            }
        }
    }

    /// How many checks were decided by this node's share, since Redis did not answer.
    pub fn by_share(&self) -> u64 {
        self.by_share.load(Ordering::Relaxed)
    }

    fn check_here(&self, name: Box<str>, limit: u32, window: Duration) -> RateVerdict {
        let now = self.now();
        self.change(name, window, |counted| {
            if now < counted.refused_until {
                return RateVerdict {
                    allowed: false,
                    remaining: 0,
                    retry_after: Duration::from_micros(counted.refused_until - now),
                };
            }
            let verdict = counted.window.check(now, limit, micros(window));
            if verdict.allowed && self.shared.is_some() {
                counted.untold = counted.untold.saturating_add(1);
                counted.untold_last = now;
            }
            verdict
        })
    }

    /// Remembers what Redis said, for when it says nothing.
    fn note(&self, name: Box<str>, window: Duration, verdict: RateVerdict) {
        let now = self.now();
        self.change(name, window, |counted| {
            counted.window.used(now, micros(window));
            if verdict.allowed {
                counted.window.add(now, micros(window));
                counted.refused_until = 0;
            } else {
                counted.refused_until = now + micros(verdict.retry_after.min(window));
            }
        });
    }

    /// What there is to tell, once: nobody else tells it meanwhile.
    fn take(&self, name: &str, window: Duration) -> Told {
        if !self.here.contains_key(name) {
            return Told::default();
        }
        let now = self.now();
        self.change(name.into(), window, |counted| {
            let all = counted.window.used(now, micros(window));
            Told {
                untold: std::mem::take(&mut counted.untold).min(all),
                untold_ago: now.saturating_sub(counted.untold_last),
                all,
                all_ago: now.saturating_sub(counted.window.last().unwrap_or(now)),
            }
        })
    }

    fn change<T: Default>(
        &self,
        name: Box<str>,
        window: Duration,
        change: impl FnOnce(&mut Counted) -> T,
    ) -> T {
        // moka calls the closure once, always.
        let mut answer = T::default();
        self.here.entry(name).and_compute_with(|held| {
            let mut counted = held.map_or_else(Counted::default, |entry| entry.into_value());
            answer = change(&mut counted);
            counted.ttl = window;
            Op::Put(counted)
        });
        answer
    }

    fn now(&self) -> u64 {
        micros(self.start.elapsed())
    }
}

impl Shared {
    /// Redis's verdict; nothing when it is away.
    async fn ask(
        &self,
        bucket: &str,
        client: &str,
        limit: u32,
        window: Duration,
        told: Told,
    ) -> Option<RateVerdict> {
        let mut call = SCRIPT.key(self.keys.rate_limit(bucket, client));
        call.arg(limit)
            .arg(micros(window))
            .arg(&self.node)
            .arg(told.untold)
            .arg(told.untold_ago)
            .arg(told.all)
            .arg(told.all_ago);
        let asking = self.client.script(&call, Patience::Request);
        let answer: Result<(bool, u32, u64), _> =
            tokio::time::timeout(PATIENCE, asking).await.ok()?;
        let (allowed, remaining, retry_micros) = answer.ok()?;
        Some(RateVerdict {
            allowed,
            remaining,
            retry_after: Duration::from_micros(retry_micros),
        })
    }
}

impl Default for RateVerdict {
    fn default() -> Self {
        Self {
            allowed: true,
            remaining: 0,
            retry_after: Duration::ZERO,
        }
    }
}

/// What one of so many nodes admits. Together they admit no more than the limit, or one
/// each where there are more nodes than that.
fn share(limit: u32, nodes: u32) -> u32 {
    (limit / nodes.max(1)).max(1)
}

#[expect(clippy::borrowed_box, reason = "moka hands out a reference to its key")]
fn weigh(name: &Box<str>, counted: &Counted) -> u32 {
    let bytes = OVERHEAD + name.len() + counted.window.weight();
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_node_alone_counts_for_itself() {
        let limiter = RateLimiter::alone();
        let mut allowed = 0;
        for _ in 0..10 {
            allowed += u32::from(limiter.check("b", "c", 4, HOUR).await.allowed);
        }
        assert_eq!(allowed, 4);
        assert!(limiter.check("b", "other", 4, HOUR).await.allowed);
        assert!(limiter.check("b:c", "", 4, HOUR).await.allowed);
        assert!(!limiter.check("b", "c", 0, HOUR).await.allowed);
    }

    #[test]
    fn what_is_to_be_told_is_told_by_one_call_and_given_back_when_that_was_not_answered() {
        let limiter = RateLimiter::alone();
        let now = limiter.now();
        limiter.change("c".into(), HOUR, |counted| {
            for _ in 0..3 {
                counted.window.add(now, micros(HOUR));
            }
            counted.untold = 3;
        });
        let told = || Telling::new(&limiter, "c", HOUR);
        let first = told();
        assert_eq!((first.what.untold, first.what.all), (3, 3));
        assert_eq!(told().what.untold, 0, "another call tells it");
        drop(first);
        let second = told();
        assert_eq!(second.what.untold, 3);
        second.done();
        assert_eq!((told().what.untold, told().what.all), (0, 3));
    }

    #[test]
    fn shares_add_up_to_the_limit_at_most() {
        for (limit, nodes, each) in [(100, 3, 33), (10, 1, 10), (10, 0, 10), (2, 5, 1)] {
            assert_eq!(share(limit, nodes), each, "{limit} among {nodes}");
        }
    }
}
