//! Follows the log in Redis on a connection of its own, since it blocks there.

use std::collections::HashMap;
use std::time::Duration;

use ::redis::streams::{StreamId, StreamReadReply};
use ::redis::{FromRedisValue, RedisError, Value, cmd, pipe};
use tokio::time::timeout;
use weir_semantics::Timestamp;

use super::breaker::Backoff;
use super::client::Client;
use super::error::CallError;
use super::keys::Keys;
use super::link::Link;
use crate::log::{Entry, EntryMark, FleetUnavailable, Log, Seen, Selector, Target};

/// How many entries are read in one step.
const ENTRIES: usize = 512;

/// Why a session with Redis ended.
#[derive(Debug, thiserror::Error)]
enum SessionEnd {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Fleet(#[from] FleetUnavailable),
    #[error("the server is a replica; the log is written at the master")]
    Replica,
    #[error("the log may be somewhere else now")]
    Moved,
}

impl From<RedisError> for SessionEnd {
    fn from(error: RedisError) -> Self {
        Self::Call(error.into())
    }
}

/// Follows the log.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) client: Client,
    pub(super) keys: Keys,
    pub(super) log: Log,
    /// How long it blocks: a fraction of the coherence window, so that silence is
    /// confirmed well within it.
    pub(super) block: Duration,
}

impl Follower {
    /// Follows for ever; begins anew whenever the connection or Redis fails.
    pub(super) async fn run(self) {
        let mut up = self.client.watch();
        let mut backoff = Backoff::new();
        loop {
            if up.wait_for(|up| *up).await.is_err() {
                return;
            }
            let end = self.session(&mut backoff).await;
            if !matches!(end, SessionEnd::Moved) {
                self.client.doubt();
            }
            tracing::debug!(reason = %end, "the log is not followed for now");
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// One connection, until it fails.
    async fn session(&self, backoff: &mut Backoff) -> SessionEnd {
        let mut moves = self.client.moves();
        let session = async {
            let limit = self.client.background();
            let late = || CallError::Deadline(limit);
            let link = timeout(limit, self.client.dedicated()).await;
            let link = link.map_err(|_| late())??;
            let inspected = timeout(limit, inspect(&link)).await;
            inspected.map_err(|_| late())??;
            self.follow(&link, backoff).await
        };
        tokio::select! {
            outcome = session => match outcome {
                Ok(never) => match never {},
                Err(end) => end,
            },
            // The connection may stand, to a server that is not the master any more.
            _ = moves.changed() => SessionEnd::Moved,
        }
    }

    async fn follow(
        &self,
        link: &Link,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        // Whatever happened while the connection was away: read the counters again.
        self.log.synchronise(self.client.now()).await?;
        let mut cursor = self.cursor();
        *backoff = Backoff::new();
        loop {
            self.replay().await?;
            let (before, began) = (self.log.bearings(), self.client.now());
            let (entries, seen) = self.next(link, &cursor).await?;
            let entries: Vec<Entry> = entries.iter().map(read).collect();
            if self.log.follow(&entries, before, seen, began).await? {
                cursor = self.cursor();
            } else if let Some(last) = entries.last() {
                cursor.clone_from(&last.mark.id);
            }
        }
    }

    /// The entry to follow from.
    fn cursor(&self) -> String {
        let entry = self.log.standing().entry;
        entry.map_or_else(|| "0-0".to_owned(), |entry| entry.id)
    }

    async fn replay(&self) -> Result<(), SessionEnd> {
        if self.log.pending() == 0 {
            return Ok(());
        }
        let sent = self.log.replay(self.client.now()).await?;
        self.client.stats().replayed.add(sent as u64);
        tracing::info!(
            purges = sent,
            "purges from while Redis was away have been sent"
        );
        Ok(())
    }

    /// The entries after `cursor`, waiting for one if there is none, and after them where
    /// the log stands: a log that was flushed is silent.
    async fn next(&self, link: &Link, cursor: &str) -> Result<(Vec<StreamId>, Seen), SessionEnd> {
        let block = u64::try_from(self.block.as_millis())
            .unwrap_or(1_000)
            .max(1);
        let mut pipeline = pipe();
        pipeline
            .cmd("XREAD")
            .arg("COUNT")
            .arg(ENTRIES)
            .arg("BLOCK")
            .arg(block)
            .arg("STREAMS")
            .arg(self.keys.stream())
            .arg(cursor);
        pipeline
            .cmd("HMGET")
            .arg(self.keys.state())
            .arg("epoch")
            .arg("sequence")
            .arg("nonce");
        let limit = self.block + self.client.background();
        type State = (Option<u64>, Option<u64>, Option<u64>);
        let (reply, (epoch, sequence, nonce)): (Option<StreamReadReply>, State) =
            timeout(limit, pipeline.query_async(&mut link.connection()))
                .await
                .map_err(|_| CallError::Deadline(limit))??;
        let entries = reply
            .into_iter()
            .flat_map(|reply| reply.keys)
            .flat_map(|key| key.ids);
        let seen = Seen {
            epoch,
            sequence: sequence.unwrap_or(0),
            nonce: nonce.unwrap_or(0),
        };
        Ok((entries.collect(), seen))
    }
}

/// Refuses a replica, and warns of a setting by which Redis could forget the log.
async fn inspect(link: &Link) -> Result<(), SessionEnd> {
    let mut connection = link.connection();
    let link = &mut connection;
    // Not every user or service may ask these; then nothing is known.
    let role: Result<Vec<Value>, _> = cmd("ROLE").query_async(link).await;
    if let Ok(role) = role
        && let Some(role) = role.into_iter().next()
        && String::from_redis_value(role).is_ok_and(|role| role != "master")
    {
        return Err(SessionEnd::Replica);
    }
    let info: Result<String, _> = cmd("INFO").arg("memory").query_async(link).await;
    let policy = info
        .as_deref()
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.trim_end()
                .strip_prefix("maxmemory_policy:")
                .filter(|it| it.starts_with("allkeys-"))
        });
    if let Some(policy) = policy {
        tracing::warn!(
            policy,
            "Redis may evict the invalidation log, which has no TTL, and every object would \
             die with it; set maxmemory-policy to volatile-lru or volatile-lfu"
        );
    }
    Ok(())
}

/// Reads an entry. One that cannot be understood purges everything: a later version may
/// know selectors that this one does not.
pub(super) fn read(entry: &StreamId) -> Entry {
    let fields: &HashMap<String, Value> = &entry.map;
    let number = |name: &str| -> u64 {
        let value = fields.get(name).cloned().unwrap_or_default();
        ::redis::from_redis_value(value).unwrap_or(0)
    };
    let selectors = fields.get("p").cloned().and_then(|value| {
        let json: String = ::redis::from_redis_value(value).ok()?;
        serde_json::from_str(&json).ok()
    });
    Entry {
        epoch: number("e"),
        sequence: number("s"),
        mark: EntryMark {
            id: entry.id.clone(),
            nonce: number("n"),
        },
        previous: fields.contains_key("b").then(|| number("b")),
        at: Timestamp::from_millis(number("t")),
        selectors: selectors.unwrap_or_else(|| vec![Selector::new(Target::All)]),
    }
}
