//! What the versions of a policy say of themselves, and since when each is what it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use weir_admin::VersionInfo;
use weir_policy::{About, Policy};

use super::{Entry, Version};

/// How many versions are remembered: more than a node of a hundred policies holds.
const REMEMBERED: usize = 1_024;

/// What was read of the versions loaded so far, the newest last, for the audit log.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<VecDeque<(String, About)>>>);

impl Known {
    pub(super) fn note(&self, policy: &Policy) {
        let mut known = self.0.lock();
        if known.iter().any(|(version, _)| version == policy.version()) {
            return;
        }
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back((policy.version().to_owned(), policy.about().clone()));
    }

    pub(super) fn about(&self, version: &str) -> Option<About> {
        let known = self.0.lock();
        let found = known.iter().find(|(of, _)| of == version);
        found.map(|(_, about)| about.clone())
    }
}

impl Entry {
    /// Every version that the node knows of the policy, the one in force first.
    pub(crate) fn versions(&self) -> Vec<VersionInfo> {
        let before = self.previous.iter().map(|version| ("previous", version));
        let held = self.held.iter().map(|version| ("held", version));
        let known = before.chain(held);
        let trial = self.trial.as_ref().map(|trial| {
            let since = self.trial_since.unwrap_or(self.since);
            shown(trial.mode.as_str(), &trial.policy, since)
        });
        std::iter::once(shown("active", &self.current.policy, self.since))
            .chain(known.map(|(role, Version { policy, loaded, .. })| shown(role, policy, *loaded)))
            .chain(trial)
            .collect()
    }
}

fn shown(role: &str, policy: &Policy, since: SystemTime) -> VersionInfo {
    let about = policy.about().clone();
    VersionInfo {
        version: policy.version().to_owned(),
        role: role.to_owned(),
        since: humantime::format_rfc3339_seconds(since).to_string(),
        semver: about.version,
        authors: about.authors,
        description: about.description,
        revision: about.revision,
    }
}
