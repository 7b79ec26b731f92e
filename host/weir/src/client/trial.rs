//! `weir trial` and `weir promote`: a version on its way into force. `weir audit`: what
//! was done.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use weir_admin::{AuditEntry, Outcomes, PolicyInfo, Trial, TrialMode};

use super::deploy::{policy, report};
use super::fleet::WaitArgs;
use super::http::{Node, policy_path, typed};
use super::{AdminArgs, print, printable, raw, table};

/// How a version is tried
#[derive(Debug, Clone, Args)]
pub(crate) struct TryArgs {
    /// Try it in shadow on this percentage of the requests: it decides nothing, its answers
    /// are compared with those of the version in force
    #[arg(long, value_name = "PERCENT", conflicts_with = "canary")]
    shadow: Option<f64>,
    /// Let it decide for this percentage of the clients, always the same ones
    #[arg(long, value_name = "PERCENT")]
    canary: Option<f64>,
}

impl TryArgs {
    pub(super) fn wanted(&self) -> Option<(TrialMode, f64)> {
        let shadow = self.shadow.map(|percent| (TrialMode::Shadow, percent));
        shadow.or(self.canary.map(|percent| (TrialMode::Canary, percent)))
    }
}

/// Show what the version on trial came to, or try another one
#[derive(Debug, Clone, Args)]
pub(crate) struct TrialArgs {
    /// The policy's name in the configuration
    name: String,
    #[command(flatten)]
    how: TryArgs,
    /// The version to try; when absent the newest that the node holds and did not take back
    #[arg(long)]
    version: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Put the version on trial in force, on all nodes of the fleet
#[derive(Debug, Clone, Args)]
pub(crate) struct PromoteArgs {
    /// The policy's name in the configuration
    name: String,
    /// Another version that the node holds
    #[arg(long)]
    version: Option<String>,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Show who changed which policy, the newest change first
#[derive(Debug, Clone, Args)]
pub(crate) struct AuditArgs {
    /// Only changes of this policy
    #[arg(long)]
    policy: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `weir trial`.
///
/// # Errors
/// A policy that the node does not have or that has no version on trial, the node's refusal,
/// or why the node could not be reached.
pub(crate) async fn run(args: TrialArgs) -> anyhow::Result<()> {
    Ok(print(&trial(args).await?)?)
}

/// Runs `weir promote`.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_promote(args: PromoteArgs) -> anyhow::Result<()> {
    Ok(print(&promote(args).await?)?)
}

/// Runs `weir audit`.
///
/// # Errors
/// Why the node could not be reached, or its refusal.
pub(crate) async fn run_audit(args: AuditArgs) -> anyhow::Result<()> {
    Ok(print(&audit(args).await?)?)
}

pub(super) async fn trial(args: TrialArgs) -> anyhow::Result<String> {
    let node = Node::new(&args.admin)?;
    let known = policy(&node, &args.name).await?;
    if let Some((mode, percent)) = args.how.wanted() {
        return begin(&node, &known, args.version, mode, percent, args.admin.json).await;
    }
    if args.version.is_some() {
        bail!("--version goes with --shadow PERCENT or --canary PERCENT");
    }
    let Some(trial) = &known.trial else {
        bail!(
            "no version of {} is on trial; begin with weir deploy {} FILE --shadow PERCENT",
            args.name,
            args.name
        );
    };
    match args.admin.json {
        true => Ok(raw(&json!(trial))),
        false => Ok(shown(&known, trial)),
    }
}

/// Has the node try a version.
pub(super) async fn begin(
    node: &Node,
    known: &PolicyInfo,
    version: Option<String>,
    mode: TrialMode,
    percent: f64,
    json: bool,
) -> anyhow::Result<String> {
    let (word, whose) = match mode {
        TrialMode::Shadow => ("shadow", "requests"),
        TrialMode::Canary => ("canary", "clients"),
    };
    let path = format!("{}/{word}", policy_path(&known.name));
    let body = json!({"version": version, "percent": percent});
    let answer = node.post(&path, &body).await?;
    if json {
        return Ok(raw(&answer));
    }
    let trial: Trial = typed(&answer)?;
    Ok(format!(
        "{name}: {version} is a {word} on {percent} % of the {whose}; {live} is in force\n\
         weir trial {name} shows what it comes to, weir promote {name} puts it in force, \
         weir rollback {name} ends it",
        name = known.name,
        version = printable(&trial.version),
        live = printable(&known.version),
    ))
}

pub(super) async fn promote(args: PromoteArgs) -> anyhow::Result<String> {
    let node = Node::new(&args.admin)?;
    let before = printable(&policy(&node, &args.name).await?.version);
    let path = format!("{}/promote", policy_path(&args.name));
    let answer = node.post(&path, &json!({"version": args.version})).await?;
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

pub(super) async fn audit(args: AuditArgs) -> anyhow::Result<String> {
    let node = Node::new(&args.admin)?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &args.limit.to_string());
    if let Some(policy) = &args.policy {
        query.append_pair("policy", policy);
    }
    let answer = node.success(node.get(&format!("/v1/audit?{}", query.finish())).await?)?;
    if args.admin.json {
        return Ok(raw(&answer));
    }
    let changes: Vec<AuditEntry> = typed(&answer["changes"])?;
    if changes.is_empty() {
        return Ok("nothing was changed".to_owned());
    }
    let header = ["TIME", "POLICY", "WHAT", "VERSION", "BEFORE", "BY"].map(str::to_owned);
    let mut rows = vec![header.to_vec()];
    for change in &changes {
        let from = change.from.as_deref().unwrap_or("-");
        let by = match &change.detail {
            Some(detail) => format!("{}: {}", change.by, detail),
            None => change.by.clone(),
        };
        let version = match &change.semver {
            Some(semver) => format!("{} ({semver})", change.version),
            None => change.version.clone(),
        };
        let cells = [
            &*change.time,
            &*change.policy,
            &*change.action,
            &version,
            from,
            &by,
        ];
        rows.push(cells.map(printable).to_vec());
    }
    Ok(table::table(&rows, usize::MAX).trim_end().to_owned())
}

/// What one of the versions says, which may be nothing.
fn or_none(text: &str) -> String {
    match text {
        "" => "(none)".to_owned(),
        text => printable(text),
    }
}

/// What came of a version's decisions.
fn came_of_it(outcomes: &Outcomes) -> String {
    let share = |part: u64, whole: u64, what: &str| match whole {
        0 => format!("no {what}"),
        _ => format!("{} % of {whole} {what}", part.saturating_mul(100) / whole),
    };
    format!(
        "hits {}, 5xx {}",
        share(outcomes.hits, outcomes.lookups, "lookups"),
        share(outcomes.errors, outcomes.answers, "answers")
    )
}

fn shown(known: &PolicyInfo, trial: &Trial) -> String {
    let (name, version, live) = (
        &known.name,
        printable(&trial.version),
        printable(&known.version),
    );
    let percent = trial.percent;
    let mut text = match trial.mode {
        TrialMode::Shadow => format!(
            "{name}: {version} is a shadow of {live} on {percent} % of the requests\n\
             same {}, different {}, failed {}, left out {}\n",
            trial.same, trial.different, trial.failed, trial.skipped
        ),
        TrialMode::Canary => format!(
            "{name}: {version} is a canary beside {live} for {percent} % of the clients\n\
             decided {}, failed {} ({live} decided these)\n\
             {}; {live}: {}\n",
            trial.decided,
            trial.failed,
            came_of_it(&trial.outcomes),
            came_of_it(&trial.live)
        ),
    };
    if let Some(error) = &trial.last_error {
        text.push_str(&format!("last error: {}\n", printable(error)));
    }
    for (kind, count) in &trial.differences {
        text.push_str(&format!("\n{} differs in {count}\n", printable(kind)));
        for one in trial.examples.iter().filter(|one| one.kind == *kind) {
            text.push_str(&format!(
                "  {}\n    {live}  {}\n    {version}  {}\n",
                printable(&one.subject),
                or_none(&one.live),
                or_none(&one.tried)
            ));
        }
    }
    text.trim_end().to_owned()
}

/// What a rollback did, for a person.
pub(super) fn ended(name: &str, answer: &Value) -> Option<String> {
    let tried = answer["ended"].as_str()?;
    let version = answer["version"].as_str().unwrap_or_default();
    Some(format!(
        "{name}: the trial of {} has ended; {} is in force, as before",
        printable(tried),
        printable(version)
    ))
}
