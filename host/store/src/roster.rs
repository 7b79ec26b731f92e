//! What nodes tell of themselves: a hash in Redis with one field for each, which goes when
//! its node has given no sign of life for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::RwLock;
use redis::{Script, cmd};
use serde_json::{Map, Value};

use crate::redis::client::{Client, Patience};
use crate::redis::{CallError, Redis};

static TELL: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("redis/scripts/roster.lua")));

/// One node's place in a hash of all nodes.
#[derive(Debug)]
pub struct Roster {
    client: Client,
    key: String,
    node: String,
}

impl Roster {
    /// The hash `PREFIX:name`, which must have no braces, and in it a field for a node of
    /// this name. A random end tells it from others, and from its own former lives.
    #[must_use]
    pub fn new(redis: &Redis, name: &str, node: &str) -> Self {
        Self {
            client: redis.client().clone(),
            key: redis.keys().roster(name),
            node: format!("{node}-{:08x}", fastrand::u32(..)),
        }
    }

    /// What this node's field is called.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Writes this node's field, to stand for `ttl`, and takes out those whose time is
    /// over; returns the names of all that stand, this one included. `told`, which must not
    /// be empty, gets `until` as its first member: milliseconds since 1970.
    ///
    /// # Errors
    /// [`CallError`]: the field stands as it was, for the rest of its time.
    pub async fn tell(
        &self,
        told: &Map<String, Value>,
        ttl: Duration,
    ) -> Result<Vec<String>, CallError> {
        let told = serde_json::to_string(told).unwrap_or_default();
        let mut call = TELL.key(&self.key);
        call.arg(&self.node)
            .arg(told)
            .arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        self.client.script(&call, Patience::Background).await
    }

    /// What all of them tell, by name.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn all(&self) -> Result<BTreeMap<String, Map<String, Value>>, CallError> {
        let mut call = cmd("HGETALL");
        call.arg(&self.key);
        let all: BTreeMap<String, String> =
            self.client.command(&call, Patience::Background).await?;
        let read = |(name, told): (String, String)| Some((name, serde_json::from_str(&told).ok()?));
        Ok(all.into_iter().filter_map(read).collect())
    }

    /// Takes this node's field out.
    ///
    /// # Errors
    /// [`CallError`]: the field stands for the rest of its time.
    pub async fn leave(&self) -> Result<(), CallError> {
        let mut call = cmd("HDEL");
        call.arg(&self.key).arg(&self.node);
        self.client.command(&call, Patience::Background).await
    }
}

/// The nodes of the fleet, as this one last heard of them. Cheap to clone; clones know the
/// same.
#[derive(Clone, Debug, Default)]
pub struct LiveNodes(Arc<RwLock<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    names: Vec<String>,
    count: u32,
}

impl LiveNodes {
    /// How many there are, this one included; 1 before it has heard of any.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.read().count.max(1)
    }

    /// Their names; empty before it has heard of any.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.read().names.clone()
    }

    /// Takes down who was heard of, and for how many the fleet is to be taken: more than
    /// `names` while some may not have had the time to speak.
    pub fn heard(&self, mut names: Vec<String>, count: usize) {
        names.sort_unstable();
        *self.0.write() = Heard {
            names,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        };
    }
}
