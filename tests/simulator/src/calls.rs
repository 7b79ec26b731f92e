//! Calls on their way to Redis or an origin, and what a network does to them.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;
use weir_semantics::Timestamp;
use weir_store::Object;
use weir_store::log::{Entry, Fleet, FleetUnavailable, Purge, Seen, Sequenced, Snapshot, Standing};

use crate::coverage::Event;
use crate::fault::Fault;
use crate::server::CHANCES;
use crate::world::{Shared, World};

/// A call of Redis that is answered later than this is not waited for, in milliseconds.
const DEADLINE: u64 = 500;

/// Nor is an origin that has not begun to answer.
const ORIGIN_DEADLINE: u64 = 60_000;

/// What a node asks for, and waits for.
#[derive(Clone, Debug)]
pub enum Call {
    /// `purge.lua`.
    Purge(Purge),
    /// `sync.lua`.
    Snapshot(Standing, u64, u64),
    /// An object, and then where the log stands.
    Read(usize),
    /// Entries after a cursor, and then where the log stands.
    Follow(String),
    /// An object to be written.
    Write(usize, Arc<Object>),
    /// The head of a response, for an object.
    Head(usize),
    /// The same, where a 304 would do.
    Confirm(usize),
    /// The rest of the response.
    Body(usize),
    /// Nothing; some time later.
    Pause,
}

impl Call {
    fn is_redis(&self) -> bool {
        !matches!(
            self,
            Self::Head(_) | Self::Confirm(_) | Self::Body(_) | Self::Pause
        )
    }
}

/// What comes back.
#[derive(Debug)]
pub enum Answer {
    /// Of [`Call::Purge`].
    Purged(Sequenced),
    /// Of [`Call::Snapshot`].
    Snapshot(Snapshot),
    /// Of [`Call::Read`].
    Read(Option<Arc<Object>>, Seen),
    /// Of [`Call::Follow`].
    Followed(Vec<Entry>, Seen),
    /// Of all others.
    Done,
}

#[derive(Debug)]
pub(crate) struct UnderWay {
    pub(crate) node: usize,
    pub(crate) call: Call,
    pub(crate) sent: u64,
    pub(crate) answer: Option<Answer>,
    pub(crate) caller: Option<oneshot::Sender<Answer>>,
}

impl World {
    /// Some call goes on by a step. `false`: there is none.
    pub fn some_call(&mut self) -> bool {
        if self.calls.is_empty() {
            return false;
        }
        // In turn once all is calm, so that nothing waits for ever.
        let at = match self.calm {
            true => 0,
            false => self.rng.usize(..self.calls.len()),
        };
        let of = &self.calls[at];
        let lags = self.laggard == Some(of.node) && matches!(of.call, Call::Follow(_));
        if lags && !self.calm && self.rng.u32(..8) > 0 {
            return true;
        }
        let mut under_way = self.calls.remove(at);
        if under_way.call.is_redis() {
            self.redis_call(under_way);
        } else if !matches!(under_way.call, Call::Pause)
            && (self.once_in(8) || self.now > under_way.sent + ORIGIN_DEADLINE)
        {
            self.note(Event::FetchFailed, || format!("node {}", under_way.node));
        } else if let Some(caller) = under_way.caller.take() {
            let _ = caller.send(Answer::Done);
        }
        true
    }

    fn redis_call(&mut self, mut under_way: UnderWay) {
        let node = under_way.node;
        let reachable = self.server_up && self.places[node].link;
        let late = self.now > under_way.sent + DEADLINE;
        if let Some(answer) = under_way.answer.take() {
            let Some(caller) = under_way.caller.take() else {
                return;
            };
            if late {
                self.note(Event::CallTimedOut, || format!("node {node}"));
            } else if !reachable || self.once_in(20) {
                self.note(Event::LateAnswer, || {
                    format!("node {node} {:?}", under_way.call)
                });
            } else {
                if let Some(trace) = &mut self.trace {
                    trace.push(format!("{:>4} deliver node {node} {answer:?}", self.step));
                }
                let _ = caller.send(answer);
            }
            return;
        }
        if late && under_way.caller.is_some() {
            // It may still arrive.
            under_way.caller = None;
            self.calls.push(under_way);
            return;
        }
        if !reachable {
            if self.once_in(2) && under_way.caller.is_some() {
                // On its way when the link broke: executed once it is back.
                under_way.caller = None;
                self.calls.push(under_way);
            } else {
                self.note(Event::CallLost, || format!("node {node}"));
            }
            return;
        }
        if under_way.caller.is_none() {
            self.note(Event::LateCall, || {
                format!("node {node} {:?}", under_way.call)
            });
        }
        let answer = self.execute(node, &under_way.call);
        under_way.answer = Some(answer);
        if under_way.caller.is_some() {
            self.calls.push(under_way);
        }
    }

    fn execute(&mut self, node: usize, call: &Call) -> Answer {
        let now = Timestamp::from_millis(self.now);
        match call {
            Call::Purge(purge) => Answer::Purged(self.execute_purge(node, purge)),
            Call::Snapshot(have, since, nonce) => {
                let chance = self.rng.u64(..CHANCES);
                let before = self.server.seen().epoch;
                let snapshot = self.server.snapshot(have, *since, now, (chance, *nonce));
                if before != Some(snapshot.epoch) {
                    self.ledger.began(self.server.last_entry());
                    self.note(Event::NewEpoch, || {
                        format!("node {node}: {before:?} to {}", snapshot.epoch)
                    });
                }
                self.note(Event::Synchronised, || {
                    format!("node {node} to {}:{}", snapshot.epoch, snapshot.sequence)
                });
                Answer::Snapshot(snapshot)
            }
            Call::Read(key) => Answer::Read(self.server.get(*key, now), self.server.seen()),
            Call::Follow(cursor) => {
                let mut entries = self.server.read(cursor);
                if self.once_in(12) {
                    entries = self.server.read("0-0");
                    self.note(Event::Again, || format!("node {node}"));
                } else if entries.len() > 1 && self.once_in(6) {
                    entries.remove(0);
                    self.note(Event::Trimmed, || format!("node {node}"));
                }
                let entries = entries.iter().map(|entry| Entry::clone(entry)).collect();
                Answer::Followed(entries, self.server.seen())
            }
            Call::Write(key, object) => {
                self.server.put(*key, Arc::clone(object));
                self.note(Event::Written, || format!("node {node} object {key}"));
                Answer::Done
            }
            Call::Head(_) | Call::Confirm(_) | Call::Body(_) | Call::Pause => Answer::Done,
        }
    }

    fn execute_purge(&mut self, node: usize, purge: &Purge) -> Sequenced {
        let mut sent = purge.clone();
        if self.fault == Some(Fault::ReplayedTwice) {
            sent.id = format!("{:032x}", self.rng.u128(..));
        }
        let chance = (self.rng.u64(..CHANCES), self.rng.u64(1..));
        let now = Timestamp::from_millis(self.now);
        let before = self.server.last_entry();
        let (sequenced, taken) = self.server.purge(&sent, now, chance);
        if taken {
            self.note(Event::Taken, || format!("node {node} {sequenced:?}"));
            self.took(node, purge, sequenced.epoch, before);
        } else {
            self.note(Event::SentAgain, || format!("node {node} {purge:?}"));
        }
        sequenced
    }

    /// Nobody waits any more for what a node asked for; some of it is still on its way.
    pub fn forget_calls(&mut self, node: usize) {
        self.calls.retain_mut(|under_way| {
            if under_way.node == node {
                under_way.caller = None;
            }
            under_way.node != node || (under_way.call.is_redis() && under_way.answer.is_none())
        });
    }

    /// Notes in which phases of a fill a purge of these objects comes.
    pub fn note_phases(&mut self, names: &[bool]) {
        let phase = |it: &UnderWay| {
            let (key, event) = match it.call {
                Call::Read(key) => (key, Event::PurgeDuringRead),
                Call::Head(key) => (key, Event::PurgeDuringHead),
                Call::Confirm(key) => (key, Event::PurgeDuringConfirm),
                Call::Body(key) => (key, Event::PurgeDuringBody),
                Call::Write(key, _) => (key, Event::PurgeDuringWrite),
                _ => return None,
            };
            names[key].then_some(event)
        };
        let mut events: Vec<Event> = self.calls.iter().filter_map(phase).collect();
        let mut queued = self.places.iter().flat_map(|place| &place.queue);
        if queued.any(|(key, _)| names[*key]) {
            events.push(Event::PurgeDuringQueue);
        }
        for event in events {
            self.note(event, String::new);
        }
    }

    /// Whether a call waits for something other than news.
    pub fn is_busy(&self) -> bool {
        self.calls
            .iter()
            .any(|it| !matches!(it.call, Call::Follow(_) | Call::Pause))
    }
}

/// A node's way to Redis.
#[derive(Debug)]
pub struct Link {
    /// The world.
    pub shared: Shared,
    /// Which node.
    pub node: usize,
}

#[async_trait]
impl Fleet for Link {
    async fn purge(&self, purge: &Purge) -> Result<Sequenced, FleetUnavailable> {
        match self
            .shared
            .call(self.node, Call::Purge(purge.clone()))
            .await
        {
            Some(Answer::Purged(sequenced)) => Ok(sequenced),
            _ => Err(FleetUnavailable),
        }
    }

    async fn snapshot(&self, have: &Standing, since: u64) -> Result<Snapshot, FleetUnavailable> {
        let nonce = self.shared.world().rng.u64(1..);
        let call = Call::Snapshot(have.clone(), since, nonce);
        match self.shared.call(self.node, call).await {
            Some(Answer::Snapshot(snapshot)) => Ok(snapshot),
            _ => Err(FleetUnavailable),
        }
    }
}
