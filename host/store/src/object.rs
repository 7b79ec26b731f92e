//! A stored response and all that decides whether it may be used.

use std::borrow::Cow;
use std::mem::size_of;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use weir_semantics::{Freshness, Timestamp, VaryKey};

use crate::coded::Coded;
use crate::headers::StoredHeaders;
use crate::key::Key;
use crate::position::Position;
use crate::tags::Tags;

mod compact;
use compact::{CompactFreshness, Span};

/// What an object is made of.
#[derive(Clone, Debug)]
pub struct ObjectParts {
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
    /// For how long it may be used, and how. RFC 9111 section 4.2, RFC 5861. Kept in
    /// milliseconds; what is over 24 days, in seconds.
    pub freshness: Freshness,
    /// How long its origin took to begin its answer, kept in milliseconds.
    pub fetch_took: Duration,
    /// When memory lets go of it, if earlier than its life ends.
    pub memory_until: Option<Timestamp>,
    /// Whether it may go to Redis.
    pub shared: bool,
    /// The log position from before its fetch began.
    pub position: Position,
    /// `name@version` of the policy that stored it, for Cache-Status.
    pub policy: Option<Arc<str>>,
}

/// A complete stored response. Shared behind an `Arc` and never changed once stored,
/// except for [`Object::validated`] and [`Object::coded`].
///
/// A million of them stand in memory: what most do not have is kept apart, and times are
/// kept short. [`ObjectParts`] has the same in the open.
#[derive(Debug)]
pub struct Object {
    /// The full key. A tier compares it, and never trusts a hash alone.
    pub key: Key,
    /// The status code.
    pub status: StatusCode,
    /// The header fields as stored: end-to-end ones only.
    pub headers: StoredHeaders,
    /// The whole body.
    pub body: Bytes,
    /// What it is purged by, besides key, URL and namespace.
    pub tags: Tags,
    /// Whether it may go to Redis.
    pub shared: bool,
    /// Request fields select it, or it has trailers. Each hit asks, and would have to fetch what
    /// is kept apart to know.
    varies_or_trails: bool,
    /// The log position from before its fetch began, but for its time.
    place: [u64; 3],
    /// How long before it was received its fetch began, or [`ELSEWHERE`].
    fetch_lasted: Span,
    /// The [`version`](Position) of the log under which the object was last found
    /// valid; 0 for never. While the log has this version, nothing need be tested.
    pub validated: AtomicU64,
    /// Its body in other codings, on this node; empty until the first hit that asks
    /// whether there may be any, and none when there may not.
    pub coded: OnceLock<Option<Arc<Coded>>>,
    freshness: CompactFreshness,
    fetch_took: Span,
    /// Each hit asks for it, so it is not made from the times anew.
    leaves_memory_at: Timestamp,
    /// What memory counts it as in its namespace while it stands there alone.
    pub(crate) counted: AtomicU32,
    rare: Option<Box<Rare>>,
}

/// What many objects do not have.
#[derive(Debug)]
struct Rare {
    /// Absent where the key says it.
    url: Option<Box<str>>,
    trailers: Option<StoredHeaders>,
    vary: VaryKey,
    memory_until: Option<Timestamp>,
    policy: Option<Arc<str>>,
}

/// How long a fetch of another node lasted.
const ELSEWHERE: Duration = Duration::MAX;

static NO_VARY: LazyLock<VaryKey> = LazyLock::new(VaryKey::default);

/// What an object costs besides its bytes: its own allocation and the `Arc`, and moka's
/// entry with its key, its place in two queues and its share of the hash
/// table. Measured by `tests/footprint.rs`, which fails when it drifts.
pub(crate) const OVERHEAD: usize = size_of::<Object>() + 400;

impl Object {
    /// Puts one together.
    #[must_use]
    pub fn new(parts: ObjectParts) -> Self {
        let end = parts.freshness.retain_until();
        let leaves_memory_at = parts.memory_until.map_or(end, |until| until.min(end));
        let fetch_lasted = match parts.position.at == Timestamp::default() {
            true => ELSEWHERE,
            false => parts.freshness.received.since(parts.position.at),
        };
        let url = Some(parts.url).filter(|url| !is_url_of(&parts.key, url));
        let rare = Rare {
            url,
            trailers: parts.trailers,
            vary: parts.vary,
            memory_until: parts.memory_until,
            policy: parts.policy,
        };
        Self {
            key: parts.key,
            status: parts.status,
            headers: parts.headers,
            body: parts.body,
            tags: parts.tags,
            shared: parts.shared,
            varies_or_trails: rare.vary != *NO_VARY || rare.trailers.is_some(),
            place: [
                parts.position.epoch,
                parts.position.fleet,
                parts.position.node,
            ],
            fetch_lasted: fetch_lasted.into(),
            validated: AtomicU64::new(0),
            coded: OnceLock::new(),
            freshness: parts.freshness.into(),
            fetch_took: parts.fetch_took.into(),
            leaves_memory_at,
            counted: AtomicU32::new(0),
            rare: rare.is_there().then(|| Box::new(rare)),
        }
    }

    /// What it is made of, to make another one of. The bytes of the body and the header
    /// values are shared; the codings of the body are not among it, since the other one
    /// may get fields that forbid them.
    #[must_use]
    pub fn to_parts(&self) -> ObjectParts {
        ObjectParts {
            key: self.key.clone(),
            url: self.url().into(),
            status: self.status,
            headers: self.headers.clone(),
            body: self.body.clone(),
            trailers: self.trailers().cloned(),
            vary: self.vary().clone(),
            tags: self.tags.clone(),
            freshness: self.freshness(),
            fetch_took: self.fetch_took(),
            memory_until: self.memory_until(),
            shared: self.shared,
            position: self.position(),
            policy: self.policy().cloned(),
        }
    }

    /// Its body, for a response. Who reads it is counted with the object, where a hit has just
    /// counted, and not with the body: it is one place less to fetch, and less for many threads to
    /// write to. All of the object stays for as long as it is read.
    pub fn lent_body(self: &Arc<Self>) -> Bytes {
        match self.body.is_empty() {
            true => Bytes::new(),
            false => Bytes::from_owner(Lent(Arc::clone(self), |object| &object.body)),
        }
    }

    /// Its header fields, for a response; counted likewise.
    pub fn lent_headers(self: &Arc<Self>) -> HeaderMap {
        let lent = Lent(Arc::clone(self), |object| object.headers.blob());
        self.headers.map_of(&Bytes::from_owner(lent))
    }

    /// The target URI, absolute and with `http` for both schemes.
    pub fn url(&self) -> Cow<'_, str> {
        match self.rare.as_ref().and_then(|rare| rare.url.as_deref()) {
            Some(url) => Cow::Borrowed(url),
            None => Cow::Owned(url_of(&self.key)),
        }
    }

    /// The trailer fields, if there were any.
    pub fn trailers(&self) -> Option<&StoredHeaders> {
        match self.varies_or_trails {
            true => self.rare.as_ref()?.trailers.as_ref(),
            false => None,
        }
    }

    /// The request header fields that selected this variant.
    pub fn vary(&self) -> &VaryKey {
        self.rare.as_ref().map_or(&NO_VARY, |rare| &rare.vary)
    }

    /// Whether a request with these fields selects this variant.
    pub fn suits(&self, request: &HeaderMap) -> bool {
        !self.varies_or_trails || self.vary().matches(request)
    }

    /// For how long it may be used, and how.
    pub fn freshness(&self) -> Freshness {
        self.freshness.into()
    }

    /// When it arrived from its origin, or was confirmed.
    pub fn received(&self) -> Timestamp {
        self.freshness.received
    }

    /// Gives its position the sequence of this node's own log, which no record has.
    pub(crate) fn set_node_sequence(&mut self, node: u64) {
        self.place[2] = node;
    }

    /// The log position from before its fetch began.
    pub fn position(&self) -> Position {
        let [epoch, fleet, node] = self.place;
        let at = match self.fetch_lasted == ELSEWHERE.into() {
            true => Timestamp::default(),
            false => self.received() - self.fetch_lasted.into(),
        };
        Position {
            epoch,
            fleet,
            node,
            at,
        }
    }

    /// How long its origin took to begin its answer.
    pub fn fetch_took(&self) -> Duration {
        self.fetch_took.into()
    }

    /// When memory lets go of it, if earlier than its life ends.
    pub fn memory_until(&self) -> Option<Timestamp> {
        self.rare.as_ref()?.memory_until
    }

    /// `name@version` of the policy that stored it.
    pub fn policy(&self) -> Option<&Arc<str>> {
        self.rare.as_ref()?.policy.as_ref()
    }

    /// What it costs in memory, in bytes: its contents and a measured overhead.
    /// At most `u32::MAX`, which no tier admits.
    pub fn weight(&self) -> u32 {
        let bytes = OVERHEAD
            + self.key.as_str().len()
            + self.headers.weight()
            + self.body.len()
            + self.tags.weight()
            + self.rare.as_ref().map_or(0, |rare| rare.weight())
            + self.coded().map_or(0, |coded| coded.weight());
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Its body in other codings, if it may be sent in any.
    pub fn coded(&self) -> Option<&Arc<Coded>> {
        self.coded.get()?.as_ref()
    }

    /// When memory lets go of it: the end of its life or of its time in memory.
    pub fn leaves_memory_at(&self) -> Timestamp {
        self.leaves_memory_at
    }
}

/// Bytes of an object that are there for as long as it is.
struct Lent(Arc<Object>, fn(&Object) -> &Bytes);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.1(&self.0)
    }
}

impl From<ObjectParts> for Object {
    fn from(parts: ObjectParts) -> Self {
        Self::new(parts)
    }
}

impl Rare {
    fn is_there(&self) -> bool {
        self.url.is_some()
            || self.trailers.is_some()
            || self.vary.iter().len() > 0
            || self.memory_until.is_some()
            || self.policy.is_some()
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
            + self.url.as_ref().map_or(0, |url| url.len())
            + self.trailers.as_ref().map_or(0, StoredHeaders::weight)
            + self.vary.weight()
    }
}

/// The URL that a key without a policy names, with `http` for both schemes.
fn url_of(key: &Key) -> String {
    let origin = key.origin().unwrap_or_default();
    let authority = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    format!("http://{authority}{}", key.name())
}

/// Whether it is [`url_of`] the key, without making that.
fn is_url_of(key: &Key, url: &str) -> bool {
    let Some((_, authority)) = key.origin().and_then(|origin| origin.split_once("://")) else {
        return false;
    };
    let rest = url.strip_prefix("http://");
    let target = rest.and_then(|rest| rest.strip_prefix(authority));
    key.namespace().is_none() && target == Some(key.name())
}

#[cfg(test)]
mod tests;
