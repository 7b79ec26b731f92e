//! The tier behind memory: on this node's disk, or in Redis.

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use crate::Object;
use crate::disk::DiskTier;
use crate::redis::{Lease, Leased, Redis};

/// The tier behind memory. Cheap to clone.
#[derive(Clone, Debug)]
pub enum SecondTier {
    /// Shared by the nodes of a fleet.
    Redis(Arc<Redis>),
    /// Of this node alone; outlives its process.
    Disk(Arc<DiskTier>),
}

impl SecondTier {
    /// What Cache-Status calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Disk(_) => "disk",
        }
    }

    /// The object under this key ([`Key::as_str`](crate::Key::as_str)) that suits the
    /// request, if it has not been purged. Whether it is fresh, or was soft-purged, is
    /// the caller's to test. A tier that gives no answer in time is a miss.
    pub async fn get(&self, key: &str, request: &HeaderMap) -> Option<Arc<Object>> {
        match self {
            Self::Redis(redis) => redis
                .get(key, request)
                .await
                .inspect_err(|error| {
                    tracing::debug!(%error, "Redis gave no answer; going to the origin");
                })
                .ok()?,
            Self::Disk(disk) => disk
                .get(key, request)
                .await
                .inspect_err(|error| {
                    tracing::debug!(%error, "the disk tier gave no answer; going to the origin");
                })
                .ok()?,
        }
    }

    /// Queues an object to be written. Drops it, and counts that, when it is too large or
    /// the queue full. An object that is not [`shared`](Object::shared) is left out. A
    /// lease ends when the object has been written, or was dropped.
    pub fn put(&self, object: Arc<Object>, lease: Option<Lease>) {
        match self {
            Self::Redis(redis) => redis.put(object, lease),
            Self::Disk(disk) => disk.put(object),
        }
    }

    /// Until when one who is refused a lease now may wait. Absent: leases are not used.
    /// Of a disk no other node knows, so that nobody fetches for this one.
    pub fn lease_patience(&self) -> Option<Instant> {
        self.redis()?.lease_patience()
    }

    /// Asks for the lease to fetch the object under this key, which the tier did not have.
    pub async fn lease(&self, key: &str, until: Instant) -> Leased {
        match self {
            Self::Redis(redis) => redis.lease(key, until).await,
            Self::Disk(_) => Leased::Without,
        }
    }

    /// Redis, if that is what it is.
    pub fn redis(&self) -> Option<&Arc<Redis>> {
        match self {
            Self::Redis(redis) => Some(redis),
            Self::Disk(_) => None,
        }
    }

    /// The disk, if that is what it is.
    pub fn disk(&self) -> Option<&Arc<DiskTier>> {
        match self {
            Self::Disk(disk) => Some(disk),
            Self::Redis(_) => None,
        }
    }
}
