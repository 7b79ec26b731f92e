//! What a fleet was told to have in force, and how a node follows.

use std::collections::HashMap;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Entry, Loader, Policies, Services, Source, Version};
use crate::config;
use crate::signing;

/// A component, by what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    /// Its blake3, in hex.
    pub(crate) hash: String,
    /// Its size.
    pub(crate) bytes: usize,
    /// By whom it may run, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signature: Option<String>,
}

/// What is to be in force under a policy's name, on all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Release {
    /// The version.
    pub(crate) component: Content,
    /// The one that a rollback brings back.
    pub(crate) previous: Option<Content>,
    /// The hash of the policy's file on the node that made the release: what it is in the
    /// place of.
    pub(crate) file: String,
    /// `deployed`, `promoted` or `rolled-back`.
    pub(crate) action: String,
    /// The machine that was told.
    pub(crate) by: String,
    /// When: RFC 3339, in UTC.
    pub(crate) time: String,
}

/// The release that a node knows last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// The higher one counts. Milliseconds since 1970, or more.
    pub(crate) revision: u64,
    /// Whether Redis has taken it.
    pub(crate) sent: bool,
    /// The hash of this node's file when it took the release, which wins until the file is
    /// another one.
    pub(crate) file: String,
    pub(crate) release: Release,
}

/// A component that comes from somebody.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) bytes: Bytes,
    pub(crate) signature: Option<String>,
}

/// A release that this node could not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) revision: u64,
    pub(crate) release: Release,
    /// For what it is, and not since something was not at hand: it is not tried again.
    pub(crate) for_good: bool,
    pub(crate) why: String,
}

/// Components by hash.
pub(crate) type Contents = HashMap<String, Bytes>;

impl Release {
    /// What it needs.
    pub(crate) fn contents(&self) -> impl Iterator<Item = &Content> {
        std::iter::once(&self.component).chain(&self.previous)
    }

    /// The beginning of a hash, as versions are shown.
    pub(crate) fn version(&self) -> &str {
        short(&self.component.hash)
    }
}

pub(crate) fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

impl Upload {
    /// As a release would name it.
    pub(crate) async fn named(self) -> (Content, Contents) {
        let content = Content {
            hash: signing::hash_of(&self.bytes).await,
            bytes: self.bytes.len(),
            signature: self.signature,
        };
        let contents = Contents::from([(content.hash.clone(), self.bytes)]);
        (content, contents)
    }
}

impl Loader {
    /// Tests that a component may run: it is what stands in the policy's file, or signed.
    pub(super) fn admit(&self, name: &str, file: &str, content: &Content) -> anyhow::Result<()> {
        if file == content.hash {
            return Ok(());
        }
        let signature = content.signature.as_deref();
        signing::verify(&self.trusted, name, &content.hash, signature)
    }

    /// Loads the component that `content` names, and no other.
    pub(super) async fn load_content(
        &self,
        name: &str,
        config: &config::Policy,
        content: &Content,
        bytes: Option<Bytes>,
    ) -> anyhow::Result<Version> {
        let version = short(&content.hash);
        let bytes =
            bytes.with_context(|| format!("the component of version {version} is not at hand"))?;
        ensure!(
            signing::hash_of(&bytes).await == content.hash,
            "the component of version {version} has come damaged"
        );
        let (source, services) = (Source::Deployed, Services::Live);
        let mut version = self.load(name, config, bytes, source, services).await?;
        version.signed(content);
        Ok(version)
    }
}

impl Policies {
    /// Puts in force what a release names. `contents` are the components that this node did
    /// not have. Says which version is in force now, and which was, if that changed.
    ///
    /// # Errors
    /// Why it cannot be; the version in force stays.
    pub(crate) async fn follow(
        &mut self,
        loader: &Loader,
        name: &str,
        standing: Standing,
        contents: &Contents,
    ) -> anyhow::Result<Option<(String, String)>> {
        let entry = self.entries.get_mut(name).context("no such policy")?;
        let release = &standing.release;
        let from = entry.current.policy.version().to_owned();
        let changed = entry
            .enter(loader, name, &release.component, contents)
            .await?;
        if let Some(previous) = &release.previous {
            entry.prepare(loader, name, previous, contents).await;
        }
        entry.standing = Some(standing);
        entry.accepted();
        let version = entry.current.policy.version().to_owned();
        Ok(changed.then_some((version, from)))
    }

    /// Notes a release without following it.
    pub(crate) fn note(&mut self, name: &str, standing: Standing) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.standing = Some(standing);
            entry.accepted();
        }
    }

    /// Notes that one cannot be followed.
    pub(crate) fn refuse(&mut self, name: &str, refused: Refused) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.last_error = Some(refused.why.clone());
            entry.file_error = false;
            entry.refused = Some(refused);
        }
    }

    /// Makes a release of what is in force. Its revision and whether it was sent are the
    /// caller's to set.
    pub(crate) fn release(
        &self,
        name: &str,
        action: &str,
        by: String,
        time: String,
    ) -> Option<Release> {
        let entry = self.entries.get(name)?;
        let component = entry.current.content();
        let other = |content: &Content| content.hash != component.hash;
        let previous = entry.previous.as_ref().map(Version::content);
        // A version that was taken back by itself is not kept for rollbacks; the release
        // still names it.
        let released = entry.told().map(|(_, release)| release.component.clone());
        Some(Release {
            previous: previous.filter(other).or(released.filter(other)),
            component,
            file: entry.file_hash.clone(),
            action: action.to_owned(),
            by,
            time,
        })
    }

    /// What the fleet is brought back to, if this node follows what it was told.
    pub(crate) fn released_before(&self, name: &str) -> Option<&Content> {
        let entry = self.entries.get(name)?;
        let (file, release) = entry.told()?;
        let follows = file.is_none_or(|file| *file == entry.file_hash);
        follows.then_some(release.previous.as_ref())?
    }

    /// Puts a version in force that this node has or that is in `contents`. Says which one
    /// is now, and which was.
    ///
    /// # Errors
    /// As [`Policies::follow`].
    pub(crate) async fn enter(
        &mut self,
        loader: &Loader,
        name: &str,
        content: &Content,
        contents: &Contents,
    ) -> anyhow::Result<(String, String)> {
        let entry = self.entries.get_mut(name).context("no such policy")?;
        let from = entry.current.policy.version().to_owned();
        entry.enter(loader, name, content, contents).await?;
        Ok((entry.current.policy.version().to_owned(), from))
    }
}

impl Entry {
    /// The last release that this node has heard of, followed or not; and of which file it
    /// took the place here, if it did.
    fn told(&self) -> Option<(Option<&String>, &Release)> {
        match (&self.refused, &self.standing) {
            (Some(refused), _) => Some((None, &refused.release)),
            (None, Some(known)) => Some((Some(&known.file), &known.release)),
            (None, None) => None,
        }
    }

    /// The revision of the last release that this node has heard of; 0 for none.
    pub(crate) fn revision(&self) -> u64 {
        let followed = self.standing.as_ref().map_or(0, |known| known.revision);
        followed.max(self.refused.as_ref().map_or(0, |refused| refused.revision))
    }

    pub(crate) fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    pub(crate) fn refused(&self) -> Option<&Refused> {
        self.refused.as_ref()
    }

    pub(super) fn set_file(&mut self, file: Bytes) {
        self.file_hash = signing::hash(&file);
        self.file = file;
    }

    /// The hash of what was last loaded from the file.
    pub(crate) fn file_hash(&self) -> &str {
        &self.file_hash
    }

    /// A component, if this node has it.
    pub(crate) fn component(&self, hash: &str) -> Option<Bytes> {
        let known = self.all().find(|version| version.hash() == hash);
        let known = known.map(|version| version.bytes.clone());
        known.or_else(|| (self.file_hash == hash).then(|| self.file.clone()))
    }

    /// Those of the components that a release needs which this node has.
    pub(crate) fn components(&self, release: &Release) -> Contents {
        let known = |content: &Content| {
            let component = self.component(&content.hash)?;
            Some((content.hash.clone(), component))
        };
        release.contents().filter_map(known).collect()
    }

    /// A release that could not be followed is of no matter any more.
    fn accepted(&mut self) {
        if self.refused.take().is_some() {
            self.last_error = None;
        }
    }

    /// Whether another version came into force.
    pub(super) async fn enter(
        &mut self,
        loader: &Loader,
        name: &str,
        content: &Content,
        contents: &Contents,
    ) -> anyhow::Result<bool> {
        self.admit(loader, name, content)?;
        if self.current.hash() == content.hash {
            self.current.source = Source::Deployed;
            self.current.signed(content);
            self.settle();
            return Ok(false);
        }
        let before = self.previous.as_ref();
        if before.is_some_and(|before| before.hash() == content.hash) {
            // It is loaded: nothing to wait for.
            self.back();
            self.current.signed(content);
            return Ok(true);
        }
        let version = self.load(loader, name, content, contents).await?;
        self.held.retain(|held| held.hash() != version.hash());
        self.replace(version);
        Ok(true)
    }

    /// Has the version at hand that a rollback brings back.
    pub(super) async fn prepare(
        &mut self,
        loader: &Loader,
        name: &str,
        previous: &Content,
        contents: &Contents,
    ) {
        let known = |version: &Version| version.hash() == previous.hash;
        if known(&self.current) || self.previous.as_ref().is_some_and(known) {
            return;
        }
        let loaded = match self.admit(loader, name, previous) {
            Ok(()) => self.load(loader, name, previous, contents).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok(version) => self.previous = Some(version),
            Err(error) => tracing::warn!(
                policy = name,
                version = short(&previous.hash),
                "the version before cannot be loaded, a rollback would not find it: {error:#}"
            ),
        }
    }

    async fn load(
        &self,
        loader: &Loader,
        name: &str,
        content: &Content,
        contents: &Contents,
    ) -> anyhow::Result<Version> {
        let here = self.component(&content.hash);
        let bytes = here.or_else(|| contents.get(&content.hash).cloned());
        loader
            .load_content(name, &self.config, content, bytes)
            .await
    }

    /// As [`Loader::admit`]; what was once loaded from the file is of the file too.
    pub(super) fn admit(
        &self,
        loader: &Loader,
        name: &str,
        content: &Content,
    ) -> anyhow::Result<()> {
        let mut known = self.all();
        if known.any(|version| version.hash() == content.hash && version.source == Source::File) {
            return Ok(());
        }
        loader.admit(name, &self.file_hash, content)
    }
}

impl Version {
    /// Of its bytes, in hex.
    pub(super) fn hash(&self) -> &str {
        self.policy.hash()
    }

    pub(super) fn content(&self) -> Content {
        Content {
            hash: self.hash().to_owned(),
            bytes: self.bytes.len(),
            signature: self.signature.clone(),
        }
    }

    fn signed(&mut self, content: &Content) {
        if content.signature.is_some() {
            self.signature.clone_from(&content.signature);
        }
    }
}
