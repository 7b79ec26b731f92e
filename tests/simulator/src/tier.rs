//! What a node does with Redis: reads and writes objects, and follows the log.

use std::sync::Arc;

use weir_semantics::Timestamp;
use weir_store::Object;
use weir_store::log::{Entry, FleetUnavailable, Verdict};

use crate::calls::{Answer, Call};
use crate::coverage::Event;
use crate::fault::Fault;
use crate::node::Node;

impl Node {
    /// `redis/writer.rs`.
    pub(crate) async fn write(self) {
        loop {
            let next = {
                let queue = &mut self.shared.world().places[self.at].queue;
                (!queue.is_empty()).then(|| queue.remove(0))
            };
            let Some((key, object)) = next else {
                self.inner.lock().writing = false;
                return;
            };
            if self.verdict(&object) == Verdict::Dead {
                self.note(Event::WrittenDead, key);
                continue;
            }
            // As its record has it.
            let mut stored = object.to_parts();
            stored.position.node = 0;
            stored.position.at = Timestamp::default();
            let stored = Arc::new(Object::new(stored));
            self.shared.call(self.at, Call::Write(key, stored)).await;
        }
    }

    /// `redis/tier.rs`.
    pub(crate) async fn in_redis(&self, key: usize) -> Option<Arc<Object>> {
        let (before, began) = (self.log.bearings(), self.now());
        let Some(Answer::Read(object, seen)) = self.shared.call(self.at, Call::Read(key)).await
        else {
            return None;
        };
        // Each reader has an object of its own.
        let object = object?;
        let object = Arc::new(Object::new(object.to_parts()));
        let fault = self.shared.world().fault;
        let here = self.log.standing();
        let fits = seen.epoch == Some(here.epoch) && seen.sequence == here.applied;
        if fits && here.entry.is_some_and(|entry| entry.nonce != seen.nonce) {
            self.note(Event::OtherLog, key);
        }
        let asked = match fault {
            Some(Fault::ContactAtAnswer) => self.now(),
            _ => began,
        };
        if fault != Some(Fault::BehindTrustsRedis) && !self.log.confirm(before, seen, asked) {
            self.note(Event::RedisBehind, key);
            self.log.catch_up(self.now()).await.ok()?;
        }
        if self.verdict(&object) == Verdict::Dead {
            self.note(Event::RedisDead, key);
            return None;
        }
        Some(object)
    }

    /// `redis/follower.rs`.
    pub async fn follow(self) {
        loop {
            let _ = self.session().await;
            self.shared.call(self.at, Call::Pause).await;
        }
    }

    async fn session(&self) -> Result<(), FleetUnavailable> {
        self.log.synchronise(self.now()).await?;
        let mut cursor = self.cursor();
        loop {
            if self.log.pending() > 0 {
                self.log.replay(self.now()).await?;
            }
            let (before, began) = (self.log.bearings(), self.now());
            let call = Call::Follow(cursor.clone());
            let Some(Answer::Followed(entries, seen)) = self.shared.call(self.at, call).await
            else {
                return Err(FleetUnavailable);
            };
            self.tell(&entries);
            let asked = match self.fault(Fault::ContactAtAnswer) {
                true => self.now(),
                false => began,
            };
            if self.log.follow(&entries, before, seen, asked).await? {
                cursor = self.cursor();
            } else if let Some(last) = entries.last() {
                cursor.clone_from(&last.mark.id);
            }
        }
    }

    fn tell(&self, entries: &[Entry]) {
        let standing = self.log.standing();
        let mut applied = standing.applied;
        for entry in entries {
            let event = match entry.sequence {
                _ if entry.epoch != standing.epoch => Event::OtherEpoch,
                sequence if sequence <= applied => Event::EntryAgain,
                sequence if sequence == applied + 1 => Event::Entry,
                _ => Event::Gap,
            };
            applied = applied.max(entry.sequence);
            let at = self.at;
            self.shared.world().note(event, || format!("node {at}"));
        }
    }

    fn cursor(&self) -> String {
        let entry = self.log.standing().entry;
        entry.map_or_else(|| "0-0".to_owned(), |entry| entry.id)
    }
}
