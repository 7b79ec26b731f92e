//! What a node was told to have in force, in `data_dir/policies`: it has it again after a
//! restart, also while Redis is away. Beside the list, `releases.json`, lie the components
//! that it names, each as `HASH.wasm`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use parking_lot::Mutex;

use super::releases::{Contents, Standing};

/// The list.
const LIST: &str = "releases.json";
/// What components are called.
const COMPONENT: &str = "wasm";

/// The folder.
#[derive(Debug)]
pub(crate) struct Kept {
    dir: PathBuf,
    list: Mutex<BTreeMap<String, Standing>>,
}

impl Kept {
    /// Reads what there is. A list that cannot be read is told, and counts as none.
    ///
    /// # Errors
    /// When there can be no folder.
    pub(crate) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let dir = data_dir.join("policies");
        let made = std::fs::create_dir_all(&dir);
        made.with_context(|| format!("{} cannot be made", dir.display()))?;
        let file = dir.join(LIST);
        let list = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::error!(
                    file = %file.display(),
                    %error,
                    "what was deployed cannot be read: the policies' files are in force"
                );
                BTreeMap::new()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("{} cannot be read", file.display()));
            }
        };
        let list = Mutex::new(list);
        Ok(Self { dir, list })
    }

    /// What a policy was told last, and those of the components it needs that are there.
    /// Whether they are whole is for the caller to test.
    pub(crate) fn find(&self, name: &str) -> Option<(Standing, Contents)> {
        let standing = self.list.lock().get(name)?.clone();
        let mut contents = Contents::new();
        for content in standing.release.contents() {
            let file = self.component(&content.hash);
            match std::fs::read(&file) {
                Ok(bytes) => {
                    contents.insert(content.hash.clone(), Bytes::from(bytes));
                }
                // It may be what stands in the policy's file; else it is missed later.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(file = %file.display(), %error, "it cannot be read");
                }
            }
        }
        Some((standing, contents))
    }

    /// Keeps what a policy was told, and lets go what nothing names any more.
    ///
    /// # Errors
    /// What could not be written: then the earlier list stands, whole.
    pub(crate) fn write(
        &self,
        name: &str,
        standing: &Standing,
        contents: &Contents,
    ) -> anyhow::Result<()> {
        let mut list = self.list.lock();
        for (hash, bytes) in contents {
            let file = self.component(hash);
            let there = file
                .metadata()
                .is_ok_and(|there| there.len() == bytes.len() as u64);
            if !there {
                self.replace(&file, bytes)?;
            }
        }
        let mut next = list.clone();
        next.insert(name.to_owned(), standing.clone());
        let text = serde_json::to_vec_pretty(&next)?;
        self.replace(&self.dir.join(LIST), &text)?;
        *list = next;
        self.tidy(&list);
        Ok(())
    }

    fn component(&self, hash: &str) -> PathBuf {
        self.dir.join(hash).with_extension(COMPONENT)
    }

    /// Whole or not at all, also when the machine stops.
    fn replace(&self, file: &Path, content: &[u8]) -> anyhow::Result<()> {
        let write = || {
            let mut new = tempfile::NamedTempFile::new_in(&self.dir)?;
            new.write_all(content)?;
            new.as_file().sync_all()?;
            new.persist(file).map_err(|error| error.error)?;
            std::fs::File::open(&self.dir)?.sync_all()
        };
        write().with_context(|| format!("{} cannot be written", file.display()))
    }

    fn tidy(&self, list: &BTreeMap<String, Standing>) {
        let needed: BTreeSet<PathBuf> = list
            .values()
            .flat_map(|standing| standing.release.contents())
            .map(|content| self.component(&content.hash))
            .collect();
        let Ok(files) = std::fs::read_dir(&self.dir) else {
            return;
        };
        for file in files.flatten().map(|file| file.path()) {
            let component = file.extension().is_some_and(|end| end == COMPONENT);
            if component && !needed.contains(&file) {
                // What stays costs room, and nothing else.
                drop(std::fs::remove_file(&file));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::releases::{Content, Release};
    use super::*;
    use crate::signing::hash;

    fn standing(revision: u64, component: &[u8], previous: &[u8]) -> Standing {
        let content = |bytes: &[u8]| Content {
            hash: hash(bytes),
            bytes: bytes.len(),
            signature: None,
        };
        Standing {
            revision,
            sent: true,
            file: String::new(),
            release: Release {
                component: content(component),
                previous: Some(content(previous)),
                file: String::new(),
                action: "deployed".into(),
                by: "here".into(),
                time: String::new(),
            },
        }
    }

    fn contents(components: &[&'static [u8]]) -> Contents {
        let named = |bytes: &&'static [u8]| (hash(bytes), Bytes::from_static(bytes));
        components.iter().map(named).collect()
    }

    #[test]
    fn what_was_told_is_found_again_and_what_nothing_names_goes() {
        let dir = tempfile::tempdir().unwrap();
        let kept = Kept::open(dir.path()).unwrap();
        assert!(kept.find("p").is_none());
        let first = standing(1, b"one", b"none");
        kept.write("p", &first, &contents(&[b"one"])).unwrap();
        let second = standing(2, b"two", b"one");
        kept.write("p", &second, &contents(&[b"two"])).unwrap();
        let other = standing(3, b"three", b"three");
        kept.write("q", &other, &contents(&[b"three"])).unwrap();

        let again = Kept::open(dir.path()).unwrap();
        let (found, components) = again.find("p").unwrap();
        assert_eq!(found, second);
        assert_eq!(components, contents(&[b"two", b"one"]));
        assert_eq!(again.find("q").unwrap().0, other);
        let third = standing(4, b"four", b"two");
        again.write("p", &third, &contents(&[b"four"])).unwrap();
        let left = std::fs::read_dir(dir.path().join("policies")).unwrap();
        assert_eq!(left.count(), 4, "three components and the list");
        assert!(!again.component(&hash(b"one")).exists());
    }

    #[test]
    fn a_list_that_is_none_counts_for_nothing_and_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("policies").join(LIST);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "{\"p\": 3").unwrap();
        let kept = Kept::open(dir.path()).unwrap();
        assert!(kept.find("p").is_none());
        let first = standing(1, b"one", b"one");
        kept.write("p", &first, &contents(&[b"one"])).unwrap();
        assert!(Kept::open(dir.path()).unwrap().find("p").is_some());
    }
}
