//! A journal in a file, written by a thread of its own.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Journal, JournalError, Written};

/// How soon a journal that could not be written is tried again, unless a purge comes first.
const RETRY: Duration = Duration::from_secs(1);

/// Has the whole written anew. `false` once there is nobody left to do it.
type Mend = Box<dyn Fn() -> bool + Send>;

enum Order {
    Append(Vec<u8>, oneshot::Sender<io::Result<()>>),
    Replace(Vec<u8>, oneshot::Sender<io::Result<()>>),
    Mend(Mend),
}

/// [`Journal`] in a file. Appends that wait together are written and synced together.
///
/// One process has it at a time. Dropping it waits until all that was handed to it has
/// been written.
#[derive(Debug)]
pub(super) struct JournalFile {
    orders: Mutex<Option<Sender<Order>>>,
    thread: Option<JoinHandle<()>>,
}

/// The file before its thread runs.
#[derive(Debug)]
pub(super) struct Opened {
    files: Files,
    /// What it held; absent when there was none.
    pub(super) contents: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Files {
    path: PathBuf,
    /// Its lock is held as long as this lives.
    _lock: File,
    /// Absent before the first [`Files::replace`] where there was none.
    file: Option<File>,
    /// Bytes that are known to be on disk; absent when that is not known, and then only
    /// replacing the file helps.
    end: Option<u64>,
}

impl Opened {
    /// Locks and reads the journal at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |doing, path: &Path, source| JournalError::Io {
            path: path.to_owned(),
            doing,
            source,
        };
        let lock_path = beside(path, ".lock");
        let lock = private()
            .open(&lock_path)
            .map_err(|error| failed("made", &lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed("locked", &lock_path, error)),
        }
        let mut contents = None;
        let file = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)
                    .map_err(|error| failed("read", path, error))?;
                contents = Some(bytes);
                Some(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed("opened", path, error)),
        };
        Ok(Self {
            files: Files {
                path: path.to_owned(),
                _lock: lock,
                file,
                end: contents.as_ref().map(|bytes| bytes.len() as u64),
            },
            contents,
        })
    }

    /// Keeps the first `end` bytes and adds some, before anybody relies on it.
    pub(super) fn resume(&mut self, end: usize, more: &[u8]) -> Result<(), JournalError> {
        let cut = |files: &mut Files| {
            let end = end as u64;
            if files.end != Some(end)
                && let Some(file) = &mut files.file
            {
                file.set_len(end)?;
                files.end = Some(end);
            }
            files.append(more)
        };
        cut(&mut self.files).map_err(|source| self.files.failed(source))
    }

    /// Puts these bytes in the place of all there is, before anybody relies on it.
    pub(super) fn replace(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let replaced = self.files.replace(bytes);
        replaced.map_err(|source| self.files.failed(source))
    }

    /// Starts the thread that writes.
    pub(super) fn start(self) -> Result<JournalFile, JournalError> {
        let (orders, inbox) = mpsc::channel();
        let path = self.files.path.clone();
        let thread = std::thread::Builder::new()
            .name("weir-purges".into())
            .spawn(move || write_all(self.files, &inbox))
            .map_err(|source| JournalError::Io {
                path,
                doing: "written by a thread of its own",
                source,
            })?;
        Ok(JournalFile {
            orders: Mutex::new(Some(orders)),
            thread: Some(thread),
        })
    }
}

impl JournalFile {
    /// What to do, again and again, after something could not be written.
    pub(super) fn mend_by(&self, mend: impl Fn() -> bool + Send + 'static) {
        self.order(Order::Mend(Box::new(mend)));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &*self.orders.lock() {
            // Without a thread the order is dropped, and whoever waits for it told so.
            let _ = orders.send(order);
        }
    }

    fn written(&self, order: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Order) -> Written {
        let (done, written) = oneshot::channel();
        self.order(order(done));
        written
    }
}

impl Journal for JournalFile {
    fn append(&self, bytes: Vec<u8>) -> Written {
        self.written(|done| Order::Append(bytes, done))
    }

    fn replace(&self, bytes: Vec<u8>) -> Written {
        self.written(|done| Order::Replace(bytes, done))
    }
}

impl Drop for JournalFile {
    fn drop(&mut self) {
        drop(self.orders.lock().take());
        if let Some(thread) = self.thread.take()
            // The thread itself may hold the last reference to a log, while it mends it.
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

/// The thread: until nobody can order any more.
fn write_all(mut files: Files, inbox: &Receiver<Order>) {
    let mut mend: Option<Mend> = None;
    loop {
        let order = match (&files.end, &mend) {
            (None, Some(_)) => inbox.recv_timeout(RETRY),
            _ => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(Order::Append(bytes, done)) => append_all(&mut files, inbox, bytes, done, &mut mend),
            Ok(order) => obey(&mut files, order, &mut mend),
            Err(RecvTimeoutError::Timeout) => {
                // What it orders arrives through the inbox.
                if mend.as_ref().is_some_and(|mend| !mend()) {
                    mend = None;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn obey(files: &mut Files, order: Order, mend: &mut Option<Mend>) {
    match order {
        // Who waits may have gone.
        Order::Append(bytes, done) => drop(done.send(files.append(&bytes))),
        Order::Replace(bytes, done) => drop(done.send(files.replace(&bytes))),
        Order::Mend(by) => *mend = Some(by),
    }
}

/// Writes an append and all that wait behind it at once.
fn append_all(
    files: &mut Files,
    inbox: &Receiver<Order>,
    mut bytes: Vec<u8>,
    done: oneshot::Sender<io::Result<()>>,
    mend: &mut Option<Mend>,
) {
    let mut waiting = vec![done];
    let mut after = None;
    while after.is_none()
        && let Ok(order) = inbox.try_recv()
    {
        match order {
            Order::Append(more, done) => {
                bytes.extend_from_slice(&more);
                waiting.push(done);
            }
            other => after = Some(other),
        }
    }
    let written = files.append(&bytes);
    for done in waiting {
        let answer = match &written {
            Ok(()) => Ok(()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        let _ = done.send(answer);
    }
    if let Some(order) = after {
        obey(files, order, mend);
    }
}

impl Files {
    fn failed(&self, source: io::Error) -> JournalError {
        JournalError::Io {
            path: self.path.clone(),
            doing: "written",
            source,
        }
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Unknown from here on: after a failure the system may have forgotten what it
        // did not write, and report success the next time.
        let (Some(end), Some(file)) = (self.end.take(), &mut self.file) else {
            return Err(io::Error::other("an earlier purge could not be written"));
        };
        file.seek(SeekFrom::Start(end))?;
        file.write_all(bytes)?;
        file.sync_data()?;
        self.end = Some(end + bytes.len() as u64);
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.end = None;
        let new = beside(&self.path, ".new");
        let mut file = private().truncate(true).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)?;
        let folder = self.path.parent().filter(|it| !it.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        self.file = Some(file);
        self.end = Some(bytes.len() as u64);
        Ok(())
    }
}

/// Who may read what was purged may learn keys and tags: nobody else.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
