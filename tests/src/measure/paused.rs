//! What a hit in memory costs while Redis is frozen.

use anyhow::Result;
use clap::Args;
use weir_tests::names::REDIS_UP;
use weir_tests::{Config, RedisServer, Scratch, until};

use super::site::{self, Site};
use super::{percent, steady};

/// What `weir-measure paused` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Objects in memory.
    #[arg(long, default_value_t = 100)]
    objects: u64,
    /// Connections of the clients.
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// Requests each second, over all connections; far from all that the node can do.
    #[arg(long, default_value_t = 8_000)]
    rate: u32,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The route's `redis_down`. With memory-only an object is confirmed by the origin once
    /// in each `coherence_window`: then not all that is measured are hits.
    #[arg(long, default_value = "stale")]
    redis_down: String,
    /// Leave Redis well in both halves of a pair: what nothing at all differs by.
    #[arg(long)]
    control: bool,
    /// Pairs of runs, one after the other.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let (site, mut redis) = (Site::start(1_024).await?, RedisServer::start().await);
    let config = Config::plain(&site.url());
    let config = config.and(&format!("redis_down = {:?}\n", options.redis_down));
    let node = config.redis(&redis.url()).start().await;
    site::fill(node.port(), 0..options.objects).await?;
    let dir = Scratch::new();
    let load = || {
        let (connections, seconds) = (options.connections, options.seconds);
        let (objects, rate) = (options.objects, options.rate);
        steady::run(node.port(), objects, connections, rate, seconds, dir.path())
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
        "| p50, p99 with Redis well | p50, p99 with it frozen | ratio of the p99 | requests |\n|---|---|---|---|"
    );
    let mut ratios = Vec::new();
    for _ in 0..options.pairs {
        let well = load().await?;
        if !options.control {
            redis.stop();
        }
        // The first calls that run into their deadlines are part of it.
        let frozen = load().await?;
        if !options.control {
            redis.cont();
        }
        state(true).await;
        let requests = well.len() + frozen.len();
        let [well, frozen] =
            [well, frozen].map(|all| (percent::of(all.clone(), 50), percent::of(all, 99)));
        #[expect(clippy::cast_precision_loss, reason = "microseconds, for a ratio")]
        let ratio = frozen.1 as f64 / well.1.max(1) as f64;
        ratios.push(ratio);
        println!(
            "| {}, {} µs | {}, {} µs | {ratio:.2} | {requests} |",
            well.0, well.1, frozen.0, frozen.1,
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.2}", ratios[ratios.len() / 2]);
    Ok(())
}
