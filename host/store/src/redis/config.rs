//! How Redis is reached and used.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of the Redis tier. Every field has a default but the URL.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port/database`, or `unix:///path`.
    pub url: String,
    /// What every key begins with, up to the first `:`. One fleet, one prefix.
    pub prefix: String,
    /// The most connections of the pool; one more follows the log.
    pub pool_size: u32,
    /// How many connections are kept open when idle; at most `pool_size`.
    pub min_idle: u32,
    /// For each call on a request's way, waiting for a connection included.
    pub deadline: Duration,
    /// For each call that no request waits for: writing objects, following the log, and
    /// for purges.
    pub background_deadline: Duration,
    /// After so many failures in a row Redis counts as down; at least 1.
    pub failures: u32,
    /// Larger objects, as records, stay out of Redis, in bytes.
    pub max_object: usize,
    /// Bodies from this length on, in bytes, are compressed with zstd where that saves
    /// something and the origin has not done it. Absent: none are.
    pub compress_above: Option<usize>,
    /// How long one node waits for an object that another one fetches; zero: not at all.
    pub lease: Duration,
    /// How many objects wait to be written, at most.
    pub queue_objects: usize,
    /// How many bytes of objects wait to be written, at most.
    pub queue_bytes: usize,
    /// How many entries the log's stream keeps, about. A node that has been away for
    /// more purges than this cannot tell that nothing was lost, and begins a new epoch.
    pub stream_entries: usize,
    /// Where purges are kept that Redis did not take; absent: in memory.
    pub journal: Option<PathBuf>,
}

impl RedisConfig {
    /// The defaults for one URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: "weir".into(),
            pool_size: 10,
            min_idle: 5,
            deadline: Duration::from_millis(20),
            background_deadline: Duration::from_millis(500),
            failures: 5,
            max_object: 8 * 1_024 * 1_024,
            compress_above: None,
            lease: Duration::from_secs(3),
            queue_objects: 1_024,
            queue_bytes: 64 * 1_024 * 1_024,
            stream_entries: 32_768,
            journal: None,
        }
    }

    /// The client for it.
    ///
    /// # Errors
    /// [`ConfigError`] for a setting that cannot work.
    pub(super) fn client(&self) -> Result<::redis::Client, ConfigError> {
        let prefix_ok = !self.prefix.is_empty()
            && self
                .prefix
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"{}".contains(&byte));
        if !prefix_ok {
            return Err(ConfigError::Prefix(self.prefix.clone()));
        }
        if self.pool_size == 0 || self.min_idle > self.pool_size {
            return Err(ConfigError::Pool {
                pool_size: self.pool_size,
                min_idle: self.min_idle,
            });
        }
        if self.deadline.is_zero() || self.background_deadline.is_zero() {
            return Err(ConfigError::Deadline);
        }
        // The URL can hold a password: the reason is told without it.
        ::redis::Client::open(self.url.as_str())
            .map_err(|error| ConfigError::Url(error.to_string()))
    }
}

impl fmt::Debug for RedisConfig {
    /// Leaves the URL out: it can hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("prefix", &self.prefix)
            .field("pool_size", &self.pool_size)
            .field("min_idle", &self.min_idle)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// A setting of `[redis]` that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL is not one of Redis.
    #[error("redis.url cannot be used ({0}); write redis://HOST:PORT/DATABASE or unix:///PATH")]
    Url(String),
    /// The prefix would make keys ambiguous.
    #[error(
        "redis.prefix {0:?} must be printable ASCII without '{{', '}}' and spaces, and not empty"
    )]
    Prefix(String),
    /// The pool's sizes contradict each other.
    #[error(
        "redis.pool_size is {pool_size} and redis.min_idle is {min_idle}; \
         pool_size must be at least 1 and at least min_idle"
    )]
    Pool {
        /// `redis.pool_size`.
        pool_size: u32,
        /// `redis.min_idle`.
        min_idle: u32,
    },
    /// A deadline is zero.
    #[error("redis.deadline must be longer than zero; 20ms is usual")]
    Deadline,
    /// The journal cannot be used: a [`JournalError`](crate::log::JournalError).
    #[error("{0}")]
    Journal(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let message = |change: fn(&mut RedisConfig)| {
            let mut config = RedisConfig::new("redis://127.0.0.1:1/0");
            change(&mut config);
            config.client().map(|_| ()).unwrap_err().to_string()
        };
        assert!(message(|config| config.url = "http://x".into()).contains("redis.url"));
        assert!(message(|config| config.prefix = "a{b".into()).contains("redis.prefix"));
        assert!(message(|config| config.min_idle = 11).contains("redis.min_idle is 11"));
        assert!(message(|config| config.deadline = Duration::ZERO).contains("redis.deadline"));
    }

    #[test]
    fn neither_debug_nor_an_error_shows_the_password() {
        let config = RedisConfig::new("redis://:secret@host:notaport/0");
        assert!(!format!("{config:?}").contains("secret"));
        assert!(
            !config
                .client()
                .map(|_| ())
                .unwrap_err()
                .to_string()
                .contains("secret")
        );
    }
}
