//! The folder: locked, private, and emptied when what is in it is of no use.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::config::DiskError;

/// For its owner alone: bodies of responses are private to the node.
const MODE: u32 = 0o700;

/// A folder of which this process has the sole use.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Beside the folder, so that it outlives what is in there.
    _lock: File,
}

impl Folder {
    /// Makes it, if need be, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let failed = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| DiskError::Io {
                path,
                doing,
                source,
            }
        };
        make(path).map_err(failed("made", path))?;
        let lock_path = beside(path, ".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("opened", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DiskError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(failed("locked", &lock_path)(source)),
        }
        fs::set_permissions(path, Permissions::from_mode(MODE))
            .map_err(failed("made private", path))?;
        let folder = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        // What an earlier process had no time to delete.
        folder.delete_useless();
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts an empty folder in its place. What was in it is deleted in the background.
    pub(super) fn empty(&self) -> io::Result<()> {
        let useless = self.useless();
        if useless.exists() {
            fs::remove_dir_all(&useless)?;
        }
        fs::rename(&self.path, &useless)?;
        // A full disk has room for a new folder only afterwards.
        self.delete_useless();
        self.make()
    }

    /// Makes it, unless it is there.
    pub(super) fn make(&self) -> io::Result<()> {
        make(&self.path)
    }

    /// Notes that the files are about to be opened. Says how many processes in a row died
    /// doing so: what is damaged can make one ask for memory that there is not.
    pub(super) fn opening(&self) -> u32 {
        let note = self.note();
        let died = fs::read_to_string(&note)
            .ok()
            .and_then(|died| died.parse().ok())
            .unwrap_or(0_u32);
        if let Err(error) = fs::write(&note, died.saturating_add(1).to_string()) {
            tracing::debug!(path = %note.display(), %error, "cannot be written");
        }
        died
    }

    /// Notes that nobody died.
    pub(super) fn opened(&self) {
        let note = self.note();
        if let Err(error) = fs::remove_file(&note) {
            tracing::debug!(path = %note.display(), %error, "cannot be deleted");
        }
    }

    fn note(&self) -> PathBuf {
        beside(&self.path, ".opening")
    }

    fn useless(&self) -> PathBuf {
        beside(&self.path, ".useless")
    }

    fn delete_useless(&self) {
        let useless = self.useless();
        if !useless.exists() {
            return;
        }
        let deleting = std::thread::Builder::new().name("weir-disk-delete".into());
        let started = deleting.spawn(move || {
            if let Err(error) = fs::remove_dir_all(&useless)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %useless.display(), %error, "cannot be deleted; delete it");
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "no thread to delete old files; the next start tries again");
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(MODE).create(path)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}
