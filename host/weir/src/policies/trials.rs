//! Versions on their way into force, and back: held, tried in shadow or as a canary,
//! promoted, rolled back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use weir_proxy::{Trial, TrialMode};

use super::{Content, Entry, Loader, Policies, Services, Source, ToLoad, Version};
use crate::config;
use crate::daytime;

/// How many versions are held beside those in force and before: the newest ones.
const HELD: usize = 4;

/// Why a version is not tried or promoted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    /// There is none of that name.
    #[error("{0}")]
    Unknown(String),
    /// It makes no sense now.
    #[error("{0}")]
    Conflict(String),
    /// It does not load.
    #[error("{0:#}")]
    Load(anyhow::Error),
    /// It loads, and the routes cannot be put together with it: a fault of the node.
    #[error("{0:#}")]
    Install(anyhow::Error),
}

impl TrialError {
    pub(crate) fn unknown(name: &str) -> Self {
        Self::Unknown(format!(
            "there is no policy named {name:?}; policies are defined as [policies.NAME] in the configuration"
        ))
    }
}

/// A version that was taken back by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quarantine {
    /// It.
    pub(crate) version: String,
    /// Why, for a person.
    pub(crate) why: String,
    /// How long it waits this time.
    pub(crate) wait: Duration,
    /// When it is tried again, on the guard's clock.
    pub(crate) due: Duration,
}

/// What a rollback did.
#[derive(Debug)]
pub(crate) enum RolledBack {
    /// This version, which was in force before, is again, in place of the other.
    To { version: String, from: String },
    /// A trial has ended; the version in force stays.
    Ended {
        version: String,
        tried: String,
        mode: TrialMode,
    },
}

/// What a version on trial may reach.
pub(crate) fn reach(mode: TrialMode) -> Services {
    match mode {
        TrialMode::Shadow => Services::Watched,
        TrialMode::Canary => Services::Live,
    }
}

impl Policies {
    /// Loads a component and keeps it, without putting it in force. Its version.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) async fn hold(
        &mut self,
        loader: &Loader,
        name: &str,
        content: Content,
        bytes: Bytes,
    ) -> anyhow::Result<String> {
        let entry = self.entries.get_mut(name).context("no such policy")?;
        entry.admit(loader, name, &content)?;
        if let Some(known) = entry.known_as(&bytes) {
            entry.wanted(&known);
            return Ok(known);
        }
        let (config, source) = (&entry.config, Source::Deployed);
        let mut version = loader
            .load(name, config, bytes, source, Services::Watched)
            .await?;
        version.signature = content.signature;
        let label = version.policy.version().to_owned();
        entry.held.push(version);
        entry.let_go(HELD);
        Ok(label)
    }

    /// Tries a version that is held, or the one before; without a name the newest. A trial
    /// that is under way ends.
    ///
    /// # Errors
    /// See [`TrialError`].
    pub(crate) async fn try_out(
        &mut self,
        loader: &Loader,
        name: &str,
        version: Option<&str>,
        mode: TrialMode,
        percent: f64,
    ) -> Result<Arc<Trial>, TrialError> {
        let entry = self.entry(name)?;
        let bytes = entry.candidate(version)?.bytes.clone();
        let (config, source) = (&entry.config, Source::Deployed);
        let loaded = loader
            .load(name, config, bytes, source, reach(mode))
            .await
            .map_err(TrialError::Load)?;
        let trial = Arc::new(Trial::new(loaded.policy, mode, percent));
        entry.trial = Some(Arc::clone(&trial));
        entry.trial_since = Some(daytime::now(&entry.clock));
        Ok(trial)
    }

    /// Puts a version in force that is held or the one before; without a name the one on
    /// trial. The version, and the one in whose place it is.
    ///
    /// # Errors
    /// See [`TrialError`].
    pub(crate) async fn promote(
        &mut self,
        loader: &Loader,
        name: &str,
        version: Option<&str>,
    ) -> Result<(String, String), TrialError> {
        let entry = self.entry(name)?;
        let tried = entry
            .trial
            .as_ref()
            .map(|trial| trial.policy.version().to_owned());
        let candidate = match version.or(tried.as_deref()) {
            Some(version) => entry.candidate(Some(version))?,
            None => {
                return Err(TrialError::Conflict(format!(
                    "no version of {name} is on trial; name one of {}",
                    entry.names()
                )));
            }
        };
        let (bytes, signature) = (candidate.bytes.clone(), candidate.signature.clone());
        let (config, source) = (&entry.config, Source::Deployed);
        let mut loaded = loader
            .load(name, config, bytes, source, Services::Live)
            .await
            .map_err(TrialError::Load)?;
        loaded.signature = signature;
        let from = entry.current.policy.version().to_owned();
        let version = loaded.policy.version().to_owned();
        entry
            .held
            .retain(|held| held.policy.version() != version.as_str());
        entry.replace(loaded);
        Ok((version, from))
    }

    /// Ends a trial, if there is one; else brings back the version before the present one,
    /// and the two change places. `None` when there is neither.
    pub(crate) fn roll_back(&mut self, name: &str) -> Option<RolledBack> {
        let entry = self.entries.get_mut(name)?;
        if let Some(trial) = entry.trial.take() {
            return Some(RolledBack::Ended {
                version: entry.current.policy.version().to_owned(),
                tried: trial.policy.version().to_owned(),
                mode: trial.mode,
            });
        }
        entry.back()
    }

    /// Brings back the version before, and holds the present one. The version that is in
    /// force then.
    pub(crate) fn take_back(&mut self, name: &str) -> Option<String> {
        let entry = self.entries.get_mut(name)?;
        entry.back()?;
        // Not where `last-good` and the next rollback would find it.
        if let Some(mut taken_back) = entry.previous.take() {
            let version = taken_back.policy.version();
            entry.held.retain(|held| held.policy.version() != version);
            entry.let_go(HELD - 1);
            taken_back.taken_back = true;
            entry.held.insert(0, taken_back);
        }
        Some(entry.current.policy.version().to_owned())
    }

    /// Notes that a version was taken back.
    pub(crate) fn quarantine(&mut self, name: &str, quarantine: Quarantine) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.quarantine = Some(quarantine);
        }
    }

    /// Forgets that, and has the version in force called again.
    pub(crate) fn release_quarantine(&mut self, name: &str) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.quarantine = None;
            entry.current.policy.admit(100);
        }
    }

    fn entry(&mut self, name: &str) -> Result<&mut Entry, TrialError> {
        self.entries
            .get_mut(name)
            .ok_or_else(|| TrialError::unknown(name))
    }
}

impl Version {
    fn to_load(&self, config: &config::Policy) -> ToLoad {
        ToLoad {
            config: config.clone(),
            hash: self.hash().to_owned(),
            bytes: self.bytes.clone(),
        }
    }
}

impl Entry {
    /// The version before comes into force again.
    pub(super) fn back(&mut self) -> Option<RolledBack> {
        let mut back = self.previous.take()?;
        // From now on it is there because somebody wanted it, whatever the file says.
        back.source = Source::Deployed;
        let from = self.current.policy.version().to_owned();
        self.replace(back);
        let version = self.current.policy.version().to_owned();
        Some(RolledBack::To { version, from })
    }

    /// Somebody wants the version in force: what became of one that misbehaved is over.
    pub(super) fn settle(&mut self) {
        let quarantine = self.quarantine.take();
        self.current.policy.admit(100);
        let retried = quarantine.zip(self.trial.as_ref());
        if retried.is_some_and(|(one, trial)| one.version == trial.policy.version()) {
            self.trial = None;
        }
    }

    /// Holds no more than the newest versions, and the one in quarantine, which is tried again.
    fn let_go(&mut self, most: usize) {
        while self.held.len() > most {
            let oldest = self.held.iter().position(|held| !self.is_quarantined(held));
            // The one on trial is a reference of its own.
            self.held.remove(oldest.unwrap_or_default());
        }
    }

    fn is_quarantined(&self, version: &Version) -> bool {
        let label = version.policy.version();
        self.quarantine
            .as_ref()
            .is_some_and(|quarantine| quarantine.version == label)
    }

    /// Somebody has sent a version again that is known: if it is held, it is the newest.
    fn wanted(&mut self, version: &str) {
        let mut held = self.held.iter();
        if let Some(at) = held.position(|held| held.policy.version() == version) {
            let mut newest = self.held.remove(at);
            newest.taken_back = false;
            self.held.push(newest);
        }
    }

    /// The version of this component, where it is in force, before or held.
    fn known_as(&self, bytes: &Bytes) -> Option<String> {
        let known = self.all().find(|version| version.bytes == bytes);
        known.map(|version| version.policy.version().to_owned())
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.current)
            .chain(&self.previous)
            .chain(&self.held)
    }

    /// What has to be loaded to try a version, if there is one; the newest without a name.
    pub(crate) fn to_try(&self, version: Option<&str>) -> Option<ToLoad> {
        Some(self.candidate(version).ok()?.to_load(&self.config))
    }

    /// What has to be loaded to promote a version, if there is one; the one on trial without a
    /// name.
    pub(crate) fn to_promote(&self, version: Option<&str>) -> Option<(Content, ToLoad)> {
        let tried = self.trial.as_ref().map(|trial| trial.policy.version());
        let candidate = self.candidate(Some(version.or(tried)?)).ok()?;
        Some((candidate.content(), candidate.to_load(&self.config)))
    }

    /// A version that could come into force; the newest without a name.
    fn candidate(&self, version: Option<&str>) -> Result<&Version, TrialError> {
        let Some(version) = version else {
            let mut newest = self.held.iter().rev();
            return newest
                .find(|held| !held.taken_back)
                .ok_or_else(|| TrialError::Conflict(self.none_held()));
        };
        if self.current.policy.version() == version {
            return Err(TrialError::Conflict(format!(
                "version {version} is in force already"
            )));
        }
        self.all()
            .find(|known| known.policy.version() == version)
            .ok_or_else(|| {
                TrialError::Unknown(format!(
                    "there is no version {version} on this node, only {}",
                    self.names()
                ))
            })
    }

    fn none_held(&self) -> String {
        match self.held.last() {
            Some(held) => format!(
                "what is held was taken back: to try it all the same, name it, like {}",
                held.policy.version()
            ),
            None => "no version is held: send one with weir deploy NAME FILE --shadow PERCENT, or \
                     with PUT …?activate=false"
                .to_owned(),
        }
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.all().map(|known| known.policy.version()).collect();
        names.join(", ")
    }
}
