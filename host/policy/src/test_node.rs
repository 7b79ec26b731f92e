//! Services for unit tests that never call one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::capabilities::{HostServices, Kv, KvError, LogLevel, LogSink, RateLimit, RateVerdict};

#[derive(Debug)]
pub(crate) struct TestNode;

type Answer<T> = Result<T, KvError>;

impl TestNode {
    pub(crate) fn services() -> HostServices {
        HostServices {
            kv: Arc::new(Self),
            rate_limit: Arc::new(Self),
            log: Arc::new(Self),
        }
    }
}

#[async_trait]
impl Kv for TestNode {
    async fn get(&self, _: &str, _: &str) -> Answer<Option<Bytes>> {
        Err(KvError::Unavailable)
    }
    async fn set(&self, _: &str, _: &str, _: Bytes, _: Duration) -> Answer<()> {
        Err(KvError::Unavailable)
    }
    async fn delete(&self, _: &str, _: &str) -> Answer<bool> {
        Err(KvError::Unavailable)
    }
    async fn increment(&self, _: &str, _: &str, _: i64, _: Duration) -> Answer<i64> {
        Err(KvError::Unavailable)
    }
    async fn compare_and_set(
        &self,
        _: &str,
        _: &str,
        _: Option<Bytes>,
        _: Bytes,
        _: Duration,
    ) -> Answer<bool> {
        Err(KvError::Unavailable)
    }
    async fn set_add(&self, _: &str, _: &str, _: Bytes, _: Duration) -> Answer<bool> {
        Err(KvError::Unavailable)
    }
    async fn set_remove(&self, _: &str, _: &str, _: Bytes) -> Answer<bool> {
        Err(KvError::Unavailable)
    }
    async fn set_contains(&self, _: &str, _: &str, _: Bytes) -> Answer<bool> {
        Err(KvError::Unavailable)
    }
    async fn queue_push(&self, _: &str, _: &str, _: Bytes, _: u32, _: Duration) -> Answer<u32> {
        Err(KvError::Unavailable)
    }
    async fn queue_pop(&self, _: &str, _: &str) -> Answer<Option<Bytes>> {
        Err(KvError::Unavailable)
    }
}

#[async_trait]
impl RateLimit for TestNode {
    async fn check(&self, _: &str, _: &str, _: u32, _: Duration) -> RateVerdict {
        RateVerdict {
            allowed: true,
            remaining: 0,
            retry_after: Duration::ZERO,
        }
    }
}

impl LogSink for TestNode {
    fn write(&self, _: &str, _: &str, _: LogLevel, _: &str) {}
}
