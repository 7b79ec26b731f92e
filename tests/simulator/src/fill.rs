//! Fills of a node: begun, joined, fetched, kept.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use weir_store::log::Verdict;
use weir_store::{Object, Position};

use crate::calls::Call;
use crate::coverage::Event;
use crate::fault::Fault;
use crate::ledger::last_of;
use crate::node::{Node, Usable};
use crate::oracle::{Content, From};
use crate::universe::{content_of, object, universe};

#[derive(Clone, Debug)]
pub(crate) struct Fill(pub(crate) Arc<Mutex<State>>);

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) position: Position,
    /// The last entry of the log at that position.
    entry: u64,
    /// The head is there, and with it all tags.
    head: Option<u64>,
    end: Option<End>,
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Clone, Debug)]
pub(crate) enum End {
    /// Whether it is fresh, and not one to be served stale.
    Complete(Arc<Object>, From, bool),
    Failed,
}

impl Fill {
    pub(crate) async fn changed(&self) -> (Option<u64>, Option<End>) {
        loop {
            let changed = {
                let mut state = self.0.lock();
                if state.head.is_some() || state.end.is_some() {
                    return (state.head, state.end.clone());
                }
                let (waiting, changed) = oneshot::channel();
                state.waiting.push(waiting);
                changed
            };
            if changed.await.is_err() {
                return (None, Some(End::Failed));
            }
        }
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock();
        change(&mut state);
        for waiting in state.waiting.drain(..) {
            let _ = waiting.send(());
        }
    }
}

impl Node {
    /// `lookup::join`. `Ok`: a fill that the caller has to carry out.
    pub(crate) fn join(&self, key: usize) -> Result<Fill, Fill> {
        let now = self.now();
        let (position, entry) = (self.log.began(now), last_of(&self.log));
        let subject = &universe().subjects[key];
        let running = self.inner.lock().fills.get(&key).cloned();
        if let Some(fill) = running {
            let (since, head) = {
                let state = fill.0.lock();
                (state.position, state.head)
            };
            let tags = if head.is_some() {
                &subject.tags
            } else {
                &subject.early
            };
            let joinable = (self.log.trusted(now, || since.at)
                || self.fault(Fault::JoinOldFill)
                || self.fault(Fault::TrustedForEver))
                && (self.fault(Fault::JoinAcrossPurge)
                    || self.log.untouched(&subject.key, subject.url, tags, since));
            if joinable {
                self.note(Event::Joined, key);
                return Err(fill);
            }
            self.note(Event::JoinRefused, key);
        }
        let fill = Fill(Arc::new(Mutex::new(State {
            position,
            entry,
            head: None,
            end: None,
            waiting: Vec::new(),
        })));
        self.inner.lock().fills.insert(key, fill.clone());
        Ok(fill)
    }

    /// `pipeline/fill.rs`.
    pub(crate) async fn fill(self, key: usize, fill: Fill, base: Option<Arc<Object>>) {
        let end = self.filled(key, &fill, base).await;
        {
            let mut inner = self.inner.lock();
            if inner
                .fills
                .get(&key)
                .is_some_and(|it| Arc::ptr_eq(&it.0, &fill.0))
            {
                inner.fills.remove(&key);
            }
        }
        fill.tell(|state| state.end = Some(end));
    }

    async fn filled(&self, key: usize, fill: &Fill, mut base: Option<Arc<Object>>) -> End {
        let now = self.now();
        let is_newer = |object: &Object, base: &Option<Arc<Object>>| {
            base.as_ref()
                .is_none_or(|base| base.received() < object.received())
        };
        if let Some(object) = self.in_memory(key, now)
            && is_newer(&object, &base)
            && matches!(self.usable(&object, now), Usable::Fresh)
        {
            return End::Complete(object, From::Memory, true);
        }
        if let Some(object) = self.in_redis(key).await
            && is_newer(&object, &base)
        {
            let usable = self.usable(&object, self.now());
            if !matches!(usable, Usable::Never) {
                self.inner.lock().memory.insert(key, Arc::clone(&object));
            }
            match usable {
                Usable::Fresh | Usable::Stale => {
                    self.note(Event::RedisHit, key);
                    return End::Complete(object, From::Redis, matches!(usable, Usable::Fresh));
                }
                Usable::Confirm => base = Some(object),
                Usable::Never => {}
            }
        }
        if base
            .as_ref()
            .is_some_and(|base| self.verdict(base) == Verdict::Dead)
        {
            self.note(Event::BaseDead, key);
            base = None;
        }
        self.fetched(key, fill, base).await
    }

    async fn fetched(&self, key: usize, fill: &Fill, base: Option<Arc<Object>>) -> End {
        let began = self.shared.world().when().step;
        let head = match base {
            Some(_) => Call::Confirm(key),
            None => Call::Head(key),
        };
        if self.shared.call(self.at, head).await.is_none() {
            return End::Failed;
        }
        let received = self.now();
        let (position, entry) = {
            let state = fill.0.lock();
            (state.position, state.entry)
        };
        // An origin that confirms whatever it is asked about: what a hard purge is for.
        let confirmed = base.filter(|_| self.shared.world().rng.bool());
        let body = match &confirmed {
            Some(base) => self.body_of(content_of(base)),
            None => began,
        };
        let content = {
            let mut world = self.shared.world();
            world.ledger.contents.push(Content {
                object: key,
                body,
                confirmed: began,
                entry,
            });
            world.ledger.contents.len() as u64 - 1
        };
        if confirmed.is_some() {
            self.note(Event::Refreshed, key);
        } else {
            fill.tell(|state| state.head = Some(content));
            if self.shared.call(self.at, Call::Body(key)).await.is_none() {
                return End::Failed;
            }
            self.note(Event::Fetched, key);
        }
        let late = match self.shared.world().fault {
            Some(Fault::PositionAfterFetch) => true,
            Some(Fault::LateRefresh) => confirmed.is_some(),
            _ => false,
        };
        let position = if late {
            self.log.began(received)
        } else {
            position
        };
        let object = Arc::new(object(key, content, received, position));
        self.keep(key, &object);
        End::Complete(object, From::Fetch, true)
    }

    fn body_of(&self, content: u64) -> u64 {
        let world = self.shared.world();
        world
            .ledger
            .contents
            .get(content as usize)
            .map_or(0, |it| it.body)
    }

    /// `store::keep`.
    fn keep(&self, key: usize, object: &Arc<Object>) {
        if self.verdict(object) == Verdict::Dead {
            return self.note(Event::KeptDead, key);
        }
        self.inner.lock().memory.insert(key, Arc::clone(object));
        self.note(Event::Queued, key);
        self.shared.world().places[self.at]
            .queue
            .push((key, Arc::clone(object)));
        let writing = std::mem::replace(&mut self.inner.lock().writing, true);
        if !writing {
            self.spawn.start(self.at, self.clone().write());
        }
    }
}
