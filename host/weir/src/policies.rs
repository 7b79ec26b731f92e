//! The policies of a node: from files and from deploys, the version in force and the one
//! before it. A version that does not load changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bytes::Bytes;
use weir_policy::{About, Engine, HostServices, Policy};
use weir_proxy::{Metrics, PolicySlot, Trial};
use weir_store::Clock;

use crate::capabilities;
use crate::cases;
use crate::config;
use crate::daytime;
use crate::registry::Pulled;
use crate::settings;
use crate::signing::{self, PublicKey};

mod about;
mod ahead;
mod kept;
mod releases;
mod trials;

pub(crate) use ahead::ToLoad;
pub(crate) use kept::Kept;
pub(crate) use releases::{Content, Contents, Refused, Release, Standing, Upload, short};
pub(crate) use trials::{Quarantine, RolledBack, TrialError, reach};

/// The largest component, in bytes.
const MAX_COMPONENT: u64 = 64 << 20;

/// Where the version in force came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    File,
    Deployed,
}

/// What a version may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Services {
    /// What it is granted.
    Live,
    /// The same, and what it does changes nothing.
    Watched,
}

/// One version of a policy.
#[derive(Debug, Clone)]
struct Version {
    policy: Policy,
    bytes: Bytes,
    /// What it was deployed with.
    signature: Option<String>,
    /// It was in force and did not keep its bounds.
    taken_back: bool,
    source: Source,
    loaded: SystemTime,
}

/// A configured policy.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    clock: Clock,
    pub(crate) config: config::Policy,
    current: Version,
    /// When it came into force.
    since: SystemTime,
    previous: Option<Version>,
    /// Versions that wait to be tried, the newest last, and before them those that were taken
    /// back. They are watched: what they do changes nothing.
    held: Vec<Version>,
    /// One of them that is tried, or the version before.
    trial: Option<Arc<Trial>>,
    /// When that began.
    trial_since: Option<SystemTime>,
    /// The version that was taken back by itself, until somebody changes something.
    quarantine: Option<Quarantine>,
    /// What was last loaded from the file: a deployed version wins until this changes.
    file: Bytes,
    /// Its hash, in hex.
    file_hash: String,
    /// What was last read from the file and could not be loaded.
    failed: Option<Bytes>,
    pub(crate) last_error: Option<String>,
    /// Whether that is of the file, and so is over once the file is good.
    file_error: bool,
    /// What the fleet was told last, or this node alone.
    standing: Option<Standing>,
    /// The release that could not be followed, until another one is.
    refused: Option<Refused>,
}

impl Entry {
    pub(crate) fn policy(&self) -> &Policy {
        &self.current.policy
    }

    pub(crate) fn source(&self) -> Source {
        self.current.source
    }

    /// The version that a rollback brings back.
    pub(crate) fn previous(&self) -> Option<&str> {
        Some(self.previous.as_ref()?.policy.version())
    }

    /// Versions that wait to be tried or promoted, the newest last.
    pub(crate) fn held(&self) -> impl Iterator<Item = &str> {
        self.held.iter().map(|version| version.policy.version())
    }

    pub(crate) fn quarantine(&self) -> Option<&Quarantine> {
        self.quarantine.as_ref()
    }

    pub(crate) fn trial(&self) -> Option<&Arc<Trial>> {
        self.trial.as_ref()
    }
}

/// What a reload did to one policy.
#[derive(Debug)]
pub(crate) struct Reloaded {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) changed: bool,
    pub(crate) error: Option<String>,
}

/// Loads components, off the data path.
#[derive(Debug, Clone)]
pub(crate) struct Loader {
    engine: Engine,
    services: HostServices,
    /// For versions that are only watched.
    watched: HostServices,
    /// By one of which a component must be signed that is not of a file; none: anybody's.
    trusted: Arc<[PublicKey]>,
    /// What an earlier run was told.
    kept: Option<Arc<Kept>>,
    /// What registries gave.
    pulled: Arc<Pulled>,
    known: about::Known,
    ahead: ahead::Ahead,
    /// Whether versions must pass their cases.
    tests: bool,
    clock: Clock,
}

impl Loader {
    pub(crate) fn new(
        engine: Engine,
        services: HostServices,
        trusted: &[PublicKey],
        kept: Option<Arc<Kept>>,
        pulled: Pulled,
        clock: Clock,
    ) -> Self {
        Self {
            engine,
            watched: capabilities::watched(&services),
            services,
            trusted: trusted.into(),
            kept,
            pulled: Arc::new(pulled),
            known: about::Known::default(),
            ahead: ahead::Ahead::default(),
            tests: true,
            clock,
        }
    }

    /// Says whether requests are served meanwhile.
    pub(crate) fn set_serving(&self, serving: bool) {
        self.engine.set_serving(serving);
    }

    /// What runs the policies.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn kept(&self) -> Option<&Arc<Kept>> {
        self.kept.as_ref()
    }

    /// What a version says of itself that was loaded lately.
    pub(crate) fn about(&self, version: &str) -> About {
        self.known.about(version).unwrap_or_default()
    }

    /// The same, and no version need pass its cases.
    pub(crate) fn untested(self) -> Self {
        Self {
            tests: false,
            ..self
        }
    }

    /// What stands where the configuration says that the component is.
    async fn read(&self, config: &config::Policy) -> anyhow::Result<Bytes> {
        match &config.component {
            config::Component::File(file) => read(file).await,
            config::Component::Registry(image) => self.pulled.get(image).await,
        }
    }

    /// Takes what was loaded ahead, or loads it now.
    async fn load(
        &self,
        name: &str,
        config: &config::Policy,
        bytes: Bytes,
        source: Source,
        services: Services,
    ) -> anyhow::Result<Version> {
        let loaded = match self.ahead.take(name, config, &bytes, services).await {
            Some(loaded) => loaded,
            None => self.load_now(name, config, bytes, services).await,
        };
        Ok(Version { source, ..loaded? })
    }

    /// Compiles, checks and tests a component; the engine does it off this thread.
    async fn load_now(
        &self,
        name: &str,
        config: &config::Policy,
        bytes: Bytes,
        services: Services,
    ) -> anyhow::Result<Version> {
        let services = match services {
            Services::Live => self.services.clone(),
            Services::Watched => self.watched.clone(),
        };
        let spec = settings::policy(name, config);
        let policy = self.engine.load(spec, bytes.clone(), services).await?;
        if self.tests {
            cases::test(&policy, &bytes, config.cases.as_deref()).await?;
        }
        policy.warm().await;
        self.known.note(&policy);
        Ok(Version {
            policy,
            bytes,
            signature: None,
            taken_back: false,
            source: Source::Deployed,
            loaded: daytime::now(&self.clock),
        })
    }
}

/// All policies of a node.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policies {
    entries: BTreeMap<String, Entry>,
}

impl Policies {
    /// Makes the set that a configuration names. What is already loaded and unchanged is
    /// kept; what no longer loads keeps its last good version, if the settings it was
    /// loaded with still hold.
    ///
    /// `retry`: also load again what has failed before and has not changed.
    ///
    /// # Errors
    /// Names every policy that cannot be loaded and has no version to keep, with the line
    /// of `file` that names its component.
    pub(crate) async fn configured(
        &self,
        loader: &Loader,
        file: &Path,
        wanted: &BTreeMap<String, config::Policy>,
        retry: bool,
    ) -> anyhow::Result<(Self, Vec<Reloaded>)> {
        let mut entries = BTreeMap::new();
        let mut report = Vec::new();
        let mut wrong = Vec::new();
        for (name, config) in wanted {
            let known = self.entries.get(name);
            match configure_one(loader, name, config, known, retry).await {
                Ok((entry, reloaded)) => {
                    entries.insert(name.clone(), entry);
                    report.push(reloaded);
                }
                Err(error) => wrong.push(format!(
                    "{}:{}: policies.{name}.component: {error:#}\n   file: {}",
                    file.display(),
                    config.line,
                    config.component
                )),
            }
        }
        anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok((Self { entries }, report))
    }

    /// Puts a deployed component in force.
    ///
    /// # Errors
    /// What is wrong with it; the version in force stays.
    pub(crate) async fn deploy(
        &mut self,
        loader: &Loader,
        name: &str,
        content: &Content,
        contents: &Contents,
    ) -> anyhow::Result<()> {
        let entry = self.entries.get_mut(name).context("no such policy")?;
        let entered = entry.enter(loader, name, content, contents).await;
        if let Err(error) = &entered {
            entry.last_error = Some(format!("{error:#}"));
            entry.file_error = false;
        }
        entered.map(drop)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }

    /// What a generation is made of.
    pub(crate) fn slots(&self, metrics: &Metrics) -> HashMap<String, PolicySlot> {
        self.entries
            .iter()
            .map(|(name, entry)| {
                let previous = entry
                    .previous
                    .as_ref()
                    .map(|version| version.policy.clone());
                let trial = entry.trial.clone();
                let slot = PolicySlot::new(entry.current.policy.clone(), previous, trial, metrics);
                (name.clone(), slot)
            })
            .collect()
    }

    /// The files that are watched.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.entries
            .values()
            .filter_map(|entry| match &entry.config.component {
                config::Component::File(file) => Some(file.clone()),
                config::Component::Registry(_) => None,
            })
            .collect()
    }
}

impl Entry {
    fn new(loader: &Loader, config: &config::Policy, current: Version, file: Bytes) -> Self {
        Self {
            clock: loader.clock.clone(),
            config: config.clone(),
            current,
            since: daytime::now(&loader.clock),
            previous: None,
            held: Vec::new(),
            trial: None,
            trial_since: None,
            quarantine: None,
            file_hash: signing::hash(&file),
            file,
            failed: None,
            last_error: None,
            file_error: false,
            standing: None,
            refused: None,
        }
    }

    fn replace(&mut self, version: Version) {
        // Whatever it did before, somebody wants it now.
        version.policy.admit(100);
        // Its idle instances would keep places that others need.
        self.current.policy.rest();
        self.previous = Some(std::mem::replace(&mut self.current, version));
        self.since = daytime::now(&self.clock);
        self.last_error = None;
        // It was compared with a version that is not in force any more.
        self.trial = None;
        self.quarantine = None;
    }
}

async fn configure_one(
    loader: &Loader,
    name: &str,
    config: &config::Policy,
    known: Option<&Entry>,
    retry: bool,
) -> anyhow::Result<(Entry, Reloaded)> {
    let read = loader.read(config).await;
    let Some(known) = known else {
        let entry = first(loader, name, config, read?).await?;
        let reloaded = entry.reloaded(name, true);
        return Ok((entry, reloaded));
    };
    let mut entry = known.clone();
    let same_settings = settings::same_policy(&known.config, config);
    let same_cases = known.config.cases == config.cases;
    entry.config = config.clone();
    let wanted = match read {
        Ok(bytes) if same_settings && bytes == known.current.bytes => {
            // What was deployed has arrived in the file as well.
            if bytes != known.file {
                entry.current.source = Source::File;
                entry.set_file(bytes);
            }
            Ok(None)
        }
        // It failed before, and nobody asks for another try.
        Ok(bytes) if same_settings && !retry && known.failed.as_ref() == Some(&bytes) => {
            return Ok((entry, reloaded_as_before(name, known)));
        }
        Ok(bytes) if bytes != known.file => {
            entry.failed = Some(bytes.clone());
            Ok(Some((bytes, Source::File)))
        }
        Ok(_) if same_settings => Ok(None),
        Ok(_) => Ok(Some((known.current.bytes.clone(), known.current.source))),
        Err(error) => Err(error),
    };
    let loaded = match wanted {
        Ok(Some((bytes, source))) => loader
            .load(name, config, bytes, source, Services::Live)
            .await
            .map(Some),
        Ok(None) => Ok(None),
        Err(error) => Err(error),
    };
    if !same_settings || !same_cases {
        // What could not be loaded may be now.
        entry.refused = None;
    }
    let changed = match loaded {
        Ok(Some(mut version)) => {
            if version.hash() == known.current.hash() {
                version.signature.clone_from(&known.current.signature);
            }
            if version.source == Source::File {
                entry.file = version.bytes.clone();
                version.hash().clone_into(&mut entry.file_hash);
            }
            entry.replace(version);
            entry.failed = None;
            if !same_settings {
                // They were loaded with grants and namespaces that no longer hold.
                entry.previous = None;
                entry.held.clear();
            }
            true
        }
        Ok(None) => {
            // Files are looked at whenever one of their folder changes, and at the start: that
            // says nothing of what else went wrong.
            entry.failed = None;
            if !entry.file_error && !retry {
                // It was told and written down then.
                let reloaded = reloaded_as_before(name, &entry);
                return Ok((entry, reloaded));
            }
            entry.last_error = None;
            false
        }
        // A version that was loaded with other namespaces or grants may not go on.
        Err(error) if !same_settings => return Err(error),
        Err(error) => {
            let error = Some(format!("{error:#}"));
            let is_told = known.file_error && known.failed == entry.failed;
            if !retry && is_told && known.last_error == error {
                return Ok((entry, reloaded_as_before(name, known)));
            }
            entry.last_error = error;
            entry.file_error = true;
            false
        }
    };
    let reloaded = entry.reloaded(name, changed);
    Ok((entry, reloaded))
}

/// A policy that this process has not had: what an earlier run was told last, unless the
/// file has changed since; else the file.
async fn first(
    loader: &Loader,
    name: &str,
    config: &config::Policy,
    file: Bytes,
) -> anyhow::Result<Entry> {
    let (mut standing, mut last_error) = (None, None);
    if let Some((kept, contents)) = loader.kept.as_ref().and_then(|kept| kept.find(name)) {
        if kept.file == signing::hash(&file) {
            match resume(loader, name, config, &file, kept, &contents).await {
                Ok(entry) => return Ok(entry),
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(
                        policy = name,
                        error,
                        "the version that was deployed cannot be loaded again: the file's is in force"
                    );
                    last_error = Some(error);
                }
            }
        } else {
            standing = Some(kept);
        }
    }
    let current = loader
        .load(name, config, file.clone(), Source::File, Services::Live)
        .await?;
    Ok(Entry {
        standing,
        last_error,
        ..Entry::new(loader, config, current, file)
    })
}

/// What was in force when the last run ended.
async fn resume(
    loader: &Loader,
    name: &str,
    config: &config::Policy,
    file: &Bytes,
    kept: Standing,
    contents: &Contents,
) -> anyhow::Result<Entry> {
    let content = &kept.release.component;
    let bytes = match kept.file == content.hash {
        true => Some(file.clone()),
        false => contents.get(&content.hash).cloned(),
    };
    loader.admit(name, &kept.file, content)?;
    let current = loader.load_content(name, config, content, bytes).await?;
    let mut entry = Entry::new(loader, config, current, file.clone());
    if let Some(previous) = &kept.release.previous {
        entry.prepare(loader, name, previous, contents).await;
    }
    entry.standing = Some(kept);
    Ok(entry)
}

/// Nothing was tried: what was wrong still is, and has been told.
fn reloaded_as_before(name: &str, known: &Entry) -> Reloaded {
    Reloaded {
        error: None,
        ..known.reloaded(name, false)
    }
}

impl Entry {
    fn reloaded(&self, name: &str, changed: bool) -> Reloaded {
        Reloaded {
            name: name.to_owned(),
            version: Some(self.current.policy.version().to_owned()),
            changed,
            error: self.last_error.clone(),
        }
    }
}

async fn read(path: &Path) -> anyhow::Result<Bytes> {
    let size = tokio::fs::metadata(path)
        .await
        .with_context(|| format!("the component {} cannot be read", path.display()))?
        .len();
    anyhow::ensure!(
        size <= MAX_COMPONENT,
        "the component {} has {size} bytes, more than the {MAX_COMPONENT} that are allowed",
        path.display()
    );
    let bytes = tokio::fs::read(path)
        .await
        .with_context(|| format!("the component {} cannot be read", path.display()))?;
    Ok(Bytes::from(bytes))
}
