//! What a log keeps beyond the life of the process.
//!
//! A journal is a file of [frames](frame), each checked by itself. It is only appended
//! to, and replaced as a whole, by a new file, when it has grown or could not be written.
//! Every change is enqueued under the lock under which it changed the log, so that the
//! file tells the same story in the same order.
//!
//! - With Redis it holds the purges that Redis has not taken.
//! - For a node alone, whose objects outlive it on disk, it holds all that its marks
//!   say, and the identity of the log: an object of another one is dead.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tokio::sync::oneshot;

mod file;
mod frame;
mod image;
mod item;
mod open;

pub(super) use item::Item;
pub(super) use open::whole;

/// Told once what was handed to a journal is on disk, or why it is not.
pub type Written = oneshot::Receiver<io::Result<()>>;

/// Where the bytes of a journal go. A file does; a simulator brings its own.
///
/// The calls return at once and keep their order. After a failure every append fails
/// until the whole has been replaced, so that there is never a hole.
pub trait Journal: Send + Sync + fmt::Debug {
    /// Adds to the end.
    fn append(&self, bytes: Vec<u8>) -> Written;

    /// Puts these bytes in the place of all there is, at once or not at all.
    fn replace(&self, bytes: Vec<u8>) -> Written;
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another process has it.
    #[error(
        "{} is in use by another node; give each node a data_dir of its own, or stop the other one",
        .0.display()
    )]
    InUse(PathBuf),
    /// The file system refused.
    #[error(
        "{} cannot be {doing}: {source}; purges are kept there, so make it writable or \
         take data_dir out of the configuration",
        path.display()
    )]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was being done to it.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// How a journal's size is watched.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) journal: std::sync::Arc<dyn Journal>,
    /// Bytes in it, once all that is enqueued has been written.
    size: usize,
    /// Bytes in it when it was last replaced.
    base: usize,
    /// Beyond this, and twice `base`, it is replaced.
    slack: usize,
    /// Something could not be written: the whole is written anew.
    pub(super) behind: bool,
}

impl Book {
    pub(super) fn new(journal: std::sync::Arc<dyn Journal>, size: usize, slack: usize) -> Self {
        Self {
            journal,
            size,
            base: size.min(slack),
            slack,
            behind: false,
        }
    }

    /// Adds an item, or writes the whole anew if that is due. `whole` must hold the item.
    pub(super) fn add(&mut self, item: &Item<'_>, whole: impl FnOnce() -> Vec<u8>) -> Written {
        let bytes = item.frame();
        let grown = self.size + bytes.len();
        if self.behind || (grown > self.slack && grown > 2 * self.base) {
            return self.replace(whole());
        }
        self.size = grown;
        self.journal.append(bytes)
    }

    pub(super) fn replace(&mut self, whole: Vec<u8>) -> Written {
        self.behind = false;
        self.size = whole.len();
        self.base = whole.len();
        self.journal.replace(whole)
    }
}

#[cfg(test)]
mod tests;
