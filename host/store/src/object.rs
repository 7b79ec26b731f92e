//! A stored response and all that decides whether it may be used.

use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use weir_semantics::{Freshness, Timestamp, VaryKey};

use crate::coded::Coded;
use crate::headers::StoredHeaders;
use crate::key::Key;
use crate::position::Position;
use crate::tags::Tags;

/// A complete stored response. Shared behind an `Arc` and never changed once stored,
/// except for [`Object::validated`] and [`Object::coded`].
#[derive(Debug)]
pub struct Object {
    /// The full key. A tier compares it, and never trusts a hash alone.
    pub key: Key,
    /// The target URI, absolute and with `http` for both schemes: an implicit tag, so
    /// that a purge by URL finds the object under whatever key the policy chose.
    pub url: Box<str>,
    /// The status code.
    pub status: StatusCode,
    /// The header fields as stored: end-to-end ones only.
    pub headers: StoredHeaders,
    /// The whole body.
    pub body: Bytes,
    /// The trailer fields, if there were any.
    pub trailers: Option<StoredHeaders>,
    /// The request header fields that selected this variant. RFC 9111 section 4.1.
    pub vary: VaryKey,
    /// What it is purged by, besides key, URL and namespace.
    pub tags: Tags,
    /// For how long it may be used, and how. RFC 9111 section 4.2, RFC 5861.
    pub freshness: Freshness,
    /// How long its origin took to begin its answer.
    pub fetch_took: Duration,
    /// When memory lets go of it, if earlier than its life ends.
    pub memory_until: Option<Timestamp>,
    /// Whether it may go to Redis.
    pub shared: bool,
    /// The log position from before its fetch began.
    pub position: Position,
    /// `name@version` of the policy that stored it, for Cache-Status.
    pub policy: Option<Arc<str>>,
    /// The [`version`](Position) of the log under which the object was last found
    /// valid; 0 for never. While the log has this version, nothing need be tested.
    pub validated: AtomicU64,
    /// Its body in other codings, on this node; empty until the first hit that asks
    /// whether there may be any, and none when there may not.
    pub coded: OnceLock<Option<Arc<Coded>>>,
}

/// What an object costs besides its bytes: its own allocation, the `Arc` and its slot,
/// and moka's entry with its key, its place in three queues, its timer and its share
/// of the hash table. Measured by `tests/footprint.rs`, which fails when it drifts.
pub(crate) const OVERHEAD: usize = size_of::<Object>() + 600;

impl Object {
    /// What it costs in memory, in bytes: its contents and a measured overhead.
    /// At most `u32::MAX`, which no tier admits.
    pub fn weight(&self) -> u32 {
        let bytes = OVERHEAD
            + self.key.as_str().len()
            + self.url.len()
            + self.headers.weight()
            + self.body.len()
            + self.trailers.as_ref().map_or(0, StoredHeaders::weight)
            + self.vary.weight()
            + self.tags.weight()
            + self.coded().map_or(0, |coded| coded.weight());
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Its body in other codings, if it may be sent in any.
    pub fn coded(&self) -> Option<&Arc<Coded>> {
        self.coded.get()?.as_ref()
    }

    /// When memory lets go of it: the end of its life or of its time in memory.
    pub fn leaves_memory_at(&self) -> Timestamp {
        let end = self.freshness.retain_until();
        self.memory_until.map_or(end, |until| until.min(end))
    }
}

impl Clone for Object {
    /// Copies all but the bytes of the body and the header values, which are shared, and
    /// the codings of the body: the copy may get fields that forbid them.
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
            url: self.url.clone(),
            status: self.status,
            headers: self.headers.clone(),
            body: self.body.clone(),
            trailers: self.trailers.clone(),
            vary: self.vary.clone(),
            tags: self.tags.clone(),
            freshness: self.freshness,
            fetch_took: self.fetch_took,
            memory_until: self.memory_until,
            shared: self.shared,
            position: self.position,
            policy: self.policy.clone(),
            validated: AtomicU64::new(self.validated.load(Ordering::Acquire)),
            coded: OnceLock::new(),
        }
    }
}
