//! The key-value store in Redis.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use redis::{Cmd, FromRedisValue, Script, cmd};

use super::{KvError, MAX_MEMBERS};
use crate::redis::client::{Client, Patience};
use crate::redis::keys::Keys;
use crate::redis::{CallError, Redis};

static INCREMENT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../redis/scripts/kv_increment.lua")));
static COMPARE_AND_SET: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../redis/scripts/kv_compare_and_set.lua")));
static SET_ADD: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../redis/scripts/kv_set_add.lua")));
static QUEUE_PUSH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../redis/scripts/kv_queue_push.lua")));

#[derive(Clone, Debug)]
pub(super) struct RedisKv {
    client: Client,
    keys: Keys,
}

impl RedisKv {
    pub(super) fn new(redis: &Redis) -> Self {
        Self {
            client: redis.client().clone(),
            keys: redis.keys().clone(),
        }
    }

    pub(super) async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        self.command(cmd("GET").arg(self.keys.kv(namespace, key)))
            .await
    }

    pub(super) async fn set(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<(), KvError> {
        let name = self.keys.kv(namespace, key);
        self.command(
            cmd("SET")
                .arg(name)
                .arg(&value[..])
                .arg("PX")
                .arg(millis(ttl)),
        )
        .await
    }

    pub(super) async fn delete(&self, namespace: &str, key: &str) -> Result<bool, KvError> {
        self.command(cmd("UNLINK").arg(self.keys.kv(namespace, key)))
            .await
    }

    pub(super) async fn increment(
        &self,
        namespace: &str,
        key: &str,
        delta: i64,
        ttl: Duration,
    ) -> Result<i64, KvError> {
        let mut call = INCREMENT.key(self.keys.kv(namespace, key));
        call.arg(delta).arg(millis(ttl));
        self.script(&call).await
    }

    pub(super) async fn compare_and_set(
        &self,
        namespace: &str,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError> {
        let mut call = COMPARE_AND_SET.key(self.keys.kv(namespace, key));
        call.arg(u8::from(expected.is_some()))
            .arg(expected.unwrap_or_default())
            .arg(&value[..])
            .arg(millis(ttl));
        self.script(&call).await
    }

    pub(super) async fn set_add(
        &self,
        namespace: &str,
        key: &str,
        member: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError> {
        let mut call = SET_ADD.key(self.keys.kv(namespace, key));
        call.arg(&member[..]).arg(millis(ttl)).arg(MAX_MEMBERS);
        self.script(&call).await
    }

    pub(super) async fn set_remove(
        &self,
        namespace: &str,
        key: &str,
        member: &[u8],
    ) -> Result<bool, KvError> {
        self.command(cmd("SREM").arg(self.keys.kv(namespace, key)).arg(member))
            .await
    }

    pub(super) async fn set_contains(
        &self,
        namespace: &str,
        key: &str,
        member: &[u8],
    ) -> Result<bool, KvError> {
        self.command(
            cmd("SISMEMBER")
                .arg(self.keys.kv(namespace, key))
                .arg(member),
        )
        .await
    }

    pub(super) async fn queue_push(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        max_length: u32,
        ttl: Duration,
    ) -> Result<u32, KvError> {
        let mut call = QUEUE_PUSH.key(self.keys.kv(namespace, key));
        call.arg(&value[..]).arg(max_length).arg(millis(ttl));
        self.script(&call).await
    }

    pub(super) async fn queue_pop(
        &self,
        namespace: &str,
        key: &str,
    ) -> Result<Option<Bytes>, KvError> {
        self.command(cmd("LPOP").arg(self.keys.kv(namespace, key)))
            .await
    }

    async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, KvError> {
        self.client
            .command(command, Patience::Request)
            .await
            .map_err(|error| why(&error))
    }

    async fn script<T: FromRedisValue>(
        &self,
        call: &redis::ScriptInvocation<'_>,
    ) -> Result<T, KvError> {
        self.client
            .script(call, Patience::Request)
            .await
            .map_err(|error| why(&error))
    }
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn why(error: &CallError) -> KvError {
    let CallError::Refused(reply) = error else {
        return KvError::Unavailable;
    };
    // Redis before 7 hides the code of an error that a script met in its text.
    let text = reply.to_string();
    if text.contains("WRONGTYPE") || text.contains("not an integer") {
        KvError::WrongKind
    } else if text.contains("overflow") {
        KvError::Refused("the sum does not fit into 64 bits".into())
    } else if text.contains("FULL") {
        KvError::Refused(format!(
            "the set has {MAX_MEMBERS} members, as many as one may have"
        ))
    } else {
        tracing::warn!(%error, "Redis refused an operation of the key-value store");
        KvError::Unavailable
    }
}
