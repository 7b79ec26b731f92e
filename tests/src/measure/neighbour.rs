//! What a policy that misbehaves costs the other routes: hits on a route without a policy, while
//! another route's policy does one misdeed on every call, beside the same load on a policy that
//! behaves well. All requests of that route go to the origin, in both: what a failing policy has
//! passed does. Either no version is taken back, so that each call does its misdeed, or the
//! guard is as it is by default: then it is called now and again, to see whether it is well.
//!
//! The two nodes of a pair take turns by the second, so that a machine that is slower for a while
//! is so for both. By default the first row has a good policy beside a good one: finer than it differs from 1,
//! the others say nothing. The second one has a good policy too, and a process that has nothing to do with Weir
//! and computes at the lowest priority there is (`SCHED_IDLE`): what it costs that a core is not idle.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::process::{Child, Command};
use weir_tests::names::POLICY_ERRORS;
use weir_tests::{Config, Scratch, Weir, answer, guests};

use super::site::{self, Site};
use super::{percent, steady};

/// What `weir-measure neighbour` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Misdeeds of `plugins/misbehaving`; `nothing` for what no misdeed at all differs by,
    /// `another-process` for that of a process of its own that only computes.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "nothing,another-process,endless-loop,endless-host-calls,memory-growth,deep-recursion,huge-reply,leak-handles,trap-on-request,endless-loop-on-response"
    )]
    misdeeds: Vec<String>,
    /// Requests a second on the other route.
    #[arg(long, default_value_t = 4_000)]
    rate: u32,
    /// Requests a second on the route that misbehaves.
    #[arg(long, default_value_t = 200)]
    bad_rate: u32,
    /// Objects on the other route.
    #[arg(long, default_value_t = 100)]
    objects: u64,
    /// Seconds of each run, of which each is a turn.
    #[arg(long, default_value_t = 5)]
    seconds: usize,
    /// Pairs of runs for each misdeed, each on two new nodes.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// With the guard as it is by default, which takes a version back that fails too often. Without
    /// it each call does its misdeed.
    #[arg(long)]
    guard: bool,
}

pub(crate) async fn run(options: &Options) -> Result<()> {
    let site = Site::start(1_024).await?;
    println!(
        "| misdeed | p99 beside a good policy | p99 beside it | ratio, median | misdeeds of a run | its requests that failed |\n|---|---|---|---|---|---|"
    );
    for misdeed in &options.misdeeds {
        let (mut ratios, mut well, mut ill, mut failed) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let mut misdeeds = 0.0;
        for pair in 0..options.pairs {
            let mut good = Half::start(&site, "nothing", options).await?;
            let mut bad = Half::start(&site, misdeed, options).await?;
            for turn in 0..options.seconds.max(1) {
                // Which of the two goes first changes each time.
                let (one, other) = match (pair + turn) % 2 {
                    0 => (&mut good, &mut bad),
                    _ => (&mut bad, &mut good),
                };
                one.turn(options).await?;
                other.turn(options).await?;
            }
            let (good_p99, bad_p99) = (good.p99(), bad.p99());
            #[expect(clippy::cast_precision_loss, reason = "microseconds, for a ratio")]
            ratios.push(bad_p99 as f64 / good_p99.max(1) as f64);
            well.push(good_p99);
            ill.push(bad_p99);
            failed += good.failed.load(Relaxed) + bad.failed.load(Relaxed);
            misdeeds += bad.misdeeds(options).await?;
        }
        ratios.sort_by(f64::total_cmp);
        println!(
            "| {misdeed} | {} µs | {} µs | {:.2} | {:.0} | {failed} |",
            percent::of(well, 50),
            percent::of(ill, 50),
            ratios[ratios.len() / 2],
            misdeeds / options.pairs.max(1) as f64
        );
        ensure!(
            failed == 0,
            "{failed} requests of the route with {misdeed} failed"
        );
    }
    Ok(())
}

/// What computes beside a node whose policies are good.
const ANOTHER_PROCESS: &str = "another-process";

/// One of the two nodes of a pair.
struct Half {
    node: Weir,
    another_process: bool,
    dir: Scratch,
    /// How long answers on the other route took, in microseconds.
    latencies: Vec<u64>,
    /// How many requests the route that misbehaves has had: each is for another URL, so that also
    /// those of a good policy go to the origin.
    asked: Arc<AtomicU64>,
    /// And how many of them failed.
    failed: Arc<AtomicU64>,
}

impl Half {
    async fn start(site: &Site, misdeed: &str, options: &Options) -> Result<Self> {
        let another_process = misdeed == ANOTHER_PROCESS;
        let misdeed = if another_process { "nothing" } else { misdeed };
        let guard = if options.guard { "" } else { "failures = 100" };
        let node = Config::whole(
            "listen = [\"127.0.0.1:{port}\"]\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [upstreams.o]\nservers = [\"{origin}\"]\n\
             [policies.p]\ncomponent = \"{component}\"\nnamespaces = [\"test\"]\n\
             config = { misbehave = \"{misdeed}\" }\nguard = { {guard} }\n\
             [[routes]]\npath = \"/{*rest}\"\nupstream = \"o\"\n\
             [[routes]]\npath = \"/bad/{*rest}\"\nupstream = \"o\"\npolicy = \"p\"\n",
        )
        .set("origin", site.url())
        .set("misdeed", misdeed)
        .set("guard", guard)
        .file("component", &guests().misbehaving())
        .start()
        .await;
        site::fill(node.port(), 0..options.objects).await?;
        Ok(Self {
            node,
            another_process,
            dir: Scratch::new(),
            latencies: Vec::new(),
            asked: Arc::default(),
            failed: Arc::default(),
        })
    }

    /// A second of load on both routes.
    async fn turn(&mut self, options: &Options) -> Result<()> {
        let other = self.another_process.then(computes).transpose()?;
        let ended = Arc::new(AtomicBool::new(false));
        let bad = tokio::spawn(load(
            self.node.url("/bad/"),
            options.bad_rate,
            Arc::clone(&ended),
            Arc::clone(&self.asked),
            Arc::clone(&self.failed),
        ));
        let (port, dir) = (self.node.port(), self.dir.path());
        let latencies = steady::run(port, options.objects, 8, options.rate, 1, dir).await;
        ended.store(true, Relaxed);
        bad.await?;
        if let Some(mut other) = other {
            let ended = other.try_wait()?;
            ensure!(ended.is_none(), "the other process ended: {ended:?}");
            other.kill().await?;
        }
        self.latencies.extend(latencies?);
        Ok(())
    }

    fn p99(&self) -> u64 {
        percent::of(self.latencies.clone(), 99)
    }

    /// How many calls of its policy failed.
    async fn misdeeds(&self, options: &Options) -> Result<f64> {
        let admin = self.node.admin();
        let errors = async |reason| admin.metric(POLICY_ERRORS, &[("reason", reason)]).await;
        let not_called = errors("quarantined").await;
        ensure!(
            options.guard || not_called == 0.0,
            "the policy was not called any more: the numbers mean nothing"
        );
        Ok(admin.metric(POLICY_ERRORS, &[]).await - not_called)
    }
}

/// A process that takes what nobody else wants of a core.
fn computes() -> Result<Child> {
    Command::new("chrt")
        .args(["--idle", "0", "sh", "-c", "while :; do :; done"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run chrt (Debian package util-linux)")
}

/// Requests at a steady rate, whether or not those before have been answered.
async fn load(
    url: String,
    rate: u32,
    ended: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
) {
    let client = answer::client();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    let mut running = tokio::task::JoinSet::new();
    loop {
        ticks.tick().await;
        if ended.load(Relaxed) {
            break;
        }
        let number = asked.fetch_add(1, Relaxed);
        while running.try_join_next().is_some() {}
        let (client, url) = (client.clone(), format!("{url}{number}"));
        let failed = Arc::clone(&failed);
        running.spawn(async move {
            let answer = client.get(url).send().await;
            if !answer.is_ok_and(|answer| answer.status() == 200) {
                failed.fetch_add(1, Relaxed);
            }
        });
    }
    running.join_all().await;
}
