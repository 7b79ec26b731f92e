//! `weir status`: how a node is.

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use weir_admin::{PolicyInfo, Source, TrialMode, VersionInfo};

use super::http::{Node, typed};
use super::{AdminArgs, fleet, print, printable, raw, stats, table};

/// Show how a running node is
#[derive(Debug, Clone, Args)]
pub(crate) struct StatusArgs {
    /// The nodes of the fleet instead, with the versions that each has in force
    #[arg(long)]
    fleet: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `weir status`; prints also when the node does not serve.
///
/// # Errors
/// A node that does not serve, so that scripts can ask; else as [`super::purge::run`].
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<()> {
    let report = execute(args).await?;
    print(&report.text)?;
    if report.ready {
        Ok(())
    } else {
        bail!("the node does not serve now")
    }
}

pub(super) struct Report {
    pub(super) text: String,
    pub(super) ready: bool,
}

pub(super) async fn execute(args: StatusArgs) -> anyhow::Result<Report> {
    let node = Node::new(&args.admin)?;
    if args.fleet {
        let fleet = fleet::seen(&node).await?;
        let text = match args.admin.json {
            true => raw(&json!(fleet)),
            false => fleet::shown(&fleet),
        };
        return Ok(Report { text, ready: true });
    }
    let status = node.success(node.get("/v1/status").await?)?;
    // 503 is one of its answers, and none of ours.
    let readiness = node.get("/readyz").await?.body;
    let ready = readiness["ready"] == true;
    if args.admin.json {
        let text = raw(&status);
        return Ok(Report { text, ready });
    }
    let policies = node.success(node.get("/v1/policies").await?)?;
    let policies: Vec<PolicyInfo> = typed(&policies["policies"])?;
    let mut text = headline(&readiness);
    tree(&mut text, &status, 0);
    policy_table(&mut text, &policies);
    let stats = node.success(node.get("/v1/stats").await?)?;
    text.push('\n');
    text.push_str(&stats::shown(&typed(&stats)?));
    text.truncate(text.trim_end().len());
    Ok(Report { text, ready })
}

fn headline(readiness: &Value) -> String {
    let list = |name: &str| -> Vec<String> {
        let texts = readiness[name].as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(printable).collect()
    };
    if readiness["ready"] != true {
        return format!("not serving: {}\n", list("reasons").join("; "));
    }
    match list("degraded") {
        degraded if degraded.is_empty() => "serving\n".into(),
        degraded => format!("serving, degraded: {}\n", degraded.join("; ")),
    }
}

/// Whatever a node tells of itself, one name a line. Policies have their own table.
fn tree(text: &mut String, value: &Value, depth: usize) {
    let Value::Object(fields) = value else { return };
    let leaves = fields.iter().filter(|(_, value)| !value.is_object());
    let width = leaves.map(|(name, _)| name.chars().count()).max();
    for (name, value) in fields {
        if depth == 0 && name == "policies" {
            continue;
        }
        let label = printable(name);
        let indent = "  ".repeat(depth);
        if value.is_object() {
            text.push_str(&format!("{indent}{label}\n"));
            tree(text, value, depth + 1);
        } else {
            let width = width.unwrap_or_default();
            text.push_str(&format!("{indent}{label:width$}  {}\n", leaf(value)));
        }
    }
}

fn leaf(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => printable(text),
        Value::Array(values) => values.iter().map(leaf).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn policy_table(text: &mut String, policies: &[PolicyInfo]) {
    if policies.is_empty() {
        return;
    }
    let header = ["POLICY", "VERSION", "FROM", "INSTANCES", "CALLS", "FAILED"].map(str::to_owned);
    let mut rows = vec![header.to_vec()];
    rows.extend(policies.iter().map(row));
    text.push('\n');
    text.push_str(&table::table(&rows, 3));
    cost_table(text, policies);
    for policy in policies {
        if let Some(active) = policy.versions.first() {
            let name = printable(&policy.name);
            text.push_str(&format!("{name}: {}\n", in_force(active)));
        }
        if let Some(trial) = &policy.trial {
            let mode = match trial.mode {
                TrialMode::Shadow => "in shadow",
                TrialMode::Canary => "as a canary",
            };
            text.push_str(&format!(
                "{name}: {} is tried {mode} ({} %): weir trial {name}\n",
                printable(&trial.version),
                trial.percent,
                name = printable(&policy.name),
            ));
        }
        if let Some(quarantined) = &policy.quarantined {
            let wait = std::time::Duration::from_secs(quarantined.wait_seconds);
            text.push_str(&format!(
                "{}: {} is in quarantine: {}; it is tried again after {}\n",
                printable(&policy.name),
                printable(&quarantined.version),
                printable(&quarantined.why),
                humantime::format_duration(wait),
            ));
        }
        if let Some(error) = &policy.last_error {
            let name = printable(&policy.name);
            text.push_str(&format!("{name}: last error: {}\n", printable(error)));
        }
    }
}

/// What there is to say of the version in force.
fn in_force(active: &VersionInfo) -> String {
    let mut said = printable(&active.version);
    if let Some(semver) = &active.semver {
        said.push_str(&format!(" is {}", printable(semver)));
    }
    if let Some(authors) = &active.authors {
        said.push_str(&format!(" by {}", printable(authors)));
    }
    let revision = active
        .revision
        .iter()
        .map(|text| format!(" ({})", printable(text)));
    said.extend(revision);
    format!("{said}, in force since {}", printable(&active.since))
}

/// What the hooks cost that were called.
fn cost_table(text: &mut String, policies: &[PolicyInfo]) {
    let header = [
        "POLICY",
        "HOOK",
        "REMEMBERED",
        "CALLS",
        "FAILED",
        "TIME",
        "P50",
        "P99",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for policy in policies {
        for hook in policy.cost.hooks.iter().filter(|hook| hook.calls > 0) {
            let remembered = match &*hook.hook {
                "on-request" if policy.cost.remembers => policy.cost.recalled.to_string(),
                "on-request" => "off".to_owned(),
                _ => "-".to_owned(),
            };
            let micros =
                |span: Option<f64>| span.map_or("-".to_owned(), |us| format!("{us:.0} µs"));
            rows.push(vec![
                printable(&policy.name),
                printable(&hook.hook),
                remembered,
                hook.calls.to_string(),
                hook.failures.values().sum::<u64>().to_string(),
                format!("{:.3} s", hook.seconds),
                micros(hook.p50_us),
                micros(hook.p99_us),
            ]);
        }
    }
    if rows.len() > 1 {
        text.push('\n');
        text.push_str(&table::table(&rows, 2));
        text.push('\n');
    }
}

fn row(policy: &PolicyInfo) -> Vec<String> {
    let source = match policy.source {
        Source::File => "file",
        Source::Deployed => "deployed",
    };
    vec![
        printable(&policy.name),
        printable(&policy.version),
        source.into(),
        policy.instances.to_string(),
        policy.calls.to_string(),
        policy.failures.to_string(),
    ]
}
