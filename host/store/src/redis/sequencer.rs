//! The fleet's log in Redis: two scripts, each one atomic step.

use std::sync::LazyLock;

use ::redis::{RedisError, Script};
use async_trait::async_trait;

use super::client::{Client, Patience};
use super::error::CallError;
use super::keys::Keys;
use crate::log::{
    EntryMark, Fleet, FleetUnavailable, Limits, Purge, Sequenced, Snapshot, Standing,
};

static PURGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/purge.lua")));
static SYNC: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/sync.lua")));

/// How long Redis remembers that it took a purge. A purge sent again later than this
/// would be taken twice, which invalidates more, never less.
const DONE_TTL_MILLIS: u64 = 24 * 3_600 * 1_000;

/// How many counters are read in one step. More than one purge can raise.
const PAGE: usize = 4_096;

/// [`Fleet`] by way of Redis.
#[derive(Debug)]
pub(super) struct Sequencer {
    client: Client,
    keys: Keys,
    limits: Limits,
    stream_entries: usize,
}

impl Sequencer {
    pub(super) fn new(client: Client, keys: Keys, limits: Limits, stream_entries: usize) -> Self {
        Self {
            client,
            keys,
            limits,
            stream_entries,
        }
    }

    async fn send(&self, purge: &Purge) -> Result<Sequenced, CallError> {
        let selectors = serde_json::to_string(&purge.selectors)
            .map_err(|error| CallError::Refused(RedisError::from(std::io::Error::other(error))))?;
        let mut call = PURGE.prepare_invoke();
        for key in self.keys.log_keys() {
            call.key(key);
        }
        call.key(self.keys.done(&purge.id));
        call.arg(chance())
            .arg(&purge.id)
            .arg(fastrand::u64(1..))
            .arg(purge.at)
            .arg(selectors)
            .arg(DONE_TTL_MILLIS)
            .arg(self.limits.counters.max(1))
            .arg(self.limits.prefixes.max(1))
            .arg(self.stream_entries.max(1))
            .arg(u64::try_from(self.limits.longest_life.as_millis()).unwrap_or(u64::MAX));
        for member in purge.members() {
            call.arg(member);
        }
        let (epoch, sequence, id, earlier, previous, nonce) =
            self.client.script(&call, Patience::Background).await?;
        Ok(Sequenced {
            epoch,
            sequence,
            entry: EntryMark { id, nonce },
            earlier,
            previous,
        })
    }

    async fn read(&self, have: &Standing, since: u64) -> Result<Snapshot, CallError> {
        let entry = have.entry.clone().unwrap_or_default();
        let mut call = SYNC.prepare_invoke();
        for key in self.keys.log_keys() {
            call.key(key);
        }
        call.arg(chance())
            .arg(have.epoch)
            .arg(entry.id)
            .arg(entry.nonce)
            .arg(since)
            .arg(PAGE)
            .arg(fastrand::u64(1..))
            .arg(self.stream_entries.max(1));
        type Page = (
            u64,
            u64,
            String,
            u64,
            String,
            Vec<(String, u64, u64)>,
            Vec<(usize, u64)>,
        );
        let (epoch, sequence, id, nonce, next, raised, floors): Page =
            self.client.script(&call, Patience::Background).await?;
        Ok(Snapshot {
            epoch,
            sequence,
            last: (!id.is_empty()).then_some(EntryMark { id, nonce }),
            next: next.parse().ok(),
            ..Snapshot::read(&raised, floors)
        })
    }
}

/// The last digits of a new epoch, after the milliseconds of Redis's clock.
fn chance() -> String {
    format!("{:06}", fastrand::u32(..1_000_000))
}

#[async_trait]
impl Fleet for Sequencer {
    async fn purge(&self, purge: &Purge) -> Result<Sequenced, FleetUnavailable> {
        self.send(purge).await.map_err(|error| {
            tracing::debug!(%error, id = purge.id, "a purge is kept until Redis takes it");
            FleetUnavailable
        })
    }

    async fn snapshot(&self, have: &Standing, since: u64) -> Result<Snapshot, FleetUnavailable> {
        self.read(have, since).await.map_err(|error| {
            tracing::debug!(%error, "the counters could not be read");
            FleetUnavailable
        })
    }
}
