//! How long a purge of a tag takes: until it is answered, and until three nodes refuse
//! the old object.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use serde_json::json;
use weir_tests::{Config, RedisServer, Weir};

use super::percent;
use super::site::{self, Client, Site, TAG};

/// What `weir-measure purge` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// How many objects have the tag, in Redis and in the first node's memory.
    #[arg(default_values_t = [1_000, 100_000, 1_000_000])]
    objects: Vec<u64>,
    /// Purges after the first one.
    #[arg(long, default_value_t = 300)]
    purges: u32,
}

const NODES: usize = 3;

/// Objects that each node holds in memory when a purge comes, and that are looked at.
const WATCHED: u64 = 4;

pub(crate) async fn run(options: &Options) -> Result<()> {
    println!(
        "| objects with the tag | first purge: answered | refused by {NODES} nodes | \
         {} more: answered p50 | p99 | refused by {NODES} nodes p50 | p99 |\n\
         |---|---|---|---|---|---|---|",
        options.purges
    );
    for &objects in &options.objects {
        measure(objects, options.purges).await?;
    }
    Ok(())
}

async fn measure(objects: u64, purges: u32) -> Result<()> {
    let (site, redis) = (Site::start(64).await?, RedisServer::start().await);
    let mut nodes: Vec<Weir> = Vec::new();
    for _ in 0..NODES {
        let config = Config::plain(&site.url()).redis(&redis.url());
        let config = config.and("[memory]\ncapacity = \"4GiB\"\n");
        nodes.push(config.start().await);
    }
    site::fill(nodes[0].port(), 0..objects).await?;
    let mut clients = Vec::new();
    for node in &nodes {
        clients.push(Client::connect(node.port()).await?);
    }
    let mut times = Vec::new();
    for round in 0..=purges {
        hold(&mut clients).await?;
        let taker = &nodes[round as usize % NODES];
        times.push(purge(&site, taker, &mut clients, u64::from(round)).await?);
    }
    let first = times.remove(0);
    let of = |pick: fn(&(Duration, Duration)) -> Duration, part: usize| {
        percent::of(times.iter().map(pick).collect(), part)
    };
    println!(
        "| {objects} | {:.2?} | {:.2?} | {:.2?} | {:.2?} | {:.2?} | {:.2?} |",
        first.0,
        first.1,
        of(|it| it.0, 50),
        of(|it| it.0, 99),
        of(|it| it.1, 50),
        of(|it| it.1, 99),
    );
    Ok(())
}

/// Every node has the watched objects in memory.
async fn hold(clients: &mut [Client]) -> Result<()> {
    for client in clients {
        for number in 0..WATCHED {
            let path = site::path(number);
            while !client.get(&path).await?.status.contains("memory") {
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(())
}

/// From the purge's being sent until its answer, and until no node serves the old object.
async fn purge(
    site: &Site,
    taker: &Weir,
    clients: &mut [Client],
    round: u64,
) -> Result<(Duration, Duration)> {
    let path = site::path(round % WATCHED);
    let version = site.bump();
    let began = Instant::now();
    let refused = try_join_all(clients.iter_mut().map(async |client| {
        while client.get(&path).await?.version < version {
            // Not asked all the time: the nodes and this share two cores.
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok::<_, anyhow::Error>(began.elapsed())
    }));
    let purged = async {
        let receipt = taker.admin().invalidate(json!({ "tags": [TAG] })).await;
        ensure!(receipt["scope"] == "fleet", "{receipt}");
        Ok(began.elapsed())
    };
    let (refused, answered) = tokio::try_join!(refused, purged)?;
    Ok((answered, refused.into_iter().max().unwrap_or_default()))
}
