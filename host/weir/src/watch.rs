//! Follows the files of components and certificates: a changed one is loaded without a
//! restart.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use notify_debouncer_full::notify::{EventKind, RecommendedWatcher, RecursiveMode};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};
use tokio::sync::mpsc;

/// How long a file must be quiet before it is read: a build writes in several steps.
const QUIET: Duration = Duration::from_millis(100);

/// Watches the folders of files, since a file that is replaced is another file.
#[derive(Debug)]
pub(crate) struct Watcher {
    debouncer: Debouncer<RecommendedWatcher, RecommendedCache>,
    folders: BTreeSet<PathBuf>,
}

impl Watcher {
    /// Sends on `changed` whenever something in a watched folder has changed.
    pub(crate) fn new(changed: mpsc::Sender<()>) -> anyhow::Result<Self> {
        let debouncer = new_debouncer(QUIET, None, move |events: DebounceEventResult| {
            let touched = match events {
                Ok(events) => events
                    .iter()
                    .any(|event| !matches!(event.kind, EventKind::Access(_))),
                Err(errors) => {
                    for error in errors {
                        tracing::warn!(%error, "watching files");
                    }
                    false
                }
            };
            if touched {
                // A full queue already holds a reason to look.
                let _ = changed.try_send(());
            }
        })
        .context(
            "the files of policies and certificates cannot be watched; reload with SIGHUP instead",
        )?;
        Ok(Self {
            debouncer,
            folders: BTreeSet::new(),
        })
    }

    /// Watches the folders of these files, and no others. Says whether one is new: what
    /// changed in it before is not told.
    pub(crate) fn follow(&mut self, files: &[PathBuf]) -> bool {
        let wanted: BTreeSet<PathBuf> = files
            .iter()
            .filter_map(|file| file.parent().map(folder))
            .collect();
        for gone in self.folders.difference(&wanted) {
            // It may have been removed with all that was in it.
            let _ = self.debouncer.unwatch(gone);
        }
        let mut watched: BTreeSet<PathBuf> = self.folders.intersection(&wanted).cloned().collect();
        for new in wanted.difference(&self.folders) {
            match self.debouncer.watch(new, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(new.clone());
                }
                // Tried again at the next change or SIGHUP.
                Err(error) => {
                    tracing::warn!(folder = %new.display(), %error, "cannot watch; reload with SIGHUP instead");
                }
            }
        }
        let more = !watched.is_subset(&self.folders);
        self.folders = watched;
        more
    }
}

fn folder(parent: &Path) -> PathBuf {
    if parent.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        parent.to_owned()
    }
}
