//! How soon a node with a disk tier is itself again: filled, stopped and started, killed
//! while it writes and started. Each time a sample of its objects is asked for: what the
//! origin is asked for was lost.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Args;
use weir_tests::{Config, Weir, until};

use super::site::{self, Client, Site};

/// What `weir-measure restart` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// How many objects of 1 KiB.
    #[arg(default_value_t = 1_000_000)]
    objects: u64,
    /// How many of them are asked for after each start.
    #[arg(long, default_value_t = 10_000)]
    sample: u64,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    ensure!(options.objects > 0, "there must be an object to ask for");
    let site = Site::start(1_024).await?;
    // With little memory, so that the disk is asked.
    let tables = "[disk]\ncapacity = \"10GiB\"\n[memory]\ncapacity = \"64MiB\"\n";
    let config = Config::plain(&site.url()).and(tables).data_dir();
    let mut node = config.start().await;
    let filled = site::fill(node.port(), 0..options.objects).await?;
    written(&node, options.objects).await;
    println!(
        "{} objects fetched in {filled:.1?}, {:.0} MiB on disk, {:.0} dropped\n",
        options.objects,
        metric(&node, "weir_disk_bytes").await / 1024.0 / 1024.0,
        metric(&node, "weir_disk_dropped_full_total").await,
    );
    println!(
        "| node | first hit | resident | hits of {} | asked of the origin |\n|---|---:|---:|---:|---:|",
        options.sample
    );
    node.terminate();
    node.ended().await;
    again("stopped and started", &mut node, options).await?;
    // Others than those that are asked for.
    let more = options.objects..options.objects * 2;
    tokio::select! {
        filled = site::fill(node.port(), more) => {
            filled?;
            bail!("all had been written before the node was to be killed");
        }
        () = written(&node, options.objects.div_ceil(10)) => node.kill(),
    }
    again("killed while it wrote, and started", &mut node, options).await
}

/// Starts the node, and asks for objects from all over.
async fn again(name: &str, node: &mut Weir, options: &Options) -> Result<()> {
    let began = Instant::now();
    node.start_again().await;
    let mut client = Client::connect(node.port()).await?;
    let path = site::path(options.objects / 2);
    ensure!(is_hit(&mut client, &path).await?, "{path} was lost");
    let first = began.elapsed();
    let resident = node.resident() >> 20;
    let mut hits = 0;
    for at in 0..options.sample {
        // A prime step: each at most once.
        let path = site::path((at * 7_919 + 13) % options.objects);
        hits += u64::from(is_hit(&mut client, &path).await?);
    }
    let asked = metric(node, "weir_origin_requests_total").await;
    println!(
        "| {name} | {} ms | {resident} MiB | {hits} | {asked} |",
        first.as_millis()
    );
    Ok(())
}

async fn is_hit(client: &mut Client, path: &str) -> Result<bool> {
    Ok(client.get(path).await?.status.contains("hit"))
}

/// Waits until so many have been written or dropped.
async fn written(node: &Weir, objects: u64) {
    #[expect(clippy::cast_precision_loss, reason = "it is compared with a metric")]
    let objects = objects as f64;
    until("the objects on disk", async || {
        let mut ended = 0.0;
        for name in ["written", "dropped_full", "dropped_failed", "dropped_dead"] {
            ended += metric(node, &format!("weir_disk_{name}_total")).await;
        }
        (ended >= objects).then_some(())
    })
    .await;
}

async fn metric(node: &Weir, name: &str) -> f64 {
    node.admin().metric(name, &[]).await
}
