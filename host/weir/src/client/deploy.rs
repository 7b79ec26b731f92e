//! `weir deploy` and `weir rollback`: which version of a policy is in force.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use weir_admin::{Deployed, MAX_COMPONENT, PolicyInfo, Upload};

use super::fleet::{self, WaitArgs};
use super::http::{Node, policy_path, typed};
use super::trial::{self, TryArgs};
use super::{AdminArgs, print, printable};
use crate::registry::{Image, SCHEME};
use crate::signing;

/// Replace a policy on all nodes of the fleet, or try the new version beside it on one
#[derive(Debug, Clone, Args)]
pub(crate) struct DeployArgs {
    /// The policy's name in the configuration
    name: String,
    /// The component: a file, as `weir plugin build` makes it, or oci://HOST/NAME:TAG in a registry
    #[arg(value_name = "FILE")]
    component: String,
    /// Sign it with this key: a PEM file with a private key of ed25519
    #[arg(long, value_name = "FILE", env = "WEIR_DEPLOY_KEY")]
    key: Option<PathBuf>,
    #[command(flatten)]
    how: TryArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// End the trial of a version, or bring the previous version of a policy back on all nodes
#[derive(Debug, Clone, Args)]
pub(crate) struct RollbackArgs {
    /// The policy's name in the configuration
    name: String,
    #[command(flatten)]
    wait: WaitArgs,
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
    let component = match args.component.starts_with(SCHEME) {
        true => {
            let image = Image::parse(&args.component)?;
            let (bytes, digest) = image.pull().await?;
            if image.digest().is_none() {
                eprintln!("{image} is {digest}");
            }
            bytes
        }
        false => read(Path::new(&args.component))?,
    };
    let key = args.key.as_ref();
    let signature = key.map(|key| signing::sign(key, &args.name, &component));
    let upload = Upload {
        component,
        signature: signature.transpose()?,
    };
    let node = Node::new(&args.admin)?;
    // Asked before the upload: a refusal (token, name) is then an answer, not a broken pipe.
    let known = policy(&node, &args.name).await?;
    let before = printable(&known.version);
    let path = policy_path(&args.name);
    let stays = || format!("{} stays at version {before}", args.name);
    if let Some((mode, percent)) = args.how.wanted() {
        let held = node
            .put(&format!("{path}?activate=false"), upload)
            .await
            .with_context(stays)?;
        let Deployed { version, .. } = typed(&held)?;
        let begun = trial::begin(&node, &known, Some(version), mode, percent, args.admin.json);
        return begun.await.with_context(stays);
    }
    let answer = node.put(&path, upload).await.with_context(stays)?;
    report(
        &node,
        &args.name,
        &before,
        &answer,
        &args.wait,
        args.admin.json,
    )
    .await
}

fn read(path: &Path) -> anyhow::Result<Bytes> {
    let file = path.display();
    let component =
        std::fs::read(path).with_context(|| format!("cannot read the component {file}"))?;
    if component.is_empty() {
        bail!("{file} is empty: build the policy with weir plugin build");
    }
    if component.len() > MAX_COMPONENT {
        bail!(
            "{file} has {} bytes; a component may have at most {MAX_COMPONENT}",
            component.len()
        );
    }
    Ok(component.into())
}

pub(super) async fn rollback(args: RollbackArgs) -> anyhow::Result<String> {
    let node = Node::new(&args.admin)?;
    let before = printable(&policy(&node, &args.name).await?.version);
    let path = format!("{}/rollback", policy_path(&args.name));
    let answer = node.post(&path, &json!({})).await?;
    if !args.admin.json
        && let Some(text) = trial::ended(&args.name, &answer)
    {
        return Ok(text);
    }
    report(
        &node,
        &args.name,
        &before,
        &answer,
        &args.wait,
        args.admin.json,
    )
    .await
}

/// What the node says of a policy.
pub(super) async fn policy(node: &Node, name: &str) -> anyhow::Result<PolicyInfo> {
    let answer = node.success(node.get("/v1/policies").await?)?;
    let policies: Vec<PolicyInfo> = typed(&answer["policies"])?;
    if let Some(policy) = policies.iter().find(|policy| policy.name == name) {
        return Ok(policy.clone());
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

pub(super) async fn report(
    node: &Node,
    name: &str,
    before: &str,
    answer: &Value,
    wait: &WaitArgs,
    json: bool,
) -> anyhow::Result<String> {
    let Deployed { version, .. } = typed(answer)?;
    let version = printable(&version);
    let text = match version == before {
        true => format!("{name}: {version} is in force, as before"),
        false => format!("{name}: {version} is in force, in place of {before}"),
    };
    fleet::reported(node, name, answer, wait, json, text).await
}
