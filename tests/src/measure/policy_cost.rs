//! What a policy adds to a hit: the CPU time of a hit through `static-site` beside that of a
//! hit on a node without a policy, from the same requests. Both nodes are started anew for each
//! pair: where their memory falls by chance is then part of one pair and not of all.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::Args;
use weir_tests::guests::scripted;
use weir_tests::{Config, Scratch, Weir, guests};

use super::site::Site;
use super::traffic::Traffic;
use super::wrk;

/// What `weir-measure policy-cost` takes.
#[derive(Args)]
pub(crate) struct Options {
    /// Policies: rust, rust-no-memo, javascript, python; `none` for what no policy at all differs by.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "rust,javascript,python,rust-no-memo"
    )]
    policies: Vec<String>,
    /// `static-site` in JavaScript, compiled; built when absent, as in Python.
    #[arg(long)]
    javascript: Option<PathBuf>,
    /// `static-site` in Python, compiled.
    #[arg(long)]
    python: Option<PathBuf>,
    /// What pages differ by: device, language; empty for neither.
    #[arg(long, value_delimiter = ',', default_value = "device,language")]
    variants: Vec<String>,
    /// URLs that are asked for by Zipf's law.
    #[arg(long, default_value_t = 100_000)]
    urls: usize,
    /// Requests that are drawn; each run sends them over and over.
    #[arg(long, default_value_t = 300_000)]
    requests: usize,
    /// Connections of the clients.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Pairs of runs for each policy, each on two new processes.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
}

/// Where node and load run, in turns. On a core of its own the load sleeps the more, the
/// slower the node is, and each answer that wakes it costs the node more than any policy.
const CORE: usize = 0;

pub(crate) async fn run(options: &Options) -> Result<()> {
    let site = Site::start(1_024).await?;
    let traffic = Traffic::draw(options.urls, options.requests)?;
    let dir = Scratch::new();
    let requests = traffic.write(dir.path())?;
    println!(
        "{} requests for {} of {} URLs, 1 KiB each, User-Agents of the real log; {} connections, \
         node and load in turns on core {}; {} pairs of {} s on new processes, medians\n\n\
         | policy | CPU µs/hit | without a policy | ratio | lowest, highest | decisions remembered | objects |\n\
         |---|---:|---:|---:|---|---:|---:|",
        options.requests,
        traffic.urls,
        options.urls,
        options.connections,
        CORE,
        options.pairs,
        options.seconds,
    );
    let mut plain = Subject::start("none", options, &site).await?;
    for policy in &options.policies {
        let mut subject = Subject::start(policy, options, &site).await?;
        let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..options.pairs {
            plain.begin_anew(&traffic).await?;
            subject.begin_anew(&traffic).await?;
            // Which of the two goes first changes from pair to pair.
            let (a, b) = match pair % 2 {
                0 => {
                    let plain = plain.cost(options, &requests, &dir).await?;
                    (subject.cost(options, &requests, &dir).await?, plain)
                }
                _ => {
                    let with = subject.cost(options, &requests, &dir).await?;
                    (with, plain.cost(options, &requests, &dir).await?)
                }
            };
            with.push(a);
            without.push(b);
            ratios.push(a / b);
        }
        ratios.sort_by(f64::total_cmp);
        let (lowest, highest) = (ratios.first(), ratios.last());
        println!(
            "| {policy} | {:.2} | {:.2} | {:.3} | {:.3}, {:.3} | {} | {:.0} |",
            median(with),
            median(without),
            median(ratios.clone()),
            lowest.copied().unwrap_or_default(),
            highest.copied().unwrap_or_default(),
            subject.remembered().await,
            subject.metric("weir_memory_keys", &[]).await,
        );
    }
    Ok(())
}

/// A node.
struct Subject {
    node: Weir,
}

impl Subject {
    async fn start(policy: &str, options: &Options, site: &Site) -> Result<Self> {
        let memory = "[memory]\ncapacity = \"4GiB\"\n";
        let config = match policy {
            "none" => Config::plain(&site.url()).and(memory),
            _ => {
                let (component, more) = component(policy, options)?;
                let wanted: Vec<_> = options
                    .variants
                    .iter()
                    .filter(|it| !it.is_empty())
                    .collect();
                let variants = serde_json::to_string(&wanted)?;
                let languages = match options.variants.iter().any(|it| it == "language") {
                    true => ", languages = [\"en\", \"de\", \"fr\", \"es\"]",
                    false => "",
                };
                // Making an instance takes long in the languages that bring a runtime.
                let more = format!(
                    "{more}memory_limit = \"256MiB\"\ncpu_limit = \"200ms\"\n\
                     config = {{ variants = {variants}{languages} }}\n{memory}"
                );
                Config::policy(&site.url(), &component, &more)
            }
        };
        // It keeps what was compiled from one process to the next.
        let node = config.data_dir().on_core(CORE).start().await;
        Ok(Self { node })
    }

    /// Starts a new process and has its memory filled with all that is asked for.
    async fn begin_anew(&mut self, traffic: &Traffic) -> Result<()> {
        self.node.restart().await;
        traffic.warm(self.node.port()).await
    }

    /// CPU time of the node for each hit of a run, in microseconds.
    async fn cost(&self, options: &Options, requests: &Path, dir: &Scratch) -> Result<f64> {
        let fetched = self.metric("weir_origin_requests_total", &[]).await;
        let cpu = self.node.cpu();
        let load = wrk::play(
            self.node.port(),
            requests,
            options.connections,
            options.seconds,
            CORE,
            dir.path(),
        )
        .await?;
        let spent = self.node.cpu() - cpu;
        let more = self.metric("weir_origin_requests_total", &[]).await - fetched;
        ensure!(
            more == 0.0,
            "the origin was asked {more} times: not all were hits, the numbers mean nothing"
        );
        #[expect(clippy::cast_precision_loss, reason = "it is printed")]
        let requests = load.requests as f64;
        Ok(spent.as_secs_f64() * 1e6 / requests)
    }

    /// How many of a hundred decisions took no call.
    async fn remembered(&self) -> String {
        let name = "weir_policy_calls_total";
        let hook = ("hook", "on-request");
        let all = self.metric(name, &[hook]).await;
        let hits = self.metric(name, &[hook, ("memo", "hit")]).await;
        match all > 0.0 {
            true => format!("{:.2} %", hits / all * 100.0),
            false => "–".to_owned(),
        }
    }

    async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.node.admin().metric(name, labels).await
    }
}

/// The component, and what its table says beside it.
fn component(policy: &str, options: &Options) -> Result<(PathBuf, &'static str)> {
    let built = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| scripted(name));
    Ok(match policy {
        "rust" => (guests().static_site(), ""),
        "rust-no-memo" => (guests().static_site(), "memo = false\n"),
        "javascript" => (built(&options.javascript, "static-site-js"), ""),
        "python" => (built(&options.python, "static-site-py"), ""),
        other => bail!("no policy is called {other}"),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
