//! `kv`: tests namespaces, sizes and times, then asks the node's [`Kv`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wasmtime::Result;

use crate::bindings::kv::{self, Error};
use crate::capabilities::{Kv, KvError};
use crate::error::cut;
use crate::host_caps::MAX_TIME;
use crate::state::State;

/// The longest key, in bytes.
const MAX_KEY: usize = 1_024;
/// The biggest value or member, in bytes.
const MAX_VALUE: usize = 1_024 * 1_024;

type Answer<T> = std::result::Result<T, Error>;

fn key_fits(key: &str) -> Answer<()> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Error::Refused(format!(
            "the key has {} bytes: it must have 1 to {MAX_KEY}",
            key.len()
        )));
    }
    Ok(())
}

fn value_fits(value: &[u8]) -> Answer<()> {
    if value.len() > MAX_VALUE {
        return Err(Error::Refused(format!(
            "the value has {} bytes, and at most {MAX_VALUE} are allowed",
            value.len()
        )));
    }
    Ok(())
}

fn time(ms: u64) -> Answer<Duration> {
    let time = Duration::from_millis(ms);
    if time.is_zero() || time > MAX_TIME {
        return Err(Error::Refused(format!(
            "the time to live is {ms} ms: it must lie between 1 ms and 30 days"
        )));
    }
    Ok(time)
}

impl State {
    /// Runs an operation on a key that was found in order.
    async fn kv<T: Send + 'static, F>(
        &mut self,
        namespace: String,
        key: String,
        operation: impl FnOnce(Arc<dyn Kv>, String, String) -> F,
    ) -> Answer<T>
    where
        F: Future<Output = std::result::Result<T, KvError>> + Send + 'static,
    {
        self.recorder.impure();
        if !self.owns(&namespace) {
            return Err(Error::Refused(format!(
                "the namespace `{}` is not the policy's: add it to `namespaces` in the configuration",
                cut(&namespace, 64)
            )));
        }
        key_fits(&key)?;
        let operation = operation(self.shared.services.kv.clone(), namespace, key);
        match self.wait(operation).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(KvError::Refused(why))) => Err(Error::Refused(why)),
            Some(Err(KvError::WrongKind)) => Err(Error::WrongKind),
            Some(Err(KvError::Unavailable)) | None => Err(Error::Unavailable),
        }
    }

    async fn kv_set(&mut self, ns: String, key: String, value: Vec<u8>, ttl: u64) -> Answer<()> {
        value_fits(&value)?;
        let ttl = time(ttl)?;
        self.kv(ns, key, |kv, ns, key| async move {
            kv.set(&ns, &key, value.into(), ttl).await
        })
        .await
    }

    async fn kv_increment(&mut self, ns: String, key: String, by: i64, ttl: u64) -> Answer<i64> {
        let ttl = time(ttl)?;
        self.kv(ns, key, |kv, ns, key| async move {
            kv.increment(&ns, &key, by, ttl).await
        })
        .await
    }

    async fn kv_compare_and_set(
        &mut self,
        ns: String,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: u64,
    ) -> Answer<bool> {
        value_fits(&value)?;
        value_fits(expected.as_deref().unwrap_or_default())?;
        let ttl = time(ttl)?;
        let expected = expected.map(Bytes::from);
        self.kv(ns, key, |kv, ns, key| async move {
            kv.compare_and_set(&ns, &key, expected, value.into(), ttl)
                .await
        })
        .await
    }

    async fn kv_set_add(&mut self, ns: String, key: String, m: Vec<u8>, ttl: u64) -> Answer<bool> {
        value_fits(&m)?;
        let ttl = time(ttl)?;
        self.kv(ns, key, |kv, ns, key| async move {
            kv.set_add(&ns, &key, m.into(), ttl).await
        })
        .await
    }

    async fn kv_queue_push(
        &mut self,
        ns: String,
        key: String,
        value: Vec<u8>,
        max_length: u32,
        ttl: u64,
    ) -> Answer<u32> {
        value_fits(&value)?;
        let ttl = time(ttl)?;
        if max_length == 0 {
            return Err(Error::Refused(
                "the longest length of a queue is 0: it must be at least 1".to_owned(),
            ));
        }
        self.kv(ns, key, |kv, ns, key| async move {
            kv.queue_push(&ns, &key, value.into(), max_length, ttl)
                .await
        })
        .await
    }
}

impl kv::Host for State {
    async fn get(&mut self, ns: String, key: String) -> Result<Answer<Option<Vec<u8>>>> {
        let value = self
            .kv(
                ns,
                key,
                |kv, ns, key| async move { kv.get(&ns, &key).await },
            )
            .await;
        Ok(value.map(|value| value.map(Vec::from)))
    }

    async fn set(
        &mut self,
        ns: String,
        key: String,
        value: Vec<u8>,
        ttl: u64,
    ) -> Result<Answer<()>> {
        Ok(self.kv_set(ns, key, value, ttl).await)
    }

    async fn delete(&mut self, ns: String, key: String) -> Result<Answer<bool>> {
        Ok(self
            .kv(
                ns,
                key,
                |kv, ns, key| async move { kv.delete(&ns, &key).await },
            )
            .await)
    }

    async fn increment(
        &mut self,
        ns: String,
        key: String,
        delta: i64,
        ttl: u64,
    ) -> Result<Answer<i64>> {
        Ok(self.kv_increment(ns, key, delta, ttl).await)
    }

    async fn compare_and_set(
        &mut self,
        ns: String,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl: u64,
    ) -> Result<Answer<bool>> {
        Ok(self.kv_compare_and_set(ns, key, expected, value, ttl).await)
    }

    async fn set_add(
        &mut self,
        ns: String,
        key: String,
        member: Vec<u8>,
        ttl: u64,
    ) -> Result<Answer<bool>> {
        Ok(self.kv_set_add(ns, key, member, ttl).await)
    }

    async fn set_remove(
        &mut self,
        ns: String,
        key: String,
        member: Vec<u8>,
    ) -> Result<Answer<bool>> {
        Ok(self
            .kv(ns, key, |kv, ns, key| async move {
                kv.set_remove(&ns, &key, member.into()).await
            })
            .await)
    }

    async fn set_contains(
        &mut self,
        ns: String,
        key: String,
        member: Vec<u8>,
    ) -> Result<Answer<bool>> {
        Ok(self
            .kv(ns, key, |kv, ns, key| async move {
                kv.set_contains(&ns, &key, member.into()).await
            })
            .await)
    }

    async fn queue_push(
        &mut self,
        ns: String,
        key: String,
        value: Vec<u8>,
        max_length: u32,
        ttl: u64,
    ) -> Result<Answer<u32>> {
        Ok(self.kv_queue_push(ns, key, value, max_length, ttl).await)
    }

    async fn queue_pop(&mut self, ns: String, key: String) -> Result<Answer<Option<Vec<u8>>>> {
        let value = self
            .kv(ns, key, |kv, ns, key| async move {
                kv.queue_pop(&ns, &key).await
            })
            .await;
        Ok(value.map(|value| value.map(Vec::from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_bounded() {
        assert!(key_fits("").is_err());
        assert!(key_fits(&"k".repeat(MAX_KEY)).is_ok());
        assert!(key_fits(&"k".repeat(MAX_KEY + 1)).is_err());
        assert!(value_fits(&vec![0; MAX_VALUE]).is_ok());
        assert!(value_fits(&vec![0; MAX_VALUE + 1]).is_err());
        assert!(time(0).is_err());
        assert!(time(1).is_ok());
        assert!(time(30 * 24 * 3_600_000).is_ok());
        assert!(time(30 * 24 * 3_600_000 + 1).is_err());
        assert!(time(u64::MAX).is_err());
    }
}
