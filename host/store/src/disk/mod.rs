//! The disk: the tier of a node that is alone, whose objects outlive its process.
//!
//! One thread writes; lookups read on threads made for what blocks, each with a deadline.
//! Objects are [records](crate::record), with the node sequence of their position beside
//! them: the node's log is on disk as well
//! ([`Log::durable`](crate::log::Log::durable)), so that what was purged stays so.
//!
//! - [`segments`]: values by name, and how the oldest make room for the newest.
//! - [`value`]: what stands under a name.
//! - [`worker`]: the thread that writes, and begins anew when the files are of no use.
//! - [`tier`][]: lookups.
//! - [`inspect`]: what a person may look at.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::RwLock;
use tokio::sync::watch;

mod config;
mod folder;
mod inspect;
mod queue;
mod segments;
mod stats;
mod tier;
mod value;
mod worker;

pub use config::{DiskConfig, DiskError, ReadError};
pub use stats::{DiskState, DiskStats, DiskUse};

use crate::log::Log;
use crate::{Clock, Object};
use folder::Folder;
use queue::{Order, Queue};
use segments::Segments;
use tier::Health;
use worker::Worker;

/// The disk tier of a node. Dropping it lets what waits be written, and returns before
/// that; [`DiskTier::close`] waits.
#[derive(Debug)]
pub struct DiskTier {
    shared: Arc<Shared>,
    health: Health,
    ended: watch::Receiver<()>,
}

/// What lookups and the thread that writes have in common.
#[derive(Debug)]
struct Shared {
    config: DiskConfig,
    queue: Queue,
    stats: DiskStats,
    log: Log,
    clock: Clock,
    /// Absent while they are being opened.
    segments: RwLock<Option<Arc<Segments>>>,
    /// Whether they have been opened once.
    opened: watch::Sender<bool>,
}

impl Shared {
    fn set(&self, segments: Option<Arc<Segments>>) {
        let opened = segments.is_some();
        *self.segments.write() = segments;
        if opened {
            self.opened.send_replace(true);
        }
    }
}

impl DiskTier {
    /// Makes and locks the folder, and begins to open the files in it. What is damaged is
    /// deleted, with a word in the log, and begun anew.
    ///
    /// `log` should be a [`Log::durable`]: with another one, every object of an earlier
    /// process is dead.
    ///
    /// # Errors
    /// [`DiskError`]: another process has it, or it can be neither made nor written.
    pub fn open(config: &DiskConfig, log: Log, clock: Clock) -> Result<Self, DiskError> {
        let folder = Folder::open(&config.path)?;
        let shared = Arc::new(Shared {
            config: config.clone(),
            queue: Queue::new(config),
            stats: DiskStats::default(),
            log,
            clock,
            segments: RwLock::new(None),
            opened: watch::Sender::new(false),
        });
        let worker = Worker {
            folder,
            shared: Arc::clone(&shared),
        };
        let (ends, ended) = watch::channel(());
        let thread = std::thread::Builder::new().name("weir-disk".into());
        thread
            .spawn(move || {
                worker.run();
                drop(ends);
            })
            .map_err(|source| DiskError::Io {
                path: config.path.clone(),
                doing: "written, for want of a thread",
                source,
            })?;
        Ok(Self {
            health: Health::new(config),
            shared,
            ended,
        })
    }

    /// Waits until the files have been opened, at most `within`. Says whether they have
    /// been; until then every lookup is a miss.
    pub async fn opened(&self, within: Duration) -> bool {
        let mut opened = self.shared.opened.subscribe();
        tokio::time::timeout(within, opened.wait_for(|opened| *opened))
            .await
            .is_ok_and(|waited| waited.is_ok())
    }

    /// The object under this key ([`Key::as_str`](crate::Key::as_str)) that suits the
    /// request, if it has not been purged. Whether it is fresh, or was soft-purged, is
    /// the caller's to test. Takes at most [`DiskConfig::deadline`].
    ///
    /// # Errors
    /// [`ReadError`]: treat it as a miss.
    pub async fn get(
        &self,
        key: &str,
        request: &HeaderMap,
    ) -> Result<Option<Arc<Object>>, ReadError> {
        let result = self.look_up(key, request).await;
        let stats = self.stats();
        match &result {
            Ok(Some(_)) => stats.hits.one(),
            Ok(None) => stats.misses.one(),
            Err(ReadError::Opening | ReadError::Sick) => stats.skipped.one(),
            Err(ReadError::Deadline(_)) => stats.timeouts.one(),
            Err(ReadError::Failed(_)) => stats.failed_reads.one(),
        }
        result
    }

    /// Queues an object to be written. Drops it, and counts that, when it is too large or
    /// the queue full. An object that is not [`shared`](Object::shared) is left out.
    pub fn put(&self, object: Arc<Object>) {
        if !object.shared {
            return;
        }
        if object.body.len() > self.shared.config.max_object {
            self.stats().dropped_large.one();
            return;
        }
        if !self.shared.queue.push(Order::Put(object)) {
            self.stats().dropped_full.one();
        }
    }

    /// Waits until everything queued so far has been written or dropped, at most `within`.
    /// Says whether it has been.
    pub async fn drained(&self, within: Duration) -> bool {
        tokio::time::timeout(within, self.shared.queue.drained())
            .await
            .is_ok()
    }

    /// Writes what waits, has the system put all of it on disk, and lets go of the folder;
    /// at most `within`. Says whether it has done so.
    pub async fn close(&self, within: Duration) -> bool {
        self.shared.queue.close();
        let mut ended = self.ended.clone();
        // The sender is never used: its end is the sign.
        tokio::time::timeout(within, ended.changed()).await.is_ok()
    }

    /// Whether it can be used.
    pub fn state(&self) -> DiskState {
        match &*self.shared.segments.read() {
            None => DiskState::Opening,
            Some(segments) if segments.is_cramped() => DiskState::Full,
            Some(_) => DiskState::Up,
        }
    }

    /// Its counters.
    pub fn stats(&self) -> &DiskStats {
        &self.shared.stats
    }

    /// What it holds; nothing while it is being opened.
    pub fn space(&self) -> DiskUse {
        let segments = self.shared.segments.read().clone();
        segments.map(|it| it.space()).unwrap_or_default()
    }
}

impl Drop for DiskTier {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

#[cfg(test)]
mod tests;
