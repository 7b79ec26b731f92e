//! A node around its log: what `host/proxy` and `host/store/src/redis` do with it, without
//! HTTP and without Redis's protocol. Each function says which one it follows.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_semantics::{RequestDirectives, Reuse, Timestamp, reuse};
use weir_store::Object;
use weir_store::log::{Log, Selector, Verdict};

use crate::coverage::Event;
use crate::executor::Spawn;
use crate::fault::Fault;
use crate::fill::{End, Fill};
use crate::ledger::last_of;
use crate::oracle::{From, Serve, When};
use crate::universe::{content_of, universe};
use crate::world::Shared;

/// A node that runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    /// The world.
    pub shared: Shared,
    /// Its place in the world.
    pub at: usize,
    /// Which start of it this is.
    pub incarnation: u64,
    /// Its log: the real one.
    pub log: Log,
    pub(crate) inner: Arc<Mutex<Inner>>,
    pub(crate) spawn: Spawn,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub(crate) memory: HashMap<usize, Arc<Object>>,
    pub(crate) fills: HashMap<usize, Fill>,
    pub(crate) writing: bool,
}

/// How a stored object may be used: `pipeline/assess.rs`.
pub(crate) enum Usable {
    Fresh,
    Stale,
    Confirm,
    Never,
}

impl Node {
    /// A node that has just started.
    pub fn new(shared: Shared, at: usize, incarnation: u64, log: Log, spawn: Spawn) -> Self {
        Self {
            shared,
            at,
            incarnation,
            log,
            inner: Arc::default(),
            spawn,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.world().clock(self.at)
    }

    pub(crate) fn fault(&self, fault: Fault) -> bool {
        self.shared.world().fault == Some(fault)
    }

    pub(crate) fn note(&self, event: Event, object: usize) {
        let at = self.at;
        self.shared
            .world()
            .note(event, || format!("node {at} object {object}"));
    }

    fn serve(&self, content: u64, arrived: When, fresh: bool, from: From) {
        let last = last_of(&self.log);
        let mut world = self.shared.world();
        let Some(content) = world.ledger.contents.get(content as usize).copied() else {
            return;
        };
        world.served(&Serve {
            by: (self.at, self.incarnation),
            last,
            content,
            fresh,
            arrived,
            from,
        });
    }

    pub(crate) fn verdict(&self, object: &Object) -> Verdict {
        if self.fault(Fault::AnyEpoch) {
            let mut other = object.to_parts();
            other.position.epoch = self.log.position().epoch;
            return self.log.verdict(&Object::new(other));
        }
        self.log.verdict(object)
    }

    /// `assess::is_trusted`.
    fn trusted(&self, object: &Object, now: Timestamp) -> bool {
        let fault = self.shared.world().fault;
        let fetch = match fault {
            Some(Fault::TrustedForEver) => return true,
            Some(Fault::TrustedFromResponse) if object.position().at != Timestamp::default() => {
                object.received()
            }
            Some(Fault::ForeignClock) if object.position().at == Timestamp::default() => {
                object.received()
            }
            _ => object.position().at,
        };
        self.log.trusted(now, || fetch)
    }

    /// `assess::usable`.
    pub(crate) fn usable(&self, object: &Object, now: Timestamp) -> Usable {
        let soft = match self.verdict(object) {
            Verdict::Dead => return Usable::Never,
            Verdict::Valid => None,
            Verdict::Soft(since) => Some(since),
        };
        if !self.trusted(object, now) {
            return Usable::Confirm;
        }
        match reuse(
            &RequestDirectives::default(),
            &object.freshness(),
            soft,
            now,
        ) {
            Reuse::Fresh => Usable::Fresh,
            Reuse::StaleWhileRevalidate => Usable::Stale,
            Reuse::Revalidate(_) => Usable::Confirm,
        }
    }

    pub(crate) fn in_memory(&self, key: usize, now: Timestamp) -> Option<Arc<Object>> {
        let object = self.inner.lock().memory.get(&key).cloned()?;
        (now < object.freshness().retain_until()).then_some(object)
    }

    /// `lookup::lookup` and `lookup::fetch`.
    pub async fn request(self, key: usize) {
        let arrived = {
            let mut world = self.shared.world();
            let at = self.at;
            world.note(Event::Request, || format!("node {at} object {key}"));
            world.when()
        };
        let now = self.now();
        let mut base = None;
        if let Some(object) = self.in_memory(key, now) {
            match self.usable(&object, now) {
                Usable::Fresh => {
                    self.note(Event::MemoryHit, key);
                    return self.serve(content_of(&object), arrived, true, From::Memory);
                }
                Usable::Stale => {
                    self.note(Event::MemoryStale, key);
                    self.serve(content_of(&object), arrived, false, From::Memory);
                    if let Ok(fill) = self.join(key) {
                        self.spawn
                            .start(self.at, self.clone().fill(key, fill, Some(object)));
                    }
                    return;
                }
                Usable::Confirm => {
                    if !self.trusted(&object, now) {
                        self.note(Event::MemoryUntrusted, key);
                    }
                    base = Some(object);
                }
                Usable::Never => self.note(Event::MemoryDead, key),
            }
        }
        for _ in 0..4 {
            let (fill, joined) = match self.join(key) {
                Ok(fill) => {
                    self.spawn
                        .start(self.at, self.clone().fill(key, fill.clone(), base.clone()));
                    (fill, false)
                }
                Err(fill) => (fill, true),
            };
            let (head, end) = fill.changed().await;
            let since = fill.0.lock().position;
            // lookup::suits_head and suits_object.
            let suits = match &end {
                Some(End::Complete(object, ..)) if !object.position().is_at(since) => true,
                Some(End::Failed) => true,
                _ => {
                    let subject = &universe().subjects[key];
                    self.fault(Fault::JoinAcrossPurge)
                        || self
                            .log
                            .untouched(&subject.key, subject.url, &subject.tags, since)
                }
            };
            if joined && !suits {
                self.note(Event::HeadRefused, key);
                continue;
            }
            let (content, from, fresh) = match (head, end) {
                (_, Some(End::Complete(object, from, fresh))) => (content_of(&object), from, fresh),
                (Some(content), _) => (content, From::Fetch, true),
                _ => return,
            };
            let from = if joined { From::Joined } else { from };
            return self.serve(content, arrived, fresh, from);
        }
    }

    /// A purge by the admin API.
    pub async fn purge(self, at: usize, selectors: Vec<Selector>, made: Timestamp) {
        let receipt = self.log.invalidate(&selectors, made).await;
        self.shared
            .world()
            .answered(at, receipt.scope, receipt.durable);
    }
}
