//! `weir deploy` and `weir rollback`: which version of a policy is in force.

use std::path::PathBuf;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use weir_admin::{Deployed, MAX_COMPONENT, PolicyInfo};

use super::http::{Node, policy_path, typed};
use super::{AdminArgs, print, printable, raw};

/// Replace a policy on a running node
#[derive(Debug, Clone, Args)]
pub(crate) struct DeployArgs {
    /// The policy's name in the configuration
    name: String,
    /// The component, as `weir plugin build` makes it
    file: PathBuf,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Bring the previous version of a policy back
#[derive(Debug, Clone, Args)]
pub(crate) struct RollbackArgs {
    /// The policy's name in the configuration
    name: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `weir deploy`.
///
/// # Errors
/// A file that cannot be a component, a policy the node does not have, the node's refusal (the
/// old version stays), or why the node could not be reached.
pub(crate) async fn run(args: DeployArgs) -> anyhow::Result<()> {
    Ok(print(&deploy(args).await?)?)
}

/// Runs `weir rollback`.
///
/// # Errors
/// As [`run`], and when there is no earlier version.
pub(crate) async fn run_rollback(args: RollbackArgs) -> anyhow::Result<()> {
    Ok(print(&rollback(args).await?)?)
}

pub(super) async fn deploy(args: DeployArgs) -> anyhow::Result<String> {
    let file = args.file.display();
    let component =
        std::fs::read(&args.file).with_context(|| format!("cannot read the component {file}"))?;
    if component.is_empty() {
        bail!("{file} is empty: build the policy with weir plugin build");
    }
    if component.len() > MAX_COMPONENT {
        bail!(
            "{file} has {} bytes; a component may have at most {MAX_COMPONENT}",
            component.len()
        );
    }
    let node = Node::new(&args.admin)?;
    // Asked before the upload: a refusal (token, name) is then an answer, not a broken pipe.
    let before = version(&node, &args.name).await?;
    let answer = node
        .put(&policy_path(&args.name), Bytes::from(component))
        .await
        .with_context(|| format!("{} stays at version {before}", args.name))?;
    report(&args.name, &before, &answer, args.admin.json)
}

pub(super) async fn rollback(args: RollbackArgs) -> anyhow::Result<String> {
    let node = Node::new(&args.admin)?;
    let before = version(&node, &args.name).await?;
    let path = format!("{}/rollback", policy_path(&args.name));
    let answer = node.post(&path, &json!({})).await?;
    report(&args.name, &before, &answer, args.admin.json)
}

async fn version(node: &Node, name: &str) -> anyhow::Result<String> {
    let answer = node.success(node.get("/v1/policies").await?)?;
    let policies: Vec<PolicyInfo> = typed(&answer["policies"])?;
    if let Some(policy) = policies.iter().find(|policy| policy.name == name) {
        return Ok(printable(&policy.version));
    }
    let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
    if names.is_empty() {
        bail!("the node has no policies: add [policies.{name}] to its configuration");
    }
    bail!(
        "the node has no policy {name}, only {}: add [policies.{name}] to its configuration first",
        printable(&names.join(", "))
    );
}

fn report(name: &str, before: &str, answer: &Value, json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(raw(answer));
    }
    let Deployed { version } = typed(answer)?;
    let version = printable(&version);
    Ok(if version == before {
        format!("{name}: {version} is in force, as before")
    } else {
        format!("{name}: {version} is in force, in place of {before}")
    })
}
