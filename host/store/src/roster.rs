//! What nodes tell of themselves: a hash in Redis with one field for each, which goes when
//! its node has given no sign of life for a while.

use std::sync::LazyLock;
use std::time::Duration;

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

    /// Writes this node's field, to stand for `ttl`, and takes out those whose time is
    /// over. `told`, which must not be empty, gets `until` as its first member:
    /// milliseconds since 1970.
    ///
    /// # Errors
    /// [`CallError`]: the field stands as it was, for the rest of its time.
    pub async fn tell(&self, told: &Map<String, Value>, ttl: Duration) -> Result<(), CallError> {
        let told = serde_json::to_string(told).unwrap_or_default();
        let mut call = TELL.key(&self.key);
        call.arg(&self.node)
            .arg(told)
            .arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        self.client.script(&call, Patience::Background).await
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
