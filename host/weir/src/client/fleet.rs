//! The nodes of a fleet: which versions they have, and whether they follow a change.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_admin::{Fleet, FleetNode, Scope, Source};

use super::http::{Node, typed};
use super::{printable, raw, table};

/// How often the nodes are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What a node says of a fleet that it has none of.
pub(crate) const UNCONFIGURED: &str = "Redis is not configured";

/// How long other nodes are waited for
#[derive(Debug, Clone, Args)]
pub(crate) struct WaitArgs {
    /// How long to wait until every node of the fleet has followed; exit status 1 when one has
    /// not. 0s: not at all
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// What became of a change on the other nodes.
pub(super) struct Followed {
    /// For a person; empty where there is nothing to say.
    pub(super) text: String,
    pub(super) nodes: Vec<FleetNode>,
    /// Whether all that have the policy have followed, or nobody was to wait for.
    pub(super) all: bool,
}

/// Waits until all nodes have followed what `answer` says was told to the fleet.
pub(super) async fn followed(
    node: &Node,
    name: &str,
    answer: &Value,
    wait: &WaitArgs,
) -> anyhow::Result<Followed> {
    let scope: Option<Scope> = serde_json::from_value(answer["scope"].clone()).ok();
    let (Some(scope), Some(revision)) = (scope, answer["revision"].as_u64()) else {
        // A trial ended, which is of this node alone.
        return Ok(Followed {
            text: String::new(),
            nodes: Vec::new(),
            all: true,
        });
    };
    let began = Instant::now();
    loop {
        let fleet = seen(node).await?;
        let waited = began.elapsed();
        if scope == Scope::Node || fleet.alone.is_some() {
            let text = match fleet.alone.as_deref() {
                // There are no others.
                Some(UNCONFIGURED) => String::new(),
                _ => "on this node alone: Redis does not answer; the others follow when it is back"
                    .to_owned(),
            };
            let (nodes, all) = (fleet.nodes, true);
            return Ok(Followed { text, nodes, all });
        }
        let concerned = fleet.nodes.iter().filter_map(|node| {
            let policy = node.policies.get(name)?;
            let there = policy.revision.is_some_and(|known| known >= revision);
            Some((node, policy, there))
        });
        let concerned: Vec<_> = concerned.collect();
        let missing = concerned.iter().filter(|(.., there)| !there);
        let waiting = missing
            .clone()
            .any(|(_, policy, _)| policy.refused != Some(revision));
        if waiting && waited < wait.wait {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        if wait.wait.is_zero() {
            let (text, nodes, all) = (String::new(), fleet.nodes, true);
            return Ok(Followed { text, nodes, all });
        }
        let (all, count) = (missing.clone().count() == 0, concerned.len());
        let text = match (all, count) {
            (true, 0 | 1) => String::new(),
            (true, count) => format!("on all {count} nodes after {:.1} s", waited.as_secs_f64()),
            (false, count) => {
                let lines = missing.map(|(node, policy, _)| {
                    let why = match &policy.error {
                        Some(error) if policy.refused == Some(revision) => {
                            format!("refused it: {}", printable(error))
                        }
                        _ => format!("has not followed after {:.1} s", waited.as_secs_f64()),
                    };
                    let version = printable(&policy.version);
                    format!("\n  {} stays at {version}: it {why}", named(node))
                });
                let there = concerned.iter().filter(|(.., there)| *there).count();
                format!(
                    "on {there} of {count} nodes{}\nweir rollback {name} brings the version before back on all of them",
                    lines.collect::<String>()
                )
            }
        };
        let nodes = fleet.nodes;
        return Ok(Followed { text, nodes, all });
    }
}

/// The answer with what became of it, for a person or as JSON; an error when not all nodes
/// have followed.
pub(super) async fn reported(
    node: &Node,
    name: &str,
    answer: &Value,
    wait: &WaitArgs,
    json: bool,
    text: String,
) -> anyhow::Result<String> {
    let followed = followed(node, name, answer, wait).await?;
    let mut shown = text;
    if json {
        let mut answer = answer.clone();
        answer["nodes"] = json!(followed.nodes);
        shown = raw(&answer);
    } else if !followed.text.is_empty() {
        shown = format!("{shown}\n{}", followed.text);
    }
    if !followed.all {
        bail!("{shown}");
    }
    Ok(shown)
}

pub(super) async fn seen(node: &Node) -> anyhow::Result<Fleet> {
    typed(&node.success(node.get("/v1/fleet").await?)?)
}

/// The table that `weir status --fleet` prints.
pub(super) fn shown(fleet: &Fleet) -> String {
    let header = [
        "NODE",
        "GENERATION",
        "POLICY",
        "VERSION",
        "FROM",
        "REVISION",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for node in &fleet.nodes {
        for (name, policy) in &node.policies {
            let source = match policy.source {
                Source::File => "file",
                Source::Deployed => "deployed",
            };
            let revision = policy.revision.map_or("-".to_owned(), |it| it.to_string());
            rows.push(vec![
                named(node),
                node.generation.to_string(),
                printable(name),
                printable(&policy.version),
                source.to_owned(),
                revision,
            ]);
            if let Some(error) = &policy.error {
                let (node, error) = (named(node), printable(error));
                notes.push_str(&format!(
                    "{node} has refused a version of {}: {error}\n",
                    printable(name)
                ));
            }
            if let Some(version) = &policy.quarantined {
                notes.push_str(&format!(
                    "{} has version {} of {} in quarantine\n",
                    named(node),
                    printable(version),
                    printable(name)
                ));
            }
        }
    }
    let mut text = String::new();
    if let Some(why) = &fleet.alone {
        text.push_str(&format!("only this node is seen: {}\n\n", printable(why)));
    }
    text.push_str(&table::table(&rows, usize::MAX));
    for (name, release) in &fleet.releases {
        let scope = match release.scope {
            Scope::Fleet => "all nodes are to have",
            Scope::Node if fleet.alone.as_deref() == Some(UNCONFIGURED) => "this node is to have",
            Scope::Node => "not told to the others yet:",
        };
        text.push_str(&format!(
            "\n{}: {scope} {}, {} on {} at {}; before it {}",
            printable(name),
            printable(&release.version),
            printable(&release.action),
            printable(&release.by),
            printable(&release.time),
            release
                .previous
                .as_deref()
                .map_or("nothing".to_owned(), printable),
        ));
    }
    if !notes.is_empty() {
        text.push_str("\n\n");
        text.push_str(&notes);
    }
    text.truncate(text.trim_end().len());
    text
}

/// A node with where it listens, since its name may say little.
fn named(node: &FleetNode) -> String {
    let mut text = printable(&node.node);
    if let Some(listen) = node.listen.first() {
        text.push_str(&format!(" ({})", printable(listen)));
    }
    text
}
