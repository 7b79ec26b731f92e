//! Who changed what about the policies, and when: one JSON object a line in
//! `data_dir/audit.jsonl`, which outlives the node; the newest also in memory.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use parking_lot::Mutex;
use weir_admin::AuditEntry;
use weir_policy::About;
use weir_store::Clock;

use crate::daytime;

/// What the file is called.
const FILE: &str = "audit.jsonl";
/// How many entries are kept in memory.
const RECENT: usize = 1_000;
/// The size at which the file becomes `audit.jsonl.1`, in the place of the one before.
const MAX_FILE: u64 = 8 << 20;
/// The longest line that is read back, in bytes.
const MAX_LINE: usize = 64 << 10;

/// The record of changes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Audit(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    recent: VecDeque<AuditEntry>,
    /// The version of each policy that was in force after its last entry.
    in_force: BTreeMap<String, String>,
    path: Option<PathBuf>,
    clock: Clock,
}

/// What is written down; the time is added.
#[derive(Debug, Clone)]
pub(crate) struct Change<'a> {
    pub(crate) policy: &'a str,
    /// What was done: `loaded`, `deployed`, `shadow`…
    pub(crate) action: &'static str,
    /// Who did it: `file`, `start`, `admin`, `fleet`, `retry`, or the rule that did.
    pub(crate) by: &'static str,
    /// The version that it is about.
    pub(crate) version: &'a str,
    /// The version in whose place it is.
    pub(crate) from: Option<&'a str>,
    pub(crate) detail: Option<String>,
    /// What that version says of itself.
    pub(crate) about: About,
}

impl Audit {
    /// Reads what there is in `data_dir`. Lines that cannot be read are left alone.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn open(data_dir: Option<&Path>, clock: Clock) -> anyhow::Result<Self> {
        let path = data_dir.map(|data_dir| data_dir.join(FILE));
        let mut inner = Inner {
            recent: VecDeque::new(),
            in_force: BTreeMap::new(),
            path,
            clock,
        };
        if let Some(path) = inner.path.clone() {
            for path in [&earlier(&path), &path] {
                inner
                    .read(path)
                    .with_context(|| format!("the audit log {} cannot be read", path.display()))?;
            }
        }
        Ok(Self(Arc::new(Mutex::new(inner))))
    }

    /// Writes a change down. One that cannot be written is still in the node's log and in
    /// memory: a full disk stops no rollback.
    pub(crate) fn record(&self, change: &Change<'_>) {
        let mut inner = self.0.lock();
        let now = daytime::now(&inner.clock);
        let entry = AuditEntry {
            time: humantime::format_rfc3339_millis(now).to_string(),
            policy: change.policy.to_owned(),
            action: change.action.to_owned(),
            by: change.by.to_owned(),
            version: change.version.to_owned(),
            from: change.from.map(str::to_owned),
            detail: change.detail.clone(),
            semver: change.about.version.clone(),
            authors: change.about.authors.clone(),
        };
        tracing::info!(
            policy = entry.policy,
            action = entry.action,
            by = entry.by,
            version = entry.version,
            from = entry.from,
            detail = entry.detail,
            semver = entry.semver,
            authors = entry.authors,
            "audit"
        );
        if let Some(path) = &inner.path
            && let Err(error) = append(path, &entry)
        {
            tracing::error!(file = %path.display(), %error, "the audit log cannot be written");
        }
        inner.push(entry);
    }

    /// The version of a policy that was in force after its last entry, where that is known.
    pub(crate) fn in_force(&self, policy: &str) -> Option<String> {
        self.0.lock().in_force.get(policy).cloned()
    }

    /// The newest entries, the newest first; of one policy where it is named.
    pub(crate) fn newest(&self, policy: Option<&str>, limit: usize) -> Vec<AuditEntry> {
        let inner = self.0.lock();
        let entries = inner.recent.iter().rev();
        entries
            .filter(|entry| policy.is_none_or(|policy| policy == entry.policy))
            .take(limit)
            .cloned()
            .collect()
    }
}

/// What a full file is called from then on.
fn earlier(path: &Path) -> PathBuf {
    path.with_extension("jsonl.1")
}

impl Inner {
    /// Reads the entries of a file, if there is one.
    fn read(&mut self, path: &Path) -> std::io::Result<()> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            if line.len() <= MAX_LINE
                && let Ok(entry) = serde_json::from_slice(&line)
            {
                self.push(entry);
            }
        }
        Ok(())
    }

    fn push(&mut self, entry: AuditEntry) {
        let in_force = match &*entry.action {
            "loaded" | "deployed" | "promoted" | "followed" | "rolled-back" | "restored" => {
                Some(&entry.version)
            }
            // The one before is back, where there is one.
            "quarantined" => entry.from.as_ref(),
            _ => None,
        };
        if let Some(version) = in_force {
            self.in_force.insert(entry.policy.clone(), version.clone());
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(entry);
    }
}

fn append(path: &Path, entry: &AuditEntry) -> anyhow::Result<()> {
    if path.metadata().is_ok_and(|file| file.len() > MAX_FILE) {
        std::fs::rename(path, earlier(path))?;
    }
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    if is_torn(&mut file)? {
        line.insert(0, b'\n');
    }
    file.write_all(&line)?;
    file.sync_data()?;
    Ok(())
}

/// Was the last line not written whole? It must not take the next one with it.
fn is_torn(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(version: &str) -> Change<'_> {
        Change {
            policy: "pages",
            action: "deployed",
            by: "admin",
            version,
            from: Some("before"),
            detail: None,
            about: About::default(),
        }
    }

    fn versions(list: Vec<AuditEntry>) -> Vec<String> {
        list.into_iter().map(|entry| entry.version).collect()
    }

    #[test]
    fn what_was_written_is_read_back_and_a_torn_line_costs_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Audit::open(Some(dir.path()), Clock::system()).unwrap();
        let audit = open();
        audit.record(&change("one"));
        audit.record(&change("two"));
        let path = dir.path().join(FILE);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"time\":\"20").unwrap();
        open().record(&change("three"));
        let again = open();
        assert_eq!(versions(again.newest(None, 10)), ["three", "two", "one"]);
        assert_eq!(versions(again.newest(Some("pages"), 1)), ["three"]);
        assert!(again.newest(Some("other"), 10).is_empty());
    }

    #[test]
    fn a_full_file_makes_way_and_is_read_back_too() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Audit::open(Some(dir.path()), Clock::system()).unwrap();
        open().record(&change("one"));
        let path = dir.path().join(FILE);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        let long = usize::try_from(MAX_FILE).unwrap();
        file.write_all(&vec![b' '; long]).unwrap();
        open().record(&change("two"));
        assert!(path.metadata().unwrap().len() < 1_000);
        assert_eq!(versions(open().newest(None, 10)), ["two", "one"]);
    }

    #[test]
    fn it_says_what_was_in_force_last() {
        let audit = Audit::open(None, Clock::system()).unwrap();
        assert_eq!(audit.in_force("pages"), None);
        let record = |action, version, from| {
            audit.record(&Change {
                action,
                from,
                ..change(version)
            });
            audit.in_force("pages").unwrap()
        };
        assert_eq!(record("loaded", "one", None), "one");
        assert_eq!(record("held", "two", None), "one");
        assert_eq!(record("refused", "one", None), "one");
        assert_eq!(record("promoted", "two", Some("one")), "two");
        assert_eq!(record("canary", "three", None), "two");
        assert_eq!(record("quarantined", "two", Some("one")), "one");
        assert_eq!(record("quarantined", "one", None), "one");
        assert_eq!(audit.in_force("other"), None);
    }

    #[test]
    fn without_a_data_dir_it_is_in_memory_and_bounded() {
        let audit = Audit::open(None, Clock::system()).unwrap();
        for n in 0..=RECENT {
            audit.record(&change(&n.to_string()));
        }
        assert_eq!(audit.newest(None, usize::MAX).len(), RECENT);
    }
}
