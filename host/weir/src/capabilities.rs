//! What the node gives to policies: the store's small state, under the policy crate's
//! names. Neither crate knows the other.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use weir_policy::{HostServices, Kv, KvError, RateLimit, RateVerdict, TracingLog};
use weir_store::kv::{self, KvStore};
use weir_store::rate_limit::RateLimiter;

/// The services for policies of this node.
pub(crate) fn services(kv: KvStore, limiter: Arc<RateLimiter>) -> HostServices {
    HostServices {
        kv: Arc::new(StoreKv(kv)),
        rate_limit: Arc::new(StoreLimiter(limiter)),
        log: Arc::new(TracingLog),
    }
}

/// The same for a policy that is only watched: it reads what others have stored, and
/// changes nothing.
pub(crate) fn watched(services: &HostServices) -> HostServices {
    HostServices {
        kv: Arc::new(Unchanged(Arc::clone(&services.kv))),
        rate_limit: Arc::new(StoreLimiter(Arc::new(RateLimiter::alone()))),
        log: Arc::clone(&services.log),
    }
}

#[derive(Debug)]
struct StoreKv(KvStore);

fn error(error: kv::KvError) -> KvError {
    match error {
        kv::KvError::Unavailable => KvError::Unavailable,
        kv::KvError::WrongKind => KvError::WrongKind,
        other => KvError::Refused(other.to_string()),
    }
}

#[async_trait]
impl Kv for StoreKv {
    async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        self.0.get(namespace, key).await.map_err(error)
    }

    async fn set(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<(), KvError> {
        self.0.set(namespace, key, value, ttl).await.map_err(error)
    }

    async fn delete(&self, namespace: &str, key: &str) -> Result<bool, KvError> {
        self.0.delete(namespace, key).await.map_err(error)
    }

    async fn increment(
        &self,
        namespace: &str,
        key: &str,
        delta: i64,
        ttl: Duration,
    ) -> Result<i64, KvError> {
        self.0
            .increment(namespace, key, delta, ttl)
            .await
            .map_err(error)
    }

    async fn compare_and_set(
        &self,
        namespace: &str,
        key: &str,
        expected: Option<Bytes>,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError> {
        self.0
            .compare_and_set(namespace, key, expected.as_deref(), value, ttl)
            .await
            .map_err(error)
    }

    async fn set_add(
        &self,
        namespace: &str,
        key: &str,
        member: Bytes,
        ttl: Duration,
    ) -> Result<bool, KvError> {
        self.0
            .set_add(namespace, key, member, ttl)
            .await
            .map_err(error)
    }

    async fn set_remove(&self, namespace: &str, key: &str, member: Bytes) -> Result<bool, KvError> {
        self.0
            .set_remove(namespace, key, &member)
            .await
            .map_err(error)
    }

    async fn set_contains(
        &self,
        namespace: &str,
        key: &str,
        member: Bytes,
    ) -> Result<bool, KvError> {
        self.0
            .set_contains(namespace, key, &member)
            .await
            .map_err(error)
    }

    async fn queue_push(
        &self,
        namespace: &str,
        key: &str,
        value: Bytes,
        max_length: u32,
        ttl: Duration,
    ) -> Result<u32, KvError> {
        self.0
            .queue_push(namespace, key, value, max_length, ttl)
            .await
            .map_err(error)
    }

    async fn queue_pop(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        self.0.queue_pop(namespace, key).await.map_err(error)
    }
}

/// Answers as if it had been done.
#[derive(Debug)]
struct Unchanged(Arc<dyn Kv>);

#[async_trait]
impl Kv for Unchanged {
    async fn get(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, KvError> {
        self.0.get(namespace, key).await
    }

    async fn set(&self, _: &str, _: &str, _: Bytes, _: Duration) -> Result<(), KvError> {
        Ok(())
    }

    async fn delete(&self, namespace: &str, key: &str) -> Result<bool, KvError> {
        Ok(self.0.get(namespace, key).await?.is_some())
    }

    async fn increment(
        &self,
        namespace: &str,
        key: &str,
        delta: i64,
        _: Duration,
    ) -> Result<i64, KvError> {
        let value = self.0.get(namespace, key).await?;
        let text = value.as_deref().map_or(Ok("0"), std::str::from_utf8);
        let number = text.ok().and_then(|text| text.parse::<i64>().ok());
        let sum = number.ok_or(KvError::WrongKind)?.checked_add(delta);
        sum.ok_or_else(|| KvError::Refused("the counter would overflow".to_owned()))
    }

    async fn compare_and_set(
        &self,
        namespace: &str,
        key: &str,
        expected: Option<Bytes>,
        _: Bytes,
        _: Duration,
    ) -> Result<bool, KvError> {
        Ok(self.0.get(namespace, key).await? == expected)
    }

    async fn set_add(
        &self,
        namespace: &str,
        key: &str,
        member: Bytes,
        _: Duration,
    ) -> Result<bool, KvError> {
        Ok(!self.0.set_contains(namespace, key, member).await?)
    }

    async fn set_remove(&self, namespace: &str, key: &str, member: Bytes) -> Result<bool, KvError> {
        self.0.set_contains(namespace, key, member).await
    }

    async fn set_contains(
        &self,
        namespace: &str,
        key: &str,
        member: Bytes,
    ) -> Result<bool, KvError> {
        self.0.set_contains(namespace, key, member).await
    }

    async fn queue_push(
        &self,
        _: &str,
        _: &str,
        _: Bytes,
        _: u32,
        _: Duration,
    ) -> Result<u32, KvError> {
        // Its length cannot be asked without taking from it.
        Ok(1)
    }

    async fn queue_pop(&self, _: &str, _: &str) -> Result<Option<Bytes>, KvError> {
        Ok(None)
    }
}

#[derive(Debug)]
struct StoreLimiter(Arc<RateLimiter>);

#[async_trait]
impl RateLimit for StoreLimiter {
    async fn check(&self, bucket: &str, client: &str, limit: u32, window: Duration) -> RateVerdict {
        let verdict = self.0.check(bucket, client, limit, window).await;
        RateVerdict {
            allowed: verdict.allowed,
            remaining: verdict.remaining,
            retry_after: verdict.retry_after,
        }
    }
}
