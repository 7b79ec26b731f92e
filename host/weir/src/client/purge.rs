//! `weir purge`: invalidates what its options select.

use clap::{ArgGroup, Args};
use weir_admin::{InvalidateAnswer, InvalidateRequest, Scope};

use super::http::{Node, typed};
use super::{AdminArgs, print, raw};

/// Remove objects from the cache
#[derive(Debug, Clone, Args)]
#[command(group(
    ArgGroup::new("what")
        .args(["urls", "keys", "tags", "namespaces", "prefixes", "all"])
        .required(true)
        .multiple(true)
))]
pub(crate) struct PurgeArgs {
    /// An absolute URL; may be repeated, as all that follow
    #[arg(long = "url", value_name = "URL")]
    urls: Vec<String>,
    /// A key as the policy makes it: user:profile:42
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Every object with this tag
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Every object of this namespace
    #[arg(long = "namespace", value_name = "NAME")]
    namespaces: Vec<String>,
    /// Every object whose key begins so: user:profile:
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<String>,
    /// Everything
    #[arg(long)]
    all: bool,
    /// Only objects of this host (or host:port)
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// End their lifetime only: what may be served stale still may
    #[arg(long)]
    soft: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `weir purge`.
///
/// # Errors
/// The node's refusal or why it could not be reached, with what to do.
pub(crate) async fn run(args: PurgeArgs) -> anyhow::Result<()> {
    Ok(print(&execute(args).await?)?)
}

pub(super) async fn execute(args: PurgeArgs) -> anyhow::Result<String> {
    let node = Node::new(&args.admin)?;
    let request = InvalidateRequest {
        urls: args.urls,
        keys: args.keys,
        tags: args.tags,
        namespaces: args.namespaces,
        prefixes: args.prefixes,
        all: args.all,
        host: args.host,
        soft: args.soft,
    };
    let answer = node
        .post("/v1/invalidate", &serde_json::to_value(&request)?)
        .await?;
    if args.admin.json {
        return Ok(raw(&answer));
    }
    let answer: InvalidateAnswer = typed(&answer)?;
    let done = if request.soft {
        "soft-purged"
    } else {
        "purged"
    };
    Ok(format!(
        "{done} {}\n{}",
        what(&request),
        reach(answer.sequence, answer.scope, answer.durable)
    ))
}

fn what(request: &InvalidateRequest) -> String {
    let counted = [
        (request.urls.len(), "URL", "URLs"),
        (request.keys.len(), "key", "keys"),
        (request.tags.len(), "tag", "tags"),
        (request.namespaces.len(), "namespace", "namespaces"),
        (request.prefixes.len(), "prefix", "prefixes"),
    ];
    let mut parts: Vec<String> = counted
        .into_iter()
        .filter(|(count, _, _)| *count > 0)
        .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
        .collect();
    if request.all {
        parts.push("everything".into());
    }
    match &request.host {
        Some(host) => format!("{} of {host}", parts.join(", ")),
        None => parts.join(", "),
    }
}

/// Says where an invalidation is in force.
pub(super) fn reach(sequence: Option<u64>, scope: Scope, durable: Option<bool>) -> String {
    let mut reach: String = match (scope, sequence) {
        (Scope::Fleet, Some(sequence)) => format!("in force on every node (sequence {sequence})"),
        (Scope::Fleet, None) => "in force on every node".into(),
        (Scope::Node, _) => "in force on this node only: it has no Redis, or Redis is away and the other nodes hear of it when it is back".into(),
    };
    if durable == Some(false) {
        reach.push_str(
            "\nin memory only, until the node is restarted: it has no data_dir, or could not write there",
        );
    }
    reach
}
