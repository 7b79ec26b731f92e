//! The nodes of a fleet know of each other by Redis: `PREFIX:nodes` is a hash with a field
//! for each, which ends soon after its node does. Also what they agree on: which versions
//! of the policies are in force. Off the way of any request.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use weir_admin::{Fleet, FleetNode, FleetPolicy, Released, Scope};
use weir_store::roster::Roster;

use crate::app::App;
use crate::client::UNCONFIGURED;
use crate::control::source;
use crate::policies::{Entry, short};

mod follow;
mod release;

pub(crate) use follow::start as follow;
pub(crate) use release::{NAME as RELEASES, Told};

/// The hash, after the prefix.
const NAME: &str = "nodes";
/// How often a node tells of itself and hears of the others.
const BEAT: Duration = Duration::from_secs(2);
/// How long a node that says nothing counts as there.
const TTL: Duration = Duration::from_secs(10);
/// What keeps the size of the fleet in data_dir.
const FILE: &str = "nodes";

/// Tells of this node until it is dropped or told to leave.
#[derive(Debug)]
pub(crate) struct Membership {
    roster: Arc<Roster>,
    telling: JoinHandle<()>,
}

impl Membership {
    /// Begins to tell of a node that listens at `listen`, and to hear of the others. With a
    /// `data_dir` the fleet is as large as it was when this node last ran, until it hears.
    pub(crate) fn start(
        app: &Arc<App>,
        listen: Vec<String>,
        data_dir: Option<&Path>,
    ) -> Option<Self> {
        let redis = app.node.redis()?;
        let memory = Memory(data_dir.map(|dir| dir.join(FILE)));
        let size = Size::of(memory.read());
        if size.count > 0 {
            app.nodes.heard(Vec::new(), size.count);
        }
        let roster = Arc::new(Roster::new(redis, NAME, &host_name()));
        // There is one node in an app.
        let _ = app.roster.set(Arc::clone(&roster));
        let teller = Teller {
            app: Arc::downgrade(app),
            roster: Arc::clone(&roster),
            listen,
            policies: Value::Null,
        };
        let telling = tokio::spawn(teller.run(size, memory));
        Some(Self { roster, telling })
    }

    /// Takes this node out.
    pub(crate) async fn leave(self) {
        self.telling.abort();
        if let Err(error) = self.roster.leave().await {
            tracing::debug!(%error, "this node stands in Redis for a while");
        }
    }
}

struct Teller {
    app: Weak<App>,
    roster: Arc<Roster>,
    listen: Vec<String>,
    /// As last seen: while a component is loaded nobody can look.
    policies: Value,
}

impl Teller {
    async fn run(mut self, mut size: Size, memory: Memory) {
        let mut written = size.count;
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let Some(app) = self.app.upgrade() else {
                return;
            };
            // Before it is looked at, so that no change falls between.
            let changed = app.told.notified();
            let entry = self.entry(&app).await;
            match self.roster.tell(&entry, TTL).await {
                Ok(names) => {
                    let count = size.heard(Instant::now(), names.len());
                    app.nodes.heard(names, count);
                    if written != count {
                        written = count;
                        memory.write(count);
                    }
                }
                // What was heard last stays.
                Err(error) => tracing::debug!(%error, "this node was not told in Redis"),
            }
            tokio::select! {
                _ = beats.tick() => {}
                () = changed => {}
            }
        }
    }

    async fn entry(&mut self, app: &App) -> Map<String, Value> {
        // Whoever has just changed it may still hold it.
        if let Ok(state) = tokio::time::timeout(BEAT, app.state()).await {
            let policies = state.policies.iter();
            let told = policies.map(|(name, entry)| (name.clone(), json!(told(entry))));
            self.policies = Value::Object(told.collect());
        }
        let mut entry = Map::new();
        entry.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
        entry.insert("listen".to_owned(), json!(self.listen));
        entry.insert("generation".to_owned(), app.node.generation().number.into());
        entry.insert("policies".to_owned(), self.policies.clone());
        entry
    }
}

/// What others are told of a policy of this node.
fn told(entry: &Entry) -> FleetPolicy {
    FleetPolicy {
        version: entry.policy().version().to_owned(),
        source: source(entry.source()),
        revision: entry.standing().map(|standing| standing.revision),
        refused: entry.refused().map(|refused| refused.revision),
        error: entry.refused().map(|refused| refused.why.clone()),
        quarantined: entry.quarantine().map(|one| one.version.clone()),
    }
}

/// The fleet, as Redis knows it; this node alone where it cannot be asked.
pub(crate) async fn seen(app: &App) -> Fleet {
    let this = app.roster.get().map(|roster| roster.node().to_owned());
    let mut releases = BTreeMap::new();
    let state = app.state().await;
    let mut own = FleetNode {
        node: this.clone().unwrap_or_else(host_name),
        this: true,
        generation: app.node.generation().number,
        ..FleetNode::default()
    };
    for (name, entry) in state.policies.iter() {
        own.policies.insert(name.clone(), told(entry));
        if let Some(standing) = entry.standing() {
            let release = &standing.release;
            let released = Released {
                revision: standing.revision,
                version: release.version().to_owned(),
                previous: release
                    .previous
                    .as_ref()
                    .map(|it| short(&it.hash).to_owned()),
                action: release.action.clone(),
                by: release.by.clone(),
                time: release.time.clone(),
                scope: match standing.sent {
                    true => Scope::Fleet,
                    false => Scope::Node,
                },
            };
            releases.insert(name.clone(), released);
        }
    }
    drop(state);
    let mut nodes = Vec::new();
    let mut alone = None;
    match app.roster.get() {
        None => alone = Some(UNCONFIGURED.to_owned()),
        Some(roster) => match roster.all().await {
            Err(error) => alone = Some(error.to_string()),
            Ok(all) => {
                for (node, told) in all {
                    let read = serde_json::from_value(Value::Object(told));
                    // A node of another version of Weir tells other things.
                    let mut told: FleetNode = read.unwrap_or_default();
                    told.this = Some(&node) == this.as_ref();
                    told.node = node;
                    if told.this {
                        // What it is now, not what it last told.
                        told.policies.clone_from(&own.policies);
                        told.generation = own.generation;
                    }
                    nodes.push(told);
                }
            }
        },
    }
    if !nodes.iter().any(|node| node.this) {
        nodes.push(own);
    }
    Fleet {
        nodes,
        releases,
        alone,
    }
}

/// For how many nodes the fleet is taken. A Redis that comes back empty hears of one node
/// after the other: until all had time to speak, the fleet is as large as it was.
#[derive(Debug, Default)]
struct Size {
    count: usize,
    /// Since when there are fewer, and how many of them at most.
    fewer: Option<(Instant, usize)>,
}

impl Size {
    fn of(count: usize) -> Self {
        Self { count, fewer: None }
    }

    fn heard(&mut self, now: Instant, count: usize) -> usize {
        if count >= self.count {
            *self = Self::of(count);
            return count;
        }
        let (since, most) = self.fewer.unwrap_or((now, count));
        let most = most.max(count);
        if now.duration_since(since) < TTL {
            self.fewer = Some((since, most));
        } else {
            *self = Self::of(most);
        }
        self.count
    }
}

/// Where a node keeps how large its fleet is: one that starts while Redis is away would
/// else take itself for the only one.
#[derive(Debug)]
struct Memory(Option<PathBuf>);

impl Memory {
    /// 0 where nothing is known. What cannot be read is worth a warning, and no more.
    fn read(&self) -> usize {
        let Some(file) = &self.0 else { return 0 };
        match std::fs::read_to_string(file) {
            Ok(text) => text.trim().parse().unwrap_or_else(|_| {
                let file = file.display();
                tracing::warn!(%file, "this is no number of nodes; it will be written anew");
                0
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the number of nodes cannot be read");
                0
            }
        }
    }

    /// A few bytes, now and then: not worth a thread of their own.
    fn write(&self, count: usize) {
        let Some(file) = &self.0 else { return };
        let written = file
            .parent()
            .map_or_else(
                tempfile::NamedTempFile::new,
                tempfile::NamedTempFile::new_in,
            )
            .and_then(|mut new| {
                writeln!(new, "{count}")?;
                new.persist(file).map_err(|error| error.error)
            });
        if let Err(error) = written {
            tracing::warn!(file = %file.display(), %error, "the number of nodes cannot be kept");
        }
    }
}

/// What the machine is called, for an operator.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "weir".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_shrinks_only_after_all_had_time_to_speak() {
        let mut size = Size::default();
        let start = Instant::now();
        let mut at = |seconds, count| size.heard(start + Duration::from_secs(seconds), count);
        assert_eq!(at(0, 3), 3);
        // An outage of a minute, and a Redis that has lost all.
        assert_eq!(at(60, 1), 3);
        assert_eq!(at(62, 2), 3);
        assert_eq!(at(64, 3), 3);
        assert_eq!(at(66, 2), 3, "one has left");
        assert_eq!(at(74, 1), 3);
        assert_eq!(at(76, 1), 2);
        assert_eq!(at(78, 1), 2);
        assert_eq!(at(90, 1), 1);
        assert_eq!(at(92, 5), 5);
    }

    #[test]
    fn the_size_is_kept_and_a_file_that_is_none_counts_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let memory = Memory(Some(dir.path().join(FILE)));
        assert_eq!(memory.read(), 0);
        memory.write(20);
        memory.write(3);
        assert_eq!(memory.read(), 3);
        std::fs::write(dir.path().join(FILE), "-1").unwrap();
        assert_eq!(memory.read(), 0);
        assert_eq!(Memory(None).read(), 0);
        Memory(Some(dir.path().join("none/nodes"))).write(3);
        // A Redis that comes back empty does not make the fleet that was kept smaller at once.
        let mut size = Size::of(3);
        assert_eq!(size.heard(Instant::now(), 1), 3);
    }
}
