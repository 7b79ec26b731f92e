//! What the tiers hold under one key, valid or not: for a person who asks.

use std::collections::BTreeMap;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use serde::Serialize;
use weir_semantics::{Coding, Timestamp, VaryKey};
use weir_store::disk::DiskTier;
use weir_store::log::{Cause, Verdict};
use weir_store::redis::{Redis, RedisState};
use weir_store::{Inspected, InspectedRecord, Key, Object, Position, SecondTier};

use super::explain::SECRET;
use crate::node::Node;

/// What stands under one key.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The full key.
    pub key: String,
    /// The policy's namespace; absent without a policy.
    pub namespace: Option<String>,
    /// Where the log stands.
    pub log: LogPosition,
    /// Each tier, the nearest first.
    pub tiers: Vec<TierInspection>,
}

/// A place in the invalidation log.
#[derive(Debug, Serialize)]
pub struct LogPosition {
    /// The fleet's log, as 16 hexadecimal digits.
    pub epoch: String,
    /// The fleet's sequence.
    pub sequence: u64,
    /// The node's own sequence.
    pub node_sequence: u64,
}

/// What one tier holds.
#[derive(Debug, Default, Serialize)]
pub struct TierInspection {
    /// `memory`, `redis` or `disk`.
    pub tier: &'static str,
    /// Why the tier cannot be read; absent when it was.
    pub error: Option<String>,
    /// The object, or its variants, newest first.
    pub objects: Vec<StoredObject>,
    /// Records that are no objects, each with the reason.
    pub unreadable: Vec<Unreadable>,
    /// Parts of representations that it holds.
    pub parts: usize,
    /// The request fields that select variants. Redis, unlike the disk, cannot list the
    /// variants themselves: only those are shown that the request selects, or that memory
    /// holds.
    pub selected_by: Vec<String>,
}

/// A record that does not decode.
#[derive(Debug, Serialize)]
pub struct Unreadable {
    /// Its name in the tier.
    pub name: String,
    /// Its length in bytes.
    pub bytes: usize,
    /// Why it is no object.
    pub error: String,
}

/// A stored object, with all that decides whether it is served. Times are in seconds.
#[derive(Debug, Serialize)]
pub struct StoredObject {
    /// `fresh`, `stale-while-revalidate`, `stale-if-error`, `to-confirm` (by the origin,
    /// before it is served) or `purged`.
    pub state: &'static str,
    /// What purged it, hard or soft.
    pub purged_by: Vec<PurgedBy>,
    /// Its status code.
    pub status: u16,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Bytes of its header fields, about.
    pub header_bytes: usize,
    /// Its Content-Encoding.
    pub coding: Option<String>,
    /// Bytes of the codings that the node made of it.
    pub coded: BTreeMap<&'static str, usize>,
    /// The request fields that select this variant, normalised.
    pub vary: Vec<Selecting>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its target URI, an implicit tag; `http` stands for both schemes.
    pub url: String,
    /// `name@version` of the policy that stored it.
    pub policy: Option<String>,
    /// Where the log stood before it was fetched.
    pub position: LogPosition,
    /// Its age.
    pub age: f64,
    /// What is left of its lifetime; negative once it is over.
    pub remaining: f64,
    /// After its lifetime it may be served so long while it is revalidated.
    pub stale_while_revalidate: f64,
    /// After its lifetime it may stand in for a failed origin so long.
    pub stale_if_error: f64,
    /// Until memory lets go of it; absent elsewhere.
    pub memory_remaining: Option<f64>,
    /// Until the tier lets go of it by itself; absent in memory.
    pub ttl: Option<f64>,
    /// Bytes of its record; absent in memory.
    pub record_bytes: Option<usize>,
    /// The chunks of a body that is not in the record; absent for any other.
    pub chunks: Option<StoredChunks>,
    /// Its name in the tier; absent in memory.
    pub name: Option<String>,
    /// Whether it may go to the tier behind memory.
    pub shared: bool,
}

/// A body in pieces beside its record.
#[derive(Debug, Serialize)]
pub struct StoredChunks {
    /// How many there are to be.
    pub count: u64,
    /// How many there are; with one missing the object is not served from the tier.
    pub there: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// A purge that concerns an object.
#[derive(Debug, Serialize)]
pub struct PurgedBy {
    /// `key`, `url`, `tag`, `namespace`, `prefix`, `all`; `forgotten` for a counter that
    /// was dropped for lack of room; `epoch` for an object of a log that is gone.
    pub named: &'static str,
    /// Its sequence.
    pub sequence: u64,
    /// Whose sequence: `fleet` or `node`.
    pub log: &'static str,
    /// Whether the stale windows still count.
    pub soft: bool,
}

/// A request field that selects a variant.
#[derive(Debug, Serialize)]
pub struct Selecting {
    /// Its name.
    pub field: String,
    /// Its normalised value; absent when the request had none. Secrets are `(redacted)`.
    pub value: Option<String>,
}

impl Node {
    /// What the tiers hold under a key, purged objects too. `request` selects the
    /// variants that are looked for in Redis, beside those in memory. Changes nothing.
    pub async fn inspect(&self, key: &Key, request: &HeaderMap) -> Inspection {
        let now = self.clock.now();
        let in_memory = self.memory.variants(key.as_str(), now);
        let memory = TierInspection {
            tier: "memory",
            objects: in_memory
                .iter()
                .map(|object| StoredObject {
                    memory_remaining: Some(left(object.leaves_memory_at(), now)),
                    ..self.shown(object, now)
                })
                .collect(),
            parts: self.memory.parts_of(key.as_str()).len(),
            ..TierInspection::default()
        };
        let mut tiers = vec![memory];
        if let Some(second) = &self.second {
            let found = match second {
                SecondTier::Redis(redis) => {
                    let known: Vec<_> = in_memory.iter().map(|it| it.vary().clone()).collect();
                    in_redis(redis, key, request, &known).await
                }
                SecondTier::Disk(disk) => on_disk(disk, key).await,
            };
            tiers.push(self.second_tier(second.name(), found, now));
        }
        Inspection {
            key: key.to_string(),
            namespace: key.namespace().map(str::to_owned),
            log: log_position(self.log.position()),
            tiers,
        }
    }

    fn second_tier(
        &self,
        name: &'static str,
        found: Result<Inspected, String>,
        now: Timestamp,
    ) -> TierInspection {
        let mut tier = TierInspection {
            tier: name,
            ..TierInspection::default()
        };
        match found {
            Err(error) => tier.error = Some(error),
            Ok(found) => {
                tier.selected_by = found.selected_by;
                if found.damaged_index {
                    tier.error = Some("the list of its variants is damaged".to_owned());
                }
                for record in found.records {
                    self.show_record(&mut tier, record, now);
                }
            }
        }
        tier
    }

    fn show_record(&self, tier: &mut TierInspection, record: InspectedRecord, now: Timestamp) {
        match record.object {
            Ok(object) => {
                let shown = self.shown(&object, now);
                let body = record.chunks.map(|chunks| chunks.told.body_length());
                tier.objects.push(StoredObject {
                    body_bytes: body.unwrap_or(shown.body_bytes),
                    ttl: record.ttl.map(|ttl| ttl.as_secs_f64()),
                    record_bytes: Some(record.bytes),
                    chunks: record.chunks.map(|chunks| StoredChunks {
                        count: chunks.told.count(),
                        there: chunks.there,
                        bytes: chunks.told.length(),
                    }),
                    name: Some(record.name),
                    ..shown
                });
            }
            Err(error) => tier.unreadable.push(Unreadable {
                name: record.name,
                bytes: record.bytes,
                error: error.to_string(),
            }),
        }
    }

    fn shown(&self, object: &Object, now: Timestamp) -> StoredObject {
        let verdict = self.log.verdict(object);
        let freshness = &object.freshness();
        let coding = object.headers.get(&CONTENT_ENCODING);
        StoredObject {
            state: state(object, verdict, now),
            purged_by: self.log.causes(object).iter().map(purged_by).collect(),
            status: object.status.as_u16(),
            body_bytes: object.body.len() as u64,
            header_bytes: object.headers.weight(),
            coding: coding.map(|coding| String::from_utf8_lossy(coding).into_owned()),
            coded: object.coded().map_or_else(BTreeMap::new, |coded| {
                let form = |coding: &Coding| Some((coding.token(), coded.form(*coding)?.len()));
                Coding::ALL.iter().filter_map(form).collect()
            }),
            vary: object.vary().iter().map(selecting).collect(),
            tags: object.tags.iter().map(str::to_owned).collect(),
            url: object.url().to_string(),
            policy: object.policy().map(ToString::to_string),
            position: log_position(object.position()),
            age: freshness.age(now).as_secs_f64(),
            remaining: left(freshness.expires(), now),
            stale_while_revalidate: freshness.stale_while_revalidate.as_secs_f64(),
            stale_if_error: freshness.stale_if_error.as_secs_f64(),
            memory_remaining: None,
            ttl: None,
            record_bytes: None,
            chunks: None,
            name: None,
            shared: object.shared,
        }
    }
}

async fn in_redis(
    redis: &Redis,
    key: &Key,
    request: &HeaderMap,
    known: &[VaryKey],
) -> Result<Inspected, String> {
    let found = redis
        .inspect(key.as_str(), std::slice::from_ref(request), known)
        .await;
    found.map_err(|error| match redis.state() {
        RedisState::Down { reason, .. } => format!("down: {reason}"),
        _ => error.to_string(),
    })
}

async fn on_disk(disk: &DiskTier, key: &Key) -> Result<Inspected, String> {
    let found = disk.inspect(key.as_str()).await;
    found.map_err(|error| error.to_string())
}

/// How an ordinary request would find it. What a client or a route asks for besides is not
/// known here.
fn state(object: &Object, verdict: Verdict, now: Timestamp) -> &'static str {
    let freshness = &object.freshness();
    let end = match verdict {
        Verdict::Dead => return "purged",
        Verdict::Soft(at) => at.min(freshness.expires()),
        Verdict::Valid => freshness.expires(),
    };
    let stale = now.since(end);
    let within = |window: Duration| stale < window;
    if freshness.no_cache {
        "to-confirm"
    } else if now < end {
        "fresh"
    } else if within(freshness.stale_while_revalidate) {
        "stale-while-revalidate"
    } else if within(freshness.stale_if_error) {
        "stale-if-error"
    } else {
        "to-confirm"
    }
}

fn purged_by(cause: &Cause) -> PurgedBy {
    PurgedBy {
        named: cause.named,
        sequence: cause.sequence,
        log: if cause.of_node { "node" } else { "fleet" },
        soft: cause.soft,
    }
}

fn selecting((name, value): (&http::HeaderName, Option<&[u8]>)) -> Selecting {
    let secret = SECRET.contains(&name.as_str());
    Selecting {
        field: name.to_string(),
        value: value.map(|value| match secret {
            true => "(redacted)".to_owned(),
            false => String::from_utf8_lossy(value).into_owned(),
        }),
    }
}

fn log_position(position: Position) -> LogPosition {
    LogPosition {
        epoch: format!("{:016x}", position.epoch),
        sequence: position.fleet,
        node_sequence: position.node,
    }
}

/// Seconds from `now` to `then`; negative when it is over.
fn left(then: Timestamp, now: Timestamp) -> f64 {
    then.since(now).as_secs_f64() - now.since(then).as_secs_f64()
}
