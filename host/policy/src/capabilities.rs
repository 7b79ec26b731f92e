//! The capabilities that the node offers to policies, and their granting by name.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// The names that `grants` can hold.
pub const CAPABILITIES: [&str; 4] = ["kv", "rate-limit", "log", "clock"];

/// Which capabilities a policy may import. `http` needs no grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grants {
    /// `kv`
    pub kv: bool,
    /// `rate-limit`
    pub rate_limit: bool,
    /// `log`
    pub log: bool,
    /// `clock`
    pub clock: bool,
}

impl Grants {
    /// From the names in the configuration.
    ///
    /// # Errors
    /// A sentence that names what is no capability, and which there are.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Self, String> {
        let mut grants = Self::default();
        for name in names {
            match name.as_ref() {
                "kv" => grants.kv = true,
                "rate-limit" => grants.rate_limit = true,
                "log" => grants.log = true,
                "clock" => grants.clock = true,
                other => {
                    return Err(format!(
                        "`{other}` is no capability: `grants` can hold {}",
                        CAPABILITIES.join(", ")
                    ));
                }
            }
        }
        Ok(grants)
    }

    /// Is the capability of this name granted?
    pub fn allows(&self, name: &str) -> bool {
        match name {
            "kv" => self.kv,
            "rate-limit" => self.rate_limit,
            "log" => self.log,
            "clock" => self.clock,
            _ => false,
        }
    }
}

/// Why an operation of [`Kv`] did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// The store did not answer within its deadline.
    #[error("the store did not answer in time")]
    Unavailable,
    /// A size or time is out of bounds.
    #[error("{0}")]
    Refused(String),
    /// The key holds another kind of value.
    #[error("the key holds another kind of value")]
    WrongKind,
}

/// Small shared state: Redis, or the node's memory. Every operation is atomic.
///
/// The host has tested the namespace (it is the policy's), sizes (keys 1 to 1,024
/// bytes, values and members at most 1 MiB) and times (1 ms to 30 days) before it calls,
/// and gives up on a call after 250 ms: `Unavailable` to the guest.
#[async_trait]
pub trait Kv: Send + Sync + std::fmt::Debug {
    /// The value under a key.
    async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError>;
    /// Stores a value.
    async fn set(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<(), KvError>;
    /// Removes a key of any kind; says whether there was one.
    async fn delete(&self, namespace: &str, key: &str) -> Result<bool, KvError>;
    /// Adds to a counter and returns its new value; the time to live is set when the
    /// counter is made, in the same step, and not moved afterwards.
    async fn increment(
        &self,
        namespace: &str,
        key: &str,
        delta: i64,
        ttl: Duration,
    ) -> Result<i64, KvError>;
    /// Stores `value` if the key holds `expected` (absent: if there is no such key).
    async fn compare_and_set(
        &self,
        namespace: &str,
        key: &str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError>;
    /// Adds a member to a set and renews its time to live; says whether it is new.
    async fn set_add(
        &self,
        namespace: &str,
        key: &str,
        member: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError>;
    /// Removes a member; says whether it was there.
    async fn set_remove(&self, namespace: &str, key: &str, member: Bytes) -> Result<bool, KvError>;
    /// Is it a member?
    async fn set_contains(
        &self,
        namespace: &str,
        key: &str,
        member: Bytes,
    ) -> Result<bool, KvError>;
    /// Appends to a queue, dropping its oldest entries beyond `max_length` (at least 1),
    /// and renews its time to live; returns its length.
    async fn queue_push(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        max_length: u32,
        ttl: Duration,
    ) -> Result<u32, KvError>;
    /// Takes the oldest entry off a queue.
    async fn queue_pop(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError>;
}

/// What a check of a rate limit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateVerdict {
    /// Whether the request is within the limit.
    pub allowed: bool,
    /// How many more would be allowed now.
    pub remaining: u32,
    /// When to try again; zero when allowed.
    pub retry_after: Duration,
}

/// Counting requests against a limit, by a sliding window.
#[async_trait]
pub trait RateLimit: Send + Sync + std::fmt::Debug {
    /// Counts one request of `client` against `limit` (at least 1) per `window` (1 ms to
    /// 30 days). `bucket` is `POLICY:NAME`, so that policies do not share buckets. It
    /// must answer without Redis too; the host waits 250 ms, and then lets the request
    /// through.
    async fn check(&self, bucket: &str, client: &str, limit: u32, window: Duration) -> RateVerdict;
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// For the author of the policy.
    Debug,
    /// For the record.
    Info,
    /// Something is off.
    Warn,
    /// Something failed.
    Error,
}

/// Where the lines of policies go: at most 100 a second of one policy, 4 KiB each.
pub trait LogSink: Send + Sync + std::fmt::Debug {
    /// Takes one line; called on the data path, must not block.
    fn write(&self, policy: &str, version: &str, level: LogLevel, message: &str);
}

/// Writes lines of policies to `tracing`, target `weir::policy`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingLog;

impl LogSink for TracingLog {
    fn write(&self, policy: &str, version: &str, level: LogLevel, message: &str) {
        match level {
            LogLevel::Debug => {
                tracing::debug!(target: "weir::policy", policy, version, "{message}");
            }
            LogLevel::Info => tracing::info!(target: "weir::policy", policy, version, "{message}"),
            LogLevel::Warn => tracing::warn!(target: "weir::policy", policy, version, "{message}"),
            LogLevel::Error => {
                tracing::error!(target: "weir::policy", policy, version, "{message}");
            }
        }
    }
}

/// What the node gives to a policy; used only as far as it is granted.
#[derive(Debug, Clone)]
pub struct HostServices {
    /// For `kv`.
    pub kv: Arc<dyn Kv>,
    /// For `rate-limit`.
    pub rate_limit: Arc<dyn RateLimit>,
    /// For `log`.
    pub log: Arc<dyn LogSink>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_go_by_name() {
        let grants = Grants::from_names(&["kv", "clock"]).unwrap();
        assert!(grants.allows("kv") && grants.allows("clock"));
        assert!(!grants.allows("log") && !grants.allows("rate-limit") && !grants.allows("x"));
        for name in CAPABILITIES {
            assert!(Grants::from_names(&[name]).unwrap().allows(name));
        }
        let error = Grants::from_names(&["kv", "http"]).unwrap_err();
        assert!(
            error.contains("`http`") && error.contains("rate-limit"),
            "{error}"
        );
    }
}
