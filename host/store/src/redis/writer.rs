//! Writes objects behind the requests that made them.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};

use ::redis::{Script, pipe};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::client::{Client, Patience};
use super::config::RedisConfig;
use super::keys::Keys;
use super::variants;
use crate::log::{Log, Verdict};
use crate::{Object, record};

static PUT_VARIANT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/put_variant.lua")));

/// How many objects go into one step.
const BATCH_OBJECTS: usize = 64;

/// How many bytes go into one step, unless one object has more.
const BATCH_BYTES: usize = 1_024 * 1_024;

/// A bounded queue of objects to be written. What does not fit is dropped and counted:
/// the tier is a cache, and the request that made the object does not wait.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Mutex<Queue>,
    filled: Notify,
    emptied: Notify,
    max_object: usize,
    max_objects: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Queue {
    objects: VecDeque<Arc<Object>>,
    bytes: usize,
    /// Objects that were taken out and are being written.
    in_hand: usize,
}

/// An object ready to be written.
struct Ready {
    object: Arc<Object>,
    record: Bytes,
    ttl_millis: u64,
}

impl Writer {
    pub(super) fn new(config: &RedisConfig) -> Self {
        Self {
            queue: Mutex::default(),
            filled: Notify::new(),
            emptied: Notify::new(),
            max_object: config.max_object,
            max_objects: config.queue_objects,
            max_bytes: config.queue_bytes,
        }
    }

    /// Queues an object, unless it is too large, too much, or not to be shared.
    pub(super) fn put(&self, object: Arc<Object>, client: &Client) {
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
        queue.objects.push_back(object);
        drop(queue);
        self.filled.notify_one();
    }

    /// Waits until everything queued so far has been written or dropped.
    pub(super) async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            {
                let queue = self.queue.lock();
                if queue.objects.is_empty() && queue.in_hand == 0 {
                    return;
                }
            }
            emptied.await;
        }
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

    fn take(&self) -> Vec<Arc<Object>> {
        let mut queue = self.queue.lock();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_OBJECTS && bytes < BATCH_BYTES {
            let Some(object) = queue.objects.pop_front() else {
                break;
            };
            bytes += object.weight() as usize;
            batch.push(object);
        }
        queue.bytes = queue.bytes.saturating_sub(bytes);
        queue.in_hand = batch.len();
        batch
    }

    async fn write(&self, batch: Vec<Arc<Object>>, client: &Client, keys: &Keys, log: &Log) {
        let mut plain = pipe();
        let mut plain_count = 0;
        for object in batch {
            let Some(ready) = self.prepare(object, client, log) else {
                continue;
            };
            if ready.object.vary.is_empty() {
                plain
                    .cmd("SET")
                    .arg(keys.object(ready.object.key.as_str()))
                    .arg(&ready.record[..])
                    .arg("PX")
                    .arg(ready.ttl_millis)
                    .ignore();
                plain_count += 1;
            } else {
                write_variant(&ready, client, keys).await;
            }
        }
        if plain_count > 0 {
            let written: Result<(), _> = client.pipeline(&plain, Patience::Background).await;
            count(client, plain_count, written.is_ok());
        }
    }

    /// The record of an object that is still worth writing.
    fn prepare(&self, object: Arc<Object>, client: &Client, log: &Log) -> Option<Ready> {
        let left = object.freshness.retain_until().since(client.now());
        let ttl_millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        if ttl_millis == 0 || log.verdict(&object) == Verdict::Dead {
            client.stats().dropped_dead.one();
            return None;
        }
        let record = record::encode(&object);
        if record.len() > self.max_object {
            client.stats().dropped_large.one();
            return None;
        }
        // Redis adds it to its own clock, and refuses a sum that does not fit.
        Some(Ready {
            object,
            record,
            ttl_millis: ttl_millis.min(1 << 52),
        })
    }
}

async fn write_variant(ready: &Ready, client: &Client, keys: &Keys) {
    let key = ready.object.key.as_str();
    let mut call = PUT_VARIANT.prepare_invoke();
    call.key(keys.object(key))
        .key(keys.variant(key, variants::hash(&ready.object.vary)))
        .arg(variants::line(&ready.object.vary))
        .arg(&ready.record[..])
        .arg(ready.ttl_millis)
        .arg(variants::MAX_SETS);
    let written: Result<u64, _> = client.script(&call, Patience::Background).await;
    count(client, 1, written.is_ok());
}

fn count(client: &Client, objects: u64, written: bool) {
    if written {
        client.stats().written.add(objects);
    } else {
        client.stats().dropped_failed.add(objects);
    }
}
