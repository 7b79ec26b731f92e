//! What was changed here, told to the fleet.

use std::sync::Arc;

use bytes::Bytes;
use weir_admin::Scope;
use weir_store::published::{Document, Published};
use weir_store::redis::CallError;

use super::host_name;
use crate::app::{App, State};
use crate::daytime;
use crate::policies::{Content, Contents, Release, Standing};

/// What documents and contents are called in Redis.
pub(crate) const NAME: &str = "policies";
/// How often another node may come before this one.
const TRIES: usize = 5;
/// The largest component that is taken from others.
const MAX_COMPONENT: usize = weir_admin::MAX_COMPONENT;

/// Where a change is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) scope: Scope,
    pub(crate) revision: u64,
}

impl App {
    /// Makes a release of what is in force under a name, keeps it, and tells the fleet.
    /// What Redis does not take now it is told later.
    pub(crate) async fn release(
        &self,
        state: &mut State,
        name: &str,
        action: &'static str,
    ) -> Told {
        let now = self.clock.now().as_millis();
        let time = humantime::format_rfc3339_millis(daytime::of(now)).to_string();
        let entry = state.policies.get(name);
        let release = state.policies.release(name, action, host_name(), time);
        let Some((entry, release)) = entry.zip(release) else {
            // The caller has just changed it.
            return Told {
                scope: Scope::Node,
                revision: 0,
            };
        };
        let contents = entry.components(&release);
        let mut standing = Standing {
            revision: now.max(entry.revision() + 1),
            sent: false,
            file: entry.file_hash().to_owned(),
            release,
        };
        if let Some(published) = &self.published {
            match send(published, name, &mut standing, &contents, true).await {
                // Somebody was told something later, each time: that is followed.
                Ok(stands) => standing.sent = stands.is_none(),
                Err(error) => {
                    tracing::warn!(policy = name, %error, "Redis was not told of a new version: the others learn of it when it is back");
                }
            }
        }
        let told = Told {
            scope: match standing.sent {
                true => Scope::Fleet,
                false => Scope::Node,
            },
            revision: standing.revision,
        };
        self.keep(name, standing.clone(), contents).await;
        state.policies.note(name, standing);
        self.told.notify_waiters();
        told
    }

    /// Tells the others what is about to be released, so that they load it meanwhile. Of use, and
    /// nothing depends on it.
    pub(crate) async fn announce(&self, name: &str, content: &Content, bytes: &Bytes) {
        let Some(published) = &self.published else {
            return;
        };
        let now = self.clock.now().as_millis();
        if let Err(error) = announce(published, name, now, content, bytes).await {
            tracing::debug!(policy = name, %error, "the others are not told what comes");
        }
    }

    /// Writes down what was released, for the next start.
    pub(super) async fn keep(&self, name: &str, standing: Standing, contents: Contents) {
        let Some(kept) = self.loader().kept().map(Arc::clone) else {
            return;
        };
        let policy = name.to_owned();
        let written =
            tokio::task::spawn_blocking(move || kept.write(&policy, &standing, &contents)).await;
        let error = match written {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        };
        tracing::error!(
            policy = name,
            error,
            "what was deployed is not kept: a restart while Redis is away would bring back what was before"
        );
    }
}

/// Tells Redis of a release. `insists`: with a higher revision, if another one stands there
/// meanwhile; otherwise that one is returned.
///
/// # Errors
/// [`CallError`]: it may have been told, or not.
pub(super) async fn send(
    published: &Published,
    name: &str,
    standing: &mut Standing,
    contents: &Contents,
    insists: bool,
) -> Result<Option<Document>, CallError> {
    let mut stands = None;
    for _ in 0..TRIES {
        let before = published.documents().await?.remove(name);
        if let (true, Some(before)) = (insists, &before) {
            standing.revision = standing.revision.max(before.revision + 1);
        }
        for content in standing.release.contents() {
            if let Some(bytes) = contents.get(&content.hash)
                && !published.has(name, &content.hash, content.bytes).await?
            {
                published.put(name, &content.hash, bytes).await?;
            }
        }
        let needs: Vec<&str> = hashes(&standing.release).collect();
        let before = before.and_then(|before| read(&before));
        let lets_go: Vec<&str> = before
            .iter()
            .flat_map(hashes)
            .filter(|hash| !needs.contains(hash))
            .collect();
        let document = Document {
            revision: standing.revision,
            text: serde_json::to_string(&standing.release).unwrap_or_default(),
        };
        stands = published.publish(name, &document, &needs, &lets_go).await?;
        if stands.is_none() || !insists {
            break;
        }
    }
    Ok(stands)
}

/// Under which name it is told what comes for a policy; no policy is called so.
pub(super) fn announced(policy: &str) -> String {
    format!("{policy} next")
}

async fn announce(
    published: &Published,
    name: &str,
    now: u64,
    content: &Content,
    bytes: &Bytes,
) -> Result<(), CallError> {
    if !published.has(name, &content.hash, content.bytes).await? {
        published.put(name, &content.hash, bytes).await?;
    }
    let document = Document {
        revision: now,
        text: serde_json::to_string(content).unwrap_or_default(),
    };
    published
        .publish(&announced(name), &document, &[], &[])
        .await?;
    Ok(())
}

/// Reads what somebody announced; none of what could not have been made here.
pub(super) fn read_announced(document: &Document) -> Option<Content> {
    serde_json::from_str(&document.text).ok().filter(sound)
}

/// Reads what somebody published; none of what could not have been made here.
pub(super) fn read(document: &Document) -> Option<Release> {
    let release: Release = serde_json::from_str(&document.text).ok()?;
    let sound = release.contents().all(sound);
    sound.then_some(release)
}

fn sound(content: &Content) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    content.hash.len() == 64
        && content.hash.bytes().all(hex)
        && (1..=MAX_COMPONENT).contains(&content.bytes)
}

fn hashes(release: &Release) -> impl Iterator<Item = &str> {
    release.contents().map(|content| &*content.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_node_would_have_published_is_no_release() {
        let release = |hash: &str, bytes: usize| Document {
            revision: 1,
            text: serde_json::json!({
                "component": {"hash": hash, "bytes": bytes}, "previous": null, "file": "",
                "action": "deployed", "by": "a", "time": "",
            })
            .to_string(),
        };
        let hash = "0123456789abcdef".repeat(4);
        assert!(read(&release(&hash, 1)).is_some());
        for (hash, bytes) in [
            (&*hash, 0),
            (&*hash, MAX_COMPONENT + 1),
            (&*hash.to_uppercase(), 1),
            (&hash[1..], 1),
            // A place on a node's disk.
            (&format!("../{}", &hash[3..]), 1),
        ] {
            assert!(read(&release(hash, bytes)).is_none(), "{hash} {bytes}");
        }
        let no_release = Document {
            revision: 1,
            text: "{}".to_owned(),
        };
        assert!(read(&no_release).is_none());
    }
}
