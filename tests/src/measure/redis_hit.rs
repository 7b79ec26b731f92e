//! Hits in Redis, with the memory tier off, beside what redis-benchmark gets out of the same
//! server with values of the same size and as many connections.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::process::Command;
use weir_tests::{Config, RedisServer, Scratch, Weir, until};

use super::site::{self, Site};
use super::wrk;

/// What `weir-measure redis-hit` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// How many objects.
    #[arg(long, default_value_t = 100_000)]
    objects: u64,
    /// Connections of the clients, and of redis-benchmark; one table for each number.
    #[arg(long, value_delimiter = ',', default_value = "64,128,256")]
    connections: Vec<u32>,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Pairs of runs, one after the other.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let (site, redis) = (Site::start(1_024).await?, RedisServer::start().await);
    let config = Config::plain(&site.url()).redis(&redis.url());
    let config = config.and("queue = \"1GiB\"\n[memory]\ncapacity = \"0\"\n");
    let node = config.start().await;
    site::fill(node.port(), 0..options.objects).await?;
    until("all objects in Redis", async || {
        let size: u64 = redis.command(&["DBSIZE"]);
        (size >= options.objects).then_some(())
    })
    .await;
    let key = redis.keys(&format!("*{}*", site::path(7)));
    let key = key.first().context("an object in Redis")?;
    let bytes: u64 = redis.command(&["STRLEN", key]);
    println!("records of {bytes} bytes");
    for connections in &options.connections {
        compare(&node, &redis, bytes, *connections, options).await?;
    }
    Ok(())
}

/// Pairs of runs with so many connections, as a table.
async fn compare(
    node: &Weir,
    redis: &RedisServer,
    bytes: u64,
    connections: u32,
    options: &Options,
) -> Result<()> {
    println!(
        "| weir, {connections} connections, hits in Redis /s | redis-benchmark -t get /s | ratio | share of hits in Redis |\n|---|---|---|---|"
    );
    let mut ratios = Vec::new();
    for _ in 0..options.pairs {
        let hits = || async { node.admin().metric("weir_redis_hits_total", &[]).await };
        let before = hits().await;
        let dir = Scratch::new();
        let load = wrk::run(
            node.port(),
            options.objects,
            connections,
            options.seconds,
            dir.path(),
        );
        let load = load.await?;
        #[expect(clippy::cast_precision_loss, reason = "it is printed")]
        let asked = load.rate * options.seconds as f64;
        let share = (hits().await - before) / asked;
        let reference = benchmark(redis, bytes, connections, options.objects).await?;
        ratios.push(load.rate / reference);
        println!(
            "| {:.0} | {reference:.0} | {:.2} | {:.0} % |",
            load.rate,
            load.rate / reference,
            share * 100.0
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ratios.len() / 2]);
    Ok(())
}

async fn benchmark(redis: &RedisServer, bytes: u64, connections: u32, objects: u64) -> Result<f64> {
    let output = Command::new("redis-benchmark")
        .args(["-p", &redis.port().to_string(), "-t", "get", "--csv"])
        .args(["-d", &bytes.to_string(), "-n", "300000"])
        .args(["-c", &connections.to_string()])
        .args(["-r", &objects.to_string()])
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run redis-benchmark (Debian package redis-tools)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("\"GET\""));
    let rate = line.and_then(|line| line.split(',').nth(1));
    rate.and_then(|rate| rate.trim_matches('"').parse().ok())
        .with_context(|| format!("redis-benchmark said {text:?}"))
}
