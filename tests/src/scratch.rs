//! A directory of the test's own.

use std::path::{Path, PathBuf};

/// A temporary directory, removed when dropped. It is kept when `WEIR_KEEP` is set, for
/// a look at what a failed test left.
#[derive(Debug)]
pub struct Scratch {
    dir: tempfile::TempDir,
}

impl Scratch {
    /// Makes an empty directory. Panics where the machine has no room for one.
    pub fn new() -> Self {
        let mut dir = tempfile::Builder::new()
            .prefix("weir-test-")
            .tempdir()
            .expect("a temporary directory");
        if std::env::var_os("WEIR_KEEP").is_some() {
            eprintln!("kept: {}", dir.path().display());
            dir.disable_cleanup(true);
        }
        Self { dir }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the directory; the file need not exist.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file as a careful deploy does: beside it first, then renamed over it, so
    /// that a watcher never sees half of it.
    pub fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        let beside = path.with_extension("part");
        std::fs::write(&beside, bytes).expect("writing into the scratch directory");
        std::fs::rename(&beside, &path).expect("renaming in the scratch directory");
        path
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}
