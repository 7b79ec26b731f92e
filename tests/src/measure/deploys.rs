//! A deploy to one of several nodes with one Redis: how soon all have it, and a rollback. Beside
//! it how long the machine takes to compile the component for each of them, since here they share
//! its cores.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::process::Command;
use weir_tests::artifact::weir_binary;
use weir_tests::component::marked;
use weir_tests::{Config, RedisServer, Scratch, Weir, guests, until};

use super::site::Site;

/// What `weir-measure deploys` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Nodes.
    #[arg(long, default_value_t = 5)]
    nodes: usize,
    /// Deploys, each of another version, and each followed by a rollback.
    #[arg(long, default_value_t = 5)]
    deploys: usize,
    /// A component to deploy; that of static-site in Rust when absent.
    #[arg(long)]
    component: Option<PathBuf>,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.nodes > 0 && options.deploys > 0, "nothing to do");
    let (site, redis) = (Site::start(1_024).await?, RedisServer::start().await);
    let first = guests().static_site();
    let bytes = std::fs::read(options.component.as_ref().unwrap_or(&first))?;
    let mut nodes = Vec::new();
    for _ in 0..options.nodes {
        let config = Config::policy(&site.url(), &first, "cpu_limit = \"1s\"\n");
        nodes.push(config.redis(&redis.url()).data_dir().start().await);
    }
    println!(
        "{} nodes on this machine, a component of {} bytes\n\n\
         | deploy | compiled by as many at once | answered | on all nodes | rollback on all |\n\
         |---:|---:|---:|---:|---:|",
        options.nodes,
        bytes.len()
    );
    let (mut deploys, mut rollbacks, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
    let dir = Scratch::new();
    for deploy in 1..=options.deploys {
        let component = marked(&bytes, &format!("{deploy} {}", std::process::id()));
        let file = dir.path().join("component.wasm");
        std::fs::write(&file, &component)?;
        let compiled = compiled(&file, options.nodes).await?;
        let before = nodes[0].admin().version("site").await;
        let node = &nodes[deploy % nodes.len()];
        let began = Instant::now();
        let answer = node.admin().put_policy("site", component).await;
        ensure!(answer.status == 200, "a deploy: {answer:?}");
        let (answered, answer) = (began.elapsed(), answer.json());
        on_all(&nodes, &answer["version"]).await;
        let there = began.elapsed();

        let began = Instant::now();
        let back = node.admin().post("/v1/policies/site/rollback", "{}").await;
        ensure!(back.status == 200, "a rollback: {back:?}");
        on_all(&nodes, &Value::from(before)).await;
        let back = began.elapsed();
        println!("| {deploy} | {compiled:.2?} | {answered:.2?} | {there:.2?} | {back:.2?} |");
        deploys.push(there);
        beyond.push(there.saturating_sub(compiled));
        rollbacks.push(back);
    }
    println!(
        "\nslowest deploy   {:.2?}, at most {:.2?} more than compiling took\n\
         slowest rollback {:.2?}",
        longest(&deploys),
        longest(&beyond),
        longest(&rollbacks)
    );
    Ok(())
}

/// How long the compilers of so many nodes take together, with nothing else to do.
async fn compiled(component: &Path, nodes: usize) -> Result<Duration> {
    let began = Instant::now();
    let compilers = (0..nodes).map(async |_| {
        let ended = Command::new(weir_binary())
            .arg("compile-component")
            .stdin(std::fs::File::open(component)?)
            .stdout(Stdio::null())
            .status()
            .await
            .context("cannot start a compiler")?;
        ensure!(ended.success(), "a compiler failed: {ended}");
        Ok(())
    });
    try_join_all(compilers).await?;
    Ok(began.elapsed())
}

/// Waits until this version is in force on every node.
async fn on_all(nodes: &[Weir], version: &Value) {
    for node in nodes {
        until("the version in force", async || {
            let there = node.admin().version("site").await;
            (there == *version).then_some(())
        })
        .await;
    }
}

fn longest(times: &[Duration]) -> Duration {
    times.iter().max().copied().unwrap_or_default()
}
