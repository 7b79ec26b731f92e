//! Purges that Redis did not take: in force on this node, kept until Redis takes them,
//! and written to the journal if there is one.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use weir_semantics::Timestamp;

use super::fleet::Purge;
use super::journal::{self, Book, Item, Written};
use super::selector::{Selector, Target};
use super::{Log, State};
use crate::Position;

/// What Redis has not taken, the oldest first, and the journal that it is kept in.
#[derive(Debug, Default)]
pub(super) struct Pending {
    purges: VecDeque<Purge>,
    /// Of their selectors, about.
    bytes: usize,
    book: Option<Book>,
}

/// A purge that this node keeps.
#[derive(Debug)]
pub(super) struct Kept {
    /// The position after it.
    pub(super) position: Position,
    /// The sequence to which its counters had been raised before.
    pub(super) earlier: u64,
    written: Option<Written>,
}

impl Pending {
    pub(super) fn new(purges: VecDeque<Purge>, book: Book) -> Self {
        let bytes = purges.iter().map(Purge::size).sum();
        Self {
            purges,
            bytes,
            book: Some(book),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.purges.len()
    }

    pub(super) fn first(&self) -> Option<&Purge> {
        self.purges.front()
    }

    fn push(&mut self, purge: Purge) {
        self.bytes += purge.size();
        self.purges.push_back(purge);
    }

    /// What the journal must hold.
    fn whole(&self, state: &State, fleet: bool) -> Vec<u8> {
        journal::whole(
            state.standing.epoch,
            state.node_sequence,
            &state.node,
            fleet.then_some(&self.purges),
        )
    }

    fn rewrite(&mut self, state: &State, fleet: bool) -> Option<Written> {
        let whole = self.book.is_some().then(|| self.whole(state, fleet))?;
        Some(self.book.as_mut()?.replace(whole))
    }

    fn write(&mut self, item: &Item<'_>, state: &State, fleet: bool) -> Option<Written> {
        let mut book = self.book.take()?;
        let written = book.add(item, || self.whole(state, fleet));
        self.book = Some(book);
        Some(written)
    }
}

impl Log {
    /// Applies a purge that Redis did not take to this node, and keeps it for Redis if
    /// there is one. It is on disk when [`Log::written`] says so.
    pub(super) fn keep(&self, purge: Purge, now: Timestamp) -> Kept {
        let fleet = self.0.fleet.is_some();
        let mut pending = self.0.pending.lock();
        let mut state = self.0.state.write();
        let raises = purge.raises();
        let earlier = state.node.highest(&raises);
        state.node_sequence += 1;
        let sequence = state.node_sequence;
        for raise in &raises {
            state
                .node
                .raise(raise, sequence, Timestamp::from_millis(purge.at), now);
        }
        let mut collapsed = false;
        let item = Item::Purge(sequence, Cow::Owned(purge.clone()));
        if fleet {
            pending.push(purge);
            collapsed = pending.len() > self.0.limits.pending
                || pending.bytes > self.0.limits.pending_bytes;
        }
        let written = if collapsed {
            tracing::warn!(
                purges = pending.len(),
                "too many purges wait for Redis; they become one purge of everything"
            );
            let all = Purge::new(vec![Selector::new(Target::All)], now);
            for raise in all.raises() {
                state.node.raise(&raise, sequence, now, now);
            }
            pending.purges.clear();
            pending.bytes = 0;
            pending.push(all);
            pending.rewrite(&state, fleet)
        } else {
            pending.write(&item, &state, fleet)
        };
        self.changed();
        Kept {
            position: state.position(),
            earlier,
            written,
        }
    }

    /// Waits until a purge is on disk. Says whether it holds also after a restart of this
    /// node, as far as objects do.
    pub(super) async fn written(&self, kept: Kept) -> bool {
        let Some(written) = kept.written else {
            // A node that is alone forgets its objects with its purges.
            return self.0.fleet.is_none();
        };
        let error = match written.await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the thread that writes purges has ended".to_owned(),
        };
        self.0.unwritten.fetch_add(1, Ordering::Relaxed);
        if let Some(book) = &mut self.0.pending.lock().book {
            book.behind = true;
        }
        tracing::error!(
            error,
            "a purge could not be written to data_dir: it holds on this node until the node \
             is restarted. Make room on the disk, or make the folder writable"
        );
        false
    }

    /// Writes the journal anew, after it could not be written.
    pub(super) fn mend(&self) {
        let mut pending = self.0.pending.lock();
        let state = self.0.state.read();
        // Who waits for it is whoever keeps the next purge.
        let _ = pending.rewrite(&state, self.0.fleet.is_some());
    }

    /// Redis has taken this purge. With the last one gone, the node's own marks go too:
    /// the fleet's cover them, being newer than any object that they killed.
    pub(super) fn taken(&self, id: &str) {
        let mut pending = self.0.pending.lock();
        // It may have been collapsed into another in the meantime.
        if pending.first().is_some_and(|purge| purge.id == id)
            && let Some(purge) = pending.purges.pop_front()
        {
            pending.bytes -= purge.size();
        }
        let mut state = self.0.state.write();
        if pending.purges.is_empty() {
            state.node.clear();
        }
        // Nobody waits for either: what is sent twice is taken once.
        if pending.purges.is_empty() {
            let _ = pending.rewrite(&state, true);
        } else {
            let _ = pending.write(&Item::Taken(id.into()), &state, true);
        }
    }
}
