//! Writes objects behind the requests that made them.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use ::redis::{Script, cmd, pipe};
use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::client::{Client, Patience};
use super::config::RedisConfig;
use super::error::CallError;
use super::keys::Keys;
use super::lease::Lease;
use super::{chunks, variants};
use crate::log::{Log, Verdict};
use crate::record::{self, Packed};
use crate::{Object, idle};

static PUT_VARIANT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/put_variant.lua")));

/// How many objects go into one step.
const BATCH_OBJECTS: usize = 64;

/// How many bytes go into one step, unless one object has more.
const BATCH_BYTES: usize = 1_024 * 1_024;

/// Longer bodies are compressed on a thread of their own, in bytes.
const INLINE_COMPRESSION: usize = 64 * 1_024;

/// A bounded queue of objects to be written. What does not fit is dropped and counted:
/// the tier is a cache, and the request that made the object does not wait.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
    max_object: usize,
    compress_above: Option<usize>,
    max_objects: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    objects: VecDeque<Queued>,
    bytes: usize,
    /// Objects that were taken out and are being written.
    in_hand: usize,
}

/// An object, and the lease that ends when it is written or dropped.
type Queued = (Arc<Object>, Option<Lease>);

/// An object ready to be written.
struct Ready {
    object: Arc<Object>,
    lease: Option<Lease>,
    record: Bytes,
    /// What stands beside the record, and the name of this writing.
    chunks: Option<(Packed, u64)>,
    ttl_millis: u64,
}

impl Writer {
    pub(super) fn new(config: &RedisConfig) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            max_object: config.max_object,
            compress_above: config.compress_above,
            max_objects: config.queue_objects,
            max_bytes: config.queue_bytes,
        }
    }

    /// Queues an object, unless it is too large, too much, or not to be shared.
    pub(super) fn put(&self, object: Arc<Object>, lease: Option<Lease>, client: &Client) {
        if !object.shared {
            return;
        }
        if object.body.len() > self.max_object {
            client.stats().dropped_large.one();
            return;
        }
        let weight = object.weight() as usize;
        let mut queue = self.queue.lock();
        if queue.objects.len() >= self.max_objects || queue.bytes + weight > self.max_bytes {
            client.stats().dropped_full.one();
            return;
        }
        queue.bytes += weight;
        queue.objects.push_back((object, lease));
        drop(queue);
        self.filled.notify_one();
    }

    /// Waits until everything queued so far has been written or dropped.
    pub(super) async fn drained(&self) {
        idle::until(&self.emptied, || {
            let queue = self.queue.lock();
            queue.objects.is_empty() && queue.in_hand == 0
        })
        .await;
    }

    /// Writes what is queued while Redis answers. Never returns.
    pub(super) async fn run(self: Arc<Self>, client: Client, keys: Keys, log: Log) {
        let mut up = client.watch();
        loop {
            // What waits here meanwhile is bounded. An error means that the client is
            // gone, which this task's own clone rules out.
            if up.wait_for(|up| *up).await.is_err() {
                return;
            }
            let batch = self.take();
            if batch.is_empty() {
                self.emptied.notify_waiters();
                self.filled.notified().await;
                continue;
            }
            self.write(batch, &client, &keys, &log).await;
            self.queue.lock().in_hand = 0;
        }
    }

    fn take(&self) -> Vec<Queued> {
        let mut queue = self.queue.lock();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_OBJECTS && bytes < BATCH_BYTES {
            let Some(queued) = queue.objects.pop_front() else {
                break;
            };
            bytes += queued.0.weight() as usize;
            batch.push(queued);
        }
        queue.bytes = queue.bytes.saturating_sub(bytes);
        queue.in_hand = batch.len();
        batch
    }

    async fn write(&self, batch: Vec<Queued>, client: &Client, keys: &Keys, log: &Log) {
        let mut plain = pipe();
        let mut together = Vec::new();
        for queued in batch {
            let Some(ready) = self.prepare(queued, client, log).await else {
                continue;
            };
            if let Some((body, fill)) = &ready.chunks {
                let written = write_chunked(&ready, (body, *fill), client, keys).await;
                ended(client, [ready.lease], written.is_ok());
            } else if ready.object.vary().is_empty() {
                plain
                    .cmd("SET")
                    .arg(keys.object(ready.object.key.as_str()))
                    .arg(&ready.record[..])
                    .arg("PX")
                    .arg(ready.ttl_millis)
                    .ignore();
                together.push(ready.lease);
            } else {
                let written = write_variant(&ready, client, keys).await;
                ended(client, [ready.lease], written.is_ok());
            }
        }
        if !together.is_empty() {
            let written: Result<(), _> = client.pipeline(&plain, Patience::Background).await;
            ended(client, together, written.is_ok());
        }
    }

    /// An object that is still worth writing.
    async fn prepare(&self, (object, lease): Queued, client: &Client, log: &Log) -> Option<Ready> {
        let left = object.freshness().retain_until().since(client.now());
        let ttl_millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if ttl_millis == 0 || log.verdict(&object) == Verdict::Dead {
            client.stats().dropped_dead.one();
            if let Some(lease) = lease {
                lease.over();
            }
            return None;
        }
        let body = self.pack(&object).await;
        let fill = body.wants_chunks().then(|| fastrand::u64(..));
        let (record, beside) = match fill {
            Some(fill) => {
                let record = record::encode_beside_chunks(&object, &body, fill);
                (record, body.bytes().len())
            }
            None => (record::encode_packed(&object, &body), 0),
        };
        if record.len() + beside > self.max_object {
            client.stats().dropped_large.one();
            return None;
        }
        // Redis adds it to its own clock, and refuses a sum that does not fit.
        Some(Ready {
            object,
            lease,
            record,
            chunks: fill.map(|fill| (body, fill)),
            ttl_millis: ttl_millis.min(1 << 52),
        })
    }

    async fn pack(&self, object: &Arc<Object>) -> Packed {
        let worth_it = self
            .compress_above
            .is_some_and(|above| object.body.len() >= above)
            && object.headers.get(&CONTENT_ENCODING).is_none();
        if !worth_it {
            return Packed::plain(&object.body);
        }
        if object.body.len() <= INLINE_COMPRESSION {
            return Packed::compressed(&object.body);
        }
        let body = object.body.clone();
        let compressed = tokio::task::spawn_blocking(move || Packed::compressed(&body)).await;
        compressed.unwrap_or_else(|_| Packed::plain(&object.body))
    }
}

/// The chunks first, the record last: what is half written is found by nobody.
async fn write_chunked(
    ready: &Ready,
    chunks: (&Packed, u64),
    client: &Client,
    keys: &Keys,
) -> Result<(), CallError> {
    let key = ready.object.key.as_str();
    chunks::write(client, keys, key, chunks, ready.ttl_millis).await?;
    let name = match ready.object.vary().is_empty() {
        true => keys.object(key),
        false => keys.variant(key, variants::hash(ready.object.vary())),
    };
    let replaced = chunks::replaced(client, &name).await;
    if ready.object.vary().is_empty() {
        let mut set = cmd("SET");
        set.arg(&name).arg(&ready.record[..]);
        set.arg("PX").arg(ready.ttl_millis);
        let () = client.command(&set, Patience::Background).await?;
    } else {
        write_variant(ready, client, keys).await?;
    }
    if let Some(replaced) = replaced {
        chunks::let_go(client, keys, key, replaced).await;
    }
    Ok(())
}

async fn write_variant(ready: &Ready, client: &Client, keys: &Keys) -> Result<(), CallError> {
    let key = ready.object.key.as_str();
    let mut call = PUT_VARIANT.prepare_invoke();
    call.key(keys.object(key))
        .key(keys.variant(key, variants::hash(ready.object.vary())))
        .arg(variants::line(ready.object.vary()))
        .arg(&ready.record[..])
        .arg(ready.ttl_millis)
        .arg(variants::MAX_SETS);
    let _: u64 = client.script(&call, Patience::Background).await?;
    Ok(())
}

/// Counts objects that were written, or were not, and ends their leases.
fn ended(client: &Client, leases: impl IntoIterator<Item = Option<Lease>>, written: bool) {
    for lease in leases {
        if written {
            client.stats().written.one();
            if let Some(lease) = lease {
                lease.over();
            }
        } else {
            client.stats().dropped_failed.one();
        }
    }
}
