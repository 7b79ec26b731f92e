//! Small shared state for policies: in Redis when the node has one, else in memory.
//!
//! Every operation is atomic. Whether a policy may use a namespace is its host's to test.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::key::MAX_NAMESPACE_BYTES;
use crate::redis::Redis;

mod in_redis;
mod memory;

use in_redis::RedisKv;
use memory::MemoryKv;

/// The longest value, or member of a set or queue, in bytes.
pub const MAX_VALUE_BYTES: usize = 1_024 * 1_024;

/// The longest key, in bytes.
pub const MAX_KV_KEY_BYTES: usize = 1_024;

/// The longest time to live.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The most members of a set, and entries of a queue.
pub const MAX_MEMBERS: u32 = 65_536;

/// Why an operation did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// Redis is down, or did not answer within its deadline.
    #[error("the key-value store did not answer within its deadline; see the state of Redis")]
    Unavailable,
    /// A size or a time is out of bounds.
    #[error("{0}")]
    Refused(String),
    /// The key holds another kind of value.
    #[error(
        "the key holds another kind of value (a value, a counter, a set or a queue); delete it or use another key"
    )]
    WrongKind,
}

/// The store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KvStore(Backend);

#[derive(Clone, Debug)]
enum Backend {
    Redis(RedisKv),
    Memory(Arc<MemoryKv>),
}

/// Calls the same operation of whichever backend there is.
macro_rules! either {
    ($self:ident.$operation:ident($($argument:expr),*)) => {
        match &$self.0 {
            Backend::Redis(redis) => redis.$operation($($argument),*).await,
            Backend::Memory(memory) => memory.$operation($($argument),*),
        }
    };
}

impl KvStore {
    /// A store in this node's memory, of at most `capacity` bytes; beyond it, what was
    /// not used for longest goes first. Lost with the process.
    pub fn memory(capacity: u64) -> Self {
        Self(Backend::Memory(Arc::new(MemoryKv::new(capacity))))
    }

    /// The store in Redis, shared by the fleet. While Redis is down its operations fail.
    pub fn redis(redis: &Redis) -> Self {
        Self(Backend::Redis(RedisKv::new(redis)))
    }

    /// The value under a key; that of a counter is its decimal text.
    ///
    /// # Errors
    /// [`KvError`], as of every operation.
    pub async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        check_name(namespace, key)?;
        either!(self.get(namespace, key))
    }

    /// Stores a value in place of whatever the key holds.
    ///
    /// # Errors
    /// [`KvError::Refused`] beyond [`MAX_VALUE_BYTES`] or [`MAX_TTL`]; [`KvError`].
    pub async fn set(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<(), KvError> {
        check_name(namespace, key)?;
        check_value(&value)?;
        let ttl = check_ttl(ttl)?;
        either!(self.set(namespace, key, value, ttl))
    }

    /// Removes a key of any kind; says whether there was one.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn delete(&self, namespace: &str, key: &str) -> Result<bool, KvError> {
        check_name(namespace, key)?;
        either!(self.delete(namespace, key))
    }

    /// Adds to a counter and returns its new value. Its time to live begins when it is
    /// made.
    ///
    /// # Errors
    /// [`KvError::Refused`] if the sum does not fit; [`KvError`].
    pub async fn increment(
        &self,
        namespace: &str,
        key: &str,
        delta: i64,
        ttl: Duration,
    ) -> Result<i64, KvError> {
        check_name(namespace, key)?;
        let ttl = check_ttl(ttl)?;
        either!(self.increment(namespace, key, delta, ttl))
    }

    /// Stores `value` if the key holds `expected` (absent: nothing); says whether it did.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn compare_and_set(
        &self,
        namespace: &str,
        key: &str,
        expected: Option<&[u8]>,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError> {
        check_name(namespace, key)?;
        check_value(&value)?;
        let ttl = check_ttl(ttl)?;
        either!(self.compare_and_set(namespace, key, expected, value, ttl))
    }

    /// Adds a member to a set and renews the set's time to live; says whether it is new.
    ///
    /// # Errors
    /// [`KvError::Refused`] beyond [`MAX_MEMBERS`]; [`KvError`].
    pub async fn set_add(
        &self,
        namespace: &str,
        key: &str,
        member: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError> {
        check_name(namespace, key)?;
        check_value(&member)?;
        let ttl = check_ttl(ttl)?;
        either!(self.set_add(namespace, key, member, ttl))
    }

    /// Removes a member from a set; says whether it was there.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn set_remove(
        &self,
        namespace: &str,
        key: &str,
        member: &[u8],
    ) -> Result<bool, KvError> {
        check_name(namespace, key)?;
        either!(self.set_remove(namespace, key, member))
    }

    /// Is it a member?
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn set_contains(
        &self,
        namespace: &str,
        key: &str,
        member: &[u8],
    ) -> Result<bool, KvError> {
        check_name(namespace, key)?;
        either!(self.set_contains(namespace, key, member))
    }

    /// Appends to a queue, drops its oldest entries beyond `max_length`, and renews its
    /// time to live; returns its length.
    ///
    /// # Errors
    /// [`KvError::Refused`] unless `max_length` is 1 to [`MAX_MEMBERS`]; [`KvError`].
    pub async fn queue_push(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        max_length: u32,
        ttl: Duration,
    ) -> Result<u32, KvError> {
        check_name(namespace, key)?;
        check_value(&value)?;
        let ttl = check_ttl(ttl)?;
        if !(1..=MAX_MEMBERS).contains(&max_length) {
            return Err(KvError::Refused(format!(
                "max-length is {max_length}; a queue has 1 to {MAX_MEMBERS} entries"
            )));
        }
        either!(self.queue_push(namespace, key, value, max_length, ttl))
    }

    /// Takes the oldest entry off a queue.
    ///
    /// # Errors
    /// [`KvError`].
    pub async fn queue_pop(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        check_name(namespace, key)?;
        either!(self.queue_pop(namespace, key))
    }
}

fn check_name(namespace: &str, key: &str) -> Result<(), KvError> {
    if namespace.is_empty() || namespace.len() > MAX_NAMESPACE_BYTES {
        return Err(KvError::Refused(format!(
            "the namespace has {} bytes; it may have 1 to {MAX_NAMESPACE_BYTES}",
            namespace.len()
        )));
    }
    if key.len() > MAX_KV_KEY_BYTES {
        return Err(KvError::Refused(format!(
            "the key has {} bytes; it may have up to {MAX_KV_KEY_BYTES}",
            key.len()
        )));
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), KvError> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(KvError::Refused(format!(
            "the value has {} bytes; it may have up to {MAX_VALUE_BYTES}",
            value.len()
        )));
    }
    Ok(())
}

/// The time to live in whole milliseconds.
fn check_ttl(ttl: Duration) -> Result<Duration, KvError> {
    if ttl < Duration::from_millis(1) || ttl > MAX_TTL {
        return Err(KvError::Refused(format!(
            "the time to live is {ttl:?}; it may be 1 millisecond to 30 days"
        )));
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests;
