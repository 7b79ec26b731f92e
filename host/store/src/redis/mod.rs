//! Redis: the tier behind all nodes, and their invalidation log.
//!
//! Redis helps; nothing depends on it. Every call has a deadline, a breaker stops calls
//! when it is down or slow, writes wait in a bounded queue, and purges taken meanwhile are
//! kept and sent when it is back.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::task::AbortHandle;
use tokio::time::Instant;

mod breaker;
mod chunks;
pub(crate) mod client;
mod cluster;
mod config;
mod connect;
mod error;
mod follower;
#[doc(hidden)]
pub mod fuzzing;
mod inspect;
pub(crate) mod keys;
mod lease;
mod link;
mod node;
mod pool;
mod sentinel;
mod sequencer;
mod slots;
mod state;
mod stats;
mod tier;
mod writer;

pub use crate::count::Count;
pub use config::{
    ConfigError, Endpoint, Login, Protocol, RedisConfig, SentinelConfig, Servers, Tls,
};
pub use error::CallError;
pub use lease::{Lease, Leased, Next, Waiting};
pub use state::RedisState;
pub use stats::{PoolState, RedisStats};

use crate::log::{Fleet, Limits, Log};
use crate::variants;
use crate::{Clock, Object};
use client::Client;
use follower::Follower;
use keys::Keys;
use sequencer::Sequencer;
use tier::Tier;
use writer::Writer;

/// The log in Redis and nothing else, for comparing a model with it.
///
/// # Errors
/// As [`Redis::start`].
#[doc(hidden)]
pub fn fleet(
    config: &RedisConfig,
    limits: Limits,
    clock: &Clock,
) -> Result<Arc<dyn Fleet>, ConfigError> {
    let keys = Keys::new(&config.prefix);
    let client = Client::start(config, &keys.state(), clock)?;
    Ok(Arc::new(Sequencer::new(
        client,
        keys,
        limits,
        config.stream_entries,
    )))
}

/// The Redis tier of a node. Dropping it ends its tasks.
#[derive(Debug)]
pub struct Redis {
    tier: Tier,
    writer: Arc<Writer>,
    lease_patience: Duration,
    tasks: [AbortHandle; 2],
}

impl Redis {
    /// Begins to connect and returns at once, whether Redis answers or not.
    ///
    /// Must be called within a tokio runtime. Reads the journal if there is one.
    ///
    /// # Errors
    /// [`ConfigError`] for a setting that cannot work, or a journal that another node has.
    pub fn start(config: &RedisConfig, limits: Limits, clock: &Clock) -> Result<Self, ConfigError> {
        let now = clock.now();
        let keys = Keys::new(&config.prefix);
        let client = Client::start(config, &keys.state(), clock)?;
        let sequencer = Sequencer::new(client.clone(), keys.clone(), limits, config.stream_entries);
        let log = match &config.journal {
            Some(path) => Log::journaled(limits, Arc::new(sequencer), path, now)
                .map_err(|error| ConfigError::Journal(error.to_string()))?,
            None => Log::new(limits, Some(Arc::new(sequencer))),
        };
        let writer = Arc::new(Writer::new(config));
        let follower = Follower {
            client: client.clone(),
            keys: keys.clone(),
            log: log.clone(),
            block: (limits.coherence_window / 4)
                .clamp(Duration::from_millis(5), Duration::from_secs(1)),
        };
        let writing = Arc::clone(&writer).run(client.clone(), keys.clone(), log.clone());
        let tasks = [
            tokio::spawn(follower.run()).abort_handle(),
            tokio::spawn(writing).abort_handle(),
        ];
        Ok(Self {
            tier: Tier { client, keys, log },
            writer,
            lease_patience: config.lease,
            tasks,
        })
    }

    /// The node's log, which this follows.
    pub fn log(&self) -> &Log {
        &self.tier.log
    }

    /// The object under this key ([`Key::as_str`](crate::Key::as_str)) that suits the
    /// request, if it has not been purged. Whether it is fresh, or was soft-purged, is
    /// the caller's to test. At most two exchanges, each within the deadline, and as much
    /// again when this node has to catch up with the log.
    ///
    /// # Errors
    /// [`CallError`]: treat it as a miss.
    pub async fn get(
        &self,
        key: &str,
        request: &HeaderMap,
    ) -> Result<Option<Arc<Object>>, CallError> {
        self.tier.get(key, request).await
    }

    /// Queues an object to be written, with a TTL of what is left of its life and its
    /// stale windows. Drops it, and counts that, when it is too large or the queue full.
    /// An object that is not [`shared`](Object::shared) is left out. A lease ends when the
    /// object has been written, or was dropped.
    pub fn put(&self, object: Arc<Object>, lease: Option<Lease>) {
        self.writer.put(object, lease, &self.tier.client);
    }

    /// Until when one who is refused a lease now may wait. Absent: leases are not used.
    pub fn lease_patience(&self) -> Option<Instant> {
        let patience = self.lease_patience;
        (!patience.is_zero()).then(|| Instant::now() + patience)
    }

    /// Asks for the lease of the object under this key, which Redis's tier did not have.
    pub async fn lease(&self, key: &str, until: Instant) -> Leased {
        lease::take(&self.tier.client, &self.tier.keys, key, until).await
    }

    /// Waits until everything queued so far has been written or dropped, at most `within`.
    /// Says whether it has been.
    pub async fn drained(&self, within: Duration) -> bool {
        tokio::time::timeout(within, self.writer.drained())
            .await
            .is_ok()
    }

    /// Waits until the log in Redis has been read once, at most `within`. Says whether it
    /// has been. Objects fetched before that die at that moment.
    pub async fn joined(&self, within: Duration) -> bool {
        tokio::time::timeout(within, self.log().joined())
            .await
            .is_ok()
    }

    /// Whether Redis answers.
    pub fn state(&self) -> RedisState {
        self.tier.client.state()
    }

    /// Its counters.
    pub fn stats(&self) -> &RedisStats {
        self.tier.client.stats()
    }

    /// The pool's connections, now.
    pub fn pool(&self) -> PoolState {
        self.tier.client.pool_state()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.tier.client
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.tier.keys
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
