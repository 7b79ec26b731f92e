//! A policy replaced over and over under a steady load of hits through it: failed requests,
//! memory, generations that stay, and the p99 beside that of the same load without swaps.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use weir_tests::component::marked;
use weir_tests::names::GENERATIONS;
use weir_tests::{Config, Scratch, Weir, guests, until};

use super::site::{self, Site};
use super::{percent, steady};

/// What `weir-measure swaps` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Swaps in all, a share of them in each pair.
    #[arg(default_value_t = 1_000)]
    swaps: usize,
    /// Requests each second, over all connections.
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// Connections of the clients. h2load has all of them ask at once, so with many the p99 is the
    /// length of the queue that they make.
    #[arg(long, default_value_t = 8)]
    connections: u32,
    /// Objects in memory.
    #[arg(long, default_value_t = 1_000)]
    objects: u64,
    /// Pairs of runs, one with swaps and one as long without.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Least time between the starts of two swaps, in milliseconds; 0 for one after the other.
    #[arg(long, default_value_t = 500)]
    pause: u64,
    /// What is deployed, `static-site` in another language for instance; that in Rust when absent.
    #[arg(long)]
    component: Option<PathBuf>,
    /// Have each loaded and held, not put in force: what compiling costs the requests.
    #[arg(long)]
    hold: bool,
    /// Give the node a `data_dir`, where it keeps compiled code.
    #[arg(long)]
    data_dir: bool,
}

/// Seconds of a piece of load; a run is as many of them as its swaps take.
const PIECE: u64 = 5;
/// Swaps after which memory is to stay as it is.
const SETTLED: usize = 50;

pub(crate) async fn run(options: &Options) -> Result<()> {
    let site = Site::start(1_024).await?;
    let component = guests().static_site();
    let bytes = std::fs::read(options.component.as_ref().unwrap_or(&component))?;
    // An interpreter needs more for its first call than is for each.
    let mut config = Config::policy(&site.url(), &component, "cpu_limit = \"1s\"\n");
    if options.data_dir {
        config = config.data_dir();
    }
    let node = config.start().await;
    site::fill(node.port(), 0..options.objects).await?;
    let mut swapper = Swapper {
        node: &node,
        bytes,
        done: 0,
        hold: options.hold,
        slowest: Duration::ZERO,
        settled: None,
    };
    let dir = Scratch::new();
    let piece = async || {
        let (objects, connections) = (options.objects, options.connections);
        steady::run(
            node.port(),
            objects,
            connections,
            options.rate,
            PIECE,
            dir.path(),
        )
        .await
    };
    println!(
        "{} requests/s on {} connections, {} swaps in {} pairs, data_dir: {}\n\n\
         | pair | swaps | requests | p99 with swaps | without | ratio | resident |\n\
         |---:|---:|---:|---:|---:|---:|---:|",
        options.rate, options.connections, options.swaps, options.pairs, options.data_dir
    );
    let (mut ratios, mut requests) = (Vec::new(), 0);
    for pair in 1..=options.pairs {
        let target = options.swaps * pair / options.pairs;
        let (mut with, mut without, mut pieces) = (Vec::new(), Vec::new(), 0);
        while swapper.done < target {
            let until = Instant::now() + Duration::from_secs(PIECE);
            let pause = Duration::from_millis(options.pause);
            let (latencies, swapped) =
                tokio::join!(piece(), swapper.swap_until(until, target, pause));
            swapped?;
            with.extend(latencies?);
            pieces += 1;
        }
        for _ in 0..pieces {
            without.extend(piece().await?);
        }
        let count = with.len() + without.len();
        requests += count;
        let (with, without) = (percent::of(with, 99), percent::of(without, 99));
        #[expect(clippy::cast_precision_loss, reason = "microseconds, for a ratio")]
        let ratio = with as f64 / without.max(1) as f64;
        println!(
            "| {pair} | {} | {count} | {with} µs | {without} µs | {ratio:.2} | {} |",
            swapper.done,
            mebibytes(node.resident()),
        );
        ratios.push(ratio);
    }
    until("one generation alive", async || {
        let alive = node.admin().metric(GENERATIONS, &[]).await;
        (alive <= 1.0).then_some(())
    })
    .await;
    ratios.sort_by(f64::total_cmp);
    let end = node.resident();
    println!(
        "\nrequests                 {requests}, none failed\n\
         p99 with ÷ without swaps {:.2} (median)\n\
         resident                 {} after {SETTLED} swaps, {} at the end\n\
         generations alive        1\n\
         slowest deploy           {:.0?}",
        ratios[ratios.len() / 2],
        mebibytes(swapper.settled.unwrap_or(end)),
        mebibytes(end),
        swapper.slowest,
    );
    Ok(())
}

struct Swapper<'a> {
    node: &'a Weir,
    bytes: Vec<u8>,
    done: usize,
    hold: bool,
    slowest: Duration,
    settled: Option<u64>,
}

impl Swapper<'_> {
    /// Swaps until then, or until so many are done.
    async fn swap_until(&mut self, until: Instant, target: usize, pause: Duration) -> Result<()> {
        while self.done < target && Instant::now() < until {
            let began = Instant::now();
            // Another version, that does the same.
            let component = marked(&self.bytes, &self.done.to_string());
            let how = if self.hold {
                "site?activate=false"
            } else {
                "site"
            };
            let answer = self.node.admin().put_policy(how, component).await;
            ensure!(answer.status == 200, "a deploy: {answer:?}");
            let version = answer.json()["version"].as_str().map(str::to_owned);
            let version = version.context("a deploy's answer without a version")?;
            let live = self.node.admin().version("site").await;
            ensure!(
                self.hold || live == version,
                "{version} was deployed, {live} is in force"
            );
            self.done += 1;
            self.slowest = self.slowest.max(began.elapsed());
            if self.done == SETTLED {
                self.settled = Some(self.node.resident());
            }
            tokio::time::sleep_until((began + pause).into()).await;
        }
        Ok(())
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
