//! What a hit in memory costs while Redis is frozen.

use anyhow::Result;
use clap::Args;
use weir_tests::names::REDIS_UP;
use weir_tests::{Config, RedisServer, Scratch, until};

use super::site::{self, Site};
use super::wrk;

/// What `weir-measure paused` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Objects in memory.
    #[arg(long, default_value_t = 100)]
    objects: u64,
    /// Connections of the clients.
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The route's `redis_down`. With memory-only an object is confirmed by the origin once
    /// in each `coherence_window`: then not all that is measured are hits.
    #[arg(long, default_value = "stale")]
    redis_down: String,
    /// Pairs of runs, one after the other.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let (site, mut redis) = (Site::start(1_024).await?, RedisServer::start().await);
    let config = Config::plain(&site.url());
    let config = config.and(&format!("redis_down = {:?}\n", options.redis_down));
    let node = config.redis(&redis.url()).start().await;
    site::fill(node.port(), options.objects).await?;
    let dir = Scratch::new();
    let load = || {
        let (connections, seconds) = (options.connections, options.seconds);
        wrk::run(
            node.port(),
            options.objects,
            connections,
            seconds,
            dir.path(),
        )
    };
    let state = async |up: bool| {
        until("the node's word on Redis", async || {
            let now = node.admin().metric(REDIS_UP, &[]).await > 0.5;
            (now == up).then_some(())
        })
        .await;
    };
    state(true).await;
    load().await?;
    println!(
        "| p99, Redis well | p99, Redis frozen | ratio | rate, well | rate, frozen |\n|---|---|---|---|---|"
    );
    let mut ratios = Vec::new();
    for _ in 0..options.pairs {
        let well = load().await?;
        redis.stop();
        // The first calls that run into their deadlines are part of it.
        let frozen = load().await?;
        redis.cont();
        state(true).await;
        let ratio = frozen.p99.as_secs_f64() / well.p99.as_secs_f64();
        ratios.push(ratio);
        println!(
            "| {:.2?} | {:.2?} | {ratio:.2} | {:.0} | {:.0} |",
            well.p99, frozen.p99, well.rate, frozen.rate
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ratios.len() / 2]);
    Ok(())
}
