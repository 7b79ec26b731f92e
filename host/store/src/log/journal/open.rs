//! A log with a journal: opened, read back, begun anew.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Weak};

use weir_semantics::Timestamp;

use super::file::{JournalFile, Opened};
use super::frame::{self, End, MAGIC};
use super::{Book, Item, Journal, JournalError, image};
use crate::log::marks::Table;
use crate::log::pending::Pending;
use crate::log::{Fleet, Inner, Limits, Log, Purge, Selector, State, Target};

/// How far a node's sequence goes ahead when it starts. Purges that were not yet on disk
/// when it died took sequences, and objects may carry them: they must not come again.
const AHEAD: u64 = 1 << 32;

/// A journal of what waits for Redis is small again once Redis answers.
const PENDING_SLACK: usize = 1 << 20;

/// A table of marks has up to 4 MiB by itself.
const MARKS_SLACK: usize = 4 << 20;

/// What a journal says.
#[derive(Debug)]
pub(in crate::log) struct Told {
    epoch: u64,
    sequence: u64,
    table: Table,
    pending: VecDeque<Purge>,
    /// Where the last whole frame ends, and how the rest looks.
    end: usize,
    how: End,
}

impl Log {
    /// The log of a node that is alone, with every purge on disk: what was purged stays
    /// so for objects that outlive the process. Opens or makes the file at `path`.
    ///
    /// Its epoch is kept in the file. If that was missing or damaged the epoch is a new
    /// one, and every object from before is dead. [`Log::invalidate`] returns when the
    /// purge is on disk.
    ///
    /// Reads and writes a file of a few MiB at most: not for a thread that serves.
    ///
    /// # Errors
    /// [`JournalError`]: another node has the file, or it can be neither read nor written.
    pub fn durable(limits: Limits, path: &Path, now: Timestamp) -> Result<Self, JournalError> {
        let mut opened = Opened::open(path)?;
        let told = opened
            .contents
            .take()
            .and_then(|contents| Told::read(&contents, limits, now));
        let told = match told {
            Some(told) if told.how != End::Damaged && told.epoch != 0 => told.ahead(),
            found => {
                if found.is_some() {
                    tracing::error!(
                        path = %path.display(),
                        "the purges on disk are damaged, so that nobody knows what was purged: \
                         every object on this disk counts as purged. Check the disk"
                    );
                }
                Told::new(fastrand::u64(1..), limits)
            }
        };
        let size = told.settle(&mut opened, path, false)?;
        let file = Arc::new(opened.start()?);
        let book = Book::new(Arc::clone(&file) as Arc<dyn Journal>, size, MARKS_SLACK);
        Ok(Self::over(limits, None, told, book, &file))
    }

    /// The log of a node with a fleet, which keeps what Redis has not taken on disk.
    /// Opens or makes the file at `path`; purges in it hold on this node from now on, and
    /// are sent by [`Log::replay`].
    ///
    /// Reads and writes a file of a few MiB at most: not for a thread that serves.
    ///
    /// # Errors
    /// As [`Log::durable`].
    pub fn journaled(
        limits: Limits,
        fleet: Arc<dyn Fleet>,
        path: &Path,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let mut opened = Opened::open(path)?;
        let told = match opened.contents.take() {
            Some(contents) => Told::pending(&contents, limits, now, path),
            None => Told::new(0, limits),
        };
        let size = told.settle(&mut opened, path, true)?;
        let file = Arc::new(opened.start()?);
        let book = Book::new(Arc::clone(&file) as Arc<dyn Journal>, size, PENDING_SLACK);
        Ok(Self::over(limits, Some(fleet), told, book, &file))
    }

    /// The log of a node with a fleet, over a journal that held `contents` and now holds
    /// nothing: the caller writes what this returns besides, before anything else. For
    /// simulators, which bring a disk of their own.
    pub fn recovered(
        limits: Limits,
        fleet: Arc<dyn Fleet>,
        journal: Arc<dyn Journal>,
        contents: Option<&[u8]>,
        now: Timestamp,
    ) -> (Self, Vec<u8>) {
        let told = match contents {
            Some(contents) => Told::pending(contents, limits, now, Path::new("the journal")),
            None => Told::new(0, limits),
        };
        let whole = told.whole(true);
        let book = Book::new(journal, whole.len(), PENDING_SLACK);
        (Self::made(limits, Some(fleet), told, book), whole)
    }

    fn over(
        limits: Limits,
        fleet: Option<Arc<dyn Fleet>>,
        told: Told,
        book: Book,
        file: &JournalFile,
    ) -> Self {
        let log = Self::made(limits, fleet, told, book);
        let inner: Weak<Inner> = Arc::downgrade(&log.0);
        file.mend_by(move || {
            let Some(inner) = inner.upgrade() else {
                return false;
            };
            Self(inner).mend();
            true
        });
        log
    }

    fn made(limits: Limits, fleet: Option<Arc<dyn Fleet>>, told: Told, book: Book) -> Self {
        let mut state = State::new(limits);
        state.standing.epoch = told.epoch;
        state.node_sequence = told.sequence;
        state.node = told.table;
        Self::with(limits, fleet, state, Pending::new(told.pending, book))
    }
}

impl Told {
    fn new(epoch: u64, limits: Limits) -> Self {
        Self {
            epoch,
            sequence: 0,
            table: Table::new(limits),
            pending: VecDeque::new(),
            end: 0,
            how: End::Damaged,
        }
    }

    /// Reads a file. `None`: it says nothing.
    fn read(contents: &[u8], limits: Limits, now: Timestamp) -> Option<Self> {
        let (payloads, end, how) = frame::read(contents);
        let mut told = Self {
            end,
            how,
            ..Self::new(0, limits)
        };
        for payload in payloads {
            let Some(item) = Item::read(payload) else {
                told.how = End::Damaged;
                break;
            };
            if told.take(item, limits, now).is_none() {
                told.how = End::Damaged;
                break;
            }
        }
        Some(told)
    }

    /// The purges that wait for Redis. Where the file cannot tell them, one of everything.
    fn pending(contents: &[u8], limits: Limits, now: Timestamp, path: &Path) -> Self {
        let told = Self::read(contents, limits, now);
        if let Some(mut told) = told.filter(|told| told.how != End::Damaged) {
            if told.epoch != 0 {
                // Of a node that was alone: none of its objects is left in memory.
                return Self::new(0, limits);
            }
            // Redis tells of those that it has taken.
            let mut table = Table::new(limits);
            for purge in &told.pending {
                for raise in purge.raises() {
                    let at = Timestamp::from_millis(purge.at);
                    table.raise(&raise, told.sequence, at, now);
                }
            }
            told.table = table;
            return told;
        }
        tracing::error!(
            path = %path.display(),
            "the purges that wait for Redis are damaged on disk, so that nobody knows what \
             they were: one of everything takes their place. Check the disk"
        );
        let all = Purge::new(vec![Selector::new(Target::All)], now);
        let mut told = Self::new(0, limits);
        let _ = told.take(Item::Purge(1, Cow::Owned(all)), limits, now);
        told
    }

    fn take(&mut self, item: Item<'_>, limits: Limits, now: Timestamp) -> Option<()> {
        match item {
            Item::Epoch(epoch) => self.epoch = epoch,
            Item::From(sequence) => self.sequence = self.sequence.max(sequence),
            Item::Purge(sequence, purge) => {
                self.sequence = self.sequence.max(sequence);
                let at = Timestamp::from_millis(purge.at);
                for raise in purge.raises() {
                    self.table.raise(&raise, sequence, at, now);
                }
                if self.epoch == 0 {
                    self.pending.push_back(purge.into_owned());
                }
            }
            Item::Taken(id) if self.pending.front().is_some_and(|it| it.id == *id) => {
                self.pending.pop_front();
            }
            // Where something failed a purge may have been written twice.
            Item::Taken(id) => self.pending.retain(|purge| purge.id != *id),
            Item::Marks(bytes) => self.table = image::read(&bytes, limits, now)?,
        }
        Some(())
    }

    fn ahead(mut self) -> Self {
        self.sequence += AHEAD;
        self
    }

    /// Brings the file to what is told here. Returns its size.
    fn settle(&self, opened: &mut Opened, path: &Path, fleet: bool) -> Result<usize, JournalError> {
        if self.how == End::Damaged {
            let whole = self.whole(fleet);
            opened.replace(&whole)?;
            return Ok(whole.len());
        }
        if self.how == End::Torn {
            tracing::warn!(
                path = %path.display(),
                "the node died while it wrote a purge, which it had not acknowledged; cut off"
            );
        }
        let more = if fleet {
            Vec::new()
        } else {
            Item::From(self.sequence).frame()
        };
        opened.resume(self.end, &more)?;
        Ok(self.end + more.len())
    }

    fn whole(&self, fleet: bool) -> Vec<u8> {
        whole(
            self.epoch,
            self.sequence,
            &self.table,
            fleet.then_some(&self.pending),
        )
    }
}

/// All that a journal has to hold: the purges that wait for Redis, or every mark.
pub(in crate::log) fn whole(
    epoch: u64,
    sequence: u64,
    table: &Table,
    pending: Option<&VecDeque<Purge>>,
) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    Item::Epoch(if pending.is_some() { 0 } else { epoch }).write(&mut out);
    Item::From(sequence).write(&mut out);
    match pending {
        // Their sequences are this node's of now, and the next process begins anew.
        Some(pending) => {
            for (sequence, purge) in (1..).zip(pending) {
                Item::Purge(sequence, Cow::Borrowed(purge)).write(&mut out);
            }
        }
        None => {
            let mut marks = Vec::new();
            image::write(table, &mut marks);
            Item::Marks(marks.into()).write(&mut out);
        }
    }
    out
}
