//! The life of a policy's versions on this node: each step changes the set, puts it in
//! force, and is written down.

use weir_admin::{Deployed, RolledBack, TrialExample, TrialRequest};
use weir_policy::Policy;
use weir_proxy::{Trial, TrialMode};

use crate::app::{App, State};
use crate::audit::Change;
use crate::fleet::Told;
use crate::policies::{
    self, Content, Contents, Entry, Reloaded, Services, ToLoad, TrialError, Upload,
};

impl App {
    /// Puts a component in force.
    ///
    /// # Errors
    /// See [`TrialError`]; the version in force stays.
    pub(crate) async fn deploy(&self, name: &str, upload: Upload) -> Result<Deployed, TrialError> {
        let (content, contents) = upload.named().await;
        if let Some(wanted) = self.to_load(name, &content, &contents).await {
            self.make_ready(name, &content, wanted).await;
        }
        let mut state = self.state().await;
        let from = version(&state, name)?;
        let (policies, loader) = (&mut state.policies, self.loader());
        let loaded = policies.deploy(loader, name, &content, &contents).await;
        if let Err(error) = &loaded {
            self.write_down(
                name,
                "refused",
                "admin",
                &from,
                None,
                Some(format!("{error:#}")),
            );
        }
        loaded.map_err(TrialError::Load)?;
        self.install(&state).map_err(TrialError::Install)?;
        let version = version(&state, name)?;
        self.write_down(name, "deployed", "admin", &version, Some(&from), None);
        let told = self.release(&mut state, name, "deployed").await;
        Ok(deployed(version, told))
    }

    /// Loads a component and holds it.
    ///
    /// # Errors
    /// See [`TrialError`].
    pub(crate) async fn hold(&self, name: &str, upload: Upload) -> Result<Deployed, TrialError> {
        let bytes = upload.bytes.clone();
        let (content, contents) = upload.named().await;
        let is_held = {
            let state = self.state().await;
            let mut held = state.policies.get(name).into_iter().flat_map(Entry::held);
            held.any(|version| version == policies::short(&content.hash))
        };
        if !is_held && let Some(wanted) = self.to_load(name, &content, &contents).await {
            let loader = self.loader();
            loader.load_ahead(name, wanted, Services::Watched).await;
        }
        let mut state = self.state().await;
        version(&state, name)?;
        let (policies, loader) = (&mut state.policies, self.loader());
        let held = policies.hold(loader, name, content, bytes).await;
        let version = held.map_err(TrialError::Load)?;
        self.write_down(name, "held", "admin", &version, None, None);
        Ok(Deployed {
            version,
            ..Deployed::default()
        })
    }

    /// Tries a version on live requests.
    ///
    /// # Errors
    /// See [`TrialError`].
    pub(crate) async fn try_out(
        &self,
        name: &str,
        request: &TrialRequest,
    ) -> Result<weir_admin::Trial, TrialError> {
        let mode = match request.mode {
            weir_admin::TrialMode::Shadow => TrialMode::Shadow,
            weir_admin::TrialMode::Canary => TrialMode::Canary,
        };
        let wanted = request.version.as_deref();
        let to_try = |entry: &Entry| entry.to_try(wanted);
        let to_load = self.state().await.policies.get(name).and_then(to_try);
        if let Some(wanted) = to_load {
            let loader = self.loader();
            loader.load_ahead(name, wanted, policies::reach(mode)).await;
        }
        let mut state = self.state().await;
        let trial = state
            .policies
            .try_out(self.loader(), name, wanted, mode, request.percent)
            .await?;
        self.install(&state).map_err(TrialError::Install)?;
        let (version, percent) = (trial.policy.version(), request.percent);
        let detail = Some(format!("{percent} percent"));
        self.write_down(name, mode.as_str(), "admin", version, None, detail);
        let live = state.policies.get(name).map(Entry::policy);
        Ok(shown(&trial, live.unwrap_or(&trial.policy)))
    }

    /// Puts a version in force: the named one, else the one on trial.
    ///
    /// # Errors
    /// See [`TrialError`].
    pub(crate) async fn promote(
        &self,
        name: &str,
        wanted: Option<&str>,
    ) -> Result<Deployed, TrialError> {
        let to_promote = |entry: &Entry| entry.to_promote(wanted);
        let to_load = self.state().await.policies.get(name).and_then(to_promote);
        if let Some((content, wanted)) = to_load {
            self.make_ready(name, &content, wanted).await;
        }
        let mut state = self.state().await;
        let promoted = state.policies.promote(self.loader(), name, wanted).await;
        let (version, from) = promoted?;
        self.install(&state).map_err(TrialError::Install)?;
        self.write_down(name, "promoted", "admin", &version, Some(&from), None);
        let told = self.release(&mut state, name, "promoted").await;
        Ok(deployed(version, told))
    }

    /// Ends a trial, or brings back the version before. `by` says who wants it, and `why`.
    ///
    /// # Errors
    /// See [`TrialError`].
    pub(crate) async fn roll_back(
        &self,
        name: &str,
        by: &'static str,
        why: Option<String>,
    ) -> Result<RolledBack, TrialError> {
        let wanted = before(&*self.state().await, name)?;
        let mut contents = match &wanted {
            Some(before) => self.ready_again(name, before).await,
            None => Contents::new(),
        };
        let mut state = self.state().await;
        // Something may have been changed meanwhile: that is taken back.
        let before = before(&state, name)?;
        if let Some(before) = &before
            && !contents.contains_key(&before.hash)
        {
            contents = self.fetch(name, before).await;
        }
        let back = match before {
            None => state.policies.roll_back(name),
            // What the fleet had before, also where this node has gone another way since.
            Some(before) => {
                let (policies, loader) = (&mut state.policies, self.loader());
                let entered = policies.enter(loader, name, &before, &contents).await;
                let (version, from) = entered.map_err(TrialError::Load)?;
                Some(policies::RolledBack::To { version, from })
            }
        };
        let back = back.ok_or_else(|| {
            TrialError::Conflict(format!(
                "policy {name:?} has no earlier version on this node"
            ))
        })?;
        // Whoever ends a trial does not want it again in five minutes.
        state.policies.release_quarantine(name);
        self.install(&state).map_err(TrialError::Install)?;
        let mut answer = self.rolled_back(name, back, by, why);
        if answer.ended.is_none() {
            let told = self.release(&mut state, name, "rolled-back").await;
            (answer.scope, answer.revision) = (Some(told.scope), Some(told.revision));
        }
        Ok(answer)
    }

    /// Loads what a rollback brings back, where this node does not have it. Its component.
    async fn ready_again(&self, name: &str, before: &Content) -> Contents {
        let contents = self.fetch(name, before).await;
        if let Some(wanted) = self.to_load(name, before, &contents).await {
            let loader = self.loader();
            loader.load_ahead(name, wanted, Services::Live).await;
        }
        contents
    }

    /// What has to be loaded to put a version in force, if it has to be.
    pub(crate) async fn to_load(
        &self,
        name: &str,
        content: &Content,
        contents: &Contents,
    ) -> Option<ToLoad> {
        let state = self.state().await;
        let entry = state.policies.get(name)?;
        entry.to_load(self.loader(), name, content, contents)
    }

    /// Loads what is to be put in force next, before the state is held; and has the other nodes
    /// do so meanwhile.
    async fn make_ready(&self, name: &str, content: &Content, wanted: ToLoad) {
        let bytes = wanted.bytes().clone();
        let told = self.announce(name, content, &bytes);
        let loaded = self.loader().load_ahead(name, wanted, Services::Live);
        tokio::join!(loaded, told);
    }

    /// A component that this node does not have in force, from its disk or from Redis.
    async fn fetch(&self, name: &str, content: &Content) -> Contents {
        let kept = self.loader().kept().and_then(|kept| kept.find(name));
        let kept = kept.and_then(|(_, mut contents)| contents.remove(&content.hash));
        let bytes = match (kept, &self.published) {
            (Some(bytes), _) => Some(bytes),
            (None, Some(published)) => {
                let got = published.get(name, &content.hash, content.bytes).await;
                got.ok().flatten()
            }
            (None, None) => None,
        };
        let named = bytes.map(|bytes| (content.hash.clone(), bytes));
        named.into_iter().collect()
    }

    /// Writes a rollback down.
    pub(crate) fn rolled_back(
        &self,
        name: &str,
        back: policies::RolledBack,
        by: &'static str,
        why: Option<String>,
    ) -> RolledBack {
        match back {
            policies::RolledBack::To { version, from } => {
                self.write_down(name, "rolled-back", by, &version, Some(&from), why);
                RolledBack {
                    version,
                    ..RolledBack::default()
                }
            }
            policies::RolledBack::Ended {
                version,
                tried,
                mode,
            } => {
                let why = why.unwrap_or_else(|| format!("a {}", mode.as_str()));
                self.write_down(name, "trial-ended", by, &tried, None, Some(why));
                RolledBack {
                    version,
                    ended: Some(tried),
                    ..RolledBack::default()
                }
            }
        }
    }

    /// Writes down what a reload changed.
    pub(crate) fn record_loaded(&self, report: &[Reloaded]) {
        for reloaded in report {
            let version = reloaded.version.as_deref().unwrap_or("none");
            let (action, detail) = match &reloaded.error {
                Some(error) => ("refused", Some(error.clone())),
                None if reloaded.changed => ("loaded", None),
                None => continue,
            };
            self.write_down(&reloaded.name, action, "file", version, None, detail);
        }
    }

    /// Writes down what a start put in force, where that is not what was in force before it.
    pub(crate) fn record_started(&self, report: &[Reloaded]) {
        for started in report {
            let name = &*started.name;
            let Some(version) = &started.version else {
                continue;
            };
            if let Some(error) = &started.error {
                let detail = Some(error.clone());
                self.write_down(name, "refused", "start", version, None, detail);
            }
            let before = self.audit.in_force(name);
            if before.as_ref() != Some(version) {
                self.write_down(name, "loaded", "start", version, before.as_deref(), None);
            }
        }
    }

    pub(crate) fn write_down(
        &self,
        policy: &str,
        action: &'static str,
        by: &'static str,
        version: &str,
        from: Option<&str>,
        detail: Option<String>,
    ) {
        self.audit.record(&Change {
            policy,
            action,
            by,
            version,
            from,
            detail,
            about: self.loader().about(version),
        });
    }
}

/// The version in force.
fn version(state: &State, name: &str) -> Result<String, TrialError> {
    match state.policies.get(name) {
        Some(entry) => Ok(entry.policy().version().to_owned()),
        None => Err(TrialError::unknown(name)),
    }
}

/// What a rollback brings back, where that is what the fleet had before.
fn before(state: &State, name: &str) -> Result<Option<Content>, TrialError> {
    let entry = state.policies.get(name);
    Ok(
        match entry.ok_or_else(|| TrialError::unknown(name))?.trial() {
            None => state.policies.released_before(name).cloned(),
            Some(_) => None,
        },
    )
}

fn deployed(version: String, told: Told) -> Deployed {
    Deployed {
        version,
        scope: Some(told.scope),
        revision: Some(told.revision),
    }
}

/// What came of the decisions of a version, as the admin API shows it.
fn outcomes(policy: &Policy) -> weir_admin::Outcomes {
    let outcomes = policy.stats().outcomes();
    let (lookups, hits) = outcomes.lookups();
    let (answers, errors) = outcomes.answers();
    weir_admin::Outcomes {
        lookups,
        hits,
        answers,
        errors,
    }
}

/// A trial beside the version in force, as the admin API shows it.
pub(crate) fn shown(trial: &Trial, live: &Policy) -> weir_admin::Trial {
    let report = trial.report();
    weir_admin::Trial {
        version: trial.policy.version().to_owned(),
        mode: match trial.mode {
            TrialMode::Shadow => weir_admin::TrialMode::Shadow,
            TrialMode::Canary => weir_admin::TrialMode::Canary,
        },
        percent: trial.percent,
        same: report.same,
        different: report.different,
        decided: report.decided,
        outcomes: outcomes(&trial.policy),
        live: outcomes(live),
        failed: report.failed,
        skipped: report.skipped,
        differences: report
            .kinds
            .iter()
            .map(|(kind, count)| (kind.as_str().to_owned(), *count))
            .collect(),
        examples: report
            .examples
            .into_iter()
            .map(|one| TrialExample {
                kind: one.kind.as_str().to_owned(),
                subject: one.subject,
                live: one.live,
                tried: one.tried,
            })
            .collect(),
        last_error: report.last_error,
    }
}
