//! `weir stats`: what the cache holds and how it is used, by namespace.

use bytesize::ByteSize;
use clap::Args;

use super::http::{Node, typed};
use super::table::table;
use super::{AdminArgs, print, printable, raw};
use crate::stats::{Age, AllStats, Stats};

/// Show objects, bytes, hits, misses, evictions and ages by namespace
#[derive(Debug, Clone, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Runs `weir stats`.
///
/// # Errors
/// As [`super::purge::run`].
pub(crate) async fn run(args: StatsArgs) -> anyhow::Result<()> {
    Ok(print(&execute(args).await?)?)
}

pub(super) async fn execute(args: StatsArgs) -> anyhow::Result<String> {
    let node = Node::new(&args.admin)?;
    let answer = node.success(node.get("/v1/stats").await?)?;
    if args.admin.json {
        return Ok(raw(&answer));
    }
    Ok(shown(&typed(&answer)?).trim_end().to_owned())
}

/// The table, each namespace a line, and their sum.
pub(super) fn shown(all: &AllStats) -> String {
    let header = [
        "NAMESPACE",
        "OBJECTS",
        "BYTES",
        "HITS",
        "MISSES",
        "RATIO",
        "EVICTED",
        "SHARE",
        "EXPIRED",
        "HIT AGE",
        "EVICTED AGE",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let evicted = all.total.evictions;
    let lines = all.namespaces.iter().chain([&all.total]);
    rows.extend(lines.map(|one| line(one, evicted)));
    table(&rows, 1)
}

fn line(one: &Stats, all_evictions: u64) -> Vec<String> {
    vec![
        printable(&one.namespace),
        one.objects.to_string(),
        ByteSize(one.bytes).to_string(),
        one.hits.to_string(),
        one.misses.to_string(),
        one.hit_ratio.map_or("-".to_owned(), percent),
        one.evictions.to_string(),
        share(one.evictions, all_evictions),
        one.expired.to_string(),
        age(&one.hit_age),
        age(&one.eviction_age),
    ]
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a ratio of counts, for a person"
)]
fn share(part: u64, all: u64) -> String {
    match all {
        0 => "-".to_owned(),
        _ => percent(part as f64 / all as f64),
    }
}

fn percent(ratio: f64) -> String {
    format!("{:.1}%", ratio * 100.0)
}

/// The mean, and what half of them are at most.
fn age(age: &Age) -> String {
    let Some(mean) = age.mean else {
        return "-".to_owned();
    };
    let median = match age.median_at_most {
        Some(median) => format!("≤{}", seconds(median)),
        None => ">30d".to_owned(),
    };
    format!("{} ({median})", seconds(mean))
}

/// A time in its largest sensible unit.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 60.0 => format!("{}s", (s * 10.0).round() / 10.0),
        s if s < 3_600.0 => format!("{}m", (s / 6.0).round() / 10.0),
        s if s < 86_400.0 => format!("{}h", (s / 360.0).round() / 10.0),
        s => format!("{}d", (s / 8_640.0).round() / 10.0),
    }
}
