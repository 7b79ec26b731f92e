//! `weir event`: sends a domain event to the policies.

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use weir_admin::{EventAnswer, Selected, SelectorKind};

use super::http::{Node, typed};
use super::{AdminArgs, print, printable, purge, raw};

/// Send a domain event; the policies say what it invalidates
#[derive(Debug, Clone, Args)]
pub(crate) struct EventArgs {
    /// The event's type: user.updated
    #[arg(value_name = "TYPE")]
    kind: String,
    /// The event's data as JSON: '{"id": 42}'
    #[arg(value_name = "JSON")]
    data: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `weir event`.
///
/// # Errors
/// Data that is not JSON; else as [`purge::run`].
pub(crate) async fn run(args: EventArgs) -> anyhow::Result<()> {
    Ok(print(&execute(args).await?)?)
}

pub(super) async fn execute(args: EventArgs) -> anyhow::Result<String> {
    let node = Node::new(&args.admin)?;
    let data: Value = match &args.data {
        Some(text) => serde_json::from_str(text).with_context(|| {
            format!(
                "the event's data is not JSON; write it in quotes: weir event {} '{{\"id\": 42}}'",
                args.kind
            )
        })?,
        None => Value::Null,
    };
    let answer = node
        .post("/v1/events", &json!({"type": args.kind, "data": data}))
        .await?;
    if args.admin.json {
        return Ok(raw(&answer));
    }
    let event: EventAnswer = typed(&answer)?;
    if event.selectors.is_empty() {
        return Ok(format!("no policy invalidates anything for {}", args.kind));
    }
    let mut lines: Vec<String> = event.selectors.iter().map(line).collect();
    lines.push(purge::reach(event.sequence, event.scope, event.durable));
    Ok(lines.join("\n"))
}

fn line(selected: &Selected) -> String {
    let kind = match selected.kind {
        SelectorKind::Url => "URL",
        SelectorKind::Key => "key",
        SelectorKind::Tag => "tag",
        SelectorKind::Namespace => "namespace",
        SelectorKind::Prefix => "prefix",
        SelectorKind::All => "everything",
    };
    let done = if selected.soft {
        "soft-purged"
    } else {
        "purged"
    };
    let mut line = format!("{}: {done} {kind}", printable(&selected.policy));
    if let Some(value) = &selected.value {
        line.push(' ');
        line.push_str(&printable(value));
    }
    if let Some(host) = &selected.host {
        line.push_str(" of ");
        line.push_str(&printable(host));
    }
    line
}
