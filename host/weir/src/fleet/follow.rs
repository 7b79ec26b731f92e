//! Follows what the fleet was told: polls Redis, and puts each release in force that this
//! node does not have.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering as AtomicOrdering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};
use weir_store::published::{Document, Published};
use weir_store::redis::CallError;

use super::release::{announced, read, read_announced, send};
use crate::app::App;
use crate::policies::{Contents, Refused, Release, Services, Standing, short};

/// How often Redis is asked whether something has changed: one small read.
const POLL: Duration = Duration::from_millis(200);
/// How often all of it is looked at, changed or not: what Redis has lost is put back, what
/// could not be read is read again.
const ALL: Duration = Duration::from_secs(10);

/// Begins to follow, until the node is gone. What it returns completes after the first look.
pub(crate) fn start(app: &Arc<App>) -> Option<oneshot::Receiver<()>> {
    let published = app.published.clone()?;
    let (looked, first) = oneshot::channel();
    let follower = Follower {
        published,
        seen: None,
        announced: BTreeMap::new(),
        all: Instant::now(),
        agreed: false,
    };
    tokio::spawn(follower.run(Arc::downgrade(app), looked));
    Some(first)
}

struct Follower {
    published: Published,
    /// What Redis said when it was last looked at.
    seen: Option<Option<String>>,
    /// The last announcement for each policy, followed or not.
    announced: BTreeMap<String, u64>,
    /// When all is looked at again.
    all: Instant,
    /// Whether this process has looked at it once.
    agreed: bool,
}

/// What is to be done about a policy.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Nothing,
    /// Put it in force.
    Follow,
    /// Know it without following: this node's file is another one than it took the place of.
    Note,
    /// Redis does not have what this node was told.
    Offer,
}

/// What came of following a release.
#[derive(Debug, PartialEq, Eq)]
enum Followed {
    /// There is no more to do.
    Done,
    /// It is being loaded.
    Later,
}

impl Follower {
    async fn run(mut self, app: Weak<App>, looked: oneshot::Sender<()>) {
        let mut looked = Some(looked);
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(app) = app.upgrade() else {
                return;
            };
            match self.look(&app).await {
                Ok(()) => drop(looked.take()),
                Err(error) => tracing::debug!(%error, "what the fleet was told cannot be read"),
            }
        }
    }

    async fn look(&mut self, app: &Arc<App>) -> Result<(), CallError> {
        let changed = self.published.changed().await?;
        let waiting = app.try_state().is_some_and(|state| {
            let mut entries = state.policies.iter();
            entries.any(|(_, entry)| entry.standing().is_some_and(|standing| !standing.sent))
        });
        let due = self.all <= Instant::now();
        if self.seen.as_ref() == Some(&changed) && !waiting && !due {
            return Ok(());
        }
        let mut documents = self.published.documents().await?;
        let names: Vec<String> = {
            let state = app.state().await;
            state
                .policies
                .iter()
                .map(|(name, _)| name.clone())
                .collect()
        };
        let mut loading = false;
        for name in names {
            if let Some(document) = documents.remove(&announced(&name)) {
                self.announced(app, &name, &document);
            }
            let document = documents.remove(&name);
            loading |= self.policy(app, &name, document, due).await? == Followed::Later;
        }
        let state = app.state().await;
        let refused = state
            .policies
            .iter()
            .filter(|(_, entry)| entry.refused().is_some());
        app.behind
            .store(refused.count() as u64, AtomicOrdering::Relaxed);
        drop(state);
        self.agreed = true;
        self.seen = (!loading).then_some(changed);
        if due {
            self.all = Instant::now() + ALL;
        }
        Ok(())
    }

    async fn policy(
        &mut self,
        app: &App,
        name: &str,
        document: Option<Document>,
        due: bool,
    ) -> Result<Followed, CallError> {
        let told = document.as_ref().and_then(|document| {
            let release = read(document);
            if release.is_none() {
                tracing::warn!(
                    policy = name,
                    revision = document.revision,
                    "what stands in Redis for this policy is no release of it"
                );
            }
            Some((document.revision, release?))
        });
        if document.is_some() && told.is_none() {
            return Ok(Followed::Done);
        }
        let (standing, refused, file, contents) = {
            let state = app.state().await;
            let Some(entry) = state.policies.get(name) else {
                return Ok(Followed::Done);
            };
            let standing = entry.standing().cloned();
            let release = told
                .as_ref()
                .map(|(_, release)| release)
                .or(standing.as_ref().map(|standing| &standing.release));
            let contents = release.map(|release| entry.components(release));
            let refused = entry.refused().filter(|refused| refused.for_good);
            let refused = refused.map(|refused| refused.revision);
            let contents = contents.unwrap_or_default();
            (standing, refused, entry.file_hash().to_owned(), contents)
        };
        let step = next(standing.as_ref(), told.as_ref(), self.agreed, &file);
        match (step, told, standing) {
            (Next::Follow, Some((revision, release)), _) if refused != Some(revision) => {
                return self.follow(app, name, revision, release, contents).await;
            }
            (Next::Note, Some((revision, release)), _) => {
                let standing = Standing {
                    revision,
                    sent: true,
                    file,
                    release,
                };
                app.state().await.policies.note(name, standing);
            }
            (Next::Offer, _, Some(mut standing)) => {
                let sent = send(&self.published, name, &mut standing, &contents, false).await?;
                if sent.is_none() {
                    tracing::info!(
                        policy = name,
                        revision = standing.revision,
                        version = standing.release.version(),
                        "told Redis which version the fleet is to have"
                    );
                    standing.sent = true;
                    let mut state = app.state().await;
                    let entry = state.policies.get(name);
                    let known = entry.and_then(|entry| entry.standing());
                    if known.is_some_and(|known| known.revision == standing.revision) {
                        state.policies.note(name, standing.clone());
                        app.keep(name, standing, contents).await;
                    }
                }
            }
            (Next::Nothing, Some((_, release)), _) if due => {
                self.restore(name, &release, &contents).await?;
            }
            _ => {}
        }
        Ok(Followed::Done)
    }

    /// Loads what is about to be released. What was announced before this node began to follow
    /// has been released, or not.
    fn announced(&mut self, app: &Arc<App>, name: &str, document: &Document) {
        let before = self.announced.insert(name.to_owned(), document.revision);
        if !self.agreed || before == Some(document.revision) {
            return;
        }
        let Some(content) = read_announced(document) else {
            return;
        };
        if app.loader().component_ahead(&content.hash).is_some() {
            // It is this node that was told.
            return;
        }
        let (app, published, name) = (Arc::clone(app), self.published.clone(), name.to_owned());
        tokio::spawn(async move {
            let got = published.get(&name, &content.hash, content.bytes).await;
            let Ok(Some(bytes)) = got else { return };
            let contents = Contents::from([(content.hash.clone(), bytes)]);
            if let Some(wanted) = app.to_load(&name, &content, &contents).await {
                let version = short(&content.hash);
                tracing::info!(
                    policy = name,
                    version,
                    "loading a version that another node was told to put in force"
                );
                let loader = app.loader().clone();
                drop(app);
                loader.load_ahead(&name, wanted, Services::Live).await;
            }
        });
    }

    /// Puts components back that Redis has lost.
    async fn restore(
        &self,
        name: &str,
        release: &Release,
        contents: &Contents,
    ) -> Result<(), CallError> {
        for content in release.contents() {
            let hash = &content.hash;
            if let Some(bytes) = contents.get(hash)
                && !self.published.has(name, hash, content.bytes).await?
            {
                self.published.put(name, hash, bytes).await?;
                self.published.keep(name, hash).await?;
            }
        }
        Ok(())
    }

    async fn follow(
        &mut self,
        app: &App,
        name: &str,
        revision: u64,
        release: Release,
        mut contents: Contents,
    ) -> Result<Followed, CallError> {
        for content in release.contents() {
            let (hash, size) = (&content.hash, content.bytes);
            if !contents.contains_key(hash) {
                let got = match app.loader().component_ahead(hash) {
                    Some(ahead) => Some(ahead),
                    None => self.published.get(name, hash, size).await?,
                };
                contents.extend(got.map(|bytes| (hash.clone(), bytes)));
            }
            if let Some(wanted) = app.to_load(name, content, &contents).await {
                let loader = app.loader();
                let loaded = loader.load_ahead(name, wanted, Services::Live);
                if !self.agreed {
                    // What was missed is there before the node serves.
                    loaded.await;
                } else if tokio::time::timeout(POLL, loaded).await.is_err() {
                    // Other policies are followed meanwhile.
                    return Ok(Followed::Later);
                }
            }
        }
        let at_hand = contents.contains_key(&release.component.hash);
        let version = release.version().to_owned();
        let detail = format!("{} on {}", release.action, release.by);
        let mut state = app.state().await;
        let Some(entry) = state.policies.get(name) else {
            return Ok(Followed::Done);
        };
        // Somebody may have changed it here meanwhile.
        let known = entry.standing();
        if known.is_some_and(|known| known.revision > revision) {
            return Ok(Followed::Done);
        }
        let standing = Standing {
            revision,
            sent: true,
            file: entry.file_hash().to_owned(),
            release,
        };
        let (loader, told) = (app.loader(), standing.clone());
        let followed = state.policies.follow(loader, name, told, &contents).await;
        // Where the version stays, a trial may have ended.
        let installed = followed.and_then(|changed| app.install(&state).map(|_| changed));
        match installed {
            Ok(changed) => {
                if let Some((to, from)) = changed {
                    app.write_down(name, "followed", "fleet", &to, Some(&from), Some(detail));
                }
                app.keep(name, standing, contents).await;
            }
            Err(error) => {
                let refused = Refused {
                    revision,
                    release: standing.release,
                    // What was not at hand may come; what is wrong with it stays wrong.
                    for_good: at_hand,
                    why: format!("{error:#}"),
                };
                let entry = state.policies.get(name);
                if entry.and_then(|entry| entry.refused()) != Some(&refused) {
                    let detail = format!("{detail}: {}", refused.why);
                    tracing::error!(
                        policy = name,
                        version,
                        error = refused.why,
                        "the fleet has a new version that this node cannot take; the one in force stays"
                    );
                    app.write_down(name, "refused", "fleet", &version, None, Some(detail));
                }
                state.policies.refuse(name, refused);
            }
        }
        drop(state);
        app.told.notify_waiters();
        Ok(Followed::Done)
    }
}

/// `agreed`: whether this process has looked at Redis before. `file`: the hash of the
/// policy's file here.
fn next(known: Option<&Standing>, told: Option<&(u64, Release)>, agreed: bool, file: &str) -> Next {
    match (known, told) {
        (None, None) => Next::Nothing,
        // This node comes new, with a file that the release has not taken the place of.
        (None, Some((_, release))) if !agreed && release.file != file => Next::Note,
        (None, Some(_)) => Next::Follow,
        // Redis came back empty, or is another one.
        (Some(_), None) => Next::Offer,
        (Some(known), Some((revision, release))) => match known.revision.cmp(revision) {
            Ordering::Less => Next::Follow,
            Ordering::Equal if known.release == *release => Next::Nothing,
            // Two were told at the same moment: Redis has taken one.
            Ordering::Equal => Next::Follow,
            // A failover lost it; or it was told here while Redis was away.
            Ordering::Greater if agreed || !known.sent => Next::Offer,
            // What is on this node's disk may be of another fleet.
            Ordering::Greater => Next::Follow,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::Content;

    fn release(version: &str) -> Release {
        Release {
            component: Content {
                hash: version.repeat(64),
                bytes: 1,
                signature: None,
            },
            previous: None,
            file: "file".into(),
            action: "deployed".into(),
            by: "a".into(),
            time: String::new(),
        }
    }

    fn known(revision: u64, version: &str, sent: bool) -> Standing {
        Standing {
            revision,
            sent,
            file: "file".into(),
            release: release(version),
        }
    }

    #[test]
    fn the_last_release_counts_wherever_it_was_told() {
        let told = (5, release("a"));
        let at = |known: &Standing, agreed| next(Some(known), Some(&told), agreed, "file");
        assert_eq!(at(&known(5, "a", true), true), Next::Nothing);
        assert_eq!(at(&known(4, "b", true), true), Next::Follow);
        // Told here while Redis was away, but somebody was told something later.
        assert_eq!(at(&known(4, "b", false), true), Next::Follow);
        assert_eq!(at(&known(5, "b", false), true), Next::Follow, "a tie");
        // Later than what Redis has.
        assert_eq!(at(&known(6, "b", false), false), Next::Offer);
        assert_eq!(at(&known(6, "b", true), true), Next::Offer, "it was lost");
        assert_eq!(at(&known(6, "b", true), false), Next::Follow, "not ours");
        assert_eq!(
            next(Some(&known(6, "b", true)), None, false, "file"),
            Next::Offer
        );
        assert_eq!(next(None, None, true, "file"), Next::Nothing);
    }

    #[test]
    fn a_node_that_comes_new_keeps_a_file_that_the_fleet_did_not_have() {
        let told = (5, release("a"));
        assert_eq!(next(None, Some(&told), false, "file"), Next::Follow);
        assert_eq!(next(None, Some(&told), false, "newer"), Next::Note);
        // Later than its start, a release is for every node.
        assert_eq!(next(None, Some(&told), true, "newer"), Next::Follow);
    }
}
