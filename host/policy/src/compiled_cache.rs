//! Compiled code on disk, so that a start does not compile again (seconds for policies
//! in JavaScript or Python).
//!
//! Loading compiled code is running it: only files that this user alone can write are
//! believed, and only with the checksum that they were written with.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compiling::Compiling;

/// The most files that are kept; the oldest go first.
const MAX_FILES: usize = 64;
/// Bytes of the checksum before the code.
const CHECKSUM: usize = blake3::OUT_LEN;
const SUFFIX: &str = "compiled";

/// A directory of compiled components.
#[derive(Debug)]
pub(crate) struct CompiledCache {
    dir: PathBuf,
    /// Of wasmtime's version, the machine and all options that change the code.
    compatibility: u64,
}

impl CompiledCache {
    pub(crate) fn new(dir: PathBuf, engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self {
            dir,
            compatibility: hasher.finish(),
        }
    }

    /// The component, from disk or compiled now. Trouble with the disk is reported in
    /// the log and never an error.
    ///
    /// # Errors
    /// wasmtime's, when the component does not compile.
    pub(crate) fn component(
        &self,
        engine: &Engine,
        bytes: &[u8],
        hash: &blake3::Hash,
        compiling: &Compiling,
    ) -> wasmtime::Result<Component> {
        let compile = || compiling.component(engine, bytes);
        if let Err(reason) = self.trust() {
            tracing::warn!("compiled policies are not kept: {reason}");
            return compile();
        }
        let path = self
            .dir
            .join(format!("{hash}-{:016x}.{SUFFIX}", self.compatibility));
        match self.read(engine, &path) {
            Ok(Some(component)) => return Ok(component),
            Ok(None) => {}
            Err(reason) => {
                tracing::warn!(path = %path.display(), "compiled policy not used: {reason}");
            }
        }
        let component = compile()?;
        if let Err(reason) = self.write(&component, &path) {
            tracing::warn!(path = %path.display(), "compiled policy not kept: {reason}");
        }
        Ok(component)
    }

    /// Makes the directory, and tests that nobody else can write to it.
    fn trust(&self) -> Result<(), String> {
        let shown = self.dir.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|error| format!("{shown} cannot be made: {error}"))?;
        let found = fs::symlink_metadata(&self.dir)
            .map_err(|error| format!("{shown} cannot be read: {error}"))?;
        if !found.is_dir() {
            return Err(format!("{shown} is not a directory"));
        }
        private(&found).map_err(|why| format!("{shown} {why}"))
    }

    fn read(&self, engine: &Engine, path: &Path) -> Result<Option<Component>, String> {
        let mut file = match OpenOptions::new()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let found = file.metadata().map_err(|error| error.to_string())?;
        private(&found).map_err(|why| format!("it {why}"))?;
        let mut bytes = Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0));
        file.read_to_end(&mut bytes)
            .map_err(|error| error.to_string())?;
        let (sum, code) = bytes
            .split_at_checked(CHECKSUM)
            .ok_or("it is too short: it will be written again")?;
        if blake3::hash(code).as_bytes() != sum {
            return Err("its checksum is wrong: it will be written again".to_owned());
        }
        deserialize(engine, code)
            .map(Some)
            .map_err(|error| format!("{error:#}"))
    }

    /// Writes beside and renames, so that no reader sees a part of it.
    fn write(&self, component: &Component, path: &Path) -> Result<(), String> {
        let code = component
            .serialize()
            .map_err(|error| format!("{error:#}"))?;
        let temporary = path.with_extension(format!("{:016x}.tmp", fastrand::u64(..)));
        let written = self.write_synced(&code, &temporary).and_then(|()| {
            fs::rename(&temporary, path)?;
            File::open(&self.dir)?.sync_all()
        });
        if let Err(error) = written {
            // The directory may hold the half-written file or not: both are fine.
            drop(fs::remove_file(&temporary));
            return Err(error.to_string());
        }
        self.prune();
        Ok(())
    }

    fn write_synced(&self, code: &[u8], path: &Path) -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(blake3::hash(code).as_bytes())?;
        file.write_all(code)?;
        file.sync_all()
    }

    fn prune(&self) {
        let Ok(entries) = fs::read_dir(&self.dir) else {
            return;
        };
        let mut files: Vec<_> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == SUFFIX || e == "tmp"))
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        files.sort();
        let surplus = files.len().saturating_sub(MAX_FILES);
        for (_, path) in files.into_iter().take(surplus) {
            // Another process may have removed it already.
            drop(fs::remove_file(path));
        }
    }
}

/// Can only this user write to it?
fn private(found: &fs::Metadata) -> Result<(), String> {
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        return Err(format!(
            "belongs to user {} and not to user {me}, who runs this: change its owner, or remove it",
            found.uid()
        ));
    }
    if found.mode() & 0o022 != 0 {
        return Err(format!(
            "can be written by others (mode {:o}): run `chmod go-w` on it",
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

#[expect(
    unsafe_code,
    reason = "wasmtime cannot verify compiled code: whoever wrote it is trusted like this program"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` came out of `Component::serialize` and is unchanged: the file and
    // its directory belong to this user and can be written by nobody else (`private`),
    // its name carries the engine's compatibility hash, which wasmtime tests again, and
    // the checksum rules out a file that was torn by a crash.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn files(dir: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.sort();
        files
    }

    fn load(cache: &CompiledCache, engine: &Engine) {
        cache
            .component(engine, EMPTY, &blake3::hash(EMPTY), &Compiling::default())
            .unwrap();
    }

    #[test]
    fn writes_one_private_file_and_reads_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let cache = CompiledCache::new(dir.path().join("a/compiled"), &engine);
        load(&cache, &engine);
        let written = files(&cache.dir);
        assert_eq!(written.len(), 1, "{written:?}");
        assert_eq!(fs::metadata(&cache.dir).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&written[0]).unwrap().mode() & 0o777, 0o600);
        assert!(cache.read(&engine, &written[0]).unwrap().is_some());
        load(&cache, &engine);
        assert_eq!(files(&cache.dir), written);
    }

    #[test]
    fn a_damaged_file_is_refused_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let cache = CompiledCache::new(dir.path().join("c"), &engine);
        load(&cache, &engine);
        let path = files(&cache.dir).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let reason = cache.read(&engine, &path).unwrap_err();
        assert!(reason.contains("checksum"), "{reason}");
        load(&cache, &engine);
        assert!(cache.read(&engine, &path).unwrap().is_some());
        fs::write(&path, b"short").unwrap();
        assert!(cache.read(&engine, &path).is_err());
    }

    #[test]
    fn a_directory_or_file_that_others_can_write_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let cache = CompiledCache::new(dir.path().join("c"), &engine);
        load(&cache, &engine);
        let path = files(&cache.dir).remove(0);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.read(&engine, &path).unwrap_err().contains("chmod"));
        fs::remove_file(&path).unwrap();
        fs::set_permissions(&cache.dir, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(cache.trust().unwrap_err().contains("others"));
        load(&cache, &engine);
        assert!(files(&cache.dir).is_empty(), "wrote into an open directory");
    }

    #[test]
    fn a_link_instead_of_the_directory_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("real");
        fs::create_dir(&target).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let cache = CompiledCache::new(link, &Engine::default());
        assert!(cache.trust().is_err());
    }

    #[test]
    fn old_files_are_pruned() {
        let dir = tempfile::tempdir().unwrap();
        let cache = CompiledCache::new(dir.path().to_owned(), &Engine::default());
        for i in 0..(MAX_FILES + 5) {
            fs::write(dir.path().join(format!("{i}.{SUFFIX}")), b"").unwrap();
        }
        fs::write(dir.path().join("else.txt"), b"").unwrap();
        cache.prune();
        assert_eq!(files(dir.path()).len(), MAX_FILES + 1);
    }
}
