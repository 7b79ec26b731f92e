//! Lookups: found, judged by the log, and handed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::config::{DiskConfig, ReadError};
use super::queue::Order;
use super::segments::{Segments, Stored};
use super::value::{self, Value};
use super::{DiskTier, Shared};
use crate::log::Verdict;
use crate::record::{self, RecordError};
use crate::{Key, Object, variants};

/// After so many late lookups in a row the disk is left alone for a while.
const LATE: u32 = 5;

/// For how long.
const REST: Duration = Duration::from_secs(1);

/// Whether the disk answers in time.
#[derive(Debug)]
pub(super) struct Health {
    /// One for each lookup that may read: no more threads than that hang on a sick disk.
    pub(super) readers: Arc<Semaphore>,
    late: AtomicU32,
    rests_until: Mutex<Option<Instant>>,
}

/// What stands under a name.
pub(super) enum Found {
    Nothing,
    /// And whether it is about to be driven out.
    Object(Box<Object>, bool),
    Index(Bytes),
    /// It has ended or was purged.
    Ended,
    /// It cannot be read.
    Corrupt,
}

impl Found {
    pub(super) fn is_useless(&self) -> bool {
        matches!(self, Self::Ended | Self::Corrupt)
    }
}

impl Health {
    pub(super) fn new(config: &DiskConfig) -> Self {
        Self {
            readers: Arc::new(Semaphore::new(config.readers)),
            late: AtomicU32::new(0),
            rests_until: Mutex::new(None),
        }
    }

    fn rests(&self) -> bool {
        // Asked only while lookups are late.
        self.late.load(Ordering::Relaxed) >= LATE
            && self
                .rests_until
                .lock()
                .is_some_and(|until| Instant::now() < until)
    }

    fn note(&self, in_time: bool) {
        if in_time {
            self.late.store(0, Ordering::Relaxed);
        } else if self.late.fetch_add(1, Ordering::Relaxed) + 1 >= LATE {
            *self.rests_until.lock() = Some(Instant::now() + REST);
        }
    }
}

impl DiskTier {
    pub(super) async fn look_up(
        &self,
        key: &str,
        request: &HeaderMap,
    ) -> Result<Option<Arc<Object>>, ReadError> {
        let end = Instant::now() + self.shared.config.deadline;
        let base = key.as_bytes().to_vec();
        let (index, name) = match self.read(key, vec![base], end).await?.pop() {
            Some((Found::Object(object, old), _)) => {
                return Ok(self.suits(object, old, request));
            }
            Some((Found::Index(index), name)) => (index, name),
            _ => return Ok(None),
        };
        let Some(selected) = variants::candidates(&index, request) else {
            self.shared.forget(key, name, true);
            return Ok(None);
        };
        let names = selected
            .iter()
            .map(|vary| value::variant(key, variants::hash(vary)))
            .collect();
        let found = self.read(key, names, end).await?;
        Ok(found.into_iter().find_map(|(found, _)| match found {
            Found::Object(object, old) => self.suits(object, old, request),
            _ => None,
        }))
    }

    /// The object, if it answers this request. RFC 9111 section 4.1.
    fn suits(&self, object: Box<Object>, old: bool, request: &HeaderMap) -> Option<Arc<Object>> {
        if !object.vary().matches(request) {
            return None;
        }
        let object: Arc<Object> = Arc::from(object);
        if old {
            // Being in use, it stays. If there is no room in the queue, the next hit tries.
            self.shared.queue.push(Order::Renew(Arc::clone(&object)));
        }
        Some(object)
    }

    /// Reads names, each of them of `key`, on a thread that may block.
    async fn read(
        &self,
        key: &str,
        names: Vec<Vec<u8>>,
        end: Instant,
    ) -> Result<Vec<(Found, Vec<u8>)>, ReadError> {
        let Some(segments) = self.shared.segments.read().clone() else {
            return Err(ReadError::Opening);
        };
        if self.health.rests() {
            return Err(ReadError::Sick);
        }
        let late = || {
            self.health.note(false);
            ReadError::Deadline(self.shared.config.deadline)
        };
        let readers = Arc::clone(&self.health.readers);
        let Ok(permit) = timeout_at(end, readers.acquire_owned()).await else {
            return Err(late());
        };
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        let reading = tokio::task::spawn_blocking(move || {
            let found = shared.read(&segments, &key, names);
            drop((segments, permit));
            found
        });
        match timeout_at(end, reading).await {
            Ok(read) => {
                self.health.note(true);
                read.map_err(|_| ReadError::Failed("the thread that read has died".into()))
            }
            Err(_) => Err(late()),
        }
    }
}

impl Shared {
    /// Reads and judges; what is of no use is to be deleted.
    fn read(&self, segments: &Segments, key: &str, names: Vec<Vec<u8>>) -> Vec<(Found, Vec<u8>)> {
        let read = |name: Vec<u8>| {
            let found = match segments.get(&name) {
                Ok(None) => Found::Nothing,
                Ok(Some(stored)) => self.judge(key, &name, &stored),
                Err(error) => {
                    tracing::warn!(%error, key, "an object on disk cannot be read; deleted");
                    Found::Corrupt
                }
            };
            if found.is_useless() {
                self.forget(key, name.clone(), matches!(found, Found::Corrupt));
            }
            (found, name)
        };
        names.into_iter().map(read).collect()
    }

    /// What a value is worth now.
    pub(super) fn judge(&self, key: &str, name: &[u8], stored: &Stored) -> Found {
        let Some(value) = Value::decode(name, &stored.value) else {
            tracing::warn!(key, "an object on disk is damaged; deleted");
            return Found::Corrupt;
        };
        if value.ends <= self.clock.now() {
            return Found::Ended;
        }
        if value.is_index() {
            return Found::Index(value.body);
        }
        match record::decode(&value.body, key) {
            Ok(mut object) => {
                object.set_node_sequence(value.node);
                match self.log.verdict(&object) {
                    Verdict::Dead => Found::Ended,
                    _ => Found::Object(Box::new(object), stored.old),
                }
            }
            // Of a newer Weir, before it was taken back.
            Err(RecordError::Version(_)) => Found::Ended,
            Err(error) => {
                tracing::warn!(?error, key, "an object on disk is damaged; deleted");
                Found::Corrupt
            }
        }
    }

    /// Has the thread that writes delete what is under a name. If it has too much to do,
    /// the next lookup tries again.
    fn forget(&self, key: &str, name: Vec<u8>, corrupt: bool) {
        if corrupt {
            self.stats.corrupt.one();
        }
        if let Ok(key) = Key::parse(key) {
            self.queue.push(Order::Forget { key, name });
        }
    }
}
